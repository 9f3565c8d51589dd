"""Celery with one prefork worker of two processes, everything else as it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import celery as package
from celery import Celery

from benchmarks import work
from benchmarks.meters import Figures, Once, serve

from . import WORKERS, asks
from .server import URL, client
from .workers import Workers

app = Celery("bench", broker=URL, backend=URL)
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True
add, total, pid = (app.task(function) for function in (work.add, work.total, work.pid))

PREFORK = (("celery", "-A", "benchmarks.cluster.celery", "worker", "-c", str(WORKERS), "--loglevel", "ERROR"),)
SOLO = tuple(
    ("celery", "-A", "benchmarks.cluster.celery", "worker", "-P", "solo", "-n", f"w{number}@%h", "--loglevel", "ERROR")
    for number in range(WORKERS)
)
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--prefetch-multiplier", "128")


class Adapter:
    """The cases on Celery's client.

    Parameters
    ----------
    commands
        What starts the workers.
    interval
        Seconds between two looks at a result; None as it comes.
    """

    def __init__(self, commands: Sequence[Sequence[str]], interval: float | None = None) -> None:
        self._commands = commands
        self._get = {} if interval is None else {"interval": interval}
        self.workers = cache(self._workers)

    def _workers(self) -> Workers:
        return Workers(self._commands, lambda: package.group([pid.s() for _ in range(20)])().get(timeout=50))

    def _values(self, sig: Any) -> Any:
        return sig.apply_async().get(timeout=300, **self._get)

    def _running(self, make: Callable[[], Any], expected: Any) -> Once:
        self.workers()

        def once() -> None:
            assert self._values(make()) == expected

        return once

    def group(self, size: int) -> Once:
        return self._running(lambda: package.group([add.s(i, i) for i in range(size)]), [i + i for i in range(size)])

    def submit(self, size: int) -> tuple[Once, Once]:
        return lambda: package.group([add.s(i, i) for i in range(size)]).apply_async(), client().flushall

    def roundtrip(self, _size: int) -> Once:
        return self._running(lambda: add.s(1, 1), 2)

    def chain(self, size: int) -> Once:
        return self._running(lambda: package.chain(add.s(0, 1), *(add.s(1) for _ in range(size - 1))), size)

    def chord(self, size: int) -> Once:
        return self._running(lambda: package.chord([add.s(i, i) for i in range(size)], total.s()), size * (size - 1))

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
    serve("celery", f"prefork, {WORKERS} processes, JSON, defaults", Adapter(PREFORK).cases())
