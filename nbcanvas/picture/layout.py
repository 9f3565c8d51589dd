"""Where everything of a canvas stands: boxes, frames, barriers and edges, in pixels.  Nothing is drawn here.

A canvas is series-parallel, so a layout is one small recursion: a chain puts its steps side by side, a fan puts its
members below each other between two buses.  Its depth is bounded, because each level shares its budget of boxes
(`nbcanvas.picture.folding`) among its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final, NamedTuple

from nbcanvas.plan import Call, Chain, Fan, Node

from .folding import BUDGET, Bundle, Folding, More
from .grown import ROLES
from .markup import cut, extent, names, number

__all__ = ["Barrier", "Box", "Caption", "Edge", "Frame", "Layout", "Tag", "layout"]

HEIGHT, TALL = 30.0, 46.0
GAP, ROW_GAP, BUS, NOTE, LINE = 30.0, 10.0, 16.0, 15.0, 15.0
WIDTH: Final = 880.0
COLUMN: Final = 12
#: How far what hangs on a call stands in from it, and the room for what is said above it.
INDENT, TAG = 26.0, 15.0


class Caption(NamedTuple):
    """What a box says besides its name.

    Attributes
    ----------
    badge
        At its upper right corner, ``↻ 2``; there is room for it between boxes.
    line
        On a line of its own, ``experiment 42``.
    meter
        Behind the bar of a pile, ``63/100``; and how many of them failed.
    """

    badge: str = ""
    line: str = ""
    meter: tuple[str, str] = ("", "")


Captions = Callable[[Sequence[Call]], Caption]


@dataclass(slots=True)
class Box:
    """Calls that are drawn as one.

    Attributes
    ----------
    x, y, width, height
        Where.
    label
        What stands in it, ``add ×100``.
    calls
        The calls it stands for.
    kind
        ``"call"`` for one, ``"fold"`` for many of one task, ``"more"`` for what is not drawn apart.
    note
        What hangs on it, in words; below the box.
    caption
        What else it says.
    """

    x: float
    y: float
    width: float
    height: float
    label: str
    calls: Sequence[Call]
    kind: str
    note: str = ""
    caption: Caption = Caption()  # noqa: RUF009 - a NamedTuple


@dataclass(slots=True)
class Tag:
    """A few words beside a line."""

    x: float
    y: float
    text: str


@dataclass(slots=True)
class Frame:
    """A rectangle around members that are drawn in a grid, or once for all of them, or around a replacement."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(slots=True)
class Barrier:
    """Where a group's values come together; `ends` are the calls they come from."""

    x: float
    y: float
    height: float
    ends: Sequence[Call]


@dataclass(slots=True)
class Edge:
    """A line through `points`; with a head when `arrow`, dashed when `faint`: no value of the canvas goes along it."""

    points: Sequence[tuple[float, float]]
    arrow: bool = False
    faint: bool = False


@dataclass(slots=True)
class Layout:
    """A picture's geometry.  Lines enter at its left and leave at its right side, both at height `port`."""

    width: float = 0.0
    height: float = 0.0
    port: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    barriers: list[Barrier] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)

    def put(self, other: Layout, x: float, y: float) -> None:
        """Put what `other` holds here, moved by `x` and `y`."""
        things: list[Box | Frame | Barrier | Tag] = [*other.boxes, *other.frames, *other.barriers, *other.tags]
        for thing in things:
            thing.x += x
            thing.y += y
        for edge in other.edges:
            edge.points = [(px + x, py + y) for px, py in edge.points]
        self.boxes += other.boxes
        self.frames += other.frames
        self.barriers += other.barriers
        self.edges += other.edges
        self.tags += other.tags


def layout(
    root: Node, budget: int = BUDGET, folding: Folding | None = None, captions: Captions | None = None
) -> Layout:
    """Lay out a frozen canvas.

    Parameters
    ----------
    root
        The canvas.
    budget
        About how many boxes to draw; what is beyond folds.
    folding
        Of this canvas, when it is known already.
    captions
        Gives what the box of some calls says besides their name.
    """
    return _Builder(folding or Folding(root), captions).node([root], budget, top=True, closed=False)


class _Builder:
    def __init__(self, folding: Folding, captions: Captions | None) -> None:
        self.folding = folding
        self.grown = folding.grown
        self.captions = captions
        self.names = names(self.grown.tasks())

    # `closed` says whether lines go on from the right side of what is built: not where the canvas ends.

    def part(self, part: Bundle | More, budget: int, *, closed: bool) -> Layout:
        if isinstance(part, More):
            return self.more(part)
        return self.node(part, budget, closed=closed)

    def node(self, bundle: Bundle, budget: int, *, closed: bool, top: bool = False) -> Layout:
        first = bundle[0]
        if isinstance(first, Call):
            return self.call([node for node in bundle if isinstance(node, Call)], budget, closed=closed)
        if budget <= 1:
            count = self.folding.calls(bundle)
            return self.more(More(bundle, f"{number(count)} task" + "s" * (count != 1)))
        if isinstance(first, Chain):
            return self.chain([node for node in bundle if isinstance(node, Chain)], budget, closed=closed, top=top)
        return self.fan([node for node in bundle if isinstance(node, Fan)], budget, closed=closed)

    # -- one box ----------------------------------------------------------------------------------------------------

    def call(self, calls: Sequence[Call], budget: int, *, closed: bool) -> Layout:
        """Lay out a call, or what it put in its place, with what hangs on it below."""
        hanging = self.folding.hanging(calls)
        apart = budget > len(hanging)
        share = budget // (len(hanging) + 1)
        became = [node for call in calls if (node := self.grown.became(call)) is not None]
        name = cut(self.names[calls[0].task], 26)
        label = name if len(calls) == 1 else f"{name} ×{number(len(calls))}"
        if became and share > 1:
            # A frame takes room, too: a task may replace itself a hundred times.
            core = _framed(self.node(became, share * 3 // 4, closed=closed), f"⇢ in place of {label}", closed=closed)
        elif became:
            core = self.box(label, [call for node in became for call in self.grown.calls(node)], "more", "")
        else:
            note = "" if apart else self.note(hanging)
            core = self.box(label, calls, "call" if len(calls) == 1 else "fold", note)
        return self.hang(core, hanging, share, closed=closed) if hanging and apart else core

    def hang(self, core: Layout, hanging: Sequence[tuple[str, Bundle]], share: int, *, closed: bool) -> Layout:
        """Put links, errbacks and what a task started below it."""
        made = Layout(core.width, core.height, core.port)
        made.put(core, 0.0, 0.0)
        start = core.height
        for role, bundle in hanging:
            piece = self.node(bundle, max(share, 1), closed=False)
            y = made.height + TAG + 3
            made.tags.append(Tag(INDENT, y - 4, ROLES[role]))
            made.edges.append(
                Edge([(12.0, start), (12.0, y + piece.port), (INDENT, y + piece.port)], arrow=True, faint=True)
            )
            made.put(piece, INDENT, y)
            start = y + piece.port
            made.width, made.height = max(made.width, INDENT + piece.width), y + piece.height
        if closed and made.width > core.width:
            made.edges.append(Edge([(core.width, core.port), (made.width, core.port)]))
        return made

    def more(self, more: More) -> Layout:
        calls = [call for node in more.nodes for call in self.grown.calls(node)]
        return self.box(cut(more.label, 30), calls, "more", "")

    def note(self, hanging: Sequence[tuple[str, Bundle]]) -> str:
        said: dict[str, list[str]] = {}
        for role, bundle in hanging:
            said.setdefault(role, []).extend(self.names[call.task] for call in self.grown.calls(bundle[0]))
        return cut(" · ".join(f"{ROLES[role]}: {', '.join(dict.fromkeys(tasks))}" for role, tasks in said.items()), 34)

    def box(self, label: str, calls: Sequence[Call], kind: str, note: str) -> Layout:
        caption = self.captions(calls) if self.captions is not None else Caption()
        width = max(
            extent(label) + 38,
            extent(note, 10.5) + 4,
            extent(caption.line, 11) + 36,
            extent("".join(caption.meter), 11) + 74 if caption.meter[0] else 0.0,
            78.0 if kind == "call" else 124.0,
        )
        height = (HEIGHT if kind == "call" else TALL) + (LINE if caption.line else 0.0)
        below = NOTE if note else 0.0
        return Layout(
            width,
            height + 2 * below,
            height / 2 + below,
            boxes=[Box(0.0, below, width, height, label, calls, kind, note, caption)],
        )

    # -- one after the other ----------------------------------------------------------------------------------------

    def chain(self, chains: Sequence[Chain], budget: int, *, closed: bool, top: bool) -> Layout:
        parts = self.folding.steps(chains, budget)
        share = budget // len(parts)
        drawn = []
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            if not last and not isinstance(part, More) and isinstance(part[0], Fan) and share > 1:
                drawn.append(self.fan([node for node in part if isinstance(node, Fan)], share, barrier=True))
            else:
                drawn.append(self.part(part, share, closed=closed or not last))
        lines = _lines(drawn) if top else [drawn]
        made = Layout()
        y = x = 0.0
        exits: list[tuple[float, float]] = []
        for line in lines:
            port = max(one.port for one in line)
            x = 0.0 if len(lines) == 1 else BUS
            for place, one in enumerate(line):
                if place:
                    made.edges.append(Edge([(x, y + port), (x + GAP, y + port)], arrow=True))
                    x += GAP
                elif exits:  # from the end of the line above, round to the beginning of this one
                    (ex, ey), middle = exits[-1], y - ROW_GAP
                    made.edges.append(
                        Edge(
                            [
                                (ex, ey),
                                (ex + BUS, ey),
                                (ex + BUS, middle),
                                (0.0, middle),
                                (0.0, y + port),
                                (x, y + port),
                            ],
                            arrow=True,
                        )
                    )
                made.put(one, x, y + port - one.port)
                x += one.width
            exits.append((x, y + port))
            made.width = max(made.width, x + (0.0 if len(lines) == 1 else BUS))
            made.height = y + port + max(one.height - one.port for one in line)
            if len(exits) == 1:
                made.port = port
            y = made.height + 3 * ROW_GAP
        return made

    # -- side by side -----------------------------------------------------------------------------------------------

    def fan(self, fans: Sequence[Fan], budget: int, *, barrier: bool = False, closed: bool = True) -> Layout:
        parts = self.folding.members(fans, budget)
        ends = [end for fan in fans for end in self.grown.ends(fan)] if barrier else []
        if not parts:
            return self.box("empty group", (), "more", "")
        share = max(budget // len(parts), 1)
        drawn = [self.part(part, share, closed=closed) for part in parts]
        if len(drawn) > COLUMN:
            inner, bus = _grid(drawn), False
        elif len(drawn) > 1:
            inner, bus = _column(drawn, closed=closed), True
        else:
            inner, bus = drawn[0], False
        made = Layout()
        members = sum(len(fan.members) for fan in fans)
        framed = not bus and not (len(inner.boxes) == 1 and inner.boxes[0].kind != "call")
        pad = BUS if framed and members > 1 else 0.0
        made.put(inner, pad, 1.6 * pad)
        made.width, made.height, made.port = inner.width + 2 * pad, inner.height + 2.6 * pad, inner.port + 1.6 * pad
        if pad:
            made.frames.append(Frame(0.0, 0.0, made.width, made.height, f"group ×{number(members)}"))
        if barrier:
            _barrier(made, ends, bus=bus)
        return made


def _framed(inner: Layout, label: str, *, closed: bool) -> Layout:
    """Put a frame around a layout, and lead its lines through."""
    made = Layout(max(inner.width + 2 * BUS, extent(label, 11) + 24), inner.height + 2.6 * BUS, inner.port + 1.6 * BUS)
    made.put(inner, BUS, 1.6 * BUS)
    made.frames.append(Frame(0.0, 0.0, made.width, made.height, label))
    made.edges.append(Edge([(0.0, made.port), (BUS, made.port)]))
    if closed:
        made.edges.append(Edge([(BUS + inner.width, made.port), (made.width, made.port)]))
    return made


def _lines(drawn: Sequence[Layout]) -> list[list[Layout]]:
    """Break a long row of pieces into lines."""
    if sum(one.width + GAP for one in drawn) - GAP <= WIDTH:
        return [list(drawn)]
    lines: list[list[Layout]] = []
    left = 0.0
    for one in drawn:
        if not lines or one.width > left:
            lines.append([])
            left = WIDTH - 2 * BUS
        lines[-1].append(one)
        left -= one.width + GAP
    return lines


def _column(drawn: Sequence[Layout], *, closed: bool) -> Layout:
    """Put pieces below each other, between two buses that keep the number of lines linear."""
    made = Layout()
    inside = max(one.width for one in drawn)
    ports = []
    y = 0.0
    for one in drawn:
        made.put(one, BUS, y)
        ports.append(y + one.port)
        made.edges.append(Edge([(0.0, ports[-1]), (BUS, ports[-1])]))
        if closed:
            made.edges.append(Edge([(BUS + one.width, ports[-1]), (2 * BUS + inside, ports[-1])]))
        y += one.height + ROW_GAP
    made.width, made.height, made.port = inside + 2 * BUS, y - ROW_GAP, (ports[0] + ports[-1]) / 2
    made.edges += [Edge([(x, ports[0]), (x, ports[-1])]) for x in ((0.0, made.width) if closed else (0.0,))]
    return made


def _grid(drawn: Sequence[Layout]) -> Layout:
    """Put pieces into columns of equal width; the frame around them has the lines."""
    made = Layout()
    columns = ceil(len(drawn) / COLUMN)
    wide = max(one.width for one in drawn)
    gap = ROW_GAP if all(len(one.boxes) == 1 for one in drawn) else GAP  # rows of several boxes are to be told apart
    columns = max(columns, min(int((WIDTH * 0.6) // (wide + gap)), ceil(len(drawn) ** 0.5)))
    y = 0.0
    for start in range(0, len(drawn), columns):
        row = drawn[start : start + columns]
        for place, one in enumerate(row):
            made.put(one, place * (wide + gap), y)
        y += max(one.height for one in row) + ROW_GAP
    made.width, made.height = columns * (wide + gap) - gap, y - ROW_GAP
    made.port = made.height / 2
    return made


def _barrier(made: Layout, ends: Sequence[Call], *, bus: bool) -> None:
    """Put a barrier at a fan's right side, and room for what it says below."""
    if not bus:
        made.edges.append(Edge([(made.width, made.port), (made.width + BUS, made.port)]))
        made.width += BUS
    top = min(made.port - HEIGHT / 2, 0.0) if bus and made.height < HEIGHT else 0.0
    made.barriers.append(Barrier(made.width, top, made.height - top, ends))
    made.height += NOTE + 6
