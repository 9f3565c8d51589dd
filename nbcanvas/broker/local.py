"""The broker inside the process: what the embedded worker consumes by default.

Messages are not copied and not encoded (their payloads are isolated already).  Taking a message from a busy
queue costs one ``popleft``; the lock is for those who have to wait.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import time

from nbcanvas.plan.model import Message

from .port import Route

__all__ = ["LocalBroker"]


class LocalBroker:
    """Queues in memory; safe for any number of publishers and consumers.

    Parameters
    ----------
    route
        Says which queue and priority a message has.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self._buckets: dict[tuple[int, str], deque[Message]] = {}
        # Read without the lock; replaced as a whole, in the order of serving.
        self._order: tuple[deque[Message], ...] = ()
        self._later: list[tuple[float, int, Message]] = []
        self._tie = itertools.count()
        # Entered by itself, and not through the condition, whose methods are Python: there an interrupt could leave it
        # locked for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._idle = 0
        self._closed = False
        self._wakes = 0

    def publish(self, messages: Sequence[Message]) -> None:
        """Make `messages` available, each not before it is due."""
        route, buckets = self._route, self._buckets
        ready = 0
        for message in messages:
            if message.due is not None and message.due > time():
                self._postpone(message)
                continue
            queue, priority = route(message)
            bucket = buckets.get((priority, queue))
            if bucket is None:
                bucket = self._open(priority, queue)
            bucket.append(message)
            ready += 1
        # A consumer counts itself idle before it looks a last time, so one that missed the append is counted here.
        if ready and self._idle:
            with self._lock:
                self._changed.notify(ready)

    def _open(self, priority: int, queue: str) -> deque[Message]:
        with self._lock:
            bucket = self._buckets.setdefault((priority, queue), deque())
            self._order = tuple(self._buckets[key] for key in sorted(self._buckets))
            return bucket

    def _postpone(self, message: Message) -> None:
        assert message.due is not None  # noqa: S101 - for the type checker; publish looked
        with self._lock:
            heapq.heappush(self._later, (message.due, next(self._tie), message))
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Message | None:
        """Return the next message that is due; None when `timeout` seconds have passed, or after `close`."""
        if self._later:
            self._promote()
        for bucket in self._order:
            try:
                return bucket.popleft()
            except IndexError:
                continue
        return self._wait(timeout)

    def _wait(self, timeout: float | None) -> Message | None:
        until = None if timeout is None else time() + timeout
        with self._lock:
            self._idle += 1
            wakes = self._wakes
            try:
                while not self._closed and self._wakes == wakes:
                    if self._later:
                        self._promote_due()
                    for bucket in self._order:
                        with suppress(IndexError):  # it is empty, or somebody without the lock was quicker
                            return bucket.popleft()
                    now = time()
                    limits = [
                        moment - now
                        for moment in (until, self._later[0][0] if self._later else None)
                        if moment is not None
                    ]
                    if until is not None and now >= until:
                        return None
                    self._changed.wait(max(min(limits), 0.0) if limits else None)
            finally:
                self._idle -= 1
        return None

    def _promote(self) -> None:
        with self._lock:
            self._promote_due()

    def _promote_due(self) -> None:
        now = time()
        while self._later and self._later[0][0] <= now:
            message = heapq.heappop(self._later)[2]
            queue, priority = self._route(message)
            bucket = self._buckets.get((priority, queue))
            if bucket is None:
                bucket = self._buckets.setdefault((priority, queue), deque())
                self._order = tuple(self._buckets[key] for key in sorted(self._buckets))
            bucket.append(message)
            self._changed.notify()

    def withdraw(self, matches: Callable[[Message], bool]) -> list[Message]:
        """Take back and return every waiting message that `matches`."""
        found: list[Message] = []
        with self._lock:
            for bucket in self._order:
                for _ in range(len(bucket)):
                    try:
                        message = bucket.popleft()
                    except IndexError:
                        break
                    if matches(message):
                        found.append(message)
                    else:
                        bucket.append(message)
            late = [entry for entry in self._later if matches(entry[2])]
            if late:
                found += [entry[2] for entry in late]
                self._later = [entry for entry in self._later if not matches(entry[2])]
                heapq.heapify(self._later)
        return found

    def purge(self, queues: Iterable[str] | None = None) -> int:
        """Drop every waiting message (of `queues`) and return how many there were."""
        wanted = None if queues is None else set(queues)
        return len(self.withdraw(lambda message: wanted is None or self._route(message)[0] in wanted))

    def notice(self, queues: Iterable[str]) -> None:
        """Do nothing: every queue there is is known."""

    def depth(self) -> dict[str, int]:
        """Return how many messages wait in each queue, those not yet due included."""
        depths: dict[str, int] = {}
        with self._lock:
            for (_, queue), bucket in self._buckets.items():
                depths[queue] = depths.get(queue, 0) + len(bucket)
            for _, _, message in self._later:
                queue = self._route(message)[0]
                depths[queue] = depths.get(queue, 0) + 1
        return depths

    def waiting(self) -> list[Message]:
        """Return what waits, those not yet due included; for questions, not for work."""
        with self._lock:
            return [m for bucket in self._order for m in list(bucket)] + [entry[2] for entry in self._later]

    def wake(self) -> None:
        """Let every `get` that waits now return None."""
        with self._lock:
            self._wakes += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let every `get` return None."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
