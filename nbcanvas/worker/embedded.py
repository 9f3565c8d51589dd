"""The embedded worker: slots that take messages from the app's broker, inside the kernel.

A slot is a thread with a loop: take a message, have it executed, perform what follows.  It decides nothing; what a
finished task causes is `plan.advance`'s business.  Where the task's code runs is the executor's: in the slot's own
thread (pools ``threads`` and ``solo``), or in a process that belongs to the slot (``processes``).

Stopping: the worker first closes its ears (slots take no new message), then waits for what runs, at most as long as
asked; what still runs then is left to end by itself in a daemon thread (or its process is ended).  Waiting messages
stay in the broker for the next worker.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.app.settings import ignores_result
from nbcanvas.backend.port import Record
from nbcanvas.errors import TaskRevokedError, TimeLimitExceeded
from nbcanvas.events.event import RECEIVED, STARTED
from nbcanvas.plan import Failed, Message, Outcome, Retried, Revoked
from nbcanvas.protocol.payload import pack
from nbcanvas.request import Context
from nbcanvas.task import Task

from .admission import limits_of, refusal, tracks_start
from .errbacks import ErrbackTeller
from .execute import TerminateTask, arguments, failure
from .limits import Watchdog
from .rates import RateLimits
from .slots import Slot, executors, pool_name, pool_size

__all__ = ["EmbeddedWorker"]

log = logging.getLogger("nbcanvas.worker")

_WAKE_EVERY = 0.1
#: How long a stopping worker waits for slots to say what became of the tasks whose processes it ended.
_LAST_WORDS = 1.0
#: How long it waits for results to be kept.
_KEEPING = 10.0


class EmbeddedWorker:
    """A worker inside the process of its app.

    Parameters
    ----------
    app
        The app whose messages it takes.
    concurrency
        How many slots; the setting ``worker_concurrency``, else as the pool thinks right.
    pool
        ``"threads"``, ``"processes"`` or ``"solo"``; the setting ``worker_pool`` by default.
    """

    def __init__(self, app: App, concurrency: int | None = None, pool: str | None = None) -> None:
        self.app = app
        self.pool = pool_name(pool or app.conf.worker_pool)
        self.concurrency = pool_size(self.pool, concurrency, app.conf)
        self.hostname = f"embedded@{socket.gethostname()}"
        self.started = time()
        self.slots: list[Slot] = []
        self._numbers = itertools.count(1)
        self._stopping = False
        self._new_executor = executors(self.pool, app)
        self.watchdog = Watchdog()
        self.rates = RateLimits()
        self.finished = 0
        app.performer.tell = ErrbackTeller(app).tell

    # -- lifecycle --------------------------------------------------------------------------------------------------

    def start(self) -> EmbeddedWorker:
        """Start the slots; returns self."""
        _running_workers.add(self)
        for _ in range(self.concurrency):
            self._open_slot()
        return self

    def _open_slot(self) -> None:
        slot = Slot(f"{self.hostname}/{next(self._numbers)}")
        slot.thread = threading.Thread(target=self._loop, args=(slot,), name=f"nbcanvas-{slot.name}", daemon=True)
        self.slots.append(slot)
        slot.thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Take no more messages, wait for what runs (`timeout` seconds at most), and let go of everything."""
        self._stopping = True
        self.app.broker.wake()
        slots = list(self.slots)
        self._join(slots, timeout)
        for slot in slots:
            if slot.executor is not None:
                slot.executor.close()
        if timeout is not None and self.pool == "processes":
            self._join(slots, _LAST_WORDS)
        self.app.backend.flush(_KEEPING)
        self.watchdog.stop()
        _running_workers.discard(self)

    def _join(self, slots: Iterable[Slot], timeout: float | None) -> None:
        until = None if timeout is None else time() + timeout
        for slot in slots:
            thread = slot.thread
            while thread is not None and thread is not threading.current_thread() and thread.is_alive():
                left = None if until is None else until - time()
                if left is not None and left <= 0:
                    break
                thread.join(_WAKE_EVERY if left is None else min(left, _WAKE_EVERY))
                self.app.broker.wake()  # a slot may have been about to wait when it was woken first

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self, slot: Slot) -> None:
        app = self.app
        executor = slot.executor = self._new_executor()
        get = app.broker.get
        while not (self._stopping or slot.abandoned):
            executor.ready()
            message = get(None)
            if message is None:
                continue
            try:
                self._work(slot, message)
            except TerminateTask:
                continue
            except Exception as error:  # never lose a message without a word
                log.exception("message %r could not be worked on", message)
                slot.message = None
                self._finish(slot, message, failure(error), None)
        executor.close()

    def _work(self, slot: Slot, message: Message) -> None:
        call = message.call
        task = self.app.tasks.find(call.task, call.version)
        slot.started = now = time()
        # Before it is asked whether it is revoked: who revokes says so first, and then looks here.
        slot.message = message
        refused = refusal(self.app, task, message, now)
        if refused is not None:
            self._turn_away(slot, message, refused)
            return
        assert task is not None  # noqa: S101 - or it would have been refused
        wait = self.rates.hold(self.app, task, message)
        if wait:
            slot.message = None
            message.due = due = now + wait
            self._tell_received(message, {"due": due})
            self.app.broker.publish((message,))
            self.app.control.waits_again(message)
            if due > time() and not self.rates.holds(message):  # the limit was changed before it was there to be found
                self._look_again(lambda one: one is message and one.due == due)
            return
        self._execute(slot, task, message, now)

    def _turn_away(self, slot: Slot, message: Message, outcome: Outcome) -> None:
        """End what was taken and does not run."""
        slot.message = None
        self._tell_received(message)
        self._finish(slot, message, outcome, None)

    def _tell_received(self, message: Message, data: dict[str, float] | None = None) -> None:
        """Tell the run of a message that was taken but does not start now; of all others the start says it."""
        feed = self.app.hub.feed(message.root_id)
        if feed is not None:
            feed((RECEIVED, message.call.id, time(), message.attempt, data))

    def _execute(self, slot: Slot, task: Task, message: Message, now: float) -> None:
        call, app = message.call, self.app
        options = call.options
        feed = app.hub.feed(message.root_id)
        if feed is not None:
            feed((STARTED, call.id, now, message.attempt, slot.name))
        defaults = app.defaults
        if tracks_start(task, defaults):
            app.backend.update(
                call.id,
                Record(
                    states.STARTED,
                    _started_meta(slot.name),
                    settled=message.attempt - 1,
                    call=call,
                    retries=message.retries,
                    worker=slot.name,
                ),
            )
        context = Context(message, call.task, hostname=slot.name, queue=app.queue_of)
        limits = limits_of(task, options, defaults)
        watch = self._watch(slot, message, *limits) if limits is not None else None
        assert slot.executor is not None  # noqa: S101 - made before the loop
        try:
            outcome = slot.executor.run(task, message, context)
        finally:
            if watch is not None:
                watch()
            slot.message = None
        if slot.abandoned:
            return
        self._finish(slot, message, outcome, context, keep=not ignores_result(task, options, defaults))

    def _finish(
        self, slot: Slot, message: Message, outcome: Outcome, context: Context | None, *, keep: bool = True
    ) -> None:
        self.finished += 1
        children = (context.children or ()) if context is not None else ()
        self.app.performer.finish(message, outcome, slot.name, children, keep=keep)
        if type(outcome) is Retried:
            self.app.control.waits_again(message)

    # -- limits and ending ------------------------------------------------------------------------------------------

    def _watch(self, slot: Slot, message: Message, hard: float | None, soft: float | None) -> Callable[[], None]:
        stops = []
        if soft is not None:
            stops.append(self.watchdog.at(time() + soft, lambda: self._soft(slot, message)))
        if hard is not None:
            stops.append(self.watchdog.at(time() + hard, lambda: self._hard(slot, message, hard)))

        def stop() -> None:
            for one in stops:
                one()

        return stop

    def _soft(self, slot: Slot, message: Message) -> None:
        if slot.message is message and slot.executor is not None:
            slot.executor.soft_limit(message)

    def _hard(self, slot: Slot, message: Message, limit: float) -> None:
        error = TimeLimitExceeded(limit)
        self._end(slot, message, Failed(error), "SIGKILL")

    def _end(self, slot: Slot, message: Message, outcome: Outcome, signal: str) -> None:
        """End what runs in a slot, and say at once how it ended; a slot that cannot be freed is given up."""
        if slot.message is not message or slot.executor is None:
            return
        if not self.app.performer.finish(message, outcome, slot.name):
            return  # it ended by itself meanwhile
        slot.executor.end(message, signal, slot.give_up)
        if slot.abandoned:
            self.slots.remove(slot)
            if not self._stopping:
                self._open_slot()

    def terminate(self, ids: Iterable[str], signal: str = "SIGTERM") -> None:
        """End the tasks with these ids if they run; they end as REVOKED."""
        wanted = set(ids)
        for slot in list(self.slots):
            message = slot.message
            if message is not None and message.call.id in wanted:
                self._end(slot, message, Revoked(TaskRevokedError("terminated"), terminated=True), signal)

    def rate_changed(self, name: str) -> None:
        """A task's rate limit is another one now: what waits because of the old one is looked at again."""
        held = self.rates.release(name)
        if held:
            self._look_again(lambda message: id(message) in held)

    def _look_again(self, matches: Callable[[Message], bool]) -> None:
        again = self.app.broker.withdraw(matches)
        for message in again:
            message.due = None
        self.app.broker.publish(again)

    # -- questions --------------------------------------------------------------------------------------------------

    @property
    def takes_messages(self) -> bool:
        """Whether it runs, and is not about to stop."""
        return not self._stopping and any(s.thread is not None and s.thread.is_alive() for s in list(self.slots))

    def held_back(self) -> dict[str, Any]:
        """Return what waits because of a rate limit: task id -> the limit."""
        find, default = self.app.tasks.find, self.app.defaults.rate_limit
        held = ((message.call, find(message.call.task, message.call.version)) for message in self.rates.held())
        return {call.id: default if task is None or task.rate_limit is None else task.rate_limit for call, task in held}

    def running(self) -> list[Message]:
        """Return what runs now."""
        return [message for slot in list(self.slots) if (message := slot.message) is not None]

    def active(self) -> list[dict[str, Any]]:
        """Describe what runs now, with the keys of Celery's ``inspect active``."""
        return [
            {
                **self._info(message),
                "hostname": slot.name,
                "time_start": slot.started,
                "acknowledged": True,
                "worker_pid": os.getpid(),
            }
            for slot in list(self.slots)
            if (message := slot.message) is not None
        ]

    def reserved(self) -> list[dict[str, Any]]:
        """Describe what waits and could start."""
        now = time()
        return [self._info(m) for m in self.app.broker.waiting() if m.due is None or m.due <= now]

    def scheduled(self) -> list[dict[str, Any]]:
        """Describe what waits for its time."""
        now = time()
        return [
            {"eta": m.due, "priority": 6, "request": self._info(m)}
            for m in self.app.broker.waiting()
            if m.due is not None and m.due > now
        ]

    def query(self, ids: Iterable[str]) -> dict[str, Any]:
        """Say where some ids are: ``{id: [state, description]}`` for those that are here."""
        wanted = set(ids)
        found = {m.call.id: ["active", self._info(m)] for m in self.running() if m.call.id in wanted}
        found |= {m.call.id: ["reserved", self._info(m)] for m in self.app.broker.waiting() if m.call.id in wanted}
        return found

    def _info(self, message: Message) -> dict[str, Any]:
        args, kwargs = arguments(message)
        queue, priority = self.app.route(message)
        return {
            "id": message.call.id,
            "name": message.call.task,
            "args": list(args),
            "kwargs": kwargs,
            "type": message.call.task,
            "hostname": self.hostname,
            "time_start": None,
            "acknowledged": False,
            "delivery_info": {"exchange": "", "routing_key": queue, "priority": priority, "redelivered": False},
            "worker_pid": None,
        }

    def stats(self) -> dict[str, Any]:
        """Return counts and the pool."""
        return {
            "pid": os.getpid(),
            "uptime": round(time() - self.started),
            "total": self.finished,
            "pool": {"implementation": self.pool, "max-concurrency": self.concurrency},
            "prefetch_count": 0,
            "waiting": sum(self.app.broker.depth().values()),
        }


def _started_meta(name: str) -> Any:
    return pack({"pid": os.getpid(), "hostname": name})


_running_workers: weakref.WeakSet[EmbeddedWorker] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Do not hold up the end of the process: slots are daemon threads, child processes are ended."""
    for worker in list(_running_workers):
        worker.stop(timeout=0.2)
