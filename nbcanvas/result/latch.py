"""Waiting for the ends of tasks."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from nbcanvas.backend.port import Record

__all__ = ["Latch"]


class Latch:
    """Waits until a number of tasks have ended; set from any thread, interruptible in the main one.

    Parameters
    ----------
    count
        How many ends to wait for.
    stops
        Set the latch at once when this says so of a record (a failure, when it is to be raised at once).
    before
        Called once, just before anybody who waits hears of it.
    """

    def __init__(
        self,
        count: int,
        stops: Callable[[Record], bool] | None = None,
        before: Callable[[], Any] | None = None,
    ) -> None:
        # Counting by an iterator is atomic, and cheaper than a lock: ten thousand ends count here.
        self._next = itertools.count(1).__next__
        self._count = count
        self._stops = stops
        self._before = before
        self._gate = threading.Lock()
        self._gate.acquire()
        self._open = False
        self._setting = threading.Lock()
        if not count:
            self._set()

    def __call__(self, task_id: str, record: Record) -> None:
        """Count one end (what `Backend.watch` calls)."""
        if self._next() >= self._count or (self._stops is not None and self._stops(record)):
            self._set()

    def is_set(self) -> bool:
        """Say whether it is set."""
        return self._open

    def _set(self) -> None:
        with self._setting:
            if self._open:
                return
            if self._before is not None:
                self._before()
            self._open = True
        self._gate.release()

    def wait(
        self, timeout: float | None = None, interval: float = 0.5, on_interval: Callable[[], Any] | None = None
    ) -> bool:
        """Return True once set, False after `timeout` seconds; calls `on_interval` each `interval` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._open:
            left = -1.0 if until is None else until - time.monotonic()
            if until is not None and left <= 0:
                return False
            step = left if on_interval is None else (interval if left < 0 else min(interval, left))
            if self._gate.acquire(timeout=step):
                self._gate.release()
                return True
            if on_interval is not None:
                on_interval()
        return True
