"""The strokes every svg picture is made of.

Attributes instead of classes, system fonts, and colours that read on white and on black: an svg is seen inside an
``<img>``, where no theme reaches it but the page's colour scheme (`dark`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from nbcanvas import states

from .dark import dark_style
from .markup import LOOKS, data_uri, escape, extent, number
from .words import ORDER, words

__all__ = [
    "CAPTION",
    "FILL",
    "GLYPH",
    "INK",
    "LINE",
    "PLAIN",
    "chip",
    "chips",
    "document",
    "image",
    "state_chips",
    "text",
]

_FONT: Final = "system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif"
LINE: Final = "#8b929c"
#: Text on light fills, and text on whatever is behind the picture.
INK, CAPTION = "#20262e", "#767c85"
#: Fill of a state; all are light, for dark ink (`dark` has the others).
FILL: Final[Mapping[str, str]] = {
    states.SUCCESS: "#dff3e7",
    states.FAILURE: "#fde4e3",
    states.REVOKED: "#f1e6f7",
    states.REJECTED: "#f1e6f7",
    states.IGNORED: "#eceef0",
    states.PROGRESS: "#dfedfb",
    states.STARTED: "#dfedfb",
    states.RETRY: "#fbeed6",
    states.REPLACED: "#e9eef4",
    states.RECEIVED: "#e9eef4",
    states.SENT: "#e9eef4",
    states.WAITING: "#f0f1f3",
    states.PENDING: "#f0f1f3",
}
#: Glyphs of states on these fills: dark enough to be read as text.
GLYPH: Final[Mapping[str, str]] = {
    states.SUCCESS: "#1d7a4c",
    states.FAILURE: "#b3261e",
    states.REVOKED: "#7f45a6",
    states.REJECTED: "#7f45a6",
    states.IGNORED: "#5d646e",
    states.PROGRESS: "#1f6fbf",
    states.STARTED: "#1f6fbf",
    states.RETRY: "#7d4e00",
    states.REPLACED: "#4c647f",
    states.RECEIVED: "#4c647f",
    states.SENT: "#4c647f",
    states.WAITING: "#5d646e",
    states.PENDING: "#5d646e",
}
#: Fill and stroke of what has no state.
PLAIN: Final = ("#e6eefa", "#6d8fc4")
_MARGIN: Final = 8.0

#: A drawing and how wide it is.
Chip = tuple[str, float]


def document(parts: Iterable[str], width: float, height: float, alt: str) -> str:
    """Return an svg document of `parts`, which start at 0, 0; `alt` is its title."""
    across, high = width + 2 * _MARGIN, height + 2 * _MARGIN
    drawn = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{across:.0f}" height="{high:.0f}" '
        f'viewBox="{-_MARGIN:.0f} {-_MARGIN:.0f} {across:.0f} {high:.0f}" role="img" '
        f'font-family="{_FONT}" font-size="12"><title>{escape(alt, 1000)}</title>{dark_style(drawn)}{drawn}</svg>'
    )


def image(svg: str, alt: str) -> str:
    """Return an svg picture as html: an image with its words, which every notebook front end shows."""
    return (
        f'<img alt="{escape(alt, 1000)}" src="{data_uri(svg)}" '
        f'style="max-width:100%;height:auto;background:transparent">'
    )


def text(x: float, y: float, said: str, colour: str, extra: str = "") -> str:
    """Return some words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{extra}>{escape(said)}</text>'


def chip(said: str, fill: str, stroke: str, mark: str = "", ink: str = "") -> Chip:
    """Return an entry of a legend: dark words on their own light ground, with a mark before of a colour to be seen."""
    width = extent(said, 11.5) + (16 if mark else 0) + 20
    return (
        f'<rect x="0.5" y="-14" width="{width:.0f}" height="20" rx="10" fill="{fill}" stroke="{stroke}"/>'
        + (text(10, 0, mark, ink or stroke, ' font-size="11.5" font-weight="bold"') if mark else "")
        + text(26 if mark else 10, 0, said, INK, ' font-size="11.5"')
    ), width + 8


def state_chips(counts: Mapping[str, int]) -> list[Chip]:
    """Return the legend of states: each with its glyph, number and word."""
    found: dict[str, Chip] = {}
    said = words(counts)
    for name in reversed(ORDER):
        look = LOOKS[name]
        if look.word not in found and counts.get(name):
            shown = f"{number(said[look.word])} {look.word}"
            found[look.word] = chip(shown, FILL[name], look.colour, look.glyph, GLYPH[name])
    return list(found.values())


def chips(listed: Sequence[Chip], y: float, width: float) -> tuple[list[str], float, float]:
    """Put a legend below a drawing; return its parts, how long it is and where it ends."""
    parts: list[str] = []
    x = longst = 0.0
    for drawn, long in listed:
        if x and x + long > max(width, 560.0):
            x, y = 0.0, y + 26
        parts.append(f'<g transform="translate({x:.0f} {y + 15:.0f})">{drawn}</g>')
        x += long
        longst = max(longst, x)
    return parts, longst, y + (24 if listed else 0)
