"""The tasks every worker has (PROTOCOL: "Built-in tasks a worker must have"): what map, starmap and replace use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nbcanvas import canvas
from nbcanvas.errors import MaxRetriesExceededError

if TYPE_CHECKING:
    from .app import App

__all__ = ["add_builtins"]


def add_builtins(app: App) -> None:
    """Register the built-in tasks with `app`."""

    def named(task: Any) -> Any:
        name = task["task"] if isinstance(task, dict) else task
        return app.tasks[name]

    @app.task(name="celery.accumulate", bind=True)
    def accumulate(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the arguments as a list, or the one at ``index``; a group that replaces a task ends in it."""
        index = kwargs.get("index")
        return args[index] if index is not None else list(args)

    @app.task(name="celery.map", bind=True)
    def xmap(self: Any, task: Any, it: Iterable[Any]) -> list[Any]:
        """Run a task for each item, one after the other."""
        work = named(task)
        return [work(item) for item in self.track(it)]

    @app.task(name="celery.starmap", bind=True)
    def xstarmap(self: Any, task: Any, it: Iterable[Any]) -> list[Any]:
        """Run a task for each item, spread as arguments."""
        work = named(task)
        return [work(*item) for item in self.track(it)]

    @app.task(name="celery.chunks")
    def chunks(task: Any, it: Iterable[Any], n: int) -> Any:
        """Start the chunks of a list; what a client that does not know chunks may send."""
        return app.signature(task).type.chunks(it, n).apply_async().as_tuple()

    @app.task(name="celery.backend_cleanup")
    def backend_cleanup() -> None:
        """Drop results that have expired."""
        app.backend.cleanup()

    @app.task(name="nbcanvas.continue")
    def go_on(value: Any = None, **_place: Any) -> Any:
        """Hand on a value: what follows it is kept in a plan, and comes with the message (`protocol.signatures`)."""
        return value

    _add_old(app)
    _add_unlock(app)


def _add_old(app: App) -> None:
    """Add what Celery has for clients of the past."""

    @app.task(name="celery.chain")
    def chain(*args: Any, **kwargs: Any) -> None:
        """Refuse: chains travel in their first task's message."""
        msg = "chain is not a real task"
        raise NotImplementedError(msg)

    @app.task(name="celery.group")
    def group(
        tasks: Iterable[Any], result: Any, group_id: str, partial_args: Sequence[Any], add_to_parent: bool = True
    ) -> None:
        """Start the tasks of a group; what no client of today sends."""
        for one in tasks:
            canvas.maybe_signature(one, app=app).clone(tuple(partial_args)).apply_async(group_id=group_id)

    @app.task(name="celery.chord")
    def chord(header: Any, body: Any, partial_args: Sequence[Any] = (), **_options: Any) -> Any:
        """Start a chord; what no client of today sends."""
        tasks = header["kwargs"]["tasks"] if isinstance(header, dict) else header
        made = canvas.chord(
            [canvas.maybe_signature(one, app=app) for one in tasks], canvas.maybe_signature(body, app=app), app=app
        )
        return made.apply_async(tuple(partial_args)).as_tuple()


def _add_unlock(app: App) -> None:
    @app.task(name="celery.chord_unlock", bind=True, max_retries=None, ignore_result=True)
    def chord_unlock(
        self: Any,
        group_id: str,
        callback: Any,
        interval: float | None = None,
        max_retries: int | None = None,
        result: Sequence[Any] = (),
        **_: Any,
    ) -> None:
        """Go on behind a group once all of its tasks have ended: where the result backend does not count them."""
        again = self.app.conf.result_chord_retry_interval if interval is None else interval
        request = self.request
        error: Exception | None = None
        try:
            if self.app.unlock(group_id, callback, result, request.root_id, request.id):
                return
        except OSError as lost:  # the result backend, or the broker, does not answer: later it may
            error = lost
        try:
            self.retry(exc=error, countdown=again, max_retries=max_retries)
        except MaxRetriesExceededError as enough:
            self.app.unlock(group_id, callback, result, request.root_id, request.id, enough)
            raise
