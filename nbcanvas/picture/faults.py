"""The failed calls of a run, in words: where each stands, how it was called, what it raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nbcanvas import states
from nbcanvas.events.known import CODES
from nbcanvas.events.state import State
from nbcanvas.plan import Call

from .markup import call_text, cut, error_text, short

__all__ = ["Describe", "Fault", "failed_rows", "faults"]

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


def failed_rows(state: State) -> list[int]:
    """Return the rows of what failed by itself, in canvas order; if nothing did, of what failed at all.

    What never ran because of something else that failed (later steps, the body of a chord) did not fail by itself.
    """
    code = state.columns.code
    failed = [row for row in state.order if code[row] == CODES[states.FAILURE]]
    own = [row for row in failed if not state.skipped(row)]
    return own or [row for row in failed if state.traceback(row) is not None] or failed


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
        How many failed by themselves.
    skipped : int
        How many failed because of what they waited for.
    """
    failed = state.columns.code.count(CODES[states.FAILURE])
    if not failed:
        return [], 0, 0
    ran = failed_rows(state)
    found = []
    for row in ran[:most]:
        call = state.call(row)
        args, kwargs = describe(call)[:2] if describe is not None else ((), {})
        said = call_text(short(call.task), args, kwargs) if describe is not None else cut(short(call.task), 60)
        found.append(Fault(row, state.calls[row].path, said, error_text(state.error(row))))
    return found, len(ran), failed - len(ran)
