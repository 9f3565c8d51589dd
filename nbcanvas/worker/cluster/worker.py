"""A worker of a cluster: takes messages from a ledger, runs their tasks, and writes down what comes of them.

Theory of operation
-------------------
The slots (`pool`) do everything: a slot that has nothing to do first writes down what waits to be written
(`committer`), then fetches (`supply`, `intake`), then runs (`working`), and hands in what came of it (`ending`).  Under
load it takes some milliseconds' worth of tasks at a time (`pace`), and what came of them is written in one stroke; a
slot never waits for its own result to be written while there is more to do.  The keeper writes what a slot left behind
when its next task is a long one, tells clients of tasks that run for a while, and gives back what was taken in excess;
the heart beats (`heartbeat`).  What remote control wants is done by `orders`.

A message is recorded as this worker's from `take` to the commit of its step.  One that acknowledges early (the
default) is marked as begun before its task runs, short ones several at a time: when the worker dies, its task is not
run a second time but ends as lost.

Stopping, warm: slots take no more, finish what they run, write it down; what was taken and not begun goes back to the
head of its queues.  Cold: the same without waiting for what runs; of that, what acknowledges late goes back too, and
what acknowledges early ends as lost.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from functools import partial
from time import time

from nbcanvas.app import App
from nbcanvas.errors import ServerLost, WorkerLostError
from nbcanvas.ledger.port import Ledger
from nbcanvas.plan import Failed
from nbcanvas.protocol.signatures import CONTINUE_QUEUE
from nbcanvas.worker.execute import TerminateTask, failure
from nbcanvas.worker.slots import pool_name, pool_size

from .autoscale import Autoscaler
from .ending import Endings
from .heartbeat import Heartbeat, Keeper
from .intake import Intake
from .job import Job
from .orders import Orders
from .pace import Pace
from .pool import Pool, WorkingSlot
from .shared import Shared
from .supply import Portion, Supply
from .telling import Listener, Telephone
from .working import Work

__all__ = ["ClusterWorker"]

log = logging.getLogger("nbcanvas.worker")

#: After how many seconds steps are written down although there is more to do: by the slot itself between two tasks,
#: and by the keeper when its task takes longer.
_AGE = 0.01
_AGE_MOST = 0.025
#: After how many seconds a client is told that a task runs; of a shorter one it hears with its end.
_LONG = 0.01
#: How long a slot rests whose fetching failed.
_AGAIN = 0.05
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
    orders
        What does as remote control says, and answers it.
    over
        Set when it has stopped.
    shared, endings, work, pool, supply, committer
        Its parts.
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
        self.over = threading.Event()
        self._stopping = threading.Lock()
        self._stopped = False
        self._connected = False
        self.ledger: Ledger = ledger if ledger is not None else app.ledger(self.hostname, _sources(app, queues))
        self.shared = shared = Shared(app, self.hostname, self.ledger)
        self.endings = endings = Endings(shared)
        self.committer = endings.committer
        self._pace = Pace(app, fair=fair)
        self._telephone = Telephone(self.ledger)
        intake = Intake(shared, endings.end)
        self.supply = Supply(
            self.ledger,
            intake.read,
            self._portion,
            self.committer.flush,
            self._telephone.held,
            self.committer.retry,
        )
        kind = pool_name(pool or app.conf.worker_pool)
        size = autoscale[1] if autoscale else pool_size(kind, concurrency, app.conf)
        self.pool = Pool(app, kind, max(size, 1), self.hostname, self._serve, modules)
        self._heartbeat = Heartbeat(self.ledger, self._each_beat)
        self._keeper = Keeper(self._keep)
        self.work = Work(shared, endings, self.supply, self.pool, self._pace, self._keeper)
        self._scaler = Autoscaler(*autoscale) if autoscale and kind != "solo" else None
        self.orders = Orders(
            shared, endings, self.supply, self.pool, self.work.rates, self._scaler, self.started, self.shutdown
        )

    @property
    def listener(self) -> Listener | None:
        """Who hears of its tasks."""
        return self.shared.listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self.shared.listener = listener

    # -- lifecycle --------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach the server, and say that this worker is there; until that has been done, it may be called again.

        Raises
        ------
        ServerLost
            When the server cannot be reached; `AccessRefused` when it is of no use to try again.
        """
        self.ledger.connect()
        self._connected = True

    def start(self) -> ClusterWorker:
        """Start, and `connect` before if nobody did; returns self."""
        if not self._connected:
            self.connect()
        self.app.hub.elsewhere = self._telephone.feed
        self._heartbeat.start()
        self._keeper.start()
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
        if not self.pool.close(timeout, self.supply.wake, lambda: self.shared.patience.over):
            self.pool.end_children()
            self.pool.close(_LAST_WORDS if self.pool.kind == "processes" else 0.0, self.supply.wake, lambda: False)
            self._end_running()
        self.shared.give_back(self.supply.withdraw(lambda _: True))
        self._keeper.stop()
        self._flush()
        self._heartbeat.stop()
        self.app.hub.elsewhere = None
        self.ledger.close()

    def stop_now(self) -> None:
        """Stop, cold: do not wait for what runs, nor for a server that is away."""
        self.shared.patience.over = True
        self.committer.give_up()
        self.stop()

    def shutdown(self) -> None:
        """Begin to stop, warm; returns at once, and what has been taken begins no more."""
        self.supply.stop()
        threading.Thread(target=self.stop, name="nbcanvas-stop", daemon=True).start()

    def _end_running(self) -> None:
        """Say what becomes of what runs and is not waited for."""
        for slot, job in self.pool.running():
            if job.late:
                if self.shared.jobs.pop(job.delivery.tag, None) is not None:
                    self.shared.patience.insist(partial(self.ledger.requeue, [job.delivery]))
            else:
                error = WorkerLostError(f"the worker was stopped while {job.name} ran")
                self.endings.end(job, Failed(error))
            slot.abandoned = True

    def _flush(self) -> None:
        try:
            self.committer.flush(wait=True)
        except ServerLost as error:
            log.error("%s results were not written down: %s", len(self.committer), error)  # noqa: TRY400 - one line

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
                self.work.work(slot, job)
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
            self.endings.end(job, failure(error))
        except Exception as worse:
            log.exception("%r could not fail", job)
            if self.shared.jobs.pop(job.delivery.tag, None) is None:
                return
            try:
                self.shared.bury(job.delivery, f"{type(worse).__name__}: {worse}")
            except Exception:  # it stays recorded as this worker's
                log.exception("%r could not be put aside", job)

    def _keep(self) -> bool:
        committer = self.committer
        if committer.is_due(_AGE_MOST):
            committer.flush()
        floor = self._pace.floor(self.pool.size)
        if len(self.supply) > floor and self._pace.stalls():  # others may have a free slot
            self.shared.give_back(self.supply.surplus(floor))
        return self._tell_of_long() or bool(len(committer)) or len(self.supply) > floor

    def _tell_of_long(self) -> bool:
        """Tell the clients of tasks that run for a while; says whether there are some that run, and were not told."""
        untold = [job for _, job in self.pool.running() if not job.told]
        before = time() - _LONG
        long = [job for job in untold if job.since is not None and job.since <= before]
        if long:
            self._telephone.runs(long)
        return len(long) < len(untold)

    def _each_beat(self) -> None:
        if self._scaler is not None:
            wanted = self._scaler.wanted(self.pool.size, len(self.pool.running()), len(self.supply), time())
            if wanted != self.pool.size:
                log.info("scaling from %s to %s slots", self.pool.size, wanted)
                self.pool.resize(wanted)
                self.supply.wake()
        if self.shared.revokes.refresh():
            self.orders.revoked_now(())

    def _portion(self) -> Portion:
        late = sum(job.late for _, job in self.pool.running())
        return self._pace.portion(self.pool.size, self.supply.idle + 1, late)


def _sources(app: App, queues: Sequence[str]) -> Sequence[str]:
    """Return the queues to take from: where plans are kept, also that of calls that go on in one."""
    table = app.router.queues
    if not hasattr(app.backend, "plans") or (CONTINUE_QUEUE not in table and not app.conf.task_create_missing_queues):
        return queues
    return [CONTINUE_QUEUE, *(queues or table.consumed)]
