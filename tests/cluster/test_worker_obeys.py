"""Our worker does what messages, tasks, settings and its command line say."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from nbcanvas import chain, chord, group
from nbcanvas.errors import (
    MaxRetriesExceededError,
    NotRegistered,
    NotSerializable,
    Reject,
    TaskRevokedError,
    TimeLimitExceeded,
)
from tests.cluster.fleet import Fleet
from tests.servers import until

pytestmark = pytest.mark.servers

NBCANVAS = str(Path(sys.executable).parent / "nbcanvas")


@pytest.fixture(scope="module")
def shared(redis_server):
    """One worker for the tests that need no other."""
    url = redis_server.url.removesuffix("/0") + "/7"
    with redis.Redis.from_url(url) as store:
        store.flushdb()
        with Fleet(url, tasks="tests.cluster.chores") as fleet:
            worker = fleet.ours("threads", 4, name="shared@here", arguments=("-l", "INFO"))
            yield fleet.client(), store, worker


@pytest.fixture
def app(shared):
    return shared[0]


@pytest.fixture
def store(shared):
    return shared[1]


@pytest.fixture
def fleet(redis_url):
    with Fleet(redis_url, tasks="tests.cluster.chores") as fleet:
        yield fleet


def send(app, name, *args, **options):
    return app.send_task(name, args, **options)


def test_what_a_task_sees_of_its_message(app):
    assert send(app, "about").get(timeout=60) == ["shared@here", "celery", False]


def test_a_request_has_what_celerys_has(app):
    """Reference: the same task on Celery 5.7."""
    mark = app.signature("mark", ("after",), immutable=True)
    linked = send(app, "asks", link=mark, reply_to="me", argsrepr="(hidden)", time_limit=50, headers={"tenant": "a"})
    seen = linked.get(timeout=60)
    (callback,) = seen.pop("callbacks")
    assert callback["task"] == "mark" and callback["args"] == ["after"]
    assert seen == {
        "correlation_id": linked.id,
        "reply_to": seen["reply_to"],
        "argsrepr": "(hidden)",
        "time_limit": 50,
        "chain": None,
        "loglevel": None,
        "tenant": "a",
    }
    assert seen["reply_to"]
    first = chain(app.signature("asks"), mark).apply_async()
    assert first.get(timeout=60) == "after"
    assert [step["task"] for step in first.parent.get(timeout=60)["chain"]] == ["mark"]


@pytest.mark.parametrize(("kind", "pool"), [("celery", "threads"), ("ours", "threads"), ("ours", "processes")])
def test_a_task_knows_its_group_and_its_children(fleet, kind, pool):
    getattr(fleet, kind)(pool, 1)
    app = fleet.client()
    first, placed = app.signature("mark", ("first",)), app.signature("placed")
    members = group(first, chain(first, placed)).apply_async()
    assert members.get(timeout=60)[1] == [members.id, 1, 1]
    body = chord([first, first], placed).apply_async()
    assert body.get(timeout=60) == [body.parent.id, None, 1]
    assert len(body.children) == 1


def test_hidden_arguments_stay_hidden(app, store):
    """The sender says how arguments are shown; a monitor (Flower asks with ``safe``) sees no other, as with Celery."""
    send(app, "hold", "secret", argsrepr="('***',)")
    until(lambda: store.exists("ran:secret"))
    (active,) = app.control.inspect(["shared@here"], timeout=60).active(safe=True).values()
    assert [one["args"] for one in active if one["name"] == "hold"] == ["('***',)"]
    store.rpush("go:secret", 1)


def test_what_rejects_its_message_has_failed(app, store):
    """Celery 5.7: FAILURE, so that nobody waits for ever."""
    result = send(app, "rejects")
    with pytest.raises(Reject, match="no use"):
        result.get(timeout=60)
    assert json.loads(store.get(f"celery-task-meta-{result.id}"))["status"] == "FAILURE"


def test_a_retry_raised_by_hand_does_not_go_on_for_ever(app):
    with pytest.raises(MaxRetriesExceededError, match="by hand"):
        send(app, "again").get(timeout=60)


def test_a_sender_may_want_what_a_task_ignores(app, store):
    wanted = send(app, "quiet", 5, ignore_result=False)
    assert wanted.get(timeout=60) == 5
    assert json.loads(store.get(f"celery-task-meta-{wanted.id}"))["result"] == 5


def test_a_task_says_itself_how_it_failed(app, store):
    result = send(app, "ends_itself")
    with pytest.raises(Exception, match="by itself") as caught:
        result.get(timeout=60)
    assert type(caught.value).__name__ == "ValueError"
    assert json.loads(store.get(f"celery-task-meta-{result.id}"))["date_done"]


@pytest.mark.parametrize(
    ("task", "document"),
    [
        ("nobody.knows.it", {"exc_type": "NotRegistered", "exc_message": ["nobody.knows.it"]}),
        ("stuck", {"exc_type": "TimeLimitExceeded", "exc_message": [0.4]}),
    ],
)
def test_errors_are_written_as_celery_writes_them(app, store, task, document):
    result = send(app, task)
    with pytest.raises((NotRegistered, TimeLimitExceeded)):
        result.get(timeout=60)
    found = json.loads(store.get(f"celery-task-meta-{result.id}"))["result"]
    assert {name: found[name] for name in document} == document


def test_protocol_1_is_understood(app, store):
    """What a Celery client with ``task_protocol = 1`` sends."""
    body = {"task": "mark", "id": "of-the-past", "args": ["past"], "kwargs": {}, "retries": 0, "eta": None, "utc": True}
    properties = {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "celery"}}
    letter = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {**properties, "body_encoding": "base64", "correlation_id": "of-the-past", "priority": 0},
    }
    store.lpush("celery", json.dumps(letter))
    assert app.AsyncResult("of-the-past").get(timeout=60) == "past"


def test_it_says_once_that_it_is_ready(shared):
    assert shared[2].log.count("shared@here ready.") == 1


def test_a_countdown_is_kept_and_what_comes_later_does_not_wait_for_it(app):
    much_later = send(app, "mark", "much later", countdown=600)
    started = time.monotonic()
    later = send(app, "mark", "later", countdown=0.5)
    assert send(app, "mark", "now").get(timeout=60) == "now"
    assert later.get(timeout=60) == "later"
    assert time.monotonic() - started >= 0.5
    assert app.control.revoke(much_later.id, reply=True, timeout=60, destination=["shared@here"])


def test_what_is_late_is_not_run(app, store):
    gone = send(app, "mark", "gone", countdown=0.6, expires=0.2)
    with pytest.raises(TaskRevokedError, match="expired"):
        gone.get(timeout=60)
    assert not store.exists("ran:gone")


def test_time_limits(app):
    soft, hard = send(app, "overtime"), send(app, "stuck")
    assert soft.get(timeout=60) == "softly"
    with pytest.raises(TimeLimitExceeded, match="limit of 0"):
        hard.get(timeout=60)
    assert send(app, "mark", "after limits").get(timeout=60) == "after limits"


def test_a_value_that_cannot_travel_is_a_failure_that_says_so(app):
    with pytest.raises(NotSerializable, match="result_serializer"):
        send(app, "unsendable").get(timeout=60)


def test_an_ignored_result_is_not_stored(app, store):
    result = send(app, "forget", "ignored", ignore_result=True)
    until(lambda: store.exists("ran:ignored"))
    assert send(app, "mark", "behind").get(timeout=60) == "behind"
    assert store.get(f"celery-task-meta-{result.id}") is None


def test_a_task_sends_a_task(app, store):
    assert send(app, "submits").get(timeout=60)
    until(lambda: store.exists("ran:from a task"))


def test_links_and_errbacks(app, store):
    mark = app.signature("mark", ("linked",), immutable=True)
    heard = app.signature("hear")
    assert send(app, "mark", "ok", link=mark).get(timeout=60) == "ok"
    until(lambda: store.exists("ran:linked"))
    failed = send(app, "boom", link_error=heard)
    with pytest.raises(ValueError, match="boom"):
        failed.get(timeout=60)
    until(lambda: store.exists(f"ran:{failed.id}"), what="the errback is given the id")


def test_everything_behind_a_failure_ends(app):
    result = chain(app.signature("boom"), app.signature("total"), app.signature("total")).apply_async()
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=60)
    assert result.parent.state == "FAILURE"


def test_an_unknown_task_fails_and_its_message_is_kept(app, store):
    with pytest.raises(NotRegistered):
        send(app, "nobody.knows.this").get(timeout=60)
    until(lambda: b"nobody.knows.this" in b"".join(store.lrange("nbcanvas:dead", 0, -1)))


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"{", b'{"body": "!", "headers": []}', b"[1]", b'"text"'])
def test_garbage_is_kept_and_hurts_nobody(app, store, garbage):
    before = int(store.get("nbcanvas:dead:count") or 0)
    store.lpush("celery", garbage)
    until(lambda: int(store.get("nbcanvas:dead:count") or 0) > before)
    assert send(app, "mark", "unhurt").get(timeout=60) == "unhurt"


def test_a_failure_that_is_not_acknowledged_goes_to_the_dead_letters(app, store):
    before = int(store.get("nbcanvas:dead:count") or 0)
    with pytest.raises(ValueError, match="not acknowledged"):
        send(app, "careless").get(timeout=60)
    until(lambda: int(store.get("nbcanvas:dead:count") or 0) > before)
    assert "failed" in json.loads(store.lindex("nbcanvas:dead", 0))["reason"]


def test_nothing_is_left_behind(app, shared):
    store = shared[1]
    assert send(app, "mark", "last").get(timeout=60) == "last"
    until(lambda: not [key for key in store.keys("nbcanvas:unacked:*") if store.hlen(key)])
    until(lambda: "Task mark[" in shared[2].log and "succeeded in" in shared[2].log)


def test_a_rate_limit(fleet):
    app = fleet.client(task_default_rate_limit=None)
    fleet.conf["task_default_rate_limit"] = "4/s"
    fleet.ours("threads", 4)
    started = time.monotonic()
    results = [send(app, "mark", f"r{number}") for number in range(5)]
    assert [one.get(timeout=60) for one in results] == [f"r{number}" for number in range(5)]
    assert time.monotonic() - started >= 0.9


def test_queues_a_name_and_a_log_in_lines_of_json(fleet, tmp_path):
    log, pids = tmp_path / "%n.log", tmp_path / "worker.pid"
    worker = fleet.ours(
        "solo",
        1,
        queues="a,b",
        name="named@%h",
        arguments=(
            "-X",
            "b",
            "-l",
            "info",
            "-f",
            str(log),
            "--log-format",
            "json",
            "--pidfile",
            str(pids),
            "-O",
            "fair",
        ),
    )
    app = fleet.client()
    assert send(app, "mark", "in a", queue="a").get(timeout=60) == "in a"
    waits = send(app, "mark", "in b", queue="b")
    assert send(app, "mark", "in a again", queue="a").get(timeout=60)
    assert waits.state == "PENDING"
    assert int(pids.read_text()) == worker.pid
    assert worker.stop(60) == 0
    assert not pids.exists()
    lines = [json.loads(line) for line in (tmp_path / "named.log").read_text().splitlines()]
    assert any(line.get("task_name") == "mark" and line["level"] == "INFO" for line in lines)


def test_it_waits_for_its_server_and_purges_when_told_to(tmp_path):
    from tests.servers import Redis

    server = Redis(tmp_path, persistent=True)
    try:
        with Fleet(server.url, tasks="tests.cluster.chores") as fleet:
            app = fleet.client()
            dropped = send(app, "mark", "dropped")
            server.stop()
            worker = fleet.ours("solo", 1, arguments=("--purge",), wait=False)
            until(lambda: "trying again" in worker.log)
            server.start()
            worker.await_ready()
            assert "1 messages were dropped" in worker.log
            assert send(app, "mark", "kept").get(timeout=60) == "kept"
            assert dropped.state == "PENDING"
    finally:
        server.stop()


def test_a_retry_goes_back_to_the_queue_it_came_from(fleet):
    fleet.ours("threads", 1, queues="special")
    app = fleet.client()
    assert send(app, "flaky", 2, queue="special").get(timeout=60) == [2, "special"]


def test_a_process_is_replaced_after_so_many_tasks(fleet):
    fleet.ours("prefork", 1, arguments=("--max-tasks-per-child", "2"))
    app = fleet.client()
    pids = [send(app, "pid").get(timeout=60) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_it_starts_anew_when_a_module_changes(tmp_path, redis_url):
    module = tmp_path / "changing.py"
    text = f"from nbcanvas import App\napp = App('c', broker={redis_url!r})\n@app.task(name='v')\ndef v(): return "

    def write(value):  # all of it at once: it is read whenever it is another one
        (tmp_path / "new").write_text(f"{text}{value}\n")
        (tmp_path / "new").replace(module)

    write(1)
    log = (tmp_path / "log").open("wb")
    command = [NBCANVAS, "worker", "-A", "changing", "-P", "solo", "--autoreload", "--workdir", str(tmp_path)]
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    said = (tmp_path / "log").read_text
    try:
        with Fleet(redis_url, tasks="tests.cluster.chores") as fleet:
            app = fleet.client()
            assert send(app, "v").get(timeout=60) == 1
            write(22)
            until(lambda: said().count("ready") == 2, what="it started anew")
            assert send(app, "v").get(timeout=60) == 22
            worker.send_signal(signal.SIGHUP)  # as with Celery's, in the background
            until(lambda: said().count("ready") == 3, what="it started anew once more")
            worker.send_signal(signal.SIGUSR2)  # Celery's opens its debugger
            until(lambda: "there is no remote debugger here" in said(), what="it says so")
            assert send(app, "v").get(timeout=60) == 22
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        log.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-A", "no_such_module"], "no module 'no_such_module'"),
        (["-A", "json"], "tried json:app, json:celery"),
        (["-A", "json:nothing"], "has no 'nothing'"),
        (["-A", "tests.cluster.fleet:ROOT"], "is no app"),
        (["-A", "foreign"], "from nbcanvas import App"),
        ([], "which app?"),
        (["-A", "ours"], "broker_url"),
        (["-A", "ours", "-B"], "celery -A APP beat"),
        (["-A", "ours", "-P", "gevent"], "-P threads"),
        (["-A", "ours", "--uid", "nobody"], "sudo -u USER"),
        (["-A", "ours", "-b", "redis://:secret@127.0.0.1:1/0"], "127.0.0.1:1"),
        (["-A", "ours", "-b", "redis://127.0.0.1:1/0", "-I", "no_such_include"], "no_such_include"),
    ],
)
def test_what_is_wrong_is_said_clearly(tmp_path, arguments, said):
    (tmp_path / "foreign.py").write_text("import celery\napp = celery.Celery('x')\n")
    (tmp_path / "ours.py").write_text(
        "from nbcanvas import App\napp = App('x', broker_connection_retry_on_startup=False)\n"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith("NBCANVAS")}
    env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    done = subprocess.run(
        [NBCANVAS, "worker", *arguments], capture_output=True, text=True, timeout=100, env=env, check=False
    )
    assert done.returncode not in (0, None)
    words = " ".join(done.stderr.split())
    assert said in words
    assert "Traceback" not in words
    assert "secret" not in words


def test_an_eta_in_another_time_zone_and_a_group_of_many_countdowns(fleet):
    fleet.ours("threads", 2)
    app = fleet.client()
    when = datetime.now(UTC) + timedelta(seconds=0.8)
    result = send(app, "mark", "eta", eta=when)
    many = group(app.signature("mark", (str(number),)).set(countdown=0.5) for number in range(30)).apply_async()
    assert many.get(timeout=60) == [str(number) for number in range(30)]
    assert result.get(timeout=60) == "eta"
    assert datetime.now(UTC) >= when
