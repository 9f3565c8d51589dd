"""Makes the garbage collector look up less often while many objects are made that all stay.

A group of 100 000 makes some hundred thousand objects in a row.  With the usual thresholds the collector passes over
all of them again and again, finds nothing, and takes as long as the work itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import ClassVar

__all__ = ["collect_less", "collecting_less"]

#: Allocations before a look at the young; looks before one at the older; looks at those before one at all.
_THRESHOLDS = (50_000, 20, 100)


class _Less:
    """Who wants rare looks now, and the thresholds before the first of them.

    Without a lock: at worst, two who come and go at the same moment get the usual looks.
    """

    wanted: ClassVar[set[object]] = set()
    before = (0, 0, 0)


def collect_less() -> Callable[[], None]:
    """Raise the collector's thresholds; it still runs, so garbage is collected, in larger heaps.

    Returns
    -------
    Callable
        Takes that back, once; the thresholds are as before when everybody who called this has taken it back.  Where the
        collector is off, or set to rarer looks by somebody else, nothing is changed here or there.
    """
    if not _Less.wanted:
        before = gc.get_threshold()
        if not (0 < before[0] < _THRESHOLDS[0] and gc.isenabled()):
            return lambda: None
        _Less.before = before
        gc.set_threshold(*_THRESHOLDS)
    me = object()
    _Less.wanted.add(me)

    def restore() -> None:
        _Less.wanted.discard(me)
        if not _Less.wanted and gc.get_threshold() == _THRESHOLDS:
            gc.set_threshold(*_Less.before)

    return restore


class collecting_less:
    """Do so in this block; a class, for a generator would cost a single task a tenth of its sending."""

    __slots__ = ("_restore",)

    def __enter__(self) -> None:
        self._restore = collect_less()

    def __exit__(self, *_: object) -> None:
        self._restore()
