"""What is known of a run: one immutable value, folded from events.

Events come late, twice, in any order and in any batches; equal sets of events give equal states.  That holds because
each thing remembered of a task is a maximum:

* the *attempt* is the highest one heard of, and everything else is about that attempt alone;
* the state is the one of highest rank (`nbcanvas.states.RANK`) of that attempt; a task that asked to be retried is
  in RETRY of its *next* attempt, one that was replaced is WAITING in its next nesting;
* it was sent when it was first sent, received when it was last taken, finished when its winning end was first heard
  of, and started when it was last started before that (a worker may have been lost, its message delivered again);
* of earlier attempts, and of earlier starts, the latest hundred are remembered in the same way.

What cannot be made sense of is counted and passed over.  What is about calls that are not known waits, in a bounded
store, until they are grafted.

Tasks are rows of columns, so that a hundred thousand of them are copied with a few calls to memcpy, once a batch.
What few tasks have (errors, progress, attempts beyond the first) is in small dictionaries, copied when written to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from types import MappingProxyType

from nbcanvas import states
from nbcanvas.plan import Call, Node, Place, places

from .alone import ran
from .attempts import NESTING, Attempt, End, Past, Start, taken
from .event import Event
from .fold import Fold
from .hub import Heard
from .known import CODES, NAMES, WITH_ERROR, Columns, Known, Progress
from .retell import retell
from .tree import Tree, one

__all__ = ["State"]

_SUCCESS = CODES[states.SUCCESS]
_BADLY = frozenset(CODES[state] for state in states.READY_STATES - {states.SUCCESS})


class State:
    """What is known of a run.  Immutable; `apply` makes the next one.

    ``len(state)`` is the number of calls known: the canvas proper, its links and errbacks, and what was grafted.
    Calls are numbered in the order of `calls`; `order` is canvas order.

    Attributes
    ----------
    began
        When the run began, in seconds since the epoch.
    version
        Counts the batches that changed something.
    ignored
        How many events could not be made sense of, or were about calls that nobody grafted in time.
    kept
        How many calls had ended before it began, in an earlier run.
    """

    __slots__ = ("_awake", "_counts", "_known", "_ran", "began", "ignored", "kept", "version")

    def __init__(self, known: Known, began: float, version: int = 0, ignored: int = 0, kept: int = 0) -> None:
        self._known = known
        self._awake: frozenset[str] | None = None
        self._counts: Mapping[str, int] | None = None
        self._ran: frozenset[int] | None = None
        self.began = began
        self.version = version
        self.ignored = ignored
        self.kept = kept

    @classmethod
    def of(cls, root: Node, now: float, items: Callable[[Call], int] = one) -> State:
        """Return the state of a canvas before anything was heard of it.

        Parameters
        ----------
        root
            The frozen canvas.
        now
            Seconds since the epoch.
        items
            How many items a ``celery.map`` or ``celery.starmap`` call goes over; it is asked of no other call.
        """
        return cls(Known.nothing(Tree.of(root, items)), now)

    def apply(self, events: Iterable[Event | Heard]) -> State:
        """Return the state with `events` heard as well; this very state when they say nothing new.

        Events that cannot be made sense of are counted in `ignored`; whatever they are, none raises.
        """
        batch = list(events)
        if not batch:
            return self
        fold = Fold(self._known)
        fold.events(batch)
        ignored = self.ignored + fold.ignored
        if fold.changed:
            return State(fold.known(), self.began, self.version + 1, ignored, self.kept)
        return State(self._known, self.began, self.version, ignored, self.kept) if fold.ignored else self

    def keep(self, events: Iterable[Event | Heard]) -> State:
        """Return the state of a run that goes on with what an earlier one has, as these events tell it."""
        state = self.apply(events)
        return State(state._known, self.began, state.version, state.ignored, state.ready)  # noqa: SLF001 - of this class

    def events(self, rows: Iterable[int] | None = None) -> Iterator[Event]:
        """Yield what is known as events: folded over ``State.of(root, began)`` they give an equal state.

        Parameters
        ----------
        rows
            Only those about these rows, and the grafts that brought or changed them; None for everything.
        """
        return retell(self._known, rows)

    @property
    def tree(self) -> Tree:
        """The calls and their rows."""
        return self._known.tree

    @property
    def columns(self) -> Columns:
        """What is known of each call, by row."""
        return self._known.columns

    @property
    def worker_names(self) -> Sequence[str]:
        """The names of worker slots; place 0 is no name."""
        return self._known.names

    def eventful(self) -> set[int]:
        """Return the rows of which `columns` do not tell all: they have attempts, errors, progress, or are grafted."""
        known, index = self._known, self.tree.index
        found = {*known.attempts, *known.due, *known.ends, *known.progress, *known.starts, *known.history}
        for graft in self.tree.grafts:
            found.add(index[graft.owner])
            found.update(index[place.call.id] for place in places(graft.node))
        return found

    # -- the canvas -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.tree.calls)

    @property
    def root(self) -> Node:
        """The frozen canvas the run began with."""
        return self.tree.root

    @property
    def calls(self) -> Sequence[Place]:
        """Where each call stands, by row; worked out when first asked for."""
        return self.tree.places

    @property
    def order(self) -> Sequence[int]:
        """The rows in canvas order: what a call was replaced by, or started, stands beside it."""
        return self.tree.order

    def index_of(self, task_id: str) -> int:
        """Return the row of a task id (KeyError when the canvas has no such task)."""
        return self.tree.index[task_id]

    def __contains__(self, task_id: object) -> bool:
        return task_id in self.tree.index

    # -- one call ---------------------------------------------------------------------------------------------------

    def call(self, i: int) -> Call:
        """Return the call of a row; of a task that was replaced, the one that ends in its id."""
        return self.tree.calls[i]

    def state(self, i: int) -> str:
        """Return the state's name; WAITING for a call whose message was not sent."""
        return NAMES[self.columns.code[i]]

    def sent(self, i: int) -> float | None:
        """Return when the present attempt was first sent, or None."""
        return _known(self.columns.sent[i])

    def received(self, i: int) -> float | None:
        """Return when a worker took the present attempt's message, or None; as a rule that is when it started it."""
        return taken(_known(self.columns.received[i]), _known(self.columns.started[i]))

    def started(self, i: int) -> float | None:
        """Return when the present attempt was last started, or None."""
        return _known(self.columns.started[i])

    def finished(self, i: int) -> float | None:
        """Return when the task ended, or None."""
        return _known(self.columns.finished[i])

    def worker(self, i: int) -> str | None:
        """Return the worker slot that last started it, or None."""
        return self.worker_names[self.columns.worker[i]] or None

    def attempt(self, i: int) -> int:
        """Return the present attempt (see `nbcanvas.plan.Message`)."""
        return self._known.attempts.get(i, 0)

    def retries(self, i: int) -> int:
        """Return how many times the call was retried."""
        return self._known.attempts.get(i, 0) & ((1 << NESTING) - 1)

    def retried(self) -> Iterable[int]:
        """Yield the rows of the calls that were retried."""
        mask = (1 << NESTING) - 1
        return [i for i, attempt in self._known.attempts.items() if attempt & mask]

    def attempts_of(self, i: int) -> Sequence[Attempt]:
        """Return the attempts of a call, oldest first; the last is the present one.

        A message that was delivered again counts for each delivery.  Of many the latest are known.
        """
        present = Attempt(
            self.attempt(i),
            self.sent(i),
            self.received(i),
            self.started(i),
            self.finished(i),
            self.worker(i),
            self.state(i),
            self.error(i),
        )
        known = self._known
        if i not in known.history and i not in known.starts:
            return (present,)
        found = [attempt for past in known.history.get(i, ()) for attempt in past.attempts()]
        started = Start(present.started or 0.0, present.worker or "")
        for start in known.starts.get(i, ()):
            if start < started:
                lost = Past(present.attempt, present.sent, starts=(start,))
                found += lost.attempts()
        return (*found, present)

    def several(self) -> Iterable[int]:
        """Yield the rows that have more than one attempt to show."""
        return self._known.history.keys() | self._known.starts.keys()

    def skipped(self, i: int) -> bool:
        """Whether nothing was ever sent of the call: it waits, or ended because of something before it."""
        if not self._unsent(i):
            return False
        if self._ran is None:
            code = self.columns.code
            rows = [row for row, ended in enumerate(code) if ended in _BADLY and self._unsent(row)]
            self._ran = ran(self.tree, self.columns, rows) if rows else frozenset()
        return i not in self._ran

    def _unsent(self, i: int) -> bool:
        """Whether nobody told that the call was sent, or begun."""
        columns = self.columns
        return all(_known(column[i]) is None for column in (columns.sent, columns.received, columns.started))

    def due(self, i: int) -> float | None:
        """Return when the present attempt may start at the earliest, or None."""
        return self._known.due.get(i)

    def error(self, i: int) -> BaseException | str | None:
        """Return what made the call fail, or be retried (an exception), revoked or rejected (a text)."""
        end = self._end(i)
        return end.reason if end else None

    def traceback(self, i: int) -> str | None:
        """Return the text of the traceback that came with `error`, or None."""
        end = self._end(i)
        return end.traceback if end else None

    def errors(self) -> Iterable[int]:
        """Yield the rows for which `error` is not None."""
        return (i for i in self._known.ends if self._end(i))

    def _end(self, i: int) -> End | None:
        end = self._known.ends.get(i)
        return end if end is not None and end.code == self.columns.code[i] and end.code in WITH_ERROR else None

    def progress(self, i: int) -> Progress | None:
        """Return what the call last said about how far it is, or None."""
        return self._known.progress.get(i)

    def progresses(self) -> Iterable[int]:
        """Yield the rows for which `progress` is not None."""
        return iter(self._known.progress)

    def items(self, i: int) -> int:
        """Return how many items the call goes over: 1, but for chunks and maps."""
        return self.tree.items.get(i, 1)

    def awake(self, i: int) -> bool:
        """Whether the call belongs to what runs or will: not a link or an errback that did not start."""
        part = self.tree.part_of.get(i)
        return part is None or part in self.awake_parts

    @property
    def awake_parts(self) -> frozenset[str]:
        """The links and errbacks that count (keys of ``tree.parts``): something was heard of them, or they start now.

        A link starts when what it hangs on succeeds.
        """
        if self._awake is None:
            names, owners = self.tree.links
            ended = map(_SUCCESS.__eq__, map(self.columns.code.__getitem__, owners))
            self._awake = self._known.heard.union(compress(names, ended)) if names else self._known.heard
        return self._awake

    # -- all of them ------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Mapping[str, int]:
        """How many calls are in each state; links count once they started, errbacks once they fired.

        States of no call are left out.
        """
        if self._counts is None:
            code = self.columns.code
            found = {name: code.count(CODES[name]) for name in reversed(NAMES[1:])}
            tree, awake = self.tree, self.awake_parts
            found[states.WAITING] -= sum(part.size for name, part in tree.parts.items() if name not in awake)
            found[states.WAITING] -= sum(code[i] == CODES[states.WAITING] and self.awake(i) for i in tree.superseded)
            self._counts = MappingProxyType({name: count for name, count in found.items() if count})
        return self._counts

    @property
    def total(self) -> int:
        """How many calls `counts` counts."""
        return sum(self.counts.values())

    @property
    def ready(self) -> int:
        """How many of them ended."""
        return sum(self.counts.get(name, 0) for name in states.READY_STATES)

    @property
    def done(self) -> bool:
        """Whether every call of the canvas, and of everything it started besides, ended."""
        return self.ready == self.total

    @property
    def pending(self) -> int:
        """How many events wait for the call they are about to be grafted."""
        return len(self._known.pending)

    # -- values -----------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Whether both know the same; versions do not matter."""
        if not isinstance(other, State):
            return NotImplemented
        return self._facts() == other._facts()

    __hash__ = None  # type: ignore[assignment]

    def _facts(self) -> tuple[object, ...]:
        known = self._known
        code, *times, worker = known.columns
        return (
            known.tree.key,
            self.began,
            code,
            [column.tobytes() for column in times],
            [known.names[at] for at in worker],
            known[3:-1],
            known.pending.keys(),
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"<State {counts or 'of an empty canvas'}>"


def _known(moment: float) -> float | None:
    return moment if moment == moment else None  # noqa: PLR0124 - NaN
