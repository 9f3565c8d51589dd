"""When a call may start, and until when: ``countdown``, ``eta`` and ``expires`` as seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from nbcanvas.errors import InvalidTaskError

__all__ = ["check_times", "due_time", "expiry_time", "moment"]


def due_time(options: Mapping[str, Any], now: float) -> float | None:
    """Return when a call with these options may start, or None for at once.

    ``countdown`` (seconds from now) is preferred to ``eta``, as in Celery.
    """
    countdown = options.get("countdown")
    if countdown is not None:
        return now + _seconds("countdown", countdown)
    return moment("eta", options.get("eta"))


def expiry_time(options: Mapping[str, Any], now: float) -> float | None:
    """Return when a call with these options expires, or None; ``expires`` may be seconds from now."""
    expires = options.get("expires")
    if isinstance(expires, int | float | timedelta):
        return now + _seconds("expires", expires)
    return moment("expires", expires)


def check_times(options: Mapping[str, Any]) -> None:
    """Raise InvalidTaskError when one of the three says no time."""
    due_time(options, 0.0)
    expiry_time(options, 0.0)


def moment(option: str, value: Any) -> float | None:
    """Return a moment that is given as a number, a datetime, or ISO 8601 (UTC, where it names no zone).

    Raises
    ------
    InvalidTaskError
        For anything else.
    """
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        read = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        msg = f"{option}={value!r} is no time: give a datetime or ISO 8601, as 2030-01-31T12:00:00+00:00"
        raise InvalidTaskError(msg) from None
    return (read.replace(tzinfo=UTC) if read.tzinfo is None else read).timestamp()


def _seconds(option: str, value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float):
        return float(value)
    msg = f"{option}={value!r} is no number of seconds"
    raise InvalidTaskError(msg)
