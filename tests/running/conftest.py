"""An app with a few tasks, run by the embedded worker."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from tests.apps import fresh_app


@pytest.fixture
def app():
    """Return a fresh app; it is the current one during the test."""
    with fresh_app("running") as app:
        yield app


@pytest.fixture
def gate():
    """Return an event that tasks wait for; it is set at the end in any case."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def tasks(app, gate):
    """Return tasks that add, fail, or wait for the gate."""

    @app.task(name="add")
    def add(x, y):
        return x + y

    @app.task(name="tsum")
    def tsum(numbers):
        return sum(numbers)

    @app.task(name="fail")
    def fail(*args):
        raise ValueError("no", *args)

    @app.task(name="held")
    def held(x=None):
        assert gate.wait(100)
        return x

    return SimpleNamespace(add=add, tsum=tsum, fail=fail, held=held)
