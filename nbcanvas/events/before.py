"""What stands directly before each call of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nbcanvas.plan import Call, Chain, Fan, Node

__all__ = ["Before"]


class Before:
    """What stands directly before each call and each fan below some roots.

    Parameters
    ----------
    roots
        What calls are below; of two places of one call the first counts.
    index
        Id of a call -> its row.

    Attributes
    ----------
    calls
        Row -> what stands before the call; rows of calls before which nothing stands are left out.
    fans
        Id of a fan (the object's) -> what stands before it.
    """

    def __init__(self, roots: Iterable[Node], index: Mapping[str, int]) -> None:
        self.calls: dict[int, Call | Fan] = {}
        self.fans: dict[int, Call | Fan] = {}
        for root in roots:
            self._walk(root, index)

    def _walk(self, root: Node, index: Mapping[str, int]) -> None:
        todo: list[tuple[Node, Call | Fan | None]] = [(root, None)]
        while todo:
            node, before = todo.pop()
            if isinstance(node, Call):
                if before is not None and before is not node:
                    self.calls.setdefault(index[node.id], before)
                todo += [(link, node) for link in node.links]
                todo += [(errback, None) for errback in node.errbacks]
            elif isinstance(node, Chain):
                todo += zip(node.steps, [before, *node.steps[:-1]], strict=True)
            else:
                if before is not None:
                    self.fans[id(node)] = before
                todo += [(member, before) for member in node.members]
