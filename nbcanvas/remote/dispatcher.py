"""Events told to whoever listens: collected without waiting, sent by a thread (protocol, section 8)."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from nbcanvas.errors import ServerLost
from nbcanvas.servers.wire import Server, Wire

from .clock import Clock
from .mailbox import Events

__all__ = ["Dispatcher"]

log = logging.getLogger("nbcanvas.remote")

#: Events of one message, how long an event waits for company, and how many wait for a broker that does not answer.
_TOGETHER: Final = 200
_COMPANY: Final = 0.05
_MOST: Final = 50_000
_AGAIN: Final = 1.0
#: How long a dispatcher that closes tries to send what it has.
_CLOSING: Final = 2.0


class Dispatcher:
    """Sends events of one node.  `send` never waits; when the broker is away for long, the oldest events are dropped.

    Parameters
    ----------
    server, events, clock
        The broker, the settings of events, and the app's clock.
    hostname
        Who tells them.

    Attributes
    ----------
    dropped
        How many events nobody could be told.
    """

    def __init__(self, server: Server, events: Events, clock: Clock, hostname: str) -> None:
        self.hostname = hostname
        self.dropped = 0
        self._server = server
        self._events = events
        self._clock = clock
        self._pid = os.getpid()
        self._waiting: deque[dict[str, Any]] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def send(self, type: str, fields: Mapping[str, Any], when: float | None = None) -> None:
        """Tell one event, in a moment."""
        now = time.time()
        self._waiting.append(
            {
                "hostname": self.hostname,
                "utcoffset": _utcoffset(now),
                "pid": self._pid,
                "clock": self._clock.forward(),
                **fields,
                "timestamp": now if when is None else when,
                "type": type,
            }
        )
        if len(self._waiting) > _MOST:
            self._waiting.popleft()
            self.dropped += 1
        if self._thread is None:
            self._start()
        self._wake.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                name = f"nbcanvas-events-{self.hostname}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Send what waits, and stop."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_CLOSING)

    def _run(self) -> None:
        while not (self._stop.is_set() and not self._waiting):
            try:
                with Wire(self._server, serializer=self._events.serializer) as wire:
                    while not self._stop.is_set() or self._waiting:
                        self._wake.wait()
                        self._wake.clear()
                        self._flush(wire)
                        self._stop.wait(_COMPANY)
            except ServerLost as lost:
                if self._stop.is_set():
                    self.dropped += len(self._waiting)
                    return
                log.warning("no events are told: %s; trying again", lost)
                self._stop.wait(_AGAIN)
                self._wake.set()

    def _flush(self, wire: Wire) -> None:
        while self._waiting:
            found = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
            try:
                self._publish(wire, found)
            except ServerLost:
                self._waiting.extendleft(reversed(found))
                raise
            except Exception as error:  # noqa: BLE001 - a field that is no JSON; those behind it are told
                self.dropped += len(found)
                log.warning("%d events cannot be written: %.500s", len(found), error)

    def _publish(self, wire: Wire, found: list[dict[str, Any]]) -> None:
        """Events of tasks travel together, others alone, in the order they came in."""
        headers = {"hostname": self.hostname}
        for together in _runs(found):
            if together[0]["type"].startswith("task-"):
                wire.publish(together, self._events.topic, "task.multi", headers)
            else:
                for event in together:
                    wire.publish(event, self._events.topic, event["type"].replace("-", "."), headers)


def _runs(events: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    """Split events where those of tasks begin or end."""
    run: list[dict[str, Any]] = []
    for event in events:
        if run and run[-1]["type"].startswith("task-") != event["type"].startswith("task-"):
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _utcoffset(now: float) -> float:
    """Return what Celery calls that: hours west of Greenwich."""
    return (time.altzone if time.localtime(now).tm_isdst > 0 else time.timezone) / 3600
