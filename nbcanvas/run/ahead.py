"""What stands before each call of a run, and what of that is still missing or went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nbcanvas.events.state import State
from nbcanvas.events.tree import REPLACEMENT
from nbcanvas.plan import Call, Chain, Fan, Node
from nbcanvas.states import READY_STATES, SUCCESS

__all__ = ["Ahead", "Missing"]


class Missing(NamedTuple):
    """Those members of a fan that have not arrived.

    Attributes
    ----------
    rows
        For each of them the first task in it that has not ended, in call order.
    of
        How many members there are.
    """

    rows: tuple[int, ...]
    of: int


class _Found(NamedTuple):
    """What was found below a node: the first row that has not ended, and those that went wrong by themselves."""

    open: int
    culprit: int
    culprits: int


_NOTHING = _Found(-1, -1, 0)


class Ahead:
    """Answers what a call waits for.  Made of a State in one pass over its canvas, and whatever was grafted to it.

    Parameters
    ----------
    state
        What is known of the run.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._before = state.tree.before.calls
        self._before_fan = state.tree.before.fans
        self._found: dict[int, _Found] = {}
        self._missing: dict[int, Missing] = {}
        #: What was walked back already, see `_walk_back`: a chain may be as long as it likes.
        self._opens: dict[int, Call | Fan | None] = {}
        self._guilty: dict[int, Call | Fan | None] = {}
        #: Id of a call that was replaced -> what stands in its place, of several the last.
        self._instead = {graft.owner: graft.node for graft in state.tree.grafts if graft.role == REPLACEMENT}
        for root in state.tree.roots:
            self._walk(root)

    def _walk(self, root: Node) -> None:
        """Note what was found below each node, on the way back from what is below it."""
        index = self._state.tree.index
        todo: list[tuple[Node, bool]] = [(root, False)]
        while todo:
            node, entered = todo.pop()
            if isinstance(node, Call):
                self._found[id(node)] = self._look(node, index[node.id])
                todo += [(hanging, False) for hanging in (*node.links, *node.errbacks)]
                continue
            below = node.steps if isinstance(node, Chain) else node.members
            if entered:
                self._found[id(node)] = _first([self._found[id(one)] for one in below])
            else:
                todo.append((node, True))
                todo += [(one, False) for one in below]

    def _look(self, call: Call, row: int) -> _Found:
        state = self._state.state(row)
        if state not in READY_STATES:
            return _Found(row, -1, 0)
        if state != SUCCESS and self._state.skipped(row):  # because of what stands in its place, if anything does
            instead = self._instead.get(call.id)
            return self._found.get(id(instead), _NOTHING)
        return _NOTHING if state == SUCCESS else _Found(-1, row, 1)

    def before(self, row: int) -> Call | Fan | None:
        """Return what stands before a call: another call, a fan, or None.

        That is what stands directly before it, but where that is a fan that holds no calls, what stands before that.
        """
        direct = self._before.get(row)
        if not isinstance(direct, Fan):
            return direct
        return self._walk_back(direct, lambda found: found.open >= 0, self._opens) or direct

    def missing(self, fan: Fan) -> Missing:
        """Return which members of a fan have not arrived."""
        found = self._missing.get(id(fan))
        if found is None:
            opens = (self._found[id(member)].open for member in fan.members)
            found = self._missing[id(fan)] = Missing(tuple(row for row in opens if row >= 0), len(fan.members))
        return found

    def culprits(self, row: int) -> tuple[int, int]:
        """Return the task because of which a call was skipped, and how many such there are; (-1, 0) for none."""
        node = self._walk_back(self._before.get(row), lambda found: found.culprits > 0, self._guilty)
        found = _NOTHING if node is None else self._found[id(node)]
        return found.culprit, found.culprits

    def _walk_back(
        self, node: Call | Fan | None, wanted: Callable[[_Found], bool], known: dict[int, Call | Fan | None]
    ) -> Call | Fan | None:
        """Return the first one, from `node` backwards, below which `wanted` was found; what was walked is `known`."""
        walked: dict[int, None] = {}  # a forged graft could stand before itself
        while node is not None and id(node) not in walked and not wanted(self._found[id(node)]):
            if id(node) in known:
                node = known[id(node)]
                break
            walked[id(node)] = None
            if isinstance(node, Call):
                node = self._before.get(self._state.index_of(node.id))
            else:
                node = self._before_fan.get(id(node))
        if node is not None and id(node) in walked:
            node = None
        known.update(dict.fromkeys(walked, node))
        return node


def _first(found: list[_Found]) -> _Found:
    return _Found(
        next((one.open for one in found if one.open >= 0), -1),
        next((one.culprit for one in found if one.culprits), -1),
        sum(one.culprits for one in found),
    )
