"""What a worker has taken and not begun: who may have it, and when."""

from __future__ import annotations

from time import time

from nbcanvas.ledger.port import Delivery
from nbcanvas.plan import Call, Message
from nbcanvas.worker.cluster.job import Job
from nbcanvas.worker.cluster.supply import Portion, Supply


class Ledger:
    """Gives out messages with these due times, all of them begun; notes who could be begun when it hears of others."""

    def __init__(self, *due):
        self.due = due
        self.unbegun = []
        self.supply = Supply(
            self, self.read, lambda: Portion(9, 9), lambda portion: None, lambda job: None, lambda: None
        )

    def take(self, limit, begin, timeout):
        return [Delivery(str(number), "celery", None, b"", 0) for number in range(len(self.due))]

    def read(self, delivery):
        number = int(delivery.tag)
        call = Call(f"id{number}", "work", ())
        return Job(delivery, Message(call, (), None, "root", None, 0.0, self.due[number]))

    def started(self, tags, begun=True):
        self.unbegun.append((list(tags), begun, [*self.supply.scheduled(), *self.supply.reserved()]))
        return ()


def test_what_waits_for_its_time_has_not_begun_before_another_slot_can_begin_it():
    """Or the mark, and the result with it, could be taken back when it has ended."""
    ledger = Ledger(None, time() + 60)
    assert ledger.supply.next().message.call.id == "id0"
    assert ledger.unbegun == [(["1"], False, [])]
    assert [job.message.call.id for job in ledger.supply.scheduled()] == ["id1"]


def test_what_came_with_a_time_that_is_past_is_marked_by_whoever_runs_it():
    ledger = Ledger(None, time() - 60)
    assert [ledger.supply.next().began, ledger.supply.next().began] == [True, False]
    assert ledger.unbegun == []
