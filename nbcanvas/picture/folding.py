"""What of a canvas is drawn: big groups fold, long chains are cut, so that a picture stays small.

A *bundle* is a list of nodes of one shape (the same tasks in the same arrangement) that are drawn once: the members
of a group of ten thousand equal chains are one bundle of chains, its first steps one bundle of calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

from nbcanvas.plan import Call, Chain, Fan, Node

from .grown import Grown
from .markup import number

__all__ = ["BUDGET", "Bundle", "Folding", "More"]

#: About how many boxes a picture has at most.
BUDGET: Final = 160
#: A group of more members than this is folded, whatever the budget.
UNFOLDED: Final = 24
#: More shapes in a group, or steps in a chain, than this are not drawn apart.
SHAPES, STEPS = 12, 14

#: Nodes of one shape.
Bundle = Sequence[Node]


class More(NamedTuple):
    """Nodes of several shapes that are not drawn apart.

    Attributes
    ----------
    nodes
        The nodes.
    label
        What to say instead.
    """

    nodes: Sequence[Node]
    label: str


class Folding:
    """Says what is drawn of a canvas.

    Parameters
    ----------
    root
        The canvas.
    grown
        What it became, when it runs.
    """

    def __init__(self, root: Node, grown: Grown | None = None) -> None:
        self.grown = grown or Grown(root)
        self._shape, self._size, self._boxes = _shapes(self.grown)

    def calls(self, bundle: Bundle) -> int:
        """Return how many calls a bundle has, without what hangs on them."""
        return sum(self._size[id(node)] for node in bundle)

    def hanging(self, calls: Sequence[Call]) -> list[tuple[str, Bundle]]:
        """Return what hangs on calls of one shape, each with its role."""
        if len(calls) == 1:
            return [(role, (node,)) for role, node in self.grown.hanging(calls[0])]
        rows = zip(*(self.grown.hanging(call) for call in calls), strict=True)
        return [(row[0][0], [node for _, node in row]) for row in rows]

    def members(self, fans: Sequence[Fan], budget: int, apart: int = UNFOLDED) -> list[Bundle | More]:
        """Return what is drawn of the members of fans of one shape: one by one up to `apart`, else by shape."""
        members = [member for fan in fans for member in fan.members]
        if len(fans) == 1 and len(members) <= apart and self._boxes[id(fans[0])] <= budget:
            return [(member,) for member in members]
        shapes: dict[int, list[Node]] = {}
        for member in members:
            shapes.setdefault(self._shape[id(member)], []).append(member)
        found: list[Bundle | More] = list(shapes.values())
        most = max(min(SHAPES, budget), 1)
        if len(found) > most:
            rest = [node for bundle in list(shapes.values())[most - 1 :] for node in bundle]
            found[most - 1 :] = [More(rest, f"{number(len(rest))} {'more' if most > 1 else 'side by side'}")]
        return found

    def steps(self, chains: Sequence[Chain], budget: int) -> list[Bundle | More]:
        """Return what is drawn of the steps of chains of one shape: the first and the last, when there are many."""
        count = len(chains[0].steps)
        most = max(min(STEPS, budget), 1)
        if count <= most:
            return [[chain.steps[place] for chain in chains] for place in range(count)]
        head, tail = most // 2, (most - 1) // 2
        middle = [step for chain in chains for step in chain.steps[head : count - tail]]
        found: list[Bundle | More] = [[chain.steps[place] for chain in chains] for place in range(head)]
        found.append(More(middle, f"{number(count - head - tail)}{' more' if most > 1 else ''} steps"))
        return found + [[chain.steps[place] for chain in chains] for place in range(count - tail, count)]


def _shapes(grown: Grown) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Number the shapes of a canvas, count its calls, and those with what hangs on them: by the node's identity."""
    numbers: dict[tuple[object, ...], int] = {}
    shape: dict[int, int] = {}
    size: dict[int, int] = {}
    boxes: dict[int, int] = {}
    todo: list[tuple[Node, bool]] = [(grown.root, False)]
    while todo:
        node, below_done = todo.pop()
        if isinstance(node, Call):
            became, hanging = grown.became(node), grown.hanging(node)
            if became is None and not hanging:  # nearly every one
                shape[id(node)] = numbers.setdefault((node.task,), len(numbers))
                size[id(node)] = boxes[id(node)] = 1
                continue
            inside: Sequence[Node] = () if became is None else (became,)
            below: Sequence[Node] = (*inside, *(one for _, one in hanging))
        else:
            became, hanging = None, ()
            inside = below = node.steps if isinstance(node, Chain) else node.members
        if below and not below_done:
            todo.append((node, True))
            todo += [(one, False) for one in below]
            continue
        size[id(node)] = sum(size[id(one)] for one in inside) if inside or not isinstance(node, Call) else 1
        boxes[id(node)] = sum(boxes[id(one)] for one in below) + (isinstance(node, Call) and became is None)
        key: tuple[object, ...]
        if isinstance(node, Call):
            key = (node.task, *(shape[id(one)] for one in inside), *((role, shape[id(one)]) for role, one in hanging))
        else:
            key = (type(node), *((number, sum(1 for _ in run)) for number, run in groupby(shape[id(n)] for n in below)))
        shape[id(node)] = numbers.setdefault(key, len(numbers))
    return shape, size, boxes
