"""The calls of a run and their rows: the frozen canvas, its links and errbacks, and what running tasks added to it.

A task may put a canvas in its own place (``replace``) or start one by itself (``delay``); events bring such a
canvas, and it is *grafted*: its calls become rows behind those that were there.  Grafts are kept in the order of
their times, so a tree does not depend on the order in which they were heard of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from nbcanvas.plan import Call, Chain, Fan, Node, Place, calls_of, places
from nbcanvas.protocol.payload import unpack_args

from .before import Before
from .event import Event

__all__ = ["CHILD", "ERRBACK", "LINK", "REPLACEMENT", "Graft", "Part", "Tree", "linked_calls", "one"]

REPLACEMENT: Final = "replacement"
CHILD: Final = "child"
LINK: Final = "link"
ERRBACK: Final = "errback"

#: The tasks that go over items (Celery's names).
MAPS: Final = frozenset({"celery.map", "celery.starmap"})

Items = Callable[[Call], int]


def one(call: Call) -> int:
    """Return 1: a call is one item, when nobody can tell better."""
    return 1


class Graft(NamedTuple):
    """A canvas that a running task added; its fields but the last are its place among the others."""

    time: float
    owner: str
    attempt: int
    role: str
    first: str
    node: Node

    @classmethod
    def of(cls, event: Event) -> Graft:
        """Read a ``grafted`` event."""
        node, role = event.data
        first = node.steps[0] if isinstance(node, Chain) else node
        return cls(event.time, event.id, event.attempt, role, first.id, node)

    @property
    def key(self) -> tuple[float, str, int, str, str]:
        """What tells two grafts apart, and sorts them."""
        return self[:5]


class Part(NamedTuple):
    """A link or an errback.

    Attributes
    ----------
    role
        ``"link"`` or ``"errback"``.
    owner
        The id of the call it hangs on.
    size
        How many calls it has.
    """

    role: str
    owner: str
    size: int


class Tree:
    """The calls of a run by row.  Immutable; `graft` makes the next one.

    Attributes
    ----------
    root
        The frozen canvas.
    calls
        By row: the canvas with its links in canvas order, then what was grafted.
    index
        Task id -> row.
    items
        Row -> how many items, for the calls that go over more or less than one.
    parts
        The links and errbacks, by the id of their first call.
    part_of
        Row -> part, for the calls in one.
    superseded
        Rows of calls that were replaced by a canvas that does not end in their id.
    grafts
        In the order of their times, but each behind its owner.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_before",
        "_items_of",
        "_links",
        "_order",
        "_over",
        "_places",
        "calls",
        "grafts",
        "index",
        "items",
        "part_of",
        "parts",
        "root",
        "superseded",
    )

    def __init__(self, root: Node, items_of: Items, rows: _Rows, grafts: tuple[Graft, ...], base: Tree | None) -> None:
        self.root = root
        self.calls: Sequence[Call] = rows.calls
        self.index: Mapping[str, int] = rows.index
        self.items: Mapping[int, int] = rows.items
        self.parts: Mapping[str, Part] = rows.parts
        self.part_of: Mapping[int, str] = rows.part_of
        self.superseded: frozenset[int] = frozenset(rows.superseded)
        self.grafts = grafts
        self._items_of = items_of
        self._base = base or self
        self._over: dict[str, str] = base._over if base else {}  # noqa: SLF001 - shared: a call keeps its payload
        self._links: tuple[Sequence[str], Sequence[int]] | None = None
        self._places: Sequence[Place] | None = None
        self._order: Sequence[int] | None = None
        self._before: Before | None = None

    @classmethod
    def of(cls, root: Node, items_of: Items = one) -> Tree:
        """Return the tree of a frozen canvas."""
        rows = _Rows(items_of)
        rows.add(root)
        return cls(root, items_of, rows, (), None)

    @property
    def links(self) -> tuple[Sequence[str], Sequence[int]]:
        """The parts that are links, and the rows of the calls they hang on."""
        if self._links is None:
            found = [(name, part.owner) for name, part in self.parts.items() if part.role == LINK]
            self._links = [name for name, _ in found], [self.index[owner] for _, owner in found]
        return self._links

    def over(self, row: int) -> str:
        """Return the name of the task that a map or a starmap runs for each item; an empty string for other calls."""
        call = self.calls[row]
        if call.task not in MAPS:
            return ""
        name = self._over.get(call.id)
        if name is None:
            name = self._over[call.id] = _mapped(call)
        return name

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for trees that are equal."""
        return self.root, tuple(graft.key for graft in self.grafts)

    def graft(self, grafts: Iterable[Graft]) -> tuple[Tree, Sequence[int] | None] | None:
        """Add canvases.

        Parameters
        ----------
        grafts
            Their owners have rows.

        Returns
        -------
        tree : Tree
            With their calls.
        source : sequence of int, or None
            For each of its rows the row in this tree, or -1; None when the rows here keep their places.

        None when all of them were there.
        """
        known = {graft.key: graft for graft in self.grafts}
        found = {graft.key: graft for graft in grafts if graft.key not in known}
        if not found:
            return None
        # What is later than all there is goes behind it; else every graft is put in its place again.
        in_place = min(found) > max(known, default=())
        rows = _Rows(self._items_of, self if in_place else self._base)
        added = rows.graft(found.values() if in_place else (*known.values(), *found.values()))
        tree = Tree(self.root, self._items_of, rows, (*self.grafts, *added) if in_place else added, self._base)
        return tree, None if in_place else [self.index.get(call.id, -1) for call in tree.calls]

    # -- where calls stand ------------------------------------------------------------------------------------------

    @property
    def before(self) -> Before:
        """What stands before each call."""
        if self._before is None:
            self._before = Before(self.roots, self.index)
        return self._before

    @property
    def roots(self) -> Sequence[Node]:
        """What calls are below: what stands in a call's place before that call itself, a graft behind its owner."""
        return (*(graft.node for graft in reversed(self.grafts)), self.root)

    @property
    def places(self) -> Sequence[Place]:
        """Where each call stands, by row."""
        if self._places is None:
            if self is self._base:
                self._places = tuple(self._own_places())
            else:
                self._places = self._grafted_places()
        return self._places

    def _own_places(self) -> Iterator[Place]:
        row = 0
        for place in places(self.root):
            if self.index[place.call.id] == row:  # else an id that stood somewhere before
                row += 1
                yield place

    def _grafted_places(self) -> Sequence[Place]:
        found: list[Place | None] = [*self._base.places, *(None,) * (len(self.calls) - len(self._base.calls))]
        ordinals: dict[tuple[str, str], int] = {}
        for graft in self.grafts:
            owner = found[self.index[graft.owner]]
            assert owner is not None  # noqa: S101 - each graft stands behind its owner
            ordinal = ordinals[graft.owner, graft.role] = ordinals.get((graft.owner, graft.role), -1) + 1
            what = f"child[{ordinal}]" if graft.role == CHILD else "replaced" + (f"[{ordinal}]" if ordinal else "")
            for place in places(graft.node):
                row = self.index[place.call.id]
                if found[row] is None:
                    found[row] = Place(
                        place.call,
                        ".".join(filter(None, (owner.path, what, place.path))),
                        owner.depth + place.depth,
                        place.role or (CHILD if graft.role == CHILD else owner.role),
                        place.owner or owner.call,
                    )
        return tuple(
            place._replace(call=call) for place, call in zip(found, self.calls, strict=True) if place is not None
        )

    @property
    def order(self) -> Sequence[int]:
        """The rows in canvas order, with what was grafted beside its owner."""
        if self._order is None:
            self._order = range(len(self.calls)) if not self.grafts else self._grafted_order()
        return self._order

    def _grafted_order(self) -> Sequence[int]:
        before: dict[int, list[int]] = {}
        after: dict[int, list[int]] = {}
        seen = set(range(len(self._base.calls)))
        for graft in self.grafts:
            owner = self.index[graft.owner]
            side = after if graft.role == CHILD or owner in self.superseded else before
            for place in places(graft.node):
                row = self.index[place.call.id]
                if row == owner:
                    side = after
                elif row not in seen:
                    seen.add(row)
                    side.setdefault(owner, []).append(row)
        order: list[int] = []
        todo = [(row, False) for row in reversed(range(len(self._base.calls)))]
        while todo:
            row, entered = todo.pop()
            if entered or row not in before:
                order.append(row)
                todo += [(r, False) for r in reversed(after.get(row, ()))]
            else:
                todo.append((row, True))
                todo += [(r, False) for r in reversed(before[row])]
        return order


class _Rows:
    """The rows of a tree in the making."""

    def __init__(self, items_of: Items, tree: Tree | None = None) -> None:
        self.items_of = items_of
        self.calls: list[Call] = list(tree.calls) if tree else []
        self.index: dict[str, int] = dict(tree.index) if tree else {}
        self.items: dict[int, int] = dict(tree.items) if tree else {}
        self.parts: dict[str, Part] = dict(tree.parts) if tree else {}
        self.part_of: dict[int, str] = dict(tree.part_of) if tree else {}
        self.superseded: set[int] = set(tree.superseded) if tree else set()

    def graft(self, grafts: Iterable[Graft]) -> tuple[Graft, ...]:
        """Add grafts in the order of their times, but each behind its owner; return them in that order."""
        waiting: dict[str, list[Graft]] = {}
        ready: list[tuple[tuple[float, str, int, str, str], Graft]] = []
        for graft in grafts:
            if graft.owner in self.index:
                heappush(ready, (graft.key, graft))
            else:
                waiting.setdefault(graft.owner, []).append(graft)
        done = []
        while ready:
            graft = heappop(ready)[1]
            done.append(graft)
            owner, count = self.index[graft.owner], len(self.calls)
            self.add(graft.node)
            if graft.role != CHILD and not any(call.id == graft.owner for call in calls_of(graft.node)):
                self.superseded.add(owner)
            for call in self.calls[count:] if waiting else ():
                for later in waiting.pop(call.id, ()):
                    heappush(ready, (later.key, later))
        return tuple(done)

    def add(self, root: Node) -> None:
        """Add the calls of a canvas, each followed by what hangs on it, in canvas order."""
        calls, index = self.calls, self.index
        todo: list[tuple[Node, str, str, str]] = [(root, "", "", "")]  # with part, role, owner
        while todo:
            node, part, role, owner = todo.pop()
            if isinstance(node, Fan):
                todo += [(member, part, role, owner) for member in reversed(node.members)]
                continue
            if isinstance(node, Chain):
                todo += [(step, part, role, owner) for step in reversed(node.steps)]
                continue
            row = index.get(node.id)
            if row is None:
                row = index[node.id] = len(calls)
                calls.append(node)
                if role:
                    part = part or node.id
                    self.part_of[row] = part
                    size = self.parts[part].size if part in self.parts else 0
                    self.parts[part] = Part(role, owner, size + 1)
            elif node.nesting > calls[row].nesting:
                calls[row] = node  # the same task, replaced
            if node.task in MAPS and (count := self.count(node)) != 1:
                self.items[row] = count
            if node.links or node.errbacks:
                hanging = [(n, LINK) for n in node.links] + [(n, ERRBACK) for n in node.errbacks]
                todo += [(n, _first_id(n), what, node.id) for n, what in reversed(hanging)]

    def count(self, call: Call) -> int:
        """Return how many items a call goes over; one, when its arguments cannot be read."""
        try:
            return max(int(self.items_of(call)), 0)
        except Exception:  # noqa: BLE001 - an event may bring any bytes, and reading them raises anything
            return 1


def linked_calls(tree: Tree) -> Mapping[str, Sequence[str]]:
    """Return the ids of what is linked to calls, by the ids of these."""
    found: dict[str, list[str]] = {}
    for row, name in tree.part_of.items():
        part = tree.parts[name]
        if part.role == LINK:
            found.setdefault(part.owner, []).append(tree.calls[row].id)
    return found


def _mapped(call: Call) -> str:
    try:
        task = unpack_args(call.payload)[1]["task"]
        name = task["task"] if isinstance(task, Mapping) else task
    except Exception:  # noqa: BLE001 - as above; the call then goes by its own name
        return ""
    return name if isinstance(name, str) else ""


def _first_id(node: Node) -> str:
    """Return the id of a node's first call, or its own when it has none."""
    todo = [node]
    while todo:
        found = todo.pop()
        if isinstance(found, Call):
            return found.id
        todo += reversed(found.steps if isinstance(found, Chain) else found.members)
    return node.id if isinstance(node, Fan) else ""
