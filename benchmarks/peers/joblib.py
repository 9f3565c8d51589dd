"""joblib: threads, and its process pool."""

from __future__ import annotations

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from benchmarks.meters import Once, serve
from benchmarks.peers import PROCESSES, THREADS
from benchmarks.work import BURN_MS, add, burn


def group(size: int) -> Once:
    def once() -> None:
        values = Parallel(n_jobs=THREADS, backend="threading")(delayed(add)(i, i) for i in range(size))
        assert len(values) == size

    return once


def cpu(size: int) -> Once:
    parallel = Parallel(n_jobs=PROCESSES)

    def once() -> None:
        assert len(parallel(delayed(burn)(BURN_MS) for _ in range(size))) == size

    return once


if __name__ == "__main__":
    serve(
        "joblib",
        f"Parallel(n_jobs={THREADS}, backend='threading'), nothing isolated; Parallel(n_jobs={PROCESSES}) "
        "for CPU tasks",
        {"group": group, "cpu": cpu},
        close=lambda: get_reusable_executor(PROCESSES).shutdown(),
    )
