"""One worker a pool and module; after every test it must still work, and nothing may be left waiting."""

import time
from types import SimpleNamespace

import pytest

from nbcanvas import App
from tests.worker.tasks import define, notes


@pytest.fixture(scope="module", params=["threads", "processes"])
def pool(request):
    return request.param


@pytest.fixture(scope="module")
def lab(pool):
    """An app with a worker of two slots, and its tasks."""
    with App() as app:
        tasks = define(app)
        app.start_worker(2, pool)
        yield SimpleNamespace(app=app, pool=pool, **vars(tasks))


@pytest.fixture(autouse=True)
def goes_on(request):
    """Whatever a test did, the worker goes on, and nothing waits for ever."""
    lab = request.getfixturevalue("lab") if "lab" in request.fixturenames else None
    yield
    if lab is None:
        return
    assert lab.add.delay(2, 2).get(timeout=60) == 4
    settle(lambda: not sum(lab.app.broker.depth().values()) and not lab.app.backend.joins())
    settle(lambda: len(lab.app.worker.slots) == lab.app.worker.concurrency)


def settle(condition, timeout=60.0):
    """Wait until a condition holds."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.005)


def started(path, count=1):
    """Wait until `hold(path)` runs."""
    settle(lambda: len(notes(f"{path}.started")) >= count)
