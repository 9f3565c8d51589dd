"""The backend port: records of tasks, slots of barriers, and waiting for either; and what works on any backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, Protocol

from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Call, Exit, Join, Message, Node, Payload

__all__ = ["Backend", "Record", "RunLine", "RunStore", "StoredRun", "Tree", "flush_all"]

#: A result as plain data, Celery's ``as_tuple``: ``((id, parent), None)`` or ``((id, parent), [children])``.
Tree = tuple[Any, Any]


class Record:
    """What is known of one task id.

    Attributes
    ----------
    state
        Its state's name.
    payload
        The value of a success, or the meta of a custom state; else None.
    exc, traceback
        The exception of a failure, a retry or a revocation, and its text.
    children
        What the task started, as result trees.
    done
        When it ended, in seconds since the epoch; None before that.
    settled
        The highest attempt whose transition was performed, or -1.
    call
        The frozen call; None for a record somebody stored by hand.
    parent_id, retries, worker
        Of the message that caused the record.
    given
        What was put before the call's own arguments.
    message
        Of a failure that happened in this process, the message that was worked on; else None.
    """

    __slots__ = (
        "call",
        "children",
        "done",
        "exc",
        "given",
        "message",
        "parent_id",
        "payload",
        "retries",
        "settled",
        "state",
        "traceback",
        "worker",
    )

    def __init__(
        self,
        state: str,
        payload: Payload = None,
        exc: BaseException | None = None,
        traceback: str | None = None,
        children: Sequence[Tree] = (),
        done: float | None = None,
        settled: int = -1,
        call: Call | None = None,
        parent_id: str | None = None,
        retries: int = 0,
        worker: str | None = None,
        given: tuple[Payload, ...] = (),
    ) -> None:
        self.state = state
        self.payload = payload
        self.exc = exc
        self.traceback = traceback
        self.children = children
        self.done = done
        self.settled = settled
        self.call = call
        self.parent_id = parent_id
        self.retries = retries
        self.worker = worker
        self.given = given
        self.message: Message | None = None

    def __repr__(self) -> str:
        return f"Record({self.state})"


class StoredRun(NamedTuple):
    """What is kept of a run beside its results.

    Attributes
    ----------
    id, name
        Of the run.
    started, finished, seen
        When it began, ended, and when its kernel last said something; seconds since the epoch.
    kernel
        Which process runs it.
    version
        Of the form of `plan` and `state`.
    plan, state
        The frozen canvas, and what was heard of it, as the run room writes them.
    """

    id: str
    name: str | None
    started: float
    finished: float | None
    seen: float
    kernel: str
    version: int
    plan: bytes
    state: bytes


class RunLine(NamedTuple):
    """A run in a list of them."""

    id: str
    name: str | None
    started: float


class RunStore(Protocol):
    """Keeps runs where their results are, for other processes and later days.

    Attributes
    ----------
    trusted
        Whether what it keeps may be pickles: only who may have code run here anyway can write there.
    """

    trusted: bool

    def put(self, run_id: str, describe: Callable[[], StoredRun], *, at_once: bool = False) -> None:
        """Keep a run: in a moment, `describe` being called in another thread; or before this returns (`at_once`)."""

    def drop(self, run_id: str) -> None:
        """Keep a run no longer."""

    def update(self, run_id: str, news: Callable[[], Mapping[str, Any]]) -> None:
        """Keep what is new of a run, in a moment: some of what `StoredRun` has, if the run is still kept."""

    def look(self, run_id: str) -> StoredRun | None:
        """Return a run, or None."""

    def lines(self, limit: int | None = None) -> Sequence[RunLine]:
        """Return the runs there are, the latest first."""

    def results(self, calls: Sequence[Call]) -> Mapping[str, Record]:
        """Return the records of those of the calls that ended, all at once."""

    def where(self) -> str:
        """Say where that is, without a password."""


class Backend(Protocol):
    """Where results are kept.

    Attributes
    ----------
    runs
        Where runs are kept beside the results, or None.
    """

    @property
    def runs(self) -> RunStore | None:
        """See above."""

    def refuse(self, node: Node) -> None:
        """Raise ImproperlyConfigured when a canvas needs what this backend cannot do."""

    def expect(self, task_ids: Iterable[str]) -> None:
        """Hear that these tasks will be worked on in this process."""

    def tells(self, task_id: str) -> bool:
        """Whether this process is told of a task's end and has not been: there is no need to ask how it is."""

    def settle(self, task_id: str, record: Record) -> bool:
        """Store how an attempt ended; False (and nothing stored) when that attempt, or a later one, was settled."""

    def announce(self, task_id: str, record: Record) -> None:
        """Tell those who watch a settled task that it has ended, once everything else about its end is said."""

    def update(self, task_id: str, record: Record) -> bool:
        """Store a state on the way; False (and nothing stored) when the task has ended."""

    def get(self, task_id: str) -> Record | None:
        """Return what is known of a task, or None."""

    def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Record]:
        """Return what is known of several tasks; what nothing is known of is not in it."""

    def forget(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""

    def open(self, joins: Sequence[Join]) -> Sequence[Message]:
        """Hear that barriers start to wait, before the first message of theirs is sent.

        Returns
        -------
        sequence of Message
            What has to be sent behind those: where slots are not counted, a ``celery.chord_unlock`` for each barrier.
        """

    def arrive(self, arrival: Arrival) -> list[tuple[Exit, str]] | None:
        """Fill a slot; the call that fills the last one, and no other, gets every slot's exit and filler."""

    def dispatched(self, join: Join) -> None:
        """Hear that what a full barrier causes has been sent: its slots are needed no more."""

    def watch(self, task_ids: Iterable[str], on_end: Callable[[str, Record], None]) -> Callable[[], None]:
        """Call `on_end` once for each of the tasks when it ends, or at once when it has; returns the way to stop."""

    def catch_up(self, task_ids: Iterable[str]) -> None:
        """Tell those who watch these tasks of the ends that are stored, and of which they have not heard yet."""

    def save_group(self, group_id: str, tree: Tree) -> None:
        """Keep a group's result tree under its id."""

    def restore_group(self, group_id: str) -> Tree | None:
        """Return a saved tree."""

    def delete_group(self, group_id: str) -> None:
        """Forget a saved tree."""

    def joins(self) -> Mapping[str, tuple[Join, int]]:
        """Return the barriers that wait, each with how many of its slots are filled."""

    def cleanup(self) -> None:
        """Drop what has expired (``result_expires``)."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is where it is kept; False when it is not there in time."""


def flush_all(backends: Collection[Backend], seconds: float) -> None:
    """Have several backends write what they have, in `seconds` for all: one that cannot write holds up no other."""
    until = monotonic() + seconds
    for backend in backends:
        backend.flush(0.0)  # begin
    for backend in backends:
        backend.flush(max(until - monotonic(), 0.0))
