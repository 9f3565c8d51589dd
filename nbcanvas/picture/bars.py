"""A bar for each stage of a run: as plain data, as text, and as html that stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nbcanvas import states
from nbcanvas.events.known import CODES
from nbcanvas.events.state import State

from .markup import LOOKS, css, duration, escape, names, number, plural, short
from .stages import Stage, bytes_at, stages

__all__ = ["Bar", "BarsModel", "bars_html", "bars_model", "bars_text"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One stage.

    Attributes
    ----------
    label
        ``add ×100``.
    task
        The task's full name; an empty string when the bar stands for several.
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
    fraction
        How much of the run is over, from 0 to 1.
    elapsed
        Seconds from its beginning to its end, or until now.
    rate
        Calls that ended each second; None when nobody can tell.
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
    fraction: float
    elapsed: float
    rate: float | None
    left: float | None


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
    for row in state.progresses():
        progress = state.progress(row)
        if progress and code[row] == CODES[states.PROGRESS]:
            extra[of_row[row]] += progress.fraction * state.items(row)
    bars = tuple(
        bar for at, stage in enumerate(listed) if (bar := _bar(state, stage, shown, retried[at], extra[at])) is not None
    )
    return _sum(state, bars, now)


def _bar(state: State, stage: Stage, shown: dict[str, str], retried: int, extra: float) -> Bar | None:
    rows: Sequence[int] = stage.rows
    if stage.role in _HANGING:  # counted, and shown, once they started
        rows = tuple(row for row in rows if state.awake(row))
        if not rows:
            return None
    codes = bytes_at(state.columns.code, rows)  # type: ignore[arg-type]
    calls = {name: count for name, value in CODES.items() if (count := codes.count(value))}
    items = calls
    many = state.tree.items and any(row in state.tree.items for row in rows)
    if many:
        items = dict.fromkeys(calls, 0)
        for row in rows:
            items[state.state(row)] += state.items(row)
    total = sum(items.values())
    done, failed = items.get(states.SUCCESS, 0), items.get(states.FAILURE, 0)
    lost = sum(items.get(name, 0) for name in _LOST)
    over = done + failed + lost
    how = _state(calls, len(rows))
    label = shown[stage.task] if stage.task else plural(stage.merged, "more stage")
    return Bar(
        label=label + (f" ×{number(len(rows))}" if len(rows) > 1 else ""),
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
        waiting_for=_waiting_for(state, stage, shown) if how == states.WAITING else "",
    )


def _state(calls: dict[str, int], count: int) -> str:
    """Say what calls in these states are doing together."""
    ready = sum(calls.get(name, 0) for name in states.READY_STATES)
    if ready == count:
        ends = (states.FAILURE, *_LOST, states.SUCCESS)
        return next((name for name in ends if calls.get(name)), states.SUCCESS)
    order = (states.PROGRESS, states.STARTED, states.RETRY, states.RECEIVED, states.SENT)
    return next((name for name in order if calls.get(name)), states.STARTED if ready else states.WAITING)


def _waiting_for(state: State, stage: Stage, shown: dict[str, str]) -> str:
    if not stage.before:
        return "waiting"
    if len(stage.before) == 1:
        task = state.call(stage.before[0]).task
        return f"waiting for {shown.get(task) or short(task)}"
    codes = bytes_at(state.columns.code, stage.before)
    left = len(codes) - sum(codes.count(CODES[name]) for name in states.READY_STATES)
    return f"waiting for {number(left)}" if left else "waiting"


def _sum(state: State, bars: tuple[Bar, ...], now: float) -> BarsModel:
    counts, total = state.counts, state.total
    done, failed = counts.get(states.SUCCESS, 0), counts.get(states.FAILURE, 0)
    revoked, ignored = counts.get(states.REVOKED, 0), sum(counts.get(name, 0) for name in _IGNORED)
    over = state.done
    end = max((t for t in state.columns.finished if t > 0), default=now) if over else now
    elapsed = max(end - state.began, 0.0)
    rate = state.ready / elapsed if state.ready and elapsed > 0 else None
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
        sum(counts.get(name, 0) for name in _RUNNING),
        sum(bar.fraction * bar.total for bar in bars) / items if items else 1.0,
        elapsed,
        rate,
        (total - state.ready) / rate if rate and not over else None,
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
    if durations:
        said.append(duration(model.elapsed))
        if model.rate is not None and model.elapsed >= 0.001:
            said.append(f"{number(model.rate) if model.rate >= 10 else f'{model.rate:.1f}'}/s")
        if model.left is not None:
            said.append(f"about {duration(model.left)} left")
    return said


def bars_text(model: BarsModel, *, durations: bool = True, width: int = 20) -> str:
    """Return the bars as text, a line each.

    Parameters
    ----------
    model
        See `bars_model`.
    durations
        Whether to say times and rates; without them equal runs give equal texts.
    width
        Characters of a full bar.
    """
    labels = ["  " * bar.depth + _GLYPHS.get(bar.role, "") + bar.label for bar in model.bars]
    widest = min(max(map(len, labels), default=0), 40)
    lines = []
    for bar, label in zip(model.bars, labels, strict=True):
        name = label if len(label) <= widest else label[: widest - 1] + "…"
        full = int(bar.fraction * width)
        drawn = "" if bar.waiting_for else "█" * full + "░" * (width - full) + "  "
        said = " · ".join([_numbers(bar), *(text for _, text in _apart(bar))])
        lines.append(f"{LOOKS[bar.state].glyph} {name:<{widest}}  {drawn}{said}")
    head = [
        LOOKS[model.state].word if model.state != states.STARTED else "running",
        *_summary(model, durations=durations),
        *(text for _, text in _apart(model)),
    ]
    return "\n".join([*lines, f"{LOOKS[model.state].glyph} {' · '.join(head)}"])


# -- html -----------------------------------------------------------------------------------------------------------

_TEXT: Final = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit))"
_FAINT: Final = "color:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#7d828a))"
_CELL: Final = "border:0;background:none;text-align:left;vertical-align:middle;white-space:nowrap;padding:3px 0"
_FONT: Final = (
    "font-size:13px;line-height:1.4;font-family:var(--jp-ui-font-family,system-ui,-apple-system,'Segoe UI',sans-serif)"
)


def bars_html(model: BarsModel, *, durations: bool = True) -> str:
    """Return the bars as html that stays: a table, with styles inline, without script, class or id.

    Parameters
    ----------
    model, durations
        See `bars_text`.
    """
    rows = "".join(_row(bar) for bar in model.bars)
    look = LOOKS[model.state]
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
        f'<td style="{_CELL};{faint};padding-left:{16 * min(bar.depth, 12)}px;padding-right:14px;max-width:280px;'
        f'overflow:hidden;text-overflow:ellipsis">{_GLYPHS.get(bar.role, "")}{escape(bar.label)}{role}</td>'
        f'<td style="{_CELL};width:50%">{_meter(bar)}</td>'
        f'<td style="{_CELL};white-space:normal;padding-left:14px;font-variant-numeric:tabular-nums">'
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
