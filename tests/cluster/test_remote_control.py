"""Remote control both ways: our client and Celery's, each on a worker of Celery's and one of ours, on one broker.

What Celery's client hears and what Celery's worker answers is the oracle.
"""

from __future__ import annotations

import contextlib
import json
import uuid

import pytest

from nbcanvas.errors import ServerLost, TaskRevokedError
from tests.cluster.fleet import Fleet
from tests.servers import Redis, free_port, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

TASKS = "tests.cluster.remote_tasks"
THEIRS, OURS = "celery@here", "ours@here"
BOTH = {THEIRS, OURS}


@pytest.fixture(scope="module")
def fleet(both_kinds):
    return both_kinds


@pytest.fixture(scope="module")
def ours(fleet):
    return fleet.client()


@pytest.fixture(scope="module")
def celerys(fleet):
    return fleet.celery_client()


def asked(app, command, *args, **options):
    """Ask for as long as it takes: a question ends when all have answered, or `limit` of them."""
    return getattr(app.control.inspect(**{"timeout": 60, **options}), command)(*args)


def pinged(app, *who):
    """Return who answered in a moment, and who did not; to be repeated: a busy worker may answer later."""
    inspect = app.control.inspect([*who] or None, timeout=2)
    return inspect.ping(), inspect.missing


def told(app, command, arguments, **options):
    """Return what each worker answers."""
    found = app.control.broadcast(command, arguments, reply=True, **{"timeout": 60.0, "limit": 2, **options})
    return {name: reply for one in found for name, reply in one.items()}


# -- the same answers to both clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("ping", ()),
        ("active", ()),
        ("reserved", ()),
        ("scheduled", ()),
        ("revoked", ()),
        ("registered", ()),
        ("registered", ("max_retries", "serializer", "__doc__", "nothing")),
        ("active_queues", ()),
        ("conf", ()),
        ("conf", (True,)),
        ("query_task", ("no-such-id",)),
    ],
)
def test_both_clients_hear_the_same(ours, celerys, command, args):
    found = asked(ours, command, *args)
    assert set(found) == BOTH
    assert found == asked(celerys, command, *args, limit=2)


@pytest.mark.parametrize("command", ["stats", "report", "clock", "memsample", "memdump"])
def test_both_clients_are_answered(ours, celerys, command):
    assert set(asked(ours, command)) == set(asked(celerys, command, limit=2)) == BOTH


def test_our_worker_answers_in_the_form_of_celerys(celerys):
    stats = asked(celerys, "stats", limit=2)
    assert set(stats[THEIRS]) <= set(stats[OURS])
    assert set(stats[THEIRS]["pool"]) - set(stats[OURS]["pool"]) <= {"writes"}
    assert set(stats[THEIRS]["rusage"]) == set(stats[OURS]["rusage"])
    assert set(stats[THEIRS]["broker"]) == set(stats[OURS]["broker"])
    assert {type(one["clock"]) for one in stats.values()} == {str}
    queues = asked(celerys, "active_queues", limit=2)
    assert queues[THEIRS] == queues[OURS]
    registered = asked(celerys, "registered", limit=2)
    assert registered[THEIRS] == registered[OURS] == ["add", "fail", "flaky", "wait"]


def test_no_answer_shows_the_password(ours):
    for command in ("stats", "report", "conf"):
        answer = asked(ours, command, destination=[OURS])
        assert answer
        assert "s3cret" not in json.dumps(answer)
    assert "s3cret" not in json.dumps(asked(ours, "conf", True, destination=[OURS]))


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("rate_limit", {"task_name": "add", "rate_limit": "100/s"}),
        ("rate_limit", {"task_name": "add", "rate_limit": 0}),
        ("rate_limit", {"task_name": "no.such.task", "rate_limit": "1/s"}),
        ("time_limit", {"task_name": "add", "soft": 100.0, "hard": 200.0}),
        ("time_limit", {"task_name": "add"}),
        ("time_limit", {"task_name": "no.such.task", "soft": 1}),
        ("add_consumer", {"queue": "extra"}),
        ("cancel_consumer", {"queue": "extra"}),
        ("pool_grow", {"n": 1}),
        ("pool_shrink", {"n": 1}),
        ("pool_restart", {}),
        ("autoscale", {"max": 3, "min": 1}),
        ("heartbeat", {}),
        ("revoke", {"task_id": "one-to-come"}),
        ("revoke", {"task_id": ["one-to-come"]}),
        ("terminate", {"signal": "KILL", "task_id": "unknown"}),
        ("revoke_by_stamped_headers", {"headers": {"colour": ["red"]}}),
        ("revoke_by_stamped_headers", {"headers": ["colour=blue"]}),
        ("revoke_by_stamped_headers", {"headers": {"colour": "green"}, "terminate": True}),
        ("hello", {"from_node": "new@here", "revoked": ["heard-of"]}),
        ("no_such_command", {}),
        ("objgraph", {}),
    ],
)
def test_our_worker_says_what_celerys_says(ours, command, arguments):
    answers = told(ours, command, arguments)
    if command == "hello":
        assert {name: set(reply) for name, reply in answers.items()} == {key: {"revoked", "clock"} for key in BOTH}
        assert answers[THEIRS]["revoked"] == answers[OURS]["revoked"]
    else:
        assert answers[OURS] == answers[THEIRS]


def test_events_of_tasks_are_switched_on_and_off(ours):
    for command in ("enable_events", "enable_events", "disable_events", "disable_events"):
        answers = told(ours, command, {})
        assert answers[OURS] == answers[THEIRS]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("rate_limit", {"task_name": "add", "rate_limit": "often"}),
        ("rate_limit", {"task_name": ["add"], "rate_limit": "1/s"}),
        ("rate_limit", {}),
        ("revoke", {}),
        ("terminate", {"signal": "NOSUCH", "task_id": "x"}),
        ("pool_grow", {"n": "many"}),
        ("query_task", {"ids": 5}),
        ("hello", {}),
        ("ping", []),
    ],
)
def test_bad_commands_are_answered_and_kill_nobody(ours, command, arguments):
    answer = told(ours, command, arguments, destination=[OURS]) if isinstance(arguments, dict) else {}
    assert all("error" in reply for reply in answer.values())
    assert asked(ours, "ping", destination=[OURS]) == {OURS: {"ok": "pong"}}


def test_consumers_come_and_go(ours, celerys):
    def consumers():
        found = asked(ours, "active_queues")
        return {name for name, queues in found.items() if "later" in {queue["name"] for queue in queues}}

    # Celery's worker may turn round two commands that come together: `extra` of a test before may be left there.
    told(celerys, "add_consumer", {"queue": "later"})
    until(lambda: consumers() == BOTH)
    sent = ours.send_task("add", (1, 2), queue="later")
    assert sent.get(timeout=60) == 3
    told(celerys, "cancel_consumer", {"queue": "later"})
    until(lambda: consumers() == set())


def test_pools_grow_and_shrink(ours):
    def size():
        return asked(ours, "stats", destination=[OURS])[OURS]["pool"]["max-concurrency"]

    ours.control.pool_grow(2, destination=[OURS])
    until(lambda: size() == 4)
    ours.control.pool_shrink(2, destination=[OURS])
    until(lambda: size() == 2)


# -- tasks that run, wait, and are revoked ----------------------------------------------------------------------------


@pytest.mark.parametrize("worker", [THEIRS, OURS])
@pytest.mark.parametrize("asks", ["ours", "celerys"])
def test_tasks_that_run_and_wait_are_told(request, fleet, ours, worker, asks):
    client = request.getfixturevalue(asks)
    queue = f"of-{worker}-{asks}"
    client.control.add_consumer(queue, destination=[worker], reply=True, timeout=60)
    running = ours.send_task("wait", (300,), queue=queue)
    waiting = ours.send_task("add", (1, 2), queue=queue, countdown=300)
    inspect = client.control.inspect([worker], timeout=60)

    def states():
        found = inspect.query_task(running.id, waiting.id)[worker]
        return {task_id: state for task_id, (state, _) in found.items()}

    until(lambda: states().get(running.id) == "active" and waiting.id in states())
    # A worker of Celery's goes on to tell of what it has been told to drop, until its time comes.
    [active] = [one for one in inspect.active()[worker] if one["id"] == running.id]
    [scheduled] = [one for one in inspect.scheduled()[worker] if one["request"]["id"] == waiting.id]
    assert (active["id"], active["name"], active["args"]) == (running.id, "wait", [300])
    assert active["acknowledged"] is True
    assert isinstance(active["time_start"], float)
    assert isinstance(active["worker_pid"], int)
    assert active["delivery_info"] == {"exchange": "", "routing_key": queue, "priority": 0, "redelivered": False}
    assert scheduled["request"]["id"] == waiting.id
    assert scheduled["priority"] == 6
    assert set(scheduled) == {"eta", "priority", "request"}
    assert (
        set(active)
        == set(scheduled["request"])
        == {
            *("id", "name", "args", "kwargs", "type", "hostname", "time_start"),
            *("acknowledged", "delivery_info", "worker_pid"),
        }
    )
    found = inspect.query_task(running.id, waiting.id, "nobody")[worker]
    assert set(found) == {running.id, waiting.id}
    assert found[running.id][0] == "active"

    client.control.revoke(waiting.id)
    with pytest.raises(TaskRevokedError):
        waiting.get(timeout=60)
    client.control.terminate(running.id)
    until(lambda: running.state == "REVOKED")
    until(lambda: running.id not in inspect.query_task(running.id)[worker])


def test_a_task_revoked_before_a_worker_has_it_does_not_run(ours):
    mine = str(uuid.uuid4())
    ours.control.revoke(mine, reply=True, limit=2, timeout=60)
    assert ours.AsyncResult(mine).state == "REVOKED"  # said at once, by whoever heard
    for name in BOTH:
        assert mine in asked(ours, "revoked")[name]


def test_what_has_ended_is_not_overruled(ours):
    done = ours.send_task("add", (1, 2))
    assert done.get(timeout=60) == 3
    ours.control.revoke(done.id, reply=True, limit=2, timeout=60)
    assert ours.AsyncResult(done.id).state == "SUCCESS"


def test_revokes_wait_for_workers_that_are_not_there(locked_redis):
    with Fleet(locked_redis.url.replace("/0", "/5"), tasks=TASKS) as fleet:
        app = fleet.client()
        first = app.send_task("add", (1, 2))
        stamped = app.signature("add", (3, 4)).stamp(colour="mauve").apply_async()
        kept = app.send_task("add", (5, 6))
        app.control.revoke(first.id)
        app.control.revoke_by_stamped_headers({"colour": "mauve"})
        fleet.ours("threads", 1)
        assert kept.get(timeout=60) == 11
        for revoked in (first, stamped):
            with pytest.raises(TaskRevokedError):
                revoked.get(timeout=60)


def test_a_file_keeps_revokes(fleet, ours, tmp_path):
    statedb = tmp_path / "revokes"
    once = fleet.ours("threads", 1, name="file@here", arguments=["--statedb", str(statedb), "--without-mingle"])
    ours.control.revoke("written-down", destination=["file@here"], reply=True, timeout=60)
    assert "written-down" in statedb.read_text()
    once.stop()
    again = fleet.ours("threads", 1, name="file@here", arguments=["--statedb", str(statedb), "--without-mingle"])
    assert "written-down" in asked(ours, "revoked", destination=["file@here"])["file@here"]
    again.stop()


# -- asking -----------------------------------------------------------------------------------------------------------


def test_answers_come_one_by_one_and_the_silent_are_named(ours):
    answers = ours.control.ask("ping", destination=[THEIRS, OURS, "nobody@here"], timeout=60)
    assert set(answers.missing) == {*BOTH, "nobody@here"}
    first = next(answers)
    assert first.worker in BOTH
    assert first.worker not in answers.missing
    assert {first.worker, next(answers).worker} == BOTH
    assert answers.missing == ("nobody@here",)
    assert [*ours.control.ask("ping", destination=["nobody@here"], timeout=0.3)] == []  # and waiting ends


def test_a_question_ends_when_all_have_answered(ours):
    assert set(ours.control.inspect(timeout=3600).ping()) == BOTH  # and not an hour later


def test_a_callback_hears_each_answer(ours):
    heard = []
    inspect = ours.control.inspect(timeout=60, callback=heard.append)
    inspect.ping()
    assert sorted(name for one in heard for name in one) == sorted(BOTH)
    assert inspect.missing == ()


def test_who_is_asked(ours):
    assert set(asked(ours, "ping", destination=[OURS])) == {OURS}
    assert asked(ours, "ping", destination=OURS) == {"ok": "pong"}
    assert set(asked(ours, "ping", pattern="our*", matcher="glob")) == {OURS}
    assert set(asked(ours, "ping", pattern="cel.+", matcher="pcre")) == {THEIRS}
    assert set(asked(ours, "ping", pattern="cel*")) == {THEIRS}
    assert len(asked(ours, "ping", limit=1)) == 1
    inspect = ours.control.inspect(["nobody@here"], timeout=0.3)
    assert inspect.ping() is None
    assert inspect.missing == ("nobody@here",)
    assert ours.control.ping(destination=["nobody@here"], timeout=0.3) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"destination": 5}, "destination has to be names of workers"),
        ({"destination": [5]}, "destination has to be names of workers"),
        ({"timeout": -1}, "timeout has to be a number of seconds"),
        ({"timeout": "soon"}, "timeout has to be a number of seconds"),
        ({"pattern": 5, "matcher": "glob"}, "pattern has to be a text"),
        ({"pattern": "x", "matcher": "soundex"}, "matcher has to be 'glob' or 'pcre'"),
    ],
)
def test_bad_questions_are_refused(ours, options, says):
    with pytest.raises(ValueError, match=says):
        ours.control.inspect(**options).ping()


def test_our_workers_clock_is_pushed_forward(ours):
    def clock():
        return asked(ours, "clock", destination=[OURS])[OURS]["clock"]

    before = clock()
    ours.control.clock.adjust(before + 1_000_000)
    asked(ours, "ping")
    assert clock() > before + 1_000_000
    assert ours.control.clock.value > before + 1_000_000


# -- garbage ----------------------------------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"not json",
    b"[]",
    b"{}",
    b'{"body": 5}',
    b'{"body": "e30=", "headers": {}, "properties": {}, "content-type": "application/json"}',
]
NO_COMMANDS = [
    *(None, 5, "ping", [], {}, {"method": 5}, {"method": None}, {"method": "ping", "arguments": []}),
    {"method": "ping", "destination": 7},
    {"method": "ping", "pattern": "(", "matcher": "pcre"},
    {"method": "ping", "arguments": {}, "reply_to": "nobody", "ticket": []},
    {"method": "ping", "arguments": {}, "reply_to": {"exchange": 1, "routing_key": 2}, "ticket": "x"},
    {"method": "no.such", "arguments": {"self": 1}},
    {"method": "revoke", "arguments": {"task_id": {"a": {}}, "terminate": "maybe", "signal": []}},
    {"method": "shutdown", "arguments": {"msg": [[]]}, "destination": ["somebody@else"]},
]


@pytest.fixture(scope="module")
def alone(locked_redis):
    """Our worker by itself: some of this ends one of Celery's."""
    with Fleet(locked_redis.url.replace("/0", "/3"), tasks=TASKS) as fleet:
        fleet.ours("threads", 1, name=OURS)
        yield fleet


def test_garbage_in_the_mailbox_is_survived(alone):
    import kombu
    import redis

    with redis.Redis.from_url(alone.url) as client:
        for raw in GARBAGE:
            client.publish("/3.celery.pidbox", raw)
    with kombu.Connection(alone.url) as connection:
        producer = kombu.Producer(connection.default_channel)
        fanout = kombu.Exchange("celery.pidbox", "fanout", durable=False)
        for body in NO_COMMANDS:
            for headers in ({}, {"clock": "late", "expires": []}):
                producer.publish(json.dumps(body), exchange=fanout, declare=[fanout], headers=headers,
                                 content_type="application/json", content_encoding="utf-8")  # fmt: skip
        producer.publish({"method": "ping"}, exchange=fanout, serializer="pickle")
    ours = alone.client()
    until(lambda: asked(ours, "ping", destination=[OURS]) == {OURS: {"ok": "pong"}})


@pytest.mark.parametrize("garbage", [b"not json", b"[]"])
def test_a_command_right_behind_garbage_is_heard_before_another_one_comes(alone, garbage):
    import redis

    ours, nowhere, mine = alone.client(), Fleet(alone.url.replace("/3", "/13"), tasks=TASKS), str(uuid.uuid4())
    with nowhere, redis.Redis.from_url(alone.url) as client, client.pubsub() as wire:
        wire.subscribe("/13.celery.pidbox")
        next(wire.listen())  # that it listens
        nowhere.client().control.revoke(mine)
        command = next(heard["data"] for heard in wire.listen() if heard["type"] == "message")
        with client.pipeline() as at_once:  # the server writes all of it in one stroke
            for raw in (b"", garbage, garbage, command):
                at_once.publish("/3.celery.pidbox", raw)
            at_once.execute()
        until(lambda: ours.AsyncResult(mine).state == "REVOKED")


def test_garbage_among_answers_is_passed_over(alone):
    """A worker whose answers are no answers is missing, and the others are heard."""
    import threading

    import kombu

    ours, done = alone.client(), threading.Event()

    def liar():
        with kombu.Connection(alone.url) as connection:
            queue = kombu.Queue("liar@here.celery.pidbox", kombu.Exchange("celery.pidbox", "fanout", durable=False),
                                durable=False, auto_delete=True)  # fmt: skip

            def lie(body, message):
                if "ticket" not in body:
                    return
                replies = kombu.Exchange(body["reply_to"]["exchange"], "direct", durable=False)
                producer = kombu.Producer(connection.default_channel)
                for answer in ([], None, 5, "pong", {"ticket": 1}.keys() and ["liar@here"]):
                    for headers in ({"ticket": body["ticket"]}, {"ticket": "another"}, {"clock": "x"}):
                        producer.publish(answer, exchange=replies, routing_key=body["reply_to"]["routing_key"],
                                         declare=[replies], headers=headers, serializer="json")  # fmt: skip

            with kombu.Consumer(connection.default_channel, [queue], callbacks=[lie], no_ack=True):
                while not done.is_set():
                    with contextlib.suppress(TimeoutError):
                        connection.drain_events(timeout=0.2)

    thread = threading.Thread(target=liar)
    thread.start()
    try:
        until(lambda: "liar@here" in (ours.control.remote.workers() or ()))
        until(lambda: pinged(ours) == ({OURS: {"ok": "pong"}}, ("liar@here",)))
    finally:
        done.set()
        thread.join()


# -- without a broker, and without workers ----------------------------------------------------------------------------


def test_a_broker_that_is_not_there_is_named_without_its_password():
    from nbcanvas import App

    app = App(broker=f"redis://:s3cret@127.0.0.1:{free_port()}/0", set_as_current=False)
    for ask in (app.control.ping, app.control.enable_events):
        with pytest.raises(ServerLost) as caught:
            ask()
        assert "127.0.0.1" in str(caught.value)
        assert "s3cret" not in repr(caught.value) + str(caught.value.__cause__) + str(caught.value.__context__)


def test_nobody_answers_where_nobody_is(locked_redis):
    with Fleet(locked_redis.url.replace("/0", "/7")) as fleet:
        app = fleet.client()
        assert app.control.inspect(timeout=0.3).ping() is None
        assert app.control.ping(timeout=0.3) == []
        assert app.control.revoke("x") is None


# -- on RabbitMQ ------------------------------------------------------------------------------------------------------


def test_on_rabbitmq(rabbitmq_url, locked_redis):
    with Fleet(rabbitmq_url, locked_redis.url.replace("/0", "/6"), tasks=TASKS) as fleet:
        fleet.celery("solo", 1, name=THEIRS, wait=False)
        fleet.ours("threads", 1, name=OURS, wait=False)
        for worker in fleet.workers:
            worker.await_ready()
        ours, celerys = fleet.client(), fleet.celery_client()
        pong = {key: {"ok": "pong"} for key in BOTH}
        assert asked(ours, "ping", limit=2) == asked(celerys, "ping", limit=2) == pong
        assert asked(ours, "registered", limit=2) == asked(celerys, "registered", limit=2)
        queues = asked(celerys, "active_queues", limit=2)
        assert queues[THEIRS] == queues[OURS]
        mine = str(uuid.uuid4())
        ours.control.revoke(mine, reply=True, limit=2, timeout=60)
        assert {name: mine in ids for name, ids in asked(celerys, "revoked", limit=2).items()} == dict.fromkeys(
            BOTH, True
        )
        until(lambda: pinged(ours, OURS, "nobody@here") == ({OURS: {"ok": "pong"}}, ("nobody@here",)))


# -- the broker goes away ---------------------------------------------------------------------------------------------


def test_workers_listen_again_when_the_broker_is_back(tmp_path):
    server = Redis(tmp_path, persistent=True)
    try:
        with Fleet(server.url, tasks=TASKS) as fleet:
            fleet.ours("threads", 1, name=OURS)
            app = fleet.client()
            assert asked(app, "ping") == {OURS: {"ok": "pong"}}
            app.control.enable_events()
            server.stop()
            with pytest.raises(ServerLost):
                app.control.ping()
            with pytest.raises(ServerLost):
                app.control.enable_events()
            server.start()
            until(lambda: asked(app, "ping", timeout=2) == {OURS: {"ok": "pong"}})
            app.control.rate_limit("add", "7/s", destination=[OURS], reply=True, timeout=60)
            assert asked(app, "registered", "rate_limit")[OURS][0] == "add [rate_limit=7/s]"
    finally:
        server.stop()
