"""Who hears which events: a feed for each run, found by the run's root id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["Feed", "Heard", "Hub"]

#: An `Event`, or the same five fields as a plain tuple: a tuple of plain values costs the garbage collector nothing,
#: and there are two for each task.
Heard: TypeAlias = tuple[str, str, float, int, Any]
#: Takes one event; called from any thread, must not block.
Feed = Callable[[Heard], None]


class Hub:
    """Hands each event to the feed of the run it belongs to.

    Thread-safe by construction: the map of feeds is a dict that is read and written by single keys, and a feed is the
    ``append`` of a deque.
    """

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}

    def open(self, root_id: str) -> deque[Heard]:
        """Open the feed of a run and return the deque its events will come into."""
        events: deque[Heard] = deque()
        self._feeds[root_id] = events.append
        return events

    def close(self, root_id: str, events: deque[Heard]) -> None:
        """Forget the feed of a run that comes into `events`; its later events are heard by nobody."""
        if self._feeds.get(root_id) == events.append:  # else it was opened again
            del self._feeds[root_id]

    def feed(self, root_id: str) -> Feed | None:
        """Return the feed of a run, or None when nobody listens."""
        return self._feeds.get(root_id)
