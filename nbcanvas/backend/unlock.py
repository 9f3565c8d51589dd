"""Barriers where nobody counts slots: a task looks again and again whether all results are there (PROTOCOL, section 4).

The message is Celery's ``celery.chord_unlock``, which Celery's workers run as well as ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any, Final

from nbcanvas.errors import TaskRevokedError
from nbcanvas.ids import new_id
from nbcanvas.plan.model import (
    Call,
    Chain,
    Exit,
    Failed,
    Gathered,
    Join,
    Message,
    Next,
    Node,
    Payload,
    Revoked,
    Value,
)
from nbcanvas.protocol.payload import Held, unpack_args
from nbcanvas.protocol.signatures import Writer
from nbcanvas.states import FAILURE, SUCCESS

from .port import Record, Tree

__all__ = ["UNLOCK", "exits_of", "leaves", "unlocks"]

UNLOCK: Final = "celery.chord_unlock"
#: Seconds before it looks for the first time.
_FIRST: Final = 1.0
#: Options of a body that say where its unlocking goes.
_ROUTING: Final = ("queue", "priority", "exchange", "exchange_type", "routing_key")


def unlocks(joins: Sequence[Join]) -> list[Message]:
    """Return a message for each barrier, to be sent behind those of its members."""
    return [_unlock(join) for join in joins]


def _unlock(join: Join) -> Message:
    now = time()
    body = Writer(_arguments, lambda args, kwargs: Held((args, kwargs))).body(join)
    first = join.then.step if isinstance(join.then, Next) else None
    routed = first.options if isinstance(first, Call) else {}
    options = {name: routed[name] for name in _ROUTING if routed.get(name) is not None}
    args = (join.id, body)
    kwargs = {"result": [((_end_of(member), None), None) for member in join.fan.members]}
    call = Call(new_id(), UNLOCK, Held((args, kwargs)), options={**options, "ignore_result": True})
    return Message(call, (), None, call.id, None, now, due=now + _FIRST)


def _arguments(payload: Payload) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = unpack_args(payload)
    return list(args), dict(kwargs)


def _end_of(node: Node) -> str:
    """Return the id that a member of a barrier ends in; a group that ends one hands its list on under its own."""
    while isinstance(node, Chain):
        node = node.steps[-1]
    return node.id


# -- the other side: what such a task finds ----------------------------------------------------------------------------


def leaves(tree: Tree) -> list[str]:
    """Return the ids of the tasks in a result tree, in order."""
    found: list[str] = []
    todo: list[Any] = [tree]
    while todo:
        (task_id, _), members = todo.pop()
        if members is None:
            found.append(task_id)
        else:
            todo += reversed(members)
    return found


def exits_of(trees: Sequence[Tree], records: Mapping[str, Record]) -> list[tuple[Exit, str]]:
    """Return how each of the results ended, all of whose tasks have: of a group as its first failure, or its values."""
    found: list[tuple[Exit, str]] = []
    for tree in trees:
        task_ids = leaves(tree)
        bad = next((one for one in task_ids if records[one].state != SUCCESS), None)
        found.append((Value(_value(tree, records)), tree[0][0]) if bad is None else (_end(records[bad]), bad))
    return found


def _end(record: Record) -> Exit:
    exc = record.exc
    if record.state == FAILURE and exc is not None:
        return Failed(exc, record.traceback)
    return Revoked(exc or TaskRevokedError(f"it ended as {record.state}"))


def _value(tree: Tree, records: Mapping[str, Record]) -> Payload:
    (task_id, _), members = tree
    if members is None:
        return records[task_id].payload
    return Gathered(_value(member, records) for member in members)
