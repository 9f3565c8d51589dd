"""A worker of a cluster: takes messages from a ledger, runs their tasks, and writes down what comes of them.

Theory of operation
-------------------
The slots do everything (`Pool`, `Supply`, `Committer`): a slot that has nothing to do first writes down what waits to
be written, then fetches, then runs.  Under load it takes some milliseconds' worth of tasks at a time, and what came of
them is written in one stroke; a slot never waits for its own result to be written while there is more to do.  The
keeper writes what a slot left behind when its next task is a long one, and gives back what was taken in excess; the
heart beats.

A message is recorded as this worker's from `take` to the commit of its step.  One that acknowledges early (the
default) is marked as begun before its task runs, short ones several at a time: when the worker dies, its task is not
run a second time but ends as lost.

Stopping, warm: slots take no more, finish what they run, write it down; what was taken and not begun goes back to the
head of its queues.  Cold: the same without waiting for what runs; of that, what acknowledges late goes back too, and
what acknowledges early ends as lost.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter, sleep, time
from typing import Any, TypeVar

from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.app.settings import ignores_result
from nbcanvas.backend.port import Record
from nbcanvas.errors import (
    InvalidTaskError,
    NotSerializable,
    ServerLost,
    TaskRevokedError,
    TimeLimitExceeded,
    UntrustedTask,
    WorkerLostError,
)
from nbcanvas.ledger.port import Delivery, Filled, Ledger, Step
from nbcanvas.plan import Call, Failed, Ignored, Message, Outcome, Rejected, Retried, Revoked, Value
from nbcanvas.protocol.letter import Letter
from nbcanvas.protocol.payload import Packed
from nbcanvas.protocol.signatures import CONTINUE_QUEUE
from nbcanvas.request import Context
from nbcanvas.task import Task
from nbcanvas.worker.admission import acks_late, admit, limits_of, refusal, tracks_start
from nbcanvas.worker.errbacks import ErrbackTeller
from nbcanvas.worker.execute import TerminateTask, failure
from nbcanvas.worker.rates import RateLimits
from nbcanvas.worker.slots import pool_name, pool_size

from . import questions
from .autoscale import Autoscaler
from .committer import Committer, Entry
from .context import DeliveredContext
from .heart import Heart, Keeper
from .job import Job
from .pace import Pace
from .pool import Pool, WorkingSlot
from .supply import Portion, Supply
from .telling import Listener, Telephone, log_ended, log_received
from .transitions import ended, outcome_of, released

__all__ = ["ClusterWorker"]

log = logging.getLogger("nbcanvas.worker")

_T = TypeVar("_T")

#: After how many seconds steps are written down although there is more to do: by the slot itself between two tasks,
#: and by the keeper when its task takes longer.
_AGE = 0.01
_AGE_MOST = 0.025
#: A message that so many workers had and did not finish is not run again.
_LIVES = 5
_AGAIN, _AGAIN_MAX = 0.05, 2.0
#: How long a cold stop waits for what it ended to say so.
_LAST_WORDS = 2.0


class ClusterWorker:
    """A worker that shares an app's queues with others.

    Parameters
    ----------
    app
        The app whose tasks it runs; its broker has to be a server.
    hostname
        Its node name; ``celery@<this host>`` by default.
    concurrency, pool
        As for the embedded worker; also under the names of Celery's pools.
    queues
        Where to take from; what the settings say by default.
    fair
        Take no more than can start at once.
    autoscale
        ``(most, least)`` slots, as there is work for them.
    modules
        The modules that define the tasks: processes import them before they run anything.
    ledger
        Where it takes messages from; the app's by default.

    Attributes
    ----------
    hostname, started
        Its name, and since when it is.
    listener
        Who hears of its tasks, or None.
    revokes
        What was revoked by remote control: asked ``hits(id, stamps)``; None when nobody can.
    unreadable
        How many messages it could not read.
    """

    def __init__(
        self,
        app: App,
        *,
        hostname: str | None = None,
        concurrency: int | None = None,
        pool: str | None = None,
        queues: Sequence[str] = (),
        fair: bool = False,
        autoscale: tuple[int, int] | None = None,
        modules: Sequence[str] = (),
        ledger: Ledger | None = None,
    ) -> None:
        self.app = app
        self.hostname = hostname or f"celery@{socket.gethostname()}"
        self.started = time()
        self.kind = pool_name(pool or app.conf.worker_pool)
        self.listener: Listener | None = None
        self.revokes: Any = None
        self.unreadable = 0
        self.received: dict[str, int] = {}
        self.finished = 0
        self.rates = RateLimits()
        self.jobs: dict[str, Job] = {}
        self.over = threading.Event()
        self._pace = Pace(app, fair=fair)
        self._tell = ErrbackTeller(app).call
        self._post = app.post
        self._inherits = bool(app.conf.task_inherit_parent_priority)
        self._acks_late = bool(app.conf.task_acks_late)
        self._cold = False
        self._stopping = threading.Lock()
        self._stopped = False
        self.ledger: Ledger = ledger if ledger is not None else app.ledger(self.hostname, _sources(app, queues))
        self.committer = Committer(self.ledger, self._released, self._unwritable)
        self._telephone = Telephone(self.ledger)
        self.supply = Supply(self.ledger, self._read, self._portion, self.committer.flush)
        size = autoscale[1] if autoscale else pool_size(self.kind, concurrency, app.conf)
        self.pool = Pool(app, self.kind, max(size, 1), self.hostname, self._serve, modules)
        self.heart = Heart(self.ledger, self._each_beat)
        self.keeper = Keeper(self._keep)
        self._scaler = Autoscaler(*autoscale) if autoscale and self.kind != "solo" else None

    # -- lifecycle --------------------------------------------------------------------------------------------------

    def start(self) -> ClusterWorker:
        """Start; returns self.

        Raises
        ------
        ServerLost
            When the server cannot be reached.
        """
        self.app.hub.elsewhere = self._telephone.feed
        self.heart.start()
        self.keeper.start()
        self.pool.open()
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Stop, warm; what still runs after `timeout` seconds is ended as by `stop_now`."""
        with self._stopping:
            if self._stopped:
                return
            try:
                self._stop(timeout)
            except ServerLost as error:
                log.error("%s: other workers will find what this one had", error)  # noqa: TRY400 - one line
            finally:
                self._stopped = True
                self.over.set()

    def _stop(self, timeout: float | None) -> None:
        self.supply.stop()
        if not self.pool.close(timeout, self.supply.wake, lambda: self._cold):
            self.pool.end_children()
            self.pool.close(_LAST_WORDS if self.kind == "processes" else 0.0, self.supply.wake, lambda: False)
            self._end_running()
        self._give_back(self.supply.withdraw(lambda _: True))
        self.keeper.stop()
        self._flush()
        self.heart.stop()
        self.app.hub.elsewhere = None
        self.ledger.close()

    def stop_now(self) -> None:
        """Stop, cold: do not wait for what runs, nor for a server that is away."""
        self._cold = True
        self.committer.give_up()
        self.stop()

    def shutdown(self) -> None:
        """Begin to stop, warm; returns at once."""
        threading.Thread(target=self.stop, name="nbcanvas-stop", daemon=True).start()

    def _end_running(self) -> None:
        """Say what becomes of what runs and is not waited for."""
        for slot, job in self.pool.running():
            if job.late:
                if self.jobs.pop(job.delivery.tag, None) is not None:
                    self._insist(partial(self.ledger.requeue, [job.delivery]))
            else:
                error = WorkerLostError(f"the worker was stopped while {_name(job)} ran")
                self._end(job, Failed(error))
            slot.abandoned = True

    def _give_back(self, jobs: Sequence[Job]) -> None:
        jobs = [job for job in jobs if self.jobs.pop(job.delivery.tag, None) is not None]
        if jobs:
            self._insist(partial(self.ledger.requeue, [job.delivery for job in jobs]))

    def _flush(self) -> None:
        try:
            self.committer.flush(wait=True)
        except ServerLost as error:
            log.error("%s results were not written down: %s", len(self.committer), error)  # noqa: TRY400 - one line

    def _insist(self, call: Callable[[], _T]) -> _T | None:
        """Call the ledger until the server hears it, or a cold stop ends the patience (None)."""
        try:
            return self._patiently(call)
        except ServerLost as error:
            log.error("%s", error)  # noqa: TRY400 - one line
            return None

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """Return what a server says; as long as it is away, and no cold stop ends the patience, ask again."""
        pause = 0.0
        while True:
            try:
                return ask()
            except ServerLost as error:
                if self._cold:
                    raise
                if not pause:
                    log.warning("%s; trying again until it is back", error)
                pause = min(pause * 2 or _AGAIN, _AGAIN_MAX)
                sleep(pause)

    # -- the threads ------------------------------------------------------------------------------------------------

    def _serve(self, slot: WorkingSlot) -> None:
        """Work, until there is no more use for this slot (in its thread)."""
        executor, supply, committer = self.pool.executor_of(slot), self.supply, self.committer
        while not (slot.retired or slot.abandoned):
            executor.ready()
            job: Job | None = None
            try:
                job = supply.next()
                if job is None:
                    continue
                self._work(slot, job)
                if committer.is_due(_AGE):
                    committer.flush()
            except TerminateTask:
                continue
            except Exception as error:  # never lose a message without a word
                log.exception("%r could not be worked on", job)
                if job is None:
                    self.over.wait(_AGAIN)
                else:
                    self._give_up(job, error)
        if not slot.abandoned:
            committer.flush()
            supply.wake()  # it may have been the one that fetches

    def _give_up(self, job: Job, error: Exception) -> None:
        """End a message that could not be worked on as failed; what cannot even fail goes to the dead letters."""
        try:
            self._end(job, failure(error))
        except Exception as worse:
            log.exception("%r could not fail", job)
            if self.jobs.pop(job.delivery.tag, None) is None:
                return
            try:
                self._bury(job.delivery, f"{type(worse).__name__}: {worse}")
            except Exception:  # it stays recorded as this worker's
                log.exception("%r could not be put aside", job)

    def _keep(self) -> bool:
        committer = self.committer
        if committer.is_due(_AGE_MOST):
            committer.flush()
        floor = self._pace.floor(self.pool.size)
        if len(self.supply) > floor and self._pace.stalls():  # others may have a free slot
            self._give_back(self.supply.surplus(floor))
        return bool(len(committer)) or len(self.supply) > floor

    def _each_beat(self) -> None:
        if self.revokes is not None and self.revokes.refresh():
            self.revoked_now(())
        if self._scaler is not None:
            wanted = self._scaler.wanted(self.pool.size, len(self.pool.running()), len(self.supply), time())
            if wanted != self.pool.size:
                log.info("scaling from %s to %s slots", self.pool.size, wanted)
                self.pool.resize(wanted)
                self.supply.wake()

    # -- taking -----------------------------------------------------------------------------------------------------

    def _portion(self) -> Portion:
        late = sum(job.late for _, job in self.pool.running())
        return self._pace.portion(self.pool.size, self.supply.idle + 1, late)

    def _read(self, delivery: Delivery) -> Job | None:
        letter = delivery.letter
        if letter is None:
            self._bury(delivery, "its envelope cannot be understood")
            return None
        try:
            # The plan it refers to, or its code, is at a server.
            message = self._patiently(partial(admit, self.app, self._post.read, delivery, letter))
        except ServerLost:
            raise  # it stays this worker's until that ends
        except UntrustedTask as error:
            self._untrusted(delivery, letter, error)
            return None
        except Exception as error:  # noqa: BLE001 - anything may stand in a message
            self._unreadable(delivery, letter, error)
            return None
        job = Job(delivery, message)
        self.jobs[delivery.tag] = job
        name = message.call.task
        self.received[name] = self.received.get(name, 0) + 1
        log_received(message)
        self._say("received", message)
        return job

    def _say(self, what: str, message: Message, *more: Any) -> None:
        """Tell whoever listens, who must not cost a message."""
        if self.listener is not None:
            try:
                getattr(self.listener, what)(message, *more)
            except Exception:
                log.exception("nobody was told of %s: %s", message, what)

    def _unreadable(self, delivery: Delivery, letter: Letter, error: Exception) -> None:
        """Bury a message; the task it names ends as failed, so that nobody waits for it."""
        reason = f"{type(error).__name__}: {error}"
        task_id, task = letter.headers.get("id"), letter.headers.get("task")
        if not isinstance(task_id, str) or not isinstance(task, str):
            self._bury(delivery, reason)
            return
        self.unreadable += 1
        root_id = str(letter.headers.get("root_id") or task_id)
        message = Message(Call(task_id, task, ()), (), None, root_id, None, time())
        job = Job(delivery, message)
        self.jobs[delivery.tag] = job
        self._end(job, Failed(error if isinstance(error, InvalidTaskError) else InvalidTaskError(reason)), dead=reason)

    def _untrusted(self, delivery: Delivery, letter: Letter, error: UntrustedTask) -> None:
        """End a task whose code must not be run; its arguments need not be understood for that."""
        try:
            message = self._patiently(partial(self._post.read, letter))
        except ServerLost:
            raise
        except Exception as worse:  # noqa: BLE001 - as in `_read`
            self._bury(delivery, f"{error}; {type(worse).__name__}: {worse}")
            return
        job = Job(delivery, message)
        self.jobs[delivery.tag] = job
        self._end(job, Failed(error), dead=str(error))

    def _bury(self, delivery: Delivery, reason: str) -> None:
        """Put a message where a person can look at it."""
        self.unreadable += 1
        log.error("a message from queue %r goes to the dead letters: %s", delivery.queue, reason)
        self._insist(partial(self.ledger.reject, delivery, reason))

    # -- working ----------------------------------------------------------------------------------------------------

    def _work(self, slot: WorkingSlot, job: Job) -> None:
        message, delivery = job.message, job.delivery
        call = message.call
        now = time()
        self._pace.began(now)
        if delivery.queue == CONTINUE_QUEUE and self._sent_on(job):
            return
        task = self.app.tasks.find(call.task, call.version)
        if (delivery.redelivered or delivery.ended is not None) and self._is_over(job, task):
            return
        refused = refusal(self.app, task, message, now)
        if refused is None and self.revokes is not None and self.revokes.hits(call.id, call.stamps):
            refused = Revoked(TaskRevokedError("revoked"))
        if refused is not None:
            self._end(job, refused, dead="" if task is not None else str(self.app.tasks.missing(call.task)))
            return
        assert task is not None  # noqa: S101 - or it would have been refused
        wait = self.rates.hold(self.app, task, message)
        if wait:
            if job.began:
                job.began = False
                self._insist(lambda: self.ledger.started((delivery.tag,), begun=False))
            self.supply.hold(job, now + wait)
            self._telephone.held(job)
            return
        self._execute(slot, job, task, now)

    def _sent_on(self, job: Job) -> bool:
        """Send a call that a reference stood for to its own queue, if this worker does not take from there."""
        delivery, message = job.delivery, job.message
        if self.app.router.of(message).queue in {one["name"] for one in self.ledger.queues()}:
            return False
        if self.jobs.pop(delivery.tag, None) is not None:
            self.committer.add(Entry(Step(delivery, None, None, sends=(message,))))
        return True

    def _is_over(self, job: Job, task: Task | None) -> bool:
        """See to a message that another worker had, and that is not run again; False when it is."""
        delivery = job.delivery
        ended_as = delivery.ended or self._known_end(job)
        if ended_as is not None:
            self._end(job, outcome_of(ended_as), own=ended_as)
            return True
        if delivery.redelivered > _LIVES:
            error = WorkerLostError(f"{delivery.redelivered} workers had {_name(job)} and did not finish it")
            self._end(job, Failed(error), dead=str(error))
            return True
        if delivery.began and task is not None and not acks_late(self.app, task):
            error = WorkerLostError(
                f"the worker that ran {_name(job)} is gone; it acknowledges early, so it is not run again "
                f"(acks_late=True would)"
            )
            self._end(job, Failed(error))
            return True
        return False

    def _known_end(self, job: Job) -> Record | None:
        try:
            record = self.app.backend.get(job.message.call.id)
        except ServerLost:
            return None  # then the latch in the ledger sees to it
        return record if record is not None and record.state in states.READY_STATES else None

    def _execute(self, slot: WorkingSlot, job: Job, task: Task, now: float) -> None:
        message, app = job.message, self.app
        options, defaults = message.call.options, app.defaults
        job.late = self._acks_late if task.acks_late is None else bool(task.acks_late)
        if not (job.late or job.began):
            if not self._is_still_mine(job):
                return
            job.began = True
        slot.started, slot.message, slot.job = now, message, job
        if (len(self.committer) or len(self.supply) > 1) and not self.keeper.looks:
            self.keeper.want()
        if tracks_start(task, defaults):
            self._track(message)
        self._say("started", message)
        context = DeliveredContext(job, self.hostname, app.queue_of)
        limits = limits_of(task, options, defaults)
        watch = self.pool.watch(slot, job, *limits, self._end) if limits is not None else None
        begun = perf_counter()
        try:
            outcome = self.pool.executor_of(slot).run(task, message, context)
        finally:
            if watch is not None:
                watch()
            slot.job = slot.message = None
        runtime = perf_counter() - begun
        if slot.abandoned:
            return
        self._pace.ended(runtime)
        self._end(job, outcome, context, task, runtime)

    def _is_still_mine(self, job: Job) -> bool:
        """Mark a message as begun; False when it must not begin: another worker has it, or a cold stop came first."""
        tag = job.delivery.tag
        try:
            lost = self._patiently(partial(self.ledger.started, (tag,)))
        except ServerLost as error:
            log.error("%s: %s goes back", error, _name(job))  # noqa: TRY400 - one line
            return False
        if tag in lost:
            self.jobs.pop(tag, None)
            log.warning("%s is another worker's meanwhile, which took this one for dead", _name(job))
        return tag not in lost

    def _track(self, message: Message) -> None:
        meta = self.app.packing.pack({"pid": os.getpid(), "hostname": self.hostname})
        record = Record(
            states.STARTED,
            meta,
            settled=message.attempt - 1,
            call=message.call,
            parent_id=message.parent_id,
            retries=message.retries,
            worker=self.hostname,
        )
        try:
            self.app.backend.update(message.call.id, record)
        except ServerLost as error:
            log.warning("the state STARTED of %s was not stored: %s", message.call.id, error)

    # -- ending -----------------------------------------------------------------------------------------------------

    def _end(
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
        if self.jobs.pop(tag, None) is None:
            return False
        try:
            self._hand_in(job, outcome, context, task, runtime, dead, own)
        except BaseException:
            self.jobs[tag] = job  # whoever catches this ends it otherwise
            raise
        self.finished += 1
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
        task = task or self.app.tasks.find(message.call.task, message.call.version)
        log_ended(message, outcome, runtime, task.throws if task is not None else ())
        self._say("ended", message, outcome, runtime)
        if isinstance(outcome, Rejected) and outcome.requeue:
            self._insist(partial(self.ledger.requeue, [delivery]))
            return
        keep = True
        if task is not None:
            keep = not ignores_result(task, message.call.options, self.app.defaults)
            if type(outcome) is not Value:
                dead = dead or self._unacknowledged(job, task, outcome)
                keep = keep or (isinstance(outcome, Failed) and self._stores_errors(task))
        if isinstance(outcome, Ignored) and own is None:
            own = self._known_end(job)
        steps = ended(
            delivery,
            message,
            outcome,
            time(),
            tell=self._tell,
            worker=self.hostname,
            children=context.children if context is not None else (),
            keep=keep,
            own=own,
            holds=bool(dead),
            priority=self._inherited(delivery),
        )
        last = len(steps) - 1
        for number, step in enumerate(steps):
            done = partial(self._bury, delivery, dead) if dead and number == last else None
            self.committer.add(Entry(step, bool(dead), done))

    def _sendable(self, outcome: Outcome) -> Outcome:
        """Return a failure in the place of a value that the result serializer cannot write."""
        if type(outcome) is Value and type(outcome.payload) is Packed and self.app.conf.result_serializer != "pickle":
            try:
                kind = f"a {type(outcome.payload.load()).__qualname__}"
            except Exception as error:  # noqa: BLE001 - its own code runs
                kind = f"something that pickle cannot read again ({type(error).__name__}: {error})"
            return failure(
                NotSerializable(
                    f"the result is {kind}, and {self.app.conf.result_serializer} cannot write it: return "
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
        return bool(self.app.conf.task_store_errors_even_if_ignored if stores is None else stores)

    def _unacknowledged(self, job: Job, task: Task, outcome: Outcome) -> str:
        """Say why a message that acknowledges late is not acknowledged after a failure, if it is not."""
        if isinstance(outcome, Rejected):
            return f"rejected: {outcome.reason}"
        if not job.late or not isinstance(outcome, Failed):
            return ""
        conf = self.app.conf
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
            steps = ended(delivery, message, failed, now, tell=self._tell, worker=self.hostname, holds=holds)
        else:
            if delivery is not None:
                self._bury(delivery, f"what it caused cannot be written: {error}")
            return ()
        entries = [Entry(one, holds) for one in steps]
        entries[-1] = entries[-1]._replace(done=entry.done)
        return entries

    # -- orders and questions (remote control) ----------------------------------------------------------------------

    def terminate(self, ids: Iterable[str], signal: str = "SIGTERM") -> None:
        """End the tasks with these ids if they run; they end as REVOKED."""
        wanted = set(ids)
        for slot, job in self.pool.running():
            if job.message.call.id in wanted:
                outcome = Revoked(TaskRevokedError("terminated"), terminated=True)
                self.pool.end(slot, job, outcome, signal, self._end)

    def revoked_now(self, _ids: Iterable[str]) -> None:
        """More is revoked: what waits here and is hit ends now."""
        control, revokes = self.app.control, self.revokes

        def is_hit(job: Job) -> bool:
            call = job.message.call
            return (
                call.id in control.revoked
                or control.is_stamped_revoked(job.message)
                or (revokes is not None and revokes.hits(call.id, call.stamps))
            )

        for job in self.supply.withdraw(is_hit):
            self._end(job, Revoked(TaskRevokedError("revoked")))
        self.committer.flush()

    def rate_changed(self, name: str) -> None:
        """A task's rate limit is another one now: what waits because of the old one is looked at again."""
        held = self.rates.release(name)
        if held:
            again = self.supply.withdraw(lambda job: id(job.message) in held)
            self.supply.again(again)
            self.supply.wake()

    def grow(self, n: int = 1) -> None:
        """Have `n` more slots."""
        self._resize(self.pool.size + n)

    def shrink(self, n: int = 1) -> None:
        """Have `n` slots less; one at least."""
        self._resize(self.pool.size - n)

    def _resize(self, size: int) -> None:
        if self.kind == "solo":
            msg = "a solo pool has one slot"
            raise ValueError(msg)
        self.pool.resize(max(size, 1))
        self.supply.wake()

    @property
    def autoscales(self) -> bool:
        """Whether it has as many slots as there is work for."""
        return self._scaler is not None

    def autoscale(self, most: int | None = None, least: int | None = None) -> tuple[int, int]:
        """Change between how many slots there are; returns ``(most, least)``.

        Raises
        ------
        ValueError
            When it does not scale.
        """
        if self._scaler is None:
            msg = "Autoscale not enabled"
            raise ValueError(msg)
        found = self._scaler.change(most, least)
        self.pool.resize(min(max(self.pool.size, found[1]), found[0]))
        self.supply.wake()
        return found

    def restart_pool(self, modules: Sequence[str] = (), reload: bool = False) -> None:
        """Import modules (again), and put new slots in the place of all."""
        import importlib
        import sys

        for name in modules:
            if reload and name in sys.modules:
                importlib.reload(sys.modules[name])
            else:
                importlib.import_module(name)
        self.pool.restart()
        self.supply.wake()

    def consume(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        **options: Any,
    ) -> None:
        """Take from one more queue; what it is, where the settings do not say it, is said here."""
        self.app.router.queues.add(queue, exchange, exchange_type, routing_key, **options)
        self.ledger.consume(queue)
        self.supply.wake()

    def cancel(self, queue: str) -> None:
        """Take from a queue no more."""
        self.ledger.cancel(queue)
        self.supply.wake()

    def queues(self) -> list[dict[str, Any]]:
        """Describe the queues it takes from, with the keys of Celery's ``inspect active_queues``."""
        return [dict(one) for one in self.ledger.queues() if one["name"] != CONTINUE_QUEUE]

    def running(self) -> list[Message]:
        """Return what runs now."""
        return [job.message for _, job in self.pool.running()]

    def active(self) -> list[dict[str, Any]]:
        """Describe what runs now, with the keys of Celery's ``inspect active``."""
        return questions.active(self)

    def reserved(self) -> list[dict[str, Any]]:
        """Describe what was taken and could start."""
        return questions.reserved(self)

    def scheduled(self) -> list[dict[str, Any]]:
        """Describe what waits for its time."""
        return questions.scheduled(self)

    def query(self, ids: Iterable[str]) -> Mapping[str, Any]:
        """Say where some ids are: ``{id: [state, description]}`` for those that are here."""
        return questions.query(self, ids)

    def counts(self) -> tuple[int, int]:
        """Return how many tasks run, and how many have ended."""
        return len(self.pool.running()), self.finished

    def stats(self) -> dict[str, Any]:
        """Return counts and the pool, with the keys of Celery's ``inspect stats``."""
        return questions.stats(self)


def _sources(app: App, queues: Sequence[str]) -> Sequence[str]:
    """Return the queues to take from: where plans are kept, also that of calls that go on in one."""
    table = app.router.queues
    if not hasattr(app.backend, "plans") or (CONTINUE_QUEUE not in table and not app.conf.task_create_missing_queues):
        return queues
    return [CONTINUE_QUEUE, *(queues or table.consumed)]


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


def _name(job: Job) -> str:
    call = job.message.call
    return f"{call.task}[{call.id}]"
