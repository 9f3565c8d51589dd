"""``run.timeline()``: a lane for each worker slot, with what it ran and when; above them how many tasks waited."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import groupby, pairwise
from math import ceil, floor, log10
from typing import Final, NamedTuple

from nbcanvas import states
from nbcanvas.events.state import State

from .critical import critical_path
from .drawing import CAPTION, FILL, GLYPH, INK, LINE, Chip, chip, chips, document, image, text
from .markup import LOOKS, Look, cut, duration, escape, extent, names, number, plural
from .picture import Picture
from .words import counted

__all__ = ["timeline_picture"]

_WIDTH: Final = 760.0
_LANE, _BAR, _QUEUE = 28.0, 20.0, 46.0
#: More lanes than this are put together, more bars are not drawn one by one, more pieces would make it too long.
_LANES, _BARS, _PIECES = 24, 400, 2600
#: Of more bars than this each that is too narrow for its name has no glyph either: all of them look alike.
_TOLD: Final = 120
_TEXT: Final = 48
#: Characters of a lane's name.
_LABEL: Final = 24
_CRITICAL: Final = "#7c5cf0"
_LOST: Final = "LOST"

#: How what a slot did looks: as the states, but for what only attempts can be.
_LOOKS: Final = {
    **LOOKS,
    states.RETRY: LOOKS[states.RETRY]._replace(word="retried"),
    _LOST: Look("lost, and delivered again", "?", "#858b94"),
}
_FILLS: Final = {**FILL, _LOST: "#eceef0"}
_INKS: Final = {**GLYPH, _LOST: "#5d646e"}
_CHARS: Final = {states.SUCCESS: "█", states.STARTED: "▒", states.PROGRESS: "▒"}
#: The most telling first: of many in one column it is the one to see.
_LOUD: Final[Sequence[str]] = (states.FAILURE, states.REVOKED, states.REJECTED, states.RETRY, _LOST)
_KINDS: Final = (
    states.SUCCESS,
    states.STARTED,
    states.RETRY,
    states.REPLACED,
    _LOST,
    states.FAILURE,
    states.REVOKED,
    states.REJECTED,
    states.IGNORED,
)
#: A pattern for each state that is not the usual, so that it is not told by colour alone.
_HATCHES: Final = {
    states.FAILURE: "M0 6L6 0M-1 1L1 -1M5 7L7 5",
    states.RETRY: "M1 3h2",
    states.REVOKED: "M0 0L6 6M0 6L6 0",
    states.REJECTED: "M0 0L6 6M0 6L6 0",
    states.IGNORED: "M3 0v6",
    states.REPLACED: "M0 3h6",
    _LOST: "M3 0v3",
}


class _Span(NamedTuple):
    """One attempt at work in one slot."""

    start: float
    end: float
    kind: str
    row: int
    open: bool


class _Lane(NamedTuple):
    """What one slot did; of a worker that does not tell its slots apart, as many as were busy at once."""

    name: str
    place: int
    spans: Sequence[_Span]

    @property
    def label(self) -> str:
        which = f"/{self.place}" if self.place else ""
        return cut(self.name, _LABEL - len(which)) + which

    @property
    def busy(self) -> float:
        return sum(span.end - span.start for span in self.spans)


def timeline_picture(state: State, now: float, durations: bool = True) -> Picture:
    """Return who ran what when.

    Parameters
    ----------
    state
        What is known of the run.
    now
        Seconds since the epoch; bars of what runs end there.
    durations
        Whether to show times.  Without them there is nothing to draw, and equal runs give equal pictures.

    Returns
    -------
    Picture
        At most about 100 kB, however many tasks there are.
    """
    if not durations:
        return _words(
            f"Timeline of {plural(state.total, 'task')}: times and workers are left out here, so that equal runs look "
            "equal." + (f" {counted(state)}." if state.counts else "")
        )
    lanes = _lanes(state, now)
    if not lanes:
        never = "nobody knows when" if state.counts.get(states.SUCCESS) else "nothing was started yet"
        said = f"{never} ({counted(state)})" if len(state) else "nothing to run"
        return _words(f"Timeline of {plural(state.total, 'task')}: {said}.")
    return _Timeline(state, now, lanes).picture()


def _words(said: str) -> Picture:
    svg = document([text(0, 14, said, CAPTION)], extent(said), 20, said)
    return Picture(text=said, html=f"<p>{escape(said, 600)}</p>", svg=svg, alt=said, title="Timeline")


def _lanes(state: State, now: float) -> list[_Lane]:
    """Return what each worker slot did, in the order of their names."""
    found: dict[str, list[_Span]] = {}
    started, finished, worker = state.columns.started, state.columns.finished, state.columns.worker
    slots = [found.setdefault(name, []) for name in state.worker_names]
    for row in range(len(state)):
        start = started[row]
        if start == start:  # noqa: PLR0124 - NaN
            slots[worker[row]].append(_span(row, start, finished[row], state.state(row), now))
    for row in state.several():
        attempts = state.attempts_of(row)
        for attempt, following in pairwise(attempts):
            if attempt.started is not None:
                lost = attempt.state == states.STARTED
                until = attempt.finished or following.sent or following.started or attempt.started
                span = _Span(
                    attempt.started,
                    max(until, attempt.started),
                    _LOST if lost else attempt.state,
                    row,
                    open=False,
                )
                found.setdefault(attempt.worker or "", []).append(span)
    return [lane for name, spans in sorted(found.items(), key=_natural) for lane in _side_by_side(name, sorted(spans))]


def _side_by_side(name: str, spans: Sequence[_Span]) -> Iterator[_Lane]:
    """Yield the lanes of one name: several when what ran there overlaps, as on a worker of several slots."""
    lanes: list[list[_Span]] = []
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for span in spans:
        while busy and busy[0][0] <= span.start:
            heappush(free, heappop(busy)[1])
        if free:
            place = heappop(free)
        else:
            place = len(lanes)
            lanes.append([])
        lanes[place].append(span)
        heappush(busy, (span.end, place))
    for place, found in enumerate(lanes, 1):
        yield _Lane(name or "worker not known", place if len(lanes) > 1 else 0, found)


def _span(row: int, start: float, finished: float, kind: str, now: float) -> _Span:
    ended = finished == finished  # noqa: PLR0124 - NaN
    if kind == states.PROGRESS:
        kind = states.STARTED
    return _Span(start, max(finished if ended else now, start), kind, row, open=not ended)


def _natural(item: tuple[str, object]) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d{1,18})", item[0])
    return [(1, int(part), "") if part.isdigit() and part.isascii() else (0, 0, part) for part in parts]


class _Timeline:
    def __init__(self, state: State, now: float, lanes: list[_Lane]) -> None:
        self.state = state
        self.lanes = lanes
        self.waits = list(_waits(state, now))
        self.began = min([state.began, *(span.start for lane in lanes for span in lane.spans)])
        ends = [span.end for lane in lanes for span in lane.spans] + [end for _, end in self.waits]
        self.ended = max([*ends, self.began + 1e-6])
        self.names = names({call.task for call in state.tree.calls})
        self.path = critical_path(state, now)
        self.path_work = sum(self.runtime(row) for row in self.path)
        self.path_span = self.path_end() - self.path_start()
        self.kinds = Counter(span.kind for lane in lanes for span in lane.spans)
        self.count = sum(self.kinds.values())
        labels = [lane.label for lane in lanes] + ["000 more slots" if len(lanes) > _LANES else "waiting"]
        self.label_width = max(extent(label, 11.5) for label in labels) + 16
        self.scale = _WIDTH / (self.ended - self.began)

    def path_start(self) -> float:
        """Return when the first call of the critical path could have begun."""
        if not self.path:
            return self.began
        sent, due = self.state.sent(self.path[0]), self.state.due(self.path[0])
        started = self.state.columns.started[self.path[0]]
        known = [moment for moment in (sent, due) if moment is not None and moment <= started]
        return max(known, default=started)

    def path_end(self) -> float:
        if not self.path:
            return self.began
        last = self.path[-1]
        return self.state.columns.started[last] + self.runtime(last)

    def runtime(self, row: int) -> float:
        start, end = self.state.columns.started[row], self.state.columns.finished[row]
        return max((end if end == end else self.ended) - start, 0.0)  # noqa: PLR0124 - NaN

    def x(self, moment: float) -> float:
        return self.label_width + min(max((moment - self.began) * self.scale, 0.0), _WIDTH)

    # -- in words ---------------------------------------------------------------------------------------------------

    def picture(self) -> Picture:
        said = self.said()
        svg = self.svg(said)
        return Picture(text="\n".join([said, *self.rows()]), html=image(svg, said), svg=svg, alt=said, title="Timeline")

    def said(self) -> str:
        total = self.ended - self.began
        busy, waited = sum(lane.busy for lane in self.lanes), sum(end - start for start, end in self.waits)
        what = ", ".join(f"{number(self.kinds[kind])} {_LOOKS[kind].word}" for kind in _KINDS if self.kinds[kind])
        ran = {span.row for lane in self.lanes for span in lane.spans}
        told = (
            f"Timeline of {plural(len(ran), 'task')} on {plural(len(self.lanes), 'worker slot')}, {duration(total)}: "
            f"{what}; {duration(busy)} of work in all, slots busy {busy / total / len(self.lanes):.0%}"
        )
        if waited > 0:
            told += f"; tasks waited {duration(waited / len(self.waits))} for a slot on average"
        never = self.state.total - len(ran)
        if never > 0:  # of what a killed kernel could not tell any more, only the result is there
            rows = (row for row in range(len(self.state)) if row not in ran)
            unknown = sum(self.state.state(row) == states.SUCCESS for row in rows)
            told += f"; {number(unknown)} succeeded at times nobody knows" if unknown else ""
            never -= unknown
        if never > 0:
            told += f"; {number(never)} not started" if not self.state.done else f"; {number(never)} never ran"
        return told + f". Critical path: {self.path_words()}."

    def path_words(self) -> str:
        steps = [
            f"{cut(self.names[task], 40)}" + (f" ×{number(count)}" if count > 1 else "")
            for task, count in (
                (task, sum(1 for _ in run)) for task, run in groupby(self.state.call(row).task for row in self.path)
            )
        ]
        if len(steps) > 8:
            steps = [*steps[:4], f"… {number(len(steps) - 7)} more …", *steps[-3:]]
        waited = self.path_span - self.path_work
        return f"{' → '.join(steps)}, {duration(self.path_work)} of work" + (
            f" and {duration(waited)} of waiting" if waited > 0.0005 else ""
        )

    def rows(self) -> Iterator[str]:
        """Yield a line of characters for each slot."""
        wide = max(len(lane.label) for lane in self.lanes)
        shown = self.lanes if len(self.lanes) <= _LANES else self.lanes[: _LANES - 1]
        for lane in shown:
            cells = [" "] * _TEXT
            for kind, _, start, end in _columns(lane.spans, self.began, (self.ended - self.began) / _TEXT, _TEXT):
                cells[start:end] = [_CHARS.get(kind, _LOOKS[kind].glyph)] * (end - start)
            drawn = "".join(cells).replace(" ", "·")
            yield f"{lane.label:<{wide}}  {drawn}  {plural(len(lane.spans), 'task')}, {duration(lane.busy)}"
        if len(shown) < len(self.lanes):
            rest = self.lanes[len(shown) :]
            busy = duration(sum(lane.busy for lane in rest))
            yield f"and {number(len(rest))} more slots, {busy} of work"

    # -- drawn ------------------------------------------------------------------------------------------------------

    def svg(self, said: str) -> str:
        shown, rest = self.lanes, []
        if len(shown) > _LANES:
            shown, rest = shown[: _LANES - 1], shown[_LANES - 1 :]
        parts: list[str] = []
        y = 0.0
        if self.waits:
            parts += self.area("waiting", [*self.waits], y, LOOKS[states.SENT].colour)
            y += _QUEUE + 12
        else:
            y += 14
        top = y
        right = self.label_width + _WIDTH + 8
        parts.append(text(right, top - 2, "busy", CAPTION, ' font-size="11"'))
        at = [top + place * _LANE for place in range(len(shown))]
        for lane, base in zip(shown, at, strict=True):
            parts += self.lane(lane, base)
        y += len(shown) * _LANE
        if rest:
            spans = [(span.start, span.end) for lane in rest for span in lane.spans]
            parts += self.area(f"{number(len(rest))} more slots", spans, y + 6, LOOKS[states.SUCCESS].colour)
            y += _QUEUE + 16
        bars = self.bars(shown, at)
        axis = self.axis(y)
        legend = self.legend()
        drawn, wide, below = chips(legend, y + 34, self.label_width + _WIDTH)
        parts = [self.patterns(), *axis, *parts, *bars, *self.critical(shown, at), *drawn]
        return document(parts, max(self.label_width + _WIDTH + 76, wide), below, said)

    def lane(self, lane: _Lane, y: float) -> Iterator[str]:
        right = self.label_width + _WIDTH
        yield text(self.label_width - 10, y + 18, lane.label, CAPTION, ' font-size="11.5" text-anchor="end"')
        yield (
            f'<rect x="{self.label_width:.1f}" y="{y + 4:.1f}" width="{_WIDTH:.1f}" height="{_BAR:.1f}" rx="3" '
            f'fill="{LINE}" fill-opacity=".12"/>'
        )
        share = lane.busy / (self.ended - self.began)
        yield text(right + 8, y + 18, f"{min(share, 1):.0%}", CAPTION, ' font-size="11"')

    def area(self, label: str, spans: Sequence[tuple[float, float]], y: float, colour: str) -> Iterator[str]:
        """Draw how many there were at each moment."""
        steps = 190
        loads = _loads(spans, self.began, (self.ended - self.began) / steps, steps)
        most, highest = _peak(spans), max([*loads, 1e-9])
        base, wide = y + _QUEUE, _WIDTH / steps
        path, x = [f"M{self.label_width:.0f} {base:.0f}"], self.label_width
        for high, run in groupby(round(36 * load / highest, 1) for load in loads):
            x += sum(1 for _ in run) * wide
            path.append(f"V{base - high:.1f}H{x:.1f}")
        yield (
            f'<path d="{"".join(path)}V{base:.0f}z" fill="{colour}" fill-opacity=".30" stroke="{colour}" '
            'stroke-width="1"/>'
        )
        yield text(self.label_width - 10, base - 5, label, CAPTION, ' font-size="11.5" text-anchor="end"')
        yield text(self.label_width + _WIDTH + 8, base - 24, f"most {number(most)}", CAPTION, ' font-size="11"')

    def bars(self, lanes: Sequence[_Lane], at: Sequence[float]) -> list[str]:
        if sum(len(lane.spans) for lane in lanes) <= _BARS:
            return [self.bar(span, y + 4) for lane, y in zip(lanes, at, strict=True) for span in lane.spans]
        columns = int(_WIDTH)
        while True:
            wide = (self.ended - self.began) / columns
            pieces = [list(_columns(lane.spans, self.began, wide, columns)) for lane in lanes]
            if sum(map(len, pieces)) <= _PIECES or columns <= 40:
                break
            columns //= 2
        paths: dict[str, list[str]] = {kind: [] for kind in _KINDS}  # what is loud comes last, above the others
        px = _WIDTH / columns
        for y, found in zip(at, pieces, strict=True):
            base = y + 4 + _BAR
            for kind, share, start, end in found:
                x, wide, high = self.label_width + start * px, (end - start) * px, max(_BAR * share, 2.0)
                if kind in _LOUD:  # not by colour alone: it stands out of the lane
                    x, wide, high = x - max(2.5 - wide, 0) / 2, max(wide, 2.5), high + 3
                paths[kind].append(f"M{_short(x)} {_short(base)}v{_short(-high)}h{_short(wide)}v{_short(high)}z")
        return [
            f'<path d="{"".join(drawn)}" fill="{_LOOKS[kind].colour}" fill-opacity="{1 if kind in _LOUD else 0.55}"/>'
            for kind, drawn in paths.items()
            if drawn
        ]

    def bar(self, span: _Span, y: float) -> str:
        """Draw one bar: its glyph and name in it, as far as there is room."""
        look = _LOOKS[span.kind]
        x, wide = self.x(span.start), max((span.end - span.start) * self.scale, 1.5)
        wide = min(wide, self.label_width + _WIDTH - x + 1.5)
        shape = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{_BAR:.0f}" rx="{min(3.0, wide / 3):.1f}"'
        name = self.names[self.state.call(span.row).task]
        tip = f"{name} {look.word}, {duration(span.end - span.start)}"
        parts = [
            f"<g><title>{escape(tip)}</title>",
            f'<rect {shape} fill="{_FILLS[span.kind]}" stroke="{look.colour}"'
            + (' stroke-dasharray="4 2"' if span.open else "")
            + "/>",
        ]
        if span.kind in _HATCHES:
            parts.append(f'<rect {shape} fill="url(#nbc-{span.kind.lower()})"/>')
        said = f"{look.glyph} {name}"
        if span.open:
            progress = self.state.progress(span.row)
            if progress is not None:
                done = (wide - 2) * progress.fraction
                parts.append(
                    f'<rect x="{x + 1:.1f}" y="{y + _BAR - 4:.1f}" width="{done:.1f}" height="3" fill="{look.colour}"/>'
                )
                said += f" {progress.fraction:.0%}"
        room = int((wide - 8) / 6.6)
        if room >= 6 or (room >= 1 and (self.count <= _TOLD or span.kind in _LOUD)):
            shown = said if extent(said, 11) <= wide - 8 else cut(said, room) if room >= 6 else look.glyph
            ground = (
                f' stroke="{_FILLS[span.kind]}" stroke-width="4" paint-order="stroke"' if span.kind in _HATCHES else ""
            )
            parts.append(text(x + 4, y + 14, shown, INK, f' font-size="11"{ground}'))
        return "".join([*parts, "</g>"])

    def critical(self, lanes: Sequence[_Lane], at: Sequence[float]) -> Iterator[str]:
        """Draw a line below the bars of the critical path, and lines from each to the next."""
        started, wanted = self.state.columns.started, frozenset(self.path)
        below = {
            span.row: y + 4 + _BAR + 1.5
            for lane, y in zip(lanes, at, strict=True)
            for span in lane.spans
            if span.row in wanted and span.start == started[span.row]
        }
        points = [
            (self.x(started[row]), self.x(started[row] + self.runtime(row)), below[row])
            for row in self.path
            if row in below
        ]
        merged: list[tuple[float, float, float]] = []
        for point in points:
            if merged and merged[-1][2] == point[2] and point[0] - merged[-1][1] < 1.5:
                merged[-1] = (merged[-1][0], max(point[1], merged[-1][1]), point[2])
            else:
                merged.append(point)
        if not merged or len(merged) > 800:
            return
        lines = "".join(f"M{_short(a)} {_short(y)}H{_short(max(b, a + 2))}" for a, b, y in merged)
        yield f'<path d="{lines}" fill="none" stroke="{_CRITICAL}" stroke-width="3" stroke-linecap="round"/>'
        joins = "".join(
            f"M{_short(b)} {_short(y)}L{_short(c)} {_short(z)}" for (_, b, y), (c, _, z) in pairwise(merged)
        )
        if joins:
            yield f'<path d="{joins}" fill="none" stroke="{_CRITICAL}" stroke-width="1.2" stroke-dasharray="3 2"/>'

    def axis(self, y: float) -> Iterator[str]:
        """Draw moments since the beginning, with a line through all lanes."""
        step, ticks = _ticks(self.ended - self.began)
        lines = "".join(f"M{_short(self.x(self.began + tick))} 0V{_short(y + 6)}" for tick in ticks)
        yield f'<path d="{lines}" fill="none" stroke="{LINE}" stroke-opacity=".35"/>'
        for tick in ticks:
            yield text(
                self.x(self.began + tick), y + 20, _moment(tick, step), CAPTION, ' font-size="11" text-anchor="middle"'
            )

    def legend(self) -> list[Chip]:
        found = [
            chip(f"{number(self.kinds[kind])} {look.word}", _FILLS[kind], look.colour, look.glyph, _INKS[kind])
            for kind in _KINDS
            if self.kinds[kind] and (look := _LOOKS[kind])
        ]
        if self.path:
            found.append(chip(f"critical path {duration(self.path_span)}", "#ece8fd", _CRITICAL, "━"))
        return found

    def patterns(self) -> str:
        used = "".join(
            f'<pattern id="nbc-{kind.lower()}" width="6" height="6" patternUnits="userSpaceOnUse">'
            f'<path d="{line}" fill="none" stroke="{_LOOKS[kind].colour}" stroke-width="1.3"/></pattern>'
            for kind, line in _HATCHES.items()
            if self.kinds[kind]
        )
        return f"<defs>{used}</defs>" if used else ""


def _short(value: float) -> str:
    said = f"{value:.1f}"
    return said.removesuffix(".0")


def _waits(state: State, now: float) -> Iterator[tuple[float, float]]:
    """Yield from when to when each message waited for a slot, once it was due."""
    sent, started, finished = state.columns.sent, state.columns.started, state.columns.finished
    on_the_way = frozenset({states.SENT, states.RECEIVED, states.RETRY})
    for row in range(len(state)):
        begin = sent[row]
        if begin != begin:  # noqa: PLR0124 - NaN
            continue
        due = state.due(row)
        begin = max(begin, due) if due is not None else begin
        if started[row] == started[row]:
            end = started[row]
        elif finished[row] == finished[row]:
            end = finished[row]
        elif state.state(row) in on_the_way:
            end = now
        else:
            continue
        if end > begin:
            yield begin, end


def _loads(spans: Iterable[tuple[float, float]], began: float, wide: float, count: int) -> list[float]:
    """Return how many spans there are on average in each of `count` columns."""
    change, partly = [0] * (count + 1), [0.0] * (count + 1)
    for start, end in spans:
        first = min(max((start - began) / wide, 0.0), float(count))
        last = min(max((end - began) / wide, first), float(count))
        at, until = int(first), int(last)
        change[at] += 1
        change[until] -= 1
        partly[at] -= first - at
        partly[until] += last - until
    loads, depth = [], 0
    for delta, part in zip(change[:count], partly, strict=False):
        depth += delta
        loads.append(max(depth + part, 0.0))
    return loads


def _peak(spans: Sequence[tuple[float, float]]) -> int:
    """Return how many spans there were at once, at most."""
    peak = depth = 0
    for _, change in sorted([(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans]):
        depth += change
        peak = max(peak, depth)
    return peak


def _columns(spans: Iterable[_Span], began: float, wide: float, count: int) -> Iterator[tuple[str, float, int, int]]:
    """Yield what is to be seen of a lane: a state, how busy it was (in quarters), and from which column to which."""
    busy: list[dict[str, float] | None] = [None] * count
    for span in spans:
        start, end = (span.start - began) / wide, (span.end - began) / wide
        first, last = min(max(floor(start), 0), count - 1), min(max(ceil(end), floor(start) + 1), count)
        for column in range(first, last):
            cell = busy[column]
            if cell is None:
                cell = busy[column] = {}
            cell[span.kind] = cell.get(span.kind, 0.0) + max(min(end, column + 1) - max(start, column), 0.0)
    seen = [_seen(cell) for cell in busy]
    for what, run in groupby(range(count), key=seen.__getitem__):
        if what is not None:
            cells = list(run)
            yield (*what, cells[0], cells[-1] + 1)


def _seen(cell: dict[str, float] | None) -> tuple[str, float] | None:
    if not cell:
        return None
    for kind in _LOUD:
        if kind in cell:
            return kind, 1.0
    return max(cell, key=cell.__getitem__), min(max(ceil(sum(cell.values()) * 4), 1), 4) / 4


_UNITS: Final = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))


def _ticks(total: float) -> tuple[float, list[float]]:
    """Return a round step, and the moments to mark on an axis of so many seconds."""
    least = total / 8
    if least <= 20:
        power = 10.0 ** floor(log10(least))
        step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= least)
    else:
        round_steps = (30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
        step = next((float(step) for step in round_steps if step >= least), ceil(least / 86400) * 86400.0)
    return step, [place * step for place in range(int(total / step + 1e-9) + 1)]


def _moment(tick: float, step: float) -> str:
    """Write a moment of an axis, in the unit that suits its step."""
    if not tick:
        return "0"
    if step < 1:
        digits = max(-floor(log10(step) + 1e-9), 0)
        return f"{tick * 1000:.{max(digits - 3, 0)}f} ms" if step < 0.1 else f"{tick:.{digits}f} s"
    size, unit = next((size, unit) for size, unit in reversed(_UNITS) if step >= size)
    return f"{tick / size:.10g} {unit}"
