"""What the tasks do: nearly nothing, or a known amount of computing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

#: What one CPU task computes for.
BURN_MS = 5


def add(x: int, y: int) -> int:
    return x + y


def total(numbers: Iterable[int]) -> int:
    return sum(numbers)


def burn(milliseconds: float) -> int:
    """Compute for that long: CPU time of this thread, not time that passes."""
    until = time.thread_time() + milliseconds / 1000
    turns = 0
    while time.thread_time() < until:
        turns += 1
    return turns


def pid() -> int:
    """Return the id of the process, after a moment in which others can take the next task."""
    time.sleep(0.01)
    return os.getpid()
