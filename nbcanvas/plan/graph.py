"""Where each call of a frozen canvas stands, and what stands before it.

A *path* names a node the way a person would: ``chain[1]``, ``chord.header[17]``, ``chord.body``,
``chain[2].header[3].chain[0]``.  Paths are what errors, tables and pictures show.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from .model import Call, Chain, Fan, Node

__all__ = ["Place", "calls_of", "places"]


class Place(NamedTuple):
    """A call and where it stands.

    Attributes
    ----------
    call
        The frozen call.
    path
        Its path; an empty string for a canvas that is one call.
    depth
        How many fans it stands inside.
    role
        ``""`` for a call of the canvas proper, ``"link"`` or ``"errback"`` for one that hangs on another.
    owner
        For a link or an errback, the call it hangs on.
    """

    call: Call
    path: str
    depth: int
    role: str = ""
    owner: Call | None = None


def places(root: Node) -> Iterator[Place]:
    """Yield every call below `root` in canvas order, each followed by what is linked to it.

    Linear in the calls, without recursion.
    """
    todo: deque[tuple[Node, str, int, str, Call | None]] = deque(((root, "", 0, "", None),))
    while todo:
        node, path, depth, role, owner = todo.popleft()
        if isinstance(node, Call):
            yield Place(node, path, depth, role, owner)
            if node.links or node.errbacks:
                hanging = [(n, "link", i) for i, n in enumerate(node.links)]
                hanging += [(n, "errback", i) for i, n in enumerate(node.errbacks)]
                todo.extendleft(
                    (n, f"{path}.{what}[{i}]".lstrip("."), depth, what, node) for n, what, i in reversed(hanging)
                )
        elif isinstance(node, Chain):
            todo.extendleft((step, at, depth, role, owner) for step, at in reversed(_steps(node, path)))
        elif isinstance(node, Fan):
            what = "header" if path.endswith(_BARRIER) else "group"
            base = path.removesuffix(_BARRIER)
            prefix = f"{base}.{what}" if base else what
            todo.extendleft(
                (node.members[i], f"{prefix}[{i}]", depth + 1, role, owner)
                for i in range(len(node.members) - 1, -1, -1)
            )


_BARRIER = "\0"


def _steps(chain: Chain, path: str) -> list[tuple[Node, str]]:
    """Name a chain's steps; a fan with one step behind it, and nothing else around, reads as a chord."""
    steps = chain.steps
    last = len(steps) - 1
    dot = f"{path}." if path else ""
    if len(steps) == 2 and isinstance(steps[0], Fan):  # a header and a body
        return [(steps[0], f"{dot}chord{_BARRIER}"), (steps[1], f"{dot}chord.body")]
    return [
        (step, f"{dot}chain[{i}]" + (_BARRIER if isinstance(step, Fan) and i < last else ""))
        for i, step in enumerate(steps)
    ]


def calls_of(root: Node) -> Iterator[Call]:
    """Yield the calls of the canvas proper below `root`, in canvas order, without links and errbacks."""
    todo: deque[Node] = deque((root,))
    while todo:
        node = todo.popleft()
        if isinstance(node, Call):
            yield node
        elif isinstance(node, Chain):
            todo.extendleft(reversed(node.steps))
        else:
            todo.extendleft(reversed(node.members))
