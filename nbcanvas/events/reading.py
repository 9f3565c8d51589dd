"""Which events can be believed: what is heard may be forged, broken, or from a version that says more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final

from nbcanvas.plan import Call, Chain, Fan

from .event import (
    FAILED,
    GRAFTED,
    IGNORED,
    PROGRESS,
    RECEIVED,
    REJECTED,
    REPLACED,
    RETRIED,
    REVOKED,
    SENT,
    STARTED,
    SUCCEEDED,
    Event,
)
from .tree import CHILD, REPLACEMENT

__all__ = ["FAR", "LATEST", "PLAIN", "readable"]

#: Times and attempts are below these (the year 33658; a million replacements of a million retries each).
FAR: Final = 1e12
LATEST: Final = 1 << 40
#: Ids and worker names longer than this are nobody's.
LONGEST: Final = 1000

#: The type that the data of most events has: those need no closer look.
PLAIN: Final[Mapping[str, type]] = {
    SENT: type(None),
    RECEIVED: type(None),
    STARTED: str,
    SUCCEEDED: type(None),
    REVOKED: str,
    REJECTED: str,
    IGNORED: type(None),
    REPLACED: type(None),
}


def readable(heard: Any) -> Event | None:
    """Return an event whose fields have the right types, or None when it cannot be made sense of."""
    try:
        kind, task_id, time, attempt, data = heard
        if not isinstance(task_id, str) or not 0 < len(task_id) <= LONGEST:
            return None
        return Event(kind, task_id, _moment(time), _attempt(attempt), _DATA[kind](data))
    except (TypeError, ValueError, KeyError, OverflowError):
        return None


def _moment(time: Any) -> float:
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0.0 <= time < FAR:
        raise ValueError
    return float(time)


def _attempt(attempt: Any) -> int:
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 0 <= attempt < LATEST:
        raise ValueError
    return int(attempt)


def _nothing(_: Any) -> None:
    """Say nothing: a newer version may."""


def _text(data: Any) -> str:
    if data is not None and not isinstance(data, str):
        raise TypeError
    return data or ""


def _due(data: Any) -> Any:
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise TypeError
    due = _when(data.get("due"))
    return None if due is None else {"due": due}


def _when(due: Any) -> float | None:
    if due is None:
        return None
    if isinstance(due, bool) or not isinstance(due, int | float) or not isfinite(due):
        raise ValueError
    return float(due)


def _pair(data: Any) -> tuple[Any, Any]:
    if not isinstance(data, tuple | list):
        raise TypeError
    first, second = data
    return first, second


def _progress(data: Any) -> tuple[str, Any]:
    state, meta = _pair(data)
    if not isinstance(state, str):
        raise TypeError
    return state, meta


def _failed(data: Any) -> tuple[BaseException | str, str | None]:
    error, traceback = _pair(data)
    if not isinstance(error, BaseException | str) or not isinstance(traceback, str | None):
        raise TypeError
    return error, traceback


def _retried(data: Any) -> tuple[BaseException | str, float | None]:
    error, due = _pair(data)
    if not isinstance(error, BaseException | str):
        raise TypeError
    return error, _when(due)


def _grafted(data: Any) -> tuple[Any, str]:
    node, role = _pair(data)
    if role not in (REPLACEMENT, CHILD):
        raise ValueError
    todo = [node]
    while todo:
        one = todo.pop()
        if isinstance(one, Chain) and one.steps:
            todo += one.steps
        elif isinstance(one, Fan) and isinstance(one.id, str):
            todo += one.members
        elif isinstance(one, Call) and isinstance(one.id, str) and isinstance(one.task, str):
            todo += (*one.links, *one.errbacks)
        else:
            raise TypeError
    return node, role


_DATA: Final[Mapping[str, Callable[[Any], Any]]] = {
    SENT: _due,
    RECEIVED: _due,
    STARTED: _text,
    PROGRESS: _progress,
    SUCCEEDED: _nothing,
    FAILED: _failed,
    RETRIED: _retried,
    REVOKED: _text,
    REJECTED: _text,
    IGNORED: _nothing,
    REPLACED: _nothing,
    GRAFTED: _grafted,
}
