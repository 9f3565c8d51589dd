"""Ours: two workers with --pool solo, State on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import nbcanvas as package
from benchmarks import work
from benchmarks.meters import Figures, Once, serve

from . import WORKERS, asks
from .server import URL, client
from .workers import Workers

app = package.App("bench", broker=URL, backend=URL)
add, total, pid = (app.task(function) for function in (work.add, work.total, work.pid))

OURS = tuple(
    ("nbcanvas", "worker", "-A", "benchmarks.cluster.nbcanvas", "--pool", "solo", "-q", "-n", f"w{number}@%h")
    for number in range(WORKERS)
)


class Adapter:
    """The cases on our client.

    Parameters
    ----------
    commands
        What starts the workers.
    """

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._commands = commands
        self.workers = cache(self._workers)

    def _workers(self) -> Workers:
        return Workers(
            self._commands, lambda: package.submit(package.group(pid.s() for _ in range(20))).get(timeout=50)
        )

    def _running(self, make: Callable[[], Any], expected: Any) -> Once:
        self.workers()

        def once() -> None:
            assert package.submit(make()).get(timeout=300) == expected

        return once

    def group(self, size: int) -> Once:
        return self._running(lambda: package.group(add.s(i, i) for i in range(size)), [i + i for i in range(size)])

    def submit(self, size: int) -> tuple[Once, Once]:
        return lambda: package.submit(package.group(add.s(i, i) for i in range(size))), client().flushall

    def roundtrip(self, _size: int) -> Once:
        self.workers()

        def once() -> None:
            assert add.delay(1, 1).get(timeout=10) == 2

        return once

    def chain(self, size: int) -> Once:
        return self._running(lambda: package.chain(add.s(0, 1), *(add.s(1) for _ in range(size - 1))), size)

    def chord(self, size: int) -> Once:
        return self._running(lambda: package.chord((add.s(i, i) for i in range(size)), total.s()), size * (size - 1))

    def stages(self, size: int) -> Figures:
        make = lambda stages, width: self._running(  # noqa: E731
            lambda: asks.stages(package.chain, package.group, add, total, stages, width), asks.staged(stages, width)
        )
        return asks.sizes(make, size)

    def kept(self, size: int) -> Figures:
        return asks.kept(self.group(size), size)

    def memory(self, size: int) -> Figures:
        return asks.growth(self.workers(), self.group, size)

    def cases(self) -> dict[str, Any]:
        """Return the cases by name."""
        return {f"cluster-{name}": getattr(self, name) for name in asks.CASES} | {
            "cluster-stock": self.group,
            "cluster-small": self.group,
        }


if __name__ == "__main__":
    serve("nbcanvas", f"{WORKERS} workers with --pool solo, JSON, State on", Adapter(OURS).cases())
