"""What a slot does with its child: keep one, talk with it while a task runs, and replace it when it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from nbcanvas.app import App
from nbcanvas.errors import NotSerializable, TaskRevokedError, WorkerLostError
from nbcanvas.plan import Failed, Message, Outcome, Rejected, Revoked
from nbcanvas.protocol.payload import unpack
from nbcanvas.request import Context, running
from nbcanvas.task import Task
from nbcanvas.worker.execute import failure

from .child import Child
from .desk import Desk
from .shipping import Shipment, ship
from .wire import data_to_outcome, message_to_data

__all__ = ["ProcessExecutor", "ProcessPool"]

#: A message that has cost so many children fails, however often it may be redelivered.
_LIVES = 3
#: Tasks that are kept as bytes, old versions among them.
_SHIPMENTS = 1000


class ProcessPool:
    """What the slots of one worker share: how tasks are shipped, and how many children a message has cost.

    Parameters
    ----------
    app
        The app whose tasks run.
    modules
        Names of modules that children import first: those that define the tasks.
    """

    def __init__(self, app: App, modules: Sequence[str] = ()) -> None:
        self.app = app
        self.modules = tuple(modules)
        self._shipments: dict[tuple[str, str], Shipment] = {}
        self._lost: dict[str, int] = {}
        self._lock = threading.Lock()

    def shipment(self, task: Task, *, values_only: bool = False) -> Shipment:
        """Return a task as bytes, pickled again only when it has changed."""
        key = (task.name, task.version)
        found = self._shipments.get(key)
        if values_only or found is None or not found.is_fresh(task):
            with self._lock:
                found = self._shipments[key] = ship(task, values_only=values_only)
                while len(self._shipments) > _SHIPMENTS:
                    del self._shipments[next(iter(self._shipments))]
        return found

    def lost(self, message: Message) -> int:
        """Count a child that a message has cost; returns how many there were."""
        with self._lock:
            count = self._lost[message.call.id] = self._lost.get(message.call.id, 0) + 1
            return count

    def survived(self, message: Message) -> None:
        """Forget what a message has cost."""
        if self._lost:
            self._lost.pop(message.call.id, None)


class ProcessExecutor:
    """Runs the tasks of one slot in a child process.

    Parameters
    ----------
    pool
        What it shares with the other slots.
    """

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self._app = pool.app
        self._lock = threading.Lock()
        self._message: Message | None = None
        self._number = 0
        #: Whose soft limit has come, and which is to end: both may come before the message is in a child's hands.
        self._limited: Message | None = None
        self._terminated: Message | None = None
        self._closed = False
        self._child: Child | None = Child()

    @property
    def pid(self) -> int | None:
        """The process that tasks run in now; None while there is none."""
        child = self._child
        return child.pid if child is not None else None

    def ready(self) -> None:
        """Wait until the child can work: a slot takes no message, and no time limit runs, while it starts."""
        try:
            with self._lock:
                if self._child is None and not self._closed:
                    self._child = Child()
                child = self._child
            if child is not None:
                child.await_start()
                if not child.is_prepared:
                    self._prepare(child, Context())
        except (EOFError, OSError):
            self._drop()  # the next message starts another one, and tells what is wrong

    def run(self, task: Task, message: Message, context: Context) -> Outcome:
        """Run a task to its end; never raises."""
        try:
            return self._run(task, message, context)
        except NotSerializable as error:
            return failure(error)
        except Exception as error:  # noqa: BLE001 - the slot goes on with another child
            self._drop()
            return failure(error)
        finally:
            with self._lock:
                self._limited = self._terminated = None

    def _run(self, task: Task, message: Message, context: Context) -> Outcome:
        data = message_to_data(message)
        values_only, unread = False, 0
        while True:
            child = self._ready(message)
            if child is None:
                return _terminated() if self._ends(message) else Rejected("the worker is stopping", requeue=True)
            frames = None  # how many have gone to and fro, the task the last of them
            try:
                child.await_start()
                shipment = self._pool.shipment(task, values_only=values_only)
                self._prepare(child, context)
                frames = child.exchanged + 1
                child.send(
                    (
                        "run",
                        self._number,
                        task.name,
                        task.version,
                        child.news((task.name, task.version), shipment),
                        data,
                        context.hostname,
                    )
                )
                kind, *rest = self._converse(child, task, context)
            except (EOFError, OSError) as error:
                # It was dying already when it was handed the task: what is closed with something unread is reset.
                unbegun = frames is None or (isinstance(error, ConnectionError) and child.exchanged <= frames)
                if not unbegun or unread >= _LIVES or self._ends(message) or self._closed:
                    return self._lost(child, task, message)
                unread += 1
                self._drop()
                continue
            finally:
                with self._lock:
                    self._message = None
            if kind == "done":
                self._pool.survived(message)
                return self._outcome(task, message, context, *rest)
            if kind == "spoilt":
                child.forget((task.name, task.version))
                return self._outcome(task, message, context, rest[0], None, worn=False)
            if kind == "refused":
                values_only = True
            else:  # stale
                self._drop(gently=True)

    def _ready(self, message: Message) -> Child | None:
        """Return a child that is alive, with `message` as what it works on; None when that is not wanted any more."""
        while True:
            with self._lock:
                if self._closed or self._ends(message):
                    return None
                child = self._child
                if child is None:
                    child = self._child = Child()
                if child.is_alive():
                    self._message = message
                    self._number += 1
                    if self._limited is message:
                        child.soft_limit(self._number)
                    return child
            self._drop()

    def _prepare(self, child: Child, context: Context) -> None:
        """Have a child import what it needs, and wait for that."""
        if child.prepare(self._app, self._pool.modules):
            self._heard(child, context)

    def _heard(self, child: Child, context: Context) -> tuple[Any, ...]:
        """Answer what a child asks; returns the first thing it says that is no question."""
        desk = Desk(self._app, child, context, self._pool.shipment)
        try:
            while True:
                frame = child.receive()
                if frame[0] != "ask":
                    return frame
                desk.answer(*frame[1:])
        finally:
            desk.close()

    def _converse(self, child: Child, task: Task, context: Context) -> tuple[Any, ...]:
        """Answer what the task asks, until it has ended; what it sends is sent in its name."""
        stack = running.stack
        stack.append((task, context))
        try:
            return self._heard(child, context)
        finally:
            stack.pop()

    def _outcome(
        self, task: Task, message: Message, context: Context, answer: Any, children: Any, worn: bool
    ) -> Outcome:
        if worn:
            self._drop(gently=True)
        if children is not None:
            context.children.extend(unpack(children))
        running.stack.append((task, context))  # a replacement is what this task does
        try:
            return data_to_outcome(answer, lambda sig: self._app.replacement(message, sig))
        finally:
            running.stack.pop()

    def _lost(self, child: Child, task: Task, message: Message) -> Outcome:
        """Say what becomes of a message whose child has died."""
        how = child.bury()
        with self._lock:
            ended, self._child = self._ends(message), None
            if not self._closed:
                self._child = Child()
        if ended:  # on purpose, and whoever did it has said how the task ended
            return _terminated()
        if self._closed:
            return self._stopped(task, message)
        count = self._pool.lost(message)
        late, again = _redelivers(self._app, task)
        if late and again and count < _LIVES:
            return Rejected(f"the process that ran it {how}", requeue=True)
        self._pool.survived(message)
        times = f", as {count - 1} before it" if count > 1 else ""
        return Failed(WorkerLostError(f"the process that ran {task.name}[{message.call.id}] {how}{times}"))

    def _stopped(self, task: Task, message: Message) -> Outcome:
        if _redelivers(self._app, task)[0]:
            return Rejected("the worker was stopped", requeue=True)
        return Failed(WorkerLostError(f"the worker was stopped while {task.name}[{message.call.id}] ran"))

    def _drop(self, *, gently: bool = False) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            if gently:
                child.end()
            else:
                child.bury()

    # -- from other threads -----------------------------------------------------------------------------------------

    def soft_limit(self, message: Message) -> None:
        """Raise SoftTimeLimitExceeded in the task, if `message` still runs."""
        with self._lock:
            self._limited = message
            if self._message is message and self._child is not None:
                self._child.soft_limit(self._number)

    def end(self, message: Message, signal: str, _give_up: Callable[[], None]) -> None:
        """Kill the child, if `message` still runs in it; the slot goes on with another one."""
        with self._lock:
            self._terminated = message
            if self._message is message and self._child is not None:
                self._child.kill(signal)  # with the lock: the slot must not hand it another message meanwhile

    def _ends(self, message: Message) -> bool:
        return self._terminated is message

    def close(self) -> None:
        """End the child; a task that still runs in it ends with it."""
        with self._lock:
            self._closed = True
            child = self._child
            if self._message is None:
                self._child = None
            elif child is not None:
                child.kill()
                return
        if child is not None:
            child.end()


def _terminated() -> Revoked:
    return Revoked(TaskRevokedError("terminated"), terminated=True)


def _redelivers(app: App, task: Task) -> tuple[bool, bool]:
    """Return whether a task acknowledges late, and whether its message goes back when its process dies."""
    late = app.conf.task_acks_late if task.acks_late is None else task.acks_late
    again = app.conf.task_reject_on_worker_lost if task.reject_on_worker_lost is None else task.reject_on_worker_lost
    return bool(late), bool(again)
