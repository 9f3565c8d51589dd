"""``%canvas``: the panel in text.  Each command is a plain function of a session too."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nbcanvas.app import App, current_app
from nbcanvas.app.connecting import hello
from nbcanvas.errors import ServerLost
from nbcanvas.picture.markup import duration, plural
from nbcanvas.run import Run, attach

from .connected import INSPECTIONS, cluster_, connect_, control_, disconnect_, inspect_, servers, shipped_
from .errors import CellError, UnknownOption, nearest
from .names import run_named, variables
from .options import key_value, stamps_of
from .testing import tells_clocks

if TYPE_CHECKING:
    import pandas as pd

    from nbcanvas.run.why import Why

    from .session import Session

__all__ = ["COMMANDS", "INSPECTIONS", "POOLS", "Status", "parser_for", "run_line", "status"]

POOLS: Final = ("threads", "processes", "solo")


class Status:
    """What is connected and what runs, as text.

    Parameters
    ----------
    lines
        The text.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __repr__(self) -> str:
        return "\n".join(self.lines)


# -- commands: each takes the session and the words behind it --------------------------------------------------------


def status(session: Session, app: App | None = None) -> Status:
    """Say what is connected, which worker there is, and what runs."""
    app = app or current_app()
    worker = app.worker
    lines = [
        f"app      {app.main or 'default'}: {plural(len(_own_tasks(app)), 'task')}",
        *servers(app),
    ]
    if app.backend.runs is not None and not app.remote:
        lines.append(f"results  {app.backend.runs.where()}")
    if app.remote:
        lines.append(f"workers  {_there(app)}")
    elif worker is None:
        lines.append("worker   none yet: it starts with the first canvas, or with %canvas worker start")
    else:
        stats = worker.stats()
        lines.append(
            f"worker   {_host(session, worker.hostname)}: {_slots(session, app)}pool {worker.pool}, "
            f"{plural(stats['total'], 'task')} finished, {stats['waiting']} waiting"
        )
    going = [run for run in session.runs if not run.done]
    lines.append(f"runs     {plural(len(going), 'run')} going on, {len(session.runs) - len(going)} ended")
    lines += [f"         {run.name or run.id[:8]}: {_progress(session, run)}" for run in going[-10:]]
    return Status(lines)


def worker(session: Session, words: list[str]) -> Status:
    """``worker start [-c N] [--pool POOL]`` or ``worker stop``."""
    parser = parser_for("worker")
    parser.add_argument("what", choices=("start", "stop"))
    parser.add_argument("-c", "--concurrency", type=int)
    parser.add_argument("--pool")
    given = parser.parse_args(words)
    app = current_app()
    if given.what == "stop":
        app.stop_worker(timeout=5.0)
        return status(session)
    if given.pool is not None and given.pool not in POOLS:
        raise UnknownOption.of("pool", given.pool, POOLS, f"there are {', '.join(POOLS)}")
    if given.concurrency is not None and given.concurrency < 1:
        raise CellError(f"-c takes a number of slots, one or more, and not {given.concurrency}")
    settings = session.settings
    app.start_worker(given.concurrency or settings.concurrency, given.pool or settings.pool)
    return status(session)


def tasks(session: Session, words: list[str]) -> pd.DataFrame:
    """Return the registered tasks with their parameters, a row each."""
    import inspect

    import pandas as pd

    _none("tasks", words)
    app = current_app()
    rows = []
    for name in _own_tasks(app):
        task = app.tasks[name]
        doc = (type(task).__doc__ or "").strip().partition("\n")[0] if _documented(task) else ""
        rows.append(
            {
                "name": name,
                "parameters": str(inspect.signature(task)),
                "queue": task.queue or app.conf.task_default_queue,
                "version": task.version,
                "doc": doc,
            }
        )
    return pd.DataFrame(rows, columns=["name", "parameters", "queue", "version", "doc"])


def runs(session: Session, words: list[str]) -> pd.DataFrame:
    """Return the runs of this session, a row each, the oldest first; times as a person reads them."""
    import pandas as pd

    from nbcanvas.tables.nothing import Nothing

    _none("runs", words)
    clocks = _tells_clocks(session)
    rows = [
        {
            "name": run.name or "",
            "id": run.id,
            "state": run.state,
            "tasks": len(run),
            "done": run.snapshot().ready,
            "canvas": _cut(run.canvas),
            "started": pd.Timestamp(int(run.started), unit="s", tz="UTC") if clocks else pd.NaT,
            "runtime": pd.Timedelta(seconds=(run.finished or time()) - run.started).round("ms") if clocks else pd.NaT,
        }
        for run in session.runs
    ]
    columns = ["name", "id", "state", "tasks", "done", "canvas", "started", "runtime"]
    return pd.DataFrame(rows, columns=columns) if rows else Nothing("no run yet", columns)


def revoke(session: Session, words: list[str]) -> Status:
    """``revoke ID…`` (a run by its name, too) or ``revoke --stamp KEY=VALUE``, with ``--terminate``."""
    parser = parser_for("revoke")
    parser.add_argument("ids", nargs="*")
    parser.add_argument("-s", "--stamp", action="append", type=key_value, default=[])
    parser.add_argument("--terminate", action="store_true")
    given = parser.parse_args(words)
    control = current_app().control
    if not given.ids and not given.stamp:
        raise CellError("%canvas revoke takes task ids, names of runs, or --stamp KEY=VALUE")
    meant = [_meant(session, word) for word in given.ids]  # all of them, before anything is revoked
    hit = _revoke_stamped(given.stamp, given.terminate) if given.stamp else 0
    for one in meant:
        if isinstance(one, Run):
            one.cancel(terminate=given.terminate)
        else:
            control.revoke(one, terminate=given.terminate)
    said = [*given.ids, *(f"tasks stamped {key}={value!r}" for key, value in given.stamp)]
    lines = [f"revoked: {', '.join(said)}"]
    if given.stamp:
        lines.append(f"{plural(hit, 'task')} now; later ones with that stamp too")
    return Status(lines)


def _revoke_stamped(stamps: list[tuple[str, Any]], terminate: bool) -> int:
    """Revoke what is stamped so; return how many tasks that ended now."""
    app = current_app()
    there = list(app.broker.waiting())
    if terminate and app.worker is not None:
        there += app.worker.running()
    app.control.revoke_by_stamped_headers(stamps_of(stamps), terminate=terminate)
    return len({message.call.id for message in there if app.control.is_stamped_revoked(message)})


def _meant(session: Session, word: str) -> Run | str:
    """Return the run of that name, or the id of the task whose id is, or begins with, that word."""
    named = session.namespace.get(word)
    if isinstance(named, Run):
        return named
    bound = [session.namespace[name] for name in variables(session.namespace, Run)]
    known = {run.id: run for run in (*session.runs, *(run for run in bound if isinstance(run, Run)))}
    fits = {call.id for run in known.values() for call in run.snapshot().tree.calls if call.id.startswith(word)}
    if word in fits:
        return word
    runs_of = [run for run_id, run in known.items() if run_id.startswith(word)]
    if len(runs_of) == 1:
        return runs_of[0]
    if len(fits) == 1:
        return fits.pop()
    if fits or runs_of:
        raise CellError(f"{len(fits | {run.id for run in runs_of})} tasks have an id that begins with {word}")
    app = current_app()
    if app.backend.get(word) is None and not any(m.call.id == word for m in app.broker.waiting()):
        answers = app.control.inspect().query_task(word) or {}
        if not any(answers.values()):
            raise CellError(f"no known task has the id {word}, and no run the name; %canvas runs lists the runs")
    return word


def cancel(session: Session, words: list[str]) -> Status:
    """``cancel NAME [--terminate]``: revoke all that has not ended of a run."""
    parser = parser_for("cancel")
    parser.add_argument("name")
    parser.add_argument("--terminate", action="store_true")
    given = parser.parse_args(words)
    run = run_named(session.namespace, session.runs, given.name)
    run.cancel(terminate=given.terminate)
    return Status([f"{given.name} is cancelled: {_progress(session, run)}"])


def why(session: Session, words: list[str]) -> Why:
    """``why [NAME]``: why a run is not done, or did not succeed; the latest one by default."""
    parser = parser_for("why")
    parser.add_argument("name", nargs="?")
    given = parser.parse_args(words)
    run = last(session, []) if given.name is None else run_named(session.namespace, session.runs, given.name)
    return run.why(clocks=_tells_clocks(session))


def attach_(session: Session, words: list[str]) -> Run:
    """``attach ID``: the run with that id, that name or that task; of another kernel too, when results are kept."""
    parser = parser_for("attach")
    parser.add_argument("id")
    run = attach(parser.parse_args(words).id)
    if run not in session.runs:
        session.runs.append(run)
    return run


def last(session: Session, words: list[str]) -> Run:
    """Return the latest run."""
    _none("last", words)
    if not session.runs:
        raise CellError("no canvas has run in this session yet")
    return session.runs[-1]


def list_(session: Session, words: list[str]) -> Status:
    """Say which canvases are kept under a name (``%%canvas --save NAME``)."""
    _none("list", words)
    if not session.saved:
        return Status(["no canvas is kept under a name; %%canvas --save NAME keeps one"])
    widest = max(map(len, session.saved))
    return Status([f"{name:<{widest}}  {_cut(repr(sig))}" for name, sig in session.saved.items()])


#: Command -> what it does.
COMMANDS: Final[dict[str, Callable[[Session, list[str]], Any]]] = {
    "status": lambda session, words: status(session) if _none("status", words) else None,
    "worker": worker,
    "tasks": tasks,
    "runs": runs,
    "inspect": inspect_,
    "revoke": revoke,
    "cancel": cancel,
    "attach": attach_,
    "why": why,
    "last": last,
    "list": list_,
    "connect": connect_,
    "disconnect": disconnect_,
    "cluster": cluster_,
    "control": control_,
    "shipped": shipped_,
}


def run_line(session: Session, words: list[str]) -> Any:
    """Carry out one line of ``%canvas``.

    Raises
    ------
    UnknownOption
        For a command that does not exist, with the nearest one.
    """
    if not words:
        return status(session)
    command, *rest = words
    if command not in COMMANDS:
        hint = f"there are {', '.join(COMMANDS)}; a canvas is run by %%canvas, with the canvas below it"
        raise UnknownOption.of("command", command, COMMANDS, hint)
    return COMMANDS[command](session, rest)


# -- helpers ---------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors that test runners see."""

    def error(self, message: str) -> NoReturn:
        wrong = message.partition("unrecognized arguments: ")[2].split()
        if wrong and wrong[0].startswith("-"):
            near = nearest(wrong[0], self._option_string_actions)
            message = f"unknown option {wrong[0]}{f', did you mean {near}?' if near else ''}"
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise CellError(f"{message.removeprefix('argument ')}; usage: {usage}")


def parser_for(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    return _Parser(prog=f"%canvas {command}", add_help=False)


def _none(command: str, words: list[str]) -> bool:
    """Refuse words behind a command that takes none; else say that there are none."""
    if words:
        raise CellError(f"%canvas {command} takes nothing behind it, and there is {' '.join(words)!r}")
    return True


def _own_tasks(app: App) -> list[str]:
    return sorted(name for name in app.tasks if not name.startswith(("celery.", "nbcanvas.")))


def _there(app: App) -> str:
    """Say who is there; that the server is away is no reason to say nothing of the rest."""
    try:
        return hello(app)
    except ServerLost as lost:
        return f"not known: {lost}"


def _documented(task: Any) -> bool:
    return bool(type(task).__dict__.get("__doc__"))


def _progress(session: Session, run: Run) -> str:
    state = run.snapshot()
    after = f", {duration((run.finished or time()) - run.started)}" if _tells_clocks(session) else ""
    return f"{state.ready} of {state.total} done{after}"


def _slots(session: Session, app: App) -> str:
    """Say how many slots the worker has; where cells are compared only if somebody chose, and not the machine."""
    tells = _tells_clocks(session) or app.conf.worker_concurrency
    return f"{plural(app.worker.concurrency, 'slot')}, " if tells else ""


def _host(session: Session, worker: str) -> str:
    """Return a worker's name, without the host where cells are compared."""
    return worker if _tells_clocks(session) else worker.partition("@")[0]


def _tells_clocks(session: Session) -> bool:
    return tells_clocks(session.settings, session.shell)


def _cut(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
