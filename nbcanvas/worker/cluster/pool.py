"""The slots of a worker: opened, closed, ended, counted."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, time

from nbcanvas.app import App
from nbcanvas.errors import TimeLimitExceeded
from nbcanvas.plan import Failed, Outcome
from nbcanvas.worker.limits import Watchdog
from nbcanvas.worker.slots import Executor, Slot, executors

from .job import Job

__all__ = ["Pool", "WorkingSlot"]


class WorkingSlot(Slot):
    """A slot, and the job in it.

    Attributes
    ----------
    job
        What runs now.
    retired
        Whether it is to take no more jobs.
    """

    __slots__ = ("job", "retired")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.job: Job | None = None
        self.retired = False


class Pool:
    """The slots of one worker.

    Parameters
    ----------
    app
        The app.
    kind
        ``"threads"``, ``"processes"`` or ``"solo"``.
    size
        How many slots there are to be.
    name
        The worker's name.
    serve
        What a slot does, in its thread, until it is retired or abandoned.
    modules
        What processes import first.
    """

    def __init__(
        self,
        app: App,
        kind: str,
        size: int,
        name: str,
        serve: Callable[[WorkingSlot], None],
        modules: Sequence[str] = (),
    ) -> None:
        self._app = app
        self.kind = kind
        self.size = size
        self._name = name
        self._serve = serve
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._modules = modules
        self._new_executor = executors(kind, app, modules)
        self._closing = False
        self.slots: list[WorkingSlot] = []
        self.watchdog = Watchdog()

    # -- slots ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the slots that are missing, and retire those that are too many, idle ones first."""
        with self._lock:
            alive = [slot for slot in self.slots if not slot.retired]
            for _ in range(self.size - len(alive)):
                self._open()
            idle_first = sorted(alive, key=lambda slot: slot.job is not None)
            for slot in idle_first[: max(len(alive) - self.size, 0)]:
                slot.retired = True

    def resize(self, size: int) -> None:
        """Have another number of slots; one that runs a task ends it first."""
        self.size = max(size, 0)
        self.open()

    def restart(self) -> None:
        """Put new slots in the place of all; each ends its task first."""
        with self._lock:
            for slot in self.slots:
                slot.retired = True
            self._new_executor = executors(self.kind, self._app, self._modules)
        self.open()

    def _open(self) -> None:
        slot = WorkingSlot(f"{self._name}/{next(self._numbers)}")
        slot.thread = threading.Thread(target=self._loop, args=(slot,), name=f"nbcanvas-{slot.name}", daemon=True)
        self.slots.append(slot)
        slot.thread.start()

    def _loop(self, slot: WorkingSlot) -> None:
        slot.executor = self._new_executor()
        try:
            self._serve(slot)
        finally:
            slot.executor.close()
            with self._lock:
                if slot in self.slots:
                    self.slots.remove(slot)

    def executor_of(self, slot: WorkingSlot) -> Executor:
        """Return where the tasks of a slot run; made before its loop begins."""
        assert slot.executor is not None  # noqa: S101 - see `_loop`
        return slot.executor

    # -- ending what runs -------------------------------------------------------------------------------------------

    def watch(
        self, slot: WorkingSlot, job: Job, hard: float | None, soft: float | None, end: Callable[[Job, Outcome], bool]
    ) -> Callable[[], None]:
        """Hold a job to its time limits; returns the way to stop that."""
        stops = []
        if soft is not None:
            stops.append(self.watchdog.at(time() + soft, lambda: self._soft(slot, job)))
        if hard is not None:
            error = TimeLimitExceeded(hard)
            stops.append(self.watchdog.at(time() + hard, lambda: self.end(slot, job, Failed(error), "SIGKILL", end)))

        def stop() -> None:
            for one in stops:
                one()

        return stop

    def _soft(self, slot: WorkingSlot, job: Job) -> None:
        if slot.job is job and slot.executor is not None:
            slot.executor.soft_limit(job.message)

    def end(
        self, slot: WorkingSlot, job: Job, outcome: Outcome, signal: str, end: Callable[[Job, Outcome], bool]
    ) -> None:
        """End what runs in a slot, and say at once how it ended; a slot that cannot be freed is given up."""
        if slot.job is not job or slot.executor is None or not end(job, outcome):
            return  # it ended by itself meanwhile
        slot.executor.end(job.message, signal, slot.give_up)
        if slot.abandoned:
            with self._lock:
                if slot in self.slots:
                    self.slots.remove(slot)
            if not self._closing:
                self.open()

    # -- closing ----------------------------------------------------------------------------------------------------

    def close(self, timeout: float | None, wake: Callable[[], None], hurry: Callable[[], bool]) -> bool:
        """Retire every slot and wait for them, `timeout` seconds at most, or until `hurry`; False when some run on."""
        self._closing = True
        slots = list(self.slots)
        for slot in slots:
            slot.retired = True
        until = None if timeout is None else monotonic() + timeout
        ended = self._join(slots, until, wake, hurry)
        self.watchdog.stop()
        return ended

    def end_children(self) -> None:
        """End the processes of the slots, whatever runs in them."""
        self._closing = True
        for slot in list(self.slots):
            slot.retired = True
            if slot.executor is not None:
                slot.executor.close()

    @staticmethod
    def _join(
        slots: Iterable[WorkingSlot], until: float | None, wake: Callable[[], None], hurry: Callable[[], bool]
    ) -> bool:
        for slot in slots:
            thread = slot.thread
            while thread is not None and thread is not threading.current_thread() and thread.is_alive():
                if (until is not None and monotonic() >= until) or hurry():
                    return False
                thread.join(_LOOK)
                wake()  # it may have been about to sleep when it was woken first
        return True

    # -- questions --------------------------------------------------------------------------------------------------

    def running(self) -> list[tuple[WorkingSlot, Job]]:
        """Return what runs now, and where."""
        return [(slot, job) for slot in list(self.slots) if (job := slot.job) is not None]

    def processes(self) -> list[int]:
        """Return the ids of the processes that tasks run in."""
        found = [pid for slot in list(self.slots) if (pid := getattr(slot.executor, "pid", None)) is not None]
        return found or [os.getpid()]


_LOOK = 0.05
