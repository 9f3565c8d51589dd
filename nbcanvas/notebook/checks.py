"""What can be known to be wrong with a canvas before any of it is sent."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nbcanvas.canvas import Signature
from nbcanvas.errors import CanvasError, InvalidTaskError, NBCanvasError, NotRegistered, NotSerializable
from nbcanvas.plan import Call, Chain, Fan, Node, places
from nbcanvas.protocol.payload import pack, pack_args, size_of, unpack_args
from nbcanvas.result import AsyncResult
from nbcanvas.worker.slots import pool_name

from .errors import nearest

__all__ = ["Problem", "call_text", "leading", "path_of", "problems", "refuse_unknown_or_wrong"]

#: A message larger than this is worth a word.
LARGE = 1_000_000
#: What Celery's JSON can write besides plain JSON.
_PORTABLE = (dt.datetime, dt.date, dt.time, decimal.Decimal, uuid.UUID, bytes, AsyncResult)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
#: As many problems of one kind are listed; the rest are counted.
MOST = 8


class Problem(NamedTuple):
    """One thing that is wrong, or worth knowing.

    Attributes
    ----------
    severity
        ``"error"``: it will fail; ``"note"``: it runs here, and would not everywhere.
    path
        Where, an empty string for the whole canvas.
    text
        What, one sentence.
    error
        The exception that running it raises, if it is an error.
    """

    severity: str
    path: str
    text: str
    error: NBCanvasError | None = None

    def __str__(self) -> str:
        mark = "✗" if self.severity == "error" else "·"
        return f"{mark} {self.path}: {self.text}" if self.path else f"{mark} {self.text}"


def refuse_unknown_or_wrong(sig: Signature, app: Any) -> None:
    """Raise what would go wrong as soon as the canvas, or a later step of it, runs.

    Raises
    ------
    NotRegistered
        For a task nobody defined, with the nearest one.
    InvalidTaskError
        For a call that does not fit its task, naming the node.
    NotSerializable
        For an argument that would not travel.
    CanvasError
        When the canvas cannot mean anything.
    """
    root, stuck = _look(sig, app)
    for problem in (*stuck, *_errors(root, app)):
        if problem.error is not None:
            raise problem.error


def problems(sig: Signature, app: Any) -> tuple[Node | None, list[Problem]]:
    """Return a canvas frozen, and everything that is wrong with it, errors first.

    Parameters
    ----------
    sig
        The canvas; it is neither run nor changed.
    app
        The app that would run it.

    Returns
    -------
    Node or None
        The canvas, with a stand-in for what cannot travel; None when it cannot mean anything.
    list of Problem
        Empty when there is nothing to say.
    """
    try:
        root, stuck = _look(sig, app)
    except CanvasError as error:
        return None, [Problem("error", "", str(error), error)]
    found = _few(stuck)
    found += _few(_errors(root, app))
    found += _few(_of_the_pool(root, app))
    found += _few(_of_the_workers(root, app))
    found += _few(_bound_to_this_process(root))
    sizes = [(size_of(call.payload), call) for call, _ in _calls(root)]
    large = [(size, call) for size, call in sizes if size > LARGE]
    found += _few(Problem("note", path_of(root, call), f"its message takes {_bytes(size)}") for size, call in large)
    found += _few(_barriers_without_results(root, app))
    return root, found


class _StandIn:
    """Stands for an argument that cannot travel, and looks like it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _text(value: Any) -> str:
    try:
        return _ADDRESS.sub("", repr(value))
    except Exception:  # noqa: BLE001 - a broken repr must not hide the real problem
        return f"<{type(value).__qualname__}>"


def _look(sig: Signature, app: Any) -> tuple[Node, list[Problem]]:
    """Freeze a canvas only to look at it; arguments that cannot travel become problems, and are stood in for."""
    try:
        return app.look(sig), []
    except NotSerializable:
        pass
    refused: dict[int, list[NotSerializable]] = {}

    def packed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        errors: list[NotSerializable] = []

        def stand_in(name: Any, value: Any) -> Any:
            try:
                pack(value)
            except NotSerializable as error:
                errors.append(NotSerializable(f"argument {name}: {error}"))
                return _StandIn(_text(value))
            return value

        own = tuple(stand_in(at, value) for at, value in enumerate(args, 1))
        payload = pack_args(own, {name: stand_in(name, value) for name, value in kwargs.items()})
        if errors:
            refused[id(payload)] = errors  # the call keeps it, so its id stays its own
        return payload

    root = app.look(sig, packed)
    found = []
    for call, _ in _calls(root):
        for error in refused.get(id(call.payload), ()):
            path = path_of(root, call)
            found.append(
                Problem("error", path, str(error), NotSerializable(f"{path}: {error}" if path else str(error)))
            )
    return root, found


def _few(found: Iterable[Problem]) -> list[Problem]:
    listed = list(found)
    if len(listed) <= MOST:
        return listed
    return [*listed[:MOST], Problem(listed[0].severity, "", f"and {len(listed) - MOST} more of the kind")]


def _errors(root: Node, app: Any) -> Iterator[Problem]:
    """Yield unknown tasks (each name once) and calls that do not fit."""
    unknown: set[str] = set()
    fitting: set[Any] = set()
    for call, given in _calls(root):
        task = app.tasks.get(call.task)
        if task is None:
            if call.task not in unknown and not app.remote:  # there the workers are asked
                unknown.add(call.task)
                yield _unknown(root, call, app)
            continue
        if given is None or not getattr(task, "typing", True):
            continue
        args, kwargs = unpack_args(call.payload)
        count = len(args) + (0 if call.immutable else given)
        shape = (call.task, count, *kwargs)
        if shape in fitting:
            continue
        try:
            task.check((*(None,) * (count - len(args)), *args), kwargs)
        except InvalidTaskError as error:
            path = path_of(root, call)
            why = f"{error}" + (
                " (the value of what comes before it is its first argument)" if count > len(args) else ""
            )
            at = f"{path}: " if path else ""
            yield Problem("error", path, why, InvalidTaskError(f"{at}{why}"))
        else:
            fitting.add(shape)


def _unknown(root: Node, call: Call, app: Any) -> Problem:
    near = nearest(call.task, app.tasks) or nearest(call.task.rpartition(".")[2], app.tasks)
    out = "define it in a cell, or pass --app"
    error = NotRegistered(call.task, f"did you mean {near!r}? If not, {out}" if near else out)
    return Problem("error", path_of(root, call), str(error), error)


def _of_the_workers(root: Node, app: Any) -> Iterator[Problem]:
    """Yield what the workers of a cluster say of its tasks."""
    if not app.remote:
        return
    try:
        told = app.fleet.check((call for call, _ in _calls(root)), again=True)
    except NotRegistered as error:
        yield Problem("error", "", str(error), error)
    else:
        yield from (Problem("note", "", said) for said in told)


def _of_the_pool(root: Node, app: Any) -> Iterator[Problem]:
    """Yield the tasks that cannot be sent to a process, where that is what runs them."""
    if app.remote or pool_name(app.worker.pool if app.worker is not None else app.conf.worker_pool) != "processes":
        return
    first = {(call.task, call.version): call for call, _ in reversed(list(_calls(root)))}
    for (name, version), call in reversed(first.items()):
        task = app.tasks.find(name, version)
        try:
            if task is not None:
                app.pack_task(task)
        except NotSerializable as error:
            yield Problem("error", path_of(root, call), str(error), error)


def _bound_to_this_process(root: Node) -> Iterator[Problem]:
    """Yield arguments that JSON, the language of a cluster, cannot say; each kind once."""
    said: set[tuple[str, Any, str]] = set()
    for call, _ in _calls(root):
        if type(call.payload) is tuple and all(
            type(value) in {int, str, float, bool, type(None)} for value in call.payload
        ):
            continue
        args, kwargs = unpack_args(call.payload)
        for name, value in (*enumerate(args, 1), *kwargs.items()):
            kind = (call.task, name, type(value).__qualname__)
            if kind not in said and not isinstance(value, _StandIn) and not _is_json(value):
                said.add(kind)
                yield Problem(
                    "note", path_of(root, call), f"argument {name} ({kind[2]}) would not travel to a cluster as JSON"
                )


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, default=_portable)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _portable(value: Any) -> Any:
    """Stand in for what is said as something else."""
    if isinstance(value, _PORTABLE):
        return str(value)
    raise TypeError(type(value).__name__)


def _barriers_without_results(root: Node, app: Any) -> Iterator[Problem]:
    """Yield the header tasks whose results a chord would wait for and never see on a cluster."""
    for fan, collected in _fans(root):
        if not collected:
            continue
        names = {_last_call(member).task for member in fan.members}
        for name in sorted(names):
            task = app.tasks.get(name)
            if task is not None and task.ignore_result:
                yield Problem(
                    "note",
                    "",
                    f"{name} ignores its result, and a chord waits for it: on a cluster its body would never run",
                )


def _fans(root: Node) -> Iterator[tuple[Fan, bool]]:
    """Yield each group, and whether something stands behind it that takes its values."""
    todo: list[tuple[Node, bool]] = [(root, False)]
    while todo:
        node, collected = todo.pop()
        if isinstance(node, Fan):
            yield node, collected
            todo += [(member, collected) for member in node.members]
        elif isinstance(node, Chain):
            last = len(node.steps) - 1
            todo += [(step, collected or at < last) for at, step in enumerate(node.steps)]


def _last_call(node: Node) -> Call:
    while not isinstance(node, Call):
        node = node.steps[-1] if isinstance(node, Chain) else node.members[-1]
    return node


def _calls(root: Node) -> Iterator[tuple[Call, int | None]]:
    """Yield each call and how many values it is given by what stands before it; None when that varies."""
    todo: list[tuple[Node, int | None]] = [(root, 0)]
    while todo:
        node, given = todo.pop()
        if isinstance(node, Call):
            yield node, given
            todo += [(link, 1) for link in reversed(node.links)]
            todo += [(errback, None) for errback in reversed(node.errbacks)]
        elif isinstance(node, Chain):
            todo += [(step, 1 if at else given) for at, step in reversed(list(enumerate(node.steps)))]
        else:
            todo += [(member, given) for member in reversed(node.members)]


def leading(root: Node) -> dict[str, bool]:
    """Return, by id, which calls are given a value by what stands before them."""
    return {call.id: bool(given) and not call.immutable for call, given in _calls(root)}


def path_of(root: Node, call: Call) -> str:
    """Return where a call stands; an empty string for a canvas of one call."""
    return next((place.path for place in places(root) if place.call is call), "")


def call_text(call: Call, led: bool = False) -> str:
    """Return a call as a person would write it, with an ellipsis for a value it is given."""
    import reprlib

    args, kwargs = unpack_args(call.payload)
    said = ["…"] if led else []
    said += [reprlib.repr(value) for value in args]
    said += [f"{name}={reprlib.repr(value)}" for name, value in kwargs.items()]
    return f"{call.task.rpartition('.')[2]}({', '.join(said)})"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
