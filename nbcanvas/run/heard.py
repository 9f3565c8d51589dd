"""What was heard of a run, in few bytes beside its plan: the plan names the calls, so rows are told and no ids.

Of most calls there is nothing but times: they are columns, in ten thousandths of a second since the run began, each
counted from the one above it.  What columns have no room for, errors, attempts, progress and grafts, is written as a
recording of those calls alone (docs/recording.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from nbcanvas import states
from nbcanvas.events.event import RECEIVED, SENT, STARTED, SUCCEEDED, Event
from nbcanvas.events.known import CODES
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Fan, Node
from nbcanvas.protocol.columns import read_column, read_runs, write_column, write_runs
from nbcanvas.protocol.plain import LEFT_OUT, LIMIT, Malformed, dumps, loads

from . import recorded
from .views import Description

__all__ = ["read", "write"]

#: Of a second.
_TICKS: Final = 10_000
#: No time is that many ticks, or seconds.
_FAR: Final = 10**15
#: In these states a call has nothing but times.
_USUAL: Final = frozenset(
    CODES[name] for name in (states.WAITING, states.SENT, states.RECEIVED, states.STARTED, states.SUCCESS)
)
_TIMES: Final = (SENT, RECEIVED, STARTED, SUCCEEDED)
_NOTHING: Final = Description((), {}, None, None)


def write(run_id: str, state: State) -> str:
    """Return what is known of a run's calls.

    Parameters
    ----------
    run_id
        The run's id.
    state
        What is known.
    """
    columns = state.columns
    rest = state.eventful()
    rest.update(row for row, code in enumerate(columns.code) if code not in _USUAL)
    waiting = CODES[states.WAITING]
    rows = [row for row, code in enumerate(columns.code) if code != waiting and row not in rest]
    found = {
        "began": repr(state.began),
        "rows": dumps(write_runs(rows)),
        "names": dumps(state.worker_names),
        "worker": write_column([str(columns.worker[row]) for row in rows]),
    }
    times = columns.sent, columns.received, columns.started, columns.finished
    for kind, column in zip(_TIMES, times, strict=True):
        found[kind] = write_column(_steps([column[row] for row in rows], state.began))
    if rest:
        found["rest"] = _recorded(run_id, state, sorted(rest))
    return "{" + ",".join(f'"{name}":{text}' for name, text in found.items()) + "}"


def _steps(moments: Sequence[float], began: float) -> list[str]:
    """Return moments as whole numbers, each what has to be added to the one before; unknown ones as null."""
    found, before = [], 0
    for moment in moments:
        if moment != moment:  # noqa: PLR0124 - NaN
            found.append("null")
        else:
            tick = round((moment - began) * _TICKS)
            found.append(str(tick - before))
            before = tick
    return found


def _recorded(run_id: str, state: State, rows: Iterable[int]) -> str:
    """Return a recording of some calls, as if they were all there are."""
    calls = [state.tree.calls[row] for row in rows]
    alone = Fan("", [Call(call.id, call.task, (), version=call.version) for call in calls])
    some = State.of(alone, state.began).apply(state.events(rows))
    views: Any = _Some(run_id, some)
    return recorded.write(views, limit=64 * LIMIT * (len(calls) + 16), clocks=True)


class _Some:
    """Calls of a run as a recording is written of them: without arguments and results."""

    name = None
    canvas = ""
    finished = None
    done = False

    def __init__(self, run_id: str, state: State) -> None:
        self.id = run_id
        self.root = state.root
        self._state = state

    def snapshot(self) -> State:
        return self._state

    def value_of(self, call: Call) -> Any:
        return LEFT_OUT

    def describe(self, call: Call) -> Description:
        return _NOTHING


def read(text: str | bytes, root: Node) -> Iterator[Event]:
    """Yield what is known of a run's calls, as events.

    Parameters
    ----------
    text
        What `write` gave.
    root
        The frozen canvas of the run.

    Raises
    ------
    Malformed, ValueError
        When it cannot be understood.
    """
    found = loads(text)
    began = found.get("began") if isinstance(found, dict) else None
    if not isinstance(began, float | int) or not 0 <= began < _FAR:
        raise Malformed("it does not say when the run began")
    began = float(began)
    calls = State.of(root, began).tree.calls
    rows = read_runs(found.get("rows"), len(calls), "its rows")
    ids = [calls[row].id for row in rows]
    workers = _named(found, len(rows))
    for kind in _TIMES:
        data: Iterable[Any] = workers if kind == STARTED else [None] * len(rows)
        for task_id, moment, said in zip(ids, _moments(found.get(kind), len(rows), began), data, strict=True):
            if moment is not None:
                yield Event(kind, task_id, moment, 0, said)
    if "rest" in found:
        yield from recorded.read(dumps(found["rest"])).state.events()


def _named(found: Mapping[str, Any], count: int) -> list[str]:
    names, column = found.get("names"), read_column(found.get("worker"), count, "its workers")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Malformed("the names of its workers are no list of texts")
    if not all(type(at) is int and 0 <= at < len(names) for at in column):
        raise Malformed("its workers have no names")
    return [names[at] for at in column]


def _moments(column: Any, count: int, began: float) -> Iterator[float | None]:
    steps = read_column(column, count, "a column of times")
    if not all(step is None or (type(step) is int and -_FAR < step < _FAR) for step in steps):
        raise Malformed("a time is no number")
    for step, tick in zip(steps, accumulate(step or 0 for step in steps), strict=True):
        yield None if step is None else began + tick / _TICKS
