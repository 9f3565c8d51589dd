"""Events of any fleet, heard in a thread and handed on as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

from nbcanvas.servers.wire import Enough, Server, Wire

from .consumer import ConsumerThread
from .mailbox import Events

__all__ = ["Receiver"]

#: In a flood of events this thread works so many seconds, then rests so many: what the broker cannot keep meanwhile is
#: lost.  Events are hints; a kernel has better things to do.
_WORK: Final = 0.02
_REST: Final = 0.04
#: More events of one message are not looked at.
_LONGEST: Final = 10_000


class Receiver(ConsumerThread):
    """Hears every event on a broker.

    Parameters
    ----------
    server, events
        The broker, and the settings of events.
    sink
        Takes the events of one message; called in the receiver's thread.
    ready
        Called when it listens, and again after the broker was away.
    needed
        Says whether anybody waits for events; while nobody does, it ends when the broker goes away.

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
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.heard = 0
        self.refused = 0
        self._events = events
        self._sink = sink
        self._ready = ready
        self._needed = needed
        self._deciding = Lock()
        self._leaving = self._gone = False
        self._since = 0.0
        super().__init__(
            "nbcanvas-events", lambda: Wire(server, accept={*accept, events.serializer}), "no events are heard"
        )

    def stays(self) -> bool:
        """Whether it listens, and will until what waits for events now has ended."""
        with self._deciding:
            self._leaving = False
            return not self._gone

    def leave(self) -> None:
        """Listen only as long as somebody waits for events."""
        self._leaving = True

    def _connects_again(self) -> bool:
        with self._deciding:  # who waits from now on finds it gone, see `stays`
            self._gone = not self._needed()
        return not self._gone

    def _subscribe(self, wire: Wire) -> None:
        wire.listen(self._events.inbox(str(uuid4())), self._hear)

    def _began(self) -> None:
        if self._ready is not None:
            self._ready()

    def _drain(self, wire: Wire) -> None:
        self._since = 0.0
        super()._drain(wire)
        if self._leaving and not self._connects_again():
            self.end()

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
