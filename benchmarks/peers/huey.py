"""huey's memory queue, with consumer threads in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from time import sleep
from typing import Any

import huey as package
from huey import MemoryHuey

from benchmarks import work
from benchmarks.meters import Once, serve
from benchmarks.peers import THREADS

#: Consumers and results are polled for; by default ten times a second.
POLL = 0.0005

app = MemoryHuey(immediate=False)
add, total = (app.task()(function) for function in (work.add, work.total))


@cache
def _consume() -> None:
    app.create_consumer(
        workers=THREADS,
        worker_type="thread",
        initial_delay=POLL,
        max_delay=POLL,
        periodic=False,
        check_worker_health=False,
    ).start()


def _value(result: Any) -> Any:
    while (value := result.get()) is None:
        sleep(POLL)
    return value


def _values(results: Sequence[Any]) -> Sequence[Any]:
    return [_value(result) for result in results]


def group(size: int) -> Once:
    _consume()

    def once() -> None:
        assert _values([add(i, i) for i in range(size)]) == [i + i for i in range(size)]

    return once


def roundtrip(_size: int) -> Once:
    _consume()
    return lambda: _value(add(1, 1))


def chain(size: int) -> Once:
    _consume()

    def once() -> None:
        first = last = add.s(0, 1)
        for _ in range(size - 1):
            last = last.then(add, 1).on_complete  # `then` on the first one walks to the end, which is quadratic
        results = app.enqueue(first)
        assert _values(list(results))[-1] == size

    return once


def chord(size: int) -> Once:
    _consume()

    def once() -> None:
        result = app.enqueue(package.chord([add.s(i, i) for i in range(size)], total.s()))
        assert _value(result) == size * (size - 1)

    return once


if __name__ == "__main__":
    serve(
        "huey",
        f"MemoryHuey(immediate=False), {THREADS} consumer threads here, pickled, polled every {POLL * 1e3} ms",
        {"group": group, "roundtrip": roundtrip, "chain": chain, "chord": chord},
    )
