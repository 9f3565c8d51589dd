"""Celery with one prefork worker of two processes, everything else as it comes."""

from __future__ import annotations

from collections.abc import Sequence

import celery as package
from celery import Celery

from benchmarks import work
from benchmarks.meters import serve

from . import WORKERS
from .canvases import Adapter
from .server import URL

app = Celery("bench", broker=URL, backend=URL)
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True
for function in (work.add, work.total, work.pid):  # what the workers, which import this, know
    app.task(function)

PREFORK = (("celery", "-A", "benchmarks.cluster.celery", "worker", "-c", str(WORKERS), "--loglevel", "ERROR"),)
SOLO = tuple(
    ("celery", "-A", "benchmarks.cluster.celery", "worker", "-P", "solo", "-n", f"w{number}@%h", "--loglevel", "ERROR")
    for number in range(WORKERS)
)
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--prefetch-multiplier", "128")


def adapter(commands: Sequence[Sequence[str]], interval: float | None = None) -> Adapter:
    """Return the cases on Celery's client; it looks at a result every `interval` seconds (None: as it comes)."""
    often = {} if interval is None else {"interval": interval}
    return Adapter(
        package, app, commands, lambda sig: sig.apply_async(), lambda result: result.get(timeout=300, **often)
    )


if __name__ == "__main__":
    serve("celery", f"prefork, {WORKERS} processes, JSON, defaults", adapter(PREFORK).cases())
