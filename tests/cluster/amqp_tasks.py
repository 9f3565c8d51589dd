"""Tasks of the tests with RabbitMQ, for an app of either library."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

__all__ = ["define"]


def define(app: Any) -> None:
    """Make the tasks on an app of Celery's or of ours."""

    @app.task(name="add")
    def add(x: Any, y: Any = 0) -> Any:
        return x + y

    @app.task(name="total")
    def total(values: Any) -> Any:
        return sum(values)

    @app.task(name="boom")
    def boom(*_: Any) -> None:
        raise ValueError("boom")

    @app.task(name="who", bind=True)
    def who(self: Any, *_: Any) -> str:
        return str(self.request.hostname)

    @app.task(name="noted", bind=True, acks_late=True, reject_on_worker_lost=True)
    def noted(self: Any, folder: str, number: int, seconds: float = 0.0) -> int:
        """Leave a note of each time it began; then take a while."""
        with (Path(folder) / str(number)).open("a") as notes:
            notes.write(f"{self.request.hostname} {os.getpid()}\n")
        time.sleep(seconds)
        return number

    @app.task(name="once", bind=True)
    def once(self: Any, folder: str, number: int, seconds: float = 0.0) -> int:
        """Do the same, acknowledged early."""
        with (Path(folder) / str(number)).open("a") as notes:
            notes.write(f"{self.request.hostname} {os.getpid()}\n")
        time.sleep(seconds)
        return number

    @app.task(name="again", bind=True, max_retries=3)
    def again(self: Any, x: Any, times: int) -> Any:
        if self.request.retries < times:
            # Celery stores RETRY when the next attempt is sent: on SQLite it could be over that one's SUCCESS.
            raise self.retry(countdown=0.5)
        return x
