"""Ours: the embedded worker, State on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import repeat
from time import sleep

import nbcanvas
from benchmarks import work
from benchmarks.meters import Figures, Held, Once, cold_start, import_times, serve
from benchmarks.peers import PROCESSES, THREADS

app = nbcanvas.current_app()
add, total, burn = (app.task(function) for function in (work.add, work.total, work.burn))


def _group(size: int) -> nbcanvas.Signature:
    return nbcanvas.group(add.s(i, i) for i in range(size))


@cache
def _work(concurrency: int, pool: str) -> None:
    """Start the worker, once: what is measured finds it warm."""
    app.start_worker(concurrency, pool)


def _running(value: Callable[[], object], expected: object) -> Once:
    """Return what computes `value` on a worker of threads, and holds it against what is expected."""
    _work(THREADS, "threads")

    def once() -> None:
        found = value()
        assert found == expected, found

    return once


def group(size: int) -> Once:
    return _running(lambda: nbcanvas.submit(_group(size)).get(), [i + i for i in range(size)])


def roundtrip(_size: int) -> Once:
    return _running(lambda: add.delay(1, 1).get(), 2)


def chain(size: int) -> Once:
    return _running(
        lambda: nbcanvas.submit(nbcanvas.chain(add.s(0, 1), *(add.s(1) for _ in range(size - 1)))).get(), size
    )


def chord(size: int) -> Once:
    return _running(
        lambda: nbcanvas.submit(nbcanvas.chord((add.s(i, i) for i in range(size)), total.s())).get(), size * (size - 1)
    )


def build(size: int) -> Once:
    return lambda: _group(size)


def plan(size: int) -> Once:
    signature = _group(size)
    return lambda: app.plan(signature)


def memory(size: int) -> Figures:
    app.plan(_group(10))
    held = Held(size)
    signature = _group(size)
    built = held.now()
    planned = app.plan(signature)
    both = held.now()
    assert planned.node is not None
    return {"built": built, "built and planned": both}


def memory_run(size: int) -> Figures:
    """A Run with its State, results and records."""
    _work(THREADS, "threads")
    nbcanvas.submit(_group(10)).wait()
    held = Held(size)
    signature = _group(size)
    run = nbcanvas.submit(signature).wait()
    assert run.counts["SUCCESS"] == size
    _rest()
    kept = held.now()
    del signature
    let_go = held.now()
    assert run.done
    return {"signature kept": kept, "signature let go": let_go}


def _rest() -> None:
    """Let the worker's slots drop the last message they had in hand."""
    sleep(0.2)


def cpu(size: int) -> Once:
    _work(PROCESSES, "processes")

    def once() -> None:
        values = nbcanvas.submit(nbcanvas.group(burn.s(ms) for ms in repeat(work.BURN_MS, size))).get()
        assert len(values) == size

    return once


_COLD = """
from nbcanvas import task

@task
def add(x, y):
    return x + y

assert add.delay(1, 1).get() == 2
"""

if __name__ == "__main__":
    serve(
        "nbcanvas",
        f"embedded worker, {THREADS} threads ({PROCESSES} processes for CPU tasks), "
        "arguments and results isolated, State on",
        {
            "group": group,
            "roundtrip": roundtrip,
            "chain": chain,
            "chord": chord,
            "build": build,
            "plan": plan,
            "memory": memory,
            "memory-run": memory_run,
            "cpu": cpu,
            "import": import_times("import nbcanvas", "nbcanvas"),
            "cold": cold_start(_COLD),
        },
    )
