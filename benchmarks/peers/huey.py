"""huey's memory queue, with consumer threads in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Adapter:
    """The cases on a huey.

    Parameters
    ----------
    app
        The huey.
    start
        Starts its consumers, and returns when they work.
    poll
        Seconds between two looks at a result.
    """

    def __init__(self, app: Any, start: Callable[[], object], poll: float) -> None:
        self.app = app
        self.add, self.total = (app.task()(function) for function in (work.add, work.total))
        self._start = cache(start)
        self._poll = poll

    def value(self, result: Any) -> Any:
        while (value := result.get()) is None:
            sleep(self._poll)
        return value

    def values(self, results: Sequence[Any]) -> Sequence[Any]:
        for result in reversed(results):  # the last one first: looking for what is not there yet costs the workers time
            self.value(result)
        return [self.value(result) for result in results]

    def group(self, size: int) -> Once:
        self._start()

        def once() -> None:
            assert self.values([self.add(i, i) for i in range(size)]) == [i + i for i in range(size)]

        return once

    def roundtrip(self, _size: int) -> Once:
        self._start()
        return lambda: self.value(self.add(1, 1))

    def chain(self, size: int) -> Once:
        self._start()

        def once() -> None:
            first = last = self.add.s(0, 1)
            for _ in range(size - 1):
                last = last.then(self.add, 1).on_complete  # `then` on the first one walks to the end: quadratic
            results = self.app.enqueue(first)
            assert self.values(list(results))[-1] == size

        return once

    def chord(self, size: int) -> Once:
        self._start()

        def once() -> None:
            header = [self.add.s(i, i) for i in range(size)]
            assert self.value(self.app.enqueue(package.chord(header, self.total.s()))) == size * (size - 1)

        return once


def _consume(app: MemoryHuey) -> None:
    app.create_consumer(
        workers=THREADS,
        worker_type="thread",
        initial_delay=POLL,
        max_delay=POLL,
        periodic=False,
        check_worker_health=False,
    ).start()


if __name__ == "__main__":
    memory = MemoryHuey(immediate=False)
    here = Adapter(memory, lambda: _consume(memory), POLL)
    serve(
        "huey",
        f"MemoryHuey(immediate=False), {THREADS} consumer threads here, pickled, polled every {POLL * 1e3} ms",
        {"group": here.group, "roundtrip": here.roundtrip, "chain": here.chain, "chord": here.chord},
    )
