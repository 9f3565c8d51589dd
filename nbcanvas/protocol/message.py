"""Task messages of Celery's protocol 2 (PROTOCOL: "Task message, protocol 2").

`decode` reads one, whoever wrote it; `nbcanvas.broker.post` writes them.  A body is ``[args, kwargs, embed]``; what was
given by earlier tasks stands in front of the call's own arguments.  Protocol 1 (``task_protocol = 1``, Celery 3), where
the body is an object that has everything, is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nbcanvas.errors import CanvasError, InvalidTaskError
from nbcanvas.plan.model import Call, Message, Next, Slot
from nbcanvas.plan.times import due_time, expiry_time, moment

from .payload import Held
from .signatures import ACCUMULATE, CONTINUE, Reader

__all__ = ["HEADERS", "decode"]

_NOTHING: Final[Mapping[str, Any]] = {}
#: Headers with a meaning of their own; any other is the user's.
HEADERS: Final = frozenset(
    {
        "lang",
        "task",
        "id",
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "compression",
    }
)


def decode(
    headers: Mapping[str, Any],
    body: Any,
    *,
    reader: Reader,
    now: float,
    properties: Mapping[str, Any] | None = None,
) -> Message:
    """Read a message.

    Parameters
    ----------
    headers, body, properties
        As they came.
    reader
        Reads what follows the call.
    now
        Seconds since the epoch.

    Raises
    ------
    InvalidTaskError
        When they cannot be understood, saying what is wrong.
    """
    try:
        return _decoded(headers, body, reader, now, properties or {})
    except InvalidTaskError:
        raise
    except (CanvasError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError) as error:
        msg = f"a task message that cannot be understood ({type(error).__name__}: {error})"
        raise InvalidTaskError(msg) from error
    except RecursionError:
        raise InvalidTaskError("a task message whose canvas is nested too deeply") from None


def _decoded(
    headers: Mapping[str, Any], body: Any, reader: Reader, now: float, properties: Mapping[str, Any]
) -> Message:
    if "task" not in headers:
        headers, body = _of_protocol_1(headers, body)
    task, task_id = headers["task"], headers["id"]
    args, kwargs, embed = body
    if not isinstance(task, str) or not isinstance(task_id, str):
        raise InvalidTaskError(f"task and id have to be texts, not {task!r:.40} and {task_id!r:.40}")
    if (
        not isinstance(args, list | tuple)
        or not isinstance(kwargs, dict)
        or not all(isinstance(k, str) for k in kwargs)
    ):
        raise InvalidTaskError(
            f"arguments have to be a list and an object with names, not {args!r:.40} and {kwargs!r:.40}"
        )
    root_id, parent_id, group_id = headers.get("root_id"), headers.get("parent_id"), headers.get("group")
    for name, found in (("root_id", root_id), ("parent_id", parent_id), ("group", group_id)):
        if found is not None and not isinstance(found, str):
            raise InvalidTaskError(f"{name} has to be a text, not {found!r:.40}")
    due, expires = moment("eta", headers.get("eta")), moment("expires", headers.get("expires"))
    if task == CONTINUE:
        return _continued(reader, task_id, args, kwargs, root_id or task_id, parent_id, now)
    embed = embed or _NOTHING
    index = headers.get("group_index")
    call = Call(
        task_id,
        task,
        reader.pack(tuple(args), kwargs),
        False,
        _options(headers, properties),
        reader.nodes(embed.get("callbacks")),
        reader.nodes(embed.get("errbacks")),
        _stamps(headers),
        group_id,
        None if index is None else int(index),
        reader.versions.get(task, ""),
        int(headers.get("replaced_task_nesting") or 0),
    )
    then = reader.then(embed.get("chain"), embed.get("chord"), group_id, index)
    retries = int(headers.get("retries") or 0)
    return Message(call, (), then, root_id or task_id, parent_id, now, due, expires, retries)


def _of_protocol_1(headers: Mapping[str, Any], body: Any) -> tuple[Mapping[str, Any], Any]:
    """Return headers and body of protocol 2 that say what a body of protocol 1 says."""
    if not isinstance(body, dict) or "task" not in body or "id" not in body:
        raise InvalidTaskError("a message without the header task, and whose body is none of protocol 1 either")
    said = {name: body[name] for name in ("task", "id", "retries", "eta", "expires", "timelimit") if name in body}
    embed = {name: body.get(name) for name in ("callbacks", "errbacks", "chord")}
    group = body.get("group") or body.get("taskset")
    return {**headers, **said, "group": group}, (body.get("args") or [], body.get("kwargs") or {}, embed)


def _continued(
    reader: Reader, task_id: str, args: Any, named: Any, root_id: str, parent_id: str | None, now: float
) -> Message:
    """Return the message of the call that a reference stands for; a group, or a slot, is begun by one that hands on."""
    given = tuple(Held(value) for value in args)
    then: Next | Slot = reader.place(named)
    if isinstance(then, Slot) and named.get("position") is None:
        then = then.join.then
    if isinstance(then, Next) and isinstance(then.step, Call):
        call, options = then.step, then.step.options
        return Message(
            call, given, then.behind, root_id, parent_id, now, due_time(options, now), expiry_time(options, now)
        )
    hands_on = Call(task_id, ACCUMULATE, reader.pack((), {"index": 0}))
    return Message(hands_on, given, then, root_id, parent_id, now)


def _options(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what headers say of how to run a call, under the client's names."""
    hard, soft = headers.get("timelimit") or (None, None)
    if not all(limit is None or isinstance(limit, int | float) for limit in (hard, soft)):
        raise InvalidTaskError(f"timelimit has to be two numbers, not {hard!r:.40} and {soft!r:.40}")
    found = {
        "time_limit": hard,
        "soft_time_limit": soft,
        "shadow": headers.get("shadow"),
        "ignore_result": headers.get("ignore_result") or None,  # a False may matter: see `worker.cluster.intake`
        "headers": {name: value for name, value in headers.items() if name not in HEADERS} or None,
        "priority": properties.get("priority") or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _stamps(headers: Mapping[str, Any]) -> dict[str, Any] | None:
    names, values = headers.get("stamped_headers"), headers.get("stamps") or {}
    return {name: values.get(name) for name in names} if names else None
