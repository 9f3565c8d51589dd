"""Task ids: random ones, in batches, and a seeded sequence for tests and notebooks under a test runner.

An id has the text form of a version 4 UUID; any string is a valid one on the wire (Celery's protocol 2, header ``id``).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

__all__ = ["IdSource", "new_id", "random_ids", "seeded_ids"]

#: Gives the next id each time it is called.
IdSource = Callable[[], str]

_VARIANT = "89ab"
_BATCH = 256


def _format(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}"


def random_ids(count: int) -> list[str]:
    """Return `count` fresh random ids (one call to the system for all of them)."""
    h = os.urandom(16 * count).hex()
    return [_format(h[i : i + 32]) for i in range(0, 32 * count, 32)]


def new_id() -> str:
    """Return one fresh random id."""
    return _format(os.urandom(16).hex())


def random_source() -> IdSource:
    """Return a source of random ids that asks the system for more and more of them at a time."""

    def generate() -> Iterator[str]:
        count = 1
        while True:
            yield from random_ids(count)
            count = min(count * 2, _BATCH)

    return generate().__next__


def seeded_ids(seed: int | str = 0) -> IdSource:
    """Return a source whose ids are the same in every process for the same `seed`."""
    rng = random.Random(seed)
    return lambda: _format(f"{rng.getrandbits(128):032x}")
