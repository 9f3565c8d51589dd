"""The ledger where broker and results are one Redis server: each batch of steps is one script.

A worker is its node name and a token, new for each start, so that what its predecessor of that name had is adopted
like that of any other.

======================================== ==========================================================================
``nbcanvas:workers``                     sorted set: worker -> its last beat, by the server's clock
``nbcanvas:workers:<worker>``            hash: the queues it takes from, the lists it ever took from, and more
``nbcanvas:unacked:<worker>``            hash: tag -> times lost, begun before, list, and the envelope
``nbcanvas:begun:<worker>``              set of the tags whose tasks have begun
``nbcanvas:inbox:<list>``                what dead workers had begun, as in unacked; for whoever takes from the list
``nbcanvas:handed:<worker>:<list>``      list that a waiting worker is handed messages into, by the server itself
``nbcanvas:dead``                        list of dead letters, the latest first; JSON
``nbcanvas:dead:count``                  how many there ever were
======================================== ==========================================================================

A worker with something to do asks for messages; one without is handed the next (`waiting`).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from time import monotonic, time
from typing import Any, Final, NamedTuple

from nbcanvas.backend.redis import RedisBackend
from nbcanvas.backend.redis.news import headline
from nbcanvas.backend.redis.steps import Written
from nbcanvas.broker.envelope import open_
from nbcanvas.broker.names import Names
from nbcanvas.broker.port import Writes
from nbcanvas.broker.redis import Lists
from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.plan.engine import Arrival
from nbcanvas.protocol.letter import Letter
from nbcanvas.protocol.signatures import CONTINUE_QUEUE
from nbcanvas.servers.queues import Queues, QueueSpec
from nbcanvas.servers.redis import RedisServer, Script, load_script

from .port import Answer, Delivery, Filled, Step
from .waiting import Waiting
from .writing import client_of, written

__all__ = ["RedisLedger"]

log = logging.getLogger("nbcanvas.ledger")

_TAKE, _HANDED, _AGAIN, _STARTED, _BEAT, _BACK, _REJECT, _LEAVE = (
    load_script(__package__, name) for name in ("take", "handed", "again", "started", "beat", "back", "reject", "leave")
)

#: Seconds between two looks at the lists of less urgent messages while nothing comes.
_GLANCE: Final = 0.05
#: The same, for the first look.
_GLANCE_FIRST: Final = 0.01
#: Seconds after which a dead worker is forgotten: until then the server may still hand it messages.
_FORGET: Final = 60.0
#: Dead letters that are kept.
_DEAD: Final = 100_000
#: Messages in one call of the script.
_AT_ONCE: Final = 1000
#: A property of messages that were given back after workers had died over them.
_LOST: Final = "nbcanvas_lost"


class _Places(NamedTuple):
    """The lists on the server that a worker takes from.

    Attributes
    ----------
    every, first
        All of them, the most urgent first; the most urgent one of each queue.
    handed
        For each of `first`, where messages of it are handed over.
    inboxes
        For each of `every`, where what dead workers had begun is.
    waits
        Those of `first` that an idle worker waits for: nobody is in a hurry where calls go on in a plan.
    glances
        Where else a message may be.
    queue_of
        The queue of each list.
    """

    every: Sequence[str]
    first: Sequence[str]
    handed: Sequence[str]
    inboxes: Sequence[str]
    waits: Sequence[str]
    glances: Sequence[str]
    queue_of: Mapping[str, str]


class RedisLedger:
    """See `nbcanvas.ledger.port`.

    Parameters
    ----------
    backend
        The results; its server is the broker's, too.
    post
        Writes messages as letters, and reads them.
    lists
        Which list a letter goes to.
    queues
        The queues of the settings.
    names
        The queues to take from.
    hostname
        The worker's node name.
    silence
        Seconds without a beat after which a worker is taken for dead.
    """

    #: A message is sent once, whatever becomes of the answer.
    claims = False

    def __init__(
        self,
        backend: RedisBackend,
        post: Writes,
        lists: Lists,
        queues: Queues,
        names: Iterable[str],
        hostname: str,
        *,
        silence: float = 5.0,
    ) -> None:
        self.worker = f"{hostname}:{os.urandom(4).hex()}"
        self._hostname = hostname
        self._backend = backend
        self._server: RedisServer = backend.server
        self._post = post
        self._lists = lists
        self._queues = queues
        self._silence = silence
        keys, prefix = Names(lists.prefix), f"{lists.prefix}nbcanvas:"
        self._workers, self._dead = keys.workers, keys.dead
        self._prefixes = [f"{prefix}{what}:" for what in ("unacked", "begun", "inbox", "handed")]
        self._unacked, self._begun = (f"{one}{self.worker}" for one in self._prefixes[:2])
        self._facts = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": time()})
        self._specs: dict[str, QueueSpec] = {}
        self._tag = 0
        self._take_more = 0, 0
        self._waiting = Waiting(self._server, _HANDED, self._handed, self._take_handed)
        self._was_idle = False
        self._looked = 0.0
        self._held: dict[str, tuple[Delivery, str]] = {}
        self._left: dict[str, Sequence[Arrival]] = {}
        self._woken = False
        self._bell = os.pipe()
        os.set_blocking(self._bell[0], False)
        self._closed = False
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        for name in names:
            self._specs[name] = _possible(queues[name])
        self._places = self._placed(self._specs)
        self._ever = dict.fromkeys(self._places.every)
        self._declared: set[str] = set()

    def __repr__(self) -> str:
        return f"<RedisLedger {self.worker!r} at {self._server.name}>"

    # -- taking -------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach the server, and say that this worker is there."""
        self.beat()

    def take(self, limit: int, begin: int = 0, timeout: float | None = 1.0) -> Sequence[Delivery]:
        """Take up to `limit` messages, waiting `timeout` seconds for the first (None: until `wake`).

        The first `begin` of them are recorded as `started` in the same stroke.
        """
        if limit <= 0:
            return ()
        until = None if timeout is None else monotonic() + timeout
        limit = min(limit, _AT_ONCE)
        with self._taking:
            if self._closed:
                return ()
            self._declare()
            found: Sequence[Delivery] = ()
            begun = self._waiting.begun
            if not begun and (not self._waits_at_once() or (until is not None and monotonic() >= until)):
                found = self._pop(limit, begin)
            if begun or not (found or self._is_woken() or (until is not None and monotonic() >= until)):
                found = self._wait(limit, begin, until)
                if not found:
                    self._is_woken()
            self._was_idle = len(found) < limit
            return found

    def _waits_at_once(self) -> bool:
        """Whether there is no need to look first: a list that was empty a moment ago is waited for as quickly."""
        if not self._was_idle or len(self._places.waits) != 1 or self._waiting.unsure:
            return False
        return monotonic() - self._looked <= _GLANCE

    def _pop(self, limit: int, begin: int) -> list[Delivery]:
        found = self._pop_again(limit, begin) if self._waiting.unsure else []
        if not found:
            places, tags = self._places, self._tags(limit)
            self._waiting.unsure.append(tags)
            flat = self._server.run(
                _TAKE,
                (self._unacked, self._begun, *places.handed, *places.every, *places.inboxes),
                (limit, begin, tags.start - 1, len(places.first), *places.first),
            )
            self._waiting.unsure.remove(tags)
            found = self._deliveries(flat)
        self._looked = monotonic()
        return found

    def _tags(self, many: int) -> range:
        """Return tags that no message has had."""
        tag = self._tag
        self._tag += many
        return range(tag + 1, self._tag + 1)

    def _handed(self, key: str) -> str:
        return f"{self._prefixes[3]}{self.worker}:{key}"

    def _pop_again(self, limit: int, begin: int) -> list[Delivery]:
        """Return what was taken and whose reply was lost: it is recorded as this worker's, and nobody has it."""
        self._waiting.lay()
        unsure = self._waiting.unsure
        found: list[Delivery] = []
        while unsure and not found:
            tags = unsure[0]
            found = self._deliveries(self._server.run(_AGAIN, (self._unacked, self._begun), (limit, begin, *tags)))
            if len(found) == limit:
                unsure[0] = range(int(found[-1].tag) + 1, tags.stop)
            else:
                del unsure[0]
        return found

    def _deliveries(self, flat: Sequence[bytes]) -> list[Delivery]:
        queue_of = self._places.queue_of
        found: list[Delivery] = []
        for at in range(0, len(flat), 5):
            tag, key, lost, begun, raw = flat[at : at + 5]
            found.append(self._delivery(tag.decode(), key.decode(), int(lost), begun == b"1", raw, queue_of))
        return found

    def _placed(self, specs: Iterable[str]) -> _Places:
        """Return which lists belong to some queues."""
        names = list(specs)
        rows = [self._lists.keys(name) for name in names]
        every = [key for step in zip(*rows, strict=True) for key in step]  # all queues' most urgent lists come first
        first = [row[0] for row in rows]
        handed = list(map(self._handed, first))
        inboxes = [f"{self._prefixes[2]}{key}" for key in every]
        waits = [row[0] for name, row in zip(names, rows, strict=True) if name != CONTINUE_QUEUE]
        glances = [*(key for key in every if key not in waits), *inboxes, *handed]
        queue_of = {key: name for name, row in zip(names, rows, strict=True) for key in row}
        return _Places(every, first, handed, inboxes, waits, glances, queue_of)

    def _delivery(
        self, tag: str, key: str, lost: int, begun: bool, raw: bytes, queue_of: Mapping[str, str]
    ) -> Delivery:
        queue = queue_of.get(key) or self._queue_of(key)
        letter: Letter | None
        try:
            letter = open_(raw, queue)
        except Exception:  # noqa: BLE001 - anything may stand in a list, and what came with it must not be lost
            letter = None
        if letter is not None:
            more = letter.properties.get(_LOST)
            lost += more if type(more) is int else 0
        delivery = Delivery(tag, queue, letter, raw, lost, began=begun)
        self._held[tag] = delivery, key
        return delivery

    def _queue_of(self, key: str) -> str:
        for step in self._lists.keys("")[1:]:
            key = key.removesuffix(step.removeprefix(self._lists.prefix))
        return key.removeprefix(self._lists.prefix)

    def _wait(self, limit: int, begin: int, until: float | None) -> Sequence[Delivery]:
        """Wait until a message is handed over, somebody wakes, or less urgent lists have something.

        Returns what was taken; nothing when somebody woke, or the time is over.
        """
        waiting = self._waiting
        places = self._places
        found: list[Delivery] = []
        pause = _GLANCE_FIRST
        self._take_more = limit, begin
        try:
            waiting.begin(places.waits)
            over = False
            while not (found or over):
                seconds = pause if until is None else min(until - monotonic(), pause)
                if seconds <= 0:
                    break
                come = waiting.come(seconds, self._bell[0])
                if come is None:
                    break
                for key in come:
                    taken = waiting.read(key)
                    over = over or taken is None
                    found += self._deliveries(taken or ())
                if not come:
                    pause = _GLANCE
                    over = bool(places.glances) and bool(self._server.ask("EXISTS", *places.glances))
            if over:
                found += self._pop(limit, begin)
            found += self._deliveries(waiting.stop())
            if len(found) > limit:  # several lists had something at the same time
                self.requeue(found[limit:])
        except BaseException:
            waiting.lose()
            waiting.unsure += [range(int(one.tag), int(one.tag) + 1) for one in found]
            raise
        return found[:limit]

    def _take_handed(self, key: str) -> tuple[Sequence[str], Sequence[int], range]:
        """Return the keys and arguments of what takes what is handed over of a list, and what it calls messages."""
        limit, begin = self._take_more
        tags = self._tags(limit)
        return (self._unacked, self._begun, self._handed(key), key), (limit, begin, tags.start - 1), tags

    def _is_woken(self) -> bool:
        with self._lock:
            woken, self._woken = self._woken, False
            if woken:
                os.read(self._bell[0], 4096)
            return woken or self._closed

    def wake(self) -> None:
        """Let the `take` that waits return, or the next one if none does."""
        with self._lock:
            if not self._woken and not self._closed:
                self._woken = True
                os.write(self._bell[1], b"!")

    def _declare(self) -> None:
        """Bind the queues to their exchanges, as kombu's consumers do, for those who publish to exchanges."""
        if self._declared.issuperset(self._specs):
            return
        fresh = {name: spec for name, spec in self._specs.items() if name not in self._declared}
        commands = [
            ("SADD", f"{self._lists.prefix}{table}{exchange}", member)
            for spec in fresh.values()
            for exchange, member in self._lists.bindings(spec)
            for table in ("_kombu.binding.", "_kombu.binding_permanent.")
        ]
        if commands:
            self._server.pipeline(commands)
        self._declared.update(fresh)

    # -- what began ---------------------------------------------------------------------------------------------------

    def started(self, tags: Iterable[str], begun: bool = True) -> Sequence[str]:
        """Record that the tasks of these deliveries begin; or (`begun` False) that they do not, after all.

        Returns the tags that are not this worker's any more: their tasks are not to begin.
        """
        tags = list(tags)
        if not tags:
            return ()
        gone = [tag.decode() for tag in self._server.run(_STARTED, (self._unacked, self._begun), (int(begun), *tags))]
        for tag in gone:
            self._held.pop(tag, None)
        return gone

    def runs(self, running: Iterable[tuple[Delivery, float]]) -> None:
        """Tell the clients whose tasks run for a while now; what cannot be told is not needed."""
        told: dict[str, list[str]] = {}
        for delivery, since in running:
            letter = delivery.letter
            client = client_of(letter)
            if letter is not None and client:
                line = _started(letter.headers, since, self._hostname)
                if line is not None:
                    told.setdefault(client, []).append(f"{line}\n")
        self._tell(told)

    def tell(self, client: str, root_id: str, events: Iterable[tuple[str, str, float, int, Any]]) -> None:
        """Tell a client, at once and as well as can be, what happens to its tasks on their way."""
        lines = [f"{headline(kind, id, attempt, at, root_id, data)}\n" for kind, id, at, attempt, data in events]
        self._tell({client: lines})

    def _tell(self, told: Mapping[str, Sequence[str]]) -> None:
        if not told:
            return
        news = self._backend.keys.news
        try:
            self._server.tell([(news + client, "\n".join(lines).encode()) for client, lines in told.items()])
        except Exception as error:  # noqa: BLE001 - the messages themselves must not be lost for it
            log.debug("nobody hears of what has started: %s", error)

    # -- steps --------------------------------------------------------------------------------------------------------

    def commit(self, steps: Sequence[Step], then: tuple[int, int] | None = None) -> Sequence[Answer]:
        """Write steps; returns an answer for each, in order.

        Raises
        ------
        ServerLost
            When the server is away: call it again with the same steps.
        NotSerializable
            When the result serializer refuses a value; nothing was done.
        """
        now = time()
        sealed = [self._written(step, now) for step in steps]
        answers = self._backend.committer.perform(sealed, self._unacked, self._begun, partial(self._run, then))
        made: list[Answer] = []
        for step, one, answer in zip(steps, sealed, answers, strict=True):
            filled = None if answer.filled is None else Filled(*answer.filled)
            made.append(Answer(answer.performed, filled))
            if filled is not None and answer.left:
                self._left[one.tag] = answer.left
            elif one.tag:
                self._left.pop(one.tag, None)
                if filled is None and not step.keeps:
                    self._held.pop(one.tag, None)
        return made

    def _run(self, then: tuple[int, int] | None, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Have a script run; if `then` is what will be taken next, begin to wait for that in the same write."""
        if then is not None and self._taking.acquire(blocking=False):
            try:
                if not (self._woken or self._closed or self._waiting.begun) and self._waits_at_once():
                    self._take_more = then
                    return self._waiting.run(self._places.waits[0], script, keys, args)
            finally:
                self._taking.release()
        return self._server.run(script, keys, args)

    def _written(self, step: Step, now: float) -> Written:
        delivery = step.delivery
        client = client_of(delivery.letter) if delivery is not None else ""
        tag = "" if delivery is None else delivery.tag
        sends = [self._post.write(one, client or None) for one in step.sends]  # what follows is for the same client
        return written(
            step,
            now,
            self._left.get(tag, ()),
            tag=tag,
            sends=self._lists.sealed(sends) if sends else (),
            dispatches=step.dispatches,
            keeps=step.keeps,
            began=None if step.began is None else (step.began, self._hostname),
        )

    # -- giving back --------------------------------------------------------------------------------------------------

    def requeue(self, deliveries: Iterable[Delivery]) -> None:
        """Give messages back to the head of their queues."""
        args: list[str | bytes] = []
        tags: list[str] = []
        for delivery in reversed(list(deliveries)):  # the first of them is to be the first again
            held = self._held.get(delivery.tag)
            if held is not None:
                args += (delivery.tag, held[1], _again(delivery))
                tags.append(delivery.tag)
        for start in range(0, len(args), 3 * _AT_ONCE):
            self._server.run(_BACK, (self._unacked, self._begun), args[start : start + 3 * _AT_ONCE])
        for tag in tags:
            self._held.pop(tag, None)
            self._left.pop(tag, None)

    def reject(self, delivery: Delivery, reason: str) -> None:
        """Take a message out of circulation, and keep it, with the reason, in the dead-letter list."""
        letter = {
            "reason": reason,
            "time": time(),
            "worker": self._hostname,
            "queue": delivery.queue,
            "redelivered": delivery.redelivered,
            **_raw(delivery.raw),
        }
        keys = (self._unacked, self._begun, self._dead, f"{self._dead}:count")
        self._server.run(_REJECT, keys, (delivery.tag, json.dumps(letter), _DEAD))
        self._held.pop(delivery.tag, None)
        self._left.pop(delivery.tag, None)

    # -- living -------------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Say that this worker lives, and give back what silent ones had; to be called every second or so."""
        adopted, portion = 0, _AT_ONCE
        while portion > _AT_ONCE // 2 and not self._closed:  # the server does other things in between
            mine = self._places.every
            portion = self._server.run(
                _BEAT,
                (self._workers,),
                (
                    self.worker,
                    self._silence,
                    _FORGET,
                    _AT_ONCE,
                    *self._prefixes,
                    "\n".join(self._specs),
                    "\n".join(list(self._ever)),
                    self._facts,
                    *mine,
                ),
            )
            adopted += portion
        if adopted:
            log.warning("%d messages of workers that are gone are given to those that are there", adopted)

    def consume(self, queue: str) -> None:
        """Take from one more queue."""
        self._specs = {**self._specs, queue: _possible(self._queues[queue])}
        self._places = self._placed(self._specs)
        self._ever.update(dict.fromkeys(self._lists.keys(queue)))
        self.wake()

    def cancel(self, queue: str) -> None:
        """Take from a queue no more."""
        name = self._lists.key(queue)
        self._specs = {one: spec for one, spec in self._specs.items() if one != queue}
        self._places = self._placed(self._specs)
        self.wake()
        with self._taking:  # nothing is handed over for it any more
            while self._server.call("LMOVE", self._handed(name), name, "LEFT", "RIGHT") is not None:
                pass

    def queues(self) -> Sequence[Mapping[str, Any]]:
        """Describe the queues it takes from, with the keys of Celery's ``inspect active_queues``."""
        return [spec.described() for spec in list(self._specs.values())]

    def close(self) -> None:
        """Give back what was taken and not committed, and let go of the servers."""
        with self._lock:
            if self._closed:
                return
            self._woken, self._closed = True, True
            os.write(self._bell[1], b"!")
        with self._taking:
            places = self._places
            try:
                self._waiting.close()
                for tags in self._waiting.unsure:  # nobody began these
                    self._server.run(_STARTED, (self._unacked, self._begun), (0, *tags))
                self._server.run(
                    _LEAVE, (self._workers, self._unacked, self._begun, *places.handed), (self.worker, *places.first)
                )
            finally:
                self._held.clear()
                for end in self._bell:
                    os.close(end)


def _possible(spec: QueueSpec) -> QueueSpec:
    if spec.exchange_type == "fanout":
        msg = (
            f"queue {spec.name!r} hears the fanout exchange {spec.exchange!r}, which nbcanvas's workers on Redis do not"
        )
        raise ImproperlyConfigured(msg)
    return spec


def _started(headers: Mapping[str, Any], since: float, worker: str) -> str | None:
    """Return the news that a task began."""
    task_id, root_id = headers.get("id"), headers.get("root_id")
    if not isinstance(task_id, str):
        return None
    retries, nesting = headers.get("retries"), headers.get("replaced_task_nesting")
    attempt = (retries if type(retries) is int else 0) + ((nesting if type(nesting) is int else 0) << 20)
    root = root_id if isinstance(root_id, str) else task_id
    return headline("started", task_id, attempt, since, root, worker)


def _again(delivery: Delivery) -> bytes:
    """Return an envelope with kombu's marks of a message that was given back, and ours of workers that died of it."""
    try:
        found = json.loads(delivery.raw)
        found["headers"]["redelivered"] = True
        found["properties"]["delivery_info"]["redelivered"] = True
        if delivery.redelivered:
            found["properties"][_LOST] = delivery.redelivered
    except (ValueError, TypeError, KeyError):
        return delivery.raw
    return json.dumps(found).encode()


def _raw(raw: bytes) -> dict[str, str]:
    """Return an envelope as JSON has it."""
    try:
        return {"raw": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"raw_base64": b64encode(raw).decode("ascii")}
