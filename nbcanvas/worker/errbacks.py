"""Calls errbacks that want the exception itself (the canvas guide: ``log_error(request, exc, traceback)``)."""

from __future__ import annotations

import logging
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.backend.port import Backend, Record
from nbcanvas.errors import InvalidTaskError
from nbcanvas.events import event as kinds
from nbcanvas.events.event import Event
from nbcanvas.plan import Call, Errback, Message
from nbcanvas.protocol.payload import pack, unpack_args
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
        node = errback.node
        task = self._app.tasks.find(node.task, node.version) if isinstance(node, Call) else None
        if not isinstance(node, Call) or task is None:
            return False
        args, kwargs = unpack_args(node.payload)
        if not (task.takes_error() if node.immutable else task.takes_error(args, kwargs)):
            return False
        message = errback.message or Message(errback.call, (), None, root_id, None, time())
        request = Context(message, errback.call.task)
        if not (node.immutable and _fits(task, args, kwargs)):
            # Errbacks of a chord's header are linked immutable, and mean to be told all the same.
            args = (request, errback.exit.exc, errback.exit.traceback, *args)
        now = time()
        feed = self._app.hub.feed(root_id)
        if feed is not None:
            feed((kinds.STARTED, node.id, now, 0, ""))
        try:
            value = task(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - an errback that fails changes nothing else
            ended, now = failure(error), time()
            log.warning("errback %s raised %r", node.task, ended.exc)
            record = Record(states.FAILURE, None, ended.exc, ended.traceback, (), now, 0, node, errback.call.id)
            event = Event(kinds.FAILED, node.id, now, 0, (ended.exc, ended.traceback))
        else:
            now = time()
            record = Record(states.SUCCESS, _kept(value), None, None, (), now, 0, node, errback.call.id)
            event = Event(kinds.SUCCEEDED, node.id, now, 0)
        backend = self._backend or self._app.backend
        backend.settle(node.id, record)
        if feed is not None:
            feed(event)
        backend.announce(node.id, record)
        return True


def _fits(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        task.check(args, kwargs)
    except InvalidTaskError:
        return False
    return True


def _kept(value: object) -> object:
    try:
        return pack(value)
    except TypeError:
        return None  # nobody is given an errback's value
