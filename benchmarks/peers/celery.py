"""Celery on its memory transport and backend, with a worker in a thread of this process."""

from __future__ import annotations

from functools import cache
from typing import Any

import celery as package
from celery import Celery
from celery.contrib.testing.worker import start_worker

from benchmarks import work
from benchmarks.meters import Figures, Held, Once, cold_start, import_times, serve
from benchmarks.peers import THREADS

#: Messages and results are polled for; by default once and twice a second.
POLL = 0.001

app = Celery("bench", broker="memory://", backend="cache+memory://")
app.conf.broker_transport_options = {"polling_interval": POLL}
app.conf.worker_hijack_root_logger = False
add, total = (app.task(function) for function in (work.add, work.total))


@cache
def _worker() -> Any:
    context = start_worker(app, pool="threads", concurrency=THREADS, loglevel="ERROR", perform_ping_check=False)
    context.__enter__()  # the end of the process ends it
    return context


def _running(sig: Any, expected: Any) -> None:
    assert sig.apply_async().get(interval=POLL, timeout=50) == expected


def _group(size: int) -> Any:
    return package.group([add.s(i, i) for i in range(size)])  # of a generator it would build the members later


def group(size: int) -> Once:
    _worker()
    return lambda: _running(_group(size), [i + i for i in range(size)])


def roundtrip(_size: int) -> Once:
    _worker()
    return lambda: add.delay(1, 1).get(interval=POLL / 10, timeout=10)


def chain(size: int) -> Once:
    _worker()
    return lambda: _running(package.chain(add.s(0, 1), *(add.s(1) for _ in range(size - 1))), size)


def chord(size: int) -> Once:
    _worker()
    return lambda: _running(package.chord([add.s(i, i) for i in range(size)], total.s()), size * (size - 1))


def build(size: int) -> Once:
    return lambda: _group(size)


def plan(size: int) -> Once:
    signature = _group(size)
    return lambda: signature.clone().freeze()


def memory(size: int) -> Figures:
    _group(10).freeze()
    held = Held(size)
    signature = _group(size)
    built = held.now()
    frozen = signature.freeze()
    both = held.now()
    assert frozen.id
    return {"built": built, "built and planned": both}


_COLD = f"""
import os
from celery import Celery
from celery.contrib.testing.worker import start_worker

app = Celery("cold", broker="memory://", backend="cache+memory://")
app.conf.broker_transport_options = {{"polling_interval": {POLL}}}

@app.task
def add(x, y):
    return x + y

with start_worker(app, pool="solo", loglevel="ERROR", perform_ping_check=False):
    assert add.delay(1, 1).get(interval={POLL}) == 2
    os._exit(0)  # stopping the worker is not counted
"""

if __name__ == "__main__":
    serve(
        "celery",
        f"memory://, cache+memory://, a worker with {THREADS} threads here, JSON, polled every "
        f"{POLL * 1e3:.0f} ms; plan is clone().freeze()",
        {
            "group": group,
            "roundtrip": roundtrip,
            "chain": chain,
            "chord": chord,
            "build": build,
            "plan": plan,
            "memory": memory,
            "import": import_times("from celery import Celery, chain, chord, group"),
            "cold": cold_start(_COLD),
        },
    )
