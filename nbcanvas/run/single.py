"""A task that somebody sent to a cluster, as a run of one call: its result and its worker tell of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from nbcanvas import states
from nbcanvas.app import App, Plan
from nbcanvas.backend.port import Record
from nbcanvas.events import event as kinds
from nbcanvas.events.event import Event
from nbcanvas.plan import Call

from .run import Run

__all__ = ["TaskRun", "task_of"]

#: What a result that has no name says of its task.
UNNAMED = "(unknown)"


class TaskRun(Run):
    """A task that another process sent.

    Parameters
    ----------
    app
        Whose results and workers tell of it.
    call
        The task.
    parent_id
        What sent it, if that is known.
    known
        What is known of it, as events.
    """

    def __init__(self, app: App, call: Call, parent_id: str | None, known: list[Event]) -> None:
        super().__init__(app, Plan(call, call.id, parent_id), None, call.task, known)
        self.started = min((event.time for event in known if event.time), default=self.started)
        if self.done:
            self.finished = max(event.time for event in known)
        else:
            self._hear()

    def _hear(self) -> None:
        mine = weakref.WeakMethod(self._ended)

        def ended(task_id: str, record: Record) -> None:
            tell = mine()
            if tell is not None:
                tell(task_id, record)

        stop: Callable[[], None] = self.app.backend.watch(self._open, ended)
        weakref.finalize(self, stop)
        self.app.follow()


def task_of(app: App, task_id: str) -> TaskRun | None:
    """Return a task by its id, when a result or a worker tells of it.

    Parameters
    ----------
    app
        Whose results and workers are asked.
    task_id
        The id.
    """
    record = app.backend.get(task_id)
    if record is None:
        for worker, told in app.control.ask("query_task", {"ids": [task_id]}):
            found = told.get(task_id) if isinstance(told, Mapping) else None
            if isinstance(found, list | tuple) and len(found) == 2 and isinstance(found[1], Mapping):
                return _of_worker(app, task_id, worker, str(found[0]), found[1])
        record = app.backend.get(task_id)  # it may have ended while they were asked
    if record is None:
        return None
    call = record.call or Call(task_id, UNNAMED, app.packing.pack_args((), {}))
    call = call if call.id == task_id else Call(task_id, call.task, call.payload)
    return TaskRun(app, call, record.parent_id, _of_record(task_id, record))


def _of_record(task_id: str, record: Record) -> list[Event]:
    done, attempt = record.done or 0.0, record.retries
    if record.state == states.SUCCESS:
        return [Event(kinds.SUCCEEDED, task_id, done, attempt, None)]
    if record.state == states.FAILURE:
        return [Event(kinds.FAILED, task_id, done, attempt, (record.exc, record.traceback))]
    if record.state == states.REVOKED:
        return [Event(kinds.REVOKED, task_id, done, attempt, str(record.exc or ""))]
    return []


def _of_worker(app: App, task_id: str, worker: str, state: str, info: Mapping[str, Any]) -> TaskRun:
    args, kwargs = info.get("args"), info.get("kwargs")
    own = tuple(args) if isinstance(args, list | tuple) else ()
    payload = app.packing.pack_args(own, dict(kwargs) if isinstance(kwargs, Mapping) else {})
    call = Call(task_id, str(info.get("name") or info.get("type") or UNNAMED), payload)
    began = info.get("time_start")
    started = isinstance(began, int | float) and state == "active"
    known = [Event(kinds.STARTED, task_id, float(began), 0, worker)] if started else []  # type: ignore[arg-type]
    return TaskRun(app, call, None, known)
