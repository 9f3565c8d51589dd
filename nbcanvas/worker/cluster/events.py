"""What a worker tells of itself and its tasks: Celery's events (protocol, section 8)."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from time import time
from typing import TYPE_CHECKING, Any, Final

from nbcanvas.plan import Failed, Message, Outcome, Rejected, Retried, Revoked, Value
from nbcanvas.protocol.payload import unpack
from nbcanvas.protocol.saferepr import saferepr, shown
from nbcanvas.remote.dispatcher import Dispatcher
from nbcanvas.remote.mailbox import Events

from .context import shown_arguments

if TYPE_CHECKING:
    from nbcanvas.app import App

__all__ = ["WorkerEvents", "software"]

_SIGTERM: Final = 15
#: So many ids of terminated tasks are remembered until their end is told.
_MOST: Final = 1000


def software() -> dict[str, str]:
    """Say what this worker is."""
    try:
        number = version("nbcanvas")
    except PackageNotFoundError:  # run from its sources
        number = "0"
    return {"sw_ident": "nbcanvas", "sw_ver": number, "sw_sys": platform.system()}


class WorkerEvents:
    """Tells events of one worker; a `Listener`.

    Parameters
    ----------
    app
        The worker's.
    hostname
        The worker's name.
    counts
        Says how many tasks run, and how many have been taken.
    tasks
        Tell events of tasks from the start (``-E``).
    heartbeat
        Tell that the worker lives.
    interval
        Seconds between two heartbeats.

    Attributes
    ----------
    tasks
        Whether events of tasks are told.
    """

    def __init__(
        self,
        app: App,
        hostname: str,
        counts: Callable[[], tuple[int, int]],
        *,
        tasks: bool = False,
        heartbeat: bool = True,
        interval: float = 2.0,
    ) -> None:
        self.tasks = tasks
        self._always = tasks  # with -E, Celery's workers cannot be told to stop
        self._counts = counts
        self._heartbeat = heartbeat
        self._interval = float(interval)
        self._software = software()
        self._signals: dict[str, int] = {}
        self._dispatcher = Dispatcher(app.kombu, Events.of(app.conf), app.control.clock, hostname)
        self._revokes = app.control.revokes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"nbcanvas-events-beat-{hostname}", daemon=True)

    # -- the worker ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Say that the worker is there, and go on saying so."""
        self._tell_worker("worker-online")
        if self._heartbeat:
            self._thread.start()

    def stop(self) -> None:
        """Say that it goes."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1)
        self._tell_worker("worker-offline")
        self._dispatcher.close()

    def _beat(self) -> None:
        while not self._stopped.wait(self._interval):
            self._tell_worker("worker-heartbeat")

    def _tell_worker(self, kind: str) -> None:
        active, processed = self._counts()
        load = [0.0, 0.0, 0.0]
        with suppress(OSError):
            load = [round(one, 2) for one in os.getloadavg()]
        fields = {"freq": self._interval, "active": active, "processed": processed, "loadavg": load}
        self._dispatcher.send(kind, fields | self._software)

    def beat_now(self) -> None:
        """Tell one heartbeat more, because somebody asked."""
        self._dispatcher.send("worker-heartbeat", {"freq": 5, **self._software})

    def enable(self) -> bool:
        """Tell events of tasks from now on; False when they are told already."""
        before, self.tasks = self.tasks, True
        return not before

    def disable(self) -> bool:
        """Tell events of tasks no more; False when none are told, or the worker was started so that they are."""
        if self._always or not self.tasks:
            return False
        self.tasks = False
        return True

    # -- its tasks ----------------------------------------------------------------------------------------------------

    def _tell(self, kind: str, message: Message, fields: dict[str, Any]) -> None:
        self._dispatcher.send(kind, {"uuid": message.call.id, **fields})

    def received(self, message: Message, headers: Mapping[str, Any]) -> None:
        """A message was taken; what is turned away at once is not told, as in Celery.

        Arguments are told as its sender shows them: secrets are hidden there (``argsrepr``).
        """
        if not self.tasks or self._turned_away(message):
            return
        args, kwargs = shown_arguments(message, headers)
        self._tell(
            "task-received",
            message,
            {
                "name": message.call.task,
                "args": args,
                "kwargs": kwargs,
                "root_id": message.root_id,
                "parent_id": message.parent_id,
                "retries": message.retries,
                "eta": _iso(message.due),
                "expires": _iso(message.expires),
            },
        )

    def _turned_away(self, message: Message) -> bool:
        if message.expires is not None and time() > message.expires:
            return True
        return self._revokes.hits(message.call.id, message.call.stamps)

    def started(self, message: Message) -> None:
        """Its task begins."""
        if self.tasks:
            self._tell("task-started", message, {})

    def ended(self, message: Message, outcome: Outcome, runtime: float | None) -> None:
        """It ended; what was ignored or replaced is not told, as in Celery."""
        if not self.tasks:
            return
        if isinstance(outcome, Value):
            result = saferepr(unpack(outcome.payload))
            self._tell("task-succeeded", message, {"result": result, "runtime": runtime or 0.0})
        elif isinstance(outcome, Failed):
            self._tell("task-failed", message, {"exception": shown(outcome.exc), "traceback": outcome.traceback or ""})
        elif isinstance(outcome, Retried):
            self._tell("task-retried", message, {"exception": shown(outcome.exc), "traceback": outcome.traceback or ""})
        elif isinstance(outcome, Revoked):
            signum = self._signals.pop(message.call.id, _SIGTERM) if outcome.terminated else None
            fields = {"terminated": outcome.terminated, "signum": signum, "expired": outcome.expired}
            self._tell("task-revoked", message, fields)
        elif isinstance(outcome, Rejected):
            self._tell("task-rejected", message, {"requeue": outcome.requeue})

    def ended_by(self, ids: Iterable[str], signum: int) -> None:
        """Hear with which signal tasks are being ended."""
        self._signals.update(dict.fromkeys(ids, signum))
        while len(self._signals) > _MOST:
            self._signals.pop(next(iter(self._signals)))


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
