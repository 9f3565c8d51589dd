"""The tasks of the canvas guide's examples, for an app of either library."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

__all__ = ["define"]


def define(app: Any) -> None:
    """Make the tasks on an app of Celery's or of ours."""

    @app.task(name="add")
    def add(x: Any, y: Any, debug: bool = False) -> Any:
        return x + y

    @app.task(name="mul")
    def mul(x: Any, y: Any) -> Any:
        return x * y

    @app.task(name="tsum")
    def tsum(numbers: Any) -> Any:
        return sum(numbers)

    @app.task(name="xsum")
    def xsum(numbers: Any) -> Any:
        return sum(xsum.run(n) if isinstance(n, list) else n for n in numbers)

    @app.task(name="fail")
    def fail(*_: Any) -> None:
        raise ValueError("something something")

    @app.task(name="kept")
    def kept(value: Any) -> Any:
        return value

    @app.task(name="stamps", bind=True)
    def stamps(self: Any, *_: Any) -> Any:
        return dict(self.request.stamps)

    @app.task(name="starts")
    def starts() -> Any:
        return (app.signature("add", (1, 1)) | app.signature("add", (2,))).apply_async()

    @app.task(name="adds", bind=True)
    def adds(self: Any, numbers: Any, how: str = "") -> Any:
        """Let others count for the chord that it stands in the header of."""
        if how == "chain":
            self.add_to_chord(app.signature("kept", (numbers,)) | app.signature("tsum"))
        elif how == "lazily":
            for sig in [self.add_to_chord(app.signature("kept", (n,)), lazy=True) for n in numbers]:
                sig.delay()
        elif how == "failing":
            self.add_to_chord(app.signature("fail"))
        elif how == "unwritable":
            try:
                self.add_to_chord(app.signature("kept", (object(),)))
            except Exception:  # each library's own
                return "refused"
        elif how == "by nonsense":
            try:
                self.add_to_chord(5)
            except AttributeError:
                return "refused"
        elif how == "by a call":
            try:
                adds([1])
            except ValueError:  # this one belongs to no chord
                return "refused"
        elif how == "on":
            if numbers:
                self.add_to_chord(app.signature("adds", (numbers[1:], "on")))
            return len(numbers)
        else:
            for n in numbers:
                self.add_to_chord(app.signature("kept", (n,)))
        return 0

    @app.task(name="whoami", bind=True)
    def whoami(self: Any, *_: Any) -> str:
        return str(self.request.id)

    @app.task(name="refold", bind=True)
    def refold(self: Any, x: int) -> Any:
        raise self.replace(app.signature("add", (x, x)) | app.signature("mul", (10,)))

    @app.task(name="refan", bind=True)
    def refan(self: Any, x: int) -> Any:
        group = type(app.signature("add")).from_dict  # a group of either library, out of plain data
        members = [dict(app.signature("add", (x, n))) for n in range(3)]
        plain = {"task": "celery.group", "args": [], "kwargs": {"tasks": members}, "options": {}}
        raise self.replace(group({**plain, "subtask_type": "group", "immutable": False}, app=app))

    @app.task(name="tries", bind=True, max_retries=3)
    def tries(self: Any, x: Any) -> Any:
        if self.request.retries < 2:
            raise self.retry(countdown=0.2)  # Celery sends before it stores RETRY: not over the next one's SUCCESS
        return x

    class Hidden(Exception):
        """What a client has no module for."""

    Hidden.__module__, Hidden.__qualname__ = "workers_alone_have_it", "Hidden"
    if "FLEET" in os.environ:  # a worker
        sys.modules[Hidden.__module__] = types.ModuleType(Hidden.__module__)
        vars(sys.modules[Hidden.__module__])["Hidden"] = Hidden

    @app.task(name="hidden")
    def hidden(*_: Any) -> None:
        raise Hidden("two", 2)
