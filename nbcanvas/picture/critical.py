"""The critical path of a run: the calls that determined when it ended."""

from __future__ import annotations

from collections.abc import Iterator

from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Node

from .grown import Grown

__all__ = ["critical_path"]


def critical_path(state: State, now: float) -> list[int]:
    """Return the rows of the calls that determined when the run ended, in order.

    From the call that ended last (while the run goes on, from the one that has run longest) back to what it waited
    for, each time to the last of those to end.

    Parameters
    ----------
    state
        What is known of the run.
    now
        Seconds since the epoch.
    """
    started, finished = state.columns.started, state.columns.finished
    ran = [row for row in range(len(state)) if started[row] == started[row]]
    if not ran:
        return []

    def end(row: int) -> float:
        return finished[row] if finished[row] == finished[row] else now

    ways = _Ways(state)
    found: list[int] = []
    row: int | None = max(ran, key=lambda row: (end(row), -started[row]))
    seen: set[int] = set()
    while row is not None and row not in seen:
        seen.add(row)
        if started[row] == started[row]:
            found.append(row)
        before = [at for at in ways.before(row) if finished[at] == finished[at]]
        row = max(before, key=end, default=None)
    return found[::-1]


class _Ways:
    """What each call waited for."""

    def __init__(self, state: State) -> None:
        self.index = state.tree.index
        self.grown = Grown(state.root, state.tree)
        self.above: dict[int, tuple[Node, int]] = {}  # node -> what it is part of, and which step of it
        self.calls: dict[int, Call] = {}
        self.owned: set[int] = set()  # what hangs on its owner, rather than being part of it
        todo: list[Node] = [self.grown.root]
        while todo:
            node = todo.pop()
            if isinstance(node, Call):
                became = self.grown.became(node)
                hanging = [one for _, one in self.grown.hanging(node)]
                self.owned.update(map(id, hanging))
                below: list[Node] = [*hanging, *([became] if became is not None else ())]
                if became is None:
                    self.calls[self.index[node.id]] = node
                self.above.update((id(one), (node, 0)) for one in below)
            else:
                below = list(node.steps if isinstance(node, Chain) else node.members)
                steps = isinstance(node, Chain)
                self.above.update((id(one), (node, place if steps else 0)) for place, one in enumerate(below))
            todo += below

    def before(self, row: int) -> Iterator[int]:
        """Yield the rows of the calls that a call waited for."""
        node: Node | None = self.calls.get(row)
        while node is not None and id(node) in self.above:
            above, place = self.above[id(node)]
            waited: Node | None = None
            if isinstance(above, Chain) and place:
                waited = above.steps[place - 1]
            elif id(node) in self.owned:
                waited = above
            if waited is not None:
                for call in self.grown.ends(waited):
                    at = self.index.get(call.id)
                    if at is not None:
                        yield at
                return
            node = above
