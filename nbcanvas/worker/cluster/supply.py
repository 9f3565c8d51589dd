"""The messages a worker has taken and not begun, and how slots come by them.

A slot that finds nothing here fetches: it asks the ledger for as much as is wanted, keeps the first message for
itself and leaves the others to everybody.  One slot fetches at a time, the others that have nothing to do sleep.  So
a message that comes to an idle worker is taken, run and written down by one thread, with nothing handed over.

What is not due yet waits in order of its time; whoever fetches sleeps no longer than until the first of it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import time
from typing import NamedTuple

from nbcanvas.errors import ServerLost
from nbcanvas.ledger.port import Delivery, Ledger

from .job import Job

__all__ = ["Portion", "Supply"]

log = logging.getLogger("nbcanvas.worker")

#: How long one `take` waits at most.
_PATIENCE = 1.0
_AGAIN, _AGAIN_MAX = 0.05, 2.0


class Portion(NamedTuple):
    """How much to take: at most `limit` messages, the first `begin` of which begin at once."""

    limit: int
    begin: int


class Supply:
    """Where slots get their jobs.

    Parameters
    ----------
    ledger
        Where they come from.
    read
        Makes a job of a delivery; None when nothing can be made of it.
    portion
        Says how much to take.
    before
        Called by a slot that finds nothing, before it fetches or sleeps, with what it would take.
    postponed
        Told of each job that waits for its time from now on.
    back
        Called when the server was away, and is back.
    """

    def __init__(
        self,
        ledger: Ledger,
        read: Callable[[Delivery], Job | None],
        portion: Callable[[], Portion],
        before: Callable[[Portion], None],
        postponed: Callable[[Job], None],
        back: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._read = read
        self._portion = portion
        self._before = before
        self._postponed = postponed
        self._back = back
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._tie = itertools.count()
        self._fetching = threading.Lock()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        #: Slots that sleep because there is nothing to do.
        self.idle = 0

    # -- for slots --------------------------------------------------------------------------------------------------

    def next(self) -> Job | None:
        """Return what to work on; None when the caller should look around: after a while, and after `wake`."""
        if self._stopped.is_set():  # what is here goes back
            return None
        if self._later:
            self._promote()
        try:
            return self._ready.popleft()
        except IndexError:
            portion = self._portion()
            self._before(portion)
        if self._fetching.acquire(blocking=False):
            try:
                return self._fetch(portion)
            finally:
                self._fetching.release()
                if self.idle:
                    with self._changed:  # somebody has to fetch, and others may have something to do now
                        self._changed.notify(len(self._ready) + 1)
        with self._changed:
            self.idle += 1
            try:
                if not self._ready and self._fetching.locked() and not self._stopped.is_set():
                    self._changed.wait(_PATIENCE)
            finally:
                self.idle -= 1
        return None

    def hold(self, job: Job, due: float) -> None:
        """Let a job wait until `due`."""
        job.due = due
        with self._changed:
            first = not self._later or due < self._later[0][0]
            heapq.heappush(self._later, (due, next(self._tie), job))
        self._postponed(job)
        if first:
            self._ledger.wake()

    def _promote(self) -> None:
        now = time()
        with self._changed:
            due = []
            while self._later and self._later[0][0] <= now:
                due.append(heapq.heappop(self._later)[2])
            if due:
                self._ready.extendleft(reversed(due))
                self._changed.notify(len(due))

    def _fetch(self, portion: Portion) -> Job | None:
        limit, begin = portion
        patience = _PATIENCE
        with self._changed:
            if self._later:
                patience = min(max(self._later[0][0] - time(), 0.0), patience)
        pause = 0.0
        while True:
            try:
                deliveries = self._ledger.take(limit, begin, patience)
                break
            except Exception as error:
                if not pause:
                    known = isinstance(error, ServerLost)
                    log.warning("%s; trying again until it is back", error, exc_info=None if known else error)
                pause = min(pause * 2 or _AGAIN, _AGAIN_MAX)
                if self._stopped.wait(pause):
                    return None
        if pause:
            log.warning("the server is back")
            self._back()
        return self._sorted(deliveries, begin) if deliveries else None

    def _sorted(self, deliveries: Sequence[Delivery], begin: int) -> Job | None:
        """Keep what was taken; return the first that can run."""
        now = time()
        jobs: list[Job] = []
        later: list[Job] = []
        postponed: list[str] = []
        for number, delivery in enumerate(deliveries):
            try:
                job = self._read(delivery)
            except Exception:  # the others are to be run; this one stays recorded as this worker's
                log.exception("%r could not be read", delivery)
                continue
            if job is None:
                continue
            if job.due is not None and job.due > now:
                if number < begin:
                    postponed.append(delivery.tag)
                later.append(job)
                continue
            # A ledger need not have marked what came with a time to wait for: whoever runs it does.
            job.began = number < begin and job.due is None
            jobs.append(job)
        if postponed:
            self._unbegin(postponed)  # before another slot can begin it, and end it
        for job in later:
            with self._changed:
                heapq.heappush(self._later, (job.due or now, next(self._tie), job))
            self._postponed(job)
        if not jobs:
            return None
        first = jobs[0]
        if len(jobs) > 1:
            self._ready.extend(jobs[1:])
        return first

    def _unbegin(self, tags: Sequence[str]) -> None:
        """What waits for its time has not begun: another worker may run it when this one dies."""
        try:
            self._ledger.started(tags, begun=False)
        except Exception as error:  # noqa: BLE001 - it must not cost the messages that came with them
            log.warning("%s; if this worker dies now, %s waiting tasks count as begun", error, len(tags))

    # -- for everybody ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ready)

    def reserved(self) -> list[Job]:
        """Return what could start now."""
        return list(self._ready)

    def scheduled(self) -> list[Job]:
        """Return what waits for its time, in its order."""
        with self._changed:
            return [entry[2] for entry in sorted(self._later)]

    def withdraw(self, matches: Callable[[Job], bool]) -> list[Job]:
        """Take out and return every job that matches."""
        found = []
        for _ in range(len(self._ready)):
            try:
                job = self._ready.popleft()
            except IndexError:
                break
            if matches(job):
                found.append(job)
            else:
                self._ready.append(job)
        with self._changed:
            found += [entry[2] for entry in self._later if matches(entry[2])]
            self._later = [entry for entry in self._later if not matches(entry[2])]
            heapq.heapify(self._later)
        return found

    def surplus(self, keep: int) -> list[Job]:
        """Take out and return what could start now beyond the first `keep`."""
        found: list[Job] = []
        while len(self._ready) > keep:
            try:
                found.append(self._ready.pop())
            except IndexError:
                break
        return found[::-1]

    def again(self, jobs: Sequence[Job]) -> None:
        """Put jobs back, to start now."""
        with self._changed:
            self._ready.extend(jobs)
            self._changed.notify(len(jobs))

    def wake(self) -> None:
        """Let every slot that sleeps or fetches look around."""
        self._ledger.wake()
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        """Fetch no more, and give nothing out."""
        self._stopped.set()
        self.wake()
