"""What a split ledger writes into a result backend, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from nbcanvas import states
from nbcanvas.backend.port import Backend, Record
from nbcanvas.errors import ServerLost
from nbcanvas.plan import Join, Message
from nbcanvas.protocol.payload import unpack

from .port import Filled, Step

__all__ = ["Mark", "StepStore", "Store", "Stored", "said", "store_for"]

#: How long a backend may take to store what is written behind.
_STORE: Final = 30.0


class Mark(NamedTuple):
    """That a task begins: a claim, of which there is one for each attempt.

    Attributes
    ----------
    task_id, record
        Of the task.
    client, root_id
        Who is told, of which run.
    over
        Whether the claim that is there already, another process's, gives way to this one.
    """

    task_id: str
    record: Record
    client: str
    root_id: str
    over: Callable[[Record], bool]


class Stored(NamedTuple):
    """What became of a step in the backend.

    Attributes
    ----------
    performed
        False when its task was settled before.
    filled
        The barrier it filled.
    unlocks
        What has to be sent behind its messages.
    """

    performed: bool
    filled: Filled | None = None
    unlocks: Sequence[Message] = ()


class Store(Protocol):
    """Writes into a backend; what it has written is there when it returns."""

    def mark(self, marks: Sequence[Mark]) -> Sequence[Record | None]:
        """Store that tasks begin; for each, None, or what stands there: then it must not begin, and nothing is stored.

        That is the claim of another process which does not give way, or how the task ended.
        """

    def store(self, steps: Sequence[tuple[Step, bool]]) -> list[Stored]:
        """Store results, and fill slots; with each step, whether it is performed even if its task was settled."""

    def dispatched(self, joins: Sequence[Join]) -> None:
        """Forget barriers."""

    def tell(self, client: str, root_id: str, events: Iterable[tuple[str, str, float, int, Any]]) -> None:
        """See the ledger's port."""


def store_for(backend: Any) -> Store:
    """Return what writes into a backend."""
    if hasattr(backend, "committer"):  # results in Redis; nothing else loads its client
        from .storing_redis import RedisStore

        return RedisStore(backend)
    return StepStore(backend)


class StepStore:
    """Writes step by step.

    Parameters
    ----------
    backend
        Any result backend.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        #: Stores claims; None where no other process sees them.
        self._claim = getattr(backend, "claim", None)

    def mark(self, marks: Sequence[Mark]) -> Sequence[Record | None]:
        """Store that tasks begin; returns what stands in the way."""
        if self._claim is not None:
            found: Sequence[Record | None] = self._claim([(one.task_id, one.record, one.over) for one in marks])
            return found
        for one in marks:
            self._backend.update(one.task_id, one.record)
        return [None] * len(marks)

    def store(self, steps: Sequence[tuple[Step, bool]]) -> list[Stored]:
        """Store results, and fill slots."""
        found = [self._store(step, again=again) for step, again in steps]
        self._flush()
        return found

    def _store(self, step: Step, *, again: bool) -> Stored:
        backend, record = self._backend, None if step.quiet else step.record
        performed = True
        if record is not None and step.task_id is not None and step.dispatches is None:
            performed = backend.settle(step.task_id, record)
            if performed and record.state in states.READY_STATES:
                backend.announce(step.task_id, record)
        unlocks: Sequence[Message] = ()
        if performed or again:
            performed = True
            for task_id, skipped in step.skips:
                if backend.settle(task_id, skipped):
                    backend.announce(task_id, skipped)
            unlocks = backend.open(step.opens) if step.opens else ()
        filled = None
        for arrival in step.arrivals:
            exits = backend.arrive(arrival)
            if exits is not None:
                filled = Filled(arrival.slot.join, exits)
        return Stored(performed, filled, unlocks)

    def _flush(self) -> None:
        if not self._backend.flush(_STORE):
            msg = f"results were not stored within {_STORE:.0f} seconds"
            raise ServerLost(msg)

    def dispatched(self, joins: Sequence[Join]) -> None:
        """Forget barriers."""
        for join in joins:
            self._backend.dispatched(join)

    def tell(self, client: str, root_id: str, events: Iterable[tuple[str, str, float, int, Any]]) -> None:
        """Tell nobody: clients look at the results."""


def said(record: Record) -> Mapping[str, Any]:
    """Return what a claim says of itself: ``hostname`` and ``pid`` of the process, and which ``attempt`` it is."""
    found = unpack(record.payload)
    return found if isinstance(found, Mapping) else {}
