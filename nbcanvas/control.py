"""Remote control: what can be asked of workers, and what they can be told (Celery's guide, "Workers")."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.errors import TaskRevokedError
from nbcanvas.plan import Message, Revoked

__all__ = ["Control", "Inspect"]

_REVOKES_MAX = 50_000


class Control:
    """Commands to the workers of an app.

    Parameters
    ----------
    app
        The app.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        #: Revoked ids, oldest first, and since when; read by workers before each start.
        self.revoked: dict[str, float] = {}
        #: Revoked stamps: stamp name -> values.
        self.revoked_stamps: dict[str, set[Any]] = {}
        self._lock = threading.Lock()

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Do not run tasks; whatever waits for one of them ends as REVOKED too.

        Parameters
        ----------
        task_id
            One id, or several.
        terminate
            Also end those that run: kills the process of the process pool, raises in the thread of the thread pool.
        signal
            The signal for the process pool, ``"SIGTERM"`` by default.
        destination
            Accepted for compatibility.
        """
        ids = {task_id} if isinstance(task_id, str) else {str(one) for one in task_id}
        with self._lock:
            now = time()
            self.revoked.update(dict.fromkeys(ids, now))
            for old in list(self.revoked)[: max(len(self.revoked) - _REVOKES_MAX, 0)]:
                del self.revoked[old]
        self._end_waiting(lambda message: message.call.id in ids)
        running = self._running(lambda message: message.call.id in ids)
        for one in ids - running:
            record = self.app.backend.get(one)
            if record is None or record.state not in states.READY_STATES:
                # Said at once, so that nobody waits; what is behind it hears of it when its turn comes.
                self.app.backend.update(one, Record(states.REVOKED, None, TaskRevokedError("revoked"), done=time()))
        if terminate and running:
            self.app.worker.terminate(running, signal or "SIGTERM")

    def terminate(
        self, task_id: str | Iterable[str], destination: Any = None, signal: str = "SIGTERM", **kwargs: Any
    ) -> None:
        """Revoke tasks, those that run included."""
        self.revoke(task_id, destination, terminate=True, signal=signal)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Do not run tasks that bear one of these stamps, now and from now on.

        Parameters
        ----------
        headers
            Stamp name -> a value, or several.
        destination, terminate, signal
            As for `revoke`.
        """
        with self._lock:
            for name, values in headers.items():
                self.revoked_stamps.setdefault(name, set()).update(_values(values))
        self._end_waiting(self.is_stamped_revoked)
        if terminate:
            ids = self._running(self.is_stamped_revoked)
            if ids:
                self.app.worker.terminate(ids, signal or "SIGTERM")

    def is_stamped_revoked(self, message: Message) -> bool:
        """Say whether a message bears a revoked stamp."""
        stamps = message.call.stamps
        return bool(stamps) and any(
            self.revoked_stamps.get(name, set()) & set(_values(value)) for name, value in (stamps or {}).items()
        )

    def waits_again(self, message: Message) -> None:
        """Hear that a message was put back to wait: it may have been revoked just before, when it was in no queue."""
        call_id = message.call.id
        if call_id in self.revoked or self.is_stamped_revoked(message):
            self._end_waiting(lambda one: one.call.id == call_id)

    def _end_waiting(self, matches: Any) -> None:
        for message in self.app.broker.withdraw(matches):
            self.app.performer.finish(message, Revoked(TaskRevokedError("revoked")), "")

    def _running(self, matches: Any) -> set[str]:
        worker = self.app.worker
        return set() if worker is None else {m.call.id for m in worker.running() if matches(m)}

    def purge(self) -> int:
        """Drop every waiting message, and return how many there were; what waited for them ends as REVOKED."""
        found = self.app.broker.withdraw(lambda _: True)
        for message in found:
            self.app.performer.finish(message, Revoked(TaskRevokedError("purged")), "")
        return len(found)

    discard_all = purge

    def rate_limit(self, task_name: str, rate_limit: Any, destination: Any = None, **kwargs: Any) -> None:
        """Change how often a task may start; None or 0 takes the limit away."""
        self.app.tasks[task_name].rate_limit = rate_limit
        if self.app.worker is not None:
            self.app.worker.rate_changed(task_name)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> None:
        """Change a task's time limits, for executions that start from now on."""
        task = self.app.tasks[task_name]
        task.soft_time_limit, task.time_limit = soft, hard

    def ping(self, destination: Any = None, timeout: float = 1.0, **kwargs: Any) -> list[dict[str, Any]]:
        """Return one answer for each worker."""
        answer = self.inspect().ping()
        return [{name: reply} for name, reply in (answer or {}).items()]

    def inspect(self, destination: Any = None, timeout: float = 1.0, **kwargs: Any) -> Inspect:
        """Return what can be asked of workers."""
        return Inspect(self.app)


def _values(values: Any) -> Iterable[Any]:
    return values if isinstance(values, list | tuple | set | frozenset) else (values,)


class Inspect:
    """Questions to the workers of an app; each returns ``{worker name: answer}``, or None when there is none."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def _answer(self, reply: Any) -> dict[str, Any] | None:
        worker = self._app.worker
        return None if worker is None else {worker.hostname: reply(worker)}

    def ping(self, destination: Any = None) -> dict[str, Any] | None:
        """Ask who is there."""
        return self._answer(lambda _: {"ok": "pong"})

    def active(self, safe: Any = None) -> dict[str, Any] | None:
        """Ask which tasks run."""
        return self._answer(lambda worker: worker.active())

    def reserved(self, safe: Any = None) -> dict[str, Any] | None:
        """Ask which tasks wait and could start."""
        return self._answer(lambda worker: worker.reserved())

    def scheduled(self, safe: Any = None) -> dict[str, Any] | None:
        """Ask which tasks wait for their time."""
        return self._answer(lambda worker: worker.scheduled())

    def revoked(self) -> dict[str, Any] | None:
        """Ask which ids are revoked."""
        return self._answer(lambda _: list(self._app.control.revoked))

    def registered(self, *taskinfoitems: str) -> dict[str, Any] | None:
        """Ask which tasks are known."""
        return self._answer(lambda _: sorted(n for n in self._app.tasks if not n.startswith("celery.")))

    registered_tasks = registered

    def stats(self) -> dict[str, Any] | None:
        """Ask for counts and the pool."""
        return self._answer(lambda worker: worker.stats())

    def active_queues(self) -> dict[str, Any] | None:
        """Ask which queues are consumed: the embedded worker takes from every queue."""
        return self._answer(
            lambda _: [{"name": name, "messages": depth} for name, depth in self._app.broker.depth().items()]
        )

    def conf(self, with_defaults: bool = False) -> dict[str, Any] | None:
        """Ask for the settings."""
        return self._answer(lambda _: repr(self._app.conf))

    def query_task(self, *ids: str) -> dict[str, Any] | None:
        """Ask what the worker does with some ids."""
        return self._answer(lambda worker: worker.query(ids))
