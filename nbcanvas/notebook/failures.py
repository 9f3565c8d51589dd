"""How a failed run is told in a cell: which node, the user's own frames, how many more, what to do."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Final

from nbcanvas import states
from nbcanvas.errors import ChordError
from nbcanvas.events.state import State
from nbcanvas.run import Run

from .checks import call_text, leading
from .errors import GREEN, OFF, RED

__all__ = ["comes_from", "failed_rows", "failure_lines", "innermost", "user_frames"]

_OURS: Final = str(Path(__file__).parents[1])
_STDLIB: Final = (sysconfig.get_path("stdlib") + "/concurrent", sysconfig.get_path("stdlib") + "/threading.py")
_FRAME: Final = re.compile(r'  File "(?P<file>[^"]*)", line (?P<line>\d+)(?:, in (?P<where>.*))?')
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[22m"
#: Frames of one failure that are shown, the innermost ones.
_FRAMES: Final = 6
#: Seconds in which the news of a failure arrives, at the latest.
_LATE: Final = 0.2


def failed_rows(state: State) -> list[int]:
    """Return the rows of what failed by itself, in canvas order; if nothing did, of what failed at all."""
    failed = [row for row in state.order if state.state(row) == states.FAILURE]
    return [row for row in failed if not isinstance(state.error(row), ChordError)] or failed


def comes_from(run: Run, error: BaseException) -> bool:
    """Whether an exception is how a task of this run ended (the news of it may be a moment late)."""
    until = monotonic() + _LATE
    while True:
        state = run.snapshot()
        if any(_alike(state.error(row), error) for row in state.errors()):
            return True
        if run.done or monotonic() > until:
            return False
        sleep(0.005)


def _alike(one: BaseException | str | None, other: BaseException) -> bool:
    return one is other or (type(one) is type(other) and str(one) == str(other))


def failure_lines(
    run: Run, error: BaseException, shell: Any = None, most: int = 4, *, workers: bool = True
) -> list[str]:
    """Return what a cell shows when waiting for a run raised one of its tasks' exceptions.

    Parameters
    ----------
    run
        The run.
    error
        What its `get` raises.
    shell
        The InteractiveShell; it knows which file is which cell.
    most
        How many failures to show.
    workers
        Whether to name the workers they happened on.
    """
    state = run.snapshot()
    rows = failed_rows(state)
    first = [row for row in rows if _alike(state.error(row), error)]
    rows = [*first, *(row for row in rows if row not in first)]
    lines = [f"{RED}{type(error).__name__}{OFF}: {error}"]
    led = leading(run.root)
    for row in rows[: max(most, 1)]:
        lines += ["", *_one(state, row, led, shell, workers=workers)]
        own = state.error(row)
        if own is not None and not _alike(own, error):
            lines.append(f"  {_named(own)}")
    if len(rows) > most:
        lines += ["", f"… and {len(rows) - most} more"]
    return [*lines, "", _what_to_do(run, state, len(rows))]


def _one(state: State, row: int, led: dict[str, bool], shell: Any, *, workers: bool) -> list[str]:
    place = state.calls[row]
    call = state.call(row)
    where = f"{place.path} → " if place.path else ""
    facts = []
    worker = state.worker(row)
    if worker and workers:
        facts.append(f"on {worker}")
    if state.retries(row):
        facts.append(f"after {state.retries(row)} retr{'y' if state.retries(row) == 1 else 'ies'}")
    said = f"{where}{call_text(call, led.get(call.id, False))}"
    return [
        f"{GREEN}{said}{OFF} failed{' ' + ', '.join(facts) if facts else ''}",
        *user_frames(state.traceback(row) or "", shell),
    ]


def _named(error: BaseException | str) -> str:
    return error if isinstance(error, str) else f"{type(error).__name__}: {error}"


def user_frames(text: str, shell: Any = None) -> list[str]:
    """Return the frames of a traceback's text that are the user's, the outermost first, without ours.

    Parameters
    ----------
    text
        As `traceback.format_exception` makes it.
    shell
        The InteractiveShell; it knows which file is which cell.
    """
    frames: list[list[str]] = []
    taking = False
    for line in text.splitlines():
        found = _FRAME.match(line)
        if found:
            taking = not _is_ours(found["file"])
            if taking:
                frames.append([f"  {_file(found['file'], shell)}, line {found['line']}, in {found['where'] or '?'}"])
        elif taking and line.startswith("    "):
            frames[-1].append(f"  {_DIM}{line}{_PLAIN}")
        else:
            taking = False
    left_out = len(frames) - _FRAMES
    shown: Sequence[Iterable[str]] = frames[-_FRAMES:]
    above = [f"  {_DIM}… {left_out} frames above{_PLAIN}"] if left_out > 0 else []
    return above + [line for frame in shown for line in frame]


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, *_STDLIB, "<frozen"))


def innermost(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback behind the last frame of ours: the user's own code."""
    found = None
    while trace is not None:
        if _is_ours(trace.tb_frame.f_code.co_filename):
            found = None
        elif found is None:
            found = trace
        trace = trace.tb_next
    return found


def _file(file: str, shell: Any) -> str:
    """Return a file's name as a person knows it: ``Cell In[3]`` for a cell."""
    number = getattr(getattr(shell, "compile", None), "_filename_map", {}).get(file)
    return f'File "{file}"' if number is None else f"Cell In[{number}]"


def _what_to_do(run: Run, state: State, failed: int) -> str:
    name = run.name or "run"
    good = state.counts.get(states.SUCCESS, 0)
    kept = f"; the {good} good result{' stays' if good == 1 else 's stay'} in {name}.result" if good else ""
    return (
        f"{name}.frame() has a row for each task{kept}"
        if failed != 1 or good
        else f"{name}.frame() has every task with its arguments and traceback"
    )
