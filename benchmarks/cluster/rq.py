"""rq, two workers that do not fork for each job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from time import sleep
from typing import Any

from rq import Queue
from rq.job import Job

from benchmarks import work
from benchmarks.meters import Once, serve

from . import WORKERS
from .server import URL, client
from .workers import Workers

POLL = 0.0005

connection = client()
queue = Queue("bench", connection=connection)


def _send(function: Callable[..., int], arguments: Sequence[tuple[int, ...]]) -> list[Job]:
    return queue.enqueue_many([Queue.prepare_data(function, each) for each in arguments])


def _values(jobs: Sequence[Job]) -> list[Any]:
    while jobs[-1].get_status() != "finished":
        sleep(POLL)
    for job in jobs:
        while job.get_status() != "finished":
            sleep(POLL)
    return [job.return_value() for job in Job.fetch_many([job.id for job in jobs], connection) if job is not None]


@cache
def _start() -> None:
    command = ("rq", "worker", "bench", "--url", URL, "--worker-class", "rq.SimpleWorker", "--quiet")
    Workers([command] * WORKERS, lambda: _values(_send(work.pid, [()] * 20)))


def group(size: int) -> Once:
    _start()

    def once() -> None:
        assert _values(_send(work.add, [(i, i) for i in range(size)])) == [i + i for i in range(size)]

    return once


def submit(size: int) -> tuple[Once, Once]:
    return lambda: _send(work.add, [(i, i) for i in range(size)]), connection.flushall


def roundtrip(_size: int) -> Once:
    _start()
    return lambda: _values(_send(work.add, [(1, 1)]))


if __name__ == "__main__":
    serve(
        "rq",
        f"{WORKERS} SimpleWorkers, enqueue_many, pickled, results polled every {POLL * 1e3} ms",
        {"cluster-group": group, "cluster-small": group, "cluster-submit": submit, "cluster-roundtrip": roundtrip},
    )
