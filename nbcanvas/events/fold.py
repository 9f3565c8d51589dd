"""How events become knowledge: the loop that everything heard of a run goes through."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from math import nan
from typing import Any, Final

from nbcanvas import states

from .attempts import ENDS, MOST, NESTING, End, Past, Start, better, latest, running, shown
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
from .hub import Heard
from .known import CODES, WITH_ERROR, Known, Progress
from .reading import FAR, LATEST, LONGEST, PLAIN, readable
from .tree import Graft

__all__ = ["NESTING", "PENDING", "Fold"]

#: So many events are kept for calls that are not known yet; when there are more, the oldest are dropped.
PENDING: Final = 50_000
#: Names of slots that no row has any more are forgotten when there are more than this.
_NAMES: Final = 1000

_WAITING, _SENT, _RECEIVED = CODES[states.WAITING], CODES[states.SENT], CODES[states.RECEIVED]
_STARTED, _PROGRESS, _RETRY = CODES[states.STARTED], CODES[states.PROGRESS], CODES[states.RETRY]
_REPLACED = CODES[states.REPLACED]
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
    ignored
        How many events could not be made sense of.
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
        self.starts = dict(known.starts)
        self.history = dict(known.history)
        self.heard = set(known.heard)
        self.pending = dict(known.pending)
        self.changed = False
        self.ignored = 0

    def known(self) -> Known:
        """Return what is known now."""
        if len(self.names) > _NAMES:
            self.forget_names()
        return Known(
            self.tree,
            self.columns,
            tuple(self.names),
            self.attempts,
            self.due,
            self.ends,
            self.progress,
            self.starts,
            self.history,
            frozenset(self.heard),
            self.pending,
        )

    def events(self, events: Sequence[Heard]) -> None:
        """Fold `events`, and those that waited for what they graft."""
        while events:
            grafts = self.fold(events)
            events = self.graft(grafts) if grafts else ()
        for _ in range(len(self.pending) - PENDING):
            self.pending.pop(next(iter(self.pending)))
            self.ignored += 1

    def fold(self, events: Iterable[Heard]) -> list[Event]:  # noqa: C901, PLR0912, PLR0915 - see below
        """Fold `events`; return the grafts among them."""
        # A few hundred nanoseconds an event: what each task has is handled here, with local names, the rest in methods.
        row_of, attempts, starts, places = self.tree.index.get, self.attempts, self.starts, self.places
        part_of, heard, plain_of = self.tree.part_of, self.heard, PLAIN.get
        code, sent, _, started, finished, worker = self.columns
        grafts: list[Event] = []
        changed = False
        for event in events:
            try:
                kind, task_id, time, attempt, data = event
                plain = type(data) is plain_of(kind) and type(time) is float and type(attempt) is int
                i = row_of(task_id)
            except (TypeError, ValueError):  # not five fields, or one that no dictionary has
                self.ignored += 1
                continue
            if i is None or not plain or not 0.0 <= time < FAR or (attempt and not 0 < attempt < LATEST):
                read = readable(event)
                if read is None:
                    self.ignored += 1
                    continue
                if i is None:
                    self.wait(read)
                    continue
                kind, task_id, time, attempt, data = read
            if part_of and i in part_of and part_of[i] not in heard:
                heard.add(part_of[i])
                changed = True
            if kind in _ABOUT_LATER:
                if kind == GRAFTED:
                    grafts.append(Event(kind, task_id, time, attempt, data))
                else:
                    self.note_later(i, kind, time, attempt, data)
                continue
            if attempt or attempts:
                known = attempts.get(i, 0)
                if attempt < known:
                    self.note_earlier(i, kind, time, attempt, data)
                    continue
                if attempt > known:
                    self.advance(i, attempt)
            if kind == SENT:
                if code[i] < _SENT:  # noqa: PLR1730 - max() takes twice as long
                    code[i] = _SENT
                if not sent[i] <= time:
                    sent[i] = time
                    changed = True
                if data:
                    self.note_due(i, data["due"])
            elif kind == STARTED:
                if code[i] < _STARTED:  # noqa: PLR1730
                    code[i] = _STARTED
                if started[i] != started[i] and data in places:  # NaN: the first start of it, by a slot that is known
                    started[i] = time
                    worker[i] = places[data]
                    changed = True
                else:
                    self.note_start(i, time, data)
            elif kind in _ENDS:
                end = _ENDS[kind]
                if code[i] < end or (code[i] == end and time < finished[i]):
                    code[i] = end
                    finished[i] = time
                    changed = True
                    if starts and i in starts:
                        self.choose(i)
                if end in WITH_ERROR:
                    self.note_end(i, _end(kind, time, data))
            else:
                self.note_rest(i, kind, time, data)
        self.changed |= changed
        return grafts

    # -- the present attempt ----------------------------------------------------------------------------------------

    def note_rest(self, i: int, kind: str, time: float, data: Any) -> None:
        """Note the kinds that few tasks have."""
        code, received = self.columns.code, self.columns.received
        if kind == PROGRESS:
            code[i] = max(code[i], _PROGRESS)
            self.note_progress(i, Progress(time, *data))
        elif kind == RECEIVED:
            code[i] = max(code[i], _RECEIVED)
            if not received[i] >= time:
                received[i] = time
                self.changed = True
            if data:
                self.note_due(i, data["due"])

    def note_start(self, i: int, time: float, name: str) -> None:
        """Remember a start, and who it was by; several of one attempt are kept, in the order of their times."""
        if len(name) > LONGEST:
            name = name[:LONGEST]
        started, worker = self.columns.started, self.columns.worker
        if started[i] != started[i]:  # NaN: the first one
            started[i] = time
            worker[i] = self.place(name)
            self.changed = True
            return
        start = Start(time, name)
        present = Start(started[i], self.names[worker[i]])
        if start == present:
            return
        known = self.starts.get(i, (present,))
        grown = latest((*known, start))
        if grown != known:
            self.starts[i] = grown
            self.choose(i)
            self.changed = True

    def choose(self, i: int) -> None:
        """Take that one of several starts as the row's which came to the end."""
        _, _, _, started, finished, worker = self.columns
        starts = self.starts[i]
        start = starts[running(starts, _maybe(finished[i]))]
        started[i] = start.time
        worker[i] = self.place(start.worker)

    def place(self, name: str) -> int:
        """Return the place of a slot's name."""
        at = self.places.get(name)
        if at is None:
            at = self.places[name] = len(self.names)
            self.names.append(name)
        return at

    def forget_names(self) -> None:
        """Forget the names of slots that no row has."""
        worker = self.columns.worker
        used = sorted({0, *worker})
        to = {old: new for new, old in enumerate(used)}
        self.names = [self.names[old] for old in used]
        for i, at in enumerate(worker):
            worker[i] = to[at]

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
        if old is None or progress.time > old.time or (progress.time == old.time and shown(progress) > shown(old)):
            self.progress[i] = progress
            self.changed = True

    # -- other attempts ---------------------------------------------------------------------------------------------

    def advance(self, i: int, attempt: int) -> None:
        """Go on to a row's later attempt."""
        self.note_past(i, self.present(i))
        self.attempts[i] = attempt
        code, sent, received, started, finished, worker = self.columns
        code[i] = _WAITING
        sent[i] = received[i] = started[i] = finished[i] = nan
        worker[i] = 0
        self.due.pop(i, None)
        self.ends.pop(i, None)
        self.progress.pop(i, None)
        self.starts.pop(i, None)
        self.changed = True

    def present(self, i: int) -> Past:
        """Return the present attempt of a row as one that is over."""
        code, sent, received, started, finished, worker = self.columns
        starts = self.starts.get(i)
        if starts is None:
            starts = (Start(started[i], self.names[worker[i]]),) if started[i] == started[i] else ()
        end = None
        if code[i] in ENDS:
            end = self.ends.get(i)
            if end is None or end.code != code[i]:
                end = End(code[i], finished[i], "", None)
        return Past(self.attempts.get(i, 0), _maybe(sent[i]), _maybe(received[i]), starts, end)

    def note_later(self, i: int, kind: str, time: float, attempt: int, data: Any) -> None:
        """Note that an attempt ended in asking for another one, or for a replacement."""
        later = attempt + 1 if kind == RETRIED else ((attempt >> NESTING) + 1) << NESTING
        if later > self.attempts.get(i, 0):
            self.advance(i, later)
        end = End(_RETRY, time, data[0], None) if kind == RETRIED else End(_REPLACED, time, "", None)
        self.note_past(i, Past(attempt, end=end))
        if kind == RETRIED and later == self.attempts[i]:
            code = self.columns.code
            code[i] = max(code[i], _RETRY)
            self.note_end(i, end)
            self.note_due(i, data[1])

    def note_earlier(self, i: int, kind: str, time: float, attempt: int, data: Any) -> None:
        """Note what was heard late, of an earlier attempt."""
        if kind == SENT:
            self.note_past(i, Past(attempt, sent=time))
        elif kind == RECEIVED:
            self.note_past(i, Past(attempt, received=time))
        elif kind == STARTED:
            self.note_past(i, Past(attempt, starts=(Start(time, data[:LONGEST]),)))
        elif kind in _ENDS:
            self.note_past(i, Past(attempt, end=_end(kind, time, data)))

    def note_past(self, i: int, news: Past) -> None:
        """Remember something about an earlier attempt, unless there is nothing to remember."""
        history = self.history.get(i, ())
        old = next((past for past in history if past.attempt == news.attempt), None)
        merged = Past(news.attempt) if old is None else old
        merged = merged.merged(news)
        if merged is old or merged == Past(news.attempt):
            return
        if len(history) >= MOST and news.attempt < history[0].attempt:
            return
        others = (past for past in history if past is not old)
        self.history[i] = tuple(sorted((*others, merged), key=lambda past: past.attempt))[-MOST:]
        self.changed = True

    # -- other calls ------------------------------------------------------------------------------------------------

    def wait(self, event: Event) -> None:
        """Keep an event until the call it is about is known."""
        what = Graft.of(event).first if event.kind == GRAFTED else shown(event.data)
        key: Hashable = (event.id, event.time, event.attempt, event.kind, hash(what))
        if key not in self.pending:
            self.pending[key] = event
            self.changed = True

    def graft(self, events: Iterable[Event]) -> list[Event]:
        """Add calls to the tree; return the events that waited for them."""
        grown = self.tree.graft([Graft.of(event) for event in events])
        if grown is None:
            return []
        self.changed = True
        self.tree, source = grown
        if source is not None:  # some rows went to other places
            self.columns = self.columns.take(source)
            to = {old: new for new, old in enumerate(source)}
            self.attempts = {to[i]: value for i, value in self.attempts.items()}
            self.due = {to[i]: value for i, value in self.due.items()}
            self.ends = {to[i]: value for i, value in self.ends.items()}
            self.progress = {to[i]: value for i, value in self.progress.items()}
            self.starts = {to[i]: value for i, value in self.starts.items()}
            self.history = {to[i]: value for i, value in self.history.items()}
        else:
            self.columns.extend(len(self.tree.calls) - len(self.columns.code))
        found = [key for key, event in self.pending.items() if event.id in self.tree.index]
        return [self.pending.pop(key) for key in found]


def _maybe(moment: float) -> float | None:
    return moment if moment == moment else None  # noqa: PLR0124 - NaN


def _end(kind: str, time: float, data: Any) -> End:
    return End(_ENDS[kind], time, *(data if kind == FAILED else (data or "", None)))
