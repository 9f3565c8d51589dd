"""Celery tuned: two solo workers that talk to nobody, fetch far ahead, and hiredis' client polling often."""

from __future__ import annotations

from benchmarks.meters import serve

from . import WORKERS
from .celery import QUIET, SOLO, adapter

if __name__ == "__main__":
    serve(
        "celery",
        f"{WORKERS} workers with --pool solo {' '.join(QUIET)}; results looked for every ms",
        adapter([(*command, *QUIET) for command in SOLO], 0.001).cases(),
    )
