"""What a worker answers when it is asked about its tasks, with the keys of Celery's ``inspect``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from nbcanvas.worker.execute import arguments

from .context import delivery_info, shown_arguments
from .job import Job
from .pool import Pool
from .shared import Shared
from .supply import Supply

__all__ = ["active", "query", "reserved", "scheduled", "stats"]


def active(shared: Shared, pool: Pool, *, safe: bool = False) -> list[dict[str, Any]]:
    """Describe what runs now; `safe` has the arguments as their sender shows them."""
    running = pool.running()
    found = [_info(shared, job, slot.started) for slot, job in running]
    if safe:
        for info, (_, job) in zip(found, running, strict=True):
            letter = job.delivery.letter
            info["args"], info["kwargs"] = shown_arguments(job.message, {} if letter is None else letter.headers)
    return found


def reserved(shared: Shared, supply: Supply) -> list[dict[str, Any]]:
    """Describe what was taken and has not begun."""
    return [_info(shared, job) for job in [*supply.reserved(), *supply.scheduled()]]


def scheduled(shared: Shared, supply: Supply) -> list[dict[str, Any]]:
    """Describe what waits for its time."""
    return [
        {
            "eta": datetime.fromtimestamp(job.due or 0.0, UTC).isoformat(),
            "priority": 6,
            "request": _info(shared, job),
        }
        for job in supply.scheduled()
    ]


def query(shared: Shared, pool: Pool, supply: Supply, ids: Iterable[str]) -> dict[str, Any]:
    """Say where some ids are: ``{id: [state, description]}`` for those that are here."""
    wanted = set(ids)
    found: dict[str, Any] = {}
    for kind, infos in (
        ("reserved", reserved(shared, supply)),
        ("scheduled", [one["request"] for one in scheduled(shared, supply)]),
        ("active", active(shared, pool)),
    ):
        found |= {info["id"]: [kind, info] for info in infos if info["id"] in wanted}
    return found


def stats(shared: Shared, pool: Pool) -> dict[str, Any]:
    """Return counts and the pool."""
    conf, defaults = shared.app.conf, shared.app.defaults
    return {
        "total": dict(shared.received),
        "pool": {
            "implementation": pool.kind,
            "max-concurrency": pool.size,
            "processes": pool.processes(),
            "max-tasks-per-child": conf.worker_max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [defaults.soft_time_limit or 0, defaults.time_limit or 0],
        },
        "prefetch_count": int(conf.worker_prefetch_multiplier) * pool.size,
        "dead_letters": shared.unreadable,
    }


def _info(shared: Shared, job: Job, since: float | None = None) -> dict[str, Any]:
    args, kwargs = arguments(job.message)
    call = job.message.call
    return {
        "id": call.id,
        "name": call.task,
        "args": list(args),
        "kwargs": dict(kwargs),
        "type": call.task,
        "hostname": shared.hostname,
        "time_start": since,
        "acknowledged": since is not None and not job.late,
        "delivery_info": delivery_info(job),
        "worker_pid": os.getpid() if since is not None else None,
    }
