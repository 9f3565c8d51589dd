"""dask distributed, two worker processes of one thread; no Redis."""

from __future__ import annotations

from functools import cache

from distributed import Client, LocalCluster

from benchmarks.meters import Once, serve
from benchmarks.work import add, total

from . import WORKERS


@cache
def client() -> Client:
    return Client(LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None))


def group(size: int) -> Once:
    here = client()

    def once() -> None:
        values = here.gather(here.map(add, range(size), range(size), pure=False))
        assert values == [i + i for i in range(size)]

    return once


def roundtrip(_size: int) -> Once:
    here = client()
    return lambda: here.submit(add, 1, 1, pure=False).result()


def chain(size: int) -> Once:
    here = client()

    def once() -> None:
        future = here.submit(add, 0, 1, pure=False)
        for _ in range(size - 1):
            future = here.submit(add, future, 1, pure=False)
        assert future.result() == size

    return once


def chord(size: int) -> Once:
    here = client()

    def once() -> None:
        header = here.map(add, range(size), range(size), pure=False)
        assert here.submit(total, header, pure=False).result() == size * (size - 1)

    return once


if __name__ == "__main__":
    serve(
        "distributed",
        f"LocalCluster, {WORKERS} processes of one thread, its own scheduler",
        {
            "cluster-group": group,
            "cluster-small": group,
            "cluster-roundtrip": roundtrip,
            "cluster-chain": chain,
            "cluster-chord": chord,
        },
    )
