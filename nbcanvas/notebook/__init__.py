"""The notebook: magics, live display, completion, errors as a cell shows them.  A leaf: nothing imports it.

Each magic is a plain function here too:

============================  ====================================================================
``%%canvas -o total -w``      ``run_cell("group(...) | tsum.s()", out="total", wait=True)``
``%canvas inspect active``    ``line("inspect active")``
the live view                 ``show(run)``
============================  ====================================================================
"""

from __future__ import annotations

from typing import Any

from nbcanvas.canvas import Signature
from nbcanvas.run import Run

from .cell import evaluate
from .errors import CellError, UnknownOption, WaitInterrupted
from .extension import load, session_of, unload
from .magics import words_of
from .options import CellOptions
from .panel import run_line
from .session import NOTHING, Session

__all__ = [
    "CellError",
    "CellOptions",
    "NOTHING",
    "Session",
    "UnknownOption",
    "WaitInterrupted",
    "line",
    "load",
    "run_canvas",
    "run_cell",
    "session_of",
    "show",
    "unload",
]


def run_cell(source: str, **options: Any) -> Any:
    """Run the text of a canvas cell (``%%canvas``).

    Parameters
    ----------
    source
        The cell, without the line ``%%canvas``.
    **options
        See `CellOptions`.

    Returns
    -------
    Any
        The value, when the options say to wait for it; else None.
    """
    session = session_of()
    return _value(session.canvas(evaluate(session.shell, source, first_line=1), CellOptions(**options)))


def run_canvas(sig: Signature, **options: Any) -> Any:
    """Start a canvas, and show it in the present cell; parameters and value as for `run_cell`."""
    return _value(session_of().canvas(sig, CellOptions(**options)))


def line(command: str = "") -> Any:
    """Carry out a line of ``%canvas``, such as ``"inspect active"``."""
    return run_line(session_of(), words_of(command))


def show(run: Run) -> None:
    """Show a run in the present cell: live while it goes on, then as a still."""
    session_of().show(run)


def _value(value: Any) -> Any:
    return None if value is NOTHING else value
