"""ipyparallel, two engines; no Redis."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import ipyparallel

from benchmarks.meters import Once, serve
from benchmarks.work import add

from . import WORKERS


@cache
def _view() -> Any:
    cluster = ipyparallel.Cluster(n=WORKERS, log_level=logging.ERROR)
    cluster.start_cluster_sync()
    engines = cluster.connect_client_sync()
    engines.wait_for_engines(WORKERS, timeout=40, interactive=False)
    return engines.load_balanced_view()


def group(size: int) -> Once:
    view = _view()

    def once() -> None:
        assert view.map_async(add, range(size), range(size), chunksize=1).get() == [i + i for i in range(size)]

    return once


def roundtrip(_size: int) -> Once:
    view = _view()
    return lambda: view.apply_async(add, 1, 1).get()


if __name__ == "__main__":
    serve(
        "ipyparallel",
        f"{WORKERS} engines, a load-balanced view, its own hub and schedulers",
        {"cluster-group": group, "cluster-small": group, "cluster-roundtrip": roundtrip},
    )
