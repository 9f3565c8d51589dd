"""Task messages of Celery's protocol 2 (PROTOCOL: "Task message, protocol 2").

`encode` writes a message of the plan as headers, body and properties; `decode` reads one back, whoever wrote it.
A body is ``[args, kwargs, embed]``; what was given by earlier tasks stands in front of the call's own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from nbcanvas.errors import CanvasError, InvalidTaskError
from nbcanvas.ids import IdSource
from nbcanvas.plan.freezing import Packer
from nbcanvas.plan.model import Call, Message, Payload, Slot
from nbcanvas.plan.times import moment

from .signatures import Arguments, Reader, Writer

__all__ = ["Draft", "decode", "encode"]

#: Longest text of arguments in ``argsrepr`` and ``kwargsrepr``.
_LONGEST: Final = 1024
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


class Draft(NamedTuple):
    """A task message before it is serialised.

    Attributes
    ----------
    headers, body, properties
        As protocol 2 has them; what the transport adds (tags, routes) is not here.
    """

    headers: dict[str, Any]
    body: list[Any]
    properties: dict[str, Any]


def encode(
    message: Message,
    *,
    arguments: Arguments,
    value_of: Callable[[Payload], Any],
    pack: Packer,
    origin: str,
    reply_to: str | None = None,
    priority: int = 0,
) -> Draft:
    """Write a message.

    Parameters
    ----------
    message
        What to send.
    arguments, value_of, pack
        Unpack a call's arguments and a value; pack arguments.
    origin
        The sender's node name.
    reply_to
        The client's id.
    priority
        0 to 9.
    """
    call, options = message.call, message.call.options
    args, kwargs = arguments(call.payload if message.payload is None else message.payload)
    if message.given and not call.immutable:
        args = (*[value_of(payload) for payload in message.given], *args)
    slot = message.then if isinstance(message.then, Slot) else None  # of what follows, the last call has it
    headers: dict[str, Any] = {
        **(options.get("headers") or {}),
        "lang": "py",
        "task": call.task,
        "id": call.id,
        "shadow": options.get("shadow"),
        "eta": _iso(message.due),
        "expires": _iso(message.expires),
        "group": slot.join.id if slot is not None else call.group_id,
        "group_index": slot.index if slot is not None else call.index,
        "retries": message.retries,
        "timelimit": [options.get("time_limit"), options.get("soft_time_limit")],
        "root_id": message.root_id,
        "parent_id": message.parent_id,
        "argsrepr": _shown(tuple(args)),
        "kwargsrepr": _shown(dict(kwargs)),
        "origin": origin,
        "ignore_result": bool(options.get("ignore_result", False)),
        "replaced_task_nesting": call.nesting,
        "stamped_headers": list(call.stamps) if call.stamps else None,
        "stamps": dict(call.stamps or {}),
    }
    properties: dict[str, Any] = {
        "correlation_id": call.id,
        "delivery_mode": 2,
        "priority": priority,
        **({"reply_to": reply_to} if reply_to is not None else {}),
    }
    if message.expires is not None:
        properties["expiration"] = str(max(int((message.expires - message.sent) * 1000), 0))
    embed = Writer(arguments, pack, reply_to).embed(call, message.then)
    return Draft(headers, [list(args), dict(kwargs), embed], properties)


def decode(
    headers: Mapping[str, Any],
    body: Any,
    *,
    new_id: IdSource,
    pack: Packer,
    versions: Mapping[str, str],
    now: float,
    properties: Mapping[str, Any] | None = None,
) -> Message:
    """Read a message.

    Parameters
    ----------
    headers, body, properties
        As they came.
    new_id, pack, versions
        See `nbcanvas.plan.freeze`.
    now
        Seconds since the epoch.

    Raises
    ------
    InvalidTaskError
        When they cannot be understood, saying what is wrong.
    """
    try:
        return _decoded(headers, body, Reader(new_id, pack, versions), pack, versions, now, properties or {})
    except (CanvasError, InvalidTaskError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        msg = f"a task message that cannot be understood ({type(error).__name__}: {error})"
        raise InvalidTaskError(msg) from error


def _decoded(
    headers: Mapping[str, Any],
    body: Any,
    reader: Reader,
    pack: Packer,
    versions: Mapping[str, str],
    now: float,
    properties: Mapping[str, Any],
) -> Message:
    task, task_id = headers["task"], headers["id"]
    if not isinstance(task, str) or not isinstance(task_id, str):
        msg = f"task and id have to be texts, not {task!r:.40} and {task_id!r:.40}"
        raise InvalidTaskError(msg)
    args, kwargs, embed = body
    if not isinstance(args, Sequence) or isinstance(args, str | bytes) or not isinstance(kwargs, Mapping):
        msg = f"arguments have to be a list and an object, not {args!r:.40} and {kwargs!r:.40}"
        raise InvalidTaskError(msg)
    embed = embed or {}
    retries = int(headers.get("retries") or 0)
    call = Call(
        task_id,
        task,
        pack(tuple(args), dict(kwargs)),
        immutable=False,
        options=_options(headers, properties),
        links=reader.nodes(embed.get("callbacks")),
        errbacks=reader.nodes(embed.get("errbacks")),
        stamps=_stamps(headers),
        group_id=headers.get("group"),
        index=headers.get("group_index"),
        version=versions.get(task, ""),
        nesting=int(headers.get("replaced_task_nesting") or 0),
    )
    return Message(
        call,
        (),
        reader.then(embed.get("chain"), embed.get("chord"), call.group_id, call.index),
        headers.get("root_id") or task_id,
        headers.get("parent_id"),
        now,
        moment("eta", headers.get("eta")),
        moment("expires", headers.get("expires")),
        retries,
    )


def _options(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what headers say of how to run a call, under the client's names."""
    hard, soft = headers.get("timelimit") or (None, None)
    found = {
        "time_limit": hard,
        "soft_time_limit": soft,
        "shadow": headers.get("shadow"),
        "ignore_result": headers.get("ignore_result") or None,
        "headers": {name: value for name, value in headers.items() if name not in HEADERS} or None,
        "priority": properties.get("priority") or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _stamps(headers: Mapping[str, Any]) -> dict[str, Any] | None:
    names, values = headers.get("stamped_headers"), headers.get("stamps") or {}
    return {name: values.get(name) for name in names} if names else None


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def _shown(value: Any) -> str:
    """Return arguments as a text for people who watch, cut."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not keep a task from being sent
        return "<its text cannot be shown>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
