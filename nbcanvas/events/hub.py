"""Who hears which events: a feed for each run, found by the run's root id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
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

    Attributes
    ----------
    elsewhere
        Asked for the feed of a run that is not open here: a worker's way to tell the client.
    """

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._owners: dict[str, str] = {}
        self._going: dict[int, None] = {}
        self.elsewhere: Callable[[str], Feed | None] | None = None

    def open(self, root_id: str, task_ids: Iterable[str] = ()) -> deque[Heard]:
        """Open the feed of a run and return the deque its events will come into.

        Parameters
        ----------
        root_id
            The run's root id.
        task_ids
            Tasks of the run that others speak of without saying which run they mean.
        """
        events: deque[Heard] = deque()
        self._feeds[root_id] = events.append
        self._going[id(events)] = None
        self._owners.update(dict.fromkeys(task_ids, root_id))
        return events

    def close(self, root_id: str, events: deque[Heard], task_ids: Iterable[str] = ()) -> None:
        """Forget the feed of a run that comes into `events`; its later events are heard by nobody."""
        self.ended(events)
        if self._feeds.get(root_id) == events.append:  # else it was opened again
            del self._feeds[root_id]
            for task_id in task_ids:
                self._owners.pop(task_id, None)

    def ended(self, events: deque[Heard]) -> None:
        """Hear that the run whose events come into `events` waits for nothing any more."""
        self._going.pop(id(events), None)

    @property
    def waits(self) -> bool:
        """Whether a run that is open here has not ended."""
        return bool(self._going)

    def feed(self, root_id: str) -> Feed | None:
        """Return the feed of a run, or None when nobody listens."""
        found = self._feeds.get(root_id)
        return found if found is not None or self.elsewhere is None else self.elsewhere(root_id)

    def feed_of(self, task_id: str) -> Feed | None:
        """Return the feed of the run that claimed a task when it was opened, or None."""
        return self._feeds.get(self._owners.get(task_id, ""))
