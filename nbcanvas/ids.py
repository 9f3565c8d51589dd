"""Task ids: random ones, and a seeded sequence for tests and notebooks under a test runner.

An id has the text form of a version 4 UUID; any string is a valid one on the wire (Celery's protocol 2, header ``id``).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import count

__all__ = ["IdSource", "new_id", "random_source", "seeded_ids"]

#: Gives the next id each time it is called.
IdSource = Callable[[], str]

_VARIANT = "89ab"
#: An id's first digits, by which ids are told apart at a glance: a source counts there.
_COUNTED = 8


def _format(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}"


def new_id() -> str:
    """Return one fresh random id."""
    return _format(os.urandom(16).hex())


def random_source() -> IdSource:
    """Return a source of ids for one plan: a random one, and those that count on from it.

    They are made, and told in a stored plan, at next to no cost.  For one plan: a process that forks has the source
    twice, and so each of its next ids.
    """
    first = new_id()
    start, rest = int(first[:_COUNTED], 16), first[_COUNTED:]
    return (f"{number & 0xFFFFFFFF:08x}{rest}" for number in count(start)).__next__


def seeded_ids(seed: int | str = 0) -> IdSource:
    """Return a source whose ids are the same in every process for the same `seed`."""
    rng = random.Random(seed)
    return lambda: _format(f"{rng.getrandbits(128):032x}")
