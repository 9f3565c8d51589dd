"""loky's reusable process pool."""

from __future__ import annotations

from loky import get_reusable_executor

from benchmarks.meters import Once, serve
from benchmarks.peers import PROCESSES
from benchmarks.work import BURN_MS, burn


def cpu(size: int) -> Once:
    pool = get_reusable_executor(PROCESSES)

    def once() -> None:
        futures = [pool.submit(burn, BURN_MS) for _ in range(size)]
        assert len([future.result() for future in futures]) == size

    return once


if __name__ == "__main__":
    serve(
        "loky",
        f"get_reusable_executor({PROCESSES}), one future a task",
        {"cpu": cpu},
        close=lambda: get_reusable_executor(PROCESSES).shutdown(),
    )
