"""What a worker does when it is told something, and answers when it is asked: Celery's commands, in Celery's words."""

from __future__ import annotations

import logging
import os
import resource
import signal as signals
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import TYPE_CHECKING, Any, Final

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.control.here import BUILTIN, describe
from nbcanvas.errors import NBCanvasError, ServerLost, TaskRevokedError
from nbcanvas.remote.mailbox import Mailbox
from nbcanvas.remote.node import Node
from nbcanvas.remote.question import Question
from nbcanvas.remote.revokes import stamp_values
from nbcanvas.servers.wire import about
from nbcanvas.worker.rates import rate_per_second

from .events import WorkerEvents, software
from .orders import Orders

if TYPE_CHECKING:
    from nbcanvas.app import App

__all__ = ["COMMANDS", "Desk"]

log = logging.getLogger("nbcanvas.worker")

#: Attributes of tasks that `registered` tells when nobody says which.
_ITEMS: Final = ("exchange", "routing_key", "rate_limit")
#: How long a worker that starts waits until it hears commands, at most: whoever is told that it is ready may ask it.
_LISTENS: Final = 5.0
#: How long a worker that starts waits for others to say hello.
_HELLO: Final = 1.0
#: How long a command waits for what it causes before it is answered.
_AT_ONCE: Final = 0.2
#: States of a task that a revoke may overrule.
_NOT_BEGUN: Final = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})


class Desk:
    """Hears commands for a worker, does them, and answers.

    Parameters
    ----------
    worker
        What it may do with the worker.
    events
        Its events, if it tells any.
    mingle
        At the start, ask other workers what is revoked, and set the clock by theirs.
    statedb
        A file in which revokes survive the worker, where its broker cannot keep them.
    """

    def __init__(
        self,
        worker: Orders,
        events: WorkerEvents | None = None,
        *,
        mingle: bool = True,
        statedb: str | None = None,
    ) -> None:
        self.worker = worker
        self.events = events
        self.samples: deque[float] = deque(maxlen=100)
        self._mingle = mingle
        self._statedb = statedb
        app = worker.app
        conf = app.conf
        self._node: Node | None = None
        if conf.worker_enable_remote_control:
            self._node = Node(
                app.kombu,
                Mailbox.of(conf),
                app.control.clock,
                worker.hostname,
                self.perform,
                accept=conf.accept_content,
                serializer=conf.task_serializer,
            )

    def start(self) -> None:
        """Learn what is revoked, and listen."""
        if self._statedb:
            self.worker.revokes.load(self._statedb)
        try:
            self.worker.revokes.refresh()
        except ServerLost as lost:
            log.warning("what is revoked is learned later: %s", lost)  # it is asked at each heartbeat
        if self._node is not None:
            self._node.start()
            if self._node.listening(_LISTENS) and self._mingle:  # a worker that is ready hears commands
                self._say_hello()

    def stop(self) -> None:
        """Listen no more; write down what is revoked."""
        if self._node is not None:
            self._node.stop()
        self.save()

    def save(self) -> None:
        """Write down what is revoked."""
        if self._statedb:
            try:
                self.worker.revokes.save(self._statedb)
            except OSError as error:
                log.warning("what is revoked could not be written to %s: %s", self._statedb, error)

    def _say_hello(self) -> None:
        worker = self.worker
        remote = worker.app.control.remote
        if remote is None:
            return
        question = Question("hello", {"from_node": worker.hostname, "revoked": list(worker.revokes.ids)})
        try:
            for name, reply in remote.ask(question, timeout=_HELLO):
                if name != worker.hostname and isinstance(reply, Mapping):
                    worker.app.control.clock.adjust(reply.get("clock"))
                    worker.revokes.add(_ids(reply.get("revoked")))
        except ServerLost as lost:
            log.warning("no other workers were asked what is revoked: %s", lost)

    def perform(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Do a command; returns the answer."""
        return COMMANDS[method](self, **arguments)


# -- revoking -------------------------------------------------------------------------------------------------------


def _ids(given: Any) -> set[str]:
    if given is None:
        return set()
    return {given} if isinstance(given, str) else {str(one) for one in given}


def _signal(given: Any) -> str:
    """Return the name of a signal: ``KILL``, ``SIGKILL`` and 9 are one."""
    try:
        if isinstance(given, int):
            return signals.Signals(given).name
        name = str(given or "SIGTERM").upper()
        return signals.Signals[name if name.startswith("SIG") else f"SIG{name}"].name
    except (ValueError, KeyError):
        msg = f"there is no signal {given!r}"
        raise ValueError(msg) from None


def _keep(desk: Desk, ids: Iterable[str] = (), headers: Mapping[str, Any] | None = None) -> None:
    """Have revokes survive this worker; nobody waits for that in vain."""
    try:
        desk.worker.revokes.keep(ids, headers)
    except NBCanvasError as error:
        log.warning("what is revoked is known to workers that run now only: %s", error)
    desk.save()


def _revoke(desk: Desk, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
    ids = _ids(task_id)
    name = _signal(signal) if terminate else ""
    worker = desk.worker
    worker.revokes.add(ids)
    _keep(desk, ids)
    held = worker.query(ids)
    for one in ids:
        if one not in held:  # what is here ends by this worker's own hand
            _mark_revoked(worker.app, one)
    worker.revoked_now(ids)
    if not terminate:
        log.info("Tasks flagged as revoked: %s", ", ".join(ids))
        return {"ok": f"tasks {ids} flagged as revoked"}
    if not held:
        return {"ok": "terminate: tasks unknown"}
    _terminate(desk, held, name)
    return {"ok": f"terminate: {', '.join(held)}"}


def _terminate(desk: Desk, ids: Iterable[str], signal: str) -> None:
    log.info("Terminating %s (%s)", ", ".join(ids), signal)
    if desk.events is not None:
        desk.events.ended_by(ids, signals.Signals[signal].value)
    desk.worker.terminate(ids, signal)


def _mark_revoked(app: App, task_id: str) -> None:
    """Say at once that a task will not run, unless it ended, or began elsewhere."""
    try:
        record = app.backend.get(task_id)
        if record is None or record.state in _NOT_BEGUN:
            error = TaskRevokedError("revoked")
            app.backend.update(task_id, Record(states.REVOKED, None, error, done=time()))
    except NBCanvasError as error:
        log.warning("Failed to mark task %s as revoked in backend: %s", task_id, error)


def _revoke_by_stamps(desk: Desk, headers: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
    name = _signal(signal)
    if isinstance(headers, list):  # as the command line has them
        headers = dict(str(one).split("=", 1) for one in headers)
    worker = desk.worker
    worker.revokes.add_stamps(headers)
    _keep(desk, (), headers)
    hit: dict[str, set[Any]] = defaultdict(set)
    ids = []
    for message in worker.running() if terminate else ():
        stamps = message.call.stamps or {}
        found = {
            header: both
            for header, values in headers.items()
            if header in stamps and (both := {*stamp_values(stamps[header])}.intersection(stamp_values(values)))
        }
        if found:
            ids.append(message.call.id)
            for header, both in found.items():
                hit[header].update(both)
    worker.revoked_now(())
    if not terminate:
        return {"ok": f"headers {headers} flagged as revoked, but not terminated"}
    if not ids:
        return {"ok": f"headers {headers} were not terminated"}
    _terminate(desk, ids, name)
    return {"ok": f"headers {hit} revoked"}


def _revoked(desk: Desk, **_: Any) -> list[str]:
    desk.worker.revokes.purge()
    return list(desk.worker.revokes.ids)


def _hello(desk: Desk, from_node: str, revoked: Any = None, **_: Any) -> Any:
    worker = desk.worker
    if from_node == worker.hostname:
        return None
    log.info("sync with %s", from_node)
    ids = _ids(revoked)
    if ids:
        worker.revokes.add(ids - worker.revokes.ids.keys())
        worker.revoked_now(ids)
    return {"revoked": _revoked(desk), "clock": worker.app.control.clock.forward()}


# -- tasks ----------------------------------------------------------------------------------------------------------


def _rate_limit(desk: Desk, task_name: str, rate_limit: Any, **_: Any) -> Any:
    try:
        rate_per_second(rate_limit)
    except ValueError as error:
        return {"error": f"Invalid rate limit string: {error!r}"}
    task = desk.worker.app.tasks.find(task_name)
    if task is None:
        return {"error": "unknown task"}
    task.rate_limit = rate_limit
    desk.worker.rate_changed(task_name)
    log.info("New rate limit for tasks of type %s: %s", task_name, rate_limit)
    return {"ok": "new rate limit set successfully" if rate_limit else "rate limit disabled successfully"}


def _time_limit(desk: Desk, task_name: Any = None, hard: Any = None, soft: Any = None, **_: Any) -> Any:
    for limit in (hard, soft):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0):
            return {"error": f"a time limit is a number of seconds, not {limit!r}"}
    task = desk.worker.app.tasks.find(task_name)
    if task is None:
        return {"error": "unknown task"}
    task.soft_time_limit, task.time_limit = soft, hard
    log.info("New time limits for tasks of type %s: soft=%s hard=%s", task_name, soft, hard)
    return {"ok": "time limits set successfully"}


def _registered(desk: Desk, taskinfoitems: Any = None, builtins: bool = False, **_: Any) -> list[str]:
    tasks = desk.worker.app.tasks
    items = taskinfoitems or _ITEMS
    return [describe(tasks[name], items) for name in sorted(tasks) if builtins or not name.startswith(BUILTIN)]


def _active(desk: Desk, safe: Any = None, **_: Any) -> Any:
    return desk.worker.active(safe=bool(safe))


def _query_task(desk: Desk, ids: Any, **_: Any) -> Any:
    return desk.worker.query(_ids(ids))


# -- the worker -----------------------------------------------------------------------------------------------------


def _stats(desk: Desk, **_: Any) -> dict[str, Any]:
    worker = desk.worker
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "clock": str(worker.app.control.clock.value),
        "uptime": round(time() - worker.started),
        "broker": about(worker.app.kombu),
        "rusage": {name[3:]: getattr(used, name) for name in dir(used) if name.startswith("ru_")},
        **software(),
        **worker.stats(),
    }


def _conf(desk: Desk, with_defaults: Any = False, **_: Any) -> Any:
    return {name: _shown(value) for name, value in desk.worker.app.conf.table(bool(with_defaults)).items()}


def _shown(value: Any) -> Any:
    """Return a setting as JSON has it; what it has not, as text."""
    if isinstance(value, Mapping):
        return {str(key): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _resident() -> float:
    """Return how much memory this process has now, in megabytes."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - no file
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _memsample(desk: Desk, **_: Any) -> str:
    desk.samples.append(_resident())
    return f"{desk.samples[-1]:.3f}MB"


def _memdump(desk: Desk, samples: int = 10, **_: Any) -> str:
    lines = [f"{sample:.3f}MB" for sample in list(desk.samples)[-int(samples) :]]
    return "\n".join(["- rss (sample):", *lines, ""] if lines else []) + f"- rss (end): {_resident():.3f}MB.\n"


def _objgraph(desk: Desk, num: int = 200, max_depth: int = 10, type: str = "Request") -> Any:
    msg = "Requires the objgraph library"
    raise ImportError(msg)


def _shutdown(desk: Desk, msg: str = "Got shutdown from remote", **_: Any) -> Any:
    log.warning("%.200s", msg)
    desk.worker.shutdown()
    return {"ok": "shutting down"}


def _events(desk: Desk, on: bool) -> Any:
    if desk.events is None:
        return {"error": "event dispatcher unavailable"}
    word = "enabled" if on else "disabled"
    changed = desk.events.enable() if on else desk.events.disable()
    return {"ok": f"task events {word}" if changed else f"task events already {word}"}


def _heartbeat(desk: Desk) -> None:
    if desk.events is not None:
        desk.events.beat_now()


# -- the pool and its queues ----------------------------------------------------------------------------------------


def _resized(desk: Desk, word: str, n: Any) -> Any:
    if desk.worker.autoscales:
        return {"error": f"pool_{word} is not supported with autoscale. Adjust autoscale range instead."}
    if isinstance(n, bool) or not isinstance(n, int) or not 0 < n <= 10_000:
        return {"error": f"n has to be a number of slots, not {n!r}"}
    (desk.worker.grow if word == "grow" else desk.worker.shrink)(n)
    return {"ok": f"pool will {word}"}


def _pool_restart(desk: Desk, modules: Any = None, reload: bool = False, reloader: Any = None, **_: Any) -> Any:
    if not desk.worker.app.conf.worker_pool_restarts:
        msg = "Pool restarts not enabled"
        raise ValueError(msg)
    desk.worker.restart_pool([str(one) for one in modules or ()], bool(reload))
    return {"ok": "reload started"}


def _autoscale(desk: Desk, max: Any = None, min: Any = None) -> Any:
    if not desk.worker.autoscales:
        msg = "Autoscale not enabled"
        raise ValueError(msg)
    most, least = desk.worker.autoscale(max, min)
    return {"ok": f"autoscale now max={most} min={least}"}


def _add_consumer(
    desk: Desk, queue: str, exchange: Any = None, exchange_type: Any = None, routing_key: Any = None, **options: Any
) -> Any:
    worker = desk.worker
    _soon(lambda: worker.consume(queue, exchange, exchange_type or "direct", routing_key, **options))
    return {"ok": f"add consumer {queue}"}


def _cancel_consumer(desk: Desk, queue: str, **_: Any) -> Any:
    _soon(lambda: desk.worker.cancel(queue))
    return {"ok": f"no longer consuming from {queue}"}


def _soon(do: Callable[[], None]) -> None:
    """Do what may have to wait for the broker, without waiting long; what goes wrong at once is the answer."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except Exception as error:
            log.exception("a command failed")
            failed.append(error)

    thread = threading.Thread(target=run, name="nbcanvas-command", daemon=True)
    thread.start()
    thread.join(_AT_ONCE)
    if failed:
        raise failed[0]


#: What a worker understands: Celery's names, old ones too.
COMMANDS: Final[Mapping[str, Callable[..., Any]]] = {
    "ping": lambda desk, **_: {"ok": "pong"},
    "stats": _stats,
    "active": _active,
    "dump_active": _active,
    "reserved": lambda desk, **_: desk.worker.reserved(),
    "dump_reserved": lambda desk, **_: desk.worker.reserved(),
    "scheduled": lambda desk, **_: desk.worker.scheduled(),
    "dump_schedule": lambda desk, **_: desk.worker.scheduled(),
    "revoked": _revoked,
    "dump_revoked": _revoked,
    "registered": _registered,
    "dump_tasks": _registered,
    "active_queues": lambda desk: desk.worker.queues(),
    "conf": _conf,
    "dump_conf": _conf,
    "query_task": _query_task,
    "report": lambda desk: {"ok": desk.worker.app.bugreport()},
    "clock": lambda desk, **_: {"clock": desk.worker.app.control.clock.value},
    "hello": _hello,
    "revoke": _revoke,
    "terminate": lambda desk, signal, task_id, **_: _revoke(desk, task_id, terminate=True, signal=signal),
    "revoke_by_stamped_headers": _revoke_by_stamps,
    "rate_limit": _rate_limit,
    "time_limit": _time_limit,
    "add_consumer": _add_consumer,
    "cancel_consumer": _cancel_consumer,
    "pool_grow": lambda desk, n=1, **_: _resized(desk, "grow", n),
    "pool_shrink": lambda desk, n=1, **_: _resized(desk, "shrink", n),
    "pool_restart": _pool_restart,
    "autoscale": _autoscale,
    "enable_events": lambda desk: _events(desk, on=True),
    "disable_events": lambda desk: _events(desk, on=False),
    "heartbeat": _heartbeat,
    "election": lambda desk, **_: None,  # Celery's workers elect who does something; there is nothing to do
    "shutdown": _shutdown,
    "memsample": _memsample,
    "memdump": _memdump,
    "objgraph": _objgraph,
}
