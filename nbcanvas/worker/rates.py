"""Rate limits: at most so many starts of a task in a time (Celery's guide, ``Task.rate_limit``)."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from nbcanvas.app import App
from nbcanvas.plan import Message
from nbcanvas.task import Task

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


def _limit_of(app: App, task: Task) -> Any:
    return task.rate_limit if task.rate_limit is not None else app.defaults.rate_limit


class RateLimits:
    """Starts of each task, spread evenly (Celery's token bucket, with room for one token).

    A message that comes too early is given the next free time, once; when it comes back then, it may go.
    """

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._held: dict[str, dict[int, Message]] = {}
        self._lock = threading.Lock()

    def hold(self, app: App, task: Task, message: Message) -> float:
        """Let a message of a task go (0), or return how many seconds it has to wait."""
        if (_limit_of(app, task) is None and task.name not in self._held) or app.conf.worker_disable_rate_limits:
            return 0.0
        # Read in here: whoever changes the limit comes to `release` after that.
        with self._lock:
            return self._wait(message, _limit_of(app, task))

    def wait(self, message: Message, limit: Any) -> float:
        """Let a message go (0), or return how many seconds it has to wait."""
        with self._lock:
            return self._wait(message, limit)

    def _wait(self, message: Message, limit: Any) -> float:
        rate, name = rate_per_second(limit), message.call.task
        held = self._held.get(name)
        if held and held.pop(id(message), None) is not None:
            return 0.0
        if not rate:
            return 0.0
        now = monotonic()
        free = max(self._next.get(name, 0.0), now)
        self._next[name] = free + 1.0 / rate
        if free > now:
            # The message itself is kept, or another one might get its identity.
            self._held.setdefault(name, {})[id(message)] = message
        return free - now

    def holds(self, message: Message) -> bool:
        """Whether a message waits because of a limit."""
        with self._lock:
            return id(message) in self._held.get(message.call.task, ())

    def held(self) -> list[Message]:
        """Return the messages that wait because of a limit."""
        with self._lock:
            return [message for messages in self._held.values() for message in messages.values()]

    def release(self, name: str) -> set[int]:
        """Forget a task's limit; returns the identities of the messages that wait because of it."""
        with self._lock:
            self._next.pop(name, None)
            return set(self._held.pop(name, ()))
