"""What is known, told again as events: folded, they give the same State."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from nbcanvas import states
from nbcanvas.plan import places

from .attempts import ENDS, MOST, NESTING, End, Past, Start
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
from .known import CODES, Known
from .tree import Graft, Tree

__all__ = ["retell"]

_KINDS: Final = {
    CODES[states.SUCCESS]: SUCCEEDED,
    CODES[states.FAILURE]: FAILED,
    CODES[states.REVOKED]: REVOKED,
    CODES[states.REJECTED]: REJECTED,
    CODES[states.IGNORED]: IGNORED,
    CODES[states.REPLACED]: REPLACED,
    CODES[states.RETRY]: RETRIED,
}


def retell(known: Known, rows: Iterable[int] | None) -> Iterator[Event]:
    """Yield events that say what is known (of `rows`, and of the grafts they are of)."""
    wanted = None if rows is None else dict.fromkeys(rows)
    grafts = known.tree.grafts if wanted is None else _grafts(known.tree, set(wanted))
    for graft in grafts:
        yield Event(GRAFTED, graft.owner, graft.time, graft.attempt, (graft.node, graft.role))
    for i in range(len(known.tree.calls)) if wanted is None else wanted:
        yield from _row(known, i)
    if wanted is None:
        yield from known.pending.values()


def _grafts(tree: Tree, rows: set[int]) -> Iterable[Graft]:
    """Return the grafts that brought any of `rows`, or changed it, with those that brought their owners."""
    found = []
    for graft in reversed(tree.grafts):  # each stands behind its owner
        owner = tree.index[graft.owner]
        if owner in rows or any(tree.index[place.call.id] in rows for place in places(graft.node)):
            rows.add(owner)
            found.append(graft)
    return reversed(found)


def _row(known: Known, i: int) -> Iterator[Event]:
    task_id, attempt, due = known.tree.calls[i].id, known.attempts.get(i, 0), known.due.get(i)
    history = known.history.get(i, ())
    if len(history) == MOST and attempt >> NESTING:  # what brought the present attempt may be forgotten
        yield Event(REPLACED, task_id, 0.0, ((attempt >> NESTING) - 1) << NESTING)
    for past in history:
        yield from _attempt(task_id, past, None, due if past.attempt + 1 == attempt else None)
    code, sent, received, started, finished, worker = known.columns
    starts = known.starts.get(i)
    if starts is None:
        starts = (Start(started[i], known.names[worker[i]]),) if started[i] == started[i] else ()
    end = known.ends.get(i)
    if end is not None and end.code == CODES[states.RETRY]:  # how the attempt before ended
        end = None
    yield from _attempt(task_id, Past(attempt, _maybe(sent[i]), _maybe(received[i]), starts, end), due, None)
    progress = known.progress.get(i)
    if progress is not None:
        yield Event(PROGRESS, task_id, progress.time, attempt, (progress.state, progress.meta))
    if code[i] in ENDS and (end is None or end.code != code[i]):
        yield Event(_KINDS[code[i]], task_id, finished[i], attempt)


def _attempt(task_id: str, past: Past, due: float | None, again: float | None) -> Iterator[Event]:
    when = None if due is None else {"due": due}
    if past.sent is not None:
        yield Event(SENT, task_id, past.sent, past.attempt, when)
    if past.received is not None:
        yield Event(RECEIVED, task_id, past.received, past.attempt, when)
    for start in past.starts:
        yield Event(STARTED, task_id, start.time, past.attempt, start.worker)
    if past.end is not None:
        yield _ended(task_id, past.attempt, past.end, again)


def _ended(task_id: str, attempt: int, end: End, again: float | None) -> Event:
    kind = _KINDS[end.code]
    data: Any = None
    if kind == FAILED:
        data = end.reason, end.traceback
    elif kind == RETRIED:
        data = end.reason, again
    elif kind in (REVOKED, REJECTED):
        data = end.reason
    return Event(kind, task_id, end.time, attempt, data)


def _maybe(moment: float) -> float | None:
    return moment if moment == moment else None  # noqa: PLR0124 - NaN
