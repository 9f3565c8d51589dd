"""Performs transitions: the one place where decisions become IO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.backend.port import Backend
from nbcanvas.broker.port import Publishes
from nbcanvas.events import event as kinds
from nbcanvas.events.hub import Heard, Hub
from nbcanvas.plan import (
    Errback,
    Failed,
    Ignored,
    Message,
    Outcome,
    Rejected,
    Replaced,
    Retried,
    Revoked,
    Skip,
    Transition,
    Value,
    advance,
    release,
    start,
)

from .records import record_of, skipped, with_bodies

__all__ = ["Performer", "TellErrback"]

#: Runs an errback in this process; False when it is to be sent as a task instead.
TellErrback = Callable[[Errback, str], bool]


class Performer:
    """Performs what `advance` and `release` decide, on one broker and one backend.

    Parameters
    ----------
    broker, backend, hub
        Where messages, results and events go.
    tell
        Runs errbacks that want the exception itself.
    """

    def __init__(
        self,
        broker: Publishes,
        backend: Backend,
        hub: Hub,
        tell: TellErrback = lambda _errback, _root: False,
    ) -> None:
        self.broker = broker
        self.backend = backend
        self.hub = hub
        self.tell = tell
        #: Hears of messages that were sent.
        self.sent: Callable[[Sequence[Message]], None] | None = None

    def finish(
        self, message: Message, outcome: Outcome, worker: str, children: Sequence[Any] = (), *, keep: bool = True
    ) -> bool:
        """Perform what a finished task causes; False when the same attempt was performed before.

        Parameters
        ----------
        message, outcome
            What was worked on, and how that ended.
        worker
            The slot that worked.
        children
            Results of what the task started by itself.
        keep
            Whether the value is kept (not with ``ignore_result``); barriers get it either way.
        """
        now = time()
        call = message.call
        transition = advance(message, outcome, now)
        if children or transition.children:
            children = [*children, *with_bodies(message, transition.children)]
        if isinstance(outcome, Rejected) and outcome.requeue:
            self.broker.publish(transition.send)
            return True
        own = self.backend.get(call.id) if isinstance(outcome, Ignored) else None
        record = record_of(message, outcome, worker, children, now, keep=keep, own=own)
        if not self.backend.settle(call.id, record):
            return False
        feed = self.hub.feed(message.root_id)
        if feed is not None:
            feed(_event(message, outcome, now))
        if record.state in states.READY_STATES:
            self.backend.announce(call.id, record)
        if transition.send or transition.arrivals or transition.skips or transition.errbacks:
            self.perform(transition, message.root_id, call.id, now, deliver=self._send_or_fail)
        return True

    def perform(
        self,
        transition: Transition,
        root_id: str,
        parent_id: str | None,
        now: float,
        *,
        deliver: Callable[[Sequence[Message], str], None] | None = None,
    ) -> None:
        """Perform a transition, and everything that filled barriers cause in turn.

        Parameters
        ----------
        transition
            What to perform.
        root_id, parent_id, now
            For the messages' headers.
        deliver
            Sends messages; by default `send`, which raises when they cannot be sent.
        """
        deliver = deliver or self.send
        todo = [transition]
        while todo:
            step = todo.pop()
            for skip in step.skips:
                self.skip(skip, root_id, now)
            todo += [
                start(errback.node, (errback.call.id,), None, root_id, errback.call.id, now)
                for errback in step.errbacks
                if not self.tell(errback, root_id)
            ]
            if step.send:
                unlocks = self.backend.open(step.opens) if step.opens else ()
                deliver([*step.send, *unlocks] if unlocks else step.send, root_id)
            for arrival in step.arrivals:
                exits = self.backend.arrive(arrival)
                if exits is not None:
                    todo.append(release(arrival.slot.join, exits, root_id, parent_id, now))

    def _send_or_fail(self, messages: Sequence[Message], root_id: str) -> None:
        """Publish messages; when that cannot be done, they end as failed, so that nothing waits for them."""
        try:
            self.send(messages, root_id)
        except Exception as error:  # noqa: BLE001 - whatever it raises
            for message in messages:
                self.finish(message, Failed(error), "")

    def send(self, messages: Sequence[Message], root_id: str) -> None:
        """Publish messages, and say so."""
        feed = self.hub.feed(root_id)
        if feed is not None:
            for message in messages:
                feed(
                    (
                        kinds.SENT,
                        message.call.id,
                        message.sent,
                        message.attempt,
                        None if message.due is None else {"due": message.due},
                    )
                )
        self.broker.publish(messages)
        if self.sent is not None:
            self.sent(messages)

    def skip(self, skip: Skip, root_id: str, now: float) -> bool:
        """Record that a call ends without running; False when it has ended already."""
        call, exit_ = skip
        record = skipped(skip, now)
        if not self.backend.settle(call.id, record):
            return False
        feed = self.hub.feed(root_id)
        if feed is not None:
            failed = isinstance(exit_, Failed)
            data = (exit_.exc, exit_.traceback) if failed else str(exit_.exc)
            feed((kinds.FAILED if failed else kinds.REVOKED, call.id, now, record.settled, data))
        self.backend.announce(call.id, record)
        return True


def _event(message: Message, outcome: Outcome, now: float) -> Heard:
    data: Any = None
    if type(outcome) is Value:
        return kinds.SUCCEEDED, message.call.id, now, message.attempt, None
    if isinstance(outcome, Failed):
        kind, data = kinds.FAILED, (outcome.exc, outcome.traceback)
    elif isinstance(outcome, Revoked):
        kind, data = kinds.REVOKED, str(outcome.exc)
    elif isinstance(outcome, Retried):
        kind, data = kinds.RETRIED, (outcome.exc, outcome.due)
    elif isinstance(outcome, Replaced):
        kind = kinds.REPLACED
    elif isinstance(outcome, Rejected):
        kind, data = kinds.REJECTED, outcome.reason
    else:
        kind = kinds.IGNORED
    return kind, message.call.id, now, message.attempt, data
