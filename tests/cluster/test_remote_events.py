"""Events both ways: Celery's receiver hears our workers, ours Celery's; what Celery's worker tells is the oracle."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from nbcanvas.events.foreign import Foreign
from nbcanvas.remote.mailbox import Events
from nbcanvas.remote.receiver import Receiver
from tests.cluster.fleet import Fleet
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

TASKS = "tests.cluster.remote_tasks"
THEIRS, OURS = "celery@here", "ours@here"
#: A worker's heartbeats: those that come by themselves say more.
BEATS = ("worker-heartbeat", "asked for")


@contextmanager
def celerys_receiver(app):
    """Hear events as Celery's monitors do."""
    heard, stop, listens = [], threading.Event(), threading.Event()

    def hear(event):
        if event["type"] == "test-probe":
            listens.set()
        else:
            heard.append(event)

    def run():
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": hear})
            with receiver.consumer_context() as (connection_, *_):
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        connection_.drain_events(timeout=0.2)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        # It listens when it hears something; a connection of the pool may be from before RabbitMQ was started anew.
        with app.connection_for_write() as own, app.events.Dispatcher(own) as probe:
            until(lambda: probe.send("test-probe") or listens.wait(0.05))
        yield heard
    finally:
        stop.set()
        thread.join()


@contextmanager
def our_receiver(app, sink=None):
    heard = []
    receiver = Receiver(app.kombu, Events.of(app.conf), sink or heard.extend)
    receiver.start()
    try:
        assert receiver.listening(60)
        yield receiver if sink else heard
    finally:
        receiver.stop()


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def told(request, locked_redis):
    """What a worker of each kind tells of the same work, as both kinds of monitor hear it."""
    url = locked_redis.url
    if request.param == "rabbitmq":
        url = request.getfixturevalue("rabbitmq_server").url
    results = locked_redis.url.replace("/0", {"redis": "/1", "rabbitmq": "/9"}[request.param])
    with Fleet(url, results, tasks=TASKS) as fleet:
        app = fleet.client()
        with celerys_receiver(fleet.celery_client()) as theirs, our_receiver(app) as ours:
            for name in (THEIRS, OURS):
                worker = (
                    fleet.celery("prefork", 1, name=name, events=True)
                    if name == THEIRS
                    else fleet.ours("threads", 1, name=name, arguments=["-E"])
                )
                for task, args in (("add", (2, 2)), ("fail", ("boom",)), ("flaky", ())):
                    app.send_task(task, args, task_id=f"{task}-{name}").get(timeout=60, propagate=False)
                app.send_task("add", (1, 1), task_id=f"late-{name}", expires=-1)
                until(lambda name=name: ends(ours, f"late-{name}") and ends(theirs, f"late-{name}"))
                app.control.heartbeat(destination=[name])
                for kind in BEATS:
                    until(lambda name=name, kind=kind: all(by_type(one, name)[kind] for one in (ours, theirs)))
                worker.stop()
            until(lambda: sum(event["type"] == "worker-offline" for event in ours) == 2)
            until(lambda: sum(event["type"] == "worker-offline" for event in theirs) == 2)
        yield {"theirs": theirs, "ours": ours}


def ends(events, task_id):
    return any(
        event.get("uuid") == task_id and event["type"] in {"task-revoked", "task-succeeded", "task-failed"}
        for event in events
    )


def by_type(events, worker):
    found = defaultdict(list)
    for event in list(events):
        if event["hostname"] == worker:
            found["asked for" if event.get("freq") == 5 else event["type"]].append(event)
    return found


@pytest.mark.parametrize("monitor", ["theirs", "ours"])
def test_our_worker_tells_what_celerys_tells(told, monitor):
    theirs, ours = by_type(told[monitor], THEIRS), by_type(told[monitor], OURS)
    assert set(ours) == set(theirs) > {*BEATS}
    assert {"task-received", "task-started", "task-succeeded", "task-failed", "task-retried", "task-revoked"} < set(
        ours
    )
    for kind, events in theirs.items():
        assert set(ours[kind][0]) == set(events[0]), kind
        # In Celery a task that retries becomes its own parent, and has no eta when it is to run at once.
        for key in set(events[0]) - {"local_received", "parent_id", "eta"}:
            assert {type(one[key]) for one in ours[kind]} == {type(one[key]) for one in events}, (kind, key)


@pytest.mark.parametrize("monitor", ["theirs", "ours"])
@pytest.mark.parametrize("task", ["add", "fail", "flaky", "late"])
def test_a_tasks_events_come_in_the_same_order_with_the_same_words(told, monitor, task):
    def story(worker):
        events = [event for event in told[monitor] if event.get("uuid") == f"{task}-{worker}"]
        events.sort(key=lambda event: event["clock"])
        words = ("type", "name", "args", "kwargs", "retries", "result", "exception", "expired", "terminated", "signum")
        said = [{word: event[word] for word in words if word in event} for event in events]
        # Celery's worker may receive the next attempt before it tells of the retry.
        return sorted(said, key=lambda event: (event.get("retries", 0), event["type"])) if task == "flaky" else said

    assert story(OURS) == story(THEIRS)
    assert story(OURS)


def test_both_monitors_hear_the_same(told):
    def plain(events):
        # A monitor writes the time of its hearing into what it hears.
        kept = [{k: v for k, v in event.items() if k not in {"local_received", "timestamp"}} for event in events]
        return sorted(json.dumps(event, sort_keys=True) for event in kept if event["type"].startswith("task-"))

    assert plain(told["ours"]) == plain(told["theirs"])


def test_a_root_is_named_when_a_task_is_received(told):
    for event in told["ours"]:
        if event["type"] == "task-received":
            assert event["root_id"] == event["uuid"]


# -- switched on and off ----------------------------------------------------------------------------------------------


def test_events_of_tasks_are_off_until_somebody_asks(locked_redis):
    with Fleet(locked_redis.url.replace("/0", "/2"), tasks=TASKS) as fleet:
        fleet.ours("threads", 1, name=OURS)
        app = fleet.client()
        with our_receiver(app) as heard:
            assert app.send_task("add", (1, 2)).get(timeout=60) == 3
            app.control.enable_events(destination=[OURS], reply=True, timeout=60)
            assert app.send_task("add", (3, 4)).get(timeout=60) == 7
            until(lambda: any(event["type"] == "task-succeeded" for event in heard))
            app.control.disable_events(destination=[OURS], reply=True, timeout=60)
            assert app.send_task("add", (5, 6)).get(timeout=60) == 11
            app.control.heartbeat()
            until(lambda: any(event.get("freq") == 5 for event in heard))
        assert {event.get("result") for event in heard} <= {None, "7"}


# -- clients ----------------------------------------------------------------------------------------------------------


def test_our_client_tells_what_it_sends_as_celerys_does(locked_redis):
    with Fleet(locked_redis.url.replace("/0", "/6"), tasks=TASKS, task_send_sent_event=True) as fleet:
        ours, celerys = fleet.client(), fleet.celery_client()
        with celerys_receiver(celerys) as heard:
            begun = datetime.now(UTC)
            ours.send_task("add", (1,), {"y": 2}, task_id="ours", queue="q", countdown=60, expires=120)
            celerys.send_task("add", (1,), {"y": 2}, task_id="theirs", queue="q", countdown=60, expires=120)
            ended = datetime.now(UTC)
            until(lambda: len(heard) == 2)
        [mine] = [event for event in heard if event["uuid"] == "ours"]
        [theirs] = [event for event in heard if event["uuid"] == "theirs"]
        assert set(mine) == set(theirs)
        for key in ("type", "name", "args", "kwargs", "queue", "exchange", "routing_key", "retries", "parent_id"):
            assert mine[key] == theirs[key], key
        for key, seconds in (("eta", 60), ("expires", 120)):
            for event in (mine, theirs):
                assert begun <= datetime.fromisoformat(event[key]) - timedelta(seconds=seconds) <= ended
        assert mine["hostname"].startswith("gen")


# -- a run of ours hears Celery's workers -----------------------------------------------------------------------------


def test_runs_hear_celerys_workers(locked_redis):
    with Fleet(locked_redis.url.replace("/0", "/3"), tasks=TASKS) as fleet:
        fleet.celery("threads", 1, name=THEIRS, events=True)
        app = fleet.client()
        feed = app.hub.open("mine")
        foreign = Foreign(app.hub.feed)
        with our_receiver(app, foreign.hear):
            app.send_task("flaky", (), task_id="one", root_id="mine").get(timeout=60)
            app.send_task("add", (1, 2), task_id="two", root_id="somebody's").get(timeout=60)
            until(lambda: sum(event[0] == "started" for event in list(feed)) == 2)
            until(lambda: any(event[0] == "retried" for event in list(feed)))
        told = sorted((event[0], event[3]) for event in feed if event[0] != "sent")
        assert told == [("received", 0), ("received", 1), ("retried", 0), ("started", 0), ("started", 1)]
        assert {event[1] for event in feed} == {"one"}
        assert {event[4] for event in feed if event[0] == "started"} == {THEIRS}


# -- garbage and floods -----------------------------------------------------------------------------------------------


def test_garbage_among_events_is_counted(locked_redis):
    import redis

    with Fleet(locked_redis.url.replace("/0", "/4"), tasks=TASKS) as fleet:
        app = fleet.client()
        heard = []
        with our_receiver(app, heard.extend) as receiver, redis.Redis.from_url(fleet.url) as client:
            import kombu

            for raw in (b"x", b"[]", b"{}", b'{"body": 1}'):
                client.publish("/4.celeryev/task.multi", raw)
            with kombu.Connection(fleet.url) as connection:
                producer = kombu.Producer(connection.default_channel, kombu.Exchange("celeryev", "fanout"))
                for body in (None, 5, [], [5, None], {"type": 5}, [{"type": "task-started"}], {"no": "type"}):
                    producer.publish(body, routing_key="task.multi", serializer="json")
                producer.publish({"type": "pickled"}, routing_key="task.multi", serializer="pickle")
                producer.publish({"type": "worker-heartbeat"}, routing_key="worker.heartbeat", serializer="json")
            until(lambda: {event["type"] for event in list(heard)} == {"task-started", "worker-heartbeat"})
            assert receiver.refused == 6


@pytest.mark.slow
def test_a_flood_leaves_the_process_to_others(locked_redis):
    """100 000 forged events: this process goes on working, and only what belongs to its runs is kept."""
    import redis

    with Fleet(locked_redis.url.replace("/0", "/8"), tasks=TASKS) as fleet:
        app = fleet.client()
        foreign = Foreign(app.hub.feed)
        clocks = []  # of the thread that hears

        def hear(events):
            foreign.hear(events)
            clocks.append((time.thread_time(), time.monotonic()))

        with our_receiver(app, hear) as receiver, redis.Redis.from_url(fleet.url) as client:
            events = [{"type": "task-received", "uuid": str(n), "root_id": "x", "timestamp": 1.0} for n in range(50)]
            envelope = {
                "body": base64.b64encode(json.dumps(events).encode()).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {},
                "properties": {"delivery_info": {}, "delivery_tag": "t", "body_encoding": "base64"},
            }
            raw = json.dumps(envelope)
            pipe = client.pipeline(transaction=False)
            for _ in range(2000):
                pipe.publish("/8.celeryev/task.multi", raw)
            flood = threading.Thread(target=pipe.execute)
            flood.start()
            until(lambda: receiver.heard == 100_000, 120)
            flood.join()
            # It rests behind each handful of 20 ms: gaps only grow on a busy machine, the thread's own work does not.
            rests = sum(later - before >= 0.04 for (_, before), (_, later) in pairwise(clocks))
            worked = clocks[-1][0] - clocks[0][0]
            assert worked <= 0.1 + 0.04 * rests
            assert foreign.told == 0
            assert not foreign._seen
