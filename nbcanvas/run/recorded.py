"""A run as one JSON text, and back: plan, events and results, as docs/recording.md describes them.

The plan is a table (see `nbcanvas.protocol.document`); events and results are columns that point into it.  Nothing in
the text is ever run, imported or unpickled, and everything in it is checked.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple

from nbcanvas import states
from nbcanvas.events import event as kinds
from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.events.tree import CHILD, REPLACEMENT
from nbcanvas.plan import Call, Node
from nbcanvas.plan.model import Payload
from nbcanvas.protocol.columns import read_column, read_runs, write_column, write_runs
from nbcanvas.protocol.document import PlanTable, read_plan, text, whole, write_arguments
from nbcanvas.protocol.payload import pack
from nbcanvas.protocol.plain import (
    LEFT_OUT,
    LIMIT,
    Malformed,
    dumps,
    loads,
    read_value,
    write_error,
    write_value,
)

from .views import Views

__all__ = ["FORMAT", "VERSION", "Recorded", "read", "write"]

FORMAT: Final = "recording"
VERSION: Final = 1
_VERSIONS: Final = 1_000_000

_SUCCESS: Final = states.SUCCESS
_LEFT_OUT: Final = write_value(LEFT_OUT)
#: The year 2262, which is as far as tables can tell time; and further than anything is due.
_LATEST: Final = 9.2e9
_NEVER: Final = 1e15
#: So many events of a kind there may be, or so many for each call: their history has an end.
_EVENTS: Final = 1_000_000
_EVENTS_EACH: Final = 20


class Recorded(NamedTuple):
    """What a recording says.

    Attributes
    ----------
    id, name, canvas
        Of the run.
    root
        Its frozen canvas.
    state
        What was known of it.
    finished
        When it had ended, or None.
    clocks
        Whether times, workers and parents were written; without them equal runs have equal recordings.
    left_out
        How many ``results``, ``arguments`` and ``tracebacks`` were left out, to keep the file small.
    results
        The value of each call that succeeded, by id.
    described
        Queue and parent of each call, by id.
    """

    id: str
    name: str | None
    canvas: str
    root: Node
    state: State
    finished: float | None
    clocks: bool
    left_out: Mapping[str, int]
    results: Mapping[str, Payload]
    described: Mapping[str, tuple[str | None, str | None]]


# -- writing -----------------------------------------------------------------------------------------------------------


def write(views: Views, *, limit: int, clocks: bool) -> str:
    """Return a run as JSON.

    Parameters
    ----------
    views
        The run.
    limit
        Characters the text should have at most.  Results are left out first, then arguments, then tracebacks, of each
        the largest first; what is left is the canvas and its events, and is written in any case.
    clocks
        Whether to write times, workers and parents.

    Raises
    ------
    Malformed
        When the canvas is too deep to be read again.
    """
    return _Writing(views, clocks).text(limit)


class _Writing:
    def __init__(self, views: Views, clocks: bool) -> None:
        self.views = views
        self.clocks = clocks
        self.clean = _cleaner()
        self.state = views.snapshot()
        self.events = list(self.state.events())
        self.table = PlanTable([views.root, *(e.data[0] for e in self.events if e.kind == kinds.GRAFTED)])
        self.table.check()
        self.row_of: dict[str, int] = {}
        for row, call in enumerate(self.table.calls):
            self.row_of.setdefault(call.id, row)
        self.origin = self._origin()
        self.tracebacks: list[str] = []
        self.results = [(row, self._result(call)) for row, call in enumerate(self.table.calls) if self._has(row, call)]
        described = [views.describe(call) for call in self.table.calls]
        self.arguments = [write_arguments(told[0], told[1], LIMIT, self.clean) for told in described]
        self.queues = [dumps(told[2]) for told in described]
        self.parents = [self._parent(told[3]) for told in described]

    def _has(self, row: int, call: Call) -> bool:
        at = self.state.tree.index.get(call.id)
        return at is not None and self.row_of[call.id] == row and self.state.state(at) == _SUCCESS

    def _result(self, call: Call) -> str:
        return write_value(self.views.value_of(call), LIMIT, self.clean)

    def _parent(self, parent: str | None) -> str:
        if parent is None or not self.clocks:
            return "null"
        return dumps(self.row_of.get(parent, parent))

    def _finished(self) -> float | None:
        if self.views.finished is None and self.views.done:  # it is about to be told
            return max((end for end in self.state.columns.finished if isfinite(end)), default=self.state.began)
        return self.views.finished

    # -- times --------------------------------------------------------------------------------------------------------

    def _origin(self) -> float:
        """Return what times are counted from: the run's beginning, if that keeps them exact, else the epoch."""
        began = self.state.began
        moments = (began, *(event.time for event in self.events))
        return began if all(began + round(moment - began, 7) == moment for moment in moments) else 0.0

    def _time(self, moment: float | None) -> str:
        if moment is None or not isfinite(moment):
            return "null"
        if not self.clocks:
            return "0"
        since = moment - self.origin
        return repr(round(since, 7) if self.origin else since)

    # -- the text -----------------------------------------------------------------------------------------------------

    def text(self, limit: int) -> str:
        tables = list(self._tables())  # finds the tracebacks
        results = [written for _, written in self.results]
        arguments = [f"{args}\n{kwargs}" for args, kwargs in self.arguments]
        left_out = {"results": 0, "arguments": 0, "tracebacks": 0}
        made = self._whole(tables, results, arguments, left_out)
        for name, texts, mark in (
            ("results", results, _LEFT_OUT),
            ("arguments", arguments, "null\nnull"),
            ("tracebacks", self.tracebacks, "null"),
        ):
            # Equal ones are written once, so a second look may find that the largest were not enough.
            for least in (0.0, inf):
                if len(made) > limit:
                    left_out[name] += _leave_out(texts, mark, max(len(made) - limit, least))
                    made = self._whole(tables, results, arguments, left_out)
        return made

    def _whole(
        self,
        tables: Sequence[Mapping[str, Any]],
        results: Sequence[str],
        arguments: Sequence[str],
        left_out: Mapping[str, int],
    ) -> str:
        run = {
            "id": dumps(self.views.id),
            "name": dumps(self.views.name),
            "canvas": dumps(self.views.canvas),
            "clocks": dumps(self.clocks),
            "origin": repr(self.origin) if self.clocks else "0",
            "began": self._time(self.state.began),
            "finished": self._time(self._finished()),
        }
        index = self.state.tree.index
        items = [self.state.items(index[call.id]) if call.id in index else 1 for call in self.table.calls]
        both = [found.partition("\n") for found in arguments]  # JSON written here has no line breaks
        plan = {
            **self.table.write([args for args, _, _ in both], [kw for _, _, kw in both], LIMIT, self.clean),
            "items": write_column([str(count) for count in items]),
            "queue": write_column(self.queues),
            "parent": write_column(self.parents),
            "root": str(self.table.number_of(self.views.root)),
        }
        values = {"rows": dumps(write_runs([row for row, _ in self.results])), "values": write_column(results)}
        events = (
            {name: write_column(column) if isinstance(column, list) else column for name, column in table.items()}
            for table in tables
        )
        members = {
            "nbcanvas": dumps(FORMAT),
            "version": str(VERSION),
            "run": _object(run),
            "left_out": dumps(left_out),
            "plan": _object(plan, "\n"),
            "events": "[\n" + ",\n".join(map(_object, events)) + "]",
            "results": _object(values),
        }
        return _object(members, "\n") + "\n"

    # -- events -------------------------------------------------------------------------------------------------------

    def _tables(self) -> Iterator[Mapping[str, Any]]:
        """Yield the events of each kind as a table: texts, and lists that are columns."""
        of_kind: dict[str, list[Event]] = {}
        for event in self.events:
            if event.id in self.row_of:  # else it waits for a graft that was never heard of
                of_kind.setdefault(event.kind, []).append(event)
        for kind in kinds.KINDS:
            events = sorted(of_kind.get(kind, ()), key=lambda event: (self.row_of[event.id], event.attempt, event.time))
            if not events:
                continue
            times = self._ordinals(events) if kind == kinds.GRAFTED and not self.clocks else None
            yield {
                "kind": dumps(kind),
                "rows": dumps(write_runs([self.row_of[event.id] for event in events])),
                "attempts": [str(event.attempt) for event in events],
                "times": times or [self._time(event.time) for event in events],
                **self._data(kind, [event.data for event in events]),
            }

    @staticmethod
    def _ordinals(grafts: Sequence[Event]) -> list[str]:
        """Return the place of each graft among those of its owner: an order without times."""
        seen: dict[str, int] = {}
        ordinals = []
        for event in grafts:
            ordinals.append(str(seen.get(event.id, 0)))
            seen[event.id] = seen.get(event.id, 0) + 1
        return ordinals

    def _data(self, kind: str, data: Sequence[Any]) -> Mapping[str, Any]:  # noqa: PLR0911 - a row a kind
        if kind in {kinds.SENT, kinds.RECEIVED}:
            return {"due": [self._due(one.get("due") if one else None) for one in data]}
        if kind == kinds.STARTED:
            return {"worker": [dumps(one if self.clocks else None) for one in data]}
        if kind == kinds.PROGRESS:
            return {
                "state": [dumps(str(state)) for state, _ in data],
                "meta": [write_value(meta, LIMIT, self.clean) for _, meta in data],
            }
        if kind == kinds.FAILED:
            self.tracebacks = [self._traceback(trace) for _, trace in data]
            return {"error": [self._reason(error) for error, _ in data], "traceback": self.tracebacks}
        if kind == kinds.RETRIED:
            return {
                "error": [self._reason(error) for error, _ in data],
                "due": [self._due(due) for _, due in data],
            }
        if kind in {kinds.REVOKED, kinds.REJECTED}:
            return {"reason": [self._reason(reason) for reason in data]}
        if kind == kinds.GRAFTED:
            return {
                "node": [str(self.table.number_of(node)) for node, _ in data],
                "role": [dumps(role) for _, role in data],
            }
        return {}

    def _due(self, due: Any) -> str:
        return self._time(due) if isinstance(due, int | float) and self.clocks else "null"

    def _reason(self, reason: Any) -> str:
        if isinstance(reason, BaseException):
            return write_error(reason, LIMIT, self.clean)
        return dumps(str(reason or "")[:LIMIT])

    def _traceback(self, trace: str | None) -> str:
        if trace is None:
            return "null"
        trace = self.clean(trace)
        if len(trace) > LIMIT:  # how it began, and where it ended
            trace = f"{trace[: LIMIT // 4]}\n…\n{trace[-3 * LIMIT // 4 :]}"
        return dumps(trace)


def _object(members: Mapping[str, str], end: str = "") -> str:
    return "{" + end + f",{end}".join(f"{dumps(name)}:{value}" for name, value in members.items()) + end + "}"


def _leave_out(texts: list[str], mark: str, excess: float) -> int:
    """Put the mark in place of the largest texts until that saves `excess` characters; return how many these are."""
    count = 0
    # What is left out costs about two characters in a column; see `write_column`.
    for row in sorted((row for row, found in enumerate(texts) if found != mark), key=lambda row: -len(texts[row])):
        if excess <= 0:
            break
        excess -= len(texts[row]) - 2
        texts[row] = mark
        count += 1
    return count


# It begins where a word begins, or a word of a megabyte would be looked at from each of its places.
_CELL: Final = re.compile(r'(?<![^\s"\'])[^\s"\']*ipykernel_\d+[/\\](\d+)\.py')


def _cleaner() -> Callable[[str], str]:
    """Return what takes this machine's folders out of a text."""
    folders = {
        str(Path.cwd()): ".",
        str(Path.home()): "~",
        sys.prefix: "<python>",
        sys.base_prefix: "<python>",
        tempfile.gettempdir(): "<tmp>",
    }
    known = sorted((folder for folder in folders if len(folder) > 1), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, known)) + r"(?![\w-])") if known else None

    def clean(found: str) -> str:
        found = _CELL.sub(r"<cell \1>", found)
        return found if pattern is None else pattern.sub(lambda match: folders[match[0]], found)

    return clean


# -- reading -----------------------------------------------------------------------------------------------------------


def read(document: str | bytes) -> Recorded:
    """Read what `write` wrote.

    Raises
    ------
    Malformed
        Saying what is wrong.
    """
    found = loads(document)
    if not isinstance(found, dict) or found.get("nbcanvas") != FORMAT:
        raise Malformed('it is JSON, but no recording of nbcanvas: it does not begin with "nbcanvas": "recording"')
    version = found.get("version")
    if type(version) is not int or not 0 < version < _VERSIONS:
        raise Malformed(f"it has no version a recording can have: {version!r:.40}")
    if version > VERSION:
        raise Malformed(
            f"it was written in version {version} of the format, and this nbcanvas reads up to version {VERSION}; "
            f"install a newer nbcanvas"
        )
    return _Reading(found).recorded()


class _Reading:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self.run = _part(document, "run", dict)
        self.plan = _part(document, "plan", dict)
        self.tables = _part(document, "events", list)
        self.found = _part(document, "results", dict)
        self.left_out = {
            name: whole(_part(document, "left_out", dict).get(name, 0), f'"left_out" of {name}')
            for name in ("results", "arguments", "tracebacks")
        }
        self.calls, self.nodes = read_plan(self.plan)
        self.origin = number(self.run.get("origin"), '"origin"', 0, _LATEST)

    def recorded(self) -> Recorded:
        run = self.run
        began = self.time(run.get("began"), '"began"')
        finished = run.get("finished")
        if not isinstance(run.get("clocks"), bool):
            raise Malformed('"clocks" is neither true nor false')
        items = self.column(self.plan, "items", lambda value: whole(value, "a count of items"))
        of_call = {id(call): count for call, count in zip(self.calls, items, strict=True)}
        root = self.nodes[whole(self.plan.get("root"), '"root"', len(self.nodes))] if self.nodes else None
        if root is None:
            raise Malformed('the plan is empty, so "root" cannot be in it')
        state = State.of(root, began, lambda call: of_call.get(id(call), 1)).apply(list(self.events()))
        return Recorded(
            text(run.get("id"), 'the "id" of the run'),
            None if run.get("name") is None else text(run["name"], 'the "name" of the run'),
            text(run.get("canvas"), '"canvas"'),
            root,
            state,
            None if finished is None else self.time(finished, '"finished"'),
            run["clocks"],
            self.left_out,
            self.results(),
            self.described(),
        )

    def time(self, value: Any, what: str, latest: float = _LATEST) -> float:
        return number(self.origin + number(value, what, -_NEVER, _NEVER), what, -1e6, latest)

    def column(self, table: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> list[Any]:
        return [read(value) for value in read_column(table.get(name), len(self.calls), f'column "{name}"')]

    def described(self) -> Mapping[str, tuple[str | None, str | None]]:
        def queue(value: Any) -> str | None:
            return None if value is None else text(value, "the name of a queue")

        def parent(value: Any) -> str | None:
            if type(value) is int:
                return self.calls[whole(value, "a parent", len(self.calls))].id
            return None if value is None else text(value, "the id of a parent")

        told = zip(self.column(self.plan, "queue", queue), self.column(self.plan, "parent", parent), strict=True)
        found: dict[str, tuple[str | None, str | None]] = {}
        for call, one in zip(self.calls, told, strict=True):
            found.setdefault(call.id, one)
        return found

    def results(self) -> Mapping[str, Payload]:
        rows = read_runs(self.found.get("rows"), len(self.calls), '"rows" of the results')
        values = read_column(self.found.get("values"), len(rows), '"values" of the results')
        return {
            self.calls[row].id: LEFT_OUT if (made := read_value(value)) is LEFT_OUT else pack(made)
            for row, value in zip(rows, values, strict=True)
        }

    def events(self) -> Iterator[Event]:
        for table in self.tables:
            if not isinstance(table, dict) or table.get("kind") not in kinds.KINDS:
                raise Malformed(f"no events can be {table!r:.60}")
            kind = table["kind"]
            what = f'"rows" of "{kind}"'
            most = max(_EVENTS, _EVENTS_EACH * len(self.calls))
            rows = read_runs(table.get("rows"), len(self.calls), what, most)
            columns = [
                read_column(table.get(name), len(rows), f'"{name}" of "{kind}"')
                for name in ("attempts", "times", *_COLUMNS[kind])
            ]
            for row, attempt, moment, *data in zip(rows, *columns, strict=True):
                yield Event(
                    kind,
                    self.calls[row].id,
                    self.time(moment, f'a time of "{kind}"'),
                    whole(attempt, f'an attempt of "{kind}"'),
                    self.data(kind, data),
                )

    def data(self, kind: str, data: Sequence[Any]) -> Any:  # noqa: PLR0911 - a row a kind
        if kind in {kinds.SENT, kinds.RECEIVED}:
            due = self.due(data[0])
            return None if due is None else {"due": due}
        if kind == kinds.STARTED:
            return None if data[0] is None else text(data[0], "the name of a worker")
        if kind == kinds.PROGRESS:
            return text(data[0], "a state"), read_value(data[1])
        if kind == kinds.FAILED:
            return _reason(data[0]), None if data[1] is None else text(data[1], "a traceback")
        if kind == kinds.RETRIED:
            return _reason(data[0]), self.due(data[1])
        if kind in {kinds.REVOKED, kinds.REJECTED}:
            return _reason(data[0])
        if kind == kinds.GRAFTED:
            node = self.nodes[whole(data[0], '"node" of "grafted"', len(self.nodes))]
            if data[1] not in (REPLACEMENT, CHILD):
                raise Malformed(f"no graft has the role {data[1]!r:.40}")
            return node, data[1]
        return None

    def due(self, value: Any) -> float | None:
        return None if value is None else self.time(value, "a time when something is due", _NEVER)


_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    kinds.SENT: ("due",),
    kinds.RECEIVED: ("due",),
    kinds.STARTED: ("worker",),
    kinds.PROGRESS: ("state", "meta"),
    kinds.SUCCEEDED: (),
    kinds.FAILED: ("error", "traceback"),
    kinds.RETRIED: ("error", "due"),
    kinds.REVOKED: ("reason",),
    kinds.REJECTED: ("reason",),
    kinds.IGNORED: (),
    kinds.REPLACED: (),
    kinds.GRAFTED: ("node", "role"),
}


def _part(document: Mapping[str, Any], name: str, kind: type) -> Any:
    found = document.get(name)
    if not isinstance(found, kind):
        raise Malformed(f'it has no "{name}"' if found is None else f'"{name}" is no {_JSON[kind]}')
    return found


_JSON: Final[Mapping[type, str]] = {dict: "object", list: "array"}


def number(value: Any, what: str, low: float, high: float) -> float:
    """Return a number between `low` and `high`.

    Raises
    ------
    Malformed
        When it is none.
    """
    if type(value) not in {int, float} or not low <= value <= high:
        raise Malformed(f"{what} cannot be {value!r:.40}")
    return float(value)


def _reason(plain: Any) -> BaseException | str:
    found = read_value(plain)
    if not isinstance(found, BaseException | str):
        raise Malformed(f"an error cannot be {found!r:.40}")
    return found
