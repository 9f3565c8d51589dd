"""Lamport's clock: what is told to others bears a number, and what is heard pushes one's own forward."""

from __future__ import annotations

import threading

__all__ = ["Clock"]


class Clock:
    """A counter that never goes back.

    Attributes
    ----------
    value
        The highest number told or heard.
    """

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._lock = threading.Lock()

    def forward(self) -> int:
        """Count one event of one's own, and return its number."""
        with self._lock:
            self.value += 1
            return self.value

    def adjust(self, other: object) -> int:
        """Hear of another's number; anything else counts as an event of one's own."""
        heard = other if type(other) is int and 0 <= other < 1 << 62 else 0
        with self._lock:
            self.value = max(self.value, heard) + 1
            return self.value
