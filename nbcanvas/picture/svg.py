"""A canvas drawn: its layout, coloured by what is known of its run or by the values of a stamp, as svg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from nbcanvas import states
from nbcanvas.events.known import CODES
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Node

from .drawing import CAPTION, FILL, GLYPH, INK, LINE, PLAIN, chip, chips, document, image, state_chips, text
from .folding import Folding
from .grown import Grown
from .layout import Barrier, Box, Caption, Edge, Frame, Layout, Tag, layout
from .markup import LOOKS, cut, escape, extent, number
from .stamped import NONE, OTHER, Stamped
from .words import ORDER, alt, arrived, words

__all__ = ["canvas_alt", "canvas_html", "canvas_svg", "draw", "folded"]

_METER: Final = (states.SUCCESS, states.FAILURE, states.REVOKED, states.STARTED, states.PROGRESS, states.RETRY)


def folded(node: Node, state: State | None) -> Folding:
    """Return what is drawn of a canvas, with what became of it."""
    return Folding(node, Grown(node, state.tree if state is not None else None))


def canvas_svg(node: Node, state: State | None = None) -> str:
    """Draw a frozen canvas.

    Parameters
    ----------
    node
        The canvas.
    state
        What is known of its run; None draws the canvas alone.

    Returns
    -------
    str
        An svg document, below 100 kB whatever the canvas.
    """
    folding = folded(node, state)
    return draw(folding, alt(folding, state), state)


def canvas_html(node: Node, state: State | None = None) -> str:
    """Return the picture of a canvas as html: an image with its words, which every notebook front end shows."""
    folding = folded(node, state)
    said = alt(folding, state)
    return image(draw(folding, said, state), said)


def canvas_alt(node: Node, state: State | None = None) -> str:
    """Say in words what the picture of a canvas shows."""
    return alt(folded(node, state), state)


def draw(
    folding: Folding,
    said: str,
    state: State | None = None,
    stamped: Stamped | None = None,
    lines: Sequence[tuple[str, str]] = (),
) -> str:
    """Draw a canvas.

    Parameters
    ----------
    folding
        What to draw of it.
    said
        What it shows, in words.
    state
        What is known of the run.
    stamped
        The stamp whose values give the colours; None colours by state.
    lines
        What to say below it: pairs of a state, for the look, and words.
    """
    return _Pen(folding, state, stamped).document(said, lines)


class _Pen:
    def __init__(self, folding: Folding, state: State | None, stamped: Stamped | None) -> None:
        self.state = state
        self.stamped = stamped
        self.retried = frozenset(state.retried()) if state is not None else frozenset()
        self.layout: Layout = layout(folding.grown.root, folding=folding, captions=self.caption)

    def document(self, said: str, lines: Sequence[tuple[str, str]]) -> str:
        made, state = self.layout, self.state
        height = max(made.height, max((box.y + box.height + (17 if box.note else 0) for box in made.boxes), default=0))
        parts = [
            *map(_frame, made.frames),
            *map(_edge, made.edges),
            *map(_tag, made.tags),
            *map(self.barrier, made.barriers),
            *map(self.box, made.boxes),
        ]
        width = made.width
        for name, line in lines:
            look, shown = LOOKS[name], cut(line, 150)
            height += 21
            parts.append(text(0, height, look.glyph, look.colour, ' font-weight="bold"'))
            parts.append(text(17, height, shown, CAPTION))
            width = max(width, 17 + extent(shown))
        legends = []
        if self.stamped is not None:
            name = cut(self.stamped.name, 24)
            legends.append(
                [
                    chip(
                        cut(value if value in (OTHER, NONE) else f"{name} {value}", 48) + f" · {number(count)}",
                        *self.stamped.colours(value),
                        mark="■",
                    )
                    for value, count in self.stamped.counts.items()
                ]
            )
        if state is not None:
            name, look = states.RETRY, LOOKS[states.RETRY]
            again = chip(f"{number(len(self.retried))} retried", FILL[name], look.colour, look.glyph, GLYPH[name])
            legends.append([*state_chips(state.counts), *([again] if self.retried else [])])
        for place, legend in enumerate(filter(None, legends)):
            drawn, right, height = chips(legend, height + (4 if place else 14), width)
            parts += drawn
            width = max(width, right)
        return document(parts, width, height, said)

    # -- what is known of calls -------------------------------------------------------------------------------------

    def caption(self, calls: Sequence[Call]) -> Caption:
        """Return what a box of calls says besides its name."""
        badge = ""
        if self.state is not None and self.retried:
            rows = [row for call in calls if (row := self.state.tree.index.get(call.id)) in self.retried]
            if rows:
                badge = f"↻ {number(self.state.retries(rows[0]) if len(calls) == 1 else len(rows))}"
        line = self.stamped.line(calls) if self.stamped is not None and calls else ""
        return Caption(badge, line, self.meter(calls) if len(calls) > 1 else ("", ""))

    def meter(self, calls: Sequence[Call]) -> tuple[str, str]:
        """Say how far a pile is, and how many of it failed."""
        found = self.states(calls)
        if not found or self.asleep(calls):
            return "", ""
        failed = found[states.FAILURE]
        return f"{number(found[states.SUCCESS])}/{number(len(calls))}", f" ✗ {number(failed)}" if failed else ""

    def states(self, calls: Sequence[Call]) -> Counter[str]:
        """Return how many calls are in which state."""
        state = self.state
        if state is None:
            return Counter()
        index, code = state.tree.index, state.columns.code
        codes = Counter(code[row] for call in calls if (row := index.get(call.id)) is not None)
        return Counter({name: codes[value] for name, value in CODES.items() if codes[value]})

    def asleep(self, calls: Sequence[Call]) -> bool:
        """Whether these are links or errbacks, none of which started."""
        state = self.state
        if state is None or not state.tree.part_of:
            return False
        rows = [row for call in calls if (row := state.tree.index.get(call.id)) is not None]
        return bool(rows) and not any(map(state.awake, rows))

    # -- drawing ----------------------------------------------------------------------------------------------------

    def barrier(self, barrier: Barrier) -> str:
        total = len(barrier.ends)
        if self.state is None:
            colour, said = PLAIN[1], f"waits for all {number(total)}"
        else:
            found = self.states(barrier.ends)
            ready = sum(found[name] for name in states.READY_STATES)
            colour = LOOKS[states.SUCCESS if ready == total else states.WAITING].colour
            if any(found[name] for name in (states.FAILURE, states.REVOKED)):
                colour = LOOKS[states.FAILURE].colour
            said = arrived(found, total)
        return (
            f'<rect x="{barrier.x - 2.5:.1f}" y="{barrier.y:.1f}" width="5" height="{barrier.height:.1f}" rx="2.5" '
            f'fill="{colour}"/>'
            # Below the boxes, right-aligned; what is longer than there is room starts at the left edge.
            + text(
                max(barrier.x + 3, extent(said, 11)),
                barrier.y + barrier.height + 18,
                said,
                CAPTION,
                ' font-size="11" text-anchor="end"',
            )
        )

    def box(self, box: Box) -> str:
        found, asleep = self.states(box.calls), self.asleep(box.calls)
        name = "" if asleep or not found else _one(found, len(box.calls))
        fill, stroke = ("none", LINE) if asleep else (FILL[name], LOOKS[name].colour) if name else PLAIN
        values = self.stamped.values(box.calls) if self.stamped is not None and box.calls and not asleep else []
        if values and self.stamped is not None:
            fill, stroke = self.stamped.colours(values[0])
        tip = box.label + (f": {', '.join(f'{number(n)} {word}' for word, n in words(found).items())}" if found else "")
        parts = [f"<g><title>{escape(tip)}</title>", *_shape(box, fill, stroke, dashed=box.kind == "more" or asleep)]
        if len(values) > 1 and self.stamped is not None:
            parts.append(self.stripes(box, values[:8], self.stamped))
        parts += _label(box, name, CAPTION if asleep else INK)
        if box.caption.badge:
            parts.append(_badge(box))
        if box.caption.meter[0]:
            parts.append(_meter(box, found))
        elif name == states.PROGRESS and self.state is not None:
            parts.append(_progress(box, self.state))
        if box.note:
            parts.append(text(box.x + 4, box.y + box.height + 14, box.note, CAPTION, ' font-size="10.5"'))
        return "".join([*parts, "</g>"])

    @staticmethod
    def stripes(box: Box, values: Sequence[str], stamped: Stamped) -> str:
        """Draw a strip of the colours of several values at the lower edge of a box."""
        each = (box.width - 8) / len(values)
        return "".join(
            f'<rect x="{box.x + 4 + i * each:.1f}" y="{box.y + box.height - 4.5:.1f}" width="{each:.1f}" height="3" '
            f'fill="{stamped.colours(value)[1]}"/>'
            for i, value in enumerate(values)
        )


def _shape(box: Box, fill: str, stroke: str, *, dashed: bool) -> Iterator[str]:
    size = f'width="{box.width:.1f}" height="{box.height:.1f}" rx="7" fill="{fill}" stroke="{stroke}"'
    if box.kind == "fold":  # a pile
        for d in (6, 3):
            yield f'<rect x="{box.x + d:.1f}" y="{box.y + d:.1f}" {size} stroke-opacity=".55"/>'
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    yield f'<rect x="{box.x:.1f}" y="{box.y:.1f}" {size} stroke-width="1.3"{dashes}/>'


def _label(box: Box, name: str, ink: str) -> Iterator[str]:
    """Write a box's name, behind the glyph of its state when it has one, and its line."""
    caption = box.caption
    top = bool(caption.meter[0]) or box.kind == "call"
    base = box.y + (19.5 if top else (box.height - (15 if caption.line else 0)) / 2 + 4.5)
    x = box.x + (26 if name else 12)
    if name:
        yield text(box.x + 10, base, LOOKS[name].glyph, GLYPH[name], ' font-weight="bold"')
    if name or caption.line:
        yield text(x, base, box.label, ink)
    else:
        yield text(box.x + box.width / 2, base, box.label, ink, ' text-anchor="middle"')
    if caption.line:
        yield text(x, base + 15, caption.line, ink, ' font-size="11" font-style="italic"')


def _badge(box: Box) -> str:
    look, width = LOOKS[states.RETRY], extent(box.caption.badge, 10.5) + 9
    x, y = box.x + box.width - width + 5, box.y - 8
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="15" rx="7.5" fill="{FILL[states.RETRY]}" '
        f'stroke="{look.colour}"/>'
        + text(
            x + width / 2, y + 11.5, box.caption.badge, GLYPH[states.RETRY], ' font-size="10.5" text-anchor="middle"'
        )
    )


def _edge(edge: Edge) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge.points)
    dashed = ' stroke-dasharray="3 3"' if edge.faint else ""
    line = (
        f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.5" stroke-linejoin="round"{dashed}/>'
    )
    if not edge.arrow:
        return line
    x, y = edge.points[-1]
    return line + f'<path d="M{x - 7:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 4:.1f}z" fill="{LINE}"/>'


def _tag(tag: Tag) -> str:
    return text(tag.x, tag.y, tag.text, CAPTION, ' font-size="10.5"')


def _frame(frame: Frame) -> str:
    return (
        f'<rect x="{frame.x:.1f}" y="{frame.y:.1f}" width="{frame.width:.1f}" height="{frame.height:.1f}" rx="10" '
        f'fill="{LINE}" fill-opacity=".10" stroke="{LINE}" stroke-opacity=".6" stroke-dasharray="4 3"/>'
        + text(frame.x + 12, frame.y + 17, frame.label, CAPTION, ' font-size="11"')
    )


def _one(found: Counter[str], count: int) -> str:
    """Return the state that stands for many."""
    ready = sum(found[name] for name in states.READY_STATES)
    if ready == count:
        return next(name for name in ORDER if found[name])
    busy = (states.PROGRESS, states.STARTED, states.RETRY, states.RECEIVED, states.SENT)
    return next((name for name in busy if found[name]), states.STARTED if ready else states.WAITING)


def _meter(box: Box, found: Counter[str]) -> str:
    """Draw how far a pile is."""
    total = len(box.calls)
    said, bad = box.caption.meter
    room = extent(said + bad, 11) + 8
    x, y, width = box.x + 10, box.y + box.height - 15, max(box.width - 20 - room, 10.0)
    parts = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="6" rx="3" fill="#c9ced6"/>']
    for name in _METER:
        if found[name]:
            part = width * found[name] / total
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{part:.1f}" height="6" rx="{min(3.0, part / 2):.1f}" '
                f'fill="{LOOKS[name].colour}"/>'
            )
            x += part
    right = box.x + box.width - 10
    if bad:
        parts.append(
            text(right, y + 7, bad, GLYPH[states.FAILURE], ' font-size="11" font-weight="bold" text-anchor="end"')
        )
        right -= extent(bad, 11)
    parts.append(text(right, y + 7, said, INK, ' font-size="11" text-anchor="end"'))
    return "".join(parts)


def _progress(box: Box, state: State) -> str:
    progress = state.progress(state.index_of(box.calls[0].id))
    share = progress.fraction if progress else 0.0
    x, y, width = box.x + 8, box.y + box.height - 6, box.width - 16
    colour = LOOKS[states.PROGRESS].colour
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="3" rx="1.5" fill="#c2d4e8"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * share:.1f}" height="3" rx="1.5" fill="{colour}"/>'
    )
