"""Runs a canvas in the calling thread (``apply``): the same plan and the same transitions, a broker of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.app import App, Performer, Plan
from nbcanvas.backend.local import LocalBackend
from nbcanvas.backend.port import Backend
from nbcanvas.errors import TaskRevokedError
from nbcanvas.events.event import STARTED
from nbcanvas.plan import Call, Chain, Failed, Fan, Message, Node, Revoked
from nbcanvas.protocol.payload import unpack
from nbcanvas.request import Context
from nbcanvas.result import EagerResult, GroupResult

from .errbacks import ErrbackTeller
from .execute import execute

__all__ = ["run_eagerly"]


class _Line:
    """A broker that is a line: whoever publishes also consumes; nothing waits for its time."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()

    def publish(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)

    def get(self) -> Message | None:
        return self.messages.popleft() if self.messages else None


def run_eagerly(app: App, plan: Plan, *, throw: bool, keep: bool = False) -> Any:
    """Run a plan to its end, here; return its eager result.

    Parameters
    ----------
    app
        The app whose tasks it calls.
    plan
        The plan.
    throw
        Raise the first exception of a task at once.
    keep
        Keep results where the app keeps those of its workers.
    """
    line, backend = _Line(), app.backend if keep else LocalBackend()
    performer = Performer(line, backend, app.hub, ErrbackTeller(app, backend).tell)
    app.tell_started(plan)
    now = time()
    performer.perform(plan.begin(now), plan.root_id, plan.parent_id, now)
    while (message := line.get()) is not None:
        task = app.tasks.find(message.call.task, message.call.version)
        context = Context(message, message.call.task, hostname="eager", is_eager=True, queue=app.queue_of)
        feed = app.hub.feed(plan.root_id)
        if feed is not None:
            feed((STARTED, message.call.id, time(), message.attempt, "eager"))
        outcome = (
            execute(app, task, message, context) if task is not None else Failed(app.tasks.missing(message.call.task))
        )
        performer.finish(message, outcome, "eager", context.children)
        if throw and isinstance(outcome, Failed):
            if feed is not None:
                _give_up(line, performer)
            raise outcome.exc
    if app.conf.task_store_eager_result and isinstance(backend, LocalBackend) and not keep:
        _keep(app, backend)
    return _result(plan.node, backend)


def _give_up(line: _Line, performer: Performer) -> None:
    """End what will not run any more: whoever watches the run waits for it."""
    while (message := line.get()) is not None:
        performer.finish(message, Revoked(TaskRevokedError("another task of this canvas raised")), "eager")


def _keep(app: App, backend: LocalBackend) -> None:
    for task_id, record in backend.records().items():
        if app.backend.settle(task_id, record):
            app.backend.announce(task_id, record)


def _result(node: Node, backend: Backend, parent: Any = None) -> Any:
    """Return the eager result of a frozen canvas, shaped as `nbcanvas.result.result_of` shapes the others."""
    if isinstance(node, Chain):
        for step in node.steps:
            parent = _result(step, backend, parent)
        return parent
    if isinstance(node, Fan):
        return GroupResult(node.id, [_result(member, backend) for member in node.members], parent)
    return _one(node, backend, parent)


def _one(call: Call, backend: Backend, parent: Any) -> EagerResult:
    record = backend.get(call.id)
    if record is None:
        return EagerResult(call.id, None, states.PENDING, None, call.task, parent)
    value = record.exc if record.exc is not None else unpack(record.payload)

    def children() -> list[Any]:  # when somebody asks: the next step is a child, so a long chain goes deep
        return [
            _result(child, backend) if isinstance(child, Call | Chain | Fan) else child for child in record.children
        ]

    return EagerResult(call.id, value, record.state, record.traceback, call.task, parent, children)
