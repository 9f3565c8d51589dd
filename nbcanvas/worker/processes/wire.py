"""Messages and outcomes as plain data: what the kernel and a child say to each other.

A frame is a pickled tuple that starts with its kind.  Whatever comes from a user travels packed inside it, so that
reading a frame runs no code but ours.

=============== =====================================================================================
kernel says
``set``         surroundings that changed: directory, import path, settings, names of ``__main__``, whether there is a
                cluster, modules to import
``run``         a task's name, version and (the first time) code; the message; the slot's name
``reply``       number, whether it went well, the packed value or exception
``ended``       a watch's number, a task id, its record
``bye``         end by yourself
child says
``ready``       the child has started
``ask``         number (None: nobody waits for a reply), what, packed arguments
``done``        the outcome, children the task recorded by itself, whether the child wants to be replaced
``refused``     the task's module here is missing or another version: send it by value
``spoilt``      the shipment could not be opened; how the task failed
``stale``       modules on disk changed: start another child
=============== =====================================================================================
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from nbcanvas.backend.port import Record
from nbcanvas.errors import RemoteError, TaskRevokedError
from nbcanvas.plan import Call, Failed, Ignored, Message, Node, Outcome, Rejected, Replaced, Retried, Revoked, Value
from nbcanvas.protocol.payload import Held, Packed, pack, unpack
from nbcanvas.worker.execute import portable

__all__ = [
    "call_to_data",
    "data_to_message",
    "data_to_outcome",
    "data_to_record",
    "exception_from",
    "exception_to",
    "message_to_data",
    "outcome_to_data",
    "record_to_data",
]

Data = tuple[Any, ...]


def call_to_data(call: Call) -> Data:
    """Return a call without what hangs on it: links and errbacks are the kernel's business."""
    return (
        call.id,
        call.task,
        _closed(call.payload),
        call.immutable,
        pack(dict(call.options)) if call.options else None,
        pack(dict(call.stamps)) if call.stamps else None,
        call.group_id,
        call.index,
        call.version,
        call.nesting,
    )


def _closed(payload: Any) -> Any:
    """Return a payload in which nothing of a user's lies open."""
    return Packed.of(payload.value) if type(payload) is Held else payload


def _call(data: Data) -> Call:
    call_id, task, payload, immutable, options, stamps, *rest = data
    return Call(call_id, task, payload, immutable, unpack(options) or {}, (), (), unpack(stamps), *rest)


def message_to_data(message: Message) -> Data:
    """Return a message without what is behind it, which may be ten thousand steps."""
    return (
        call_to_data(message.call),
        tuple(map(_closed, message.given)),
        message.root_id,
        message.parent_id,
        message.sent,
        message.due,
        message.expires,
        message.retries,
        message.payload,
    )


def data_to_message(data: Data) -> Message:
    """Return the message a child works on."""
    call, given, root_id, parent_id, *rest = data
    return Message(_call(call), given, None, root_id, parent_id, *rest)


def record_to_data(record: Record | None) -> Data | None:
    """Return a record as a child may see it."""
    if record is None:
        return None
    return (
        record.state,
        record.payload,
        exception_to(record.exc),
        record.traceback,
        pack(list(record.children)),
        record.done,
        record.settled,
        None if record.call is None else call_to_data(record.call),
        record.parent_id,
        record.retries,
        record.worker,
    )


def data_to_record(data: Data | None) -> Record | None:
    """Return the record a child reads."""
    if data is None:
        return None
    state, payload, exc, traceback, children, done, settled, call, *rest = data
    return Record(
        state,
        payload,
        exception_from(exc),
        traceback,
        unpack(children),
        done,
        settled,
        None if call is None else _call(call),
        *rest,
    )


def exception_to(exc: BaseException | None) -> bytes | None:
    """Pickle an exception, or what stands for it when it cannot travel."""
    return None if exc is None else pickle.dumps(portable(exc), 5)


def exception_from(data: bytes | None) -> BaseException | None:
    """Return an exception; one whose class is not known on this side is a RemoteError."""
    if data is None:
        return None
    try:
        exc = pickle.loads(data)  # noqa: S301 - from our own child, or from the kernel that started us
    except Exception as error:  # noqa: BLE001 - constructors may raise anything
        return RemoteError("Exception", f"an exception that cannot be rebuilt here ({type(error).__name__}: {error})")
    return exc if isinstance(exc, BaseException) else RemoteError("Exception", exc)


def outcome_to_data(outcome: Outcome) -> Data:  # noqa: PLR0911 - a row each
    """Return how a task ended, as a child says it."""
    if isinstance(outcome, Value):
        return "value", outcome.payload
    if isinstance(outcome, Failed):
        return "failed", exception_to(outcome.exc), outcome.traceback
    if isinstance(outcome, Retried):
        return (
            "retried",
            exception_to(outcome.exc),
            outcome.traceback,
            outcome.due,
            outcome.payload,
            pack(dict(outcome.options)),
        )
    if isinstance(outcome, Replaced):
        return "replaced", pack(outcome.node)  # still a signature: the kernel freezes it
    if isinstance(outcome, Rejected):
        return "rejected", outcome.reason, outcome.requeue
    if isinstance(outcome, Ignored):
        return "ignored", outcome.reason
    return "revoked", str(outcome.exc)


def data_to_outcome(data: Data, replace: Callable[[Any], Node]) -> Outcome:
    """Return how a task ended; `replace` freezes the signature that replaces it."""
    kind, *rest = data
    if kind == "value":
        return Value(rest[0])
    if kind == "failed":
        return Failed(exception_from(rest[0]) or RemoteError(), rest[1])
    if kind == "retried":
        exc, text, due, payload, options = rest
        return Retried(exception_from(exc) or RemoteError(), text, due, payload, unpack(options))
    if kind == "replaced":
        return Replaced(replace(unpack(rest[0])))
    if kind == "rejected":
        return Rejected(rest[0], requeue=rest[1])
    return Ignored(rest[0]) if kind == "ignored" else Revoked(TaskRevokedError(rest[0]), terminated=True)
