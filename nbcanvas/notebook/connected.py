"""What ``%canvas`` says to and of a cluster: ``connect``, ``disconnect``, ``cluster``, ``inspect``, ``control``."""

from __future__ import annotations

import uuid
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from nbcanvas.app import App, current_app
from nbcanvas.app.connecting import astray, connect, disconnect, hello, worries
from nbcanvas.app.profiles import Target, target
from nbcanvas.app.sight import task_of
from nbcanvas.picture.markup import plural
from nbcanvas.servers.urls import masked

from .cluster import ClusterView
from .errors import CellError, UnknownOption
from .options import key_value, stamps_of
from .testing import display_of, tells_clocks

if TYPE_CHECKING:
    import pandas as pd

    from .session import Session

__all__ = [
    "COMMANDS_TO_WORKERS",
    "INSPECTIONS",
    "cluster_",
    "connect_",
    "control_",
    "disconnect_",
    "inspect_",
    "servers",
    "shipped_",
]

#: What workers can be asked.
INSPECTIONS: Final = (
    "active",
    "reserved",
    "scheduled",
    "registered",
    "revoked",
    "stats",
    "active_queues",
    "conf",
    "ping",
    "query_task",
    "report",
    "clock",
)
#: Of a question whose answers are empty: nothing is …
_PARTICIPLES: Final = {
    "active_queues": "consumed",
    "conf": "set",
    "ping": "answered",
    "query_task": "known",
    "stats": "known",
}
#: An answer is shown before all have come when the others take so long.
_SOON: Final = 0.3
#: What a worker says of itself that is another thing on each machine, and each time.
_OF_ONE_MACHINE: Final = frozenset({"max-concurrency", "report"})
_OF_ONE_PROCESS: Final = frozenset(
    {"clock", "eta", "hostname", "pid", "rusage", "sw_ver", "time_start", "uptime", "worker_pid"}
)

#: A command: the names of its arguments, each with what makes a value of a word; those after None may be left out, and
#: one with an ellipsis takes all words that are left.
_Arguments = tuple[tuple[str, Callable[[str], Any]] | None, ...]
_MORE: Final = "…"
#: What workers can be told, by Celery's names.
COMMANDS_TO_WORKERS: Final[dict[str, _Arguments]] = {
    "revoke": (("task_id…", str),),
    "terminate": (("signal", str), ("task_id…", str)),
    "revoke_by_stamped_headers": (("headers…", key_value),),
    "pool_grow": (None, ("n", int)),
    "pool_shrink": (None, ("n", int)),
    "pool_restart": (),
    "autoscale": (("max", int), ("min", int)),
    "add_consumer": (("queue", str),),
    "cancel_consumer": (("queue", str),),
    "rate_limit": (("task_name", str), ("rate_limit", str)),
    "time_limit": (("task_name", str), None, ("soft", float), ("hard", float)),
    "enable_events": (),
    "disable_events": (),
    "heartbeat": (),
    "shutdown": (),
}


# -- connecting -------------------------------------------------------------------------------------------------------


def connect_(session: Session, words: list[str]) -> Any:
    """``connect [URL|PROFILE] [--backend URL] [--no-check] [--ship] [--signing-key FILE]``."""
    from .panel import Status, parser_for

    parser = parser_for("connect")
    parser.add_argument("to", nargs="?", metavar="URL|PROFILE")
    parser.add_argument("--backend", metavar="URL")
    parser.add_argument("--no-check", "--offline", action="store_true", dest="no_check")
    parser.add_argument("--ship", action="store_true", default=None)
    parser.add_argument("--signing-key", metavar="FILE")
    given = parser.parse_args(words)
    found = target(given.to, given.backend)
    before = current_app()
    app = connect(found, check=not given.no_check, ship=given.ship, signing_key=given.signing_key)
    session.moved(before, app)
    lines = [*servers(app), f"workers  {hello(app)}"]
    lines += [f"note     {note}" for note in _notes(session, found, app)]
    return Status(lines)


def _notes(session: Session, found: Target, app: App) -> list[str]:
    notes = [*worries(app), *astray(app)]
    if found.typed and found.name is None:
        notes.append(
            "the notebook keeps what this cell says, the password included: put it into a profile "
            "([tool.nbcanvas.profiles], password_env) or NBCANVAS_BROKER_URL, and clear the cell"
        )
    going = [run for run in session.runs if not run.done and run.app is not app]
    if going:
        goes = "goes on where it is" if len(going) == 1 else "go on where they are"
        notes.append(f"{plural(len(going), 'run')} started before {goes}")
    if app.shipping is not None:
        notes.append("tasks of this notebook travel by value, signed; %canvas shipped says what goes with them")
    return notes


def disconnect_(session: Session, words: list[str]) -> Any:
    """``disconnect``: run what follows in this process again."""
    from .panel import Status, status

    if words:
        raise CellError(f"%canvas disconnect takes nothing behind it, and there is {' '.join(words)!r}")
    before = current_app()
    if not before.remote:
        return Status(["not connected: what is run runs in this process"])
    session.moved(before, disconnect(before))
    return status(session)


def servers(app: App) -> list[str]:
    """Say which broker and which result backend an app has, without passwords."""
    if not app.remote:
        return ["broker   in this process (embedded)"]
    lines = [f"broker   {masked(str(app.conf.broker_url))}"]
    if app.conf.result_backend:
        lines.append(f"results  {masked(str(app.conf.result_backend))}")
    return lines


# -- looking ----------------------------------------------------------------------------------------------------------


def cluster_(session: Session, words: list[str]) -> None:
    """``cluster [stop]``: the view of workers, queues and tasks; it moves until it is stopped."""
    if words not in ([], ["stop"]):
        raise CellError("%canvas cluster takes nothing behind it, or stop")
    app = current_app()
    view = session.cluster
    if words:
        if view is not None:
            view.stop()
        return
    display = display_of(session.settings, session.shell)
    if view is None or view.over or view.app is not app:
        if view is not None:
            view.stop()
        view = session.cluster = ClusterView(app, session.publish, clocks=tells_clocks(session.settings, session.shell))
    view.open(live=display == "live")


def inspect_(session: Session, words: list[str]) -> pd.DataFrame:
    """Ask workers, with ``--destination`` and ``--timeout``; answers are shown as they come."""
    given, names = _given("inspect", "inspection", INSPECTIONS, words)
    app = current_app()
    told = app.control.ask(given.what, _asking(given.what, given.arguments), names, timeout=given.timeout)
    answers: dict[str, Any] = {}
    shows = _Growing(session)
    for worker, answer in told:
        answers[worker] = answer
        shows.show(lambda: _frame(session, given.what, answers))
    shows.close()
    frame = _frame(session, given.what, answers)
    frame.attrs["silent"] = list(told.missing)
    if told.missing:
        session.show_bundle({"text/plain": f"no answer from {', '.join(told.missing)}"})
    return frame


def _given(order: str, kind: str, known: Collection[str], words: list[str]) -> tuple[Namespace, list[str] | None]:
    """Read ``WHAT [ARGUMENT…] [--destination NAME,…] [--timeout SECONDS]``; returns it, and the workers meant."""
    from .panel import parser_for

    parser = parser_for(order)
    parser.add_argument("what", nargs="?", metavar="WHAT")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT")
    parser.add_argument("-d", "--destination", metavar="NAME,…")
    parser.add_argument("-t", "--timeout", type=float, default=1.0, metavar="SECONDS")
    given = parser.parse_args(words)
    if given.what is None:
        raise CellError(f"%canvas {order} takes one of {', '.join(known)}")
    if given.what not in known:
        raise UnknownOption.of(kind, given.what, known, f"there are {', '.join(known)}")
    return given, [name for name in (given.destination or "").split(",") if name] or None


def _asking(what: str, words: list[str]) -> Mapping[str, Any]:
    """Return what a question is asked with."""
    if what == "query_task":
        if not words:
            raise CellError("%canvas inspect query_task takes task ids")
        return {"ids": words}
    if words:
        raise CellError(f"%canvas inspect {what} takes nothing behind it, and there is {' '.join(words)!r}")
    return {"taskinfoitems": ["rate_limit", "version"]} if what == "registered" and current_app().remote else {}


class _Growing:
    """Shows a frame that grows, in place, while the last answers are waited for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begun = monotonic()
        self._id: str | None = None
        self._shown = 0.0

    def show(self, make: Callable[[], pd.DataFrame]) -> None:
        now = monotonic()
        live = display_of(self._session.settings, self._session.shell) == "live"
        if not live or now - self._begun < _SOON or now - self._shown < _SOON:
            return
        self._shown = now
        update, self._id = self._id is not None, self._id or uuid.uuid4().hex
        frame = make()
        data, _ = self._session.shell.display_formatter.format(frame)
        self._session.publish(data, self._id, update)

    def close(self) -> None:
        """Take it away: the cell's value is all of it."""
        if self._id is not None:
            self._session.publish({"text/plain": ""}, self._id, True)


def _frame(session: Session, what: str, answers: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    from nbcanvas.tables.nothing import Nothing

    clocks = tells_clocks(session.settings, session.shell)
    rows = [
        {"worker": name if clocks else name.partition("@")[0], **row}
        for name, answer in answers.items()
        for row in _ROWS.get(what, _rows)(answer)
    ]
    if not clocks:
        hidden = _OF_ONE_PROCESS | (set() if current_app().conf.worker_concurrency else _OF_ONE_MACHINE)
        rows = [row | dict.fromkeys(hidden & row.keys()) for row in rows]
    if rows:
        return pd.DataFrame(rows)
    said = f"nothing is {_PARTICIPLES.get(what, what)} on {plural(len(answers), 'worker')}"
    return Nothing(said if answers else "no worker answers", ["worker", "id", "name"])


def _rows(answer: Any) -> Sequence[dict[str, Any]]:
    if isinstance(answer, Mapping):
        return [_flat(answer)]
    if not isinstance(answer, list | tuple):
        return [{"answer": answer}]
    return [_flat(one) if isinstance(one, Mapping) else {"name": one} for one in answer]


def _registered(answer: Any) -> Sequence[dict[str, Any]]:
    """Return a row for each task, with what stands behind its name in columns of their own."""
    told = [task_of(str(line)) for line in answer] if isinstance(answer, list | tuple) else []
    return [
        {"name": name, "rate_limit": items.get("rate_limit"), "version": items.get("version")} for name, items in told
    ]


def _queried(answer: Any) -> Sequence[dict[str, Any]]:
    """Return a row for each task that a worker has: ``{id: [state, request]}``."""
    told = answer if isinstance(answer, Mapping) else {}
    pairs = [(one, (*found, {}, {})) for one, found in told.items() if isinstance(found, list | tuple)]
    return [
        {"id": one, "state": found[0], **(_flat(found[1]) if isinstance(found[1], Mapping) else {})}
        for one, found in pairs
    ]


def _reported(answer: Any) -> Sequence[dict[str, Any]]:
    return [{"report": answer.get("ok", answer) if isinstance(answer, Mapping) else answer}]


#: Questions whose answers have a form of their own.
_ROWS: Final[Mapping[str, Callable[[Any], Sequence[dict[str, Any]]]]] = {
    "query_task": _queried,
    "registered": _registered,
    "report": _reported,
}


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested answer as one row: ``request`` and other parts become columns of their own."""
    row: dict[str, Any] = {}
    for key, value in answer.items():
        inner = key in {"request", "delivery_info", "pool"} and isinstance(value, Mapping)
        row |= _flat(value) if inner else {key: value}
    return row


# -- telling ----------------------------------------------------------------------------------------------------------


def control_(session: Session, words: list[str]) -> pd.DataFrame:
    """``control COMMAND [ARGUMENT…] [--destination NAME,…] [--timeout SECONDS]``."""
    import pandas as pd

    from nbcanvas.tables.nothing import Nothing

    given, names = _given("control", "command", COMMANDS_TO_WORKERS, words)
    arguments = _arguments(given.what, given.arguments)
    tell = getattr(current_app().control, given.what)
    told = tell(**arguments, destination=names, reply=True, timeout=given.timeout) or []
    answers = {worker: said for reply in told for worker, said in reply.items()}
    clocks = tells_clocks(session.settings, session.shell)
    rows = [
        (worker if clocks else worker.partition("@")[0], isinstance(said, Mapping) and "error" not in said, _text(said))
        for worker, said in answers.items()
    ]
    rows += [(name, False, "no answer") for name in names or () if name not in answers]
    columns = ["worker", "ok", "answer"]
    return pd.DataFrame(rows, columns=columns) if rows else Nothing("no worker answers", columns)


def _text(said: Any) -> str:
    return str(next(iter(said.values()), "")) if isinstance(said, Mapping) else "" if said is None else str(said)


def _arguments(command: str, words: list[str]) -> dict[str, Any]:
    takes = COMMANDS_TO_WORKERS[command]
    required = takes.index(None) if None in takes else len(takes)
    known = [one for one in takes if one is not None]
    rest = bool(known) and known[-1][0].endswith(_MORE)
    if len(words) < required or (len(words) > len(known) and not rest):
        usage = " ".join([name.upper() if at < required else f"[{name.upper()}]" for at, (name, _) in enumerate(known)])
        said = repr(" ".join(words)) if words else "nothing"
        raise CellError(f"%canvas control {command} takes {usage or 'no arguments'}, and there is {said}")
    found: dict[str, Any] = {}
    if rest:
        (name, make), words, left = known.pop(), words[: len(known)], words[len(known) :]
        try:
            several = [make(word) for word in left]
        except ArgumentTypeError as error:
            raise CellError(f"%canvas control {command}: {error}") from None
        found[name.removesuffix(_MORE)] = stamps_of(several) if make is key_value else several
    for (name, make), word in zip(known, words, strict=False):
        try:
            found[name] = make(word)
        except ValueError:
            raise CellError(f"%canvas control {command}: {name} is a number, and not {word!r}") from None
    return found


def shipped_(session: Session, words: list[str]) -> pd.DataFrame:
    """``shipped``: what goes along with each task that is sent by value, a row each."""
    import pandas as pd

    if words:
        raise CellError(f"%canvas shipped takes nothing behind it, and there is {' '.join(words)!r}")
    shipping = current_app().shipping
    if shipping is None:
        raise CellError("no task is sent by value; %canvas connect … --ship does that")
    columns = ["task", "takes along", "type", "bytes", "note"]
    rows = []
    for cargo in shipping.cargo():
        rows.append((cargo.task, "", "", cargo.size, f"version {cargo.version}"))
        rows += [(cargo.task, one.name, one.kind, one.size, one.warning) for one in cargo.names]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"bytes": "Int64"})
