"""The ledger on Redis: what is taken is recorded, a step is all or nothing, no death loses or doubles anything."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nbcanvas.backend.port import Record
from nbcanvas.errors import ServerLost
from nbcanvas.ledger.port import Step
from nbcanvas.plan import Call, Chain, Fan, Join, Message, Next, Slot
from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Value
from nbcanvas.protocol.payload import unpack
from nbcanvas.servers.redis import RedisServer
from tests.cluster.on_redis import World, new_id
from tests.servers import until

pytestmark = pytest.mark.servers


@pytest.fixture
def world(redis_url):
    made = World(redis_url)
    yield made
    made.close()


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
        waiting = pool.submit(ledger.take, 10, 0, 20)
        until(lambda: blocked(world) == 1, 10)
        world.send(one)
        (delivery,) = waiting.result(20)
    assert delivery.letter.headers["id"] == one.id
    assert blocked(world) == 0  # nothing is handed over behind our back


@pytest.mark.parametrize("priority", [3, 9])
def test_a_waiting_take_gets_less_urgent_messages_too(world, ledger, priority):
    one = call("add", 1, priority=priority)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.take, 10, 0, 20)
        until(lambda: blocked(world) == 1, 10)
        world.send(one)
        assert [d.letter.headers["id"] for d in waiting.result(20)] == [one.id]


def test_of_several_queues_the_one_with_a_message_wakes(world):
    ledger = world.ledger(queues=["a", "b", "c"])
    one = call("add", 1, queue="c")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.take, 10, 0, 20)
        until(lambda: blocked(world) == 3, 10)
        world.send(one)
        (delivery,) = waiting.result(20)
    assert (delivery.queue, delivery.letter.headers["id"]) == ("c", one.id)
    ledger.close()


def test_wake_returns_the_take_that_waits_or_else_the_next_one(ledger):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.take, 10, 0, None)
        time.sleep(0.05)
        ledger.wake()
        assert list(waiting.result(10)) == []
        ledger.wake()
        assert list(pool.submit(ledger.take, 10, 0, None).result(10)) == []


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
    ledger.commit([world.steps(delivery)._replace(quiet=True)])
    until(lambda: [news.kind for news in told] == ["started", "succeeded"], 10)
    assert (told[0].data, told[1].record.payload, told[1].root_id) == ("w@here", 1, "root")
    assert not world.keys("celery-task-meta-*")
    stop()


def test_what_waits_for_its_eta_has_not_started(world, ledger):
    told = []
    world.backend.on_news = told.append
    later = call("add", 1, countdown=60)
    stop = world.backend.watch([later.id], lambda *_: None)
    world.send(later)
    (delivery,) = ledger.take(1, 1, 0)
    ledger.started([delivery.tag], begun=False)
    assert world.server.call("SCARD", f"nbcanvas:begun:{ledger.worker}") == 0
    ledger.started([delivery.tag])
    until(lambda: [news.kind for news in told] == ["received", "started"], 10)
    assert 50 < told[0].data["due"] - time.time() <= 60
    stop()


def test_ends_of_skipped_tasks_are_stored_and_told(world, ledger):
    heard = {}
    first, second, third = call("fail"), call("add", 1), call("add", 2)
    world.backend.watch([first.id, second.id, third.id], heard.__setitem__)
    world.send(Chain((first, second, third)))
    world.work(ledger)
    until(lambda: len(heard) == 3, 10)
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
    end = time.monotonic() + 20
    while not over():
        assert time.monotonic() < end, "not adopted in time"
        ledger.beat()
        time.sleep(every)


def test_what_a_dead_worker_had_is_adopted(redis_url):
    world = World(redis_url, silence=0.3)
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
    world = World(redis_url, silence=0.3)
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
    world = World(redis_url, silence=0.2)
    dead, other, right = (world.ledger(name, [queue]) for name, queue in (("d@h", "a"), ("o@h", "b"), ("r@h", "a")))
    world.send(call("add", 1, queue="a"))
    dead.beat()
    dead.take(1, 1, 0)
    end = time.monotonic() + 0.8
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
    world = World(redis_url, prefix=f"{fatal}{behind}{late}:", silence=0.4)
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
    end = time.monotonic() + 20
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
    end = time.monotonic() + 30
    while done < 301 and time.monotonic() < end:
        done += world.work(ledger, batch=10, timeout=0.05)
    stop.set()
    thread.join(10)
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
