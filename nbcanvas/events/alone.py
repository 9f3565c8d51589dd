"""Which calls of a run can have ended badly only by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nbcanvas import states
from nbcanvas.plan import Call, Chain, Fan, Node

from .known import CODES, Columns
from .tree import REPLACEMENT, Tree

__all__ = ["ran"]

_SUCCESS: Final = CODES[states.SUCCESS]
_FAILURE: Final = CODES[states.FAILURE]
#: In a fleet that does not tell, who ignores a result looks so; only a value lets a later step begin, and fail.
_PASSED: Final = frozenset({_SUCCESS, CODES[states.IGNORED]})


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
