"""The failed calls of a run, in words: where each stands, how it was called, what it raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nbcanvas import states
from nbcanvas.events.known import CODES
from nbcanvas.events.state import State
from nbcanvas.plan import Call

from .markup import call_text, cut, short

__all__ = ["Describe", "Fault", "error_text", "faults"]

#: Gives a call's arguments, keyword arguments, queue and parent id (`nbcanvas.tables.Description`).
Describe = Callable[[Call], tuple[Sequence[Any], Mapping[str, Any], str | None, str | None]]


class Fault(NamedTuple):
    """A call that failed.

    Attributes
    ----------
    row
        Its row.
    path
        Where it stands; an empty string for a canvas that is one call.
    call
        How it was called.
    error
        What it raised.
    """

    row: int
    path: str
    call: str
    error: str

    def __str__(self) -> str:
        where = f"{self.path} → " if self.path else ""
        return f"{where}{self.call}: {self.error}" if self.error else f"{where}{self.call}"


def error_text(error: BaseException | str | None, limit: int = 160) -> str:
    """Return an error on one line, as the last line of a traceback has it."""
    if error is None or isinstance(error, str):
        return cut(error or "", limit)
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an exception of the user's, whose text cannot be had
        said = ""
    name = type(error).__name__
    return cut(f"{name}: {said}" if said else name, limit)


def faults(state: State, describe: Describe | None = None, most: int = 6) -> tuple[list[Fault], int, int]:
    """Return what failed, in canvas order.

    Parameters
    ----------
    state
        What is known of the run.
    describe
        Gives a call's arguments; None leaves them out.
    most
        How many to return.

    Returns
    -------
    found : list of Fault
        Those that ran, at most `most`.
    ran : int
        How many failed that ran.
    skipped : int
        How many failed because of what they waited for.
    """
    failed = state.columns.code.count(CODES[states.FAILURE])
    if not failed:
        return [], 0, 0
    rows = [row for row in state.order if state.columns.code[row] == CODES[states.FAILURE]]
    # What was skipped has the error of what it waited for.
    ran = [row for row in rows if state.started(row) is not None]
    ran = ran or [row for row in rows if state.traceback(row) is not None] or rows[:1]
    found = []
    for row in ran[:most]:
        call = state.call(row)
        args, kwargs = describe(call)[:2] if describe is not None else ((), {})
        said = call_text(short(call.task), args, kwargs) if describe is not None else cut(short(call.task), 60)
        found.append(Fault(row, state.calls[row].path, said, error_text(state.error(row))))
    return found, len(ran), failed - len(ran)
