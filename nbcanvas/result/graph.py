"""Which result led to which, as a graph (Celery's guide, "Graphs")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import IO, Any

__all__ = ["DependencyGraph"]


class DependencyGraph:
    """Which result led to which (Celery's guide, "Graphs").

    Parameters
    ----------
    formatter
        Accepted for compatibility.
    """

    def __init__(self, it: Iterable[tuple[Any, Iterable[Any]]] | None = None, formatter: Any = None) -> None:
        self.formatter = formatter
        self.adjacent: dict[Any, list[Any]] = {node: list(edges) for node, edges in it or ()}

    def add_arc(self, obj: Any) -> None:
        """Add a node."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: Any, B: Any) -> None:
        """Add an edge from `A` to `B`."""
        self.adjacent[A].append(B)

    def valency_of(self, obj: Any) -> int:
        """Return how many nodes can be reached from `obj`, itself included."""
        seen = {obj}
        todo = [obj]
        while todo:
            for node in self.adjacent.get(todo.pop(), ()):
                if node not in seen:
                    seen.add(node)
                    todo.append(node)
        return len(seen)

    def topsort(self) -> list[Any]:
        """Return the nodes, each before what leads to it.

        Raises
        ------
        ValueError
            When the graph has a cycle.
        """
        try:
            return list(TopologicalSorter(self.adjacent).static_order())
        except CycleError as error:
            msg = f"the result graph has a cycle: {error.args[1]}"
            raise ValueError(msg) from None

    def edges(self) -> list[Any]:
        """Return the nodes that lead to others."""
        return [node for node, below in self.adjacent.items() if below]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: object) -> bool:
        return obj in self.adjacent

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        """Return the nodes, each with those it leads to."""
        return self.adjacent.items()

    def to_dot(self, fh: IO[str], formatter: Any = None) -> None:
        """Write the graph in Graphviz' language to an open text file."""
        names = {node: f'"{_quoted(node)}"' for node in self.adjacent}
        fh.write("digraph dependencies {\n    node [shape=box, style=rounded];\n")
        for node, name in names.items():
            fh.write(f"    {name};\n")
            for below in self.adjacent[node]:
                fh.write(f"    {name} -> {names.get(below) or _quoted(below)};\n")
        fh.write("}\n")

    def __repr__(self) -> str:
        lines: list[str] = []
        for top in self.adjacent:
            todo = [(top, 0)]
            seen: set[Any] = set()
            while todo:
                node, level = todo.pop()
                lines.append(f"{'     ' * level}{node}({self.valency_of(node) - 1})")
                if node not in seen:
                    seen.add(node)
                    todo.extend((below, level + 1) for below in reversed(self.adjacent.get(node, [])))
        return "\n".join(lines)


def _quoted(node: Any) -> str:
    return str(node).replace("\\", "\\\\").replace('"', '\\"')
