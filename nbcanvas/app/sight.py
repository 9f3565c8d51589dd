"""What a cluster is doing, as plain values: pure functions of what workers answer to Celery's inspect commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

__all__ = ["ASKED", "Job", "Queue", "Sight", "Worker", "sighted", "task_of"]

#: The inspect commands a sight is made of: those first without which a worker says little.
ASKED: Final = ("active_queues", "active", "reserved", "scheduled", "stats", "registered")

#: A worker's name -> what it answered.
Answers = Mapping[str, Any]


class Worker(NamedTuple):
    """A worker.

    Attributes
    ----------
    name
        Its node name.
    kind, version
        ``"nbcanvas"`` or ``"celery"``, and of the former its version; empty texts when it did not say.
    pool, slots
        Which pool, and how many tasks run at once; None when it did not say.
    queues
        The queues it consumes.
    tasks
        Names of the tasks it knows -> the version of their code, where that is known.
    limits
        Task name -> its rate limit.
    ignored
        Names of the tasks whose results it does not keep.
    active, reserved, scheduled
        How many tasks; None when it did not say.
    processed
        How many tasks it has taken since it started.
    uptime
        Seconds.
    silent
        Whether it was there before, and did not answer any question this time.
    """

    name: str
    kind: str = ""
    version: str = ""
    pool: str = ""
    slots: int | None = None
    queues: tuple[str, ...] | None = None
    tasks: Mapping[str, str] | None = None
    limits: Mapping[str, str] = {}
    ignored: frozenset[str] = frozenset()
    active: int | None = None
    reserved: int | None = None
    scheduled: int | None = None
    processed: int | None = None
    uptime: float | None = None
    silent: bool = False


class Queue(NamedTuple):
    """A queue: how many messages wait in it (None: nobody can say), and which workers consume it."""

    name: str
    messages: int | None
    workers: tuple[str, ...]


class Job(NamedTuple):
    """A task that a worker has.

    Attributes
    ----------
    id, name, worker, queue
        Which, and where.
    args, kwargs
        As the worker tells them.
    since
        When it started, in seconds since the epoch; None when it has not.
    eta
        When it may start; None when it could.
    priority
        0 to 9.
    """

    id: str
    name: str
    worker: str
    queue: str
    args: Any
    kwargs: Any
    since: float | None = None
    eta: float | None = None
    priority: int | None = None


class Sight(NamedTuple):
    """A cluster at one moment.

    Attributes
    ----------
    server
        The broker's URL, without its password.
    at
        Seconds since the epoch.
    workers, queues, active, reserved, scheduled
        See the classes; in order of their names, or of their times.
    trouble
        Why something is not known, or an empty text.
    """

    server: str
    at: float
    workers: Sequence[Worker] = ()
    queues: Sequence[Queue] = ()
    active: Sequence[Job] = ()
    reserved: Sequence[Job] = ()
    scheduled: Sequence[Job] = ()
    trouble: str = ""

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the names of workers that were there before and did not answer."""
        return tuple(worker.name for worker in self.workers if worker.silent)


def task_of(line: str) -> tuple[str, dict[str, str]]:
    """Return the name, and what stands behind it, of one of the texts that ``registered`` answers with."""
    name, _, rest = line.partition(" [")
    items = (item.partition("=") for item in rest.removesuffix("]").split())
    return name, {key: value for key, mark, value in items if mark}


def sighted(
    server: str,
    at: float,
    answers: Mapping[str, Answers],
    *,
    known: Iterable[str] = (),
    depths: Mapping[str, int] | None = None,
    trouble: str = "",
) -> Sight:
    """Return what answers come to.

    Parameters
    ----------
    server, at, trouble
        As in `Sight`.
    answers
        Inspect command -> worker's name -> answer.
    known
        Names of workers that were there before.
    depths
        Queue -> how many messages wait there.
    """
    answered = {name for one in answers.values() for name in one}
    workers = [_worker(name, answers) for name in sorted(answered)]
    workers += [Worker(name, silent=True) for name in sorted(set(known) - answered)]
    jobs = {
        what: [_job(name, one) for name, told in answers.get(what, {}).items() for one in _rows(told)]
        for what in ("active", "reserved", "scheduled")
    }
    consumers: dict[str, list[str]] = {}
    for worker in workers:
        for queue in worker.queues or ():
            consumers.setdefault(queue, []).append(worker.name)
    names = sorted({*consumers, *(depths or {})})
    return Sight(
        server,
        at,
        workers,
        [Queue(name, None if depths is None else depths.get(name), tuple(consumers.get(name, ()))) for name in names],
        sorted(jobs["active"], key=lambda job: job.since or at),
        jobs["reserved"],
        sorted(jobs["scheduled"], key=lambda job: job.eta or at),
        trouble,
    )


def _worker(name: str, answers: Mapping[str, Answers]) -> Worker:
    def told(what: str) -> Any:
        found = answers.get(what, {}).get(name)
        return None if isinstance(found, Mapping) and set(found) == {"error"} else found

    stats, queues, registered = told("stats"), told("active_queues"), told("registered")

    def count(what: str) -> int | None:
        found = told(what)
        return None if found is None else len(_rows(found))

    found = Worker(name, active=count("active"), reserved=count("reserved"), scheduled=count("scheduled"))
    if isinstance(queues, list):
        found = found._replace(queues=tuple(str(one["name"]) for one in _rows(queues) if "name" in one))
    if isinstance(registered, list):
        tasks = dict(task_of(str(line)) for line in registered)
        found = found._replace(
            tasks={task: items.get("version", "") for task, items in tasks.items()},
            limits={task: limit for task, items in tasks.items() if _limits(limit := items.get("rate_limit", ""))},
            ignored=frozenset(task for task, items in tasks.items() if items.get("ignore_result") == "True"),
        )
    if isinstance(stats, Mapping):
        pool = _mapping(stats.get("pool"))
        total = stats.get("total")
        found = found._replace(
            kind=_kind(stats, str(pool.get("implementation", ""))),
            version=str(stats.get("sw_ver", "")),
            pool=_pool(str(pool.get("implementation", ""))),
            slots=_slots(pool),
            processed=sum(filter(None, map(_whole, total.values()))) if isinstance(total, Mapping) else None,
            uptime=_seconds(stats.get("uptime")),
        )
    return found


def _limits(limit: str) -> bool:
    """Whether a rate limit, as a worker tells it, is one: Celery's workers tell one that was taken away as 0."""
    return limit.partition("/")[0].strip("0.") not in {"", "None"}


def _rows(told: Any) -> list[Mapping[str, Any]]:
    return [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _job(worker: str, told: Mapping[str, Any]) -> Job:
    request = _mapping(told.get("request")) or told
    info = _mapping(request.get("delivery_info"))
    eta = told.get("eta")
    return Job(
        str(request.get("id", "")),
        str(request.get("name") or request.get("type") or ""),
        worker,
        str(info.get("routing_key") or ""),
        request.get("args", ()),
        request.get("kwargs", {}),
        _seconds(request.get("time_start")),
        _moment(eta) if isinstance(eta, str) else None,
        _whole(info.get("priority")),
    )


def _slots(pool: Mapping[str, Any]) -> int | None:
    """Return how many tasks run at once; of Celery's prefork pool the size it was grown or shrunk to."""
    processes = pool.get("processes")
    if "prefork" in str(pool.get("implementation")) and isinstance(processes, list) and processes:
        return len(processes)
    return _whole(pool.get("max-concurrency"))


def _kind(stats: Mapping[str, Any], implementation: str) -> str:
    """Return which software a worker is: ours says so, Celery names the class of its pool."""
    named = stats.get("sw_ident")
    if named is None:
        named = "celery" if ":" in implementation else "nbcanvas"
    return str(named).removeprefix("py-")


def _pool(implementation: str) -> str:
    """Return a pool's name as people give it: ``celery.concurrency.prefork:TaskPool`` is ``prefork``."""
    return implementation.partition(":")[0].rpartition(".")[2].lower()


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _moment(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
