"""Tasks for the tests of remote control, events and the command line, for an app of either library."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["define"]


def define(app: Any) -> None:
    """Make the tasks on an app of Celery's or of ours."""

    @app.task(name="add")
    def add(x: Any, y: Any) -> Any:
        return x + y

    @app.task(name="wait")
    def wait(seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:  # in small steps: a thread is ended between two of them
            time.sleep(0.02)
        return "waited"

    @app.task(name="fail")
    def fail(what: str) -> None:
        raise ValueError(what, 1)

    @app.task(name="flaky", bind=True, max_retries=2)
    def flaky(self: Any) -> str:
        if self.request.retries < 1:
            raise self.retry(exc=KeyError("again"), countdown=0)
        return "at last"
