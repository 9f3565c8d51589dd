"""taskiq's list queue on Redis, two worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache

from taskiq import AsyncTaskiqTask
from taskiq.exceptions import ResultGetError
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks import work
from benchmarks.meters import Once, serve

from . import WORKERS
from .server import URL, client
from .workers import Workers

POLL = 0.0005

broker = ListQueueBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))


@broker.task(task_name="add")
async def add(x: int, y: int) -> int:
    return x + y


@broker.task(task_name="pid")
async def pid() -> int:
    return work.pid()


_loop = asyncio.new_event_loop()


async def _add(size: int) -> list[int]:
    sent = [await add.kiq(i, i) for i in range(size)]
    await sent[-1].wait_result(check_interval=POLL, timeout=100)  # looking for all of them costs the workers time
    return [await _value(task) for task in sent]


async def _value(task: AsyncTaskiqTask[int]) -> int:
    try:
        return (await task.get_result()).return_value
    except ResultGetError:
        return (await task.wait_result(check_interval=POLL, timeout=50)).return_value


async def _pids() -> list[int]:
    sent = [await pid.kiq() for _ in range(20)]
    return [(await task.wait_result(check_interval=POLL)).return_value for task in sent]


def _run(what: Callable[[], Awaitable[object]]) -> Once:
    return lambda: _loop.run_until_complete(what())


@cache
def _start(*, workers: bool = True) -> None:
    _loop.run_until_complete(broker.startup())
    if workers:
        Workers(
            [
                (
                    "taskiq",
                    "worker",
                    "benchmarks.cluster.taskiq:broker",
                    "--workers",
                    str(WORKERS),
                    "--log-level",
                    "ERROR",
                )
            ],
            _run(_pids),
        )


def group(size: int) -> Once:
    _start()

    async def once() -> None:
        assert await _add(size) == [i + i for i in range(size)]

    return _run(once)


def submit(size: int) -> tuple[Once, Once]:
    _start(workers=False)

    async def once() -> None:
        for i in range(size):
            await add.kiq(i, i)

    return _run(once), client().flushall


def roundtrip(_size: int) -> Once:
    _start()
    return _run(lambda: _add(1))


if __name__ == "__main__":
    serve(
        "taskiq",
        f"ListQueueBroker, RedisAsyncResultBackend, {WORKERS} processes, async, JSON, polled every {POLL * 1e3} ms",
        {"cluster-group": group, "cluster-small": group, "cluster-submit": submit, "cluster-roundtrip": roundtrip},
    )
