"""Rate limits: at most so many starts of a task in a time (Celery's guide, ``Task.rate_limit``)."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

__all__ = ["RateLimits", "rate_per_second"]

_UNITS = {"s": 1, "m": 60, "h": 3600}


def rate_per_second(limit: Any) -> float:
    """Return a limit such as ``"10/m"``, ``"5"`` or 2.5 as starts a second; 0 is no limit.

    Raises
    ------
    ValueError
        When it cannot be understood.
    """
    if not limit:
        return 0.0
    if isinstance(limit, int | float):
        return float(limit)
    number, _, unit = str(limit).partition("/")
    try:
        return float(number) / _UNITS[unit.strip() or "s"]
    except (KeyError, ValueError):
        msg = f"rate_limit {limit!r}: write a number and a unit, such as '10/s', '100/m' or '1/h'"
        raise ValueError(msg) from None


class RateLimits:
    """One token bucket a task; a bucket holds one token, so starts are spread evenly, as in Celery."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, name: str, limit: Any) -> float:
        """Take a start of the task now, or return how many seconds it has to wait."""
        rate = rate_per_second(limit)
        if not rate:
            return 0.0
        with self._lock:
            now = monotonic()
            free = self._next.get(name, 0.0)
            if free > now:
                return free - now
            self._next[name] = now + 1.0 / rate
            return 0.0
