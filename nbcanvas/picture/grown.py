"""What a canvas became: the frozen canvas, what tasks put in their own place, and what hangs on its calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbcanvas.events.attempts import NESTING
from nbcanvas.events.tree import CHILD, Tree
from nbcanvas.plan import Call, Chain, Node

__all__ = ["ROLES", "Grown"]

#: What can hang on a call, and how that is said.
ROLES = {"link": "link", "errback": "errback", CHILD: "started by the task"}


class Grown:
    """A canvas with what was grafted to it.

    Each graft has one place, where its owner is met first, so a forged one that holds its own owner ends there.

    Parameters
    ----------
    root
        The frozen canvas.
    tree
        Its run's calls; None when it does not run.
    """

    def __init__(self, root: Node, tree: Tree | None = None) -> None:
        self.root = root
        self._became: dict[int, Node] = {}  # by the identity of the call, as ids come back in replacements
        self._children: dict[int, list[Node]] = {}
        self._replaced: set[str] = set()
        if tree is not None and tree.grafts:
            self._place(tree)

    def _place(self, tree: Tree) -> None:
        became: dict[tuple[str, int], Node] = {}
        children: dict[str, list[Node]] = {}
        for graft in tree.grafts:
            if graft.role == CHILD:
                children.setdefault(graft.owner, []).append(graft.node)
            else:
                became.setdefault((graft.owner, graft.attempt >> NESTING), graft.node)
        todo: list[Node] = [self.root]
        while todo:
            node = todo.pop()
            if not isinstance(node, Call):
                todo += reversed(node.steps if isinstance(node, Chain) else node.members)
                continue
            if node.id in children:
                self._children[id(node)] = children.pop(node.id)
            if (node.id, node.nesting) in became:
                self._became[id(node)] = became.pop((node.id, node.nesting))
                self._replaced.add(node.task)
                todo.append(self._became[id(node)])
            todo += (hanging for _, hanging in self.hanging(node))

    def became(self, call: Call) -> Node | None:
        """Return what a call put in its place, or None."""
        return self._became.get(id(call))

    def hanging(self, call: Call) -> Sequence[tuple[str, Node]]:
        """Return what hangs on a call, each with its role (see `ROLES`)."""
        if not (call.links or call.errbacks or self._children):
            return ()
        found = [("link", node) for node in call.links]
        found += [("errback", node) for node in call.errbacks]
        return [*found, *((CHILD, node) for node in self._children.get(id(call), ()))]

    def calls(self, node: Node) -> Iterator[Call]:
        """Yield the calls of a node, in canvas order: of what was replaced, those that replaced it."""
        todo = [node]
        while todo:
            found = todo.pop()
            if not isinstance(found, Call):
                todo += reversed(found.steps if isinstance(found, Chain) else found.members)
            elif id(found) in self._became:
                todo.append(self._became[id(found)])
            else:
                yield found

    def tasks(self) -> set[str]:
        """Return the names of all tasks, also of those that were replaced."""
        return {call.task for call in self.everything()} | self._replaced

    def everything(self) -> Iterator[Call]:
        """Yield every call, with what hangs on others."""
        todo = [self.root]
        while todo:
            for call in self.calls(todo.pop()):
                yield call
                todo += (node for _, node in self.hanging(call))

    def ends(self, node: Node) -> Iterator[Call]:
        """Yield the calls whose values leave a node."""
        todo = [node]
        while todo:
            found = todo.pop()
            if isinstance(found, Chain):
                todo.append(found.steps[-1])
            elif not isinstance(found, Call):
                todo += reversed(found.members)
            elif id(found) in self._became:
                todo.append(self._became[id(found)])
            else:
                yield found
