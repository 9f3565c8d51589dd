"""Makes the garbage collector look up less often while many objects are made that all stay.

A group of 100 000 makes some hundred thousand objects in a row.  With the usual thresholds the collector passes over
all of them again and again, finds nothing, and takes as long as the work itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager

__all__ = ["collect_less", "collecting_less"]

#: Allocations before a look at the young; looks before one at the older; looks at those before one at all.
_THRESHOLDS = (50_000, 20, 100)


def collect_less() -> Callable[[], None]:
    """Raise the collector's thresholds; it still runs, so garbage is collected, in larger heaps.

    Returns
    -------
    Callable
        Takes the thresholds back.  Where the collector is off, or set to even rarer looks (by somebody else who called
        this), nothing is changed here or there.
    """
    before = gc.get_threshold()
    if not (0 < before[0] < _THRESHOLDS[0] and gc.isenabled()):
        return lambda: None
    gc.set_threshold(*_THRESHOLDS)
    return lambda: gc.set_threshold(*before)


@contextmanager
def collecting_less() -> Generator[None]:
    """Do so in this block."""
    restore = collect_less()
    try:
        yield
    finally:
        restore()
