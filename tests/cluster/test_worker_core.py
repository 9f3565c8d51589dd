"""What our worker does with each kind of delivery, on a ledger in memory that can fail whenever a test wants it to."""

from __future__ import annotations

import threading
import time

import pytest

from nbcanvas import App, states
from nbcanvas.errors import NotSerializable, ServerLost, WorkerLostError
from nbcanvas.ledger.port import Delivery, Step
from nbcanvas.plan import Call, Chain, Fan, Join, Message, Next
from nbcanvas.plan.model import Slot, Spread
from nbcanvas.worker.cluster import ClusterWorker
from nbcanvas.worker.cluster.committer import Entry
from nbcanvas.worker.slots import ThreadExecutor
from tests.cluster.memory import MemoryLedger
from tests.servers import until


class Bench:
    """A worker, its ledger, and tasks that write down that they ran."""

    def __init__(self):
        self.app = App("bench", broker="redis://127.0.0.1:1/0", set_as_current=False)  # nobody is there
        self.app.backend = _Nothing()
        self.ledger = MemoryLedger(self.app.post)
        self.ran: list = []
        self.gate = threading.Event()
        task = self.app.task

        @task(name="note")
        def note(key):
            self.ran.append((key, key in self.ledger.begun))
            return key

        @task(name="late", acks_late=True)
        def late(key):
            self.ran.append((key, key in self.ledger.begun))
            return key

        @task(name="wait")
        def wait(key):
            self.ran.append((key, True))
            self.gate.wait(100)
            return key

        @task(name="bad")
        def bad(key):
            return object()

        @task(name="opaque")
        def opaque(key):
            return _Opaque(1)

        @task(name="lonely")
        def lonely(key):
            return _Opaque(2)

        @task(name="stuck", time_limit=0.05)
        def stuck(key):
            while not self.gate.is_set():
                time.sleep(0.001)

        @task(name="limited", rate_limit="20/s")
        def limited(key):
            self.ran.append((key, key in self.ledger.begun))

        self.worker = None

    def start(self, concurrency=1, **options):
        self.worker = ClusterWorker(
            self.app, pool="threads", concurrency=concurrency, ledger=self.ledger, **options
        ).start()
        return self.worker

    def send(self, task, key, due=None, **how):
        call = Call(key, task, (key,))
        message = Message(call, (), None, key, None, time.time(), due)
        self.ledger.send(self.app.post.write(message), tag=key, **how)

    def state(self, key):
        until(lambda: key in self.ledger.results, what=f"{key} has ended")
        return self.ledger.results[key].state

    def close(self):
        self.gate.set()
        if self.worker is not None:
            self.worker.stop(5)
        self.app.close()


class _Opaque:
    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _refuse if self.number == 1 else _unknown, ()


def _refuse():
    raise RuntimeError("not here")


def _unknown():
    raise ImportError("no module of that name")


class _Nothing:
    """A backend that knows of nobody."""

    def __getattr__(self, name):
        return lambda *_args, **_kwargs: None


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_an_early_task_is_marked_before_it_runs_and_a_late_one_need_not_be(bench):
    for number in range(20):
        bench.send("note", f"n{number}")
    bench.start(3)
    for number in range(20):
        assert bench.state(f"n{number}") == states.SUCCESS
    assert sorted(bench.ran) == sorted((f"n{number}", True) for number in range(20))
    until(lambda: not bench.ledger.unacked)


def test_where_a_message_may_be_there_twice_a_late_task_is_marked_too(bench):
    bench.ledger.claims = True
    for number in range(20):
        bench.send("late", f"n{number}")
    bench.start(1)
    for number in range(20):
        assert bench.state(f"n{number}") == states.SUCCESS
    assert sorted(bench.ran) == sorted((f"n{number}", True) for number in range(20))


def test_of_a_long_task_is_told_while_it_runs_and_of_a_short_one_with_its_end(bench, monkeypatch):
    steps = []
    commit = bench.ledger.commit
    monkeypatch.setattr(bench.ledger, "commit", lambda some, then: steps.extend(some) or commit(some, then))
    bench.start(1)
    before = time.time()
    for number in range(5):
        bench.send("note", f"n{number}")
        bench.state(f"n{number}")
    assert all(before <= step.began <= time.time() for step in steps)
    bench.send("wait", "w")
    until(lambda: bench.ledger.long.count("w") == 1)
    bench.gate.set()
    assert bench.state("w") == states.SUCCESS


def test_many_short_tasks_are_written_in_few_strokes(bench, monkeypatch):
    for age in ("_AGE", "_AGE_MOST"):  # on a machine that stands still, no task is short
        monkeypatch.setattr(f"nbcanvas.worker.cluster.worker.{age}", 3600)
    for number in range(3000):
        bench.send("note", f"n{number}")
    bench.start(1)
    until(lambda: len(bench.ledger.results) == 3000)
    assert bench.ledger.commits < 1000


@pytest.mark.parametrize(
    ("task", "how", "state", "runs"),
    [
        ("note", {"redelivered": 1, "began": True}, states.FAILURE, 0),
        ("note", {"redelivered": 1, "began": False}, states.SUCCESS, 1),
        ("late", {"redelivered": 1, "began": True}, states.SUCCESS, 1),
        ("late", {"redelivered": 5, "began": True}, states.SUCCESS, 1),
        ("late", {"redelivered": 6, "began": True}, states.FAILURE, 0),
    ],
)
def test_what_another_worker_had_before(bench, task, how, state, runs):
    bench.send(task, "again", **how)
    bench.start()
    assert bench.state("again") == state
    assert len(bench.ran) == runs
    if state == states.FAILURE:
        assert isinstance(bench.ledger.results["again"].exc, WorkerLostError)
    until(lambda: not bench.ledger.unacked)
    assert bool(bench.ledger.dead) == (how["redelivered"] > 5)


def test_what_waits_for_its_time_has_not_begun(bench):
    bench.send("note", "much later", due=time.time() + 600)
    due = time.time() + 0.3
    bench.send("note", "later", due=due)
    bench.send("note", "now")
    worker = bench.start()
    assert bench.state("now") == states.SUCCESS
    until(lambda: "much later" in [one["request"]["id"] for one in worker.orders.scheduled()])
    assert "much later" not in bench.ledger.begun
    assert bench.state("later") == states.SUCCESS
    assert time.time() >= due
    assert sorted(bench.ran) == [("later", True), ("now", True)]


def test_a_rate_is_kept_and_marks_nothing_that_waits(bench):
    for number in range(5):
        bench.send("limited", f"l{number}")
    started = time.monotonic()
    bench.start(4)
    for number in range(5):
        assert bench.state(f"l{number}") == states.SUCCESS
    assert time.monotonic() - started >= 0.19
    assert all(begun for _, begun in bench.ran)


def test_while_the_server_is_away_nothing_is_lost_or_doubled(bench):
    bench.ledger.fails = [ServerLost("the server is away")] * 4
    for number in range(50):
        bench.send("note", f"n{number}")
    bench.start(2)
    until(lambda: len(bench.ledger.results) == 50)
    assert len(bench.ran) == 50


def test_when_replies_are_lost_nothing_is_lost_or_doubled(bench):
    bench.ledger.fails_after = [ServerLost("the reply is lost")] * 6
    for number in range(50):
        bench.send("note", f"n{number}")
    bench.start(2)
    until(lambda: len(bench.ledger.results) == 50)
    assert sorted(key for key, _ in bench.ran) == sorted(f"n{number}" for number in range(50))
    until(lambda: not bench.ledger.unacked)
    assert not bench.ledger.dead


def test_what_another_worker_has_by_now_does_not_begin(bench):
    bench.send("wait", "w")
    bench.send("note", "n")
    bench.ledger.take, take = (lambda limit, _begin=0, timeout=1.0: take(limit, 0, timeout)), bench.ledger.take
    worker = bench.start(1)
    until(lambda: bench.ran and "n" in worker.shared.jobs)
    with bench.ledger._changed:
        del bench.ledger.unacked["n"]
    bench.gate.set()
    until(lambda: not worker.shared.jobs)
    assert bench.ran == [("w", True)]


def test_a_barrier_whose_dispatch_cannot_be_written_fails_loudly(bench):
    join = Join(Fan("join", ()), Next(Chain((Call("body", "note", ()),)), 0, None))
    bench.ledger.sizes = {"join": 1}
    bench.app.post.write, write = None, bench.app.post.write
    message = Message(Call("one", "note", ("one",)), (), Slot(join, 0), "one", None, time.time())
    bench.ledger.send(write(message), tag="one")
    bench.start(1)
    assert bench.state("body") == states.FAILURE
    until(lambda: not bench.ledger.unacked)


def test_a_ledger_that_refuses_is_asked_again_with_pauses(bench):
    bench.ledger.fails = [RuntimeError("not now")] * 1000
    bench.send("note", "n")
    bench.start(1)
    time.sleep(0.5)
    assert bench.ledger.takes < 30
    del bench.ledger.fails[:]
    assert bench.state("n") == states.SUCCESS


def test_what_waited_for_the_server_is_written_as_soon_as_it_is_known_to_be_back(bench, monkeypatch):
    """Or tasks begin while the ends of those before them are not known: more would run than there are slots."""
    monkeypatch.setattr("nbcanvas.worker.cluster.committer._AGAIN", 3600)
    commit, tried = bench.ledger.commit, []

    def lost_at_first(steps, then=None):
        tried.append(steps)
        if len(tried) == 1:
            raise ServerLost("the server is away")
        return commit(steps, then)

    monkeypatch.setattr(bench.ledger, "commit", lost_at_first)
    worker = bench.start(2)
    bench.send("note", "n")
    until(lambda: tried)
    bench.ledger.fails.append(ServerLost("the server is away"))  # for who fetches
    bench.send("note", "more")
    assert [bench.state(one) for one in ("n", "more")] == [states.SUCCESS] * 2
    assert len(worker.committer) == 0


def test_what_is_to_be_written_is_kept_when_the_patience_ends(bench):
    bench.send("wait", "w")
    worker = bench.start(1)
    until(lambda: bench.ran)
    lost = ServerLost("the server is away")

    def commit(steps, then=None):
        worker.committer.give_up()
        raise lost

    bench.ledger.commit, commit_well = commit, bench.ledger.commit
    bench.gate.set()
    until(lambda: worker.committer._given_up.is_set() and not worker.committer._busy.locked())
    assert len(worker.committer) == 1
    bench.ledger.commit = commit_well
    worker.stop(5)
    assert bench.state("w") == states.SUCCESS


def test_who_waits_for_what_is_written_waits_for_what_another_thread_writes(bench):
    """Or a worker that stops lets go of its server while its last results are on the way."""
    worker, order = bench.start(1), []
    begun, goes_on, commit = threading.Event(), threading.Event(), bench.ledger.commit

    def slowly(steps, then=None):
        begun.set()
        goes_on.wait(60)
        order.append("written")
        return commit(steps, then)

    bench.ledger.commit = slowly
    bench.send("note", "n")
    assert begun.wait(60)
    waits = threading.Thread(target=lambda: (worker.committer.flush(wait=True), order.append("waited")))
    waits.start()
    time.sleep(0.05)  # it would be back by now
    goes_on.set()
    waits.join(60)
    assert order == ["written", "waited"]


def test_a_server_that_is_away_while_a_message_is_read_costs_nothing(bench):
    read, away = bench.app.post.read, [ServerLost("the plans are away")] * 3

    def reads(letter):
        if away:
            raise away.pop()
        return read(letter)

    bench.app.post.read = reads
    bench.send("note", "first")
    bench.send("note", "second")
    bench.start(1)
    assert [bench.state("first"), bench.state("second")] == [states.SUCCESS] * 2
    assert not bench.ledger.dead


def test_a_delivery_that_nothing_can_be_done_with_leaves_the_others_alone(bench):
    def rejects(delivery, reason):
        raise RuntimeError("refused")

    bench.ledger.reject = rejects
    bench.ledger.send(None, tag="bad")
    bench.send("note", "good")
    bench.start(1)
    assert bench.state("good") == states.SUCCESS
    until(lambda: list(bench.ledger.unacked) == ["bad"])


@pytest.mark.parametrize("task", ["opaque", "lonely"])
def test_a_result_that_pickles_and_does_not_unpickle_is_a_failure(bench, task):
    bench.send(task, "bad")
    bench.send("note", "good")
    bench.start(1)
    assert bench.state("bad") == states.FAILURE
    assert isinstance(bench.ledger.results["bad"].exc, NotSerializable)
    assert bench.state("good") == states.SUCCESS


def test_whoever_listens_costs_no_result(bench):
    class Deaf:
        def __getattr__(self, name):
            def hear(*_args):
                raise RuntimeError("deaf")

            return hear

    bench.send("note", "n")
    worker = bench.start(1)
    worker.listener = Deaf()
    bench.send("note", "m")
    assert [bench.state("n"), bench.state("m")] == [states.SUCCESS] * 2


def test_a_step_that_cannot_be_written_is_replaced_with_all_that_its_failure_causes(bench):
    """The steps behind it never run: each of them fills its own slot of the barrier around."""
    members = tuple(Call(f"m{number}", "note", (number,), group_id="join", index=number) for number in range(2))
    join = Join(Fan("join", ()), Next(Chain((Call("body", "note", ()),)), 0, None))
    then = Next(Chain((Fan("inner", members),)), 0, Spread(join))
    bench.ledger.sizes = {"join": 2}
    message = Message(Call("bad", "bad", ("bad",)), (), then, "bad", None, time.time())
    worker = bench.start(1)
    delivery = Delivery("d", "celery", None, b"")
    bench.ledger.unacked["d"] = delivery
    worker.committer.add(Entry(Step(delivery, message, "bad", sends=[None])))
    worker.committer.flush(wait=True)
    assert bench.ledger.results["bad"].state == states.FAILURE
    assert not bench.ledger.unacked, "it was never acknowledged"
    assert set(bench.ledger.slots["join"]) == {0, 1}


def test_a_result_is_written_while_the_next_task_still_runs(bench):
    bench.send("note", "first")
    bench.send("wait", "long")
    bench.start(1)
    until(lambda: ("long", True) in bench.ran)
    assert bench.state("first") == states.SUCCESS
    assert "long" not in bench.ledger.results


def test_what_was_taken_in_excess_goes_back_when_a_task_takes_its_time(bench):
    for number in range(300):
        bench.send("note", f"n{number}")
    bench.send("wait", "long")
    for number in range(300):
        bench.send("note", f"m{number}")
    bench.start(1)
    until(lambda: ("long", True) in bench.ran)
    until(lambda: len(bench.ledger.waiting) >= 290, what="the rest is back")
    bench.gate.set()
    until(lambda: len(bench.ledger.results) == 601)
    assert len(bench.ran) == 601


def test_what_cannot_be_written_is_a_failure_of_its_own_task(bench):
    bench.send("bad", "bad")
    bench.send("note", "good")
    bench.start()
    assert bench.state("bad") == states.FAILURE
    assert isinstance(bench.ledger.results["bad"].exc, NotSerializable)
    assert bench.state("good") == states.SUCCESS


def test_a_stop_gives_back_what_has_not_begun(bench):
    bench.send("wait", "runs")
    for number in range(3):
        bench.send("note", f"n{number}")
    bench.send("note", "later", due=time.time() + 60)
    worker = bench.start(1)
    until(lambda: ("runs", True) in bench.ran)
    worker.shutdown()
    bench.gate.set()
    assert worker.over.wait(60)
    assert bench.state("runs") == states.SUCCESS
    assert [one.tag for one in bench.ledger.waiting] in (["n0", "n1", "n2", "later"], ["later", "n0", "n1", "n2"])


def test_a_cold_stop_says_what_was_lost(bench):
    bench.send("wait", "early")
    bench.send("late", "late", due=time.time() + 60)
    worker = bench.start(2)
    until(lambda: ("early", True) in bench.ran)
    worker.stop_now()
    assert bench.state("early") == states.FAILURE
    assert [one.tag for one in bench.ledger.waiting] == ["late"]


def test_the_pool_grows_and_shrinks(bench):
    worker = bench.start(1)
    for number in range(3):
        bench.send("wait", f"w{number}")
    until(lambda: len(worker.orders.running()) == 1)
    worker.orders.grow(2)
    until(lambda: len(worker.orders.running()) == 3)
    worker.orders.shrink(2)
    bench.gate.set()
    until(lambda: len(worker.pool.slots) == 1)
    bench.send("note", "after")
    assert bench.state("after") == states.SUCCESS


def test_a_slot_that_is_given_up_begins_no_other_task(bench, monkeypatch):
    """It has to know before its task ends: what it began then would end, and nobody would hear of that."""
    end = ThreadExecutor.end

    def slowly(*args):
        found = end(*args)
        pause = time.monotonic() + 0.2
        while not bench.ran and time.monotonic() < pause:
            time.sleep(0.005)
        return found

    monkeypatch.setattr(ThreadExecutor, "end", slowly)
    bench.send("stuck", "stuck")
    bench.send("wait", "next")
    worker = bench.start(1)
    (first,) = worker.pool.slots
    until(lambda: bench.ran and first not in worker.pool.slots)
    bench.gate.set()
    assert [bench.state(one) for one in ("stuck", "next")] == [states.FAILURE, states.SUCCESS]


def test_it_scales_with_the_work(bench):
    worker = bench.start(autoscale=(4, 1))
    assert worker.pool.size == 1
    for number in range(4):
        bench.send("wait", f"w{number}")
    until(lambda: len(worker.orders.running()) == 4)
    assert worker.orders.autoscale(2, 1) == (2, 1)


def test_a_server_that_goes_between_connecting_and_starting_is_waited_for(bench):
    worker = ClusterWorker(bench.app, pool="threads", concurrency=1, ledger=bench.ledger)
    bench.worker = worker
    worker.connect()
    beat, lost = bench.ledger.beat, [ServerLost("gone again")]

    def gone():
        if lost:
            raise lost.pop()
        beat()

    bench.ledger.beat = gone
    worker.start()
    bench.send("note", "n")
    assert bench.state("n") == "SUCCESS"
    assert not lost
    until(lambda: bench.ledger.beats > 1, what="its heart beats")
