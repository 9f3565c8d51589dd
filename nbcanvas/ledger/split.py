"""The ledger of two servers: a broker of kombu's (RabbitMQ above all) and any result backend.

Theory of operation
-------------------
No transaction spans both, so the order does the work: results are stored, slots filled, messages sent (and confirmed),
and only then the message is acknowledged.  Whoever dies in between leaves an unacknowledged message, which the broker
delivers to somebody else, marked.  A marked message is looked up in the backend before anybody works on it:

* its task has ended: it comes out of `take` with how it ended; what follows may not have been sent, so that is done
  again.  What is sent again has the ids it had, and says so in a header, which has the receiver look first, too; where
  the task has ended then, whoever had the first message of it sees to the rest.
* its task had begun (`started` stores Celery's STARTED, with the process that runs it): is that process alive, the
  message waits here until the task has ended or the process is gone; then it comes out as one that began.
* neither: it is like new.

A message may also be there twice: a sender that heard no confirmation sends it again, and says so in the same header.
Both may be taken at once, and nothing marks the first one.  So what says that a task begins is a claim: of one attempt
there is one, stored in the stroke that looks for others (`storing.Mark`).  Where another living process has it, or the
task ended after the message had come here, the task does not begin, and the message is judged as a marked one is.  A
task that had ended before its message came is another matter: somebody uses its id again.

A process is alive while its connection holds an exclusive queue (AMQP); a process that lost its connection gets a few
seconds to come back, in which this one has to be awake, too.  What comes back to the process that still works on it
takes the place of the lost delivery.
A backend that keeps nothing (``rpc://``) knows nothing of all that: there, a message that comes again counts as one
that began, so what acknowledges early is never run twice, and ends as lost instead; but one that was sent twice runs
twice, as it does in Celery.  So does, one after the other, a task that leaves no result (``ignore_result``); and where
nothing says which processes live (any transport but AMQP), whoever began a task counts as dead.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from nbcanvas import states
from nbcanvas.backend.port import Backend, Record
from nbcanvas.backend.rpc import RPCBackend
from nbcanvas.broker.kombu import KombuBroker
from nbcanvas.broker.port import Writes
from nbcanvas.errors import ServerLost
from nbcanvas.protocol.letter import Letter
from nbcanvas.protocol.payload import Held
from nbcanvas.servers.kombu import Arrived, KombuServer
from nbcanvas.servers.queues import Queues, QueueSpec

from .consumer import Consumer
from .port import Answer, Delivery, Step
from .storing import Mark, Stored, said, store_for
from .taken import (
    Key,
    Taken,
    addressed,
    came_before,
    client_of,
    concerns,
    gives_way,
    is_other,
    key_of,
    runs,
    was_had,
    was_lost,
    whole,
)

__all__ = ["DEAD", "SplitLedger"]

#: Where messages are kept that nobody can work on.
DEAD: Final = "nbcanvas.dead"
_DEAD: Final = QueueSpec(DEAD)
#: Seconds a process may be without its connection before it counts as dead.
_GRACE: Final = 5.0
#: Of those, how many at most may pass between two looks (one for each beat): what goes beyond is a pause of one's own.
_LOOK: Final = 1.5
#: Of messages committed without their acknowledgement, how many are remembered.
_REMEMBERED: Final = 10_000

#: States that backends store.
_KEPT: Final = states.READY_STATES | {states.RETRY}

#: A task nobody sent; to hear whether the backend answers.
_NOBODY: Final = "nbcanvas.nobody"


class _Progress:
    """How far a step has come; a commit that failed goes on from there."""

    __slots__ = ("sending", "sent", "step", "stored", "tried")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.tried = False
        self.sending = False
        self.stored: Stored | None = None
        self.sent = False


class SplitLedger:
    """See `nbcanvas.ledger.port.Ledger`, and above.

    Parameters
    ----------
    server
        The broker to take from.
    broker
        What to publish with.
    backend
        Where results are kept.
    post
        Makes letters of messages.
    queues, names
        The queues there are, and those to take from.
    hostname
        The worker's node name.
    heartbeat
        Seconds between AMQP's heartbeats (``broker_heartbeat``).

    Attributes
    ----------
    claims
        See the port.
    """

    def __init__(
        self,
        server: KombuServer,
        broker: KombuBroker,
        backend: Backend,
        post: Writes,
        queues: Queues,
        names: Sequence[str],
        hostname: str,
        *,
        heartbeat: float = 120.0,
    ) -> None:
        self._driver = server.driver
        self._name = server.name
        self._broker = broker
        self._backend = backend
        self._post = post
        self._hostname = hostname
        self._store = store_for(backend)
        self._replies = backend if isinstance(backend, RPCBackend) else None
        self.claims = self._replies is None
        self._consumer = Consumer(server, queues, names, hostname, heartbeat, held=self._held, lost=self._lost)
        self._lock = self._consumer.lock
        # Messages somebody else may still work on; when that one was last seen to be away, and for how long so far.
        self._doubts: list[Arrived] = []
        self._away: dict[Any, tuple[float, float]] = {}
        self._refused: set[Any] = set()  # the tags of those that must not begin, and are to be judged
        self._taken: dict[str, Taken] = {}
        self._here: dict[Key, Taken] = {}  # the same, of those that are tasks
        self._present: set[str] = set()  # those that came over the link there is
        # What was given back when a mark may have been stored, or not: task id -> the delivery as it was.
        self._unsure: dict[str, Delivery] = {}
        self._done: dict[Key, None] = {}
        self._counter = itertools.count(1)
        self._steps: dict[int, _Progress] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<SplitLedger of {self._hostname} at {self._name}>"

    # -- taking -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach broker and backend, and make the queues that are missing; nothing is taken yet."""
        self._consumer.connect()
        if self._replies is None:
            self._backend.get(_NOBODY)

    def take(self, limit: int, begin: int = 0, timeout: float | None = 1.0) -> Sequence[Delivery]:
        """Take up to `limit` messages; see the port."""
        until = None if timeout is None else monotonic() + timeout
        while True:
            if self._consumer.is_woken():
                return ()
            with self._lock:
                if self._closed:
                    return ()
                link = self._consumer.read(limit)
                buffer = self._consumer.buffer
                arrived = [buffer.popleft() for _ in range(min(limit, len(buffer)))]
                generation = self._consumer.generation
            deliveries = self._worked_through(arrived, generation, begin) if arrived else []
            if deliveries:
                return deliveries
            left = 1.0 if until is None else until - monotonic()
            if left <= 0:
                return ()
            self._consumer.wait(link, min(left, 1.0))

    def _worked_through(self, arrived: Sequence[Arrived], generation: int, begin: int) -> list[Delivery]:
        """Make deliveries of what came, the first of which begin; if that fails, all of it stands where it stood."""
        left = deque(arrived)
        found: list[tuple[Arrived, Delivery]] = []
        try:
            self._judge_all(left, generation, found)
            if begin:
                self._begin(found, begin)
        except BaseException:
            with self._lock:
                for _, delivery in found:
                    taken = self._forget(delivery.tag)
                    if taken is not None and taken.marked:  # and has not begun
                        self._unsure[str(taken.key[0])] = delivery
                if generation == self._consumer.generation:
                    self._consumer.buffer.extendleft(reversed([*[one for one, _ in found], *left]))
            raise
        return [delivery for _, delivery in found]

    def _begin(self, found: list[tuple[Arrived, Delivery]], begin: int) -> None:
        """Mark the first of these; what must not begin is among them no longer, and others are the first then."""
        asked: set[str] = set()
        while True:
            with self._lock:
                first = [self._taken.get(one.tag) for _, one in found[:begin] if one.tag not in asked and runs(one)]
            todo = [one for one in first if one is not None]
            if not todo:
                return
            asked.update(one.delivery.tag for one in todo)
            refused = self._mark(todo)
            self._judge_again(refused)
            gone = {one.delivery.tag for one, _ in refused}
            found[:] = [pair for pair in found if pair[1].tag not in gone]

    def _held(self) -> int:
        return len(self._present) + len(self._doubts)

    def _lost(self) -> None:
        """Forget what came over a link that is gone, and was not taken: it comes again."""
        self._present.clear()
        self._doubts.clear()
        self._away.clear()
        self._refused.clear()

    # -- what came before ---------------------------------------------------------------------------------------------

    def _judge_all(self, left: deque[Arrived], generation: int, found: list[tuple[Arrived, Delivery]]) -> None:
        """Move what came from `left` to `found`, as deliveries; what somebody may still work on waits elsewhere."""
        known: Mapping[str, Record] = {}
        asked = [task_id for one in left if self._is_doubtful(one) and (task_id := key_of(one.letter)[0]) is not None]
        if asked and self._replies is None:
            known = self._backend.get_many(asked)
        with self._lock:
            while left:
                if generation != self._consumer.generation:  # the link broke meanwhile: all of them come again
                    for _, early in found:
                        self._forget(early.tag)
                    found.clear()
                    return
                delivery = self._judge(left[0], known)
                one = left.popleft()
                if delivery is not None:
                    found.append((one, delivery))

    def _judge(self, one: Arrived, known: Mapping[str, Record]) -> Delivery | None:
        key = key_of(one.letter)
        mine = self._here.get(key)
        if mine is None and not self._is_doubtful(one):
            return self._deliver(one, key)
        if self._is_here(one, key, mine):
            return None
        if self._replies is not None:
            return self._deliver(one, key, began=one.redelivered)
        record = known.get(key[0]) if key[0] is not None else None
        return self._deliver(one, key) if record is None else self._go_on(one, key, record)

    def _go_on(self, one: Arrived, key: Key, record: Record) -> Delivery | None:
        """Deliver a message of whose task something is known, if there is something left to do."""
        if record.state == states.STARTED:
            return self._take_over(one, key, said(record))
        if record.state not in states.READY_STATES:
            return self._deliver(one, key)
        if was_had(one) or record.state == states.REVOKED:  # which may be the word of who revoked it, and no more
            return self._deliver(one, key, ended=record)
        # Another message of this call brought it to its end; whoever has that one sees to what follows.
        self._drop(one)
        return None

    def _is_doubtful(self, one: Arrived) -> bool:
        """Whether somebody else may have, or have had, this message, or another one of the same call."""
        return came_before(one) or one.tag in self._refused

    def _is_here(self, one: Arrived, key: Key, mine: Taken | None) -> bool:
        """Whether this worker has, or has done, what came again; it then needs no second delivery."""
        if key[0] is None:
            return False
        if key in self._done and came_before(one):  # committed, when it could not be acknowledged
            del self._done[key]
            self._consumer.ack(self._consumer.generation, one.tag)
            return True
        if mine is None:
            return False
        if not came_before(one):  # it was sent twice: this one is looked at when the other one has ended
            self._refused.add(one.tag)
            self._doubts.append(one)
            return True
        if mine.generation == self._consumer.generation:  # two messages of one call: the first one is enough
            self._consumer.ack(self._consumer.generation, one.tag)
        else:
            mine.generation, mine.tag, mine.arrived = self._consumer.generation, one.tag, one
            self._present.add(mine.delivery.tag)
        return True

    def _drop(self, one: Arrived) -> None:
        self._refused.discard(one.tag)
        self._away.pop(one.tag, None)
        self._consumer.ack(self._consumer.generation, one.tag)

    def _take_over(self, one: Arrived, key: Key, claim: Mapping[str, Any]) -> Delivery | None:
        """Deliver a message whose task is under way; not while the process that began it lives."""
        again = came_before(one)
        if is_other(claim, key):
            return self._deliver(one, key, over=claim)
        if claim.get("done") and again:
            self._drop(one)
            return None
        before = self._unsure.get(str(key[0]))
        if before is not None and self._is_own(claim):
            return self._deliver(one, key, began=before.began, times=before.redelivered, over=claim)
        if self._may_live(one.tag, claim):
            self._doubts.append(one)
            return None
        # Nobody has begun what comes for the first time: somebody died with another message of this id.
        return self._deliver(one, key, began=again, times=whole(claim.get("times")), over=claim)

    def _is_own(self, claim: Mapping[str, Any]) -> bool:
        """Whether a claim is this process's, or an earlier one's of its name."""
        return (claim.get("hostname"), claim.get("pid")) == (self._hostname, os.getpid())

    def _may_live(self, tag: Any, claim: Mapping[str, Any]) -> bool:
        """Whether the process that began a task lives, or lost its connection only a moment ago."""
        if self._lives(claim):
            self._away.pop(tag, None)
            return True
        now = monotonic()
        last, away = self._away.pop(tag, (now, 0.0))
        away += min(now - last, _LOOK)
        if self._driver != "amqp" or away > _GRACE:
            return False
        self._away[tag] = now, away
        return True

    def _lives(self, claim: Mapping[str, Any]) -> bool:
        """Whether the process that began a task has a connection now."""
        if self._is_own(claim):
            return False  # here, and not known here: an earlier process of this name, or given up
        return self._consumer.lives(claim.get("hostname"), claim.get("pid"))

    def _deliver(
        self,
        one: Arrived,
        key: Key,
        *,
        ended: Record | None = None,
        began: bool = False,
        times: int = 0,
        over: Mapping[str, Any] | None = None,
    ) -> Delivery:
        name = str(next(self._counter))
        # What the server counts (quorum queues) are messages given back as well; it has to do where nothing is marked.
        again = max(times, int(self._is_doubtful(one)), one.times if self._replies is not None else 0)
        self._away.pop(one.tag, None)
        self._refused.discard(one.tag)
        delivery = Delivery(name, one.letter.queue, one.letter, one.letter.body, again, began=began)
        delivery.ended = ended
        self._taken[name] = taken = Taken(delivery, self._consumer.generation, one, key, over)
        self._present.add(name)
        if key[0] is not None:
            self._here[key] = taken
        if self._replies is not None and key[0] is not None:
            self._replies.address(key[0], one.letter.properties.get("reply_to"))
        return delivery

    def _forget(self, tag: str) -> Taken | None:
        """Let go of a message; whoever wants its result is known no longer, unless the same task is here again."""
        self._present.discard(tag)
        taken = self._taken.pop(tag, None)
        if taken is not None and self._here.get(taken.key) is taken:
            del self._here[taken.key]
        if taken is None or self._replies is None or taken.key[0] is None:
            return taken
        if all(other.key[0] != taken.key[0] for other in self._taken.values()):
            self._replies.address(taken.key[0], None)
        return taken

    # -- marks --------------------------------------------------------------------------------------------------------

    def started(self, tags: Iterable[str], begun: bool = True) -> Sequence[str]:
        """Record that the tasks of these deliveries begin; or that they do not, after all."""
        with self._lock:
            taken = [found for tag in tags if (found := self._taken.get(tag)) is not None]
        if begun:
            refused = self._mark([one for one in taken if not one.marked and one.delivery.ended is None])
            self._judge_again(refused)
            return [one.delivery.tag for one, _ in refused]
        marked = [one for one in taken if one.marked]
        for one in marked:
            one.marked = False
        if marked:
            self._backend.forget([one.key[0] for one in marked])
        return ()

    def _mark(self, taken: Sequence[Taken]) -> list[tuple[Taken, Record]]:
        """Store that tasks begin; returns those that must not, each with what stands in the way."""
        claiming = [one for one in taken if one.key[0] is not None]
        if self._replies is not None or not claiming:
            return []
        ids = {str(one.key[0]): one.delivery for one in claiming}
        self._unsure |= ids
        found = self._store.mark([self._mark_of(one, {"times": one.delivery.redelivered + 1}) for one in claiming])
        for task_id in ids:
            self._unsure.pop(task_id, None)
        refused: list[tuple[Taken, Record]] = []
        for one, record in zip(claiming, found, strict=True):
            if record is None:
                one.marked = True
            elif concerns(record, one.arrived):
                refused.append((one, record))
        return refused

    def _judge_again(self, refused: Sequence[tuple[Taken, Record]]) -> None:
        """Let go of messages whose task must not begin: they are judged, at once or when whoever has it is done."""
        with self._lock:
            for one, record in refused:
                self._forget(one.delivery.tag)
                if one.generation != self._consumer.generation:
                    continue  # it comes again
                self._refused.add(one.tag)
                if record.state in states.READY_STATES:
                    self._consumer.buffer.append(one.arrived)
                else:
                    self._doubts.append(one.arrived)
        if refused:
            self._consumer.interrupt()

    def _mark_of(self, one: Taken, more: Mapping[str, Any]) -> Mark:
        claim = {"pid": os.getpid(), "hostname": self._hostname, "attempt": [*one.key[1:]], **more}
        _, retries, nesting = one.key
        record = Record(
            states.STARTED, Held(claim), settled=retries + (nesting << 20), worker=self._hostname, retries=retries
        )
        letter = one.delivery.letter
        root_id = letter.headers.get("root_id") if letter is not None else None
        root_id = str(root_id or one.key[0])
        return Mark(str(one.key[0]), record, client_of(one.delivery) or "", root_id, partial(gives_way, one))

    # -- committing ---------------------------------------------------------------------------------------------------

    def commit(self, steps: Sequence[Step], then: tuple[int, int] | None = None) -> Sequence[Answer]:
        """Write steps, all results first, then what is sent, then acknowledgements."""
        try:
            return self._commit([self._steps.setdefault(id(step), _Progress(step)) for step in steps])
        except ServerLost:
            raise
        except BaseException:
            if len(steps) == 1:  # of several, the others are committed by themselves now
                self._steps.pop(id(steps[0]), None)
            raise

    def _commit(self, progress: Sequence[_Progress]) -> Sequence[Answer]:
        # Whatever cannot be is refused before anything is written.
        write = self._post.write
        written = [[write(message) for message in one.step.sends] if not one.sent else [] for one in progress]
        if self._replies is not None:
            for one in progress:
                self._replies.open(one.step.opens)
        self._store_all([one for one in progress if one.stored is None])
        letters: list[Letter] = []
        for one, own in zip(progress, written, strict=True):
            if one.stored is not None and one.stored.performed and not one.sent:
                following = [*own, *map(write, one.stored.unlocks)]
                letters += addressed(one.step.delivery, following, again=one.sending)
                one.sending = True
        if letters:
            self._broker.deliver(letters)
        for one in progress:
            one.sent = True
        self._store.dispatched([one.step.dispatches for one in progress if one.step.dispatches is not None])
        answers = [self._finished(one) for one in progress]
        for one in progress:
            self._steps.pop(id(one.step), None)
        return answers

    def _store_all(self, progress: Sequence[_Progress]) -> None:
        """Store results and fill slots of steps whose delivery is this worker's."""
        mine: list[_Progress] = []
        for one in progress:
            delivery = one.step.delivery
            if delivery is not None and delivery.tag not in self._taken:
                one.stored = Stored(False)
            else:
                mine.append(one)
        if not mine:
            return
        # What a worker that died has stored, or this one in an attempt that failed, is no reason to send nothing.
        steps = [(one.step, one.tried or was_lost(one.step.delivery)) for one in mine]
        for one in mine:
            one.tried = True
            self._unmark(one.step)
        self._address_skips(mine, known=True)
        try:
            for one, stored in zip(mine, self._store.store(steps), strict=True):
                one.stored = stored
        finally:
            self._address_skips(mine, known=False)

    def _address_skips(self, progress: Sequence[_Progress], *, known: bool) -> None:
        """Say whom to tell of what will not run; and that it has been."""
        if self._replies is not None:
            for one in progress:
                if one.step.delivery is not None:
                    for task_id, _ in one.step.skips:
                        self._replies.address(task_id, client_of(one.step.delivery) if known else None)

    def _unmark(self, step: Step) -> None:
        """Take back the mark of a task whose end is not stored, before what follows it may store another one."""
        if _is_kept(step) or step.keeps:
            return
        with self._lock:
            taken = self._taken.get(step.delivery.tag) if step.delivery is not None else None
            if taken is None or not taken.marked:
                return
            taken.marked = False
        self._backend.forget([taken.key[0]])

    def _finished(self, one: _Progress) -> Answer:
        step, stored = one.step, one.stored or Stored(False)
        if step.delivery is not None and stored.filled is None and not step.keeps:
            self._done_with(step.delivery, stored=_is_kept(step))
        return Answer(stored.performed, stored.filled)

    def _done_with(self, delivery: Delivery, *, stored: bool) -> None:
        with self._lock:
            taken = self._forget(delivery.tag)
            if taken is None:
                return
            self._unsure.pop(str(taken.key[0]), None)
            acknowledged = self._consumer.ack(taken.generation, taken.tag)
            if not acknowledged and taken.key[0] is not None:
                self._done[taken.key] = None
                while len(self._done) > _REMEMBERED:
                    del self._done[next(iter(self._done))]
        if not acknowledged and not stored and self._replies is None and taken.key[0] is not None:
            # It comes again, perhaps to somebody who knows nothing else of it.
            self._store.mark([self._mark_of(taken, {"done": True})._replace(over=lambda _: True)])

    def runs(self, running: Iterable[tuple[Delivery, float]]) -> None:
        """Do nothing: that a task begins was stored before, and told with that."""

    def tell(self, client: str, root_id: str, events: Iterable[tuple[str, str, float, int, Any]]) -> None:
        """Tell a client what happens to its tasks on their way, where the result backend can."""
        self._store.tell(client, root_id, events)

    # -- giving back --------------------------------------------------------------------------------------------------

    def requeue(self, deliveries: Iterable[Delivery]) -> None:
        """Give messages back to the head of their queues."""
        marked: list[str] = []
        unsure: list[str] = []
        # RabbitMQ knows where a message stood; anywhere else the last one given back is the first.
        given = [*deliveries] if self._driver == "amqp" else [*deliveries][::-1]
        with self._lock:
            for delivery in given:
                taken = self._forget(delivery.tag)
                if taken is None:
                    continue
                if taken.marked:
                    marked.append(taken.key[0])
                elif self._unsure.pop(str(taken.key[0]), None) is not None:
                    unsure.append(taken.key[0])
                self._consumer.give_back(taken.generation, taken.tag)
        self._take_back(marked, unsure)

    def _take_back(self, marked: Sequence[str], unsure: Sequence[str]) -> None:
        """Take back marks; of those that may be another process's, this one's."""
        known = self._backend.get_many(unsure) if unsure else {}
        own = [one for one, record in known.items() if record.state == states.STARTED and self._is_own(said(record))]
        if marked or own:
            self._backend.forget([*marked, *own])

    def reject(self, delivery: Delivery, reason: str) -> None:
        """Take a message out of circulation, and keep it in the queue ``nbcanvas.dead``, with the reason."""
        letter = delivery.letter
        if letter is not None:
            headers = {
                **letter.headers,
                "nbcanvas_reason": reason[:2000],
                "nbcanvas_queue": delivery.queue,
                "nbcanvas_worker": self._hostname,
            }
            kept = Letter(
                DEAD,
                headers,
                letter.body,
                {**letter.properties, "delivery_mode": 2, "expiration": None},
                0,
                letter.content_type,
                letter.content_encoding,
            )
            self._broker.deliver([kept], _DEAD)
        self._done_with(delivery, stored=True)

    # -- the rest -----------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Keep the connection alive, and look again at what somebody else may still work on."""
        with self._lock:
            self._consumer.beat()
            doubts, self._doubts = self._doubts, []
            self._consumer.buffer.extend(doubts)
        if doubts:
            self._consumer.interrupt()

    def consume(self, queue: str) -> None:
        """Take from one more queue."""
        self._consumer.consume(queue)

    def cancel(self, queue: str) -> None:
        """Take from a queue no more."""
        self._consumer.cancel(queue)

    def queues(self) -> Sequence[Mapping[str, Any]]:
        """Describe the queues it takes from."""
        return self._consumer.queues()

    def wake(self) -> None:
        """Let the `take` that waits return, or the next one if none does."""
        self._consumer.wake()

    def close(self) -> None:
        """Give back what was taken and not committed, and let go of the broker."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            marked = {one.key[0] for one in self._taken.values() if one.marked}
            unsure = [*self._unsure.keys() - marked]
            self._taken.clear()
            self._here.clear()
            self._consumer.lose()
        self._consumer.wake()
        self._take_back([*marked], unsure)
        self._consumer.close()


def _is_kept(step: Step) -> bool:
    """Whether a step leaves something in the backend that tells of its task's end."""
    kept = step.record is not None and not step.quiet and step.record.state in _KEPT
    return step.dispatches is not None or kept
