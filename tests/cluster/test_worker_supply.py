"""What a worker has taken and not begun: who may have it, and when."""

from __future__ import annotations

from time import time
from types import SimpleNamespace

from nbcanvas.ledger.port import Delivery
from nbcanvas.plan import Call, Message
from nbcanvas.worker.cluster.job import Job
from nbcanvas.worker.cluster.pace import Pace
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


def test_not_every_task_is_asked_for_its_rate_each_time_something_is_taken(monkeypatch):
    clock, asked = [1.0], []
    monkeypatch.setattr("nbcanvas.worker.cluster.pace.monotonic", lambda: clock[0])
    task = SimpleNamespace(rate_limit=None)
    tasks = SimpleNamespace(values=lambda: asked.append(clock[0]) or [task])
    pace = Pace(SimpleNamespace(tasks=tasks, defaults=SimpleNamespace(rate_limit=None)), fair=True)
    assert [pace.portion(1, 1, 0).begin for _ in range(3)] == [1, 1, 1]
    assert asked == [1.0]
    task.rate_limit = "1/s"
    clock[0] += 60
    assert pace.portion(1, 1, 0).begin == 0
