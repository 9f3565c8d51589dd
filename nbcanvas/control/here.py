"""Commands that need no broker: what the embedded worker is told and asked, by the names of remote control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import Any, Final

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.errors import ImproperlyConfigured, TaskRevokedError
from nbcanvas.plan import Message, Revoked
from nbcanvas.remote.revokes import Revokes

__all__ = ["BUILTIN", "Here", "describe"]

Matches = Callable[[Message], bool]

#: How the names of tasks begin that every worker has.
BUILTIN: Final = ("celery.", "nbcanvas.")


class Here:
    """The embedded worker of an app, as one that commands are sent to.

    Parameters
    ----------
    app
        The app.
    revokes
        What has been revoked.
    """

    def __init__(self, app: Any, revokes: Revokes) -> None:
        self._app = app
        self._revokes = revokes

    @property
    def name(self) -> str | None:
        """The worker's name; None when there is none yet."""
        worker = self._app.worker
        return None if worker is None else worker.hostname

    def perform(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Do a command, and return the answer; `KeyError` for one that does not exist.

        Raises
        ------
        ImproperlyConfigured
            For one that only workers of a cluster know.
        """
        if method in _OF_A_CLUSTER:
            msg = f"{method} is for workers of a cluster; the embedded worker is changed with the settings worker_…"
            raise ImproperlyConfigured(msg)
        return self._COMMANDS[method](self, **arguments)

    # -- told ---------------------------------------------------------------------------------------------------------

    def revoke(self, task_id: Any, terminate: bool = False, signal: str | None = None) -> Any:
        """Do not run tasks; end those that wait, and with `terminate` those that run."""
        ids = {task_id} if isinstance(task_id, str) else {str(one) for one in task_id}
        self._revokes.add(ids)
        self.end_waiting(lambda message: message.call.id in ids)
        running = self.running(lambda message: message.call.id in ids)
        for one in ids - running:
            record = self._app.backend.get(one)
            if record is None or record.state not in states.READY_STATES:
                # Said at once, so that nobody waits; what is behind it hears of it when its turn comes.
                self._app.backend.update(one, Record(states.REVOKED, None, TaskRevokedError("revoked"), done=time()))
        if terminate and running:
            self._app.worker.terminate(running, signal or "SIGTERM")
        return {"ok": f"tasks {ids} flagged as revoked"}

    def terminate(self, task_id: Any, signal: str | None = None) -> Any:
        """Revoke tasks, those that run included."""
        return self.revoke(task_id, terminate=True, signal=signal)

    def revoke_by_stamped_headers(
        self, headers: Mapping[str, Any], terminate: bool = False, signal: str | None = None
    ) -> Any:
        """Do not run tasks that bear one of these stamps."""
        self._revokes.add_stamps(headers)
        hit = self.is_hit_by_stamp
        self.end_waiting(hit)
        if terminate and (ids := self.running(hit)):
            self._app.worker.terminate(ids, signal or "SIGTERM")
        return {"ok": f"headers {dict(headers)} flagged as revoked"}

    def is_hit_by_stamp(self, message: Message) -> bool:
        """Say whether a message bears a revoked stamp."""
        return self._revokes.hits("", message.call.stamps)

    def end_waiting(self, matches: Matches) -> None:
        """End messages that wait, as revoked."""
        for message in self._app.broker.withdraw(matches):
            self._app.performer.finish(message, Revoked(TaskRevokedError("revoked")), "")

    def running(self, matches: Matches) -> set[str]:
        """Return the ids of what runs and matches."""
        worker = self._app.worker
        return set() if worker is None else {m.call.id for m in worker.running() if matches(m)}

    def purge(self) -> int:
        """Drop what waits; what waited for that ends as revoked."""
        found = self._app.broker.withdraw(lambda _: True)
        for message in found:
            self._app.performer.finish(message, Revoked(TaskRevokedError("purged")), "")
        return len(found)

    def rate_limit(self, task_name: str, rate_limit: Any) -> Any:
        """Change how often a task may start."""
        self._app.tasks[task_name].rate_limit = rate_limit
        if self._app.worker is not None:
            self._app.worker.rate_changed(task_name)
        return {"ok": "new rate limit set successfully" if rate_limit else "rate limit disabled successfully"}

    def time_limit(self, task_name: str, soft: float | None = None, hard: float | None = None) -> Any:
        """Change a task's time limits."""
        task = self._app.tasks[task_name]
        task.soft_time_limit, task.time_limit = soft, hard
        return {"ok": "time limits set successfully"}

    # -- asked --------------------------------------------------------------------------------------------------------

    def registered(self, taskinfoitems: Iterable[str] = ()) -> list[str]:
        """Return the names of tasks, with the attributes that are asked for."""
        tasks = self._app.tasks
        return [describe(tasks[name], taskinfoitems) for name in sorted(tasks) if not name.startswith(BUILTIN)]

    def queues(self) -> list[dict[str, Any]]:
        """Return the queues: the embedded worker takes from every one."""
        return [{"name": name, "messages": depth} for name, depth in self._app.broker.depth().items()]

    _COMMANDS: Final[Mapping[str, Callable[..., Any]]] = {
        "revoke": revoke,
        "terminate": terminate,
        "revoke_by_stamped_headers": revoke_by_stamped_headers,
        "rate_limit": rate_limit,
        "time_limit": time_limit,
        "ping": lambda self: {"ok": "pong"},
        "active": lambda self, safe=None: self._app.worker.active(),
        "reserved": lambda self, safe=None: self._app.worker.reserved(),
        "scheduled": lambda self, safe=None: self._app.worker.scheduled(),
        "revoked": lambda self: list(self._revokes.ids),
        "registered": registered,
        "stats": lambda self: self._app.worker.stats(),
        "active_queues": queues,
        "conf": lambda self, with_defaults=False: repr(self._app.conf),
        "query_task": lambda self, ids: self._app.worker.query(ids),
        "report": lambda self: {"ok": self._app.bugreport()},
        "clock": lambda self: {"clock": self._app.control.clock.value},
    }


#: What is changed with settings here, or makes no sense inside a kernel.
_OF_A_CLUSTER: Final = frozenset(
    {
        *("add_consumer", "autoscale", "cancel_consumer", "disable_events", "election", "enable_events", "heartbeat"),
        *("hello", "memdump", "memsample", "objgraph", "pool_grow", "pool_restart", "pool_shrink", "shutdown"),
    }
)


def describe(task: Any, items: Iterable[str]) -> str:
    """Return a task's name, and the attributes of it that are asked for, as Celery's workers do."""
    found = [(item, getattr(task, item, None)) for item in items if isinstance(item, str) and not item.startswith("_")]
    text = " ".join(f"{item}={value}" for item, value in found if value is not None)
    return f"{task.name} [{text}]" if text else str(task.name)
