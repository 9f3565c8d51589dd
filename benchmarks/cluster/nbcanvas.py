"""Ours: two workers with --pool solo, State on."""

from __future__ import annotations

from collections.abc import Sequence

import nbcanvas as package
from benchmarks import work
from benchmarks.meters import serve

from . import WORKERS
from .canvases import Adapter
from .server import URL

app = package.App("bench", broker=URL, backend=URL)
for function in (work.add, work.total, work.pid):  # what the workers, which import this, know
    app.task(function)

OURS = tuple(
    ("nbcanvas", "worker", "-A", "benchmarks.cluster.nbcanvas", "--pool", "solo", "-q", "-n", f"w{number}@%h")
    for number in range(WORKERS)
)


def adapter(commands: Sequence[Sequence[str]]) -> Adapter:
    """Return the cases on our client."""
    return Adapter(package, app, commands, package.submit, lambda run: run.get(timeout=300))


if __name__ == "__main__":
    serve("nbcanvas", f"{WORKERS} workers with --pool solo, JSON, State on", adapter(OURS).cases())
