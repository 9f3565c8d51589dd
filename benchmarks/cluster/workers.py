"""The worker processes of a contender."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic, sleep

import psutil

from . import WORKERS

__all__ = ["Workers"]

_PATIENCE = 40.0


class Workers:
    """Worker processes; they end with the contender's process group.

    Parameters
    ----------
    commands
        What starts them: a program of the virtual environment and its arguments.
    pids
        Runs some tasks that return the id of the process they run in.
    wanted
        How many different ones there have to be.
    """

    def __init__(
        self,
        commands: Iterable[Sequence[str]],
        pids: Callable[[], Iterable[int]],
        wanted: int = WORKERS,
    ) -> None:
        self._processes = [
            subprocess.Popen([*_program(command[0]), *command[1:]], stdout=sys.stderr, stdin=subprocess.DEVNULL)
            for command in commands
        ]
        seen: set[int] = set()
        until = monotonic() + _PATIENCE
        while len(seen) < wanted:
            seen.update(pids())
            ended = next((process for process in self._processes if process.poll() is not None), None)
            if ended is not None:
                msg = f"a worker ended with status {ended.returncode}"
                raise RuntimeError(msg)
            if monotonic() > until:
                msg = f"after {_PATIENCE:.0f} s {len(seen)} of {wanted} worker processes work"
                raise RuntimeError(msg)
        sleep(0.3)  # whatever else starts

    def memory(self) -> int:
        """Return the bytes they hold in memory that they share with nobody."""
        found = 0
        for process in self._processes:
            parent = psutil.Process(process.pid)
            found += sum(each.memory_full_info().uss for each in [parent, *parent.children(recursive=True)])
        return found


def _program(name: str) -> Sequence[str]:
    return [sys.executable, str(Path(sys.executable).with_name(name))]
