"""In a contender's process: what a case's code costs, printed as JSON."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from importlib.metadata import version
from time import perf_counter, sleep
from traceback import print_exc
from typing import Any, TypeAlias

from .work import BURN_MS

__all__ = ["Held", "cold_start", "import_times", "serve"]

#: Does the whole work once, and raises when the result is not right.
Once: TypeAlias = Callable[[], object]
Figures: TypeAlias = dict[str, float]

#: A process repeats what is short; the first time does not count.
_SAMPLES, _ENOUGH_SECONDS = 5, 0.5
#: Seconds in which whatever making room for the next time causes, in a client that listens, comes to its end.
_REST = 2.0


def _seconds(once: Once) -> float:
    """Return the median time of `once`."""
    times: list[float] = []
    while len(times) < _SAMPLES and sum(times) < _ENOUGH_SECONDS:
        gc.collect()
        begin = perf_counter()
        once()
        times.append(perf_counter() - begin)
    return statistics.median(times)


def _warm(make: Callable[[int], Once], size: int) -> Once:
    make(min(size, 100))()
    return make(size)


def _rate(make: Callable[[int], Once], size: int) -> Figures:
    return {"rate": size / _seconds(_warm(make, size))}


def _time(make: Callable[[int], Once], size: int) -> Figures:
    return {"time": _seconds(_warm(make, size)) * 1e3}


def _each(make: Callable[[int], Once], size: int) -> Figures:
    return {"each": _seconds(_warm(make, size)) / size * 1e6}


def _percentiles(make: Callable[[int], Once], size: int) -> Figures:
    once = make(1)
    times: list[float] = []
    for turn in range(-max(10, size // 10), size):
        begin = perf_counter()
        once()
        if turn >= 0:
            times.append(perf_counter() - begin)
    times.sort()
    return {"p50": times[size // 2] * 1e3, "p99": times[int(size * 0.99)] * 1e3}


def _share(make: Callable[[int], Once], size: int) -> Figures:
    return {"share": size * BURN_MS / 1e3 / (_seconds(_warm(make, size)) * 2)}


def _itself(probe: Callable[[int], Figures], size: int) -> Figures:
    return probe(size)


def _sending(make: Callable[[int], tuple[Once, Once]], size: int) -> Figures:
    """Time one half of the work; the other half makes room for the next time, and its consequences are not timed."""
    times: list[float] = []
    send, drop = make(min(size, 100))
    send()
    drop()
    sleep(_REST)
    send, drop = make(size)
    while len(times) < _SAMPLES and sum(times) < 2 * _ENOUGH_SECONDS:
        gc.collect()
        begin = perf_counter()
        send()
        times.append(perf_counter() - begin)
        drop()
        sleep(_REST)
    return {"time": statistics.median(times)}


def _long(make: Callable[[int], Once], size: int) -> Figures:
    return {"time": _seconds(_warm(make, size))}


def _long_and_heard(make: Callable[[int], Once], size: int) -> Figures:
    """Time the work, and then do it once more to hear how many bytes of messages it takes."""
    from .cluster.asks import bytes_of

    once = _warm(make, size)
    figures = {"time": _seconds(once)}
    heard = bytes_of(once)
    return {**figures, "messages": heard / 1e6} if heard else figures  # some have no use for Redis


#: Case -> how an adapter's entry for it becomes figures.  Most entries take a size and return what does the work once;
#: those that are "itself" return the figures.
METERS: Mapping[str, Callable[[Any, int], Figures]] = {
    "group": _rate,
    "roundtrip": _percentiles,
    "chain": _time,
    "chord": _time,
    "build": _each,
    "plan": _each,
    "memory": _itself,
    "memory-run": _itself,
    "cpu": _share,
    "import": _itself,
    "cold": _itself,
    "cluster-group": _rate,
    "cluster-stock": _rate,
    "cluster-submit": _sending,
    "cluster-roundtrip": _percentiles,
    "cluster-small": _time,
    "cluster-chain": _long_and_heard,
    "cluster-chord": _long,
    "cluster-stages": _itself,
    "cluster-kept": _itself,
    "cluster-memory": _itself,
}


class Held:
    """How much memory is held, a task.

    Parameters
    ----------
    size
        How many tasks.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]

    def now(self) -> float:
        """Return the bytes a task held since this was made."""
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - self._before) / self._size


def _process_ms(code: str, runs: int) -> float:
    times: list[float] = []
    for _ in range(runs + 1):
        begin = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times.append((perf_counter() - begin) * 1e3)
    return statistics.median(times[1:])  # the first one compiles and reads from disk


def import_times(statement: str, module: str | None = None) -> Callable[[int], Figures]:
    """Return a probe: the whole process of an import statement, and what ``-X importtime`` says of `module`."""

    def probe(runs: int) -> Figures:
        found: Figures = {"process": _process_ms(statement, runs)}
        if module is not None:
            found["-X importtime"] = statistics.median(_importtime_ms(statement, module) for _ in range(runs))
        return found

    return probe


def _importtime_ms(statement: str, module: str) -> float:
    report = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement], check=True, capture_output=True, text=True
    ).stderr
    for line in report.splitlines():
        _, cumulative, name = line.removeprefix("import time:").split("|")
        if name.strip() == module:
            return int(cumulative) / 1e3
    msg = f"{statement!r} does not import {module}"
    raise LookupError(msg)


def cold_start(code: str) -> Callable[[int], Figures]:
    """Return a probe: the whole process of `code`."""
    return lambda runs: {"process": _process_ms(code, runs)}


def serve(
    package: str | None,
    settings: str,
    cases: Mapping[str, Callable[[int], Any]],
    close: Callable[[], object] = lambda: None,
) -> None:
    """Measure the case that the command line asks for, print figures, and end the process.

    Parameters
    ----------
    package
        The distribution that is measured, for its version.
    settings
        How it is set up, for the reader.
    cases
        Case -> entry (see `METERS`).
    close
        Ends what the entries started and would outlive the process.
    """
    name, size = sys.argv[1], int(sys.argv[2])
    try:
        figures = METERS[name](cases[name], size)
        print(
            json.dumps(
                {
                    "version": version(package) if package else sys.version.split()[0],
                    "settings": settings,
                    "figures": figures,
                }
            ),
            flush=True,
        )
        close()
    except BaseException:
        print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # some peers' threads would hold up an orderly end
