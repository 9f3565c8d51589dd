"""dramatiq's Redis broker and results, two worker processes."""

from __future__ import annotations

from functools import cache

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Pipelines, Retries
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from benchmarks import work
from benchmarks.meters import Once, serve

from . import WORKERS
from .server import URL, client
from .workers import Workers

broker = RedisBroker(url=URL, middleware=[Retries(), Pipelines()])
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)
add, pid = (dramatiq.actor(store_results=True)(function) for function in (work.add, work.pid))


def _group(size: int) -> dramatiq.group:
    return dramatiq.group(add.message(i, i) for i in range(size))


@cache
def _start() -> None:
    def pids() -> list[int]:
        return list(dramatiq.group(pid.message() for _ in range(20)).run().get_results(block=True, timeout=30_000))

    command = ("dramatiq", "benchmarks.cluster.dramatiq", "--processes", str(WORKERS))
    Workers([command], pids)


def group(size: int) -> Once:
    _start()

    def once() -> None:
        assert list(_group(size).run().get_results(block=True, timeout=100_000)) == [i + i for i in range(size)]

    return once


def submit(size: int) -> tuple[Once, Once]:
    return lambda: _group(size).run(), client().flushall


def roundtrip(_size: int) -> Once:
    _start()
    return lambda: add.send(1, 1).get_result(block=True)


if __name__ == "__main__":
    serve(
        "dramatiq",
        f"RedisBroker, RedisBackend, {WORKERS} processes of 8 threads (its default), JSON",
        {"cluster-group": group, "cluster-small": group, "cluster-submit": submit, "cluster-roundtrip": roundtrip},
    )
