"""What a worker answers when it is asked about its tasks, with the keys of Celery's ``inspect``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nbcanvas.worker.execute import arguments

from .context import delivery_info
from .job import Job

if TYPE_CHECKING:
    from .worker import ClusterWorker

__all__ = ["active", "query", "reserved", "scheduled", "stats"]


def active(worker: ClusterWorker) -> list[dict[str, Any]]:
    """Describe what runs now."""
    return [_info(worker, job, slot.started) for slot, job in worker.pool.running()]


def reserved(worker: ClusterWorker) -> list[dict[str, Any]]:
    """Describe what was taken and has not begun."""
    return [_info(worker, job) for job in [*worker.supply.reserved(), *worker.supply.scheduled()]]


def scheduled(worker: ClusterWorker) -> list[dict[str, Any]]:
    """Describe what waits for its time."""
    return [
        {
            "eta": datetime.fromtimestamp(job.due or 0.0, UTC).isoformat(),
            "priority": 6,
            "request": _info(worker, job),
        }
        for job in worker.supply.scheduled()
    ]


def query(worker: ClusterWorker, ids: Iterable[str]) -> dict[str, Any]:
    """Say where some ids are: ``{id: [state, description]}`` for those that are here."""
    wanted = set(ids)
    found: dict[str, Any] = {}
    for kind, infos in (
        ("reserved", reserved(worker)),
        ("scheduled", [one["request"] for one in scheduled(worker)]),
        ("active", active(worker)),
    ):
        found |= {info["id"]: [kind, info] for info in infos if info["id"] in wanted}
    return found


def stats(worker: ClusterWorker) -> dict[str, Any]:
    """Return counts and the pool."""
    conf, defaults = worker.app.conf, worker.app.defaults
    return {
        "total": dict(worker.received),
        "pool": {
            "implementation": worker.kind,
            "max-concurrency": worker.pool.size,
            "processes": worker.pool.processes(),
            "max-tasks-per-child": conf.worker_max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [defaults.soft_time_limit or 0, defaults.time_limit or 0],
        },
        "prefetch_count": int(conf.worker_prefetch_multiplier) * worker.pool.size,
        "dead_letters": worker.unreadable,
    }


def _info(worker: ClusterWorker, job: Job, since: float | None = None) -> dict[str, Any]:
    args, kwargs = arguments(job.message)
    call = job.message.call
    return {
        "id": call.id,
        "name": call.task,
        "args": list(args),
        "kwargs": dict(kwargs),
        "type": call.task,
        "hostname": worker.hostname,
        "time_start": since,
        "acknowledged": since is not None and not job.late,
        "delivery_info": delivery_info(job),
        "worker_pid": os.getpid() if since is not None else None,
    }
