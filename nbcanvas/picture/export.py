"""A canvas in the languages of Graphviz and Mermaid, folded like its picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from nbcanvas import states
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan

from .drawing import FILL, INK, PLAIN
from .folding import Bundle, Folding, More
from .grown import ROLES
from .markup import LOOKS, cut, names, number
from .words import arrived

__all__ = ["dot", "mermaid"]

#: About how many boxes; more than that no tool lays out well.
_BUDGET: Final = 120


class _Vertex(NamedTuple):
    label: str
    shape: str  # "call", "fold", "more" or "join"
    state: str


class _Arrow(NamedTuple):
    start: int
    end: int
    label: str = ""


class _Drawn:
    """Vertices and arrows of a canvas; every part has the vertices lines enter at, and those they leave from."""

    def __init__(self, folding: Folding, state: State | None) -> None:
        self.folding = folding
        self.grown = folding.grown
        self.state = state
        self.names = names(self.grown.tasks())
        self.vertices: list[_Vertex] = []
        self.arrows: list[_Arrow] = []
        self.part([self.grown.root], _BUDGET)

    def vertex(self, label: str, shape: str, calls: Sequence[Call]) -> int:
        name = self.one(calls)
        if name:
            found = self.states(calls)
            done = f" {number(found[states.SUCCESS])}/{number(len(calls))}" if len(calls) > 1 else ""
            label = f"{LOOKS[name].glyph} {label}{done}"
        self.vertices.append(_Vertex(label, shape, name))
        return len(self.vertices) - 1

    def states(self, calls: Sequence[Call]) -> Counter[str]:
        state = self.state
        if state is None:
            return Counter()
        return Counter(state.state(state.index_of(call.id)) for call in calls if call.id in state)

    def one(self, calls: Sequence[Call]) -> str:
        found = self.states(calls)
        if not found:
            return ""
        if sum(found[name] for name in states.READY_STATES) == len(calls):
            ends = (states.FAILURE, states.REVOKED, states.REJECTED, states.IGNORED, states.SUCCESS)
            return next(name for name in ends if found[name])
        busy = (states.PROGRESS, states.STARTED, states.RETRY, states.RECEIVED, states.SENT, states.WAITING)
        return states.STARTED if found.keys() & states.READY_STATES else next(name for name in busy if found[name])

    def part(self, part: Bundle | More, budget: int) -> tuple[list[int], list[int]]:
        """Draw a part; return where lines enter it, and where they leave it."""
        if isinstance(part, More):
            return self.alone(part.label, "more", [call for node in part.nodes for call in self.grown.calls(node)])
        first = part[0]
        if isinstance(first, Call):
            return self.call([node for node in part if isinstance(node, Call)], budget)
        if budget <= 1:
            calls = [call for node in part for call in self.grown.calls(node)]
            return self.alone(f"{number(len(calls))} task" + "s" * (len(calls) != 1), "more", calls)
        if isinstance(first, Chain):
            return self.chain([node for node in part if isinstance(node, Chain)], budget)
        return self.fan([node for node in part if isinstance(node, Fan)], budget)

    def alone(self, label: str, shape: str, calls: Sequence[Call]) -> tuple[list[int], list[int]]:
        at = self.vertex(label, shape, calls)
        return [at], [at]

    def call(self, calls: Sequence[Call], budget: int) -> tuple[list[int], list[int]]:
        hanging = self.folding.hanging(calls)
        became = [node for call in calls if (node := self.grown.became(call)) is not None]
        share = budget // (len(hanging) + 1)
        name = cut(self.names[calls[0].task], 60)
        if became and share > 1:
            enter, leave = self.part(became, share)
        else:
            many = len(calls) > 1
            label = f"{name} ×{number(len(calls))}" if many else name
            enter, leave = self.alone(label, "fold" if many else "call", calls)
        for role, bundle in hanging if budget > len(hanging) else ():
            start, _ = self.part(bundle, max(share, 1))
            self.arrows += [_Arrow(leave[0], at, ROLES[role]) for at in start]
        return enter, leave

    def chain(self, chains: Sequence[Chain], budget: int) -> tuple[list[int], list[int]]:
        parts = self.folding.steps(chains, budget)
        enter: list[int] = []
        leave: list[int] = []
        for place, part in enumerate(parts):
            start, end = self.part(part, budget // len(parts))
            if not place:
                enter = start
            elif len(leave) > 1 or (place and self.gathers(parts[place - 1])):
                at = self.join(parts[place - 1])
                self.arrows += [_Arrow(one, at) for one in leave]
                self.arrows += [_Arrow(at, one) for one in start]
            else:
                self.arrows += [_Arrow(one, other) for one in leave for other in start]
            leave = end
        return enter, leave

    @staticmethod
    def gathers(part: Bundle | More) -> bool:
        return not isinstance(part, More) and isinstance(part[0], Fan)

    def join(self, part: Bundle | More) -> int:
        """Draw the barrier behind a part."""
        nodes = part.nodes if isinstance(part, More) else part
        ends = [call for node in nodes for call in self.grown.ends(node)]
        found = self.states(ends)
        label = arrived(found, len(ends)) if found else f"waits for all {number(len(ends))}"
        self.vertices.append(_Vertex(label, "join", ""))
        return len(self.vertices) - 1

    def fan(self, fans: Sequence[Fan], budget: int) -> tuple[list[int], list[int]]:
        parts = self.folding.members(fans, budget)
        if not parts:
            return self.alone("empty group", "more", ())
        enter: list[int] = []
        leave: list[int] = []
        for part in parts:
            start, end = self.part(part, max(budget // len(parts), 1))
            enter += start
            leave += end
        return enter, leave


def dot(folding: Folding, state: State | None = None) -> str:
    """Return a canvas in Graphviz' language.

    Parameters
    ----------
    folding
        What to draw of it.
    state
        What is known of its run.
    """
    drawn = _Drawn(folding, state)
    lines = [
        "digraph canvas {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=12];',
        '  edge [color="#8b929c", fontname="sans-serif", fontsize=10];',
    ]
    for at, (label, shape, name) in enumerate(drawn.vertices):
        fill, stroke = (FILL[name], LOOKS[name].colour) if name else PLAIN
        more = {"more": ', style="rounded,filled,dashed"', "fold": ", peripheries=2"}.get(shape, "")
        if shape == "join":
            more, fill, stroke = ", shape=hexagon, style=filled", "#f0f1f3", "#767c85"
        lines.append(f'  n{at} [label={_dot_text(label)}, fillcolor="{fill}", color="{stroke}"{more}];')
    for start, end, label in drawn.arrows:
        more = f" [label={_dot_text(label)}, style=dashed]" if label else ""
        lines.append(f"  n{start} -> n{end}{more};")
    return "\n".join([*lines, "}\n"])


def _dot_text(text: str) -> str:
    # In a quoted string of DOT only the quote ends it; a label knows backslashes besides.
    return '"' + cut(text, 100).replace("\\", "\\\\").replace('"', '\\"') + '"'


_MERMAID_UNSAFE: Final = re.compile(r"[^\w .,·×/…✓✗⊘⊗∅▶↻●→○\u202f-]|_")


def mermaid(folding: Folding, state: State | None = None) -> str:
    """Return a canvas in Mermaid's language, as GitHub, JupyterLab and many wikis draw it.

    Parameters
    ----------
    folding
        What to draw of it.
    state
        What is known of its run.
    """
    drawn = _Drawn(folding, state)
    lines = ["flowchart LR"]
    marks = {"call": ("[", "]"), "fold": ("[[", "]]"), "more": ("(", ")"), "join": ("{{", "}}")}
    for at, (label, shape, name) in enumerate(drawn.vertices):
        opens, closes = marks[shape]
        lines.append(f"  n{at}{opens}{_mermaid_text(label)}{closes}" + (f":::{name.lower()}" if name else ""))
    for start, end, label in drawn.arrows:
        lines.append(f"  n{start} -.->|{_mermaid_text(label)}| n{end}" if label else f"  n{start} --> n{end}")
    lines += [
        f"  classDef {name.lower()} fill:{FILL[name]},stroke:{LOOKS[name].colour},color:{INK}"
        for name in dict.fromkeys(vertex.state for vertex in drawn.vertices if vertex.state)
    ]
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    # Mermaid writes any character as #code; inside quotes, so that nothing is left that it, or html, could read.
    return '"' + _MERMAID_UNSAFE.sub(lambda found: f"#{ord(found[0])};", cut(text, 100)) + '"'
