"""What is asked of more than one contender: canvases, sizes in Redis, memory of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import sleep
from typing import Any

from benchmarks.meters import Figures, Once

from .server import client, messages
from .workers import Workers

__all__ = ["CASES", "bytes_of", "growth", "kept", "sizes", "staged", "stages"]

#: Cases that adapters of whole workflow systems have, without their prefix.
CASES = ("group", "submit", "roundtrip", "chain", "chord", "stages", "kept", "memory")

_BATCH = 10_000


def bytes_of(once: Once) -> float:
    """Return the bytes of messages that `once` puts on queues."""
    with messages() as heard:
        once()
    return float(heard.bytes)


def stages(chain: Any, group: Any, add: Any, total: Any, count: int, width: int) -> Any:
    """Return ``count`` stages of ``group(width) | task``, as a chain."""
    steps = [add.s(0, 1)]
    for _ in range(count):
        steps += [group([add.s(i) for i in range(width)]), total.s()]
    return chain(*steps)


def staged(count: int, width: int) -> int:
    """Return what `stages` comes to."""
    value = 1
    for _ in range(count):
        value = value * width + width * (width - 1) // 2
    return value


def sizes(make: Callable[[int, int], Once], width: int) -> Figures:
    """Return the bytes of messages a task, of few stages and of many, and how many times more the latter are."""
    few, many = 5, 50
    make(2, 3)()
    short, long = (bytes_of(make(count, width)) / (count * (width + 1) + 1) for count in (few, many))
    return {f"k={few}": short, f"k={many}": long, f"k={many} / k={few}": long / short}


def kept(once: Once, size: int) -> Figures:
    """Return the bytes that Redis holds for each finished task."""
    once()
    server = client()
    server.flushall()
    before = _used(server)
    once()
    return {"each": (_used(server) - before) / size}


def _used(server: Any) -> int:
    """Return what is used once nothing is under way any more: what is kept of a run is written behind the work."""
    sleep(5)
    return int(server.info("memory")["used_memory"])


def _thousands(keys: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    here = iter(keys)
    while some := tuple(islice(here, 1000)):
        yield some


def growth(workers: Workers, group: Callable[[int], Once], size: int) -> Figures:
    """Return by how much the workers grow over `size` tasks, once they are warm."""
    once, server = group(_BATCH), client()

    def run(tasks: int) -> None:
        for _ in range(0, tasks, _BATCH):
            once()
            for keys in _thousands(server.scan_iter("celery-*", count=1000)):
                server.unlink(*keys)

    run(max(size // 10, 2 * _BATCH))
    warm = workers.memory()
    run(size)
    return {"warm": warm / 2**20, "growth": (workers.memory() - warm) / 2**20}
