"""What a result and a group have in common: parents above them, and below what their tasks started."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from nbcanvas.backend.port import Tree
from nbcanvas.errors import IncompleteStream

from .graph import DependencyGraph
from .trees import from_rows, rows, tree

__all__ = ["Lineage"]


class Lineage:
    """A handle that knows what came before it, and can ask what came of it."""

    __slots__ = ()

    def ready(self) -> bool:
        """Say whether it has ended."""
        raise NotImplementedError

    @property
    def children(self) -> Sequence[Any] | None:
        """The results of what it started."""
        raise NotImplementedError

    def __reduce__(self) -> Any:
        return from_rows, (rows(self),)

    def as_tuple(self) -> Tree:
        """Return it as plain data: ``((id, parent), None)``, or of a group ``((id, parent), [members])``."""
        return tree(self)

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield ``(parent, result)`` for this and everything below it.

        Raises
        ------
        IncompleteStream
            At a task that has not ended, unless `intermediate`.
        """
        todo: deque[tuple[Any, Any]] = deque(((None, self),))
        while todo:
            parent, node = todo.popleft()
            yield parent, node
            if node.ready():
                todo.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream(f"{node.id} has not ended; pass intermediate=True to see what there is")

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Yield ``(result, value)`` for this and everything below it, waiting for each."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph:
        """Return the graph of this and everything below it."""
        graph = DependencyGraph(formatter=formatter)
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """The graph of this and everything below it.

        Raises
        ------
        IncompleteStream
            While some of it has not ended.
        """
        return self.build_graph()
