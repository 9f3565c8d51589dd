"""Calls errbacks that want the exception itself (the canvas guide: ``log_error(request, exc, traceback)``)."""

from __future__ import annotations

import logging
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.backend.port import Backend, Record
from nbcanvas.errors import InvalidTaskError, ServerLost, UntrustedTask
from nbcanvas.events import event as kinds
from nbcanvas.events.event import Event
from nbcanvas.plan import Call, Errback, Message
from nbcanvas.protocol.payload import unpack_args
from nbcanvas.request import Context
from nbcanvas.task import Task

from .execute import failure

__all__ = ["ErrbackTeller"]

log = logging.getLogger("nbcanvas.worker")


class ErrbackTeller:
    """Runs errbacks in the thread that performs the failure, as Celery's worker does.

    Parameters
    ----------
    app
        The app whose tasks they are.
    backend
        Where to record how they ended; the app's by default.
    """

    def __init__(self, app: App, backend: Backend | None = None) -> None:
        self._app = app
        self._backend = backend

    def tell(self, errback: Errback, root_id: str) -> bool:
        """Call an errback with ``(request, exc, traceback)``; False when it is one that takes an id, as a task."""
        record = self.call(errback, root_id)
        if record is None:
            return False
        assert record.call is not None  # noqa: S101 - what is called here is a call
        node_id = record.call.id
        backend = self._backend or self._app.backend
        backend.settle(node_id, record)
        feed = self._app.hub.feed(root_id)
        if feed is not None:
            well = record.state == states.SUCCESS
            kind, data = (kinds.SUCCEEDED, None) if well else (kinds.FAILED, (record.exc, record.traceback))
            feed(Event(kind, node_id, record.done or time(), 0, data))
        backend.announce(node_id, record)
        return True

    def call(self, errback: Errback, root_id: str) -> Record | None:
        """Call an errback, and return the record of how that ended; None when it is one that takes an id, as a task."""
        node = errback.node
        task = self._task_of(node, root_id) if isinstance(node, Call) else None
        if not isinstance(node, Call) or task is None:
            return None
        args, kwargs = unpack_args(node.payload)
        if not (task.takes_error() if node.immutable else task.takes_error(args, kwargs)):
            return None
        message = errback.message or Message(errback.call, (), None, root_id, None, time())
        request = Context(message, errback.call.task)
        if not (node.immutable and _fits(task, args, kwargs)):
            # Errbacks of a chord's header are linked immutable, and mean to be told all the same.
            args = (request, errback.exit.exc, errback.exit.traceback, *args)
        feed = self._app.hub.feed(root_id)
        if feed is not None:
            feed((kinds.STARTED, node.id, time(), 0, ""))
        try:
            value = task(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - an errback that fails changes nothing else
            ended = failure(error)
            log.warning("errback %s raised %r", node.task, ended.exc)
            return Record(states.FAILURE, None, ended.exc, ended.traceback, (), time(), 0, node, errback.call.id)
        return Record(states.SUCCESS, self._kept(value), None, None, (), time(), 0, node, errback.call.id)

    def _task_of(self, call: Call, root_id: str) -> Task | None:
        task = self._app.tasks.find(call.task, call.version)
        if task is not None or self._app.shipping is None:
            return task
        try:
            shipped: Task | None = self._app.shipping.task_of(call.task, root_id)
        except (ServerLost, UntrustedTask) as error:
            log.warning("errback %s is sent as a message: %s", call.task, error)
            return None
        return shipped

    def _kept(self, value: object) -> object:
        try:
            return self._app.packing.pack(value)
        except TypeError:
            return None  # nobody is given an errback's value


def _fits(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        task.check(args, kwargs)
    except InvalidTaskError:
        return False
    return True
