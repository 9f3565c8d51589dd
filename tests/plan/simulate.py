"""A worker and a backend of a few plain dicts, to run plans thousands of times a minute, in any order.

Messages wait in one list. Which one is worked on next, and whether it will be delivered once more at any later time,
a seeded generator decides. Transitions are performed as `nbcanvas.app.perform` does; the guard against performing an
attempt twice is the one of `Backend.settle`. Everything that happens is counted.
"""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

from nbcanvas.errors import ChordError
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import (
    Call,
    Failed,
    Ignored,
    Message,
    Node,
    Rejected,
    Replaced,
    Retried,
    Revoked,
    Transition,
    Value,
    advance,
    calls_of,
    freeze,
    release,
    start,
)
from nbcanvas.plan.freezing import inherit
from nbcanvas.plan.model import Join
from nbcanvas.protocol.payload import pack, pack_args, unpack, unpack_args
from tests.plan.reference import chord_error, item_value, symbol, tag_of

NOW = 1000.0


class Boom(Exception):
    """What failing tasks raise."""


def name_of(call: Call) -> str:
    """Return the tag of a call."""
    return tag_of(call.task, unpack_args(call.payload)[1])


class Simulation:
    """One run of one canvas.

    Parameters
    ----------
    canvas, args
        What to run, and with which partials.
    order
        Seeds the order of messages; 0 is first come, first served.
    redeliver
        How likely it is that a message comes again.
    partials
        ``kwargs`` and ``options``, for `freeze`.

    Attributes
    ----------
    runs, ends, heard
        As `Meaning` has them, to be compared.
    """

    def __init__(self, canvas: Any, args: tuple = (), order: int = 0, redeliver: float = 0.0, **partials: Any) -> None:
        self.random = random.Random(order)
        self.in_order = order == 0
        self.new_id = seeded_ids(order)
        self.records: dict[str, SimpleNamespace] = {}
        self.slots: dict[int, tuple[Any, dict]] = {}
        self.pending: deque[Message] = deque()
        self.runs: Counter = Counter()
        self.heard: Counter = Counter()
        self.executions: Counter = Counter()
        self.sent: Counter = Counter()
        self.told: Counter = Counter()
        self.released: Counter = Counter()
        self.nodes: list[Node] = [freeze(canvas, self.new_id, pack_args, args, **partials)]
        self.perform(start(self.nodes[0], (), None, "root", None, NOW))
        while self.pending:
            if not self.in_order:
                self.pending.rotate(self.random.randrange(len(self.pending)))
            message = self.pending.popleft()
            if redeliver and self.random.random() < redeliver:
                self.pending.append(message)
            self.work(message)
        self.ends = Counter(
            (name_of(record.call), record.state, self.text(record.result)) for record in self.records.values()
        )

    # -- performing ----------------------------------------------------------------------------------------------

    def perform(self, transition: Transition) -> None:
        todo = [transition]
        while todo:
            step = todo.pop()
            for skip in step.skips:
                state = "FAILURE" if isinstance(skip.exit, Failed) else "REVOKED"
                assert self.settle(skip.call, skip.call.nesting << 20, state, skip.exit), "a call was skipped twice"
            for errback in step.errbacks:
                self.told[errback.call.id, id(errback.node)] += 1
                if isinstance(errback.node, Call) and errback.node.task == "heard":
                    key = name_of(errback.node), self.name(errback.call.id), self.text(errback.exit)
                    self.heard[key] += 1
                else:
                    todo.append(start(errback.node, (errback.call.id,), None, "root", errback.call.id, NOW))
            for message in step.send:
                self.sent[message.call.id, message.attempt] += 1
                self.pending.append(self.travelled(message))
            for arrival in step.arrivals:
                join, index = arrival.slot.join, arrival.slot.index
                _, slots = self.slots.setdefault(self.key(join), (join, {}))
                assert index not in slots, "a slot was filled twice"
                slots[index] = arrival.exit, arrival.by
                if len(slots) == self.size(join):
                    self.released[self.key(join)] += 1
                    todo.append(release(join, [slots[i] for i in range(len(slots))], "root", None, NOW))

    def travelled(self, message: Message) -> Message:
        """Return a message as it arrives: here, as it was sent."""
        return message

    def key(self, join: Join) -> Any:
        """Return what tells barriers apart: a frozen canvas that is run twice has two of one id."""
        return id(join)

    def size(self, join: Join) -> int:
        """Return how many slots a barrier has."""
        return join.size

    def settle(self, call: Call, attempt: int, state: str, result: Any = None) -> bool:
        old = self.records.get(call.id)
        if old is not None and old.settled >= attempt:
            return False
        self.records[call.id] = SimpleNamespace(call=call, settled=attempt, state=state, result=result)
        return True

    # -- working -------------------------------------------------------------------------------------------------

    def work(self, message: Message) -> None:
        call = message.call
        args, kwargs = unpack_args(call.payload)
        given = () if call.immutable else [unpack(payload) for payload in message.given]
        args = tuple(self.shown(value) for value in (*given, *args))
        outcome, run = self.outcome(message, args, kwargs)
        state = {
            Value: "SUCCESS",
            Failed: "FAILURE",
            Revoked: "REVOKED",
            Ignored: "IGNORED",
            Rejected: "REJECTED",
            Retried: "RETRY",
            Replaced: "PENDING",
        }[type(outcome)]
        transition = advance(message, outcome, NOW)
        if self.settle(call, message.attempt, state, outcome):
            if run is not None:
                self.runs[name_of(call), run] += 1
            if isinstance(outcome, Replaced):
                self.nodes.append(outcome.node)
            self.executions[call.id, message.attempt] += 1
            self.perform(transition)

    def outcome(self, message: Message, args: tuple, kwargs: dict) -> tuple[Any, str | None]:
        call = message.call
        if call.task in {"celery.map", "celery.starmap"}:
            items = kwargs["it"]
            if any("boom" in str(item) for item in items):
                return Failed(Boom("item")), ""
            values = [item_value(*([item] if call.task == "celery.map" else item)) for item in items]
            return Value(pack(values)), ""
        if call.task == "celery.accumulate":
            return Value(pack(args[0])), None
        tag, (what, *details) = kwargs["tag"], kwargs["do"]
        value = symbol(tag, args, kwargs.get("more"))
        if what == "retry":
            again, what = details
            if message.retries < again:
                return Retried(Boom("again"), None, None), value
        if what == "revoke":
            return Revoked(Boom(tag)), None
        if what == "ignore":
            return Ignored(), value
        if what == "reject":
            return Rejected("no"), value
        if what == "fail":
            return Failed(Boom(tag)), value
        if what == "replace":
            node = freeze(details[0], self.new_id, pack_args, options={"task_id": call.id}, nesting=call.nesting + 1)
            inherit(node, call)
            return Replaced(node), value
        return Value(pack(value)), value

    # -- looking -------------------------------------------------------------------------------------------------

    def name(self, task_id: str) -> str:
        return name_of(self.records[task_id].call)

    def shown(self, value: Any) -> Any:
        """Return a task's argument; an errback's argument, the id of what failed, as that one's tag."""
        return self.name(value) if isinstance(value, str) and value in self.records else value

    def text(self, result: Any) -> str | None:
        """Return how a call ended, as `Meaning` writes it."""
        if isinstance(result, Value):
            return str(unpack(result.payload))
        if isinstance(result, Failed):
            return exception_text(result.exc, self.name)
        return "None" if isinstance(result, Revoked) else None


def exception_text(exc: BaseException | None, name: Any) -> str:
    """Return an exception as `Meaning` writes it; `name` gives the tag of a task id."""
    if not isinstance(exc, ChordError):
        return f"{type(exc).__name__}({exc})"
    found = re.fullmatch(r"Dependency (\S+) raised (.*)", str(exc), re.DOTALL)
    assert found, f"the guide's form of the message, not {exc}"
    assert found[2] == repr(exc.__cause__) or (len(found[2]) > 1000 and found[2].endswith("..."))
    return chord_error(name(found[1]), exception_text(exc.__cause__, name))


def check(simulation: Simulation) -> None:
    """Check what holds of every run: each thing happens once, and everything ends."""
    ready = {"SUCCESS", "FAILURE", "REVOKED", "IGNORED", "REJECTED"}
    for counted in (simulation.sent, simulation.executions, simulation.told, simulation.released):
        assert set(counted.values()) <= {1}
    assert {record.state for record in simulation.records.values()} <= ready
    for node in simulation.nodes:
        for call in calls_of(node):
            assert simulation.records[call.id].state in ready
    for join, slots in simulation.slots.values():
        assert len(slots) == simulation.size(join), "a barrier was never released"
