"""Events of any fleet, heard in a thread and handed on as they are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

from nbcanvas.errors import ServerLost
from nbcanvas.servers.wire import Enough, Server, Wire

from .mailbox import Events

__all__ = ["Receiver"]

log = logging.getLogger("nbcanvas.remote")

_TICK: Final = 0.5
_AGAIN: Final = (0.5, 10.0)
#: In a flood of events this thread works so many seconds, then rests so many: what the broker cannot keep meanwhile is
#: lost.  Events are hints; a kernel has better things to do.
_WORK: Final = 0.02
_REST: Final = 0.04
#: More events of one message are not looked at.
_LONGEST: Final = 10_000


class Receiver:
    """Hears every event on a broker.

    Parameters
    ----------
    server, events
        The broker, and the settings of events.
    sink
        Takes the events of one message; called in the receiver's thread.
    ready
        Called when it listens, and again after the broker was away.

    Attributes
    ----------
    heard, refused
        How many events came, and how many of those were none.
    """

    def __init__(
        self,
        server: Server,
        events: Events,
        sink: Callable[[Sequence[Mapping[str, Any]]], None],
        *,
        accept: Collection[str] = ("json",),
        ready: Callable[[], None] | None = None,
    ) -> None:
        self.heard = 0
        self.refused = 0
        self._wire: Callable[[], Wire] = lambda: Wire(server, accept={*accept, events.serializer})
        self._events = events
        self._sink = sink
        self._ready = ready
        self._stop = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nbcanvas-events", daemon=True)
        self._since = 0.0

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def listening(self, timeout: float) -> bool:
        """Wait until events are heard; False when they are not in time."""
        return self._listens.wait(timeout)

    def stop(self) -> None:
        """Listen no more."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_TICK * 4)

    def _run(self) -> None:
        wait = _AGAIN[0]
        while not self._stop.is_set():
            try:
                with self._wire() as wire:
                    wire.listen(self._events.inbox(str(uuid4())), self._hear)
                    wire.drain(0.01)  # on Redis one listens from the first look on
                    self._listens.set()
                    wait = _AGAIN[0]
                    if self._ready is not None:
                        self._ready()
                    while not self._stop.is_set():
                        self._since = 0.0
                        wire.drain(_TICK)
            except ServerLost as lost:
                log.warning("no events are heard: %s; trying again", lost)
            except Exception:  # events are hints: nothing else ends because of one
                log.exception("listening to events starts again")
            self._listens.clear()
            self._stop.wait(wait)
            wait = min(wait * 2, _AGAIN[1])

    def _hear(self, body: Any, headers: Mapping[str, Any]) -> None:
        if self._stop.is_set():
            raise Enough  # kombu reads on while there is something to read
        found = body[:_LONGEST] if isinstance(body, list) else [body]
        events = [one for one in found if isinstance(one, Mapping) and isinstance(one.get("type"), str)]
        self.heard += len(events)
        self.refused += (len(body) if isinstance(body, list) else 1) - len(events)
        if events:
            self._sink(events)
        now = monotonic()
        if not self._since:
            self._since = now
        elif now - self._since > _WORK:
            sleep(_REST)
            self._since = monotonic()
