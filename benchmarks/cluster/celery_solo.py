"""Celery's client on two stock solo workers."""

from __future__ import annotations

from benchmarks.meters import serve

from . import WORKERS
from .celery import SOLO, adapter

if __name__ == "__main__":
    serve("celery", f"{WORKERS} workers with --pool solo, JSON, defaults", adapter(SOLO).cases())
