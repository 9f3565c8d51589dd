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
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic, time
from typing import Any, Final

from nbcanvas.backend.redis import RedisBackend
from nbcanvas.backend.redis.news import headline
from nbcanvas.backend.redis.steps import Written
from nbcanvas.broker.envelope import open_
from nbcanvas.broker.port import Writes
from nbcanvas.broker.redis import Lists
from nbcanvas.errors import CanvasError, ImproperlyConfigured, ServerLost
from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.times import moment
from nbcanvas.protocol.letter import Letter
from nbcanvas.servers.queues import Queues, QueueSpec
from nbcanvas.servers.ready import ready
from nbcanvas.servers.redis import Link, RedisServer, load_script

from .port import Answer, Delivery, Filled, Step
from .writing import client_of, written

__all__ = ["RedisLedger"]

log = logging.getLogger("nbcanvas.ledger")

_TAKE, _AGAIN, _STARTED, _BEAT, _BACK, _REJECT, _LEAVE = (
    load_script(__package__, name) for name in ("take", "again", "started", "beat", "back", "reject", "leave")
)

#: Seconds between two looks at the lists of less urgent messages while nothing comes.
_GLANCE: Final = 0.05
#: Seconds the server waits for a message to hand over, at a time.
_WAIT: Final = 5
#: Seconds after which a dead worker is forgotten: until then the server may still hand it messages.
_FORGET: Final = 60.0
#: Dead letters that are kept.
_DEAD: Final = 100_000
#: Messages in one call of the script.
_AT_ONCE: Final = 1000
#: A property of messages that were given back after workers had died over them.
_LOST: Final = "nbcanvas_lost"


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
        prefix = f"{lists.prefix}nbcanvas:"
        self._workers = f"{prefix}workers"
        self._prefixes = [f"{prefix}{what}:" for what in ("unacked", "begun", "inbox", "handed")]
        self._unacked, self._begun = (f"{one}{self.worker}" for one in self._prefixes[:2])
        self._dead = f"{prefix}dead"
        self._facts = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": time()})
        self._specs: dict[str, QueueSpec] = {}
        self._links: dict[str, Link] = {}
        self._tag = 0
        self._unsure = range(0)  # tags of a take whose reply was lost
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
        self._ever = dict.fromkeys(self._keys())
        self._declared: set[str] = set()

    def __repr__(self) -> str:
        return f"<RedisLedger {self.worker!r} at {self._server.name}>"

    # -- taking -------------------------------------------------------------------------------------------------------

    def take(self, limit: int, begin: int = 0, timeout: float | None = 1.0) -> Sequence[Delivery]:
        """Take up to `limit` messages, waiting `timeout` seconds for the first (None: until `wake`).

        The first `begin` of them are recorded as `started` in the same stroke.
        """
        if limit <= 0:
            return ()
        until = None if timeout is None else monotonic() + timeout
        with self._taking:
            if self._closed:
                return ()
            while True:
                self._declare()
                found = self._pop(min(limit, _AT_ONCE), begin)
                if found or self._is_woken() or (until is not None and monotonic() >= until):
                    return found
                self._wait(until)

    def _pop(self, limit: int, begin: int) -> Sequence[Delivery]:
        found = self._pop_again(limit, begin) if self._unsure else []
        if not found:
            names = list(self._specs)
            rows = [self._lists.keys(name) for name in names]
            first = [row[0] for row in rows]
            keys = [key for step in zip(*rows, strict=True) for key in step]  # all queues' most urgent lists come first
            handed = [f"{self._prefixes[3]}{self.worker}:{key}" for key in first]
            tag = self._tag
            self._tag += limit
            self._unsure = range(tag + 1, tag + limit + 1)
            flat = self._server.run(
                _TAKE,
                (self._unacked, self._begun, *handed, *keys, *self._inboxes(keys)),
                (limit, begin, tag, len(first), *first),
            )
            self._unsure = range(0)
            found = self._deliveries(flat)
        if begin and found:
            self._tell_started(found[:begin], waits=True)
        return found

    def _pop_again(self, limit: int, begin: int) -> list[Delivery]:
        """Return what a take took whose reply was lost: it is recorded as this worker's, and nobody has it."""
        unsure = self._unsure
        found = self._deliveries(self._server.run(_AGAIN, (self._unacked, self._begun), (limit, begin, *unsure)))
        self._unsure = range(int(found[-1].tag) + 1, unsure.stop) if len(found) == limit else range(0)
        return found

    def _deliveries(self, flat: Sequence[bytes]) -> list[Delivery]:
        queue_of = {key: name for name in list(self._specs) for key in self._lists.keys(name)}
        found: list[Delivery] = []
        for at in range(0, len(flat), 5):
            tag, key, lost, begun, raw = flat[at : at + 5]
            found.append(self._delivery(tag.decode(), key.decode(), int(lost), begun == b"1", raw, queue_of))
        return found

    def _keys(self) -> list[str]:
        """Return all lists it takes from."""
        return [key for name in list(self._specs) for key in self._lists.keys(name)]

    def _inboxes(self, keys: Iterable[str]) -> list[str]:
        return [f"{self._prefixes[2]}{key}" for key in keys]

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

    def _wait(self, until: float | None) -> None:
        """Wait until a message is handed over, somebody wakes, or less urgent lists have something."""
        links = self._waiting_links()
        keys = self._keys()
        glance = [*(key for key in keys if key not in links), *self._inboxes(keys)]
        try:
            while True:
                seconds = None if until is None else until - monotonic()
                if seconds is not None and seconds <= 0:
                    return
                numbers = {link.fileno(): key for key, link in links.items()}
                found = ready([*numbers, self._bell[0]], _GLANCE if seconds is None else min(seconds, _GLANCE))
                if self._bell[0] in found:
                    return
                for number in found:
                    key = numbers[number]
                    if links[key].read() is not None:
                        return
                    self._wait_on(links[key], key)
                if not found and glance and self._server.ask("EXISTS", *glance):
                    return
        finally:
            self._stop_waiting(links)

    def _waiting_links(self) -> dict[str, Link]:
        """Ask the server to hand over the next message of each queue; returns a connection for each."""
        wanted = [self._lists.key(name) for name in self._specs]
        for key in [key for key in self._links if key not in wanted]:
            self._links.pop(key).close()
        for key in wanted:
            link = self._links.get(key)
            if link is None or link.owed or link.stale:
                if link is not None:
                    link.close()
                link = self._links[key] = self._server.connect(patient=True)
                link.send(("CLIENT", "ID"))
                link.number = link.read()
            self._wait_on(link, key)
        return dict(self._links)

    def _wait_on(self, link: Link, key: str) -> None:
        link.send(("BLMOVE", key, f"{self._prefixes[3]}{self.worker}:{key}", "RIGHT", "LEFT", _WAIT))

    def _stop_waiting(self, links: Mapping[str, Link]) -> None:
        """Let the server hand over nothing more: what it has handed over is in lists that `take` looks into."""
        waiting = [link for link in links.values() if link.owed]
        if not waiting:
            return
        try:
            self._server.replies([("CLIENT", "UNBLOCK", link.number) for link in waiting])
            for link in waiting:
                if not ready([link.fileno()], 2.0):
                    link.close()
                    continue
                link.read()
        except (ServerLost, OSError):
            for link in waiting:
                link.close()

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
        if begun:
            self._tell_started([held[0] for tag in tags if (held := self._held.get(tag)) is not None])
        return gone

    def _tell_started(self, deliveries: Iterable[Delivery], *, waits: bool = False) -> None:
        """Tell the clients whose tasks they are; what cannot be told is not needed.

        Parameters
        ----------
        deliveries
            What begins.
        waits
            Whether those with an ETA wait for it yet.
        """
        now = time()
        told: dict[str, list[str]] = {}
        for delivery in deliveries:
            letter = delivery.letter
            client = client_of(letter)
            if letter is not None and client:
                line = _started(letter.headers, now, self._hostname, waits=waits)
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

    def commit(self, steps: Sequence[Step]) -> Sequence[Answer]:
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
        answers = self._backend.committer.perform(sealed, self._unacked, self._begun)
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
            mine = self._keys()
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
        self._ever.update(dict.fromkeys(self._lists.keys(queue)))
        self.wake()

    def cancel(self, queue: str) -> None:
        """Take from a queue no more."""
        name = self._lists.key(queue)
        self._specs = {one: spec for one, spec in self._specs.items() if one != queue}
        self.wake()
        with self._taking:  # nothing is handed over for it any more
            handed = f"{self._prefixes[3]}{self.worker}:{name}"
            while self._server.call("LMOVE", handed, name, "LEFT", "RIGHT") is not None:
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
            links, self._links = self._links, {}
            keys = [self._lists.key(name) for name in self._specs]
            handed = [f"{self._prefixes[3]}{self.worker}:{key}" for key in keys]
            try:
                if self._unsure:  # nobody began these
                    self._server.run(_STARTED, (self._unacked, self._begun), (0, *self._unsure))
                # A connection that was closed may be handed a message until the server has heard of it.
                numbers = [link.number for link in links.values()]
                for link in links.values():
                    link.close()
                if numbers:
                    self._server.replies([("CLIENT", "KILL", "ID", number) for number in numbers])
                self._server.run(_LEAVE, (self._workers, self._unacked, self._begun, *handed), (self.worker, *keys))
            finally:
                self._held.clear()
                for end in self._bell:
                    os.close(end)


#: Ends that Celery never stores; they are told, and known to who hears.


def _possible(spec: QueueSpec) -> QueueSpec:
    if spec.exchange_type == "fanout":
        msg = (
            f"queue {spec.name!r} hears the fanout exchange {spec.exchange!r}, which nbcanvas's workers on Redis do not"
        )
        raise ImproperlyConfigured(msg)
    return spec


def _started(headers: Mapping[str, Any], now: float, worker: str, *, waits: bool) -> str | None:
    """Return the news that a task begins; that it was received, when it waits for its ETA."""
    task_id, root_id = headers.get("id"), headers.get("root_id")
    if not isinstance(task_id, str):
        return None
    retries, nesting = headers.get("retries"), headers.get("replaced_task_nesting")
    attempt = (retries if type(retries) is int else 0) + ((nesting if type(nesting) is int else 0) << 20)
    root = root_id if isinstance(root_id, str) else task_id
    if waits and isinstance(headers.get("eta"), str):
        try:
            due = moment("eta", headers["eta"])
        except (CanvasError, ValueError, TypeError):
            return None
        if due is not None and due > now:
            return headline("received", task_id, attempt, now, root, {"due": due})
    return headline("started", task_id, attempt, now, root, worker)


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
