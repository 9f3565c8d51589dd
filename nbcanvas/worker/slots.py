"""Slots of a worker, and where the code of their tasks runs: what every kind of worker shares."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from nbcanvas.app import App
from nbcanvas.app.settings import Settings
from nbcanvas.errors import ImproperlyConfigured, SoftTimeLimitExceeded, TaskRevokedError
from nbcanvas.plan import Message, Outcome, Revoked
from nbcanvas.request import Context
from nbcanvas.task import Task

from .execute import TerminateTask, execute, failure
from .limits import interrupt

__all__ = ["Executor", "Slot", "ThreadExecutor", "executors", "pool_name", "pool_size"]


class Executor(Protocol):
    """Where the code of one slot's tasks runs."""

    def ready(self) -> None:
        """Wait until a task can run: the slot takes no message before."""

    def run(self, task: Task, message: Message, context: Context) -> Outcome:
        """Run a task to its end; never raises."""

    def soft_limit(self, message: Message) -> None:
        """Raise SoftTimeLimitExceeded in the task, if `message` still runs."""

    def end(self, message: Message, signal: str, give_up: Callable[[], None]) -> None:
        """End the task now, if `message` still runs; one that can only be given up is, before it can go on."""

    def close(self) -> None:
        """Let go of everything."""


#: Loop turns in which an exception raised by another thread has arrived for sure.
_ARRIVALS = 1000


class ThreadExecutor:
    """Runs tasks in the slot's own thread.

    A thread cannot be killed: a task is ended by an exception raised in it, which arrives when it next runs Python.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._message: Message | None = None
        self._raised = False
        #: What was to be raised in a message that did not run: it may be about to.
        self._early: tuple[Message, type[BaseException]] | None = None

    def ready(self) -> None:
        """Nothing to wait for."""

    def run(self, task: Task, message: Message, context: Context) -> Outcome:
        """Run a task to its end; never raises."""
        with self._lock:
            self._message = message
            early, self._early = self._early, None
        outcome: Outcome | None = None
        try:
            try:
                if early is not None and early[0] is message:
                    outcome = self._interrupted(early[1]())
                else:
                    outcome = execute(self._app, task, message, context)
            except BaseException as exc:  # noqa: BLE001 - an interrupt that came when the task had just ended
                outcome = self._interrupted(exc)
            self._disarm()
        except (TerminateTask, SoftTimeLimitExceeded) as late:
            with self._lock:
                self._message, self._raised = None, False
            return outcome if outcome is not None else self._interrupted(late)
        return outcome

    @staticmethod
    def _interrupted(exc: BaseException) -> Outcome:
        if isinstance(exc, TerminateTask):
            return Revoked(TaskRevokedError("terminated"), terminated=True)
        return failure(exc)

    def _disarm(self) -> None:
        """From here on nothing is raised in this thread any more; what was, and has not arrived, arrives here.

        Taking it back by raising "nothing" leaves CPython 3.11 with a flag set for good: everything runs slower, and a
        tracing debugger never gets past the next function call.
        """
        with self._lock:
            self._message = None
            raised, self._raised = self._raised, False
        if raised:
            for _ in range(_ARRIVALS):
                pass

    def _raise(self, message: Message, exc: type[BaseException], before: Callable[[], None] | None = None) -> None:
        with self._lock:
            if self._message is not message:
                self._early = message, exc
                return
            if before is not None:
                before()
            self._raised = True
            interrupt(self._thread, exc)

    def soft_limit(self, message: Message) -> None:
        """Raise SoftTimeLimitExceeded in the task, if `message` still runs."""
        self._raise(message, SoftTimeLimitExceeded)

    def end(self, message: Message, signal: str, give_up: Callable[[], None]) -> None:
        """Raise in the task; it may take its time, so it is given up."""
        self._raise(message, TerminateTask, give_up)

    def close(self) -> None:
        """Nothing to let go of."""


class Slot:
    """One place where a task can run.

    Attributes
    ----------
    name
        ``worker/number``.
    message, started
        What runs now, and since when.
    abandoned
        Whether the task in it was given up; the slot ends with it, another one has taken its place.
    """

    __slots__ = ("abandoned", "executor", "message", "name", "started", "thread")

    def __init__(self, name: str) -> None:
        self.name = name
        self.message: Message | None = None
        self.started = 0.0
        self.abandoned = False
        self.executor: Executor | None = None
        self.thread: threading.Thread | None = None

    def give_up(self) -> None:
        """Abandon the task in it, and the slot with it."""
        self.abandoned = True


def _thread_executors(app: App, _modules: Sequence[str]) -> Callable[[], Executor]:
    return lambda: ThreadExecutor(app)


def _process_executors(app: App, modules: Sequence[str]) -> Callable[[], Executor]:
    from .processes.executor import ProcessExecutor, ProcessPool

    pool = ProcessPool(app, modules)
    return lambda: ProcessExecutor(pool)


#: Pool name -> what makes the executor of a slot, in the slot's thread.
_EXECUTORS: Final[dict[str, Callable[[App, Sequence[str]], Callable[[], Executor]]]] = {
    "threads": _thread_executors,
    "processes": _process_executors,
    "solo": _thread_executors,
}
#: What Celery calls its pools.
_CELERYS: Final = {"prefork": "processes"}


def pool_name(name: str) -> str:
    """Return the name of a pool, given by our name or by Celery's.

    Raises
    ------
    ImproperlyConfigured
        When there is no such pool.
    """
    found = _CELERYS.get(name, name)
    if found not in _EXECUTORS:
        msg = f"worker_pool: there is no pool {name!r}; choose one of {', '.join(_EXECUTORS)}"
        raise ImproperlyConfigured(msg)
    return found


def pool_size(pool: str, wanted: Any, conf: Settings) -> int:
    """Return how many slots a pool has: as wanted, else as the setting ``worker_concurrency`` says, else its default.

    Raises
    ------
    ImproperlyConfigured
        When that is less than one.
    """
    cores = os.cpu_count() or 1
    default = {"solo": 1, "processes": cores}.get(pool, max(4, cores))
    size = 1 if pool == "solo" else int(wanted or conf.worker_concurrency or default)
    if size < 1:
        msg = f"worker_concurrency must be at least 1, not {size}"
        raise ImproperlyConfigured(msg)
    return size


def executors(pool: str, app: App, modules: Sequence[str] = ()) -> Callable[[], Executor]:
    """Return what makes the executor of each slot, in the slot's thread.

    Parameters
    ----------
    pool, app
        The pool's name, and whose tasks run.
    modules
        Names of modules that processes import before they run anything.
    """
    return _EXECUTORS[pool](app, modules)
