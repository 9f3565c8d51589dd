"""What a worker takes from a broker of kombu's: one link, its consumers, and what came over it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import sleep
from typing import Any, Final

from nbcanvas.errors import ServerLost
from nbcanvas.servers.kombu import Arrived, KombuServer, Link
from nbcanvas.servers.queues import Queues, QueueSpec

__all__ = ["Consumer"]

log = logging.getLogger("nbcanvas.ledger")

#: The exclusive queue of a living process.
_ALIVE: Final = "nbcanvas.alive."
#: Seconds a turn waits where nothing says that a message has come.
_TURN: Final = 0.05


class Consumer:
    """Keeps a link open over which messages come; several threads may use it, each holding its lock.

    Parameters
    ----------
    server
        The broker.
    queues, names
        The queues there are, and those to take from.
    hostname
        The worker's node name.
    heartbeat
        Seconds between AMQP's heartbeats.
    held
        Says how many messages of this link are not acknowledged yet.
    lost
        Called, with the lock held, when the link is gone: whatever came over it comes again.

    Attributes
    ----------
    lock
        To be held by whoever uses the link, or what came over it.
    generation
        Counts links.
    buffer
        What came, and has not been looked at.
    """

    def __init__(
        self,
        server: KombuServer,
        queues: Queues,
        names: Sequence[str],
        hostname: str,
        heartbeat: float,
        *,
        held: Callable[[], int],
        lost: Callable[[], None],
    ) -> None:
        self._server = server
        self._queues = queues
        self._hostname = hostname
        self._heartbeat = heartbeat
        self._held = held
        self._lost = lost
        self._names: dict[str, None] = dict.fromkeys(queues[name].name for name in names)
        self.lock = threading.RLock()
        self.generation = 0
        self.buffer: deque[Arrived] = deque()
        self._link: Link | None = None
        self._consuming: dict[str, list[str]] = {}  # queue -> names of consumers
        self._prefetch = 0
        self._counter = itertools.count(1)
        self._woken = threading.Event()
        self._ends = threading.RLock()  # a number of a file that is closed may be another file's
        self._closed = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    # -- the link -----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach the broker, and make the queues that are missing; nothing is taken yet."""
        with self.lock:
            link = self._link
            if link is None or not link.usable:
                self.lose()
                link = self._link = self._server.link(self._heartbeat)
            for name in self._names:
                self._guard(partial(link.declare, self._queues[name]))

    def read(self, limit: int) -> Link:
        """Read what has come, over a link that allows `limit` messages besides those held."""
        link = self._connected(limit)
        self._guard(lambda: link.drain(0))
        return link

    def wait(self, link: Link, seconds: float) -> None:
        """Wait for a message, or to be woken; others may use the link meanwhile."""
        if link.socket is not None:
            link.wait(seconds, self._wake_read)
            self._drain_wakes()
            return
        with self.lock:
            if link is self._link:
                self._guard(lambda: link.drain(min(seconds, _TURN)))
        sleep(0.001)  # whoever waits for the lock gets it

    def ack(self, generation: int, tag: Any) -> bool:
        """Acknowledge; False when the message comes again instead."""
        with self.lock:
            link = self._link
            if link is None or generation != self.generation:
                return False
            try:
                link.ack(tag)
            except ServerLost as error:
                log.warning("%s", error)
                self.lose()
                return False
            return True

    def give_back(self, generation: int, tag: Any) -> None:
        """Have a message come again, unless it does anyway."""
        link = self._link
        if link is not None and generation == self.generation:
            self._guard(lambda: link.reject(tag, requeue=True))

    def beat(self) -> None:
        """Keep the connection alive."""
        link = self._link
        if link is not None:
            self._guard(link.beat)

    def lose(self) -> None:
        """Let go of the link."""
        link, self._link = self._link, None
        self.generation += 1
        self.buffer.clear()
        self._consuming.clear()
        self._prefetch = 0
        self._lost()
        if link is not None:
            link.close()

    def _guard(self, work: Callable[[], Any]) -> None:
        """Do something with the link; when it breaks, what came over it and was not taken comes again."""
        try:
            work()
        except ServerLost:
            self.lose()
            raise

    def _connected(self, limit: int) -> Link:
        """Return the link, with everything on it as it has to be for taking `limit` messages."""
        link = self._link
        if link is not None and not link.usable:
            self.lose()
            link = None
        if link is None:
            link = self._link = self._server.link(self._heartbeat)
        try:
            if not self._consuming and self._names and link.socket is not None:
                alive = _alive(self._hostname, os.getpid())
                link.declare(QueueSpec(alive, durable=False, exclusive=True, auto_delete=True))
            self._allow(link, limit)
            for name in self._names:
                if name not in self._consuming:
                    self._consume(link, name)
        except BaseException:
            self.lose()
            raise
        return link

    def _allow(self, link: Link, limit: int) -> None:
        """Have the server send what is wanted, and no more than that."""
        wanted = self._held() + max(limit, 1)
        if wanted == self._prefetch:
            return
        # A quorum queue counts for each consumer, from its beginning on, and counts what a consumer that is cancelled
        # had as given back: more is allowed by one more consumer, less when the link is opened again.
        each = any(self._queues[name].quorum for name in self._names)
        if not each:
            link.prefetch(wanted)
        elif wanted > self._prefetch:
            more = max(wanted - self._prefetch, self._prefetch)
            wanted = self._prefetch + more
            link.prefetch(more, each=True)
            for name in [*self._consuming]:
                self._consume(link, name)
        else:
            return
        self._prefetch = wanted

    # -- queues -------------------------------------------------------------------------------------------------------

    def consume(self, queue: str) -> None:
        """Take from one more queue."""
        with self.lock:
            self._names[self._queues[queue].name] = None
        self.interrupt()

    def cancel(self, queue: str) -> None:
        """Take from a queue no more."""
        with self.lock:
            name = self._queues[queue].name
            self._names.pop(name, None)
            link = self._link
            if link is not None and name in self._consuming:
                self._guard(lambda: self._stop_consuming(link, name))

    def queues(self) -> Sequence[Mapping[str, Any]]:
        """Describe the queues it takes from."""
        return [self._queues[name].described() for name in [*self._names]]

    def _consume(self, link: Link, name: str) -> None:
        spec = self._queues[name]
        link.declare(spec)
        generation = self.generation

        def arrived(one: Arrived) -> None:
            if generation == self.generation:
                self.buffer.append(one)

        def cancelled(_tag: str) -> None:  # the queue was deleted: it is made again
            self._consuming.pop(name, None)
            link.forget(name)
            log.warning("%s: queue %r was deleted, and is made again", self._server.name, name)

        tag = f"{name}.{next(self._counter)}"
        link.consume(
            spec.name,
            arrived,
            tag=tag,
            arguments=spec.options.get("consumer_arguments"),
            cancelled=cancelled,
        )
        self._consuming.setdefault(name, []).append(tag)

    def _stop_consuming(self, link: Link, name: str) -> None:
        for tag in self._consuming.pop(name, ()):
            link.cancel(tag)

    # -- processes ----------------------------------------------------------------------------------------------------

    def lives(self, hostname: Any, pid: Any) -> bool:
        """Whether another process has a connection now; of transports other than AMQP nothing is known."""
        link = self._link
        if link is None or link.socket is None or not hostname:
            return False
        alive = False

        def ask() -> None:
            nonlocal alive
            alive = link.locked(_alive(str(hostname), pid))

        self._guard(ask)
        return alive

    # -- waking -------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have `is_woken` say so once."""
        self._woken.set()
        self.interrupt()

    def is_woken(self) -> bool:
        """Whether somebody called `wake` since this was asked."""
        if not self._woken.is_set():
            return False
        self._woken.clear()
        self._drain_wakes()
        return True

    def interrupt(self) -> None:
        """End the `wait` there is, or the next one."""
        with self._ends, contextlib.suppress(BlockingIOError):  # it is woken already
            if not self._closed:
                os.write(self._wake_write, b".")

    def _drain_wakes(self) -> None:
        with self._ends, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.read(self._wake_read, 4096)

    def close(self) -> None:
        """Let go of what wakes."""
        with self._ends:
            self._closed = True
            for end in (self._wake_read, self._wake_write):
                os.close(end)


def _alive(hostname: str, pid: Any) -> str:
    return f"{_ALIVE}{hostname}.{pid}"[:255]
