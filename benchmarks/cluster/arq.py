"""arq, two workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from arq.connections import RedisSettings, create_pool

from benchmarks import work
from benchmarks.meters import Once, serve

from . import WORKERS
from .server import URL, client
from .workers import Workers

POLL = 0.0005
SETTINGS = RedisSettings.from_dsn(URL)


async def add(_context: Any, x: int, y: int) -> int:
    return x + y


async def pid(_context: Any) -> int:
    return work.pid()


class WorkerSettings:
    """What ``arq`` reads."""

    functions = (add, pid)
    redis_settings = SETTINGS
    poll_delay = 0.01
    max_jobs = 100


_loop = asyncio.new_event_loop()


@cache
def _pool() -> Any:
    return _loop.run_until_complete(create_pool(SETTINGS))


async def _values(name: str, arguments: list[tuple[int, ...]]) -> list[int]:
    sent = [await _pool().enqueue_job(name, *each) for each in arguments]
    await sent[-1].result(timeout=50, poll_delay=POLL)
    return [await job.result(timeout=50, poll_delay=POLL) for job in sent]


def _run(what: Callable[[], Awaitable[object]]) -> Once:
    return lambda: _loop.run_until_complete(what())


@cache
def _start() -> None:
    _pool()
    Workers(
        [("arq", "benchmarks.cluster.arq.WorkerSettings")] * WORKERS,
        lambda: _loop.run_until_complete(_values("pid", [()] * 20)),
    )


def group(size: int) -> Once:
    _start()

    async def once() -> None:
        assert await _values("add", [(i, i) for i in range(size)]) == [i + i for i in range(size)]

    return _run(once)


def submit(size: int) -> tuple[Once, Once]:
    _pool()

    async def once() -> None:
        for i in range(size):
            await _pool().enqueue_job("add", i, i)

    return _run(once), client().flushall


def roundtrip(_size: int) -> Once:
    _start()
    return _run(lambda: _values("add", [(1, 1)]))


if __name__ == "__main__":
    serve(
        "arq",
        f"{WORKERS} workers, max_jobs=100, poll_delay=0.01, async tasks, pickled, results polled every {POLL * 1e3} ms",
        {"cluster-group": group, "cluster-small": group, "cluster-submit": submit, "cluster-roundtrip": roundtrip},
    )
