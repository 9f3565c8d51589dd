"""huey's Redis queue, two consumers of one thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from time import sleep
from typing import Any

import huey as package
from huey import RedisHuey

from benchmarks import work
from benchmarks.meters import Once, serve

from . import WORKERS
from .server import URL, client
from .workers import Workers

#: Results are polled for.
POLL = 0.0002

app = RedisHuey("bench", url=URL)
add, total, pid = (app.task()(function) for function in (work.add, work.total, work.pid))


def _value(result: Any) -> Any:
    while (value := result.get()) is None:
        sleep(POLL)
    return value


def _values(results: Sequence[Any]) -> Sequence[Any]:
    for result in reversed(results):  # the last one first: looking for what is not there yet costs the workers time
        _value(result)
    return [_value(result) for result in results]


@cache
def _start() -> None:
    command = ("huey_consumer", "benchmarks.cluster.huey.app", "-w", "1", "-n", "-q")
    Workers([command] * WORKERS, lambda: _values([pid() for _ in range(20)]))


def group(size: int) -> Once:
    _start()

    def once() -> None:
        assert _values([add(i, i) for i in range(size)]) == [i + i for i in range(size)]

    return once


def submit(size: int) -> tuple[Once, Once]:
    return lambda: [add(i, i) for i in range(size)], client().flushall


def roundtrip(_size: int) -> Once:
    _start()
    return lambda: _value(add(1, 1))


def chain(size: int) -> Once:
    _start()

    def once() -> None:
        first = last = add.s(0, 1)
        for _ in range(size - 1):
            last = last.then(add, 1).on_complete
        results = app.enqueue(first)
        assert _values(list(results))[-1] == size

    return once


def chord(size: int) -> Once:
    _start()

    def once() -> None:
        result = app.enqueue(package.chord([add.s(i, i) for i in range(size)], total.s()))
        assert _value(result) == size * (size - 1)

    return once


if __name__ == "__main__":
    serve(
        "huey",
        f"RedisHuey, {WORKERS} consumers of one thread, pickled, results polled every {POLL * 1e3} ms",
        {
            "cluster-group": group,
            "cluster-small": group,
            "cluster-submit": submit,
            "cluster-roundtrip": roundtrip,
            "cluster-chain": chain,
            "cluster-chord": chord,
        },
    )
