"""The tasks of the fault tests, for an app of either library; what ran is written to a file, which no fault touches."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

__all__ = ["Boom", "define", "ran"]


class Boom(Exception):
    """What failing tasks raise."""


def note(path: str, word: object) -> None:
    """Write a line, all of it or nothing, whoever else writes."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{word}\n".encode())
    finally:
        os.close(file)


def ran(path: Path) -> list[str]:
    """Return what has run, in order."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def define(app: Any) -> None:
    """Make the tasks."""

    @app.task(name="step")
    def step(value: Any, path: str, seconds: float = 0.0) -> Any:
        note(path, value)
        time.sleep(seconds)
        return value

    @app.task(name="after")
    def after(before: Any, value: Any, path: str) -> Any:
        note(path, value)
        return value

    @app.task(name="body")
    def body(values: Any, path: str, word: str = "body") -> Any:
        note(path, word)
        return values

    @app.task(name="hold")
    def hold(value: Any, path: str, seconds: float = 100.0) -> Any:
        """Run until the test lets it end."""
        note(path, value)
        until = time.monotonic() + seconds
        while not Path(f"{path}.go").exists() and time.monotonic() < until:
            time.sleep(0.01)
        return value

    @app.task(name="dies")
    def dies(value: Any, path: str, times: int = 1) -> Any:
        """Kill the process it runs in; not any more once it has done so `times` times."""
        note(path, value)
        if ran(Path(path)).count(str(value)) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(10)
        return value

    @app.task(name="boom")
    def boom(*args: Any, path: str = "", word: str = "boom") -> Any:
        if path:
            note(path, word)
        raise Boom(word)

    @app.task(name="heard")
    def heard(failed_id: str, path: str, word: str = "heard") -> None:
        note(path, word)

    @app.task(name="add")
    def add(x: Any, y: Any) -> Any:
        return x + y

    @app.task(name="pid")
    def pid(*_: Any) -> int:
        return os.getpid()
