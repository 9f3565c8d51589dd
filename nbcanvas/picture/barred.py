"""``run.bars()``: a bar for each stage, as a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from nbcanvas import states
from nbcanvas.events.state import State

from .bars import Bar, bars_html, bars_model, bars_text
from .drawing import CAPTION, document, text
from .markup import LOOKS, cut, escape, extent
from .picture import Picture

__all__ = ["bars_picture"]

_ROW, _WIDE = 24.0, 380.0
_REMARK: Final = 300
_PARTS: Final = (states.SUCCESS, states.FAILURE, states.REVOKED, states.IGNORED)


def bars_picture(state: State, now: float, durations: bool = True, lost: str | None = None) -> Picture:
    """Return how far each stage of a run is.

    Parameters
    ----------
    state
        What is known of the run.
    now
        Seconds since the epoch.
    durations
        Whether to say times and rates; without them equal runs give equal pictures.
    lost
        Why what has not ended never will; it stands below the bars.
    """
    model = bars_model(state, now)
    if lost:
        model = replace(model, left=None)
    said = bars_text(model, durations=durations, lost=bool(lost))
    last = said.rpartition("\n")[2].replace(" · ", ", ")
    alt = f"Progress: {last[2:]}"
    # What a bar says stands in its line of text, behind the bar.
    numbers = [line.rpartition("  ")[2] for line in said.split("\n")[:-1]]
    left = max((extent(cut(bar.label, 40)) + 14 * min(bar.depth, 6) for bar in model.bars), default=0.0) + 34
    parts = []
    for place, (bar, line) in enumerate(zip(model.bars, numbers, strict=True)):
        y = place * _ROW + 16
        look = LOOKS[bar.state]
        parts.append(text(0, y, look.glyph, look.colour))
        parts.append(text(20 + 14 * min(bar.depth, 6), y, cut(bar.label, 40), CAPTION))
        parts += _bar(bar, left, y - 10)
        parts.append(text(left + _WIDE + 14, y, line, CAPTION))
    below = len(model.bars) * _ROW + 20
    parts.append(text(0, below, last, CAPTION, ' font-size="11.5"'))
    width = left + _WIDE + 20 + max(map(extent, numbers), default=0.0)
    svg = document(parts, max(width, extent(last, 11.5)), below + 6, alt)
    html = bars_html(model, durations=durations, lost=bool(lost))
    if lost:
        said += f"\n⚠ {cut(lost, _REMARK)}"
        html += f"<div>⚠ {escape(lost, _REMARK)}</div>"
    return Picture(text=said, html=html, svg=svg, alt=alt, title="Progress")


def _bar(bar: Bar, x: float, y: float) -> list[str]:
    parts = [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_WIDE:.0f}" height="10" rx="5" fill="{CAPTION}" fill-opacity=".25"/>'
    ]
    total = max(bar.total, 1)
    over = 0.0
    for name, count in zip(_PARTS, (bar.done, bar.failed, bar.revoked, bar.ignored), strict=True):
        parts += _piece(x + _WIDE * over, y, count / total, LOOKS[name].colour)
        over += count / total
    parts += _piece(x + _WIDE * over, y, max(bar.fraction - over, 0.0), LOOKS[states.PROGRESS].colour)
    return parts


def _piece(x: float, y: float, share: float, colour: str) -> list[str]:
    wide = _WIDE * share
    return [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="10" rx="{min(5.0, wide / 2):.1f}" fill="{colour}"/>'
    ] * (wide > 0)
