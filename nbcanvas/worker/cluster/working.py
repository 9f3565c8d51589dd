"""What is done with a job: whether its task runs, when, under which limits, and that it began."""

from __future__ import annotations

import logging
import os
from functools import partial
from time import perf_counter, time

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.errors import ServerLost, TaskRevokedError, WorkerLostError
from nbcanvas.ledger.port import Step
from nbcanvas.plan import Failed, Message, Revoked
from nbcanvas.protocol.signatures import CONTINUE_QUEUE
from nbcanvas.task import Task
from nbcanvas.worker.admission import acks_late, limits_of, refusal, tracks_start
from nbcanvas.worker.rates import RateLimits

from .committer import Entry
from .context import DeliveredContext
from .ending import Endings, known_end
from .heartbeat import Keeper
from .job import Job
from .pace import Pace
from .pool import Pool, WorkingSlot
from .shared import Shared
from .supply import Supply
from .transitions import outcome_of

__all__ = ["Work"]

log = logging.getLogger("nbcanvas.worker")

#: A message that so many workers had and did not finish is not run again.
_LIVES = 5


class Work:
    """Works on the jobs of one worker, in the threads of its slots.

    Parameters
    ----------
    shared, endings, supply, pool, pace, keeper
        The worker's.

    Attributes
    ----------
    rates
        How often tasks may start.
    """

    def __init__(
        self, shared: Shared, endings: Endings, supply: Supply, pool: Pool, pace: Pace, keeper: Keeper
    ) -> None:
        self._shared = shared
        self._app, self._ledger = shared.app, shared.ledger
        self._endings = endings
        self._supply = supply
        self._pool = pool
        self._pace = pace
        self._keeper = keeper
        self._acks_late = bool(shared.app.conf.task_acks_late)
        self.rates = RateLimits()

    def work(self, slot: WorkingSlot, job: Job) -> None:
        """Run a job's task, in the thread of this slot, or see to it that it ends or waits otherwise."""
        message, delivery = job.message, job.delivery
        call = message.call
        now = time()
        self._pace.began(now)
        if delivery.queue == CONTINUE_QUEUE and self._sent_on(job):
            return
        task = self._app.tasks.find(call.task, call.version)
        if (delivery.redelivered or delivery.ended is not None) and self._is_over(job, task):
            return
        refused = refusal(self._app, task, message, now)
        if refused is not None:
            self._endings.end(job, refused, dead="" if task is not None else str(self._app.tasks.missing(call.task)))
            return
        assert task is not None  # noqa: S101 - or it would have been refused
        wait = self.rates.hold(self._app, task, message)
        if wait:
            if job.began:
                job.began = False
                self._shared.patience.insist(lambda: self._ledger.started((delivery.tag,), begun=False))
            due = now + wait
            self._supply.hold(job, due)
            if due > time() and not self.rates.holds(message):  # the limit was changed before it was there to be found
                self._supply.again(self._supply.withdraw(lambda one: one is job and one.due == due))
            return
        self._execute(slot, job, task, now)

    def _sent_on(self, job: Job) -> bool:
        """Send a call that a reference stood for to its own queue, if this worker does not take from there."""
        delivery, message = job.delivery, job.message
        if self._app.router.of(message).queue in {one["name"] for one in self._ledger.queues()}:
            return False
        if self._shared.jobs.pop(delivery.tag, None) is not None:
            self._endings.committer.add(Entry(Step(delivery, None, None, sends=(message,))))
        return True

    def _is_over(self, job: Job, task: Task | None) -> bool:
        """See to a message that another worker had, and that is not run again; False when it is."""
        delivery = job.delivery
        ended_as = delivery.ended or known_end(self._app, job)
        if ended_as is not None:
            self._endings.end(job, outcome_of(ended_as), own=ended_as)
            return True
        if delivery.redelivered > _LIVES:
            error = WorkerLostError(f"{delivery.redelivered} workers had {job.name} and did not finish it")
            self._endings.end(job, Failed(error), dead=str(error))
            return True
        if delivery.began and task is not None and not acks_late(self._app, task):
            error = WorkerLostError(
                f"the worker that ran {job.name} is gone; it acknowledges early, so it is not run again "
                f"(acks_late=True would)"
            )
            self._endings.end(job, Failed(error))
            return True
        return False

    def _execute(self, slot: WorkingSlot, job: Job, task: Task, now: float) -> None:
        message, app = job.message, self._app
        options, defaults = message.call.options, app.defaults
        job.late = self._acks_late if task.acks_late is None else bool(task.acks_late)
        if not job.began and (self._ledger.claims or not job.late):
            if not self._is_still_mine(job):
                return
            job.began = True
        job.since = slot.started = now
        slot.message, slot.job = message, job
        if self._shared.revokes.hits(message.call.id, message.call.stamps):  # since it was asked: nobody found it then
            slot.job = slot.message = None
            self._endings.end(job, Revoked(TaskRevokedError("revoked")))
            return
        if not self._keeper.looks:
            self._keeper.want()
        if tracks_start(task, defaults):
            self._track(message)
        self._shared.say("started", message)
        context = DeliveredContext(job, self._shared.hostname, app.queue_of)
        limits = limits_of(task, options, defaults)
        watch = self._pool.watch(slot, job, *limits, self._endings.end) if limits is not None else None
        begun = perf_counter()
        try:
            outcome = self._pool.executor_of(slot).run(task, message, context)
        finally:
            if watch is not None:
                watch()
            slot.job = slot.message = None
        runtime = perf_counter() - begun
        if slot.abandoned:
            return
        self._pace.ended(runtime)
        self._endings.end(job, outcome, context, task, runtime)

    def _is_still_mine(self, job: Job) -> bool:
        """Mark a message as begun; False when it must not begin: another worker has it, or a cold stop came first."""
        tag = job.delivery.tag
        try:
            lost = self._shared.patience.ask(partial(self._ledger.started, (tag,)))
        except ServerLost as error:
            log.error("%s: %s goes back", error, job.name)  # noqa: TRY400 - one line
            return False
        if tag in lost:
            self._shared.jobs.pop(tag, None)
            log.warning("%s is another worker's meanwhile", job.name)
        return tag not in lost

    def _track(self, message: Message) -> None:
        attempt = [message.retries, message.call.nesting]
        meta = self._app.packing.pack({"pid": os.getpid(), "hostname": self._shared.hostname, "attempt": attempt})
        record = Record(
            states.STARTED,
            meta,
            settled=message.attempt - 1,
            call=message.call,
            parent_id=message.parent_id,
            retries=message.retries,
            worker=self._shared.hostname,
        )
        try:
            self._app.backend.update(message.call.id, record)
        except ServerLost as error:
            log.warning("the state STARTED of %s was not stored: %s", message.call.id, error)
