"""A cluster as a person wants to see it: workers, queues, and what runs or waits; as plain data, as html, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from nbcanvas import states
from nbcanvas.app.sight import Job, Sight, Worker

from .drawing import INK, LINE, document, text
from .markup import LOOKS, call_text, css, cut, duration, escape, extent, names, number, plural
from .picture import Picture

__all__ = ["ClusterModel", "JobRow", "QueueRow", "WorkerRow", "cluster_model", "cluster_picture"]

#: So many rows of a kind are shown; the rest is counted.
ROWS: Final = 50
#: So many of a picture that stays.
_STILL_ROWS: Final = 20
_QUEUES: Final = 12
#: Arguments of such names are nobody's business.
_SECRET: Final = re.compile(r"pass|pwd|secret|token|credential|auth|api_?key|private", re.IGNORECASE)
_KINDS: Final = {"celery": "Celery", "": "unknown"}


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker.

    Attributes
    ----------
    name, kind, pool
        What it is called, ``Celery`` or ``nbcanvas`` and its version, and its pool.
    slots, active, reserved, scheduled, processed
        Numbers; None when it did not say.
    queues
        The queues it consumes.
    uptime
        In words.
    silent
        Whether it did not answer.
    """

    name: str
    kind: str
    pool: str
    slots: int | None
    active: int | None
    reserved: int | None
    scheduled: int | None
    processed: int | None
    queues: tuple[str, ...]
    uptime: str
    silent: bool


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue: how many messages wait in it (None: nobody can say), and which workers consume it."""

    name: str
    messages: int | None
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobRow:
    """A task that a worker has.

    Attributes
    ----------
    id, name, short, call, worker, queue
        Which and where; `call` has its arguments, `short` the name without what all have in common.
    state
        ``active``, ``reserved`` or ``scheduled``.
    moment
        When it started, or when it may start, in seconds since the epoch; None when that is not known.
    """

    id: str
    name: str
    short: str
    call: str
    worker: str
    queue: str
    state: str
    moment: float | None


@dataclass(frozen=True, slots=True)
class ClusterModel:
    """A cluster at one moment, cut to what can be shown.

    Attributes
    ----------
    server, at, trouble
        Where, when (seconds since the epoch), and why something is not known.
    workers, queues, jobs
        Rows.
    totals
        How many there are of everything, shown or not.
    tasks
        ``(name, rate limit)`` of the tasks that workers know.
    """

    server: str
    at: float
    trouble: str
    workers: tuple[WorkerRow, ...]
    queues: tuple[QueueRow, ...]
    jobs: tuple[JobRow, ...]
    totals: dict[str, int]
    tasks: tuple[tuple[str, str], ...]


def cluster_model(sight: Sight, rows: int = ROWS) -> ClusterModel:
    """Return what is shown of a cluster.

    Parameters
    ----------
    sight
        The cluster.
    rows
        As many rows of each kind at most.
    """
    jobs = {"active": sight.active, "reserved": sight.reserved, "scheduled": sight.scheduled}
    shown = [(state, job) for state, some in jobs.items() for job in some[:rows]]
    short = names({job.name for _, job in shown})
    there = [worker for worker in sight.workers if not worker.silent]
    limits = {task: limit for worker in there for task, limit in worker.limits.items()}
    tasks = sorted({task for worker in there for task in worker.tasks or ()})
    return ClusterModel(
        server=cut(sight.server, 120),
        at=sight.at,
        trouble=cut(sight.trouble, 300),
        workers=tuple(map(_worker, sight.workers[:rows])),
        queues=tuple(
            QueueRow(cut(one.name, 100), one.messages, tuple(cut(name, 80) for name in one.workers[:rows]))
            for one in sorted(sight.queues, key=lambda one: (-(one.messages or 0), one.name))[:rows]
        ),
        jobs=tuple(_job(state, job, short[job.name]) for state, job in shown),
        totals={
            "workers": len(there),
            "silent": len(sight.silent),
            "slots": sum(one.slots or 0 for one in there),
            "queues": len(sight.queues),
            "messages": sum(one.messages or 0 for one in sight.queues),
            **{state: len(some) for state, some in jobs.items()},
        },
        tasks=tuple((cut(task, 120), cut(limits.get(task, ""), 20)) for task in tasks[: 4 * rows]),
    )


def _worker(worker: Worker) -> WorkerRow:
    version = f" {cut(worker.version, 20)}" if worker.version else ""
    return WorkerRow(
        cut(worker.name, 100),
        "" if worker.silent else f"{_KINDS.get(worker.kind, cut(worker.kind, 20))}{version}",
        cut(worker.pool, 20),
        worker.slots,
        worker.active,
        worker.reserved,
        worker.scheduled,
        worker.processed,
        tuple(cut(queue, 100) for queue in (worker.queues or ())[:_QUEUES]),
        "" if worker.uptime is None else duration(worker.uptime),
        worker.silent,
    )


def _job(state: str, job: Job, short: str) -> JobRow:
    moment = job.eta if state == "scheduled" else job.since
    return JobRow(
        cut(job.id, 80),
        cut(job.name, 120),
        short,
        _call(short, job.args, job.kwargs),
        cut(job.worker, 100),
        cut(job.queue, 60),
        state,
        moment,
    )


def _call(short: str, args: Any, kwargs: Any) -> str:
    """Return a call with its arguments, without those whose name says that they are secret."""
    if not isinstance(args, list | tuple) or not isinstance(kwargs, dict):  # a worker that tells them as text
        said = _SECRET_TEXT.sub(r"\1********", f"{args!s:.200}{kwargs!s:.200}")
        return cut(f"{short}{said}", 120)
    clean = {name: _Masked() if _SECRET.search(str(name)) else value for name, value in kwargs.items()}
    return call_text(short, args, clean, 120)


_SECRET_TEXT: Final = re.compile(
    r"(['\"][^'\"]*(?:pass|pwd|secret|token|credential|auth|api_?key|private)[^'\"]*['\"]\s*:\s*)[^,}]+", re.IGNORECASE
)


class _Masked:
    def __repr__(self) -> str:
        return "********"


# -- a still ----------------------------------------------------------------------------------------------------------

_TEXT: Final = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit))"
_FAINT: Final = "color:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#767c85))"
_CELL: Final = "border:0;padding:3px 16px 3px 0;vertical-align:top;text-align:"
_RULE: Final = "background:none;border:0;border-bottom:1px solid rgba(128,134,142,.3)"
_TABLE: Final = (
    f"border-collapse:collapse;border:0;margin:0;font-size:13px;line-height:1.4;{_TEXT};background:transparent"
)

#: A table: its caption, the heads of its columns (those of numbers end in ``#``), its rows, and what was left out.
Table = tuple[str, tuple[str, ...], list[tuple[str, ...]], str]


def cluster_picture(sight: Sight, *, clocks: bool = True, rows: int = _STILL_ROWS) -> Picture:
    """Return a cluster as a picture that stays.

    Parameters
    ----------
    sight
        The cluster.
    clocks
        Whether to say when, how long something takes, and on which host.
    rows
        As many rows of each kind at most.
    """
    model = cluster_model(sight if clocks else _without_hosts(sight), rows)
    tables = list(_tables(model, clocks=clocks))
    title = summary(model, clocks=clocks)
    return Picture(_text(title, tables), _html(title, model, tables), _svg(title, tables), title, "Cluster")


def _without_hosts(sight: Sight) -> Sight:
    """Return a cluster whose workers are called the same on every machine."""

    def bare(name: str) -> str:
        return name.partition("@")[0]

    def jobs(found: Sequence[Job]) -> list[Job]:
        return [one._replace(worker=bare(one.worker)) for one in found]

    return sight._replace(
        workers=[one._replace(name=bare(one.name)) for one in sight.workers],
        queues=[one._replace(workers=tuple(map(bare, one.workers))) for one in sight.queues],
        active=jobs(sight.active),
        reserved=jobs(sight.reserved),
        scheduled=jobs(sight.scheduled),
    )


def summary(model: ClusterModel, *, clocks: bool = True) -> str:
    """Return the cluster in a sentence."""
    totals = model.totals
    if model.trouble:
        return f"{model.server}: {model.trouble}"
    said = [plural(totals["workers"], "worker") if totals["workers"] else "no worker answers"]
    if totals["silent"]:
        said[0] += f" ({totals['silent']} silent)"
    if totals["workers"]:
        said.append(f"{number(totals['active'])} of {plural(totals['slots'], 'slot')} busy")
    said.append(f"{plural(totals['messages'], 'message')} in {plural(totals['queues'], 'queue')}")
    if totals["scheduled"]:
        said.append(f"{number(totals['scheduled'])} scheduled")
    when = f", {datetime.fromtimestamp(model.at, UTC):%Y-%m-%d %H:%M:%S} UTC" if clocks else ""
    return f"{model.server}: {', '.join(said)}{when}"


def _tables(model: ClusterModel, *, clocks: bool) -> list[Table]:
    tables: list[Table] = []

    def add(caption: str, heads: tuple[str, ...], found: list[tuple[str, ...]], total: int) -> None:
        more = f"and {number(total - len(found))} more" if total > len(found) else ""
        if found:
            tables.append((caption, heads, found, more))

    add(
        "Workers",
        ("worker", "kind", "pool", "busy #", "reserved #", "scheduled #", "processed #", "queues", "up"),
        [
            (
                one.name,
                "no answer" if one.silent else one.kind,
                one.pool,
                f"{_count(one.active)}/{_count(one.slots)}" if not one.silent else "",
                _count(one.reserved),
                _count(one.scheduled),
                _count(one.processed) if clocks else "",
                ", ".join(one.queues),
                one.uptime if clocks else "",
            )
            for one in model.workers
        ],
        model.totals["workers"] + model.totals["silent"],
    )
    add(
        "Queues",
        ("queue", "messages #", "consumed by"),
        [(one.name, _count(one.messages), ", ".join(one.workers[:4]) or "nobody") for one in model.queues],
        model.totals["queues"],
    )
    for state in ("active", "reserved", "scheduled"):
        add(
            state.capitalize(),
            ("task", "id", "worker", "queue", *_when(state)),
            [
                (one.call, one.id[:8], one.worker, one.queue, *_moment(one, model.at, clocks=clocks))
                for one in model.jobs
                if one.state == state
            ],
            model.totals[state],
        )
    return tables


def _when(state: str) -> tuple[str, ...]:
    return {"active": ("for #",), "scheduled": ("in #",)}.get(state, ())


def _moment(job: JobRow, at: float, *, clocks: bool) -> tuple[str, ...]:
    if job.state == "reserved":
        return ()
    if job.moment is None or not clocks:
        return ("",)
    return (duration(max(at - job.moment if job.state == "active" else job.moment - at, 0.0)),)


def _count(value: int | None) -> str:
    return "" if value is None else number(value)


def _kept(table: Table) -> tuple[list[str], list[bool], list[tuple[str, ...]]]:
    """Return the columns in which something stands: heads, which are numbers, and the rows."""
    _, heads, found, _ = table
    at = [place for place in range(len(heads)) if place == 0 or any(row[place] for row in found)]
    return (
        [heads[place].removesuffix(" #") for place in at],
        [heads[place].endswith("#") for place in at],
        [tuple(row[place] for place in at) for row in found],
    )


def _text(title: str, tables: Sequence[Table]) -> str:
    parts = [title]
    for table in tables:
        heads, numeric, found = _kept(table)
        cells = [[cut(cell, 60) for cell in row] for row in [tuple(heads), *found]]
        wide = [max(len(row[place]) for row in cells) for place in range(len(heads))]
        parts.append("")
        parts.append(table[0])
        for row in cells:
            aligned = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, wide, numeric, strict=True)
            ]
            parts.append(f"  {'  '.join(aligned)}".rstrip())
        if table[3]:
            parts.append(f"  {table[3]}")
    return "\n".join(parts)


def _html(title: str, model: ClusterModel, tables: Sequence[Table]) -> str:
    failed = css(LOOKS[states.FAILURE])
    parts = []
    for table in tables:
        heads, numeric, found = _kept(table)
        sides = ["right" if right else "left" for right in numeric]
        head = "".join(
            f'<th scope="col" style="{_CELL}{side};font-weight:600;{_FAINT}">{escape(name)}</th>'
            for name, side in zip(heads, sides, strict=True)
        )
        rows = []
        for row in found:
            warned = "no answer" in row[1:2] or row[-1] == "nobody"
            cells = "".join(
                f'<td style="{_CELL}{side}{";" + failed if warned and cell in {"no answer", "nobody"} else ""}">'
                f"{escape(cell, 120)}</td>"
                for cell, side in zip(row, sides, strict=True)
            )
            rows.append(f'<tr style="{_RULE}">{cells}</tr>')
        more = f'<div style="{_FAINT};padding-top:2px">{escape(table[3])}</div>' if table[3] else ""
        parts.append(
            f'<div style="padding-top:10px;font-weight:600">{table[0]}</div><table style="{_TABLE}">'
            f'<thead><tr style="{_RULE}">{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>{more}'
        )
    colour = f";{failed}" if model.trouble else ""
    return (
        f'<div role="group" aria-label="Cluster" style="{_TEXT};overflow-x:auto;background:transparent;font-size:13px">'
        f'<div style="padding-top:2px{colour}">{escape(title, 400)}</div>{"".join(parts)}</div>'
    )


def _svg(title: str, tables: Sequence[Table]) -> str:
    """Draw the tables on a sheet of their own: text in many colours would not read on any ground."""
    parts: list[str] = []
    y, widest = 22.0, extent(title, 12) + 24
    parts.append(text(12, y, title, INK))
    for table in tables:
        heads, numeric, found = _kept(table)
        cells = [[cut(cell, 40) for cell in row] for row in [tuple(heads), *found]]
        wide = [max(extent(row[place], 11.5) for row in cells) + 18 for place in range(len(heads))]
        y += 28
        parts.append(text(12, y, table[0], INK, ' font-weight="bold"'))
        for place, row in enumerate(cells):
            y += 20
            colour = "#5d646e" if place == 0 else INK
            parts += [
                text(
                    12 + sum(wide[: at + right]) - (18 if right else 0),
                    y,
                    cell,
                    colour,
                    ' font-size="11.5"' + (' text-anchor="end"' if right else ""),
                )
                for at, (cell, right) in enumerate(zip(row, numeric, strict=True))
                if cell
            ]
        widest = max(widest, sum(wide) + 12)
        if table[3]:
            y += 20
            parts.append(text(12, y, table[3], "#5d646e", ' font-size="11.5"'))
    sheet = (
        f'<rect x="0" y="0" width="{widest:.0f}" height="{y + 14:.0f}" rx="8" fill="#fbfcfd" stroke="{LINE}" '
        f'stroke-opacity=".5"/>'
    )
    return document([sheet, *parts], widest, y + 14, title)
