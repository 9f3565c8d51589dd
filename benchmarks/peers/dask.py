"""dask distributed, scheduler and worker in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from distributed import Client, LocalCluster

from benchmarks.meters import Once, serve
from benchmarks.peers import THREADS
from benchmarks.work import add, total


class Adapter:
    """The cases on a cluster of dask.

    Parameters
    ----------
    cluster
        Starts it.
    """

    def __init__(self, cluster: Callable[[], LocalCluster]) -> None:
        self._client = cache(lambda: Client(cluster()))

    def group(self, size: int) -> Once:
        here = self._client()

        def once() -> None:
            values = here.gather(here.map(add, range(size), range(size), pure=False))
            assert values == [i + i for i in range(size)]

        return once

    def roundtrip(self, _size: int) -> Once:
        here = self._client()
        return lambda: here.submit(add, 1, 1, pure=False).result()

    def chain(self, size: int) -> Once:
        here = self._client()

        def once() -> None:
            future = here.submit(add, 0, 1, pure=False)
            for _ in range(size - 1):
                future = here.submit(add, future, 1, pure=False)
            assert future.result() == size

        return once

    def chord(self, size: int) -> Once:
        here = self._client()

        def once() -> None:
            header = here.map(add, range(size), range(size), pure=False)
            assert here.submit(total, header, pure=False).result() == size * (size - 1)

        return once


if __name__ == "__main__":
    here = Adapter(
        lambda: LocalCluster(n_workers=1, threads_per_worker=THREADS, processes=False, dashboard_address=None)
    )
    serve(
        "distributed",
        f"LocalCluster(processes=False), one worker with {THREADS} threads",
        {"group": here.group, "roundtrip": here.roundtrip, "chain": here.chain, "chord": here.chord},
    )
