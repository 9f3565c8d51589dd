"""The tasks of the both-ways tests, for an app of either library: what they do is symbolic, and they write it down.

Every task knows the name of the canvas it is of (``run``), under which it notes, in a Redis list, what happened. Ids
are pinned to ``<run>.<tag>``, so that what two libraries say can be compared word for word.
"""

from __future__ import annotations

import json
from typing import Any

from tests.plan.reference import item_value, symbol

__all__ = ["Boom", "define"]


class Boom(Exception):
    """What failing tasks raise."""


def define(app: Any) -> None:
    """Make the tasks on an app of Celery's or of ours; notes go where its results are."""
    import redis

    store = redis.Redis.from_url(str(app.conf.result_backend))

    def note(run: str, *what: Any) -> None:
        store.rpush(f"notes:{run}", json.dumps(what))

    def recorded(self: Any, exc: Any, task_id: str, *_: Any) -> None:
        store.rpush(f"again:{task_id}", 1)
        store.expire(f"again:{task_id}", 600)

    @app.task(name="work", bind=True, on_retry=recorded)
    def work(self: Any, *args: Any, tag: str, do: Any, run: str = "", more: Any = None) -> Any:
        if self.request.retries:  # Celery sends a retry before it stores RETRY, which must not be its last word
            store.blpop([f"again:{self.request.id}"], 60)
        what, *details = do
        value = symbol(tag, [a.removeprefix(f"{run}.") if isinstance(a, str) else a for a in args], more)
        stamps = self.request.stamps or {}
        note(run, "run", tag, value, self.request.retries, self.request.hostname, stamps)
        if what == "retry":
            again, what = details
            if self.request.retries < again:
                raise self.retry(countdown=0.1)
        if what == "fail":
            raise Boom(tag)
        if what == "replace":
            raise self.replace(app.signature(details[0]))
        return value

    @app.task(name="heard")
    def heard(request: Any, exc: BaseException, traceback: Any, tag: str, run: str) -> None:
        note(run, "heard", tag, request.id, type(exc).__name__, str(exc))

    @app.task(name="item")
    def item(*parts: Any) -> Any:
        if any("boom" in str(part) for part in parts):
            raise Boom("item")
        return item_value(*parts)

    @app.task(name="add")
    def add(x: Any, y: Any) -> Any:
        return x + y

    @app.task(name="tsum")
    def tsum(numbers: Any) -> Any:
        return sum(numbers)

    @app.task(name="hold")
    def hold(value: Any, run: str) -> Any:
        """Return when the test has put something into the list ``gate:<run>``; after two minutes by itself."""
        for _ in range(120):
            if store.blpop([f"gate:{run}"], 1):
                break
        return value

    @app.task(name="boom")
    def boom(*_: Any) -> None:
        raise Boom("boom")
