"""Deadlines of running tasks, and exceptions raised in other threads."""

from __future__ import annotations

import ctypes
import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from time import time

__all__ = ["Watchdog", "interrupt"]

log = logging.getLogger("nbcanvas.worker")

_CANCELLED_MAX = 1000


def interrupt(thread: int, exc: type[BaseException]) -> None:
    """Raise `exc` in a thread when it next runs Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exc))


class Watchdog:
    """Calls functions at given times, from one thread that is started with the first of them."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, list[Callable[[], None] | None]]] = []
        self._cancelled = 0
        self._tie = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def at(self, moment: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` at `moment` (seconds since the epoch); returns the way to cancel it."""
        cell: list[Callable[[], None] | None] = [call]
        entry = (moment, next(self._tie), cell)
        with self._changed:
            heapq.heappush(self._entries, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="nbcanvas-watchdog", daemon=True)
                self._thread.start()
            if self._entries[0] is entry:  # the thread sleeps until the first one
                self._changed.notify()

        def cancel() -> None:
            cell[0] = None
            self._cancelled += 1
            if self._cancelled > _CANCELLED_MAX:
                self._compact()

        return cancel

    def _compact(self) -> None:
        """Let go of what was cancelled: an hour's limit on short tasks would keep all of them for an hour."""
        with self._changed:
            self._entries = [entry for entry in self._entries if entry[2][0] is not None]
            heapq.heapify(self._entries)
            self._cancelled = 0

    def _loop(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                while self._entries and self._entries[0][2][0] is None:
                    heapq.heappop(self._entries)
                left = self._entries[0][0] - time() if self._entries else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                call = heapq.heappop(self._entries)[2][0]
            if call is not None:
                try:
                    call()
                except Exception:  # one failing deadline must not take the others with it
                    log.exception("a time limit could not be enforced")

    def stop(self) -> None:
        """Forget every deadline."""
        with self._changed:
            self._stopped = True
            self._entries.clear()
            self._changed.notify_all()
