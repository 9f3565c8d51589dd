"""What a piece of work costs, in numbers that are the same on any machine, however busy it is."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable

__all__ = ["memory", "operations"]


def operations(work: Callable[[], object]) -> int:
    """Return how many functions a piece of work calls in this thread, Python's and C's."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event.endswith("call")

    collects = gc.isenabled()
    gc.disable()  # what it would end (an earlier test's) would be counted, too
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
        if collects:
            gc.enable()
    return count


def memory(work: Callable[[], object]) -> int:
    """Return how many bytes are held by what a piece of work returns: the least of three, for others allocate, too."""
    return min(_held(work) for _ in range(3))


def _held(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        held = work()
        gc.collect()  # what it left behind in circles is not held
        size = tracemalloc.get_traced_memory()[0]
        del held
        return size
    finally:
        tracemalloc.stop()
