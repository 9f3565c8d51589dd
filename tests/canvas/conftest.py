"""A task and an app small enough to see what a canvas asks of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nbcanvas.app import current_app
from nbcanvas.canvas import Signature, chunks, make, set_default_host, xmap, xstarmap


class FakeTask:
    """A function with a name."""

    def __init__(self, name: str, function: Any = None, app: Any = None) -> None:
        self.name = name
        self.function = function or (lambda *args: args)
        self.app = app

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        return make(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        return make(self, args, kwargs, immutable=True)

    def signature(self, args: Any = None, *more: Any, **kwargs: Any) -> Signature:
        return Signature(self, args, *more, **kwargs)

    def map(self, it: Any) -> xmap:
        return xmap(self.s(), it)

    def starmap(self, it: Any) -> xstarmap:
        return xstarmap(self.s(), it)

    def chunks(self, it: Any, n: int) -> chunks:
        return chunks(self.s(), it, n)


class FakeHost:
    """Writes down what it is asked."""

    def __init__(self) -> None:
        self.tasks: dict[str, FakeTask] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.conf = SimpleNamespace(task_allow_error_cb_on_chord_header=False)

    def task(self, name: str, function: Any = None) -> FakeTask:
        self.tasks[name] = FakeTask(name, function)
        return self.tasks[name]

    def lookup(self, name: str) -> FakeTask | None:
        return self.tasks.get(name)

    def submit(self, sig: Any, args: Any, kwargs: Any, options: Any) -> Any:
        self.calls.append(("submit", sig, args, kwargs, options))
        return SimpleNamespace(get=lambda: "the value")

    def apply(self, sig: Any, args: Any, kwargs: Any, options: Any) -> Any:
        self.calls.append(("apply", sig, args, kwargs, options))

    def freeze(self, sig: Any, **ids: Any) -> Any:
        self.calls.append(("freeze", sig, ids))
        return "frozen"


@pytest.fixture
def host():
    """Return an app that is also the current one, with the guide's tasks."""
    host = FakeHost()
    host.add = host.task("tasks.add", lambda x, y, **more: x + y)
    host.mul = host.task("tasks.mul", lambda x, y: x * y)
    host.tsum = host.task("tasks.tsum", sum)
    host.noname = FakeTask("add")
    set_default_host(lambda: host)
    yield host
    set_default_host(current_app)  # as the package left it


@pytest.fixture
def add(host):
    """Return the task ``tasks.add``."""
    return host.add


@pytest.fixture
def mul(host):
    """Return the task ``tasks.mul``."""
    return host.mul


@pytest.fixture
def tsum(host):
    """Return the task ``tasks.tsum``."""
    return host.tsum
