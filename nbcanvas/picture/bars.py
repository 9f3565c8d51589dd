"""A bar for each stage of a run: as plain data, as text, and as html that stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from unicodedata import combining, east_asian_width

from nbcanvas import states
from nbcanvas.events.attempts import NESTING
from nbcanvas.events.known import CODES
from nbcanvas.events.state import State

from .markup import LOOKS, Look, css, cut, duration, escape, names, number, plural
from .stages import Stage, bytes_at, stages

__all__ = ["Bar", "BarsModel", "bars_html", "bars_model", "bars_text"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One stage.

    Attributes
    ----------
    label
        ``add ×100``; of what goes over items also how: ``add ×100 (map)``, ``add ×100 (10 chunks)``.
    task
        The task's full name (of a map, the task it runs for each item); an empty string when the bar stands for
        several.
    role
        ``""``, ``"link"``, ``"errback"``, ``"replacement"`` or ``"child"``.
    depth
        How far to indent it.
    tasks
        How many calls it stands for.
    total, done, failed, revoked, ignored
        Items (a map or chunk counts its items, any other call is one): all, succeeded, failed, revoked, ignored or
        rejected.
    running, sent
        How many calls are at work, how many on their way to a worker.
    retried
        How many calls were retried.
    fraction
        How much of it is over, from 0 to 1; running tasks count by what they say themselves.
    state
        What the stage is doing, or how it ended: a name of `nbcanvas.states`.
    unit
        ``"task"`` or ``"item"``.
    waiting_for
        ``waiting for 37`` while none of it was sent, else an empty string.
    """

    label: str
    task: str
    role: str
    depth: int
    tasks: int
    total: int
    done: int
    failed: int
    revoked: int
    ignored: int
    retried: int
    running: int
    sent: int
    fraction: float
    state: str
    unit: str
    waiting_for: str


@dataclass(frozen=True, slots=True)
class BarsModel:
    """All that the bars of a run show; plain data.

    Attributes
    ----------
    bars
        In canvas order.
    state
        Of the run: WAITING, STARTED, SUCCESS, FAILURE or REVOKED.
    total, done, failed, revoked, ignored, retried, running
        Calls: all, succeeded, failed, revoked, ignored or rejected, retried, at work.
    kept
        Calls that had ended before the run began: what a rerun has from an earlier one.
    fraction
        How much of the run is over, from 0 to 1.
    elapsed
        Seconds from its beginning to its end, or until now.
    rate
        Calls that ended each second, those apart that were kept or revoked; None when there is too little to tell by.
    left
        Seconds it will still take at that rate; None when nobody can tell, or when it is over.
    """

    bars: tuple[Bar, ...]
    state: str
    total: int
    done: int
    failed: int
    revoked: int
    ignored: int
    retried: int
    running: int
    kept: int
    fraction: float
    elapsed: float
    rate: float | None
    left: float | None


#: A rate is told of so many calls, over so many seconds; of less it is noise.
_TELLING: Final = (10, 1.0)
#: So many rows of a stage are asked whether they were replaced.
_FEW: Final = 100
#: How a run looks that will not go on by itself.
_GONE: Final = Look("lost", "?", "#858b94", "--nbc-faint,")
_IGNORED: Final = (states.REJECTED, states.IGNORED)
_LOST: Final = (states.REVOKED, *_IGNORED)
_RUNNING: Final = (states.STARTED, states.PROGRESS)
_UNDER_WAY: Final = (states.SENT, states.RECEIVED)
_HANGING: Final = frozenset({"link", "errback"})
_GLYPHS: Final = {"link": "↳ ", "errback": "⚠ ", "replacement": "⇢ ", "child": "+ "}
_ROLE_WORDS: Final = {"link": "link", "errback": "errback", "replacement": "replacement", "child": "started by a task"}


def bars_model(state: State, now: float) -> BarsModel:
    """Return what the bars of a run show.

    Parameters
    ----------
    state
        What is known of the run.
    now
        Seconds since the epoch.
    """
    listed, of_row = stages(state.tree)
    shown = names({stage.task for stage in listed if stage.task})
    retried = [0] * len(listed)
    for row in state.retried():
        retried[of_row[row]] += 1
    extra = [0.0] * len(listed)
    code = state.columns.code
    running = CODES[states.PROGRESS]
    for row in state.progresses():
        if code[row] == running and (progress := state.progress(row)):
            extra[of_row[row]] += progress.fraction * state.items(row)
    bars = tuple(
        bar
        for at, stage in enumerate(listed)
        if (bar := _bar(state, stage, _before(stage, listed, of_row), shown, retried[at], extra[at])) is not None
    )
    return _sum(state, bars, now)


def _before(stage: Stage, listed: Sequence[Stage], of_row: Sequence[int]) -> Stage | None:
    """Return the stage of the one call that a stage waits for; None when it waits for several, or for none."""
    return listed[of_row[stage.before[0]]] if len(stage.before) == 1 else None


def _bar(
    state: State, stage: Stage, before: Stage | None, shown: dict[str, str], retried: int, extra: float
) -> Bar | None:
    rows: Sequence[int] = stage.rows
    if stage.role in _HANGING or (stage.merged > 1 and state.tree.part_of):  # counted, and shown, once they started
        awake, part_of = state.awake_parts, state.tree.part_of
        rows = tuple(row for row in rows if row not in part_of or part_of[row] in awake)
    if state.tree.superseded:  # what a canvas stands for that ends in other ids
        gone, waiting = state.tree.superseded, CODES[states.WAITING]
        rows = tuple(row for row in rows if row not in gone or state.columns.code[row] != waiting)
    if not rows:
        return None
    codes = bytes_at(state.columns.code, rows)  # type: ignore[arg-type]
    calls = {name: count for name, value in CODES.items() if (count := codes.count(value))}
    many = stage.usual != 1 or bool(stage.others)
    items = _items(state, stage, rows, calls) if many else calls
    total = sum(items.values())
    done, failed = items.get(states.SUCCESS, 0), items.get(states.FAILURE, 0)
    lost = sum(items.get(name, 0) for name in _LOST)
    over = done + failed + lost
    how = _state(calls, len(rows))
    return Bar(
        label=_label(stage, shown, len(rows), total),
        task=stage.task,
        role=stage.role,
        depth=stage.depth,
        tasks=len(rows),
        total=total,
        done=done + (int(extra) if many else 0),
        failed=failed,
        revoked=items.get(states.REVOKED, 0),
        ignored=sum(items.get(name, 0) for name in _IGNORED),
        retried=retried,
        running=sum(calls.get(name, 0) for name in _RUNNING),
        sent=sum(calls.get(name, 0) for name in _UNDER_WAY),
        fraction=min((over + extra) / total, 1.0) if total else 1.0,
        state=how,
        unit="item" if many else "task",
        waiting_for=_waiting_for(state, stage, before, shown) if how == states.WAITING else "",
    )


def _items(state: State, stage: Stage, rows: Sequence[int], calls: dict[str, int]) -> dict[str, int]:
    """Count items by state: most chunks have as many, so only the others are looked at one by one."""
    usual, others = stage.usual, stage.others
    found = {name: count * usual for name, count in calls.items()}
    wanted = others.keys() if rows is stage.rows else others.keys() & set(rows)
    for row in wanted:
        found[state.state(row)] += others[row] - usual
    return found


def _label(stage: Stage, shown: dict[str, str], calls: int, items: int) -> str:
    """Name a stage: ``add ×100``."""
    if not stage.task:
        return plural(stage.merged, "more stage")
    label = shown[stage.task]
    if not stage.over:
        return f"{label} ×{number(calls)}" if calls > 1 else label
    # Several starmaps of one task side by side are what chunks become.
    how = stage.over if calls == 1 else plural(calls, {"starmap": "chunk"}.get(stage.over, stage.over))
    return f"{label} ×{number(items)} ({how})"


def _state(calls: dict[str, int], count: int) -> str:
    """Say what calls in these states are doing together."""
    ready = sum(calls.get(name, 0) for name in states.READY_STATES)
    if ready == count:
        ends = (states.FAILURE, *_LOST, states.SUCCESS)
        return next((name for name in ends if calls.get(name)), states.SUCCESS)
    order = (states.PROGRESS, states.STARTED, states.RETRY, states.RECEIVED, states.SENT)
    return next((name for name in order if calls.get(name)), states.STARTED if ready else states.WAITING)


def _waiting_for(state: State, stage: Stage, before: Stage | None, shown: dict[str, str]) -> str:
    if any(state.attempt(row) >> NESTING for row in stage.rows[:_FEW]):
        return "waiting for what replaced it" if len(stage.rows) == 1 else "waiting for what replaced them"
    if not stage.before:
        return "waiting"
    if before is not None and before.task:
        return f"waiting for {shown[before.task]}"
    codes = bytes_at(state.columns.code, stage.before)
    left = len(codes) - sum(codes.count(CODES[name]) for name in states.READY_STATES)
    return f"waiting for {number(left)}" if left else "waiting"


def _sum(state: State, bars: tuple[Bar, ...], now: float) -> BarsModel:
    counts, total = state.counts, state.total
    done, failed = counts.get(states.SUCCESS, 0), counts.get(states.FAILURE, 0)
    revoked, ignored = counts.get(states.REVOKED, 0), sum(counts.get(name, 0) for name in _IGNORED)
    over = state.done
    end = max((t for t in state.columns.finished if t > 0), default=state.began) if over else now
    elapsed = max(end - state.began, 0.0)
    ended = state.ready - state.kept - revoked  # what was revoked took no work
    rate = ended / elapsed if ended >= _TELLING[0] and elapsed >= _TELLING[1] else None
    running, ahead = sum(counts.get(name, 0) for name in _RUNNING), total - state.ready
    cancelled = revoked > 0 and ahead == running  # what is left ends when it likes: the rate says nothing of it
    if over:
        how = next((name for name in (states.FAILURE, *_LOST) if counts.get(name)), states.SUCCESS)
    else:
        how = states.WAITING if set(counts) <= {states.WAITING, states.SENT} else states.STARTED
    items = sum(bar.total for bar in bars)
    return BarsModel(
        bars,
        how,
        total,
        done,
        failed,
        revoked,
        ignored,
        sum(bar.retried for bar in bars),
        running,
        state.kept,
        sum(bar.fraction * bar.total for bar in bars) / items if items else 1.0,
        elapsed,
        rate,
        ahead / rate if rate and not over and not cancelled else None,
    )


# -- in words -------------------------------------------------------------------------------------------------------


def _numbers(bar: Bar) -> str:
    """Say how far a stage is: ``63/100``."""
    if bar.waiting_for:
        return bar.waiting_for
    return f"{number(bar.done)}/{number(bar.total)}" + (" items" if bar.unit == "item" else "")


def _apart(bar: Bar | BarsModel) -> list[tuple[str, str]]:
    """Return what did not go smoothly, each with the state whose look it has."""
    said = [
        (bar.failed, states.FAILURE, "failed"),
        (bar.revoked, states.REVOKED, "revoked"),
        (bar.ignored, states.IGNORED, "ignored or rejected"),
        (bar.retried, states.RETRY, "retried"),
    ]
    return [(name, f"{number(count)} {word}") for count, name, word in said if count]


def _summary(model: BarsModel, *, durations: bool) -> list[str]:
    said = [f"{number(model.done)} of {plural(model.total, 'task')}"]
    if model.kept:
        said.append(f"{number(model.kept)} kept")
    if durations:
        said.append(duration(model.elapsed))
        if model.rate is not None:
            said.append(f"{number(model.rate) if model.rate >= 10 else f'{model.rate:.1f}'}/s")
        if model.left is not None:
            said.append(f"about {duration(model.left)} left")
    return said


def bars_text(model: BarsModel, *, durations: bool = True, width: int = 20, lost: bool = False) -> str:
    """Return the bars as text, a line each.

    Parameters
    ----------
    model
        See `bars_model`.
    durations
        Whether to say times and rates; without them equal runs give equal texts.
    width
        Characters of a full bar.
    lost
        Whether what has not ended never will.
    """
    labels = ["  " * min(bar.depth, 6) + _GLYPHS.get(bar.role, "") + cut(bar.label) for bar in model.bars]
    widest = min(max(map(_wide, labels), default=0), 40)
    lines = []
    for bar, label in zip(model.bars, labels, strict=True):
        name = _fitted(label, widest)
        drawn = "" if bar.waiting_for else _drawn(bar, width) + "  "
        said = " · ".join([_numbers(bar), *(text for _, text in _apart(bar))])
        lines.append(f"{LOOKS[bar.state].glyph} {name}  {drawn}{said}")
    look = _GONE if lost else LOOKS[model.state]
    head = [
        look.word,
        *_summary(model, durations=durations),
        *(text for _, text in _apart(model)),
    ]
    return "\n".join([*lines, f"{look.glyph} {' · '.join(head)}"])


def _drawn(bar: Bar, width: int) -> str:
    """Draw a bar in text; what did not succeed is hatched."""
    full = int(bar.fraction * width)
    lost = bar.failed + bar.revoked + bar.ignored
    hatched = min(max(round(lost / bar.total * width), 1), full) if lost else 0
    return "█" * (full - hatched) + "▒" * hatched + "░" * (width - full)


def _wide(text: str) -> int:
    """Return how many columns a text takes."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _fitted(text: str, width: int) -> str:
    """Return a text that takes so many columns."""
    if _wide(text) > width:
        while _wide(text) >= width:
            text = text[:-1]
        text += "…"
    return text + " " * (width - _wide(text))


# -- html -----------------------------------------------------------------------------------------------------------

_TEXT: Final = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit))"
_FAINT: Final = "color:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#7d828a))"
_CELL: Final = "border:0;background:none;text-align:left;vertical-align:middle;white-space:nowrap;padding:3px 0"
_FONT: Final = (
    "font-size:13px;line-height:1.4;font-family:var(--jp-ui-font-family,system-ui,-apple-system,'Segoe UI',sans-serif)"
)


def bars_html(model: BarsModel, *, durations: bool = True, lost: bool = False) -> str:
    """Return the bars as html that stays: a table, with styles inline, without script, class or id.

    Parameters
    ----------
    model, durations, lost
        See `bars_text`.
    """
    rows = "".join(_row(bar) for bar in model.bars)
    look = _GONE if lost else LOOKS[model.state]
    said = [
        f'<b style="{css(look)}">{look.glyph} {look.word}</b>',
        *map(escape, _summary(model, durations=durations)),
        *(_coloured(name, text) for name, text in _apart(model)),
    ]
    words = ", ".join([look.word, *_summary(model, durations=durations), *(text for _, text in _apart(model))])
    return (
        f'<div role="group" aria-label="{escape(f"canvas {words}")}" style="{_FONT};{_TEXT};background:transparent;'
        f'max-width:860px;padding:4px 0">'
        f'<table style="border-collapse:collapse;table-layout:auto;border:0;margin:0;width:100%;{_FONT};{_TEXT};'
        f'background:transparent">'
        f"<tbody>{rows}</tbody></table>"
        f'<div style="{_FAINT};padding:6px 0 0;font-variant-numeric:tabular-nums">{" · ".join(said)}</div></div>'
    )


def _coloured(name: str, text: str) -> str:
    look = LOOKS[name]
    return f'<span style="{css(look)}">{look.glyph} {escape(text)}</span>'


def _row(bar: Bar) -> str:
    look = LOOKS[bar.state]
    faint = _FAINT if bar.state == states.WAITING else _TEXT
    role = f' <span style="{_FAINT};font-size:11px">{_ROLE_WORDS[bar.role]}</span>' if bar.role else ""
    said = [
        f'<span style="{faint}">{escape(_numbers(bar))}</span>',
        *(_coloured(name, text) for name, text in _apart(bar)),
    ]
    title = f"{bar.task or bar.label}: {look.word}, {_numbers(bar)}"
    return (
        f'<tr style="border:0;background:none" title="{escape(title)}">'
        f'<td style="{_CELL};width:20px;{css(look)}" aria-label="{look.word}">{look.glyph}</td>'
        f'<td style="{_CELL};width:1%;{faint};padding-left:{16 * min(bar.depth, 6)}px;padding-right:14px;'
        f'max-width:280px;overflow:hidden;text-overflow:ellipsis">{_GLYPHS.get(bar.role, "")}{escape(bar.label)}{role}'
        f"</td>"
        f'<td style="{_CELL}">{_meter(bar)}</td>'
        f'<td style="{_CELL};width:34%;white-space:normal;padding-left:14px;font-variant-numeric:tabular-nums">'
        f"{' · '.join(said)}</td></tr>"
    )


def _meter(bar: Bar) -> str:
    """Draw one bar: a part for each end, what is running paler behind them."""
    total = max(bar.total, 1)
    parts = [
        (bar.done / total, states.SUCCESS, 1.0),
        (bar.failed / total, states.FAILURE, 1.0),
        (bar.revoked / total, states.REVOKED, 1.0),
        (bar.ignored / total, states.IGNORED, 1.0),
    ]
    over = sum(share for share, _, _ in parts)
    parts.append((max(bar.fraction - over, 0.0), states.STARTED, 1.0))  # what running tasks say of themselves
    left = 1 - sum(share for share, _, _ in parts)
    parts.append((min(bar.running / max(bar.tasks, 1), max(left, 0.0)), states.STARTED, 0.35))
    drawn = "".join(
        f'<div style="float:left;height:10px;width:{share * 100:.2f}%;{css(LOOKS[name], "background-color")};'
        f'opacity:{opacity:g}"></div>'
        for share, name, opacity in parts
        if share > 0
    )
    percent = int(bar.fraction * 100)
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" '
        f'aria-label="{escape(bar.label)}" aria-valuetext="{escape(_numbers(bar))}" '
        f'style="height:10px;min-width:120px;border-radius:5px;overflow:hidden;'
        f'background-color:rgba(128,134,142,0.22)">{drawn}</div>'
    )
