"""The stages of a canvas: calls that stand at the same place but for their index in a group.

A group of ten thousand chains of three steps has three stages; so has a single such chain.  A stage is what a bar
shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final
from weakref import WeakKeyDictionary

from nbcanvas.events.tree import CHILD, MAPS, Tree
from nbcanvas.plan import Call, Chain, Fan, Node

__all__ = ["MOST", "Rows", "Stage", "bytes_at", "stages"]

#: More bars than this are not read.
MOST: Final = 24

#: Places below a call for what hangs on it: before those of a chain's further steps.
_REPLACEMENT, _LINK, _ERRBACK, _CHILD = -4, -3, -2, -1
_ROLES: Final = {_LINK: "link", _ERRBACK: "errback", _REPLACEMENT: "replacement", _CHILD: "child"}

Rows = range | tuple[int, ...]


class Stage:
    """Calls of one task that stand at the same place.

    Attributes
    ----------
    task
        Their task, of a map or a starmap the one it runs for each item; an empty string for a stage that stands for
        several.
    over
        ``"map"`` or ``"starmap"`` when they go over items, else an empty string.
    role
        ``""``, ``"link"``, ``"errback"``, ``"replacement"`` or ``"child"``.
    depth
        How many groups inside another group they stand in.
    rows
        Their rows.
    before
        The rows whose values they wait for.
    merged
        How many stages it stands for.
    usual, others
        How many items most of its calls go over, and the rows of those that go over another number; see `count`.
    """

    __slots__ = ("before", "depth", "merged", "others", "over", "role", "rows", "task", "usual")

    def __init__(self, task: str, over: str, role: str, depth: int, rows: Rows, before: Rows, merged: int = 1) -> None:
        self.task = task
        self.over = over
        self.role = role
        self.depth = depth
        self.rows = rows
        self.before = before
        self.merged = merged
        self.usual = 1
        self.others: Mapping[int, int] = {}

    def count(self, tree: Tree) -> None:
        """Find out how many items its calls go over: of chunks all have as many, but for the last."""
        if tree.items:
            counts = {row: tree.items.get(row, 1) for row in self.rows}
            self.usual = Counter(counts.values()).most_common(1)[0][0]
            self.others = {row: count for row, count in counts.items() if count != self.usual}


_KNOWN: WeakKeyDictionary[Tree, tuple[Sequence[Stage], Sequence[int]]] = WeakKeyDictionary()


def stages(tree: Tree) -> tuple[Sequence[Stage], Sequence[int]]:
    """Return the stages of a tree in canvas order, at most `MOST`, and for each row its stage.

    Worked out once for each tree.
    """
    found = _KNOWN.get(tree)
    if found is None:
        listed = _bounded(_Survey(tree).stages())
        of_row = [0] * len(tree.calls)
        for at, stage in enumerate(listed):
            stage.count(tree)
            for row in stage.rows:
                of_row[row] = at
        found = _KNOWN[tree] = listed, of_row
    return found


class _Spot:
    """A place of the canvas, without the indexes of groups."""

    __slots__ = ("below", "depth", "outlet", "previous", "role", "tasks")

    def __init__(self, role: str, depth: int) -> None:
        self.role = role
        self.depth = depth
        self.below: dict[int, _Spot] = {}
        self.tasks: dict[tuple[str, str], list[int]] = {}  # by task, and what goes over items
        self.previous: _Spot | None = None  # the step before
        self.outlet: list[int] = []  # the rows whose values go from here to the next step

    def at(self, place: int, depth: int) -> _Spot:
        spot = self.below.get(place)
        if spot is None:
            spot = self.below[place] = _Spot(_ROLES.get(place, self.role), depth)
        return spot


class _Survey:
    """Walks a tree once, without recursion, and puts each row into its spot."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.top = _Spot("", -1)
        self.seen = bytearray(len(tree.calls))
        self.spots: dict[int, _Spot] = {}  # of the rows something may be grafted to
        owners = {tree.index[graft.owner] for graft in tree.grafts}
        self.walk(tree.root, self.top.at(0, -1), owners)
        for graft in tree.grafts:
            owner = self.spots[tree.index[graft.owner]]
            place = _CHILD if graft.role == CHILD else _REPLACEMENT
            self.walk(graft.node, owner.at(place, owner.depth).at(0, owner.depth), owners)

    def walk(self, root: Node, spot: _Spot, owners: set[int]) -> None:
        index, seen = self.tree.index, self.seen
        todo: list[tuple[Node, _Spot, _Spot | None]] = [(root, spot, None)]  # with where its values go
        while todo:
            node, spot, outlet = todo.pop()
            if isinstance(node, Chain):
                self.chain(node, spot, outlet, todo)
            elif isinstance(node, Fan):
                member = spot.at(0, spot.depth + 1)
                member.previous = spot.previous
                todo += [(n, member, outlet) for n in reversed(node.members)]
            else:
                row = index[node.id]
                if seen[row]:
                    continue
                seen[row] = 1
                what = (node.task, "") if node.task not in MAPS else self.map_of(node, row)
                spot.tasks.setdefault(what, []).append(row)
                if outlet is not None:
                    outlet.outlet.append(row)
                if row in owners:
                    self.spots[row] = spot
                todo += [(n, spot.at(_ERRBACK, spot.depth).at(0, spot.depth), None) for n in reversed(node.errbacks)]
                todo += [(n, spot.at(_LINK, spot.depth).at(0, spot.depth), None) for n in reversed(node.links)]

    def map_of(self, call: Call, row: int) -> tuple[str, str]:
        """Return the task that a call runs for each item, and what goes over them."""
        task = self.tree.over(row)
        return (task, call.task.rpartition(".")[2]) if task else (call.task, "")

    @staticmethod
    def chain(chain: Chain, spot: _Spot, outlet: _Spot | None, todo: list[tuple[Node, _Spot, _Spot | None]]) -> None:
        """Spread a chain's steps."""
        # The first step stands at the chain's own spot, so that a call beside a chain is in the stage of its first
        # step; the others below it.
        steps = [spot, *(spot.at(place, spot.depth) for place in range(1, len(chain.steps)))]
        for step, before in zip(steps[1:], steps, strict=False):
            step.previous = before
        todo += reversed(list(zip(chain.steps, steps, (*steps[:-1], outlet), strict=True)))

    def stages(self) -> list[Stage]:
        found: list[Stage] = []
        todo = [self.top]
        while todo:
            spot = todo.pop()
            before = _rows(sorted(spot.previous.outlet)) if spot.previous and spot.tasks else ()
            found += [
                Stage(task, over, spot.role, max(spot.depth, 0), _rows(rows), before)
                for (task, over), rows in spot.tasks.items()
            ]
            todo += [spot.below[place] for place in sorted(spot.below, reverse=True)]
        return found


def _rows(rows: list[int]) -> Rows:
    """Return rows as a range where they are evenly apart, so that a slice finds them."""
    if len(rows) > 1:
        step = rows[1] - rows[0]
        even = range(rows[0], rows[-1] + 1, step) if step > 0 else range(0)
        if len(even) == len(rows) and all(map(int.__eq__, rows, even)):
            return even
    elif rows:
        return range(rows[0], rows[0] + 1)
    return tuple(rows)


def bytes_at(column: bytes | bytearray, rows: Rows) -> bytes | bytearray:
    """Return the bytes of a column at `rows`."""
    if isinstance(rows, range):
        return column[rows.start : rows.stop : rows.step]
    return bytes(itemgetter(*rows)(column)) if len(rows) > 1 else bytes(column[row] for row in rows)


def _bounded(listed: Sequence[Stage]) -> Sequence[Stage]:
    """Return at most `MOST` stages: neighbours of one task are put together first, then the rest into one."""
    if len(listed) <= MOST:
        return listed
    found: list[Stage] = []
    run: list[Stage] = []
    for stage in listed:
        if run and _kind(stage) != _kind(run[0]):
            found.append(_together(run))
            run = []
        run.append(stage)
    found.append(_together(run))
    return found if len(found) <= MOST else [*found[: MOST - 1], _together(found[MOST - 1 :])]


def _kind(stage: Stage) -> tuple[str, str, str]:
    return stage.task, stage.over, stage.role


def _together(run: Sequence[Stage]) -> Stage:
    if len(run) == 1:
        return run[0]
    kinds = {_kind(stage)[:2] for stage in run}
    roles = {stage.role for stage in run}
    task, over = kinds.pop() if len(kinds) == 1 else ("", "")
    return Stage(
        task,
        over,
        roles.pop() if len(roles) == 1 else "",
        min(stage.depth for stage in run),
        _rows(sorted(_all(run))),
        run[0].before,
        sum(stage.merged for stage in run),
    )


def _all(run: Iterable[Stage]) -> Iterable[int]:
    return (row for stage in run for row in stage.rows)
