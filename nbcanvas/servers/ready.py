"""Waiting for files that can be read, whatever their numbers: `select.select` refuses those above 1023."""

from __future__ import annotations

import select
from collections.abc import Iterable
from math import ceil

__all__ = ["ready"]


def ready(numbers: Iterable[int], timeout: float | None = None) -> list[int]:
    """Return which of these files can be read, or are gone, within `timeout` seconds (None: wait for one)."""
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    return [number for number, _ in poll.poll(None if timeout is None else ceil(max(timeout, 0.0) * 1000))]
