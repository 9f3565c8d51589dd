"""ThreadPoolExecutor: no workflow, no isolation; what threads themselves cost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.meters import Once, serve
from benchmarks.peers import THREADS
from benchmarks.work import add

pool = ThreadPoolExecutor(THREADS)


def group(size: int) -> Once:
    def once() -> None:
        values = [future.result() for future in [pool.submit(add, i, i) for i in range(size)]]
        assert len(values) == size

    return once


def roundtrip(_size: int) -> Once:
    return lambda: pool.submit(add, 1, 1).result()


if __name__ == "__main__":
    serve(
        None,
        f"concurrent.futures.ThreadPoolExecutor, {THREADS} threads, nothing isolated, no workflow",
        {"group": group, "roundtrip": roundtrip},
    )
