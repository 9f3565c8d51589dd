"""A canvas drawn: its layout, coloured by what is known of its run, as svg and as html that shows it anywhere.

The svg has attributes instead of classes, system fonts, and colours that read on white and on black: it is seen
inside an ``<img>``, where no theme reaches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from nbcanvas import states
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan, Node, calls_of

from .folding import Bundle, Folding, More
from .layout import Barrier, Box, Edge, Frame, Layout, layout
from .markup import LOOKS, cut, data_uri, escape, names, number, plural

__all__ = ["canvas_alt", "canvas_html", "canvas_svg", "draw"]

_FONT: Final = "system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif"
_LINE: Final = "#8b929c"
_INK: Final = "#20262e"
_CAPTION: Final = "#7d838c"
#: Fill of a box by state; all are light, for dark ink.
_FILL: Final = {
    states.SUCCESS: "#dff3e7",
    states.FAILURE: "#fde4e3",
    states.REVOKED: "#f1e6f7",
    states.REJECTED: "#f1e6f7",
    states.IGNORED: "#eceef0",
    states.PROGRESS: "#dfedfb",
    states.STARTED: "#dfedfb",
    states.RETRY: "#fbeed6",
    states.RECEIVED: "#e9eef4",
    states.SENT: "#e9eef4",
    states.WAITING: "#f0f1f3",
    states.PENDING: "#f0f1f3",
}
_PLAIN: Final = ("#e6eefa", "#6d8fc4")
_MARGIN: Final = 8.0
_ORDER: Final = (
    states.FAILURE,
    states.REVOKED,
    states.REJECTED,
    states.IGNORED,
    states.PROGRESS,
    states.STARTED,
    states.RETRY,
    states.RECEIVED,
    states.SENT,
    states.WAITING,
    states.SUCCESS,
)


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
    return _picture(node, state)[0]


def canvas_html(node: Node, state: State | None = None) -> str:
    """Return the picture of a canvas as html: an image with its words, which every notebook front end shows."""
    svg, alt = _picture(node, state)
    return (
        f'<img alt="{escape(alt, 1000)}" src="{data_uri(svg)}" '
        f'style="max-width:100%;height:auto;background:transparent">'
    )


def _picture(node: Node, state: State | None) -> tuple[str, str]:
    folding = Folding(node)
    alt = _alt(node, state, folding)
    return draw(layout(node, folding=folding), alt, state), alt


# -- in words -------------------------------------------------------------------------------------------------------


def canvas_alt(node: Node, state: State | None = None) -> str:
    """Say in words what the picture of a canvas shows."""
    return _alt(node, state, Folding(node))


def _alt(node: Node, state: State | None, folding: Folding) -> str:
    calls = list(calls_of(node))
    said = f"Canvas of {plural(len(calls), 'task')}: " if len(calls) != 1 else "Canvas of one task: "
    said += _say(folding, names({call.task for call in calls}), [node], 24) if calls else "nothing to run"
    if state is not None:
        said += ". " + ", ".join(f"{number(count)} {word}" for word, count in _words(state.counts).items())
    return cut(said + ".", 900)


def _words(counts: Iterable[str] | dict[str, int]) -> dict[str, int]:
    counted = Counter(counts)
    found: dict[str, int] = {}
    for name in reversed(_ORDER):
        if counted[name]:
            found[LOOKS[name].word] = found.get(LOOKS[name].word, 0) + counted[name]
    return found


def _say(folding: Folding, shown: dict[str, str], part: Bundle | More, budget: int) -> str:
    """Say what a part is; like a layout, no deeper than its budget allows."""
    if isinstance(part, More):
        return part.label
    first = part[0]
    if isinstance(first, Call):
        return shown[first.task] + (f" ×{number(len(part))}" if len(part) > 1 else "")
    if budget <= 1:
        return plural(folding.calls(part), "task")
    if isinstance(first, Chain):
        parts = folding.steps([node for node in part if isinstance(node, Chain)], budget)
        return ", then ".join(_say(folding, shown, one, budget // len(parts)) for one in parts)
    fans = [node for node in part if isinstance(node, Fan)]
    parts = folding.members(fans, min(budget, 8), apart=0)
    members = [_say(folding, shown, one, budget // len(parts)) for one in parts]
    if len(members) > 1:
        return f"side by side ({'; '.join(members)})"
    many = sum(len(fan.members) for fan in fans) > 1
    return "".join(members) + (" side by side" if many else "") or "an empty group"


# -- drawing --------------------------------------------------------------------------------------------------------


def draw(made: Layout, alt: str, state: State | None = None) -> str:
    """Draw a layout.

    Parameters
    ----------
    made
        See `nbcanvas.picture.layout.layout`.
    alt
        What it shows, in words.
    state
        What is known of the run.
    """
    legend = _legend(state) if state is not None else []
    low = max((box.y + box.height + (17 if box.note else 0) for box in made.boxes), default=0.0)
    height = max(made.height, low)
    width = max(made.width, sum(w for _, w in legend))
    parts = [
        *map(_frame, made.frames),
        *map(_edge, made.edges),
        *(_barrier(b, state) for b in made.barriers),
        *(_box(box, state) for box in made.boxes),
    ]
    x = 0.0
    for text, wide in legend:
        parts.append(f'<g transform="translate({x:.0f} {height + 26:.0f})">{text}</g>')
        x += wide
    height += 34 if legend else 0
    full_width, full_height = width + 2 * _MARGIN, height + 2 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{full_width:.0f}" height="{full_height:.0f}" '
        f'viewBox="{-_MARGIN:.0f} {-_MARGIN:.0f} {full_width:.0f} {full_height:.0f}" role="img" '
        f'font-family="{_FONT}" font-size="12"><title>{escape(alt, 1000)}</title>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, colour: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{extra}>{escape(text)}</text>'


def _edge(edge: Edge) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge.points)
    line = f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="1.5" stroke-linejoin="round"/>'
    if not edge.arrow:
        return line
    x, y = edge.points[-1]
    return line + f'<path d="M{x - 7:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 4:.1f}z" fill="{_LINE}"/>'


def _frame(frame: Frame) -> str:
    return (
        f'<rect x="{frame.x:.1f}" y="{frame.y:.1f}" width="{frame.width:.1f}" height="{frame.height:.1f}" rx="10" '
        f'fill="{_LINE}" fill-opacity=".10" stroke="{_LINE}" stroke-opacity=".6" stroke-dasharray="4 3"/>'
        + _text(frame.x + 12, frame.y + 17, frame.label, _CAPTION, ' font-size="11"')
    )


def _barrier(barrier: Barrier, state: State | None) -> str:
    total = len(barrier.ends)
    if state is None:
        colour, said = _PLAIN[1], f"waits for all {number(total)}"
    else:
        found = _states(barrier.ends, state)
        arrived = sum(found[name] for name in states.READY_STATES)
        colour = LOOKS[states.SUCCESS if arrived == total else states.WAITING].colour
        if any(found[name] for name in (states.FAILURE, states.REVOKED)):
            colour = LOOKS[states.FAILURE].colour
        said = f"{number(arrived)} of {number(total)} arrived"
    return (
        f'<rect x="{barrier.x - 2.5:.1f}" y="{barrier.y:.1f}" width="5" height="{barrier.height:.1f}" rx="2.5" '
        f'fill="{colour}"/>'
        + _text(barrier.x + 3, barrier.y + barrier.height + 14, said, _CAPTION, ' font-size="11" text-anchor="end"')
    )


def _states(calls: Sequence[Call], state: State) -> Counter[str]:
    return Counter(state.state(state.index_of(call.id)) for call in calls if call.id in state)


def _box(box: Box, state: State | None) -> str:
    found = _states(box.calls, state) if state is not None else Counter[str]()
    name = _one(found, len(box.calls)) if found else ""
    fill, stroke = (_FILL[name], LOOKS[name].colour) if name else _PLAIN
    many = box.kind != "call"
    dashed = ' stroke-dasharray="5 3"' if box.kind == "more" else ""
    tip = box.label + (f": {', '.join(f'{number(n)} {word}' for word, n in _words(found).items())}" if found else "")
    parts = [f"<g><title>{escape(tip)}</title>"]
    if box.kind == "fold":  # a pile
        parts += [
            f'<rect x="{box.x + d:.1f}" y="{box.y + d:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
            f'rx="7" fill="{fill}" stroke="{stroke}" stroke-opacity=".55"/>'
            for d in (6, 3)
        ]
    parts.append(
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="7" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.3"{dashed}/>'
    )
    base = box.y + (19.5 if not many or found else box.height / 2 + 4.5)
    if name:
        parts.append(_text(box.x + 10, base, LOOKS[name].glyph, stroke, ' font-weight="bold"'))
        parts.append(_text(box.x + 26, base, box.label, _INK))
    else:
        parts.append(_text(box.x + box.width / 2, base, box.label, _INK, ' text-anchor="middle"'))
    if many and found:
        parts.append(_meter(box, found))
    elif name == states.PROGRESS and state is not None:
        parts.append(_progress(box, state))
    if box.note:
        parts.append(_text(box.x + 4, box.y + box.height + 14, box.note, _CAPTION, ' font-size="10.5"'))
    return "".join([*parts, "</g>"])


def _one(found: Counter[str], count: int) -> str:
    """Return the state that stands for many."""
    ready = sum(found[name] for name in states.READY_STATES)
    if ready == count:
        return next(name for name in _ORDER if found[name])
    busy = (states.PROGRESS, states.STARTED, states.RETRY, states.RECEIVED, states.SENT)
    return next((name for name in busy if found[name]), states.STARTED if ready else states.WAITING)


def _meter(box: Box, found: Counter[str]) -> str:
    """Draw how far a pile is."""
    total = len(box.calls)
    said = f"{number(found[states.SUCCESS])}/{number(total)}"
    room = len(said) * 6.4 + 6
    x, y, width = box.x + 10, box.y + 31, max(box.width - 20 - room, 10.0)
    parts = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="6" rx="3" fill="#c9ced6"/>']
    for name in (states.SUCCESS, states.FAILURE, states.REVOKED, states.STARTED, states.PROGRESS, states.RETRY):
        if found[name]:
            part = width * found[name] / total
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{part:.1f}" height="6" rx="{min(3.0, part / 2):.1f}" '
                f'fill="{LOOKS[name].colour}"/>'
            )
            x += part
    parts.append(_text(box.x + box.width - 10, y + 7, said, _INK, ' font-size="11" text-anchor="end"'))
    return "".join(parts)


def _progress(box: Box, state: State) -> str:
    progress = state.progress(state.index_of(box.calls[0].id))
    share = progress.fraction if progress else 0.0
    x, y, width = box.x + 8, box.y + box.height - 5, box.width - 16
    colour = LOOKS[states.PROGRESS].colour
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="2.5" rx="1" fill="#c2d4e8"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * share:.1f}" height="2.5" rx="1" fill="{colour}"/>'
    )


def _legend(state: State) -> list[tuple[str, float]]:
    """Return the states there are, each with its glyph, word and number, and how wide that is."""
    found: list[tuple[str, float]] = []
    seen: set[str] = set()
    words = _words(dict(state.counts))
    for name in reversed(_ORDER):
        look = LOOKS[name]
        if look.word in words and look.word not in seen and state.counts.get(name):
            seen.add(look.word)
            said = f"{look.glyph} {number(words[look.word])} {look.word}"
            found.append((_text(0, 0, said, look.colour, ' font-size="11.5"'), len(said) * 6.4 + 16))
    return found
