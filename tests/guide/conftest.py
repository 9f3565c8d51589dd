"""An app with the tasks that the guide's examples use, run by the embedded worker."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from tests.apps import fresh_app


@pytest.fixture
def app():
    """Return a fresh app; it is the current one during the test."""
    with fresh_app("guide") as app:
        yield app


@pytest.fixture
def tasks(app):
    """Return the tasks of the guide's examples, named as in them, and what they noted."""
    noted = []
    arrived = threading.Semaphore(0)

    def note(*what):
        noted.append(what)
        arrived.release()

    def wait_for_notes(count, timeout=60):
        until = time.monotonic() + timeout
        while len(noted) < count:
            assert time.monotonic() < until, f"only {len(noted)} of {count} were noted: {noted}"
            arrived.acquire(timeout=0.05)
        return list(noted)

    def task(fun=None, **options):
        if fun is None:
            return lambda fun: task(fun, **options)
        return app.task(fun, name=f"tasks.{fun.__name__}", **options)

    @task
    def add(x, y, debug=False):
        return x + y

    @task
    def mul(x, y):
        return x * y

    @task
    def tsum(numbers):
        return sum(numbers)

    @task
    def xsum(numbers):
        return sum(xsum.run(n) if isinstance(n, list) else n for n in numbers)

    @task
    def subtract(x, y):
        return x - y

    @task
    def fail():
        raise ValueError("something something")

    @task
    def log_result(value):
        note("result", value)

    @task
    def log_error(request, exc, traceback):
        note(request.id, exc, traceback)

    @task
    def reset_buffers():
        note("reset")
        return "reset"

    return SimpleNamespace(
        add=add,
        mul=mul,
        tsum=tsum,
        xsum=xsum,
        subtract=subtract,
        fail=fail,
        log_result=log_result,
        log_error=log_error,
        reset_buffers=reset_buffers,
        task=task,
        note=note,
        noted=noted,
        wait_for_notes=wait_for_notes,
    )
