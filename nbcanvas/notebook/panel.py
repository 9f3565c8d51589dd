"""``%canvas``: the panel in text.  Each command is a plain function of a session too."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from time import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nbcanvas.app import App, current_app
from nbcanvas.picture.markup import duration, plural
from nbcanvas.run import Run

from .errors import CellError, UnknownOption
from .names import run_named
from .options import key_value

if TYPE_CHECKING:
    import pandas as pd

    from .session import Session

__all__ = ["COMMANDS", "INSPECTIONS", "POOLS", "Status", "run_line"]

INSPECTIONS: Final = ("active", "reserved", "scheduled", "registered", "revoked", "stats")
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
        "broker   in this process (embedded)",
    ]
    if worker is None:
        lines.append("worker   none yet: it starts with the first canvas, or with %canvas worker start")
    else:
        stats = worker.stats()
        lines.append(
            f"worker   {worker.hostname}: {plural(worker.concurrency, 'slot')}, pool {worker.pool}, "
            f"{plural(stats['total'], 'task')} finished, {stats['waiting']} waiting"
        )
    going = [run for run in session.runs if not run.done]
    lines.append(f"runs     {plural(len(going), 'run')} going on, {len(session.runs) - len(going)} ended")
    lines += [f"         {run.name or run.id[:8]}: {_progress(run)}" for run in going[-10:]]
    return Status(lines)


def worker(session: Session, words: list[str]) -> Status:
    """``worker start [-c N] [--pool POOL]`` or ``worker stop``."""
    parser = _parser("worker")
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
    """Return the runs of this session, a row each, the oldest first."""
    import pandas as pd

    _none("runs", words)
    rows = [
        {
            "name": run.name or "",
            "id": run.id,
            "state": run.state,
            "tasks": len(run),
            "done": run.snapshot().ready,
            "canvas": _cut(repr(run.signature)),
            "started": pd.Timestamp(run.started, unit="s", tz="UTC"),
            "runtime": pd.Timedelta(seconds=(run.finished or time()) - run.started),
        }
        for run in session.runs
    ]
    return pd.DataFrame(rows, columns=["name", "id", "state", "tasks", "done", "canvas", "started", "runtime"])


def inspect_(session: Session, words: list[str]) -> pd.DataFrame:
    """Ask the worker: ``active``, ``reserved``, ``scheduled``, ``registered``, ``revoked`` or ``stats``."""
    import pandas as pd

    if len(words) != 1:
        raise CellError(f"%canvas inspect takes one of {', '.join(INSPECTIONS)}")
    what = words[0]
    if what not in INSPECTIONS:
        raise UnknownOption.of("inspection", what, INSPECTIONS, f"there are {', '.join(INSPECTIONS)}")
    answers = getattr(current_app().control.inspect(), what)() or {}
    rows = [{"worker": name, **row} for name, answer in answers.items() for row in _rows(answer)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["worker", "id", "name"])


def _rows(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, Mapping):
        return [_flat(answer)]
    return [_flat(one) if isinstance(one, Mapping) else {"name": one} for one in answer]


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested answer as one row: ``request`` and other parts become columns of their own."""
    row: dict[str, Any] = {}
    for key, value in answer.items():
        row |= (
            _flat(value) if key in {"request", "delivery_info", "pool"} and isinstance(value, Mapping) else {key: value}
        )
    return row


def revoke(session: Session, words: list[str]) -> Status:
    """``revoke ID…`` or ``revoke --stamp KEY=VALUE``, with ``--terminate``."""
    parser = _parser("revoke")
    parser.add_argument("ids", nargs="*")
    parser.add_argument("-s", "--stamp", action="append", type=key_value, default=[])
    parser.add_argument("--terminate", action="store_true")
    given = parser.parse_args(words)
    control = current_app().control
    if not given.ids and not given.stamp:
        raise CellError("%canvas revoke takes task ids, or --stamp KEY=VALUE")
    if given.stamp:
        control.revoke_by_stamped_headers(dict(given.stamp), terminate=given.terminate)
    if given.ids:
        control.revoke(_full_ids(session, given.ids), terminate=given.terminate)
    said = [*given.ids, *(f"tasks stamped {key}={value!r}" for key, value in given.stamp)]
    return Status([f"revoked: {', '.join(said)}"])


def _full_ids(session: Session, ids: list[str]) -> list[str]:
    """Complete ids that were cut short, where that is unambiguous."""
    known = (
        [call.id for run in session.runs for call in run.snapshot().tree.calls]
        if any(len(one) < 36 for one in ids)
        else []
    )
    found = []
    for one in ids:
        fits = [full for full in known if full.startswith(one)]
        if len(fits) > 1 and one not in fits:
            raise CellError(f"{len(fits)} tasks have an id that begins with {one}")
        found.append(fits[0] if len(fits) == 1 else one)
    return found


def cancel(session: Session, words: list[str]) -> Status:
    """``cancel NAME [--terminate]``: revoke all that has not ended of a run."""
    parser = _parser("cancel")
    parser.add_argument("name")
    parser.add_argument("--terminate", action="store_true")
    given = parser.parse_args(words)
    run = run_named(session.namespace, session.runs, given.name)
    run.cancel(terminate=given.terminate)
    return Status([f"{given.name} is cancelled: {_progress(run)}"])


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


def connect(session: Session, words: list[str]) -> NoReturn:
    """Say that there is no cluster to connect to yet."""
    raise CellError("connecting to a cluster comes with the next release; this one runs the embedded worker only")


#: Command -> what it does.
COMMANDS: Final[dict[str, Callable[[Session, list[str]], Any]]] = {
    "status": lambda session, words: status(session) if _none("status", words) else None,
    "worker": worker,
    "tasks": tasks,
    "runs": runs,
    "inspect": inspect_,
    "revoke": revoke,
    "cancel": cancel,
    "last": last,
    "list": list_,
    "connect": connect,
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
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise CellError(f"{message.removeprefix('argument ')}; usage: {usage}")


def _parser(command: str) -> argparse.ArgumentParser:
    return _Parser(prog=f"%canvas {command}", add_help=False)


def _none(command: str, words: list[str]) -> bool:
    """Refuse words behind a command that takes none; else say that there are none."""
    if words:
        raise CellError(f"%canvas {command} takes nothing behind it, and there is {' '.join(words)!r}")
    return True


def _own_tasks(app: App) -> list[str]:
    return sorted(name for name in app.tasks if not name.startswith("celery."))


def _documented(task: Any) -> bool:
    return bool(type(task).__dict__.get("__doc__"))


def _progress(run: Run) -> str:
    state = run.snapshot()
    return f"{state.ready} of {state.total} done, {duration((run.finished or time()) - run.started)}"


def _cut(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
