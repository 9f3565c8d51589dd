"""How messages end: what a task's outcome, or what stands for one, causes is written down as steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.app.settings import ignores_result
from nbcanvas.backend.port import Record
from nbcanvas.errors import NotSerializable, ServerLost, TimeLimitExceeded
from nbcanvas.ledger.port import Delivery, Filled, Step
from nbcanvas.plan import Failed, Ignored, Outcome, Rejected, Retried, Value
from nbcanvas.protocol.payload import Packed
from nbcanvas.protocol.signatures import CONTINUE_QUEUE
from nbcanvas.request import Context
from nbcanvas.result.lineage import Lineage
from nbcanvas.task import Task
from nbcanvas.worker.errbacks import ErrbackTeller
from nbcanvas.worker.execute import failure

from .committer import Committer, Entry
from .job import Job
from .shared import Shared
from .telling import log_ended
from .transitions import ended, released

__all__ = ["Endings", "known_end"]


class Endings:
    """Ends messages of one worker, each once.

    Parameters
    ----------
    shared
        The worker's.

    Attributes
    ----------
    committer
        Writes down what they cause.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._app, self._ledger = shared.app, shared.ledger
        self.committer = Committer(shared.ledger, self._released, self._unwritable)
        self._tell = ErrbackTeller(shared.app).call
        self._inherits = bool(shared.app.conf.task_inherit_parent_priority)

    def end(
        self,
        job: Job,
        outcome: Outcome,
        context: Context | None = None,
        task: Task | None = None,
        runtime: float | None = None,
        *,
        dead: str = "",
        own: Record | None = None,
    ) -> bool:
        """Hand in what a message causes; False when that was done before.

        `dead` is why the message goes to the dead letters, besides; `own` what is stored of the task already.
        """
        tag = job.delivery.tag
        if self._shared.jobs.pop(tag, None) is None:
            return False
        try:
            self._hand_in(job, outcome, context, task, runtime, dead, own)
        except BaseException:
            self._shared.jobs[tag] = job  # whoever catches this ends it otherwise
            raise
        self._shared.finished += 1
        return True

    def _hand_in(
        self,
        job: Job,
        outcome: Outcome,
        context: Context | None,
        task: Task | None,
        runtime: float | None,
        dead: str,
        own: Record | None,
    ) -> None:
        delivery, message = job.delivery, job.message
        outcome = _homeward(delivery, outcome) if type(outcome) is Retried else self._sendable(outcome)
        task = task or self._app.tasks.find(message.call.task, message.call.version)
        log_ended(message, outcome, runtime, task.throws if task is not None else ())
        self._shared.say("ended", message, outcome, runtime)
        if isinstance(outcome, Rejected) and outcome.requeue:
            self._shared.patience.insist(partial(self._ledger.requeue, [delivery]))
            return
        keep = True
        if task is not None:
            keep = not ignores_result(task, message.call.options, self._app.defaults)
            if type(outcome) is not Value:
                dead = dead or self._unacknowledged(job, task, outcome)
                keep = keep or (isinstance(outcome, Failed) and self._stores_errors(task))
        if isinstance(outcome, Ignored) and own is None:
            own = known_end(self._app, job)
        steps = ended(
            delivery,
            message,
            outcome,
            time(),
            tell=self._tell,
            worker=self._shared.hostname,
            children=context.children if context is not None else (),
            keep=keep,
            own=own,
            holds=bool(dead),
            priority=self._inherited(delivery),
            began=job.since,
        )
        last = len(steps) - 1
        for number, step in enumerate(steps):
            done = partial(self._shared.bury, delivery, dead) if dead and number == last else None
            self.committer.add(Entry(step, bool(dead), done))

    def _sendable(self, outcome: Outcome) -> Outcome:
        """Return a failure in the place of a value that the result serializer cannot write."""
        if type(outcome) is Value and type(outcome.payload) is Packed and self._app.conf.result_serializer != "pickle":
            try:
                value = outcome.payload.load()
                if isinstance(value, Lineage):  # a handle to a result is stored as plain data, as in Celery
                    return Value(self._app.packing.pack(value.as_tuple()))
                kind = f"a {type(value).__qualname__}"
            except Exception as error:  # noqa: BLE001 - its own code runs
                kind = f"something that pickle cannot read again ({type(error).__name__}: {error})"
            return failure(
                NotSerializable(
                    f"the result is {kind}, and {self._app.conf.result_serializer} cannot write it: return "
                    f"something it can, or set result_serializer to pickle"
                )
            )
        return outcome

    def _inherited(self, delivery: Delivery) -> int | None:
        """Return the priority of what a message causes, where that is the message's own."""
        letter = delivery.letter
        return letter.priority if self._inherits and letter is not None and letter.priority else None

    def _stores_errors(self, task: Task) -> bool:
        stores: Any = getattr(task, "store_errors_even_if_ignored", None)
        return bool(self._app.conf.task_store_errors_even_if_ignored if stores is None else stores)

    def _unacknowledged(self, job: Job, task: Task, outcome: Outcome) -> str:
        """Say why a message that acknowledges late is not acknowledged after a failure, if it is not."""
        if isinstance(outcome, Rejected):
            return f"rejected: {outcome.reason}"
        if not job.late or not isinstance(outcome, Failed):
            return ""
        conf = self._app.conf
        timeout = isinstance(outcome.exc, TimeLimitExceeded)
        own = getattr(task, "acks_on_failure_or_timeout", None)
        setting = conf.task_acks_on_timeout if timeout else conf.task_acks_on_failure
        acks = own if own is not None else setting if setting is not None else conf.task_acks_on_failure_or_timeout
        return "" if acks else f"not acknowledged, because it {'timed out' if timeout else 'failed'}"

    def _released(self, step: Step, filled: Filled, holds: bool) -> Sequence[Step]:
        priority = None if step.delivery is None else self._inherited(step.delivery)
        return released(step.delivery, step.message, filled, time(), tell=self._tell, holds=holds, priority=priority)

    def _unwritable(self, entry: Entry, error: Exception) -> Sequence[Entry]:
        """End what cannot be written as failed; what cannot even fail goes to the dead letters."""
        step, holds = entry.step, entry.holds
        delivery, message = step.delivery, step.message
        now, failed = time(), Failed(error)
        if step.dispatches is not None and not _fails(step):
            filled = Filled(step.dispatches, [(failed, step.dispatches.id)])
            steps = released(delivery, message, filled, now, tell=self._tell, holds=holds)
        elif step.dispatches is None and message is not None and not _fails(step):
            steps = ended(delivery, message, failed, now, tell=self._tell, worker=self._shared.hostname, holds=holds)
        else:
            if delivery is not None:
                self._shared.bury(delivery, f"what it caused cannot be written: {error}")
            return ()
        entries = [Entry(one, holds) for one in steps]
        entries[-1] = entries[-1]._replace(done=entry.done)
        return entries


def known_end(app: App, job: Job) -> Record | None:
    """Return the record of a task that has ended already, so far as its backend knows."""
    try:
        record = app.backend.get(job.message.call.id)
    except ServerLost:
        return None  # then the latch in the ledger sees to it
    return record if record is not None and record.state in states.READY_STATES else None


def _homeward(delivery: Delivery, outcome: Retried) -> Retried:
    """Have a retry sent to the queue its message came from, if the task names no other: there somebody listens."""
    back: dict[str, Any] = {"queue": delivery.queue}
    if delivery.letter is not None and delivery.letter.priority:
        back["priority"] = delivery.letter.priority
    if {"queue", "exchange", "routing_key"} & outcome.options.keys() or delivery.queue == CONTINUE_QUEUE:
        del back["queue"]
    return Retried(outcome.exc, outcome.traceback, outcome.due, outcome.payload, {**back, **outcome.options})


def _fails(step: Step) -> bool:
    """Whether a step is what a failure causes."""
    if step.dispatches is None:
        return step.record is not None and step.record.state == states.FAILURE
    return bool(step.skips) or any(isinstance(arrival.exit, Failed) for arrival in step.arrivals)
