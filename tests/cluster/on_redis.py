"""What a client and workers have on one Redis, without processes: for tests of the Redis rooms alone."""

from __future__ import annotations

import json
import time
import uuid

from nbcanvas.backend.port import Record
from nbcanvas.backend.redis import RedisBackend
from nbcanvas.broker.post import Post
from nbcanvas.broker.redis import Lists, RedisBroker
from nbcanvas.errors import InvalidTaskError, WorkerLostError
from nbcanvas.ledger.port import Step
from nbcanvas.ledger.redis import RedisLedger
from nbcanvas.plan import Failed, Revoked, Value, advance, release, start
from nbcanvas.protocol.letter import Address
from nbcanvas.protocol.payload import unpack, unpack_args
from nbcanvas.servers.queues import Queues
from nbcanvas.servers.redis import RedisServer

__all__ = ["World", "new_id"]


STATES = {Value: "SUCCESS", Failed: "FAILURE", Revoked: "REVOKED"}


def new_id():
    """Return an id; from any thread."""
    return str(uuid.uuid4())


def total(value):
    return sum(map(total, value)) if isinstance(value, list | tuple) else value


class World:
    """A client, and workers that run tasks in this thread.

    Tasks: ``add`` (sum of its arguments, lists included), ``count``, ``fail``, ``revoke``; what ran is counted by task
    id, and the tags of its messages are kept.
    """

    def __init__(self, url, *, prefix="", server=RedisServer, queue="celery", silence=5.0, client="client", **backend):
        self.url, self.prefix, self.queue, self.silence, self.client = url, prefix, queue, silence, client
        self.ran: dict[str, int] = {}
        self.sent: dict[str, set[str]] = {}
        self.server = server(url)
        self.settings = backend
        self.post = self._post()
        self.lists = Lists(self.server, prefix)
        workers = f"{prefix}nbcanvas:workers"
        self.backend = self._backend(self.server)
        self.broker = RedisBroker(self.server, self.post, self.lists, workers=workers, witness=lambda: self.backend)

    def _post(self):
        return Post(
            origin="gen1@here",
            route=lambda m: Address(
                m.call.options.get("queue", self.queue), priority=m.call.options.get("priority") or 0
            ),
            reply_to=self.client,
        )

    def _backend(self, server):
        workers = f"{self.prefix}nbcanvas:workers"
        return RedisBackend(server, client_id=self.client, prefix=self.prefix, workers=workers, **self.settings)

    def ledger(self, name="w@here", queues=None, server=None):
        """Return a ledger with connections of its own."""
        server = server or RedisServer(self.url)
        lists = Lists(server, self.prefix)
        queues = queues or [self.queue]
        return RedisLedger(self._backend(server), self._post(), lists, Queues(), queues, name, silence=self.silence)

    def send(self, node):
        """Send a frozen canvas."""
        started = start(node, (), None, "root", None, time.time())
        self.backend.open(started.opens)
        self.broker.publish(started.send)

    def outcome(self, message):
        """Run a task."""
        call = message.call
        self.ran[call.id] = self.ran.get(call.id, 0) + 1
        if call.task == "fail":
            return Failed(ValueError("no", 1), "Traceback ...")
        if call.task == "revoke":
            return Revoked(ValueError("revoked"))
        args, _ = unpack_args(call.payload)
        args = [*map(unpack, () if call.immutable else message.given), *args]
        if call.task == "count":
            return Value(len(args))
        return Value(total(args))

    def steps(self, delivery, *, late=True):
        """Return the step of a delivery that is worked on now."""
        try:
            message = self.post.read(delivery.letter)
            self.sent.setdefault(message.call.id, set()).add(json.loads(delivery.raw)["properties"]["delivery_tag"])
        except InvalidTaskError as error:
            return str(error)
        lost = delivery.began and not late
        outcome = Failed(WorkerLostError("lost")) if lost else self.outcome(message)
        then = advance(message, outcome, time.time())
        return Step(
            delivery,
            message,
            message.call.id,
            self.record(message, outcome),
            [(skip.call.id, self.skipped(skip)) for skip in then.skips],
            then.opens,
            then.send,
            then.arrivals,
        )

    @staticmethod
    def record(message, outcome):
        exc, payload = getattr(outcome, "exc", None), getattr(outcome, "payload", None)
        traceback = getattr(outcome, "traceback", None)
        state, call = STATES[type(outcome)], message.call
        return Record(state, payload, exc, traceback, (), time.time(), message.attempt, call, message.parent_id)

    @staticmethod
    def skipped(skip):
        return Record(STATES[type(skip.exit)], None, skip.exit.exc, None, (), time.time(), 0, skip.call)

    def released(self, step, filled):
        """Return the step that dispatches a full barrier."""
        parent = step.message.call.id
        then = release(filled.join, filled.exits, step.message.root_id, parent, time.time())
        skips = [(skip.call.id, self.skipped(skip)) for skip in then.skips]
        sends = [*then.send]
        for errback in then.errbacks:
            sends += start(errback.node, (errback.call.id,), None, "root", errback.call.id, time.time()).send
        return Step(
            step.delivery, step.message, None, None, skips, then.opens, sends, then.arrivals, dispatches=filled.join
        )

    def work(self, ledger, count=1000, timeout=0.0, *, late=True, batch=100):
        """Work on what is there, at most `count` messages; returns how many there were."""
        done = 0
        while done < count:
            deliveries = ledger.take(min(batch, count - done), batch, timeout)
            if not deliveries:
                break
            done += len(deliveries)
            self.commit(ledger, [self.steps(one, late=late) for one in deliveries])
        return done

    def commit(self, ledger, steps):
        """Commit steps, and what their barriers cause."""
        while steps:
            answers = ledger.commit(steps)
            steps = [
                self.released(step, answer.filled)
                for step, answer in zip(steps, answers, strict=True)
                if answer.filled is not None
            ]

    def keys(self, pattern="*"):
        """Return the keys there are."""
        return sorted(key.decode() for key in self.server.call("KEYS", self.prefix + pattern))

    def close(self):
        self.backend.close()
        self.broker.close()
