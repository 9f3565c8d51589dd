"""A ledger in memory: the port's contract without a server, for tests of the worker itself.

What stands in `fails` is raised before a command is performed; what stands in `fails_after` when it has been: the reply
is lost.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque

from nbcanvas import states
from nbcanvas.ledger.port import Answer, Delivery, Filled

__all__ = ["MemoryLedger"]


class MemoryLedger:
    """One worker's ledger; `results`, `dead` and `waiting` are what a server would have."""

    claims = False

    def __init__(self, post):
        self.post = post
        self.waiting: deque = deque()
        self.unacked: dict[str, Delivery] = {}
        self.begun: set[str] = set()
        self.slots: dict[str, dict[int, tuple]] = {}
        self.dispatched: set[str] = set()
        self.results: dict[str, object] = {}
        self.dead: list[tuple[str, str]] = []
        self.beats = self.commits = 0
        self.fails: list[Exception] = []
        self.fails_after: list[Exception] = []
        self.owed: list[Delivery] = []
        self.long: list[str] = []
        self.takes = 0
        self._tags = itertools.count()
        self._changed = threading.Condition()
        self._woken = False

    def send(self, letter, *, redelivered=0, began=False, tag=None):
        with self._changed:
            delivery = Delivery(tag or str(next(self._tags)), "celery", letter, b"", redelivered, began=began)
            self.waiting.append(delivery)
            self._changed.notify_all()
        return delivery.tag

    def take(self, limit, begin=0, timeout=1.0):
        with self._changed:
            self.takes += 1
            if not self.waiting and not self._woken and not self.owed:
                self._changed.wait(timeout)
            self._woken = False
            if self.fails:
                raise self.fails.pop()
            found, self.owed = self.owed, []
            if not found:
                found = [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]
                self.unacked |= {one.tag: one for one in found}
                self.begun |= {one.tag for one in found[:begin]}
            if self.fails_after:
                self.owed = found
                raise self.fails_after.pop()
            return found

    def started(self, tags, begun=True):
        with self._changed:
            tags = list(tags)
            (self.begun.update if begun else self.begun.difference_update)(self.unacked.keys() & set(tags))
            self._reply_is_lost()
            return [tag for tag in tags if tag not in self.unacked]

    def runs(self, running):
        self.long += [delivery.tag for delivery, _ in running]

    def commit(self, steps, then=None):
        with self._changed:
            if self.fails:
                raise self.fails.pop()
            self.commits += 1
            answers = [self._commit(step) for step in steps]
            self._reply_is_lost()
            return answers

    def _reply_is_lost(self):
        if self.fails_after:
            raise self.fails_after.pop()

    def _commit(self, step):
        if step.delivery is not None and step.delivery.tag not in self.unacked:
            return Answer(False)
        letters = [self.post.write(message) for message in step.sends]  # what cannot be is refused before all else
        if step.dispatches is not None:
            if step.dispatches.id in self.dispatched:
                return Answer(False)
            self.dispatched.add(step.dispatches.id)
        settled = self.results.get(step.task_id)
        over = settled is not None and settled.state in states.READY_STATES
        if not over:
            if step.record is not None:
                self.results[step.task_id] = step.record
            for task_id, record in step.skips:
                self.results.setdefault(task_id, record)
            for letter in letters:
                self.send(letter)
        filled = None
        for arrival in step.arrivals:
            filled = self._arrive(arrival) or filled
        if filled is None and not step.keeps and step.delivery is not None:
            del self.unacked[step.delivery.tag]
        return Answer(not over, filled)

    def _arrive(self, arrival):
        join, index = arrival.slot.join, arrival.slot.index
        slots = self.slots.setdefault(join.id, {})
        slots.setdefault(index, (arrival.exit, arrival.by))
        size = self.sizes.get(join.id)
        if size == len(slots) and join.id not in self.dispatched:
            return Filled(join, [slots[number] for number in sorted(slots)])
        return None

    sizes: dict[str, int] = {}

    def requeue(self, deliveries):
        with self._changed:
            for one in reversed(list(deliveries)):
                if self.unacked.pop(one.tag, None) is not None:
                    self.waiting.appendleft(one)
            self._reply_is_lost()

    def reject(self, delivery, reason):
        with self._changed:
            if self.unacked.pop(delivery.tag, None) is not None:
                self.dead.append((delivery.tag, reason))
            self._reply_is_lost()

    def tell(self, client, root_id, events):
        pass

    def connect(self):
        self.beat()

    def beat(self):
        self.beats += 1

    def consume(self, queue):
        pass

    def cancel(self, queue):
        pass

    def queues(self):
        return [{"name": "celery"}]

    def wake(self):
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self):
        with self._changed:
            self.waiting.extendleft(self.unacked.values())
            self.unacked.clear()
