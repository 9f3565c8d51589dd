"""A child process: takes a message, runs its task, says how it ended.

Two threads.  The main thread runs tasks, so that a soft limit (a signal) interrupts whatever they wait for.  The
other one listens: it hands over the next message and the replies, and when the kernel is gone it ends this process
and everything it started.  The operating system does the same where it can (Linux: the life line below), because a
task in C code may keep Python from running threads at all.

The child leads a session of its own, so an interrupt of the kernel's process group does not reach it.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from nbcanvas.app import App, Plan, set_engine
from nbcanvas.backend.port import Record
from nbcanvas.errors import NotSerializable, SoftTimeLimitExceeded
from nbcanvas.plan import Outcome
from nbcanvas.protocol.payload import EMBEDDED, WIRE, pack, unpack
from nbcanvas.task import Task
from nbcanvas.worker.execute import execute, failure

from .modules import UserModules
from .shipping import Refused, receive, ship
from .stand_ins import ChildContext, KernelMain, ShippedTasks, adopt, install_main, packed, set_packing
from .wire import data_to_message, data_to_record, exception_from, outcome_to_data

__all__ = ["main"]

log = logging.getLogger("nbcanvas.worker")


class _Guard:
    """Keeps the soft limit's exception out of places that must not be left half done, and out of other executions.

    Attributes
    ----------
    due
        The number of the execution whose soft limit has come.
    """

    def __init__(self) -> None:
        self.running = False
        self.due = 0
        self._number = 0
        self._depth = 0
        self._late = False

    def arrived(self, *_: Any) -> None:
        """Handle the signal (in the main thread, as Python does)."""
        if self.due != self._number:
            return  # it belongs to one that has ended, or has not begun
        if self._depth:
            self._late = True
        elif self.running:
            self._strike()

    def _strike(self) -> None:
        self.due = 0  # once: its signal may still be on the way
        raise SoftTimeLimitExceeded

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold the exception back; it is raised behind this block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._late and not self._depth:
            self._late = False
            if self.running:
                self._strike()

    def open(self, number: int) -> None:
        """A task begins: the soft limit may interrupt it, and does so at once when it came before."""
        self._late, self._number, self.running = False, number, True
        if self.due == number:
            self._strike()

    def close(self) -> None:
        """The task has ended."""
        self.running = False


class Kernel:
    """The kernel, as a child hears it.

    Parameters
    ----------
    pipe
        The pipe to the kernel.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.guard = _Guard()
        self.frames: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._replies: dict[int, SimpleQueue[tuple[bool, Any]]] = {}
        self._watches: dict[int, Callable[[str, Record], None]] = {}

    def listen(self) -> None:
        """Hand over what the kernel says, until it is gone (runs in a thread)."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        while True:
            try:
                frame = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - from the kernel that started us
            except (EOFError, OSError):
                os.killpg(0, signal.SIGKILL)
            kind, *rest = frame
            if kind == "reply":
                number, well, value = rest
                waiting = self._replies.pop(number, None)
                if waiting is not None:
                    waiting.put((well, value))
            elif kind == "ended":
                self._tell_watcher(*rest)
            elif kind == "soft":
                (self.guard.due,) = rest
                os.kill(os.getpid(), signal.SIGUSR1)  # for the main thread: this one blocks it
            else:
                self.frames.put(frame)

    def _tell_watcher(self, number: int, task_id: str, data: Any) -> None:
        on_end, record = self._watches.get(number), data_to_record(data)
        if on_end is not None and record is not None:
            on_end(task_id, record)

    def send(self, frame: tuple[Any, ...]) -> None:
        """Say something."""
        data = pickle.dumps(frame, 5)
        with self.guard.closed(), self._sending:
            self._pipe.send_bytes(data)

    def tell(self, what: str, *args: Any) -> None:
        """Tell the kernel."""
        self.send(("ask", None, what, packed(what, args)))

    def ask(self, what: str, *args: Any) -> Any:
        """Ask the kernel, and wait for its answer; raises what the kernel raised."""
        number = next(self._numbers)
        reply = self._replies[number] = SimpleQueue()
        try:
            self.send(("ask", number, what, packed(what, args)))
            well, value = reply.get()
        finally:
            self._replies.pop(number, None)
        if well:
            return unpack(value)
        raise exception_from(value) or RuntimeError(what)

    def watch(self, task_ids: Sequence[str], on_end: Callable[[str, Record], None]) -> Callable[[], None]:
        """Hear of the ends of tasks; returns the way to stop."""
        number = next(self._numbers)
        self._watches[number] = on_end
        self.tell("watch", number, list(task_ids))

        def stop() -> None:
            if self._watches.pop(number, None) is not None:
                self.tell("unwatch", number)

        return stop


class _Engine:
    """What an app of this process is told about running tasks: the kernel does."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tasks = ShippedTasks(kernel)
        self.settings: Mapping[str, Any] = {}
        self.packing = EMBEDDED
        self.apps: list[App] = []

    def adopt(self, app: App) -> None:
        adopt(app, self.kernel, self.tasks, self.settings)
        set_packing(app, self.packing)
        self.apps.append(app)

    def start(self, _app: App) -> Any:
        return None

    def apply(self, app: App, plan: Plan, *, throw: bool, keep: bool = False) -> Any:
        from nbcanvas.worker.eager import run_eagerly

        return run_eagerly(app, plan, throw=throw, keep=keep)

    def pack(self, task: Task) -> Any:
        return ship(task)

    def unpack(self, data: bytes) -> Task:
        return receive(data)


class Child:
    """Runs messages in the main thread, one after the other."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._engine = _Engine(kernel)
        set_engine(self._engine)
        self._main: KernelMain = install_main(kernel)
        self._app = App()
        self._modules = UserModules()
        self._done = 0
        self._output = sys.stdout, sys.stderr

    def serve(self) -> None:
        """Work until the kernel says that it is enough."""
        while True:
            kind, *rest = self._kernel.frames.get()
            if kind == "run":
                self._kernel.send(self._run(*rest))
                self._repair_output()
            elif kind == "set":
                self._set(*rest)
                self._kernel.send(("set",))
            else:
                return

    def _set(
        self,
        directory: str,
        path: Sequence[str],
        settings: bytes,
        names: Sequence[str],
        remote: bool,
        modules: Sequence[str],
    ) -> None:
        with suppress(OSError):  # gone by now; a task that needs it will say so
            os.chdir(directory)
        sys.path[:] = path
        self._engine.settings = unpack(settings)
        self._engine.packing = WIRE if remote else EMBEDDED
        for app in self._engine.apps:
            app.conf.clear()
            app.conf.update(self._engine.settings)
            set_packing(app, self._engine.packing)
        for name in names:
            self._main.__dict__.pop(name, None)
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception:  # its tasks come by value then, or say what is wrong
                log.exception("module %r cannot be imported in a child process", name)

    def _run(
        self, number: int, name: str, version: str, shipment: bytes | None, data: tuple[Any, ...], hostname: str
    ) -> tuple[Any, ...]:
        if self._modules.have_changed():
            return ("stale",)
        guard, tasks = self._kernel.guard, self._engine.tasks
        try:
            task = tasks.here(name, version) if shipment is None else tasks.take(name, version, shipment)
            assert task is not None  # noqa: S101 - the kernel ships what is not here
        except Refused:
            return ("refused",)
        except BaseException as error:  # noqa: BLE001 - a shipment may run anything when it is opened
            return "spoilt", outcome_to_data(failure(error))
        message = data_to_message(data)
        context = ChildContext(self._kernel, message, hostname)
        try:
            try:
                guard.open(number)
                outcome: Outcome = execute(self._app, task, message, context)
            finally:
                guard.close()
        except BaseException as error:  # noqa: BLE001 - a soft limit that came a moment late, in `close` even
            outcome = failure(error)
        return "done", *self._answer(outcome, context)

    def _answer(self, outcome: Outcome, context: ChildContext) -> tuple[Any, ...]:
        self._done += 1
        self._modules.look()
        try:
            children = pack(own) if (own := context.own_children) else None
            answer = outcome_to_data(outcome)
        except NotSerializable as error:
            children, answer = None, outcome_to_data(failure(error))
        return answer, children, self._is_worn()

    def _is_worn(self) -> bool:
        tasks, memory = self._app.conf.worker_max_tasks_per_child, self._app.conf.worker_max_memory_per_child
        if memory:
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if peak // (1024 if sys.platform == "darwin" else 1) > memory:
                return True
        return bool(tasks) and self._done >= tasks

    def _repair_output(self) -> None:
        """Give the next task an open stdout and stderr, whatever this one did to its own."""
        out, err = self._output
        if sys.stdout is out and sys.stderr is err and not out.closed and not err.closed:
            out.flush()
            return
        self._output = sys.stdout, sys.stderr = _open_output()


def _open_output() -> tuple[Any, Any]:
    """Open file descriptors 1 and 2 (never closing them), or nothing where they are closed."""
    return _open(1), _open(2)


def _open(descriptor: int) -> Any:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _die_with(line: int) -> None:
    """Have the operating system kill this process group when the other end of the life line is closed."""
    if sys.platform != "linux":
        return
    import fcntl

    fcntl.fcntl(line, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)


def main(pipe: int, line: int) -> None:
    """Be a child.

    Parameters
    ----------
    pipe
        File descriptor of the conversation.
    line
        File descriptor of the life line, which the kernel holds open as long as it lives.
    """
    _die_with(line)
    connection = Connection(pipe)
    kernel = Kernel(connection)
    for inherited in (pipe, line):
        os.set_inheritable(inherited, False)

    def let_go() -> None:  # a fork of this process must not keep the conversation open when we are gone
        os.close(line)
        connection.close()

    os.register_at_fork(after_in_child=let_go)
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGUSR1, kernel.guard.arrived)
    sys.stdout, sys.stderr = _open_output()
    child = Child(kernel)
    threading.Thread(target=kernel.listen, name="nbcanvas-kernel", daemon=True).start()
    gc.collect()
    gc.freeze()
    kernel.send(("ready",))
    child.serve()
