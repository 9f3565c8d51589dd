"""What follows a call, named by a place in the frozen canvas that it belongs to.

A continuation points into a canvas.  Whoever has the same canvas needs no more than two numbers to have the same
continuation: which chain or fan (they are numbered in canvas order, with those of links and errbacks), and where in
it.  What is behind the end of that follows from where it stands.

Nothing here recurses; numbering is linear in the nodes, and a question costs the same wherever it points.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .model import Call, Chain, Fan, Join, Next, Node, Slot, Then

__all__ = ["Pointing", "Spot"]


class Spot(NamedTuple):
    """A place in a canvas.

    Attributes
    ----------
    number
        The number of a chain or a fan.
    position
        Of a chain, the step to go on with; of a fan, the member whose slot is meant.
    """

    number: int
    position: int


class Pointing:
    """Names the continuations of one canvas.

    Parameters
    ----------
    root
        The frozen canvas; it is not changed, and must not be changed by others.
    """

    def __init__(self, root: Node) -> None:
        self.root = root
        self._nodes: list[Chain | Fan] = []
        self._numbers: dict[int, int] = {}
        #: What is behind each of them; of a fan that is waited for, its barrier.
        self._behind: list[Then] = []
        self._joins: dict[int, Join] = {}
        todo: list[tuple[Node, Then]] = [(root, None)]
        while todo:
            node, behind = todo.pop()
            if isinstance(node, Call):
                todo += [(hanging, None) for hanging in reversed((*node.links, *node.errbacks))]
                continue
            number = self._numbers[id(node)] = len(self._nodes)
            self._nodes.append(node)
            self._behind.append(behind)
            if isinstance(node, Chain):
                last = len(node.steps) - 1
                todo += [
                    (step, behind if place == last else Next(node, place + 1, behind))
                    for place, step in reversed(list(enumerate(node.steps)))
                ]
            elif isinstance(behind, Next | Slot):
                join = self._joins[number] = Join(node, behind)
                todo += [(node.members[i], Slot(join, i)) for i in range(len(node.members) - 1, -1, -1)]
            else:
                todo += [(member, None) for member in reversed(node.members)]

    def nodes(self) -> Iterable[Chain | Fan]:
        """Return every chain and fan of the canvas, in the order of their numbers."""
        return self._nodes

    def refer(self, then: Then) -> Spot | None:
        """Return the place that a continuation means; None when it does not belong to this canvas."""
        if isinstance(then, Next):
            number = self._numbers.get(id(then.chain))
            found = number is not None and _same(then.after, self._behind[number])
            return Spot(number, then.position) if found and number is not None else None
        if isinstance(then, Slot):
            number = self._numbers.get(id(then.join.fan))
            join = None if number is None else self._joins.get(number)
            if number is not None and join is not None and _same(then.join.then, join.then):
                return Spot(number, then.index)
        return None

    def resolve(self, number: int, position: int) -> Next | Slot:
        """Return the continuation at a place.

        Raises
        ------
        LookupError
            When the canvas has no such place.
        """
        node = self._nodes[number] if 0 <= number < len(self._nodes) else None
        if isinstance(node, Chain) and 0 <= position < len(node.steps):
            return Next(node, position, self._behind[number])
        if isinstance(node, Fan) and number in self._joins and 0 <= position < len(node.members):
            return Slot(self._joins[number], position)
        msg = f"this canvas has no place {position} in number {number}"
        raise LookupError(msg)

    def join(self, number: int) -> Join:
        """Return the barrier of a fan.

        Raises
        ------
        LookupError
            When there is none of that number.
        """
        found = self._joins.get(number)
        if found is None:
            msg = f"this canvas has no barrier of the number {number}"
            raise LookupError(msg)
        return found


def _same(one: Then, other: Then) -> bool:
    """Say whether two continuations go on at the same place of the same nodes."""
    if isinstance(one, Next) and isinstance(other, Next):
        return one.chain is other.chain and one.position == other.position
    if isinstance(one, Slot) and isinstance(other, Slot):
        return one.join.fan is other.join.fan and one.index == other.index
    return one is None and other is None
