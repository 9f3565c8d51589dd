"""``run.table()``: a row for each task, as html and as text; of many the failed ones and the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nbcanvas import states
from nbcanvas.events.known import CODES
from nbcanvas.events.state import State
from nbcanvas.plan import Call

from .drawing import CAPTION, FILL, INK, LINE, document, text
from .faults import Describe
from .markup import LOOKS, call_text, css, cut, duration, error_text, escape, extent, names, number, plural, value_text
from .picture import Picture
from .words import counted

__all__ = ["COLUMNS", "table_picture"]

#: The columns; those that say nothing of any row are left out, but for the first and the state.
COLUMNS: Final = ("name", "path", "args", "state", "result", "error", "worker", "retries", "runtime")
#: These differ from run to run.
_CLOCKS: Final = frozenset({"worker", "runtime"})
_NUMBERS: Final = frozenset({"retries", "runtime"})
_WIDEST: Final = {"name": 40, "path": 44, "args": 60, "result": 60, "error": 90, "worker": 28}

#: No table is longer, in characters of html.
_LONGEST: Final = 90_000


class _Row(NamedTuple):
    state: str
    cells: tuple[str, ...]


def table_picture(
    state: State,
    value_of: Callable[[Call], Any] | None = None,
    describe: Describe | None = None,
    durations: bool = True,
    limit: int = 60,
) -> Picture:
    """Return a run's tasks as a table.

    Parameters
    ----------
    state
        What is known of the run.
    value_of
        Gives a call's result; asked only of those that succeeded and are shown.
    describe
        Gives a call's arguments; asked only of those that are shown.
    durations
        Whether to say by whom and how long tasks ran; without that equal runs give equal tables.
    limit
        How many rows to show at most: failed tasks, then the others, all of them in canvas order.
    """
    every = [row for row in state.order if state.awake(row)]
    short = names({state.call(row).task for row in every})
    rows = [_row(state, row, short, value_of, describe) for row in _chosen(state, every, limit)]
    made = _picture(state, every, rows, durations=durations)
    while len(made.html) > _LONGEST and len(rows) > 1:  # a few texts that are nothing but characters to escape
        rows = rows[: len(rows) // 2]
        made = _picture(state, every, rows, durations=durations)
    return made


def _picture(state: State, every: Sequence[int], rows: Sequence[_Row], *, durations: bool) -> Picture:
    kept = [
        at
        for at, name in enumerate(COLUMNS)
        if (durations or name not in _CLOCKS) and (name in ("name", "state") or any(row.cells[at] for row in rows))
    ]
    head = [COLUMNS[at] for at in kept]
    shown = [_Row(row.state, tuple(row.cells[at] for at in kept)) for row in rows]
    more = f"and {number(len(every) - len(rows))} more" if len(every) > len(rows) else ""
    said = f"Table of {plural(len(every), 'task')}" + (f": {counted(state)}" if every else "")
    said += f"; {plural(len(rows), 'row')} shown." if more else "."
    return Picture(
        text=_text(head, shown, more),
        html=_html(head, shown, more, said),
        svg=_svg(head, shown, more, said),
        alt=said,
        title="Tasks",
    )


def _chosen(state: State, rows: Sequence[int], limit: int) -> Sequence[int]:
    """Return the rows to show, in canvas order: of too many the failed ones, then the first."""
    if len(rows) <= limit:
        return rows
    code = state.columns.code
    failed = [row for row in rows if code[row] == CODES[states.FAILURE]][:limit]
    chosen = set(failed)
    for row in rows:
        if len(chosen) >= limit:
            break
        chosen.add(row)
    return [row for row in rows if row in chosen]


def _row(
    state: State,
    row: int,
    short: dict[str, str],
    value_of: Callable[[Call], Any] | None,
    describe: Describe | None,
) -> _Row:
    call, name = state.call(row), state.state(row)
    args = ""
    if describe is not None:
        given = describe(call)
        args = call_text("", given[0], given[1], 60)
    started, finished = state.started(row), state.finished(row)
    ran = duration(max(finished - started, 0)) if started is not None and finished is not None else ""
    if name == states.PROGRESS and (progress := state.progress(row)) is not None:
        ran = f"{progress.fraction:.0%}"
    cells = {
        "name": short[call.task],
        "path": state.calls[row].path,
        "args": args,
        "state": name,
        "result": value_text(value_of(call)) if value_of is not None and name == states.SUCCESS else "",
        "error": error_text(state.error(row)),
        "worker": state.worker(row) or "",
        "retries": number(state.retries(row)) if state.retries(row) else "",
        "runtime": ran,
    }
    return _Row(name, tuple(cut(cells[column], _WIDEST.get(column, 40)) for column in COLUMNS))


def _text(head: Sequence[str], rows: Sequence[_Row], more: str) -> str:
    wide = [max([len(name), *(len(row.cells[at]) for row in rows)]) for at, name in enumerate(head)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
            for name, cell, width in zip(head, cells, wide, strict=True)
        ).rstrip()

    drawn = [f"{LOOKS[row.state].glyph} {line(row.cells)}" for row in rows]
    return "\n".join(["  " + line(head), *drawn, *([more] if more else [])])


_TEXT: Final = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit))"
_FAINT: Final = "color:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#767c85))"
#: Front ends have styles of their own for the cells of tables: each says what it needs, in few words.
_CELL: Final = "border:0;padding:3px 14px 3px 0;vertical-align:top;text-align:"
_MONO: Final = frozenset({"args", "result", "path", "error"})
_RULE: Final = "background:none;border:0;border-bottom:1px solid rgba(128,134,142,.3)"


def _html(head: Sequence[str], rows: Sequence[_Row], more: str, said: str) -> str:
    sides = ["right" if name in _NUMBERS else "left" for name in head]
    heads = "".join(
        f'<th scope="col" style="{_CELL}{side};font-weight:600;{_FAINT}">{name}</th>'
        for name, side in zip(head, sides, strict=True)
    )
    drawn = []
    for row in rows:
        cells = []
        for name, side, cell in zip(head, sides, row.cells, strict=True):
            inner = escape(cell)
            if name == "state":
                look = LOOKS[row.state]
                inner = f'<span style="{css(look)}">{look.glyph}</span>\u00a0{cell}'
            elif cell and name in _MONO:
                inner = f'<code style="background:none;padding:0;overflow-wrap:break-word">{inner}</code>'
            cells.append(f'<td style="{_CELL}{side}">{inner}</td>')
        drawn.append(f'<tr style="{_RULE}">{"".join(cells)}</tr>')
    below = f'<div style="{_FAINT};padding-top:4px">{more}</div>' if more else ""
    return (
        f'<div role="group" aria-label="{escape(said, 400)}" style="{_TEXT};overflow-x:auto;background:transparent">'
        f'<table style="border-collapse:collapse;border:0;margin:0;font-size:13px;line-height:1.4;{_TEXT};'
        f'background:transparent"><thead><tr style="{_RULE}">{heads}</tr></thead>'
        f"<tbody>{''.join(drawn)}</tbody></table>{below}</div>"
    )


def _svg(head: Sequence[str], rows: Sequence[_Row], more: str, said: str) -> str:
    """Draw the table on a sheet of its own: text in many colours would not read on any ground."""
    limits = [min(_WIDEST.get(name, 14), 34) for name in head]
    wide = [
        max([extent(name, 11.5) * 1.1, *(extent(cut(row.cells[at], limits[at]), 11.5) for row in rows)]) + 16
        for at, name in enumerate(head)
    ]
    width, height = sum(wide) + 24, 24.0 + 22 * len(rows) + (22 if more else 0)
    sheet = f'width="{width:.0f}" height="{height + 8:.0f}" rx="8" fill="#fbfcfd" stroke="{LINE}"'
    parts = [f'<rect x="0" y="0" {sheet} stroke-opacity=".5"/>']
    for at, name in enumerate(head):
        parts.append(text(24 + sum(wide[:at]), 18, name, "#5d646e", ' font-size="11.5" font-weight="bold"'))
    for place, row in enumerate(rows):
        y = 40.0 + 22 * place
        parts.append(
            f'<rect x="4" y="{y - 14:.0f}" width="{width - 8:.0f}" height="20" rx="4" fill="{FILL[row.state]}"/>'
            + text(10, y, LOOKS[row.state].glyph, INK)
        )
        parts += [
            text(24 + sum(wide[:at]), y, cut(cell, limits[at]), INK, ' font-size="11.5"')
            for at, cell in enumerate(row.cells)
            if cell
        ]
    if more:
        parts.append(text(24, 40.0 + 22 * len(rows), more, CAPTION, ' font-size="11.5"'))
    return document(parts, width, height + 8, said)
