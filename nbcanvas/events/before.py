"""What stands before each call of a run, and which of them can have ended badly only by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nbcanvas import states
from nbcanvas.plan import Call, Chain, Fan, Node

from .known import CODES, Columns
from .tree import REPLACEMENT, Tree

__all__ = ["Before", "ran"]

_SUCCESS: Final = CODES[states.SUCCESS]
_FAILURE: Final = CODES[states.FAILURE]
#: In a fleet that does not tell, who ignores a result looks so; only a value lets a later step begin, and fail.
_PASSED: Final = frozenset({_SUCCESS, CODES[states.IGNORED]})


class Before:
    """What stands directly before each call and each fan of a tree.

    Attributes
    ----------
    calls
        Row -> what stands before the call; rows of calls before which nothing stands are left out.
    fans
        Id of a fan (the object's) -> what stands before it.
    """

    def __init__(self, tree: Tree) -> None:
        self.calls: dict[int, Call | Fan] = {}
        self.fans: dict[int, Call | Fan] = {}
        # What stands in a call's place before that call itself; a graft comes behind its owner.
        for root in (*(graft.node for graft in reversed(tree.grafts)), tree.root):
            self._walk(root, tree)

    def _walk(self, root: Node, tree: Tree) -> None:
        todo: list[tuple[Node, Call | Fan | None]] = [(root, None)]
        while todo:
            node, before = todo.pop()
            if isinstance(node, Call):
                if before is not None and before is not node:
                    self.calls.setdefault(tree.index[node.id], before)
                todo += [(link, node) for link in node.links]
                todo += [(errback, None) for errback in node.errbacks]
            elif isinstance(node, Chain):
                todo += zip(node.steps, [before, *node.steps[:-1]], strict=True)
            else:
                if before is not None:
                    self.fans[id(node)] = before
                todo += [(member, before) for member in node.members]


def ran(tree: Tree, columns: Columns, rows: Iterable[int]) -> frozenset[int]:
    """Return those rows that ended badly although everything before them went well: nothing else can have ended them.

    Celery's workers tell of a task only how it ended, and write a failure down for every step behind it as well.

    Parameters
    ----------
    tree, columns
        What is known of the run.
    rows
        Of calls that ended, without success, and of which no sending was heard.
    """
    replaced = {tree.index[graft.owner] for graft in tree.grafts if graft.role == REPLACEMENT}
    code = columns.code
    known: dict[tuple[int, bool], bool] = {}

    def well(row: int, failed: bool) -> bool:
        return code[row] in _PASSED if failed else code[row] == _SUCCESS

    def went_well(node: Call | Fan | None, failed: bool) -> bool:
        passed: set[int] = set()
        while isinstance(node, Fan) and id(node) not in passed:  # one that holds no calls hands on what is before it
            key = id(node), failed
            if key not in known:
                known[key] = all(well(tree.index[call.id], failed) for call in _ends(node))
            if not known[key] or next(_ends(node), None) is not None:
                return known[key]
            passed.add(id(node))
            node = tree.before.fans.get(id(node))
        return not isinstance(node, Call) or well(tree.index[node.id], failed)

    return frozenset(
        row for row in rows if row not in replaced and went_well(tree.before.calls.get(row), code[row] == _FAILURE)
    )


def _ends(fan: Fan) -> Iterator[Call]:
    """Yield the last call of each branch below a fan."""
    todo: list[Node] = [fan]
    while todo:
        node = todo.pop()
        if isinstance(node, Call):
            yield node
        elif isinstance(node, Chain):
            todo.append(node.steps[-1])
        else:
            todo += reversed(node.members)
