"""Frozen canvases as plain JSON, and back.

A *plan document* is a table: the calls of one or several canvases as columns, and a list of the chains and fans over
them.  Nodes have numbers, first the calls and then the others, and point at each other by these, so the document of a
canvas is flat however deep the canvas is, and a node that stands in two places is written once.

Reading checks everything: what is not a canvas that nbcanvas could have made is refused, with the place where it is
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from nbcanvas.plan.model import NO_OPTIONS, Call, Chain, Fan, Node

from .columns import read_column, read_runs, write_column, write_runs
from .payload import pack_args
from .plain import LEFT_OUT, Malformed, dumps, read_value, write_value

__all__ = ["COUNTS", "DEEPEST", "Document", "PlanTable", "read_plan", "text", "whole", "write_arguments"]

#: A document in pieces: the JSON of each of its members.
Document: TypeAlias = dict[str, str]

#: Composites and links that may stand in each other.
DEEPEST: Final = 2_000
#: Counts and places are below this.
COUNTS: Final = 1 << 40
#: Written out in full, without shared nodes, a canvas may have so many times as many nodes; or `_FEW`.
_SHARED: Final = 50
_FEW: Final = 1_000_000
_TOO_OFTEN: Final = "few nodes are repeated very often"


class PlanTable:
    """The nodes of canvases by number.

    Attributes
    ----------
    calls
        Numbered from 0, in canvas order.
    composites
        Numbered behind the calls.
    """

    def __init__(self, roots: Iterable[Node]) -> None:
        self.calls: list[Call] = []
        self.composites: list[Chain | Fan] = []
        self._place: dict[int, int] = {}
        #: The nodes stay alive as long as their places count.
        self._roots = tuple(roots)
        todo: list[Node] = list(reversed(self._roots))
        while todo:
            node = todo.pop()
            if id(node) in self._place:
                continue
            if isinstance(node, Call):
                self._place[id(node)] = len(self.calls)
                self.calls.append(node)
                todo += reversed((*node.links, *node.errbacks))
            else:
                self._place[id(node)] = len(self.composites)
                self.composites.append(node)
                todo += reversed(_inside(node))

    def number_of(self, node: Node) -> int:
        """Return the number of a node."""
        place = self._place[id(node)]
        return place if isinstance(node, Call) else len(self.calls) + place

    def check(self) -> None:
        """Raise Malformed when what is written could not be read again: when it is too deep."""
        calls = ([self.number_of(node) for node in (*call.links, *call.errbacks)] for call in self.calls)
        _in_order([*calls, *([self.number_of(node) for node in _inside(one)] for one in self.composites)])

    def _runs(self, nodes: Sequence[Node]) -> list[Any]:
        return write_runs([self.number_of(node) for node in nodes])

    def write(self, args: Sequence[str], kwargs: Sequence[str], limit: int, clean: Callable[[str], str]) -> Document:
        """Return the document.

        Parameters
        ----------
        args, kwargs
            The arguments of each call, see `write_arguments`.
        limit, clean
            For the values of stamps and options, see `write_value`.
        """

        def mapping(values: Mapping[str, Any] | None) -> str:
            return "null" if values is None else _object(values, limit, clean) if values else "{}"

        calls = self.calls
        columns = {
            "id": [dumps(call.id) for call in calls],
            "task": [dumps(call.task) for call in calls],
            "args": args,
            "kwargs": kwargs,
            "immutable": ["true" if call.immutable else "false" for call in calls],
            "options": [mapping(call.options) for call in calls],
            "links": [dumps(self._runs(call.links)) if call.links else "[]" for call in calls],
            "errbacks": [dumps(self._runs(call.errbacks)) if call.errbacks else "[]" for call in calls],
            "stamps": [mapping(call.stamps) for call in calls],
            "group": ["null" if call.group_id is None else dumps(call.group_id) for call in calls],
            "index": ["null" if call.index is None else str(call.index) for call in calls],
            "version": [dumps(call.version) for call in calls],
            "nesting": [str(call.nesting) for call in calls],
        }
        composites = [
            ["chain", self._runs(node.steps)] if isinstance(node, Chain) else ["fan", node.id, self._runs(node.members)]
            for node in self.composites
        ]
        return {
            "calls": str(len(calls)),
            # Ids are written one by one, so that a document is as long as the canvas it makes is large.
            **{n: write_column(texts) if n != "id" else f"[{','.join(texts)}]" for n, texts in columns.items()},
            "composites": dumps(composites),
        }


def _inside(node: Chain | Fan) -> Sequence[Node]:
    return node.steps if isinstance(node, Chain) else node.members


def write_arguments(
    args: Iterable[Any], kwargs: Mapping[str, Any], limit: int, clean: Callable[[str], str] = str
) -> tuple[str, str]:
    """Return the arguments of a call as JSON: a list and an object, each value as `write_value` writes it."""
    return (
        f"[{','.join([write_value(arg, limit, clean) for arg in args])}]",
        _object(kwargs, limit, clean),
    )


def _object(values: Mapping[str, Any], limit: int, clean: Callable[[str], str]) -> str:
    """Return values with names as a JSON object."""
    return (
        f"{{{','.join([f'{dumps(str(name))}:{write_value(value, limit, clean)}' for name, value in values.items()])}}}"
    )


def read_arguments(args: Any, kwargs: Any, what: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call; null stands for those that were left out.

    Raises
    ------
    Malformed
        When they are something else.
    """
    if args is None:
        args = [LEFT_OUT]
    if not isinstance(args, list):
        raise Malformed(f"the arguments of {what} are no list")
    return (
        tuple(value if value is LEFT_OUT else read_value(value) for value in args),
        {} if kwargs is None else _values(kwargs, f"the keyword arguments of {what}"),
    )


def _values(plain: Any, what: str) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise Malformed(f"{what} are no names with values")
    return {name: read_value(value) for name, value in plain.items()}


# -- reading -----------------------------------------------------------------------------------------------------------


def read_plan(document: Mapping[str, Any]) -> tuple[Sequence[Call], Sequence[Node]]:
    """Return the calls of a plan document, and all its nodes by number.

    Raises
    ------
    Malformed
        Saying what is wrong.
    """
    count = whole(document.get("calls"), "the number of calls")
    if not isinstance(document.get("id"), list):
        raise Malformed('column "id" is no list')
    rows = {name: read_column(document.get(name), count, f'column "{name}"') for name in _COLUMNS}
    composites = document.get("composites")
    if not isinstance(composites, list):
        raise Malformed('"composites" is no list')
    below = count + len(composites)
    links, errbacks = (_hanging(rows[name], below, name) for name in ("links", "errbacks"))
    inside = _composites(composites, count)
    children = [[*one, *other] if one or other else () for one, other in zip(links, errbacks, strict=True)]
    order = _in_order([*children, *(members for _, members in inside)])
    calls = [_call({name: column[row] for name, column in rows.items()}, row) for row in range(count)]
    nodes: list[Any] = [*calls, *(None for _ in inside)]
    for number in order:  # what is inside comes first
        if number < count:
            calls[number].links = tuple(nodes[child] for child in links[number])
            calls[number].errbacks = tuple(nodes[child] for child in errbacks[number])
        else:
            fan_id, members = inside[number - count]
            nodes[number] = _composite(fan_id, [nodes[child] for child in members], number)
    return calls, nodes


def whole(value: Any, what: str, below: int = COUNTS) -> int:
    """Return a whole number from 0 to below `below`.

    Raises
    ------
    Malformed
        When it is none.
    """
    if type(value) is not int or not 0 <= value < below:
        raise Malformed(f"{what} cannot be {value!r:.40}")
    return value


def text(value: Any, what: str) -> str:
    """Return a text.

    Raises
    ------
    Malformed
        When it is none.
    """
    if not isinstance(value, str):
        raise Malformed(f"{what} cannot be {value!r:.40}")
    return value


_COLUMNS: Final = (
    "id",
    "task",
    "args",
    "kwargs",
    "immutable",
    "options",
    "links",
    "errbacks",
    "stamps",
    "group",
    "index",
    "version",
    "nesting",
)


def _call(row: Mapping[str, Any], number: int) -> Call:
    what = f"call {number}"
    args, kwargs = read_arguments(row["args"], row["kwargs"], what)
    group, index, immutable = row["group"], row["index"], row["immutable"]
    if not isinstance(immutable, bool):
        raise Malformed(f'"immutable" of {what} is neither true nor false')
    stamps = row["stamps"]
    options = _values(row["options"], f'"options" of {what}')
    return Call(
        text(row["id"], f'"id" of {what}'),
        text(row["task"], f'"task" of {what}'),
        pack_args(args, kwargs),
        immutable,
        options or NO_OPTIONS,
        stamps=None if stamps is None else _values(stamps, f'"stamps" of {what}'),
        group_id=None if group is None else text(group, f'"group" of {what}'),
        index=None if index is None else whole(index, f'"index" of {what}'),
        version=text(row["version"], f'"version" of {what}'),
        nesting=whole(row["nesting"], f'"nesting" of {what}', 1 << 20),
    )


def _hanging(column: Sequence[Any], below: int, name: str) -> list[Sequence[int]]:
    found: list[Sequence[int]] = []
    left = max(_FEW, _SHARED * below)
    for row, runs in enumerate(column):
        numbers = read_runs(runs, below, f'"{name}" of call {row}') if runs != [] else ()
        left -= len(numbers)
        if left < 0:
            raise Malformed(_TOO_OFTEN)
        found.append(numbers)
    return found


def _composites(found: Sequence[Any], count: int) -> list[tuple[str | None, list[int]]]:
    """Return the chains and fans: the id of a fan, None of a chain, and the numbers of what is inside."""
    below = count + len(found)
    taken = bytearray(below)
    made: list[tuple[str | None, list[int]]] = []
    for number, one in enumerate(found, count):
        what = f"composite {number}"
        kind, length = (one[0], len(one)) if isinstance(one, list) and one else (None, 0)
        if not ((kind == "chain" and length == 2) or (kind == "fan" and length == 3)):
            raise Malformed(f"{what} is neither a chain nor a fan")
        members = read_runs(one[-1], below, what)
        for member in members:
            if taken[member]:
                raise Malformed(f"node {member} is inside two composites")
            taken[member] = 1
        made.append((text(one[1], f"the id of {what}") if kind == "fan" else None, members))
    return made


def _composite(fan_id: str | None, inside: Sequence[Any], number: int) -> Chain | Fan:
    if fan_id is not None:
        if any(isinstance(member, Fan) for member in inside):
            raise Malformed(f"composite {number} is a fan in a fan")
        return Fan(fan_id, inside)
    if len(inside) < 2 or any(isinstance(step, Chain) for step in inside):
        raise Malformed(f"composite {number} is a chain of chains, or of fewer than two steps")
    return Chain(inside)


def _in_order(children: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers of the nodes, each behind what is inside it.

    Raises
    ------
    Malformed
        When a node is inside itself, too many are inside each other, or a few are shared so often that the canvas
        they make is out of all proportion.
    """
    count = len(children)
    most = max(_FEW, _SHARED * count)
    order: list[int] = []
    depth, size = [0] * count, [0] * count
    open_ = bytearray(count)
    for start in range(count):
        todo = [start]
        while todo:
            number = todo[-1]
            if size[number]:
                todo.pop()
            elif open_[number]:
                todo.pop()
                inside = children[number]
                depth[number] = 1 + max((depth[child] for child in inside), default=0)
                size[number] = 1 + sum(size[child] for child in inside)
                if depth[number] > DEEPEST:
                    raise Malformed(f"more than {DEEPEST} parts of the canvas are inside each other")
                if size[number] > most:
                    raise Malformed(_TOO_OFTEN)
                order.append(number)
            else:
                open_[number] = 1
                if any(open_[child] and not size[child] for child in children[number]):
                    raise Malformed(f"node {number} is inside itself")
                todo.extend(child for child in children[number] if not size[child])
    return order
