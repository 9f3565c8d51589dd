"""What only a notebook can do wrong, and how any error is shown there: in a few lines, as a real exception.

IPython asks an exception for ``_render_traceback_``; what that returns is what a cell shows.  The exception itself
stays what it is, so that ``except ValueError`` and test runners see it (IPython's own ``UsageError`` is seen by
neither).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from nbcanvas.errors import NBCanvasError, NotASignature

__all__ = [
    "CanvasSyntaxError",
    "CellError",
    "Lines",
    "UnknownOption",
    "WaitInterrupted",
    "brief",
    "nearest",
    "not_a_canvas",
    "render_as",
    "shorten",
]

RED, GREEN, OFF = "\x1b[31m", "\x1b[32m", "\x1b[39m"


class CellError(NBCanvasError):
    """A canvas cell, or a line of ``%canvas``, that cannot be run as it stands."""


class UnknownOption(CellError):
    """An option, a command or a key that does not exist."""

    @classmethod
    def of(cls, what: str, given: str, known: Iterable[str], hint: str = "") -> UnknownOption:
        """Return the error for `given`, with the nearest of `known`."""
        near = nearest(given, known)
        ending = f"did you mean {near}?" if near else hint
        return cls(f"unknown {what} {given}" + (f"; {ending}" if ending else ""))


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Return what of `known` was probably meant, or None."""
    bare = {name.lstrip("-"): name for name in known if name.startswith("--") or name[0] != "-"}
    found = difflib.get_close_matches(given.partition("=")[0].lstrip("-"), list(bare), 1, 0.6)
    return bare[found[0]] if found else None


class CanvasSyntaxError(CellError):
    """A canvas cell that is not Python.

    Not a ``SyntaxError``: IPython would show that with the frames of the magic around it.

    Parameters
    ----------
    error
        What the compiler says.
    number
        The number of the cell.
    """

    def __init__(self, error: SyntaxError, number: int | None = None) -> None:
        super().__init__(error.msg)
        self.error = error
        self.lineno = error.lineno
        self.number = number

    def _render_traceback_(self) -> list[str]:
        error = self.error
        place = f"Cell In[{self.number}]" if self.number is not None else "the cell"
        lines = [f"  {GREEN}{place}, line {error.lineno}{OFF}"]
        if error.text:
            text = error.text.rstrip("\n")
            lines.append(f"    {text}")
            start = max(error.offset or 1, 1) - 1
            end = error.end_offset - 1 if error.end_offset and error.end_lineno == error.lineno else start + 1
            lines.append("    " + " " * start + "^" * max(end - start, 1))
        return [*lines, f"{RED}SyntaxError{OFF}: {error.msg}"]


class WaitInterrupted(KeyboardInterrupt):
    """Waiting was interrupted; the run goes on.

    It is a ``KeyboardInterrupt``, so the cells queued behind this one do not run.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{GREEN}interrupted{OFF}: {self}"]


class Lines:
    """What an exception shows instead of a traceback: attached to it as ``_render_traceback_``.

    Plain data, so that the exception can still be pickled.

    Parameters
    ----------
    lines
        What to show.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)

    def __call__(self) -> list[str]:
        """Return the lines."""
        return self.lines


def render_as(error: BaseException, lines: Iterable[str]) -> None:
    """Let `error` show `lines` in a notebook (a class that allows no attributes keeps its traceback)."""
    shown: Any = error
    try:
        shown._render_traceback_ = Lines(lines)
    except AttributeError:
        return


@contextmanager
def brief(enabled: bool = True) -> Iterator[None]:
    """Show errors of nbcanvas that leave this block as one line: the frames would be ours."""
    try:
        yield
    except NBCanvasError as error:
        if enabled:
            shorten(error)
        raise
    except KeyboardInterrupt as error:
        if not hasattr(error, "_render_traceback_"):
            render_as(error, [f"{GREEN}interrupted{OFF} while the canvas was started; %canvas says what runs of it"])
        raise


def shorten(error: BaseException) -> None:
    """Let `error` show itself in one line, unless it has a way of its own."""
    if not hasattr(error, "_render_traceback_"):
        render_as(error, [f"{RED}{type(error).__name__}{OFF}: {error}"])


def not_a_canvas(what: str, hint: str) -> NotASignature:
    """Return the error for a cell that does not end in a signature."""
    return NotASignature(f"the cell must end in a signature, and it ends in {what}; {hint}")
