"""What a worker says of itself when it starts."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from nbcanvas.app import App
from nbcanvas.servers.urls import masked

__all__ = ["banner"]


def banner(app: App, worker: Any, version: str) -> str:
    """Return it; no password is in it."""
    conf = app.conf
    broker = _shown(conf.broker_read_url or conf.broker_url or conf.broker_write_url)
    results = _shown(conf.result_backend) if conf.result_backend else "beside the broker"
    own = sorted(name for name in app.tasks if not name.startswith(("celery.", "nbcanvas.")))
    lines = [
        "",
        f" {worker.hostname} · nbcanvas {version} · Python {platform.python_version()} · {platform.platform()}",
        "",
        " [config]",
        f"   app:         {app.main or 'default'}",
        f"   transport:   {broker}",
        f"   results:     {results}",
        f"   concurrency: {worker.pool.size} ({worker.pool.kind})",
        f"   task events: {'ON' if conf.worker_send_task_events else 'OFF (-E sends them, for monitors)'}",
        "",
        " [queues]",
        *[f"   {line}" for line in _queues(worker.orders.queues())],
        "",
        " [tasks]",
        *[f"   . {name}" for name in own],
    ]
    if not own:
        lines.append("   none but the built-in ones: is the module that defines them imported? (-I, include, imports)")
    return "\n".join([*lines, ""])


def _shown(url: Any) -> str:
    return ", ".join(masked(str(one)) for one in (url if isinstance(url, list | tuple) else [url]))


def _queues(queues: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for queue in queues:
        exchange = queue.get("exchange") or {}
        name, kind = exchange.get("name") or "", exchange.get("type") or "direct"
        found.append(f"{queue['name']:<16} exchange={name}({kind}) key={queue.get('routing_key', queue['name'])}")
    return found
