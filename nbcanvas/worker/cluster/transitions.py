"""What a worked-on message causes, as steps of the ledger: `plan.advance` and `plan.release` with Celery's records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbcanvas import states
from nbcanvas.app.records import record_of, skipped
from nbcanvas.backend.port import Record
from nbcanvas.errors import Reject, TaskRevokedError
from nbcanvas.ledger.port import Delivery, Filled, Step
from nbcanvas.plan import (
    Arrival,
    Errback,
    Failed,
    Ignored,
    Join,
    Message,
    Outcome,
    Rejected,
    Revoked,
    Transition,
    Value,
    advance,
    release,
    start,
)

__all__ = ["ended", "outcome_of", "released"]

#: Calls an errback in this process, and says how that ended; None when it is to be sent as a task.
Tell = Callable[[Errback, str], Record | None]


def ended(
    delivery: Delivery | None,
    message: Message,
    outcome: Outcome,
    now: float,
    *,
    tell: Tell,
    worker: str = "",
    children: Sequence[Any] = (),
    keep: bool = True,
    own: Record | None = None,
    holds: bool = False,
    priority: int | None = None,
    began: float | None = None,
) -> list[Step]:
    """Return the steps of a message that was worked on.

    Parameters
    ----------
    delivery, message, outcome, now
        What was worked on, how that ended, and when.
    tell
        See `Tell`.
    worker
        Who worked.
    children
        Results of what the task started by itself.
    keep
        Whether the result is kept.
    own
        What an ignored task stored about itself.
    holds
        Whether the message stays unacknowledged when all of it is done: it goes elsewhere.
    priority
        Of what is sent and names none itself; None for the one it has anyway.
    began
        When the task began to run.

    Returns
    -------
    list of Step
        One; more when it fills slots of several barriers.
    """
    transition = advance(message, outcome, now)
    if children or transition.children:
        children = [*children, *transition.children]
    # What rejects its message never runs again: whoever waits for it has to hear so, as Celery (5.7) has it.
    kept: Outcome = Failed(Reject(outcome.reason)) if isinstance(outcome, Rejected) else outcome
    record = record_of(message, kept, worker, children, now, keep=keep, own=own)
    if not (transition.send or transition.arrivals or transition.skips or transition.errbacks):
        return [Step(delivery, message, message.call.id, record, keeps=holds, quiet=not keep, began=began)]
    rest = _parts(transition, message.root_id, now, tell, priority)
    step = Step(
        delivery,
        message,
        message.call.id,
        record,
        rest.skips,
        rest.opens,
        rest.sends,
        rest.arrivals[:1],
        keeps=holds or len(rest.arrivals) > 1,
        quiet=not keep,
        began=began,
    )
    return [step, *_more(delivery, message, rest.arrivals[1:], holds=holds)]


def released(
    delivery: Delivery | None,
    message: Message | None,
    filled: Filled,
    now: float,
    *,
    tell: Tell,
    holds: bool = False,
    priority: int | None = None,
) -> list[Step]:
    """Return the steps that dispatch a full barrier, in the name of the delivery that filled it.

    Parameters
    ----------
    delivery, message
        What filled it.
    filled
        The barrier, and what is in its slots.
    now, tell, holds, priority
        As for `ended`.
    """
    root_id, parent_id = ("", None) if message is None else (message.root_id, message.call.id)
    rest = _parts(release(filled.join, filled.exits, root_id, parent_id, now), root_id, now, tell, priority)
    step = Step(
        delivery,
        message,
        None,
        None,
        rest.skips,
        rest.opens,
        rest.sends,
        rest.arrivals[:1],
        dispatches=filled.join,
        keeps=holds or len(rest.arrivals) > 1,
    )
    return [step, *_more(delivery, message, rest.arrivals[1:], holds=holds)]


def outcome_of(record: Record) -> Outcome:
    """Return the outcome that a task must have had whose record this is."""
    if record.state == states.SUCCESS:
        return Value(record.payload)
    if record.state == states.REVOKED:
        return Revoked(record.exc or TaskRevokedError("revoked"))
    if record.state == states.FAILURE:
        return Failed(record.exc or RuntimeError("unknown"), record.traceback)
    return Ignored(record.state)


class _Parts:
    """A transition and what its errbacks cause, collected."""

    def __init__(self) -> None:
        self.skips: list[tuple[str, Record]] = []
        self.opens: list[Join] = []
        self.sends: list[Message] = []
        self.arrivals: list[Arrival] = []

    def add(self, part: Transition) -> None:
        self.opens += part.opens
        self.sends += part.send
        self.arrivals += part.arrivals


def _parts(transition: Transition, root_id: str, now: float, tell: Tell, priority: int | None) -> _Parts:
    parts = _Parts()
    parts.skips += [(skip.call.id, skipped(skip, now)) for skip in transition.skips]
    for errback in transition.errbacks:
        told = tell(errback, root_id)
        if told is None:
            parts.add(start(errback.node, (errback.call.id,), None, root_id, errback.call.id, now))
        elif told.call is not None:
            parts.skips.append((told.call.id, told))
    parts.add(transition)
    if priority is not None:
        parts.sends = [_ranked(message, priority) for message in parts.sends]
    return parts


def _ranked(message: Message, priority: int) -> Message:
    """Return a message with a priority, unless it has one."""
    if "priority" not in message.call.options:
        message.call = message.call.with_options({"priority": priority})
    return message


def _more(
    delivery: Delivery | None, message: Message | None, arrivals: Sequence[Arrival], *, holds: bool
) -> list[Step]:
    """Return a step for each arrival behind the first: an answer has room for one barrier."""
    last = len(arrivals) - 1
    return [
        Step(delivery, message, None, arrivals=(arrival,), keeps=holds or number < last)
        for number, arrival in enumerate(arrivals)
    ]
