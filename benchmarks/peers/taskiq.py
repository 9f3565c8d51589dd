"""taskiq's in-memory broker, on an event loop."""

from __future__ import annotations

import asyncio

from taskiq import InMemoryBroker

from benchmarks.meters import Once, serve

broker = InMemoryBroker(max_stored_results=-1, cast_types=False)


@broker.task
async def add(x: int, y: int) -> int:
    return x + y


async def _collected(size: int) -> list[int]:
    sent = [await add.kiq(i, i) for i in range(size)]
    await broker.wait_all()  # polling for each result would be slower
    return [(await task.get_result()).return_value for task in sent]


def group(size: int) -> Once:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())

    def once() -> None:
        assert loop.run_until_complete(_collected(size)) == [i + i for i in range(size)]

    return once


if __name__ == "__main__":
    serve("taskiq", "InMemoryBroker(max_stored_results=-1, cast_types=False), async tasks, JSON", {"group": group})
