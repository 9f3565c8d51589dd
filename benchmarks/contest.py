"""Run ours and the peers, taking turns, each measurement in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic, sleep
from typing import Any

from .cases import Case

__all__ = ["LIMIT", "Entry", "Row", "hold", "measure"]

ROOT = Path(__file__).resolve().parent.parent
_LONGEST_REASON = 160
#: Seconds for the helpers of an ended contender to end by themselves.
_GRACE = 1.0
#: Seconds for a contender's process.
LIMIT = 60.0
#: Nobody is measured compiling its own source: bytecode is kept, whatever the environment says.
_DISTURBS = "PYTHONDONTWRITEBYTECODE"


@dataclass
class Entry:
    """What one contender came to in one case."""

    contender: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    version: str = ""
    settings: str = ""
    failure: str | None = None

    def median(self, figure: str) -> float | None:
        """The median over the repetitions; None when there is none."""
        values = self.figures.get(figure)
        return statistics.median(values) if values else None


@dataclass
class Row:
    """A case and how each contender did, ours first."""

    case: Case
    entries: Sequence[Entry]


class Failure(Exception):
    """A measurement that came to nothing, and why."""


def measure(contender: str, case: Case, limit: float) -> dict[str, Any]:
    """Return what a contender's process printed.

    Raises
    ------
    Failure
        When it fails, or takes longer than `limit` seconds.
    """
    command = [sys.executable, "-m", f"benchmarks.{case.room}.{contender}", case.name, str(case.size)]
    environment = {name: value for name, value in os.environ.items() if name != _DISTURBS}
    # Files, not pipes: a pool's child processes may outlive their parent, and would hold a pipe open.
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err, start_new_session=True)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            msg = f"gave up after {limit:.0f} s"
            raise Failure(msg) from None
        finally:
            _end(process)
        out.seek(0)
        err.seek(0)
        if status:
            raise Failure(_reason(err.read()) or f"exit status {status}")
        found: dict[str, Any] = json.loads(out.read().splitlines()[-1])
        return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a contender and whatever it started: it leads a process group of its own."""
    until = monotonic() + (_GRACE if process.poll() is not None else 0)
    try:
        while monotonic() < until:  # its helpers clean up after it
            os.killpg(process.pid, 0)
            sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nobody is left
    process.wait()


def _reason(err: str) -> str:
    """Return the last line of a traceback that says something."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    named = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception", "Timeout"))]
    return (named or lines or [""])[-1][:_LONGEST_REASON]


def hold(
    case: Case,
    contenders: Iterable[str],
    repeats: int,
    limit: float | None,
    say: Callable[[str], None],
    clear: Callable[[], None] = lambda: None,
) -> Row:
    """Measure a case: one process a contender in turn, `repeats` times over, each behind a `clear`."""
    entries = [Entry(contender) for contender in contenders]
    for turn in range(min(repeats, case.repeats or repeats)):
        for entry in entries:
            if entry.failure is not None:
                continue  # it would fail again, perhaps slowly
            say(f"{case.label}: {entry.contender} {turn + 1}")
            clear()
            try:
                found = measure(entry.contender, case, limit or case.limit or LIMIT)
            except Failure as error:
                entry.failure = str(error)
                continue
            entry.version, entry.settings = found["version"], found["settings"]
            for name, value in found["figures"].items():
                entry.figures.setdefault(name, []).append(value)
    return Row(case, entries)
