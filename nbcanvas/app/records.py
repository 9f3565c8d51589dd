"""What is recorded of how a call ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.plan import (
    Chain,
    Failed,
    Fan,
    Ignored,
    Message,
    Next,
    Node,
    Outcome,
    Rejected,
    Replaced,
    Retried,
    Revoked,
    Skip,
    Value,
)

__all__ = ["record_of", "skipped", "with_bodies"]


def record_of(  # noqa: PLR0911 - one for each kind of outcome
    message: Message,
    outcome: Outcome,
    worker: str,
    children: Sequence[Any],
    now: float,
    *,
    keep: bool = True,
    own: Record | None = None,
) -> Record:
    """Return the record of an attempt that has ended.

    Parameters
    ----------
    message, outcome
        What was worked on, and how that ended.
    worker
        Who worked.
    children
        What the task started.
    now
        Seconds since the epoch.
    keep
        Whether the value is kept.
    own
        What an ignored task stored about itself.
    """
    rest = (children, now, message.attempt, message.call, message.parent_id, message.retries, worker, message.given)
    if type(outcome) is Value:
        return Record(states.SUCCESS, outcome.payload if keep else None, None, None, *rest)
    if isinstance(outcome, Failed):
        failed = Record(states.FAILURE, None, outcome.exc, outcome.traceback, *rest)
        failed.message = message
        return failed
    if isinstance(outcome, Revoked):
        return Record(states.REVOKED, None, outcome.exc, None, *rest)
    if isinstance(outcome, Retried):
        return Record(states.RETRY, None, outcome.exc, outcome.traceback, children, None, *rest[2:])
    if isinstance(outcome, Replaced):
        return Record(states.PENDING, None, None, None, children, None, *rest[2:])
    if isinstance(outcome, Rejected):
        return Record(states.REJECTED, None, None, None, *rest)
    if isinstance(outcome, Ignored) and own is not None and own.state in states.READY_STATES:
        return Record(own.state, own.payload, own.exc, own.traceback, *rest)  # the task said itself how it ended
    return Record(states.IGNORED, own.payload if own is not None else None, None, None, *rest)


def skipped(skip: Skip, now: float) -> Record:
    """Return the record of a call that ends without running."""
    call, exit_ = skip
    state = states.FAILURE if isinstance(exit_, Failed) else states.REVOKED
    return Record(state, None, exit_.exc, exit_.traceback, (), now, call.nesting << 20, call)


def with_bodies(message: Message, children: Sequence[Node]) -> Sequence[Node]:
    """Give a barrier among a task's children its body: as a child, a chord is the result of its body."""
    then = message.then
    if isinstance(then, Next) and children and isinstance(children[-1], Fan) and isinstance(then.behind, Next):
        return [*children[:-1], Chain((children[-1], then.behind.step))]
    return children
