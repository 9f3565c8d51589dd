"""The ledger port: how a worker takes messages, and writes down what came of them.

A ledger joins a broker and a result backend, because what a finished task causes concerns both: its result is stored,
what follows is sent, its slot is filled and its message acknowledged as one *step*, all of it or nothing.  Where both
are one Redis server a step, or a batch of them, is one script; anywhere else the order (results, slots, sending,
acknowledging) and ids that are known beforehand make a repeated step harmless.

Theory of operation
-------------------
`take` records a message as this worker's before the worker sees it.  It stays recorded until its step is committed,
whether its task acknowledges early or late; `started` records that its task begins.  A worker says that it lives with
`beat`.  What a silent worker had is given back by another one, and comes out of somebody's `take`; when its task had
begun with `began` set, and `redelivered` counted up.  An early-acknowledging task that had begun is not run a second
time, but ended as lost.

`commit` writes steps.  The fence: a step whose delivery is not this worker's any more (it was taken for dead) is not
performed.  The latch: when the task of a step is settled already (the same message was delivered twice) only its slot
is filled again, which changes nothing, and the message acknowledged.

A step that fills the last slot of a barrier is answered with everything in the slots, and its message is *not*
acknowledged: the worker asks `plan.release` what that causes, and commits that as a step of the same delivery that
`dispatches` the barrier.  A barrier is dispatched once, whoever asks.  A worker that dies in between leaves the message
to another one, which finds the task settled, fills the slot again, gets the same answer, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from nbcanvas.backend.port import Record
from nbcanvas.plan import Arrival, Exit, Join, Message
from nbcanvas.protocol.letter import Letter

__all__ = ["Answer", "Delivery", "Filled", "Ledger", "Step"]


class Delivery:
    """One message this worker has taken.

    Attributes
    ----------
    tag
        The ledger's name for it.
    queue
        Where it came from.
    letter
        The message; None when its envelope cannot be understood.
    raw
        The envelope as it came.
    redelivered
        How many workers were lost after they had begun its task.
    began
        Whether one of those had begun its task.
    ended
        How the task ended already, when that is known: it is not run again, but what follows it may not have been
        sent, so the step of this outcome is committed.
    """

    __slots__ = ("began", "ended", "letter", "queue", "raw", "redelivered", "tag")

    def __init__(
        self, tag: str, queue: str, letter: Letter | None, raw: bytes, redelivered: int = 0, *, began: bool = False
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.letter = letter
        self.raw = raw
        self.redelivered = redelivered
        self.began = began
        self.ended: Record | None = None

    def __repr__(self) -> str:
        return f"Delivery({self.tag!r} from {self.queue!r}: {self.letter!r})"


class Step(NamedTuple):
    """What a worked-on message causes; all of it happens, or none.

    Attributes
    ----------
    delivery
        The message, acknowledged with the step; None for a step that concerns none.
    message
        The same, decoded; None for one that could not be.
    task_id
        Whose settling decides whether the step is performed: the message's id.
    record
        How it ended, to be stored and announced; None when nothing is stored (``ignore_result``).
    skips
        ``(task id, record)`` of calls that end without running.
    opens
        Barriers that start to wait.
    sends
        Messages to publish.
    arrivals
        Exits to put into slots.
    dispatches
        The barrier that this step dispatches.
    keeps
        Do not acknowledge: more steps of this delivery follow.
    quiet
        The record is told to clients that listen, and not stored (``ignore_result``).
    began
        When the task began to run; None when it never did.
    """

    delivery: Delivery | None
    message: Message | None
    task_id: str | None
    record: Record | None = None
    skips: Sequence[tuple[str, Record]] = ()
    opens: Sequence[Join] = ()
    sends: Sequence[Message] = ()
    arrivals: Sequence[Arrival] = ()
    dispatches: Join | None = None
    keeps: bool = False
    quiet: bool = False
    began: float | None = None


class Filled(NamedTuple):
    """A barrier that is full and has not been dispatched.

    Attributes
    ----------
    join
        The barrier.
    exits
        For each slot in order, how it ended, and the id of the call that ended there.
    """

    join: Join
    exits: Sequence[tuple[Exit, str]]


class Answer(NamedTuple):
    """What became of a step.

    Attributes
    ----------
    performed
        False when the delivery was not this worker's any more, the task was settled already, or the barrier
        dispatched already.
    filled
        The barrier that the step filled; its delivery then is still unacknowledged.
    """

    performed: bool
    filled: Filled | None = None


class Ledger(Protocol):
    """See the module's text.  Every method may raise `nbcanvas.errors.ServerLost`, and may then be called again.

    Attributes
    ----------
    claims
        Whether of a message there may be two, so that a task that acknowledges late, too, is `started` before it runs.
    """

    claims: bool

    def connect(self) -> None:
        """Reach the servers, and say that this worker is there; to be called before anything else, until it is done.

        Raises
        ------
        AccessRefused
            When it is of no use to call again.
        """

    def take(self, limit: int, begin: int = 0, timeout: float | None = 1.0) -> Sequence[Delivery]:
        """Take up to `limit` messages, waiting `timeout` seconds for the first (None: until `wake`).

        The first `begin` of them are recorded as `started` in the same stroke.
        """

    def started(self, tags: Iterable[str], begun: bool = True) -> Sequence[str]:
        """Record that the tasks of these deliveries begin; or (`begun` False) that they do not, after all.

        Returns the tags that are not this worker's any more, so far as the ledger can tell: their tasks must not begin.
        """

    def runs(self, running: Iterable[tuple[Delivery, float]]) -> None:
        """Hear which tasks run for a while now, and since when: their clients are told, if they have not been.

        Of shorter ones they hear with the step (`Step.began`).
        """

    def commit(self, steps: Sequence[Step], then: tuple[int, int] | None = None) -> Sequence[Answer]:
        """Write steps; returns an answer for each, in order.

        `then` is the limit and the begin of the `take` that follows, when there is nothing else to do: the ledger may
        begin to wait for that in the same stroke.
        """

    def tell(self, client: str, root_id: str, events: Iterable[tuple[str, str, float, int, Any]]) -> None:
        """Tell a client, at once and as well as can be, what happens to tasks of one of its runs on their way.

        Parameters
        ----------
        client
            The ``reply_to`` of the messages.
        root_id
            Of the run.
        events
            ``(kind, task id, time, attempt, data)``, see `nbcanvas.events.event`; the data as JSON has it, and what
            JSON has not as a text.
        """

    def requeue(self, deliveries: Iterable[Delivery]) -> None:
        """Give messages back to the head of their queues."""

    def reject(self, delivery: Delivery, reason: str) -> None:
        """Take a message out of circulation, and keep it, with the reason, in the dead-letter list."""

    def beat(self) -> None:
        """Say that this worker lives, and adopt what silent ones had; to be called every second or so."""

    def consume(self, queue: str) -> None:
        """Take from one more queue."""

    def cancel(self, queue: str) -> None:
        """Take from a queue no more."""

    def queues(self) -> Sequence[Mapping[str, Any]]:
        """Describe the queues it takes from, with the keys of Celery's ``inspect active_queues``."""

    def wake(self) -> None:
        """Let the `take` that waits return, or the next one if none does."""

    def close(self) -> None:
        """Give back what was taken and not committed, and let go of the servers."""
