"""``run.why()``: why a run is not done, or did not succeed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, overload

from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.app.sight import Sight, Worker
from nbcanvas.errors import ServerLost
from nbcanvas.events.state import State
from nbcanvas.picture.markup import LOOKS, css, cut, duration, escape, names, number, plural
from nbcanvas.servers.urls import masked

from .attach import AttachedRun
from .audience import tells_clocks
from .reasons import KINDS, Busy, Host, Queued, Reason, Scene, reasons

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Line", "Why", "scene_of", "why"]

#: So many lines are shown; the rest is counted.
_SHOWN: Final = 40
_NUMBERS: Final = re.compile(r"\[\d+\]")


class Line(NamedTuple):
    """Tasks that have not succeeded for the same reason, or one.

    Attributes
    ----------
    where
        Their path; ``[*]`` stands for the numbers in which they differ.
    name
        The task's short name.
    tasks
        How many they are.
    state, kind
        What they have in common.
    text
        The reason.
    """

    where: str
    name: str
    tasks: int
    state: str
    kind: str
    text: str


class Why(Sequence[Reason]):
    """Why tasks of a run have not succeeded: a sequence with a `Reason` for each, in canvas order.

    It reads as text, one line for all tasks that have the same reason.

    Attributes
    ----------
    title
        How the run stands.
    """

    def __init__(self, title: str, found: Sequence[Reason], now: float) -> None:
        self.title = title
        self._found = tuple(found)
        self._now = now

    @overload
    def __getitem__(self, index: int) -> Reason: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Reason]: ...
    def __getitem__(self, index: int | slice) -> Reason | Sequence[Reason]:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Reason]:
        return iter(self._found)

    def lines(self) -> list[Line]:
        """Return the reasons, those that are alike as one; first what somebody has to do something about."""
        short = names({one.name for one in self._found})
        shapes: dict[str, str] = {}

        def shape(text: str) -> str:
            found = shapes.get(text)
            if found is None:
                found = shapes[text] = _NUMBERS.sub("[*]", text)
            return found

        alike: dict[tuple[str, ...], list[Reason]] = {}
        for one in self._found:
            key = (one.kind, one.state, one.name, shape(one.path), shape(one.words))
            alike.setdefault(key, []).append(one)
        ordered = sorted(alike.values(), key=lambda group: KINDS.index(group[0].kind))
        return [self._line(group, short[group[0].name]) for group in ordered]

    def _line(self, group: list[Reason], name: str) -> Line:
        first = group[0]
        if len(group) == 1:
            return Line(cut(first.path), cut(name, 80), 1, first.state, first.kind, cut(first.text, 400))
        text = _merged([one.words for one in group])
        places = [one.place for one in group if one.place is not None]
        times = [one.until for one in group if one.until is not None]
        if places:
            text += f", places {number(min(places))} to {number(max(places))}"
        elif times:
            soon, late = (duration(max(moment - self._now, 0.0)) for moment in (min(times), max(times)))
            text += f", in {soon}" if soon == late else f", in {soon} to {late}"
        where = _merged([one.path for one in group])
        return Line(cut(where), cut(name, 80), len(group), first.state, first.kind, cut(text, 400))

    def __repr__(self) -> str:
        lines = self.lines()
        shown = [
            f"{LOOKS[line.state].glyph} {' '.join(filter(None, (line.where, line.name, _times(line))))}: {line.text}"
            for line in lines[:_SHOWN]
        ]
        return "\n".join([self.title, *shown, *_rest(lines)])

    def _repr_html_(self) -> str:
        lines = self.lines()
        cell = "text-align:left;vertical-align:top;padding:1px 10px 1px 0"
        rows = [
            f'<tr><td style="{cell};white-space:nowrap"><span style="{css(LOOKS[line.state])}">'
            f"{LOOKS[line.state].glyph} {escape(LOOKS[line.state].word)}</span></td>"
            f'<td style="{cell};font-family:monospace">{escape(line.where)}</td>'
            f'<td style="{cell};white-space:nowrap">{escape(line.name)} {escape(_times(line))}</td>'
            f'<td style="{cell}">{escape(line.text, 400)}</td></tr>'
            for line in lines[:_SHOWN]
        ]
        rest = "".join(f"<div>{escape(text)}</div>" for text in _rest(lines))
        table = f'<table style="border-collapse:collapse">{"".join(rows)}</table>' if rows else ""
        return f'<div><div style="margin-bottom:4px"><b>{escape(self.title)}</b></div>{table}{rest}</div>'

    def frame(self) -> pd.DataFrame:
        """Return the reasons as a DataFrame, a row each.

        Returns
        -------
        pandas.DataFrame
            ``path``, ``task_id``, ``name``, ``state``, ``kind``, ``text``, ``waits_for`` (a list) and ``until`` (UTC).
        """
        import numpy as np
        import pandas as pd

        from nbcanvas.tables.cells import category, moments, objects

        found = self._found
        until = np.array([np.nan if one.until is None else one.until for one in found], dtype=np.float64)
        return pd.DataFrame(
            {
                "path": objects([one.path for one in found]),
                "task_id": objects([one.task_id for one in found]),
                "name": category([one.name for one in found]),
                "state": category([one.state for one in found]),
                "kind": pd.Categorical([one.kind for one in found], categories=pd.Index(KINDS, dtype=object)),
                "text": objects([one.text for one in found]),
                "waits_for": objects([list(one.waits_for) for one in found]),
                "until": moments(until),
            }
        )


def _merged(texts: Sequence[str]) -> str:
    """Return texts that differ only in their numbers as one."""
    if len(set(texts)) == 1:
        return texts[0]
    numbers = [set(found) for found in zip(*map(_NUMBERS.findall, texts), strict=True)]
    kept = iter([found.pop() if len(found) == 1 else "[*]" for found in numbers])
    return _NUMBERS.sub(lambda _: next(kept), texts[0])


def _times(line: Line) -> str:
    return f"×{number(line.tasks)}" if line.tasks > 1 else ""


def _rest(lines: Sequence[Line]) -> list[str]:
    left = lines[_SHOWN:]
    return (
        [f"… and {plural(sum(line.tasks for line in left), 'task')} for {plural(len(left), 'reason')}"] if left else []
    )


class Explained(Protocol):
    """A run, alive or recorded; one that is alive has an ``app``."""

    @property
    def id(self) -> str:
        """Its root id."""

    @property
    def name(self) -> str | None:
        """What it was bound to."""

    def snapshot(self) -> State:
        """Return what is known of it."""


def why(run: Explained, clocks: bool | None = None, *, now: float | None = None) -> Why:
    """Return why a run is not done, or did not succeed: a reason for each task that has not succeeded.

    Parameters
    ----------
    run
        A run; of a recording only what its events say is known.
    clocks
        Whether to say how long something takes, and the names of workers.  By default it does, but not in a notebook
        whose display is static.
    now
        Seconds since the epoch; None for this moment.
    """
    if clocks is None:
        clocks = tells_clocks()
    if now is None:
        now = time()
    # The queues before the state: what was taken meanwhile is known to have started, then.
    scene = _scene(run)
    state = run.snapshot()
    if scene is not None and scene.hosts is None and isinstance(app := getattr(run, "app", None), App):
        scene = scene._replace(unknown={call.task for call in state.tree.calls} - set(app.tasks))
    return Why(_title(cut(run.name or run.id[:8], 80), state), reasons(state, scene, now, clocks=clocks), now)


def _scene(run: Explained) -> Scene | None:
    """Return what is known around a run; None when only its State can tell."""
    app = getattr(run, "app", None)
    remote = isinstance(app, App) and app.remote
    if isinstance(run, AttachedRun) and not remote:  # what runs it, or ran it, is another kernel
        return Scene(gone=f"{run.lost}; rerun() runs what is missing") if run.lost else None
    if not isinstance(app, App):
        return None
    return _afar(app, run.snapshot()) if app.remote else scene_of(app)


#: Where a task may be that has not ended and was sent.
_ON_ITS_WAY: Final = frozenset(
    {states.SENT, states.RECEIVED, states.RETRY, states.PENDING, states.STARTED, states.PROGRESS}
)
#: So many queues of a run are looked into.
_QUEUES: Final = 50


def _afar(app: App, state: State) -> Scene:
    """Return what is known around a run on a cluster: what its queues hold, and what its workers say."""
    sent = [state.call(row) for row in state.order if state.state(row) in _ON_ITS_WAY]
    routes = {call.id: app.queue_of(call) for call in sent}
    results = masked(str(app.conf.result_backend or app.conf.broker_url))
    control = app.control
    scene = Scene(
        revoked_ids=frozenset(control.revoked),
        revoked_stamps={name: frozenset(values) for name, values in control.revoked_stamps.items()},
        hosts={},
        routes=routes,
        results=results,
    )
    app.broker.notice(sorted(set(routes.values()))[:_QUEUES])
    try:
        waiting = app.broker.waiting()
        queued = [Queued(m.call.id, m.call.task, routes.get(m.call.id) or app.route(m)[0], m.due) for m in waiting]
        sight = app.fleet.sight()
    except ServerLost as lost:
        return scene._replace(unreachable=str(lost))
    if sight.trouble:
        return scene._replace(unreachable=sight.trouble)
    # What is over AMQP shows how many wait, and not which.
    hidden = {} if queued else {queue.name: queue.messages for queue in sight.queues if queue.messages}
    hosts = {one.name: _host_of(one, sight) for one in sight.workers if not one.silent}
    seen = {one.task_id for one in queued} | {job.id for job in (*sight.active, *sight.reserved, *sight.scheduled)}
    if any(call.id not in seen for call in sent):  # then it matters where results are
        told = app.fleet.ask(("conf",))["conf"]
        hosts = {name: host._replace(results=_results(told.get(name))) for name, host in hosts.items()}
    return scene._replace(queued=queued, hosts=hosts, silent=sight.silent, hidden=hidden)


def _host_of(worker: Worker, sight: Sight) -> Host:
    name = worker.name
    return Host(
        worker.queues,
        None if worker.tasks is None else frozenset(worker.tasks),
        worker.slots,
        [Busy(name, job.id, job.name) for job in sight.active if job.worker == name],
        frozenset(job.id for job in sight.reserved if job.worker == name),
        {job.id: job.eta for job in sight.scheduled if job.worker == name},
        worker.limits,
    )


def _results(conf: object) -> str:
    """Return where a worker keeps results, by its settings."""
    if not isinstance(conf, Mapping):
        return ""
    url = conf.get("result_backend")
    return masked(str(url)) if url and not str(url).startswith("disabled") else "nothing: it has no result_backend"


def scene_of(app: App) -> Scene:
    """Return what is known around the runs of an app: what waits, and what its worker does."""
    worker: Any = app.worker
    queued = [Queued(m.call.id, m.call.task, app.route(m)[0], m.due) for m in app.broker.waiting()]
    control = app.control
    revoked_ids = frozenset(control.revoked)
    revoked_stamps = {name: frozenset(values) for name, values in control.revoked_stamps.items()}
    scene = Scene(queued=queued, revoked_ids=revoked_ids, revoked_stamps=revoked_stamps)
    if worker is None:
        return scene
    slots = [(slot.name, slot.message) for slot in list(worker.slots)]
    return scene._replace(
        worker=worker.hostname if worker.takes_messages else None,
        since=worker.started,
        slots=frozenset(name for name, _ in slots),
        busy=[Busy(name, m.call.id, m.call.task) for name, m in slots if m is not None],
        held={task_id: str(limit) for task_id, limit in worker.held_back().items()},
    )


def _title(name: str, state: State) -> str:
    counts = state.counts
    good, total = counts.get(states.SUCCESS, 0), state.total
    if good == total:
        return f"{name} is done: {plural(total, 'task')} succeeded" if total else f"{name} is done: it has no tasks"
    bad = ", ".join(
        f"{number(counts[one])} {LOOKS[one].word}"
        for one in states.PRECEDENCE
        if one in counts and one != states.SUCCESS
    )
    done = "is done" if state.done else "is not done"
    return f"{name} {done}: {number(good)} of {plural(total, 'task')} succeeded, {bad}"
