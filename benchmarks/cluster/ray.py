"""ray on two cores of this machine; no Redis."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any

import ray

from benchmarks import work
from benchmarks.meters import Once, serve

from . import WORKERS

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@cache
def _tasks() -> tuple[Any, Any]:
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    add, total = ray.remote(work.add), ray.remote(lambda *numbers: work.total(numbers))
    ray.get([add.remote(1, 1) for _ in range(100)])
    return add, total


def group(size: int) -> Once:
    add, _ = _tasks()

    def once() -> None:
        assert ray.get([add.remote(i, i) for i in range(size)]) == [i + i for i in range(size)]

    return once


def roundtrip(_size: int) -> Once:
    add, _ = _tasks()
    return lambda: ray.get(add.remote(1, 1))


def chain(size: int) -> Once:
    add, _ = _tasks()

    def once() -> None:
        value = add.remote(0, 1)
        for _ in range(size - 1):
            value = add.remote(value, 1)
        assert ray.get(value) == size

    return once


def chord(size: int) -> Once:
    add, total = _tasks()

    def once() -> None:
        assert ray.get(total.remote(*[add.remote(i, i) for i in range(size)])) == size * (size - 1)

    return once


if __name__ == "__main__":
    serve(
        "ray",
        f"ray.init(num_cpus={WORKERS}), its own store and scheduler",
        {
            "cluster-group": group,
            "cluster-small": group,
            "cluster-roundtrip": roundtrip,
            "cluster-chain": chain,
            "cluster-chord": chord,
        },
        ray.shutdown,
    )
