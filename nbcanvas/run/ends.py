"""What a result tells of its task: the event of its end."""

from __future__ import annotations

from typing import Any, Final

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.events import event as kinds
from nbcanvas.events.event import Event
from nbcanvas.events.state import State

__all__ = ["end_of", "is_over"]

_KINDS: Final[dict[str, str]] = {
    states.SUCCESS: kinds.SUCCEEDED,
    states.FAILURE: kinds.FAILED,
    states.REVOKED: kinds.REVOKED,
    states.REJECTED: kinds.REJECTED,
    states.IGNORED: kinds.IGNORED,
}


def is_over(state: State, task_id: str) -> bool:
    """Whether a call of a run has ended."""
    return state.state(state.index_of(task_id)) in states.READY_STATES


def end_of(state: State, task_id: str, record: Record) -> Event:
    """Return the event that a result tells of; it is about the latest attempt there is."""
    row = state.index_of(task_id)
    attempt = max(state.attempt(row), record.retries + (state.call(row).nesting << 20))
    kind = _KINDS[record.state]
    data: Any = None
    if kind == kinds.FAILED:
        data = record.exc, record.traceback
    elif kind in {kinds.REVOKED, kinds.REJECTED}:
        data = str(record.exc or "")
    return Event(kind, task_id, record.done or 0.0, attempt, data)
