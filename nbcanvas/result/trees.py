"""Handles out of frozen canvases and plain data, and plain data out of handles; none of it recurses.

The classes of handles stand above this module, and say here which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nbcanvas.backend.port import Tree
from nbcanvas.errors import CorruptResult
from nbcanvas.plan.model import Call, Chain, Fan, Node

if TYPE_CHECKING:
    from .several import GroupResult
    from .single import AsyncResult

__all__ = ["Kinds", "child", "from_rows", "result_from_tuple", "result_of", "rows", "tree"]


class Kinds:
    """The classes of handles."""

    single: ClassVar[Any]
    eager: ClassVar[Any]
    several: ClassVar[Any]
    group: ClassVar[Any]
    handles: ClassVar[tuple[Any, ...]]


def result_of(node: Node, app: Any, parent: Any = None) -> AsyncResult | GroupResult:
    """Return the handle of a frozen canvas: of its last step, with ``parent`` leading back through the others."""
    found: AsyncResult | GroupResult
    if isinstance(node, Call):
        single = Kinds.single(node.id, None, None, app, parent)
        single.sent_to_be_ignored = bool(node.options and node.options.get("ignore_result")) or (
            app is not None and app.remote and app.ignores_result(node)
        )
        found = single
    elif isinstance(node, Fan):
        found = Kinds.group.of(node, app, parent)
    else:
        for step in node.steps:
            found = parent = result_of(step, app, parent)
    return found


def child(of: Any, app: Any) -> Any:
    """Return the handle of what a task started: a handle, a frozen canvas, or plain data."""
    if isinstance(of, Kinds.handles):
        return of
    return result_of(of, app) if isinstance(of, Call | Chain | Fan) else result_from_tuple(of, app)


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """Return the handle that `as_tuple` was called on.

    Parameters
    ----------
    r
        A tuple, or the same as nested lists (as JSON brings it back); a handle is returned as it is.
    app
        The app; the current one by default.

    Raises
    ------
    CorruptResult
        When it is something else.
    """
    order: list[tuple[Any, str, Any, Any]] = []
    todo = [r]
    while todo:  # in a loop: a chain of 10 000 has as many parents
        tree = todo.pop()
        if tree is None or isinstance(tree, Kinds.handles):
            continue
        task_id, above, members = _parts(tree)
        order.append((tree, task_id, above, members))
        todo.append(above)
        todo.extend(members or ())
    made: dict[int, Any] = {}

    def handle(tree: Any) -> Any:
        return made.get(id(tree), tree)

    for tree, task_id, above, members in reversed(order):
        made[id(tree)] = (
            Kinds.single(task_id, app=app, parent=handle(above))
            if members is None
            else Kinds.group(task_id, [handle(member) for member in members], handle(above), app)
        )
    return handle(r)


def _parts(tree: Any) -> tuple[str, Any, Any]:
    """Return the id, the parent and the members that plain data tells of."""
    if isinstance(tree, list | tuple) and tree:
        head, members = tree if len(tree) == 2 else (tree, None)
        task_id, above = head if isinstance(head, list | tuple) and len(head) == 2 else (head, None)
        if isinstance(task_id, str) and (members is None or isinstance(members, list | tuple)):
            return task_id, above, members
    msg = f"{tree!r:.80} stands where a result belongs: ((id, parent), members), as as_tuple() gives it"
    raise CorruptResult(msg)


#: One handle: its id (or its facts, if it keeps its value itself), the row of its parent, those of its members.
_Row = tuple[Any, int | None, list[int] | None]


def rows(top: Any) -> list[_Row]:
    """Return a handle, its parents and its members as a flat list, `top` last; however deep, without recursion."""
    order: list[Any] = []
    todo = [top]
    while todo:
        node = todo.pop()
        order.append(node)
        if node.parent is not None:
            todo.append(node.parent)
        if isinstance(node, Kinds.several):
            todo.extend(node.results)
    rows: list[_Row] = []
    places: dict[int, int] = {}
    for node in reversed(order):
        if id(node) in places:
            continue
        members = [places[id(member)] for member in node.results] if isinstance(node, Kinds.several) else None
        parent = None if node.parent is None else places[id(node.parent)]
        places[id(node)] = len(rows)
        rows.append((node._facts() if isinstance(node, Kinds.eager) else node.id, parent, members))  # noqa: SLF001 - of this room
    return rows


def from_rows(rows: Sequence[_Row]) -> Any:
    """Return the handle that `rows` was called with."""
    made: list[Any] = []
    for what, parent, members in rows:
        above = None if parent is None else made[parent]
        if members is not None:
            made.append(Kinds.group(what, [made[member] for member in members], above))
        else:
            found = Kinds.eager(*what) if isinstance(what, tuple) else Kinds.single(what)
            found.parent = above
            made.append(found)
    return made[-1]


def tree(top: Any) -> Tree:
    """Return a handle as plain data: ``((id, parent), members)``."""
    made: list[Tree] = []
    for what, parent, members in rows(top):
        task_id = what[0] if isinstance(what, tuple) else what
        made.append(
            (
                (task_id, None if parent is None else made[parent]),
                None if members is None else [made[member] for member in members],
            )
        )
    return made[-1]
