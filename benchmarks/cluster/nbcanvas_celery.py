"""Our client on two stock solo workers of Celery."""

from __future__ import annotations

from benchmarks.meters import serve

from . import WORKERS
from .nbcanvas import adapter

if __name__ == "__main__":
    from .celery import SOLO

    serve("nbcanvas", f"our client, {WORKERS} Celery workers with --pool solo, defaults", adapter(SOLO).cases())
