"""The meaning of a canvas: what starts, and what a finished task causes.

Rules of this file
------------------
Pure functions over the values of `nbcanvas.plan.model`.  No IO, no threads, no clock, no randomness: the time
comes in as an argument, ids were pinned when the canvas was frozen.  Nothing here recurses: a canvas may be as
deep or as long as it likes.

Theory of operation
-------------------
`start` turns a frozen node into the messages to send now.  A worker turns a message into an *outcome*, a plain
value.  `advance` looks that outcome up in `DECISIONS`, the one table that knows what a finished task causes, and
answers with a `Transition`: what to record, send, tell and put into slots.  Whoever performs transitions puts
exits into slots; when that fills a barrier, `release` says what the barrier causes.

Each message has an `attempt`; a transition is performed only if none of the same attempt (or a later one) of
that id was performed before.  That, and slots instead of counters, make redelivered messages harmless.

The guide this implements is Celery's "Canvas: Designing Workflows"; where it is silent about an end (a revoked
step, an ignored task), the rule is: *everything that starts also ends, and says why*.  When a barrier fails, the
first call behind it hears (of a group at the end, each member's): its errbacks, and no others, are told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from traceback import format_exception_only
from typing import Any, Final, NamedTuple

from nbcanvas.errors import ChordError, TaskRevokedError

from .graph import calls_of
from .model import (
    Call,
    Chain,
    Exit,
    Failed,
    Fan,
    Gathered,
    Ignored,
    Join,
    Message,
    Next,
    Node,
    Outcome,
    Payload,
    Rejected,
    Replaced,
    Retried,
    Revoked,
    Slot,
    Spread,
    Then,
    Value,
)
from .times import due_time, expiry_time

__all__ = [
    "DECISIONS",
    "Arrival",
    "Decision",
    "Errback",
    "Skip",
    "Transition",
    "advance",
    "decision_table",
    "release",
    "start",
]


class Arrival(NamedTuple):
    """Put `exit` into a slot; `by` is the id of the call that ended there."""

    slot: Slot
    exit: Exit
    by: str


class Skip(NamedTuple):
    """A call that will never run, and how it ends instead."""

    call: Call
    exit: Failed | Revoked


class Errback(NamedTuple):
    """An errback to be told that `call` failed; `message` is the failed message, None when it never ran."""

    node: Node
    call: Call
    exit: Failed
    message: Message | None


class Transition(NamedTuple):
    """What a finished task (or a released barrier) causes.  All of it happens, or none.

    Attributes
    ----------
    send
        Messages to publish.
    arrivals
        Exits to put into slots.
    skips
        Calls to record as ended without running.
    errbacks
        Errbacks to call.
    children
        The nodes this task started by itself, in Celery's order (links, then the next step).
    opens
        Barriers that start to wait: where slots are counted, their sizes are kept before the first message is sent.
    """

    send: Sequence[Message] = ()
    arrivals: Sequence[Arrival] = ()
    skips: Sequence[Skip] = ()
    errbacks: Sequence[Errback] = ()
    children: Sequence[Node] = ()
    opens: Sequence[Join] = ()


NOTHING: Final = Transition()


# -- starting ---------------------------------------------------------------------------------------------------


def start(
    node: Node, given: tuple[Payload, ...], then: Then, root_id: str, parent_id: str | None, now: float
) -> Transition:
    """Start a frozen node.

    Parameters
    ----------
    node
        What to start.
    given
        Payloads for its first calls (a fan hands them to each member).
    then
        What follows it.
    root_id, parent_id
        For the messages' headers.
    now
        Seconds since the epoch; countdowns count from here.

    Returns
    -------
    Transition
        Messages to send; and arrivals, when an empty group stands where a value was waited for.
    """
    send: list[Message] = []
    arrivals: list[Arrival] = []
    opens: list[Join] = []
    todo: deque[tuple[Node, tuple[Payload, ...], Then]] = deque(((node, given, then),))
    while todo:
        node, given, then = todo.popleft()
        if type(node) is Call:
            send.append(_message(node, given, then, root_id, parent_id, now))
        elif isinstance(node, Chain):
            first = Next(node, 0, then)
            todo.appendleft((first.step, given, first.behind))
        elif isinstance(node, Fan):
            _start_fan(node, given, then, todo, send, arrivals, opens, (root_id, parent_id, now))
    return Transition(send, arrivals, opens=opens)


def _start_fan(
    fan: Fan,
    given: tuple[Payload, ...],
    then: Then,
    todo: deque[tuple[Node, tuple[Payload, ...], Then]],
    send: list[Message],
    arrivals: list[Arrival],
    opens: list[Join],
    header: tuple[str, str | None, float],
) -> None:
    members = fan.members
    if then is None:
        slots: Iterable[Slot | Spread | None] = (None,) * len(members)
    elif isinstance(then, Spread):
        slots = then.behind(fan)
    elif members:
        join = Join(fan, then)
        opens.append(join)
        slots = [Slot(join, place) for place in range(len(members))]
    elif isinstance(then, Next):
        todo.appendleft((then.step, (Gathered(),), then.behind))
        return
    else:
        arrivals.append(Arrival(then, Value(Gathered()), fan.id))
        return
    root_id, parent_id, now = header
    deep: list[tuple[Node, tuple[Payload, ...], Then]] = []
    for member, slot in zip(members, slots, strict=True):
        if type(member) is Call and not deep:
            send.append(_message(member, given, slot, root_id, parent_id, now))
        else:
            deep.append((member, given, slot))
    todo.extendleft(reversed(deep))


def _message(
    call: Call, given: tuple[Payload, ...], then: Then, root_id: str, parent_id: str | None, now: float
) -> Message:
    options = call.options
    if not options:
        return Message(call, given, then, root_id, parent_id, now)
    return Message(
        call,
        given,
        then,
        root_id,
        parent_id,
        now,
        due_time(options, now),
        expiry_time(options, now),
        int(options.get("retries") or 0),
    )


# -- what will not run ------------------------------------------------------------------------------------------


def _heads(steps: Sequence[Node]) -> Iterator[Call]:
    """Yield the calls that hear that `steps` cannot start: the first call; of a group at the end, its members'."""
    todo: deque[Sequence[Node]] = deque((steps,))
    while todo:
        steps = todo.popleft()
        head = next((step for step in steps if type(step) is Call), steps[-1])
        if isinstance(head, Fan):
            todo.extendleft([m.steps if isinstance(m, Chain) else (m,) for m in reversed(head.members)])
        elif isinstance(head, Call):
            yield head


def _abandon(then: Then, exit_: Failed | Revoked, by: str) -> tuple[list[Skip], list[Arrival]]:
    """End everything behind what gave no value: its later steps, and the slot behind them (filled by the last step)."""
    skips: list[Skip] = []
    if isinstance(then, Next):
        steps, then = then.rest()
        skips = [Skip(call, exit_) for step in steps for call in calls_of(step)]
        by = skips[-1].call.id if skips else by
        if isinstance(then, Spread):
            return skips, [Arrival(slot, exit_, last) for slot, last in then.slots(steps[-1])]  # type: ignore[arg-type]
    return skips, [Arrival(then, exit_, by)] if isinstance(then, Slot) else []


# -- what outcomes cause ----------------------------------------------------------------------------------------


def _on_value(message: Message, outcome: Value, now: float) -> Transition:
    call, then = message.call, message.then
    if then is None and not call.links:
        return NOTHING
    if type(then) is Slot and not call.links:
        return Transition(arrivals=(Arrival(then, outcome, call.id),))
    given = (outcome.payload,)
    parts = [start(link, given, None, message.root_id, call.id, now) for link in call.links]
    children: list[Node] = list(call.links)
    if isinstance(then, Next):
        children.append(then.step)
        parts.append(start(then.step, given, then.behind, message.root_id, call.id, now))
    elif isinstance(then, Slot):
        parts.append(Transition(arrivals=(Arrival(then, outcome, call.id),)))
    return _merge(parts, children)


def _merge(parts: Sequence[Transition], children: Sequence[Node] = ()) -> Transition:
    if len(parts) == 1:
        return parts[0]._replace(children=children)
    return Transition(
        [m for p in parts for m in p.send],
        [a for p in parts for a in p.arrivals],
        children=children,
        opens=[j for p in parts for j in p.opens],
    )


def _on_failure(message: Message, outcome: Failed, _now: float) -> Transition:
    call = message.call
    skips, arrivals = _abandon(message.then, outcome, call.id)
    return Transition((), arrivals, skips, [Errback(node, call, outcome, message) for node in call.errbacks])


def _on_revoked(message: Message, outcome: Revoked, _now: float) -> Transition:
    skips, arrivals = _abandon(message.then, outcome, message.call.id)
    return Transition((), arrivals, skips)


def _on_retry(message: Message, outcome: Retried, now: float) -> Transition:
    call = message.call
    payload = message.payload if outcome.payload is None else outcome.payload
    if outcome.options:
        call = call.with_options(outcome.options)
    given = message.given if outcome.payload is None else ()
    again = Message(
        call,
        given,
        message.then,
        message.root_id,
        message.parent_id,
        now,
        outcome.due,
        message.expires,
        message.retries + 1,
        payload,
    )
    return Transition((again,))


def _on_replaced(message: Message, outcome: Replaced, now: float) -> Transition:
    started = start(outcome.node, (), message.then, message.root_id, message.call.id, now)
    return started._replace(children=(outcome.node,))


def _on_ignored(message: Message, _outcome: Ignored, now: float) -> Transition:
    return _on_revoked(message, Revoked(TaskRevokedError(f"{message.call.id} was ignored")), now)


def _on_rejected(message: Message, outcome: Rejected, now: float) -> Transition:
    if outcome.requeue:
        return Transition((message,))
    return _on_revoked(message, Revoked(TaskRevokedError(f"{message.call.id} was rejected: {outcome.reason}")), now)


class Decision(NamedTuple):
    """One row of the decision table.

    Attributes
    ----------
    decide
        The function of (message, outcome, now).
    records
        The state recorded for the call itself, or "" for none.
    nothing, chain, slot
        What happens when nothing, a next step, or a slot of a barrier is behind the call, in words.
    links
        What becomes of links and errbacks, in words.
    """

    decide: Callable[[Message, Any, float], Transition]
    records: str
    nothing: str
    chain: str
    slot: str
    links: str


DECISIONS: Final[dict[type, Decision]] = {
    Value: Decision(
        _on_value,
        "SUCCESS",
        "ends",
        "the next step starts with the value",
        "the value goes into the slot",
        "each link starts with the value; errbacks are not called",
    ),
    Failed: Decision(
        _on_failure,
        "FAILURE",
        "ends",
        "every later step ends as FAILURE with the same exception",
        "the failure goes into the slot",
        "links never start; each errback of this call is called once",
    ),
    Revoked: Decision(
        _on_revoked,
        "REVOKED",
        "ends",
        "every later step ends as REVOKED",
        "the revocation goes into the slot",
        "links never start; errbacks are not called",
    ),
    Retried: Decision(
        _on_retry,
        "RETRY",
        "the call is sent again, same id, retries + 1",
        "as left: what follows waits on",
        "as left: the slot stays empty",
        "kept for the next attempt",
    ),
    Replaced: Decision(
        _on_replaced,
        "",
        "the replacement starts; it ends in the same id",
        "what follows waits for the replacement",
        "the replacement will fill the slot",
        "handed to the replacement's last call",
    ),
    Ignored: Decision(
        _on_ignored,
        "IGNORED, unless the task set an end state itself",
        "ends",
        "every later step ends as REVOKED",
        "a revocation goes into the slot",
        "links never start; errbacks are not called",
    ),
    Rejected: Decision(
        _on_rejected,
        "REJECTED (nothing when requeued)",
        "ends; requeued, the same message is sent again",
        "every later step ends as REVOKED",
        "a revocation goes into the slot",
        "links never start; errbacks are not called",
    ),
}


def advance(message: Message, outcome: Outcome, now: float) -> Transition:
    """Say what a finished task causes.

    Parameters
    ----------
    message
        The message that was worked on.
    outcome
        How that ended.
    now
        Seconds since the epoch.

    Returns
    -------
    Transition
        What to do besides recording the outcome itself.
    """
    return DECISIONS[type(outcome)].decide(message, outcome, now)


def release(
    join: Join, exits: Sequence[tuple[Exit, str]], root_id: str, parent_id: str | None, now: float
) -> Transition:
    """Say what a barrier causes whose slots are all filled.

    Parameters
    ----------
    join
        The barrier.
    exits
        For each slot, in order, how it ended and the id of the call that ended there.
    root_id, parent_id
        For the messages' headers; Celery's parent of a chord's body is the header task that finished last.
    now
        Seconds since the epoch.

    Returns
    -------
    Transition
        With every slot a value, what is behind starts with the list of them.  Otherwise it ends: as FAILURE with
        a ChordError that names the first failed slot in call order (members of a group that is all there is behind,
        with that one's own exception), or, when none failed, as REVOKED.
    """
    then = join.then
    failure = next((pair for pair in exits if isinstance(pair[0], Failed)), None)
    if failure is not None:
        return _barrier_failed(then, failure[0], failure[1])
    revoked = next((pair for pair in exits if isinstance(pair[0], Revoked)), None)
    if revoked is not None:
        skips, arrivals = _abandon(then, _dependency_revoked(*revoked), revoked[1])
        return Transition((), arrivals, skips)
    gathered = Gathered(exit_.payload for exit_, _ in exits)  # type: ignore[union-attr]
    if isinstance(then, Next):
        return start(then.step, (gathered,), then.behind, root_id, parent_id, now)
    return Transition(arrivals=(Arrival(then, Value(gathered), join.id),))


def _barrier_failed(then: Next | Slot, exit_: Any, by: str) -> Transition:
    if isinstance(then, Slot):  # a group that ends a member of another barrier: only what waits has an error to raise
        return Transition(arrivals=(Arrival(then, exit_, by),))
    steps, behind = then.rest()
    error = exit_.exc
    if behind is not None or len(steps) > 1 or isinstance(steps[0], Call):
        error = ChordError(f"Dependency {by} raised {_short(exit_.exc)}")
        error.__cause__ = exit_.exc
    # A header that others share keeps no tracebacks; there is one all the same, as Celery has it.
    failed = Failed(error, exit_.traceback or "".join(format_exception_only(error)))
    skips, arrivals = _abandon(then, failed, by)
    told = [Errback(node, call, failed, None) for call in _heads(steps) for node in call.errbacks]
    return Transition((), arrivals, skips, told)


def _short(exc: BaseException) -> str:
    """Return an exception's repr, cut: of chords in chords each quotes the one inside, and would double in size."""
    try:
        text = repr(exc)
    except Exception:  # noqa: BLE001 - a broken repr must not keep a chord from ending
        text = f"{type(exc).__qualname__}(<its text cannot be shown>)"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST: Final = 1000


def _dependency_revoked(exit_: Any, by: str) -> Revoked:
    cause = exit_.exc.__cause__ or exit_.exc  # of revocations that follow from each other, the first
    error = TaskRevokedError(f"Dependency {by} was revoked: {cause}")
    error.__cause__ = cause
    return Revoked(error)


def decision_table() -> str:
    """Return the decision table as Markdown; ``docs/architecture.md`` prints it from here."""
    head = [
        "outcome",
        "recorded state",
        "nothing behind",
        "a next step behind",
        "a slot of a barrier behind",
        "links and errbacks",
    ]
    rows = [head, ["---"] * len(head)]
    rows += [[kind.__name__, d.records or "none", d.nothing, d.chain, d.slot, d.links] for kind, d in DECISIONS.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
