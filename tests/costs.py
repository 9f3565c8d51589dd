"""What a piece of work costs, in numbers that are the same on any machine, however busy it is."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable

__all__ = ["memory", "operations"]

#: The code whose allocations count: threads of earlier tests run other parts.
_PLANNING = [tracemalloc.Filter(True, f"*/nbcanvas/{room}*") for room in ("plan", "canvas", "protocol", "ids")]


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
    """Return how many bytes are held by what a piece of planning returns, wherever other threads allocate meanwhile."""
    collects = gc.isenabled()
    gc.disable()  # so what it makes stays young
    tracemalloc.start()
    try:
        held = work()
        gc.collect(0)  # what it left behind in circles is not held
        found = tracemalloc.take_snapshot().filter_traces(_PLANNING)
        del held
        return sum(trace.size for trace in found.traces)
    finally:
        tracemalloc.stop()
        if collects:
            gc.enable()
