"""How a failed run is told in a cell: which node, the user's own frames, how many more, what to do."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from nbcanvas.picture.markup import cut
from nbcanvas.run import Run
from nbcanvas.run.failures import Style, explain_failure, is_ours

from .errors import GREEN, OFF, RED

__all__ = ["failure_lines", "innermost"]

_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[22m"
#: Lines of an exception's own text that are shown, and characters of each.
_LINES, _WIDE = 40, 1000


def failure_lines(
    run: Run, error: BaseException, shell: Any = None, most: int = 4, *, workers: bool = True
) -> list[str]:
    """Return what a cell shows when waiting for a run raised one of its tasks' exceptions.

    Parameters
    ----------
    run
        The run.
    error
        What its `get` raises.
    shell
        The InteractiveShell; it knows which file is which cell.
    most
        How many failures to show.
    workers
        Whether to name the workers they happened on.
    """
    style = Style((RED, OFF), (GREEN, OFF), (_DIM, _PLAIN), lambda file: _file(file, shell))
    lines = [f"{RED}{type(error).__name__}{OFF}: {_message(error)}"]
    about = list(explain_failure(run, error, most, workers=workers, style=style))
    return [*lines, "", *about] if about else lines


def _message(error: BaseException) -> str:
    lines = str(error)[: _LINES * _WIDE].splitlines()
    return "\n".join([*(cut(line, _WIDE) for line in lines[:_LINES]), *["…"] * (len(lines) > _LINES)])


def innermost(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback behind the last frame of ours: the user's own code."""
    found = None
    while trace is not None:
        if is_ours(trace.tb_frame.f_code.co_filename):
            found = None
        elif found is None:
            found = trace
        trace = trace.tb_next
    return found


def _file(file: str, shell: Any) -> str:
    """Return a file's name as a person knows it: ``Cell In[3]`` for a cell."""
    number = getattr(getattr(shell, "compile", None), "_filename_map", {}).get(file)
    return f'File "{file}"' if number is None else f"Cell In[{number}]"
