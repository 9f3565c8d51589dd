"""Writes steps down, many at a time.

Slots hand in steps and go on.  Whoever has nothing else to do commits them: a slot that finds no more work, or the
worker's keeper after some milliseconds.  One thread commits at a time; what is handed in meanwhile goes with the next
batch, so the batches grow with the load by themselves.

While the server is away a batch is repeated until it is written: its ledger makes a repeated step harmless.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from nbcanvas.errors import ServerLost
from nbcanvas.ledger.port import Answer, Filled, Ledger, Step

__all__ = ["Committer", "Entry"]

log = logging.getLogger("nbcanvas.worker")

#: Steps in one call of the ledger.
_BATCH = 500
#: How long to wait before a server that was lost is tried again: at first, at most.
_AGAIN, _AGAIN_MAX = 0.05, 2.0


class Entry(NamedTuple):
    """A step to write, and what comes behind it.

    Attributes
    ----------
    step
        The step.
    holds
        Whether the message stays unacknowledged to the end, because `done` takes it elsewhere.
    done
        Called when the step, and all that it released, is written.
    """

    step: Step
    holds: bool = False
    done: Callable[[], None] | None = None


#: Gives the steps that dispatch a full barrier.
Release = Callable[[Step, Filled, bool], Sequence[Step]]
#: Gives what is written in the place of a step that cannot be written.
Replace = Callable[[Entry, Exception], Sequence[Entry]]


class Committer:
    """Collects steps and writes them.

    Parameters
    ----------
    ledger
        Where to.
    release, replace
        See `Release` and `Replace`.
    """

    def __init__(self, ledger: Ledger, release: Release, replace: Replace) -> None:
        self._ledger = ledger
        self._release = release
        self._replace = replace
        self._waiting: deque[Entry] = deque()
        self._busy = threading.Lock()
        self._since = 0.0
        #: So many are written one by one, because one of them cannot be.
        self._alone = 0
        self._given_up = threading.Event()
        self._retry = threading.Event()
        #: Steps that were not performed: the message was not this worker's any more, or done before.
        self.refused = 0

    def add(self, entry: Entry) -> None:
        """Hand in a step."""
        if not self._waiting:
            self._since = monotonic()
        self._waiting.append(entry)

    def __len__(self) -> int:
        return len(self._waiting)

    def is_due(self, age: float) -> bool:
        """Whether steps wait for longer than `age` seconds, or there are many."""
        waiting = len(self._waiting)
        return waiting >= _BATCH or (waiting > 0 and monotonic() - self._since > age)

    def flush(self, then: tuple[int, int] | None = None, *, wait: bool = False) -> None:
        """Write what waits; returns at once when another thread does (it sees to all of it), unless `wait`.

        `then` is what the caller takes next, see `Ledger.commit`.
        """
        while self._waiting or (wait and self._busy.locked()):  # what another thread has in hand waits here no more
            if self._given_up.is_set() and not wait:  # who stops tries once more
                return
            if not self._busy.acquire(blocking=wait):
                return
            try:
                self._write(then)
            finally:
                self._busy.release()

    def give_up(self) -> None:
        """Do not wait for a server that is away any longer."""
        self._given_up.set()
        self._retry.set()

    def retry(self) -> None:
        """Hear that the server is back: what waits for it is written at once, before more tasks begin to run."""
        self._retry.set()

    def _write(self, then: tuple[int, int] | None) -> None:
        waiting = self._waiting
        while waiting:
            many = 1 if self._alone > 0 else min(len(waiting), _BATCH)
            batch = [waiting.popleft() for _ in range(many)]
            self._since = monotonic()
            try:
                answers = self._repeated([entry.step for entry in batch], None if waiting else then)
            except ServerLost:
                waiting.extendleft(reversed(batch))
                raise
            except Exception as error:  # noqa: BLE001 - one that cannot be written must not keep the others from it
                if many > 1:
                    waiting.extendleft(reversed(batch))
                    self._alone = many
                else:
                    self._alone = max(self._alone - 1, 0)
                    self._not_written(batch[0], error)
                continue
            except BaseException:
                waiting.extendleft(reversed(batch))
                raise
            self._alone = max(self._alone - many, 0)
            for entry, answer in zip(batch, answers, strict=True):
                self._settle(entry, answer)

    def _settle(self, entry: Entry, answer: Answer) -> None:
        step = entry.step
        if answer.filled is not None:
            try:
                first, *rest = self._release(step, answer.filled, entry.holds or step.keeps)
            except Exception as error:  # noqa: BLE001 - said there
                step = Step(step.delivery, step.message, None, dispatches=answer.filled.join)
                self._not_written(entry._replace(step=step), error)
                return
            # At once, in the next batch: nothing of the same delivery comes between.
            more = [Entry(first, entry.holds), *[Entry(one, entry.holds) for one in rest]]
            more[-1] = more[-1]._replace(done=entry.done)
            self._waiting.extendleft(reversed(more))
            return
        if not answer.performed:
            self.refused += 1
            log.info("%r: not this worker's any more, or done before", step.delivery)
        if entry.done is not None:
            try:
                entry.done()
            except Exception:  # it stays recorded as this worker's
                log.exception("%r could not be put aside", step.delivery)

    def _not_written(self, entry: Entry, error: Exception) -> None:
        """Have something else written; failing that too, the message stays recorded as this worker's."""
        log.error("%r could not be written down", entry.step.message, exc_info=error)
        try:
            self._waiting.extendleft(reversed(self._replace(entry, error)))
        except Exception:
            log.exception("%r could not be put aside", entry.step.delivery)

    def _repeated(self, steps: Sequence[Step], then: tuple[int, int] | None) -> Sequence[Answer]:
        pause = _AGAIN
        lost = False
        while True:
            try:
                answers = self._ledger.commit(steps, then)
            except ServerLost as error:
                if not lost:
                    log.warning("%s; %s results wait until it is back", error, len(steps))
                lost = True
                self._retry.wait(pause)
                if self._given_up.is_set():
                    raise
                self._retry.clear()
                pause = min(pause * 2, _AGAIN_MAX)
            else:
                if lost:
                    log.warning("the server is back; the results are written")
                return answers
