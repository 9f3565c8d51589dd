"""What every backend does, whatever it keeps results in."""

from __future__ import annotations

import threading
from time import time

import pytest

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.errors import TaskRevokedError
from nbcanvas.plan import Call, Chain, Fan, Value
from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Join, Next, Slot
from nbcanvas.protocol.payload import pack, unpack

ENDS = [
    Record(states.SUCCESS, pack({"a": [1, "ü", None]}), done=time(), settled=0),
    Record(states.SUCCESS, None, done=time(), settled=0),
    Record(states.FAILURE, exc=ValueError("no"), traceback="Traceback …", done=time(), settled=0),
    Record(states.REVOKED, exc=TaskRevokedError("revoked"), done=time(), settled=0),
    Record(states.IGNORED, done=time(), settled=0),
    Record(states.REJECTED, done=time(), settled=0),
]


class Heard:
    """Hears of ends, and waits for them."""

    def __init__(self):
        self.ends = []
        self.count = threading.Semaphore(0)

    def __call__(self, task_id, record):
        self.ends.append((task_id, record.state))
        self.count.release()

    def wait(self, count):
        for _ in range(count):
            assert self.count.acquire(timeout=60)
        return self.ends


@pytest.mark.parametrize("end", ENDS, ids=lambda record: f"{record.state} {record.payload is not None}")
def test_what_was_settled_is_there(backend, end):
    assert backend.get("t") is None
    assert backend.settle("t", end)
    found = backend.get("t")
    assert (found.state, unpack(found.payload), found.traceback) == (end.state, unpack(end.payload), end.traceback)
    assert repr(found.exc) == repr(end.exc)


def test_an_attempt_is_settled_once_and_a_later_one_overrules_it(backend):
    assert backend.settle("t", Record(states.RETRY, exc=ValueError("again"), settled=0))
    assert not backend.settle("t", Record(states.SUCCESS, "twice", done=time(), settled=0))
    assert backend.get("t").state == states.RETRY
    assert backend.settle("t", Record(states.SUCCESS, "done", done=time(), settled=1))
    assert not backend.settle("t", Record(states.FAILURE, exc=ValueError(), done=time(), settled=0))
    assert (backend.get("t").state, backend.get("t").payload) == (states.SUCCESS, "done")


def test_of_many_who_settle_at_once_one_does(backend):
    gate, won = threading.Barrier(4), []

    def settle(number):
        gate.wait(60)
        won.extend(
            one for one in range(200) if backend.settle(f"t{one}", Record("SUCCESS", number, done=1.0, settled=0))
        )

    threads = [threading.Thread(target=settle, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(won) == list(range(200))


def test_a_state_on_the_way_does_not_overrule_an_end(backend):
    assert backend.update("t", Record(states.STARTED, pack({"pid": 1})))
    assert backend.get("t").state == states.STARTED
    assert backend.update("t", Record("HALFWAY", pack({"current": 5})))
    assert unpack(backend.get("t").payload) == {"current": 5}
    backend.settle("t", Record(states.SUCCESS, 1, done=time(), settled=0))
    assert not backend.update("t", Record("HALFWAY", pack({"current": 6})))
    assert backend.get("t").payload == 1


def test_who_watches_hears_of_each_end_once(backend):
    heard = Heard()
    backend.watch(["a", "b"], heard)
    for one in "ab":
        record = Record(states.SUCCESS, one, done=time(), settled=0)
        backend.settle(one, record)
        backend.announce(one, record)
        backend.announce(one, record)
    assert sorted(heard.wait(2)) == [("a", "SUCCESS"), ("b", "SUCCESS")]
    assert backend.flush(60)
    assert len(heard.ends) == 2


def test_who_watches_hears_at_once_of_what_has_ended(backend):
    backend.expect(["t"])
    backend.settle("t", Record(states.FAILURE, exc=ValueError(), done=time(), settled=0))
    heard = Heard()
    backend.watch(["t"], heard)
    assert heard.wait(1) == [("t", "FAILURE")]


def test_who_watches_hears_of_an_end_that_was_stored_by_hand(backend):
    heard = Heard()
    backend.watch(["t"], heard)
    backend.update("t", Record(states.STARTED))
    backend.update("t", Record(states.REVOKED, exc=TaskRevokedError("revoked"), done=time()))
    assert heard.wait(1) == [("t", "REVOKED")]


def test_several_may_watch_one_task_and_one_may_stop(backend):
    first, second, third = Heard(), Heard(), Heard()
    backend.watch(["t"], first)
    backend.watch(["t"], second)()
    backend.watch(["t"], third)
    record = Record(states.SUCCESS, 1, done=time(), settled=0)
    backend.settle("t", record)
    backend.announce("t", record)
    assert first.wait(1) == third.wait(1) == [("t", "SUCCESS")]
    assert second.ends == []


def test_what_is_forgotten_is_not_there(backend):
    for one in "abc":
        backend.settle(one, Record(states.SUCCESS, one, done=time(), settled=0))
    backend.forget(["a", "c", "unknown"])
    assert [backend.get(one) is None for one in "abc"] == [True, False, True]


def test_groups_are_kept_until_they_are_deleted(backend):
    tree = (("g", None), [(("a", None), None), (("b", (("p", None), None)), None)])
    backend.save_group("g", tree)
    found = backend.restore_group("g")
    assert lists(found) == lists(tree)
    backend.save_group("g", (("g", None), []))
    assert lists(backend.restore_group("g")) == [["g", None], []]
    backend.delete_group("g")
    assert backend.restore_group("g") is None


def lists(tree):
    return [lists(one) for one in tree] if isinstance(tree, list | tuple) else tree


def test_a_barrier_opens_for_the_last_slot_and_no_other(backend):
    members = [Call(f"m{i}", "t", ()) for i in range(50)]
    fan, body = Fan("g", members), Call("body", "t", ())
    join = Join(fan, Next(Chain((fan, body)), 1, None))
    opened = []

    def fill(part):
        for index in part:
            for _ in range(2):  # delivered twice
                exits = backend.arrive(Arrival(Slot(join, index), Value(index), f"m{index}"))
                if exits is not None:
                    opened.append([unpack(exit_.payload) for exit_, _ in exits])
                    backend.dispatched(join)

    assert backend.arrive(Arrival(Slot(join, 0), Value(0), "m0")) is None
    assert list(backend.joins()) == ["g"]
    threads = [threading.Thread(target=fill, args=(range(start, 50, 4),)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert opened == [list(range(50))]


def test_what_has_expired_is_cleaned_up(sweeping):
    sweeping.settle("old", Record(states.SUCCESS, 1, done=time() - 7200, settled=0))
    sweeping.settle("new", Record(states.SUCCESS, 2, done=time(), settled=0))
    sweeping.cleanup()
    assert sweeping.get("old") is None
    assert sweeping.get("new").payload == 2
