"""How events become knowledge: the loop that everything heard of a run goes through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan
from typing import Any, Final

from nbcanvas import states

from .event import (
    FAILED,
    GRAFTED,
    IGNORED,
    PROGRESS,
    REJECTED,
    REPLACED,
    RETRIED,
    REVOKED,
    SENT,
    STARTED,
    SUCCEEDED,
    Event,
)
from .hub import Heard
from .known import CODES, WITH_ERROR, End, Known, Progress, better
from .tree import Graft

__all__ = ["NESTING", "Fold"]

#: `Message.attempt` is ``retries + (nesting << 20)``.
NESTING: Final = 20

_WAITING, _SENT, _STARTED = CODES[states.WAITING], CODES[states.SENT], CODES[states.STARTED]
_PROGRESS, _RETRY = CODES[states.PROGRESS], CODES[states.RETRY]
_ENDS: Final = {
    SUCCEEDED: CODES[states.SUCCESS],
    FAILED: CODES[states.FAILURE],
    REVOKED: CODES[states.REVOKED],
    REJECTED: CODES[states.REJECTED],
    IGNORED: CODES[states.IGNORED],
}
#: What is heard with these is about the next attempt, the replacement, or another canvas.
_ABOUT_LATER: Final = frozenset({RETRIED, REPLACED, GRAFTED})


class Fold:
    """What is known, in a form that can be written to.

    Attributes
    ----------
    changed
        Whether any event said something new.
    """

    def __init__(self, known: Known) -> None:
        self.tree = known.tree
        self.columns = known.columns.copy()
        self.names = list(known.names)
        self.places = {name: at for at, name in enumerate(known.names)}
        self.attempts = dict(known.attempts)
        self.due = dict(known.due)
        self.ends = dict(known.ends)
        self.progress = dict(known.progress)
        self.awake = set(known.awake)
        self.pending = dict(known.pending)
        self.changed = False

    def known(self) -> Known:
        """Return what is known now."""
        return Known(
            self.tree,
            self.columns,
            tuple(self.names),
            self.attempts,
            self.due,
            self.ends,
            self.progress,
            frozenset(self.awake),
            self.pending,
        )

    def events(self, events: Sequence[Heard]) -> None:
        """Fold `events`, and those that waited for what they graft."""
        while events:
            grafts = self.fold(events)
            events = self.graft(grafts) if grafts else ()

    def fold(self, events: Iterable[Heard]) -> list[Event]:  # noqa: C901, PLR0912 - see below
        """Fold `events`; return the grafts among them."""
        # A few hundred nanoseconds an event: what each task has is handled here, with local names, the rest in methods.
        row_of, attempts = self.tree.index.get, self.attempts
        part_of, links_of = self.tree.part_of, self.tree.links_of
        code, sent, started, finished, _ = self.columns
        grafts: list[Event] = []
        changed = False
        for event in events:
            kind, task_id, time, attempt, data = event
            i = row_of(task_id)
            if i is None:
                self.wait(Event(*event))
                continue
            if part_of and i in part_of:
                self.wake(part_of[i])
            if links_of and kind == SUCCEEDED:
                for part in links_of.get(i, ()):
                    self.wake(part)
            if kind in _ABOUT_LATER:
                if kind == GRAFTED:
                    grafts.append(Event(*event))
                    continue
                attempt = attempt + 1 if kind == RETRIED else ((attempt >> NESTING) + 1) << NESTING
            if attempt or attempts:
                known = attempts.get(i, 0)
                if attempt < known:
                    continue
                if attempt > known:
                    self.advance(i, attempt)
            if kind == SENT:
                code[i] = max(code[i], _SENT)
                if not sent[i] <= time:
                    sent[i] = time
                    changed = True
                if data:
                    self.note_due(i, data.get("due"))
            elif kind == STARTED:
                code[i] = max(code[i], _STARTED)
                if not started[i] > time:
                    self.note_start(i, time, data or "")
            elif kind in _ENDS:
                end = _ENDS[kind]
                if code[i] < end or (code[i] == end and time < finished[i]):
                    code[i] = end
                    finished[i] = time
                    changed = True
                if end in WITH_ERROR:
                    self.note_end(i, End(end, time, *(data if kind == FAILED else (str(data or ""), None))))
            else:
                self.note_rest(i, kind, time, data)
        self.changed |= changed
        return grafts

    def note_rest(self, i: int, kind: str, time: float, data: Any) -> None:
        """Note the kinds that few tasks have."""
        code = self.columns.code
        if kind == PROGRESS:
            code[i] = max(code[i], _PROGRESS)
            self.note_progress(i, Progress(time, *data))
        elif kind == RETRIED:
            code[i] = max(code[i], _RETRY)
            self.note_end(i, End(_RETRY, time, data[0], None))
            self.note_due(i, data[1])
        elif kind != REPLACED:
            msg = f"no event is of the kind {kind!r}"
            raise ValueError(msg)

    def advance(self, i: int, attempt: int) -> None:
        """Forget what was known of a row's earlier attempts."""
        self.attempts[i] = attempt
        code, sent, started, finished, worker = self.columns
        code[i] = _WAITING
        sent[i] = started[i] = finished[i] = nan
        worker[i] = 0
        self.due.pop(i, None)
        self.ends.pop(i, None)
        self.progress.pop(i, None)
        self.changed = True

    def note_start(self, i: int, time: float, name: str) -> None:
        """Remember the latest start, and who it was by; of two at the same moment the last by name."""
        started, worker = self.columns.started, self.columns.worker
        if started[i] == time and name <= self.names[worker[i]]:
            return
        at = self.places.get(name)
        if at is None:
            at = self.places[name] = len(self.names)
            self.names.append(name)
        started[i] = time
        worker[i] = at
        self.changed = True

    def note_due(self, i: int, due: float | None) -> None:
        """Remember before when it may not start."""
        if due is not None and due > self.due.get(i, float("-inf")):
            self.due[i] = due
            self.changed = True

    def note_end(self, i: int, end: End) -> None:
        """Remember why it is in a state."""
        if better(end, self.ends.get(i)):
            self.ends[i] = end
            self.changed = True

    def note_progress(self, i: int, progress: Progress) -> None:
        """Remember the latest it said about how far it is."""
        old = self.progress.get(i)
        if old is None or progress.time > old.time or (progress.time == old.time and repr(progress) > repr(old)):
            self.progress[i] = progress
            self.changed = True

    def wake(self, part: str) -> None:
        """Count a link, or an errback, from now on."""
        if part not in self.awake:
            self.awake.add(part)
            self.changed = True

    def wait(self, event: Event) -> None:
        """Keep an event until the call it is about is known; in an order that does not depend on when it came."""
        known = self.pending.get(event.id, ())
        if event not in known:
            self.pending[event.id] = tuple(sorted((*known, event), key=_moment))
            self.changed = True

    def graft(self, events: Iterable[Event]) -> list[Event]:
        """Add calls to the tree; return the events that waited for them."""
        grown = self.tree.graft([Graft.of(event) for event in events])
        if grown is None:
            return []
        before = self.tree.index
        self.changed = True
        self.tree, source = grown
        if source is not None:  # some rows went to other places
            self.columns = self.columns.take(source)
            to = {old: new for new, old in enumerate(source)}
            self.attempts = {to[i]: value for i, value in self.attempts.items()}
            self.due = {to[i]: value for i, value in self.due.items()}
            self.ends = {to[i]: value for i, value in self.ends.items()}
            self.progress = {to[i]: value for i, value in self.progress.items()}
        else:
            self.columns.extend(len(self.tree.calls) - len(self.columns.code))
        return [
            event
            for task_id in list(self.pending)
            if task_id in self.tree.index and task_id not in before
            for event in self.pending.pop(task_id)
        ]


def _moment(event: Event) -> tuple[float, int, str, str]:
    return event.time, event.attempt, event.kind, repr(event.data)
