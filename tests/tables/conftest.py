"""Runs on the embedded worker, to make tables of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nbcanvas import submit
from tests.apps import fresh_app


@pytest.fixture
def app():
    """Return a fresh app; it is the current one during the test."""
    with fresh_app("tables") as app:
        yield app


@pytest.fixture
def tasks(app):
    @app.task(name="add")
    def add(x, y):
        return x + y

    @app.task(name="echo")
    def echo(x):
        return x

    @app.task(name="fail")
    def fail(*args):
        raise ValueError("no", *args)

    @app.task(name="tsum")
    def tsum(numbers):
        return sum(numbers)

    return SimpleNamespace(add=add, echo=echo, fail=fail, tsum=tsum)


@pytest.fixture
def done(app):
    """Return a function that runs a canvas to its end, however it ends."""

    def run(sig, **options):
        return submit(sig, app=app, **options).wait(timeout=30)

    return run
