"""The ledger on Redis: what is taken is recorded, a step is all or nothing, no death loses or doubles anything."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import kombu
import pytest

from nbcanvas import App
from nbcanvas.backend.port import Record
from nbcanvas.errors import ServerLost
from nbcanvas.ledger.port import Step
from nbcanvas.plan import Call, Chain, Fan, Join, Message, Next, Slot
from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Value
from nbcanvas.protocol.payload import unpack
from nbcanvas.servers.redis import RedisServer
from tests.cluster.on_redis import World, new_id
from tests.cluster.proxy import Proxy
from tests.servers import until

pytestmark = pytest.mark.servers


@pytest.fixture
def ledger(world):
    made = world.ledger()
    yield made
    made.close()


def call(task="add", *args, **options):
    return Call(new_id(), task, args, options=options)


def chord(count, body=None, task="add"):
    members = [call(task, i) for i in range(count)]
    fan = Fan(new_id(), members)
    for index, member in enumerate(members):
        member.group_id, member.index = fan.id, index
    body = body or call()
    return Chain((fan, body)), fan, body


def result(world, one):
    record = world.backend.get(one.id)
    return None if record is None else record.exc if record.exc is not None else unpack(record.payload)


def blocked(world):
    """Return how many connections wait to be handed a message."""
    return int(world.server.call("INFO", "clients").split(b"blocked_clients:")[1].split()[0])


# -- taking -----------------------------------------------------------------------------------------------------------


def test_what_is_taken_is_recorded_and_gone_when_it_is_committed(world, ledger):
    one = call("add", 1, 2)
    world.send(one)
    (delivery,) = ledger.take(5, 1, 0)
    unacked = f"nbcanvas:unacked:{ledger.worker}"
    assert (delivery.queue, delivery.redelivered, delivery.began) == ("celery", 0, False)
    assert delivery.letter.headers["id"] == one.id
    assert world.server.call("HLEN", unacked) == 1
    assert world.server.call("SCARD", f"nbcanvas:begun:{ledger.worker}") == 1
    world.commit(ledger, [world.steps(delivery)])
    assert result(world, one) == 3
    assert world.keys("nbcanvas:unacked*") == world.keys("nbcanvas:begun*") == []


def test_urgent_messages_come_first_whatever_their_queue(world):
    ledger = world.ledger(queues=["a", "b"])
    calls = {(queue, p): call("add", 1, queue=queue, priority=p) for p in (9, 6, 3, 0) for queue in "ba"}
    for one in calls.values():
        world.send(one)
    taken = [d.letter.headers["id"] for d in ledger.take(100, 0, 0)]
    assert taken == [calls[queue, p].id for p in (0, 3, 6, 9) for queue in "ab"]
    ledger.close()


def test_a_waiting_take_gets_what_is_sent(world, ledger):
    one = call("add", 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.take, 10, 0, 60)
        until(lambda: blocked(world) == 1)
        world.send(one)
        (delivery,) = waiting.result(60)
    assert delivery.letter.headers["id"] == one.id
    assert blocked(world) == 0  # nothing is handed over behind our back


@pytest.mark.parametrize("priority", [3, 9])
def test_a_waiting_take_gets_less_urgent_messages_too(world, ledger, priority):
    one = call("add", 1, priority=priority)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.take, 10, 0, 60)
        until(lambda: blocked(world) == 1)
        world.send(one)
        assert [d.letter.headers["id"] for d in waiting.result(60)] == [one.id]


def test_of_several_queues_the_one_with_a_message_wakes(world):
    ledger = world.ledger(queues=["a", "b", "c"])
    one = call("add", 1, queue="c")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.take, 10, 0, 60)
        until(lambda: blocked(world) == 3)
        world.send(one)
        (delivery,) = waiting.result(60)
    assert (delivery.queue, delivery.letter.headers["id"]) == ("c", one.id)
    ledger.close()


def test_wake_returns_the_take_that_waits_or_else_the_next_one(ledger):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.take, 10, 0, None)
        time.sleep(0.05)
        ledger.wake()
        assert list(waiting.result(60)) == []
        ledger.wake()
        assert list(pool.submit(ledger.take, 10, 0, None).result(60)) == []


def test_queues_come_and_go(world, ledger):
    first, second = call("add", 1, queue="more"), call("add", 2, queue="more")
    world.send(first)
    assert not ledger.take(10, 0, 0)
    ledger.consume("more")
    assert [d.letter.headers["id"] for d in ledger.take(10, 0, 0)] == [first.id]
    assert {queue["name"] for queue in ledger.queues()} == {"celery", "more"}
    ledger.cancel("more")
    world.send(second)
    assert not ledger.take(10, 0, 0)
    assert world.server.call("LLEN", "more") == 1


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_step_of_a_delivery_that_is_not_ours_any_more_does_nothing(world, ledger):
    one, body = call("add", 1), call("add", 2)
    world.send(Chain((one, body)))
    (delivery,) = ledger.take(1, 1, 0)
    step = world.steps(delivery)
    world.server.call("DEL", f"nbcanvas:unacked:{ledger.worker}")
    (answer,) = ledger.commit([step])
    assert not answer.performed
    assert result(world, one) is None
    assert world.broker.depth() == {"celery": 0}


def test_a_step_whose_reply_was_lost_is_performed_once(world, ledger):
    chain = Chain((call("add", 1), call("add", 2)))
    world.send(chain)
    (delivery,) = ledger.take(1, 1, 0)
    step = world.steps(delivery)
    assert [answer.performed for answer in ledger.commit([step])] == [True]
    assert [answer.performed for answer in ledger.commit([step])] == [False]
    assert world.broker.depth() == {"celery": 1}


@pytest.mark.parametrize("task", ["add", "fail", "revoke"])
def test_a_message_delivered_twice_has_its_successors_once(world, ledger, task):
    first, second, errback = call(task, 1), call("add", 2), call("add", 3)
    first.errbacks = (errback,)
    world.send(Chain((first, second)))
    raw = world.server.call("LRANGE", "celery", 0, -1)[0]
    world.server.call("LPUSH", "celery", raw)
    world.work(ledger)
    assert world.ran[first.id] == 2
    assert world.ran.get(second.id, 0) == (1 if task == "add" else 0)
    assert world.backend.get(second.id).state == {"add": "SUCCESS", "fail": "FAILURE", "revoke": "REVOKED"}[task]


def test_a_revocation_that_was_stored_beforehand_does_not_hide_what_follows_from_it(world, ledger):
    first, second = call("revoke", 1), call("add", 2)
    world.send(Chain((first, second)))
    world.backend.update(first.id, Record("REVOKED", exc=ValueError("revoked"), done=time.time()))
    world.work(ledger)
    assert world.backend.get(second.id).state == "REVOKED"


def test_a_retry_is_sent_once_and_its_end_counts(world, ledger):
    one = call("add", 1)
    world.send(one)
    raw = world.server.call("LRANGE", "celery", 0, -1)[0]
    world.server.call("LPUSH", "celery", raw)
    deliveries = ledger.take(2, 2, 0)
    for delivery in deliveries:
        message = world.post.read(delivery.letter)
        again = Message(message.call, (), None, "root", None, time.time(), time.time() + 5, retries=1)
        record = Record("RETRY", exc=ValueError("again"), settled=0, call=message.call)
        ledger.commit([Step(delivery, message, one.id, record, sends=[again])])
    assert world.broker.depth() == {"celery": 1}
    assert world.backend.get(one.id).state == "RETRY"
    world.work(ledger)
    assert result(world, one) == 1


def test_what_ignores_its_result_is_told_and_not_stored(world, ledger):
    told = []
    world.backend.on_news = told.append
    one = call("add", 1)
    stop = world.backend.watch([one.id], lambda *_: None)
    world.send(one)
    (delivery,) = ledger.take(1, 1, 0)
    ledger.commit([world.steps(delivery)._replace(quiet=True, began=5.5)])
    until(lambda: [news.kind for news in told] == ["succeeded"])
    assert (told[0].began, told[0].record.payload, told[0].root_id) == ((5.5, "w@here"), 1, "root")
    assert not world.keys("celery-task-meta-*")
    stop()


def test_what_waits_for_its_eta_has_not_begun_and_what_runs_is_told(world, ledger):
    told = []
    world.backend.on_news = told.append
    later = call("add", 1, countdown=60)
    stop = world.backend.watch([later.id], lambda *_: None)
    world.send(later)
    (delivery,) = ledger.take(1, 1, 0)
    ledger.started([delivery.tag], begun=False)
    assert world.server.call("SCARD", f"nbcanvas:begun:{ledger.worker}") == 0
    ledger.started([delivery.tag])
    ledger.runs([(delivery, 7.5)])
    until(lambda: [(news.kind, news.time, news.data) for news in told] == [("started", 7.5, "w@here")])
    stop()


def test_ends_of_skipped_tasks_are_stored_and_told(world, ledger):
    heard = {}
    first, second, third = call("fail"), call("add", 1), call("add", 2)
    world.backend.watch([first.id, second.id, third.id], heard.__setitem__)
    world.send(Chain((first, second, third)))
    world.work(ledger)
    until(lambda: len(heard) == 3)
    assert {(record.state, str(record.exc)) for record in heard.values()} == {("FAILURE", "('no', 1)")}


# -- barriers ---------------------------------------------------------------------------------------------------------


def test_a_barrier_is_dispatched_with_its_values_in_order(world, ledger):
    node, fan, body = chord(20)
    world.send(node)
    world.work(ledger, batch=7)
    assert result(world, body) == sum(range(20))
    record = world.backend.get(body.id)
    assert record.parent_id in {member.id for member in fan.members}
    p = f"celery-taskset-meta-{fan.id}"
    assert world.keys("celery-taskset-meta-*") == [f"{p}.c"]
    assert world.server.call("GET", f"{p}.c") == b"done"


def test_a_failing_member_fails_the_body_when_all_have_ended(world, ledger):
    members = [call("add", 1), call("fail"), call("add", 2)]
    fan, body = Fan(new_id(), members), call("add")
    world.send(Chain((fan, body)))
    world.work(ledger, 2)
    assert world.backend.get(body.id) is None
    world.work(ledger)
    record = world.backend.get(body.id)
    assert record.state == "FAILURE"
    assert repr(record.exc) == f"""ChordError("Dependency {members[1].id} raised ValueError('no', 1)")"""


@pytest.mark.parametrize("key", [".s", ".t", ".j"])
def test_a_barrier_whose_keys_hold_something_else_fails_loudly(world, ledger, key):
    node, fan, body = chord(2)
    world.send(node)
    garbage = ("SET", f"celery-taskset-meta-{fan.id}{key}", "garbage")
    world.server.call(*garbage)
    world.work(ledger)
    record = world.backend.get(body.id)
    assert record.state == "FAILURE"
    assert f"celery-taskset-meta-{fan.id}{key}" in str(record.exc)


def test_barriers_in_barriers_one_failing_leaf(world, ledger):
    leaf = call("fail")
    inner = Chain((Fan(new_id(), [leaf, call("add", 1)]), call("add")))
    middle = Chain((Fan(new_id(), [inner, call("add", 2)]), call("add")))
    outer = Chain((Fan(new_id(), [middle, call("add", 3)]), body := call("add")))
    world.send(outer)
    world.work(ledger)
    assert world.backend.get(body.id).state == "FAILURE"
    assert leaf.id in str(world.backend.get(inner.steps[-1].id).exc)
    assert world.broker.depth() == {"celery": 0}


# -- giving back, and dead letters ------------------------------------------------------------------------------------


def test_what_is_requeued_is_the_next_one_again_with_kombus_marks(world, ledger):
    calls = [call("add", i) for i in range(3)]
    for one in calls:
        world.send(one)
    first = ledger.take(2, 1, 0)
    ledger.requeue(first)
    again = ledger.take(3, 0, 0)
    assert [d.letter.headers["id"] for d in again] == [one.id for one in calls]
    assert [json.loads(d.raw)["properties"]["delivery_info"].get("redelivered") for d in again] == [True, True, None]
    assert [json.loads(d.raw)["headers"].get("redelivered") for d in again] == [True, True, None]
    assert [(d.redelivered, d.began) for d in again] == [(0, False)] * 3


def test_what_is_rejected_is_kept_where_a_person_can_look(world, ledger):
    for raw in ("garbage", '{"body": 3}', b"\xff\x00"):
        world.server.call("LPUSH", "celery", raw)
    deliveries = ledger.take(5, 0, 0)
    assert [delivery.letter for delivery in deliveries] == [None] * 3
    for delivery in deliveries:
        ledger.reject(delivery, "cannot be understood")
    found = [json.loads(one) for one in world.server.call("LRANGE", "nbcanvas:dead", 0, -1)]
    assert [one["reason"] for one in found] == ["cannot be understood"] * 3
    assert (found[2]["raw"], found[2]["queue"], found[2]["worker"]) == ("garbage", "celery", "w@here")
    assert world.server.call("GET", "nbcanvas:dead:count") == b"3"
    assert not world.keys("nbcanvas:unacked*")


def test_a_close_gives_back_what_has_not_begun(world):
    ledger = world.ledger()
    calls = [call("add", i) for i in range(4)]
    for one in calls:
        world.send(one)
    ledger.beat()
    ledger.take(3, 0, 0)
    ledger.close()
    assert world.broker.depth() == {"celery": 4}
    assert not world.keys("nbcanvas:w*")


# -- death ------------------------------------------------------------------------------------------------------------


def beating(ledger, over, every=0.03):
    """Beat until `over` says so."""
    end = time.monotonic() + 60
    while not over():
        assert time.monotonic() < end, "not adopted in time"
        ledger.beat()
        time.sleep(every)


def test_what_a_dead_worker_had_is_adopted(redis_url):
    world = World(redis_url, silence=0.5)
    dead, alive = world.ledger("dead@here"), world.ledger("alive@here")
    calls = [call("add", i) for i in range(3)]
    for one in calls:
        world.send(one)
    dead.beat()
    dead.take(2, 1, 0)  # one has begun, one has not
    taken = []
    beating(alive, lambda: taken.extend(alive.take(10, 0, 0)) or len(taken) == 3)
    seen = {d.letter.headers["id"]: (d.redelivered, d.began) for d in taken}
    assert seen == {calls[0].id: (1, True), calls[1].id: (0, False), calls[2].id: (0, False)}
    # It comes back too late.
    assert not dead.commit([world.steps(dead._held["1"][0])])[0].performed
    world.commit(alive, [world.steps(one) for one in taken])
    assert [result(world, one) for one in calls] == [0, 1, 2]
    alive.close()
    world.close()


def test_what_was_handed_to_a_worker_that_died_is_not_lost(redis_url):
    world = World(redis_url, silence=0.5)
    dead, alive = world.ledger("dead@here"), world.ledger("alive@here")
    dead.beat()
    one = call("add", 7)
    world.send(one)
    world.server.call("LMOVE", "celery", f"nbcanvas:handed:{dead.worker}:celery", "RIGHT", "LEFT")
    taken = []
    beating(alive, lambda: taken.extend(alive.take(10, 0, 0)) or taken)
    assert taken[0].letter.headers["id"] == one.id
    alive.close()
    world.close()


def test_a_worker_adopts_only_what_is_of_its_queues(redis_url):
    world = World(redis_url, silence=0.4)
    dead, other, right = (world.ledger(name, [queue]) for name, queue in (("d@h", "a"), ("o@h", "b"), ("r@h", "a")))
    world.send(call("add", 1, queue="a"))
    dead.beat()
    dead.take(1, 1, 0)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        other.beat()
        time.sleep(0.03)
    assert not other.take(1, 0, 0)
    taken = []
    beating(right, lambda: taken.extend(right.take(10, 0, 0)) or taken)
    assert taken[0].began
    world.close()


def test_after_the_server_was_away_nobody_is_taken_for_dead(redis_url):
    world = World(redis_url, silence=0.4)
    one, other = world.ledger("one@here"), world.ledger("other@here")
    world.send(call("add", 1))
    one.beat()
    other.beat()
    one.take(1, 1, 0)
    time.sleep(0.7)  # neither could beat
    for _ in range(20):
        other.beat()
        one.beat()
        time.sleep(0.03)
    assert not other.take(1, 0, 0)
    assert world.server.call("HLEN", f"nbcanvas:unacked:{one.worker}") == 1
    world.close()


class Killed(BaseException):
    """The process is gone."""


class Mortal(RedisServer):
    """A server connection of a process that dies before, or behind, one of its exchanges with the server."""

    count, fatal, behind = 0, None, False

    def replies(self, commands):
        self.count += 1
        if self.count == self.fatal and not self.behind:
            raise Killed
        found = super().replies(commands)
        if self.count == self.fatal:
            raise Killed
        return found

    def tell(self, messages):
        if self.fatal is None or self.count < self.fatal:
            super().tell(messages)


def live_and_die(redis_url, case):
    """A worker dies at one of its exchanges; another one goes on.  Returns how many exchanges the first one had."""
    fatal, behind, late = case
    world = World(redis_url, prefix=f"{fatal}{behind}{late}:", silence=0.8)
    inner, _, _ = chord(2)
    members = [inner, call("add", 10), call("add", 20)]
    body, last = call("add"), call("add", 1000)
    world.send(Chain((Fan(new_id(), members), body, last)))
    server = Mortal(redis_url)
    server.fatal, server.behind = fatal, behind
    first = world.ledger("first@here", server=server)
    try:
        first.beat()
        while world.work(first, batch=2, late=late):
            pass
    except Killed:
        server.close()
    second = world.ledger("second@here")
    end = time.monotonic() + 60
    while world.backend.get(last.id) is None:
        assert time.monotonic() < end, f"{case} hangs: {world.keys()}"
        second.beat()
        world.work(second, late=late)
        time.sleep(0.03)
    assert world.ran.get(body.id, 0) <= (2 if late else 1), case
    record = world.backend.get(last.id)
    if record.state == "SUCCESS":
        assert unpack(record.payload) == 1031, case
    else:
        assert not late, case
        assert "lost" in str(world.backend.get(body.id).exc) + str(record.exc), case
    assert world.broker.depth() == {"celery": 0}, case
    assert not world.keys("nbcanvas:unacked:second*"), case
    assert {len(tags) for tags in world.sent.values()} == {1}, case  # however often it ran, each was sent once
    count = server.count
    second.close()
    world.close()
    return count


def test_a_worker_that_dies_at_any_command_neither_loses_nor_doubles_anything(redis_url):
    points = live_and_die(redis_url, (10_000, False, True))
    assert points > 8
    cases = [(n, behind, late) for n in range(2, points + 1) for behind in (False, True) for late in (False, True)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda case: live_and_die(redis_url, case), cases))


def test_a_server_that_is_away_is_said_to_be(world):
    ledger = world.ledger(server=RedisServer("redis://:secret@127.0.0.1:1/0"))
    with pytest.raises(ServerLost, match=r"redis://:\*+@127.0.0.1:1/0 is not there"):
        ledger.take(1, 0, 0)


def test_methods_may_be_called_from_several_threads(world, ledger):
    node, _, body = chord(300)
    world.send(node)
    stop = threading.Event()

    def beats():
        while not stop.is_set():
            ledger.beat()
            ledger.wake()

    thread = threading.Thread(target=beats)
    thread.start()
    done = 0
    end = time.monotonic() + 60
    while done < 301 and time.monotonic() < end:
        done += world.work(ledger, batch=10, timeout=0.05)
    stop.set()
    thread.join(60)
    assert result(world, body) == sum(range(300))


def test_an_arrival_again_while_its_barrier_is_full_and_not_dispatched_gets_the_same_answer(world):
    members = [call("add", i) for i in range(2)]
    join = Join(Fan(new_id(), members), Next(Chain((members[0], call())), 1, None))
    arrivals = [Arrival(Slot(join, i), Value(i), members[i].id) for i in range(2)]
    world.backend.open([join])
    assert world.backend.arrive(arrivals[0]) is None
    exits = world.backend.arrive(arrivals[1])
    assert [exit_.payload for exit_, _ in exits] == [0, 1]
    assert world.backend.arrive(arrivals[0]) is None  # somebody else's
    assert world.backend.arrive(arrivals[1]) is not None
    world.backend.dispatched(join)
    assert world.backend.arrive(arrivals[1]) is None


# -- what a review found ----------------------------------------------------------------------------------------------


class Deaf(RedisServer):
    """Performs what it is asked, and loses the reply to one script."""

    loses = ""

    def run(self, script, keys, args=()):
        found = super().run(script, keys, args)
        if self.loses and self.loses in script.text:
            self.loses = ""
            raise ServerLost("the reply was lost")
        return found


def ids(deliveries):
    return [delivery.letter.headers["id"] for delivery in deliveries]


def test_a_take_whose_reply_is_lost_is_answered_by_the_next_ones(world, redis_url):
    server = Deaf(redis_url)
    ledger = world.ledger(server=server)
    calls = [call("add", i) for i in range(5)]
    for one in calls:
        world.send(one)
    server.loses = "-- Take messages"
    with pytest.raises(ServerLost):
        ledger.take(4, 3, 0)
    found = [*ledger.take(2, 1, 0)]
    assert set(world.server.call("SMEMBERS", f"nbcanvas:begun:{ledger.worker}")) == {b"1", b"3"}
    found += ledger.take(10, 0, 0)
    found += ledger.take(10, 0, 0)
    assert ids(found) == [one.id for one in calls]
    assert world.server.call("SMEMBERS", f"nbcanvas:begun:{ledger.worker}") == [b"1"]
    world.commit(ledger, [world.steps(one) for one in found])
    assert not world.keys("nbcanvas:unacked*")
    ledger.close()


def test_a_connection_that_breaks_before_the_reply_of_a_take_costs_no_message(redis_server, redis_url):
    world = World(redis_url)
    one = call("add", 1)
    world.send(one)
    taken = threading.Event()
    with Proxy(redis_server.port) as proxy:
        ledger = world.ledger(server=RedisServer(f"redis://127.0.0.1:{proxy.port}/{redis_url.rpartition('/')[2]}"))
        assert not world.ledger(queues=["other"]).take(1, 0, 0)  # the server knows the script

        def watch(words, answered):
            if (
                answered
                and words[0].startswith(b"EVALSHA")
                and ledger.worker.encode() in words[3]
                and not taken.is_set()
            ):
                taken.set()
                proxy.cut()

        proxy.on_command = watch
        with pytest.raises(ServerLost):
            ledger.take(1, 0, 0)
        assert taken.is_set()
        assert world.broker.depth() == {"celery": 0}
        proxy.on_command = None
        proxy.mend()
        assert ids(ledger.take(1, 0, 0)) == [one.id]
        ledger.close()
    world.close()


def waits(world, ledger, begin=1):
    """Let a ledger wait for a message in another thread; returns what it will return."""
    pool = ThreadPoolExecutor(1)
    waiting = pool.submit(ledger.take, 4, begin, 60)
    until(lambda: blocked(world) == 1)
    pool.shutdown(wait=False)
    return waiting


def test_what_is_handed_over_is_taken_and_has_begun_without_another_word(world, redis_url, monkeypatch):
    monkeypatch.setattr("nbcanvas.ledger.redis._GLANCE_FIRST", 60)  # or a look may come upon what is being handed over
    server = Deaf(redis_url)
    ledger = world.ledger(server=server)
    unacked, begun = (f"nbcanvas:{what}:{ledger.worker}" for what in ("unacked", "begun"))
    for number in range(3):
        waiting = waits(world, ledger)
        server.loses = "-- Take messages"  # asking for it would fail
        one = call("add", number)
        world.send(one)
        (delivery,) = waiting.result(60)
        server.loses = ""
        assert ids([delivery]) == [one.id]
        assert (world.server.call("HLEN", unacked), world.server.call("SCARD", begun)) == (1, 1)
        world.commit(ledger, [world.steps(delivery)])
        assert result(world, one) == number
    ledger.close()


def test_what_is_handed_over_to_a_connection_that_breaks_is_not_lost(redis_server, redis_url, monkeypatch):
    monkeypatch.setattr("nbcanvas.ledger.redis._GLANCE_FIRST", 60)  # as above
    world = World(redis_url)
    one = call("add", 1)
    taken = threading.Event()
    with Proxy(redis_server.port) as proxy:
        ledger = world.ledger(server=RedisServer(f"redis://127.0.0.1:{proxy.port}/{redis_url.rpartition('/')[2]}"))

        def watch(words, answered):
            if answered and words[0] == b"BLMOVE":
                taken.set()
                proxy.cut()

        proxy.on_command = watch
        waiting = waits(world, ledger)
        world.send(one)
        with pytest.raises(ServerLost):
            waiting.result(60)
        assert taken.is_set()
        assert world.broker.depth() == {"celery": 0}
        proxy.on_command = None
        proxy.mend()
        assert ids(ledger.take(4, 1, 60)) == [one.id]
        assert world.server.call("SCARD", f"nbcanvas:begun:{ledger.worker}") == 1
        ledger.close()
    world.close()


def test_a_connection_that_was_let_go_of_takes_nothing_any_more(world, ledger):
    ledger._take_more = 4, 1
    ledger._waiting.begin(["celery"])  # as a take that waits
    until(lambda: blocked(world) == 1)
    (waiter,) = ledger._waiting._waiters.values()
    sock, waiter.link._connection._sock = waiter.link._connection._sock, None  # the server does not hear of its end
    ledger._waiting.lose()
    assert blocked(world) == 1
    assert not ledger.take(4, 1, 0)  # looks for what it may have taken, and so has to be sure
    assert blocked(world) == 0
    world.send(call("add", 1))
    assert len(ledger.take(4, 1, 0)) == 1
    sock.close()


def test_a_script_that_the_server_has_forgotten_costs_no_message(world, ledger):
    for number in range(2):
        waiting = waits(world, ledger)
        world.server.call("SCRIPT", "FLUSH")
        one = call("add", number)
        world.send(one)
        assert ids(waiting.result(60)) == [one.id]


def test_less_urgent_messages_are_not_forgotten_while_others_come_one_by_one(world, ledger):
    waiting = waits(world, ledger)
    world.send(call("add", 1))
    assert len(waiting.result(60)) == 1
    late = call("add", 0, priority=9)
    world.send(late)
    found, end = [], time.monotonic() + 60
    while late.id not in found:
        assert time.monotonic() < end
        world.send(call("add", 1))
        found += ids(ledger.take(4, 0, 5))


def test_a_close_behind_a_take_whose_reply_was_lost_gives_all_of_it_back(world, redis_url):
    server = Deaf(redis_url)
    ledger = world.ledger(server=server)
    world.send(call("add", 1))
    server.loses = "-- Take messages"
    with pytest.raises(ServerLost):
        ledger.take(1, 1, 0)
    ledger.close()
    assert world.broker.depth() == {"celery": 1}


@pytest.mark.parametrize(("name", "value"), [("priority", 1e999), ("priority", float("nan")), ("reply_to", "\ud800")])
def test_a_poisonous_envelope_costs_no_other_message(world, ledger, name, value):
    before, poison, after = call("add", 1), call("add", 2), call("add", 3)
    for one in (before, poison, after):
        world.send(one)
    found = json.loads(world.server.call("LINDEX", "celery", 1))
    found["properties"][name] = value
    world.server.call("LSET", "celery", 1, json.dumps(found))
    deliveries = ledger.take(10, 10, 0)
    assert len(deliveries) == 3
    ledger.tell("\ud800", "root", [("progress", poison.id, 1.0, 0, None)])
    readable = [one for one in deliveries if one.letter is not None]
    assert len(readable) == (3 if name == "reply_to" else 2)
    world.commit(ledger, [world.steps(one) for one in readable])
    assert (result(world, before), result(world, after)) == (1, 3)


def test_what_was_adopted_meanwhile_does_not_begin(redis_url):
    world = World(redis_url, silence=0.5)
    silent, other = world.ledger("silent@here"), world.ledger("other@here")
    world.send(call("add", 1))
    world.send(call("add", 2))
    silent.beat()
    mine = silent.take(2, 0, 0)
    world.server.call("HDEL", f"nbcanvas:unacked:{silent.worker}", mine[0].tag)
    assert list(silent.started([one.tag for one in mine])) == [mine[0].tag]
    assert world.server.call("SMEMBERS", f"nbcanvas:begun:{silent.worker}") == [mine[1].tag.encode()]
    assert list(silent.started([mine[0].tag], begun=False)) == [mine[0].tag]
    taken = []
    beating(other, lambda: taken.extend(other.take(10, 0, 0)) or taken)
    assert list(silent.started([mine[1].tag])) == [mine[1].tag]
    assert not world.keys(f"nbcanvas:begun:{silent.worker}")
    other.close()
    world.close()


def test_what_a_dead_worker_had_comes_to_whoever_is_idle_in_its_order(redis_url):
    world = World(redis_url, silence=0.5)
    dead, busy, idle = world.ledger("dead@here"), world.ledger("busy@here"), world.ledger("idle@here")
    calls = [call("add", i) for i in range(4)]
    for one in calls:
        world.send(one)
    dead.beat()
    dead.take(3, 2, 0)
    beating(busy, lambda: not world.keys("nbcanvas:unacked:dead*"))  # it works on something for an hour, and beats
    found = idle.take(10, 0, 0)
    assert ids(found) == [one.id for one in calls]
    assert [(one.redelivered, one.began) for one in found] == [(1, True), (1, True), (0, False), (0, False)]
    for ledger in (busy, idle):
        ledger.close()
    world.close()


def test_a_waiting_take_gets_what_a_dead_worker_had_begun(redis_url):
    world = World(redis_url, silence=0.5)
    dead, busy, idle = world.ledger("dead@here"), world.ledger("busy@here"), world.ledger("idle@here")
    one = call("add", 1)
    world.send(one)
    dead.beat()
    dead.take(1, 1, 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(idle.take, 1, 0, 60)
        beating(busy, waiting.done)
        assert ids(waiting.result(1)) == [one.id]
    for ledger in (busy, idle):
        ledger.close()
    world.close()


def test_what_is_handed_over_and_too_much_goes_back_to_its_queue(world):
    ledger, other = world.ledger(queues=["a", "b"]), world.ledger("other@here", queues=["b"])
    first, second, third = call("add", 1, queue="a"), call("add", 2, queue="b"), call("add", 3, queue="b")
    for one in (first, second, third):
        world.send(one)
    for queue in ("a", "b"):  # as the server does for a waiting take
        world.server.call("LMOVE", queue, f"nbcanvas:handed:{ledger.worker}:{queue}", "RIGHT", "LEFT")
    assert ids(ledger.take(1, 0, 0)) == [first.id]
    assert ids(other.take(5, 0, 0)) == [second.id, third.id]
    ledger.close()
    other.close()


def test_a_dead_worker_of_other_queues_is_not_looked_at_and_a_great_one_in_portions(redis_url, monkeypatch):
    monkeypatch.setattr("nbcanvas.ledger.redis._AT_ONCE", 50)
    world = World(redis_url, silence=0.4)
    dead, heir = world.ledger("dead@here"), world.ledger("heir@here")
    stranger = world.ledger("stranger@here", ["other"])
    calls = [call("add", i, said="x" * 100) for i in range(1200)]  # more than a compact hash holds
    world.broker.publish([Message(one, (), None, "root", None, time.time()) for one in calls])
    dead.beat()
    while dead.take(50, 0, 0):
        pass
    for _ in range(30):
        stranger.beat()
        time.sleep(0.03)
    unacked = f"nbcanvas:unacked:{dead.worker}"
    assert world.server.call("HLEN", unacked) == 1200
    assert world.server.call("HGET", f"nbcanvas:workers:{dead.worker}", "cursor") is None
    counts = []
    run = RedisServer.run

    def counting(self, script, keys, args=()):
        found = run(self, script, keys, args)
        if "-- Say that a worker lives" in script.text:
            counts.append(found)
        return found

    monkeypatch.setattr(RedisServer, "run", counting)
    beating(heir, lambda: not world.server.call("EXISTS", unacked))
    assert sum(counts) == 1200
    assert max(counts) < 200
    found = []
    while len(found) < 1200:
        found += ids(heir.take(1000, 0, 0))
    assert set(found) == {one.id for one in calls}
    for ledger in (heir, stranger):
        ledger.close()
    world.close()


def test_how_long_a_worker_may_be_silent_is_a_setting(redis_url):
    app = App("quiet", broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"worker_silence": 60}
    ledger = app.ledger("w@here", ["celery"])
    assert ledger._silence == 60
    ledger.close()
    app.close()


def test_a_closed_ledger_takes_nothing(world):
    ledger = world.ledger()
    world.send(call("add", 1))
    ledger.close()
    assert not ledger.take(10, 0, 0)
    assert world.broker.depth() == {"celery": 1}


def test_a_take_waits_with_many_files_open(world):
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        ledger = world.ledger()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ledger.take, 10, 0, 60)
            until(lambda: blocked(world) == 1)
            world.send(call("add", 1))
            assert len(waiting.result(60)) == 1
        ledger.close()
    finally:
        for one in many:
            os.close(one)


@pytest.mark.parametrize("state", ["SUCCESS_SO_FAR", "FAILURE-ISH", "SUCCESSION"])
@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_a_custom_state_that_begins_like_an_end_is_none(world, ledger, state, serializer):
    one = call("add", 1)
    world.send(one)
    meta = {"status": state, "result": "SUCCESS", "traceback": None, "children": []}
    _, _, document = kombu.serialization.dumps(meta, serializer)
    world.server.call("SET", f"celery-task-meta-{one.id}", document)
    world.work(ledger)
    assert result(world, one) == 1


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_an_end_is_one_whatever_wrote_it(world, ledger, serializer):
    one, two = call("add", 1), call("add", 2)
    world.send(Chain((one, two)))
    meta = {"status": "FAILURE", "result": None, "traceback": None, "children": []}
    _, _, document = kombu.serialization.dumps(meta, serializer)
    world.server.call("SET", f"celery-task-meta-{one.id}", document)
    world.work(ledger)
    assert world.broker.depth() == {"celery": 0}
    assert world.ran.get(two.id) is None
