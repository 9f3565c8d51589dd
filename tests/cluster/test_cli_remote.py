"""The command line both ways: ours on workers of both kinds, Celery's on ours; Celery's own is the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nbcanvas.backend.port import Record
from nbcanvas.cli.main import main
from nbcanvas.result import AsyncResult
from tests.cluster.fleet import Fleet
from tests.servers import free_port, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600), pytest.mark.usefixtures("patient")]

TASKS = "tests.cluster.remote_tasks"
THEIRS, OURS = "celery@here", "ours@here"
ROOT = Path(__file__).parents[2]
NOBODY = 69
#: For a busy machine: a question ends when all have answered.
PATIENT = {command: {"timeout": 60} for command in ("status", "inspect", "control")}


@pytest.fixture(scope="module")
def fleet(both_kinds):
    return both_kinds


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "s3cret" not in out + err


@pytest.fixture
def nbcanvas(locked_redis):
    """Run our command line in this process, as a person at a terminal would, who waits for the slow."""

    def run(*words: str, url: str | None = None, **options) -> Ended:
        command = ["-b", url or locked_redis.url, *words]
        result = CliRunner().invoke(main, command, catch_exceptions=False, default_map=PATIENT, **options)
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


def process(fleet, program, *words):
    """Run a command line as a process of its own."""
    command = [sys.executable, "-m", "celery"] if program == "celery" else [str(Path(sys.executable).parent / program)]
    app = f"tests.cluster.{program}_app"
    done = subprocess.run([*command, "-A", app, *words], cwd=ROOT, env=fleet.environment(), capture_output=True,
                          text=True, timeout=150, check=False)  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def answer(ended: Ended):
    """Return the JSON of an answer: Celery's `status` says something behind it."""
    assert ended.code == 0, ended.err
    return json.JSONDecoder().raw_decode(ended.out)[0]


# -- the same as Celery's command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("inspect", "registered"),
        ("inspect", "active_queues"),
        ("inspect", "conf"),
        ("control", "rate_limit", "add", "100/s"),
    ],
)
def test_both_command_lines_say_the_same(fleet, words):
    options = ("-j", "-t", "60", "-d", f"{THEIRS},{OURS}")
    [theirs, ours] = [answer(process(fleet, program, *words, *options)) for program in ("celery", "nbcanvas")]
    if isinstance(ours, list):
        assert sorted(map(str, ours)) == sorted(map(str, theirs))
    else:
        assert ours == theirs
        assert set(ours) == {THEIRS, OURS}


def test_an_app_of_celerys_own_is_enough_to_ask_its_workers(fleet):
    command = [str(Path(sys.executable).parent / "nbcanvas"), "-A", "tests.cluster.celery_app", "-C"]
    for words in (["status", "-t", "60"], ["call", "add", "-a", "[1, 2]"], ["worker"]):
        done = subprocess.run([*command, *words], cwd=ROOT, env=fleet.environment(), capture_output=True, text=True,
                              timeout=150, check=False)  # fmt: skip
        if words == ["worker"]:
            assert done.returncode == 2
            assert "is an app of Celery's own" in done.stderr
        else:
            assert done.returncode == 0, done.stderr


def test_celerys_command_line_reads_our_answers(fleet):
    for words in (("status",), ("inspect", "stats"), ("inspect", "active"), ("control", "enable_events")):
        ended = process(fleet, "celery", "-C", *words, "-d", OURS, "-t", "60")
        assert ended.code == 0, ended.err
        assert f"{OURS}: OK" in ended.out
    ended = process(fleet, "celery", "-C", "call", "add", "-a", "[1, 2]")
    assert ended.code == 0
    assert process(fleet, "celery", "result", ended.out.strip()).out.strip() == "3"


# -- as a person sees it ----------------------------------------------------------------------------------------------


def test_status_names_who_is_there_and_who_is_not(fleet, nbcanvas):
    ended = nbcanvas("-C", "status")
    assert ended.code == 0
    assert sorted(ended.out.strip().splitlines()) == ["", "->  celery@here: OK", "->  ours@here: OK", "2 nodes online."]
    told = []

    def answered():  # a busy worker may take longer than that
        told.append(nbcanvas("-C", "status", "--destination", f"{OURS},nobody@here", "--timeout", "2"))
        return "1 node online." in told[-1].out

    until(answered)
    assert told[-1].code == 0
    assert "No answer from nobody@here." in told[-1].err
    assert nbcanvas("-q", "-C", "status", "-d", OURS).out.strip() == "ours@here: OK"


def test_nobody_is_an_exit_code(fleet, nbcanvas, locked_redis):
    for words in (("status",), ("inspect", "active"), ("control", "enable_events")):
        ended = nbcanvas(*words, "-d", "nobody@here", "-t", "0.3")
        assert ended.code == NOBODY
        assert "No nodes replied within time constraint" in ended.err
        assert nbcanvas(*words, "-t", "0.3", "-j", url=locked_redis.url.replace("/0", "/9")).code == NOBODY


def test_tasks_are_a_table(fleet, nbcanvas):
    app = fleet.client()
    app.control.add_consumer("table", destination=[OURS], reply=True, timeout=60)
    running = app.send_task("wait", (300,), queue="table")
    waiting = app.send_task("add", (1, 2), queue="table", countdown=300)
    until(lambda: waiting.id in nbcanvas("inspect", "scheduled", "-d", OURS).out)
    until(lambda: running.id in nbcanvas("inspect", "active", "-d", OURS).out)
    lines = [line.split() for line in nbcanvas("-C", "inspect", "active", "-d", OURS).out.splitlines()]
    assert lines[1] == ["id", "task", "args", "kwargs", "since"]
    assert lines[3][:3] == [running.id, "wait", "[300]"]
    found = answer(nbcanvas("inspect", "query_task", running.id, waiting.id, "-j", "-d", OURS))[OURS]
    assert {task_id: state for task_id, [state, _] in found.items()}.keys() == {running.id, waiting.id}
    assert nbcanvas("control", "revoke", waiting.id, "-d", OURS).code == 0
    assert nbcanvas("control", "terminate", "KILL", running.id, "-d", OURS).code == 0
    until(lambda: nbcanvas("inspect", "query_task", running.id, "-j", "-d", OURS).out.strip() == '{"ours@here": {}}')
    assert waiting.id in nbcanvas("inspect", "revoked", "-d", OURS).out


def test_every_question_and_command_can_be_written(fleet, nbcanvas):
    for name in ("active", "active_queues", "clock", "conf", "memdump", "memsample", "ping", "registered", "report",
                 "reserved", "revoked", "scheduled", "stats"):  # fmt: skip
        ended = nbcanvas("-C", "inspect", name)
        assert ended.code == 0, (name, ended.err)
        assert "ours@here: OK" in ended.out
    for words in (
        ("add_consumer", "more"),
        ("cancel_consumer", "more"),
        ("time_limit", "add", "10", "20"),
        ("pool_grow", "1"),
        ("pool_shrink",),
        ("disable_events",),
        ("heartbeat",),
        ("revoke_by_stamped_headers", "colour=red"),
    ):
        ended = nbcanvas("-C", "control", *words, "-d", OURS)
        assert ended.code == 0, (words, ended.err)
        assert "ours@here: OK" in ended.out
    ended = nbcanvas("-C", "control", "autoscale", "3", "1", "-d", OURS)
    assert "ours@here: ERROR" in ended.out
    assert "Autoscale not enabled" in ended.out


def test_options_stand_before_or_behind_the_command(fleet, locked_redis):
    for words in (
        ["-b", locked_redis.url, "status"],
        ["status", "-b", locked_redis.url],
        ["--broker", locked_redis.url, "status", "-j"],
    ):
        assert CliRunner().invoke(main, words, default_map=PATIENT).exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("inspect", "nothing"), "Command nothing not recognized. Available inspect commands: active"),
        (("control", "active"), "Command active not recognized. Available control commands"),
        (("inspect", "actve"), "Did you mean active"),
        (("inpsect", "active"), "No such command 'inpsect'. Did you mean inspect?"),
        (("control", "revoke"), "revoke needs id1"),
        (("call", "ad"), "did you mean 'add'?"),
        (("control", "pool_grow", "many"), "pool_grow: n is no int: 'many'"),
        (("control", "enable_events", "now"), "takes arguments: none"),
        (("inspect", "conf", "maybe"), "with_defaults is no"),
        (("status", "--timeout", "soon"), "not a valid float"),
        (("status", "--timeout", "-1"), "-1.0 is not in the range"),
        (("call", "add", "-a", "[1"), "is not valid JSON"),
        (("call", "add", "-a", "{}"), "is no json array"),
        (("call", "add", "--eta", "soon"), "is no time such as"),
        (("dead", "requeue"), "which? Give ids"),
        (("dead", "show", "nobody"), "there is no dead letter nobody"),
    ],
)
def test_what_makes_no_sense_is_said(fleet, nbcanvas, words, says):
    ended = nbcanvas(*words)
    assert ended.code in {1, 2}
    assert says in ended.err


def test_a_broker_is_needed_and_its_absence_said():
    ended = CliRunner().invoke(main, ["status"])
    assert (ended.exit_code, "which broker?" in ended.stderr) == (2, True)
    ended = CliRunner().invoke(main, ["-A", "no.such.module", "status"])
    assert ended.exit_code == 2
    url = f"redis://:s3cret@127.0.0.1:{free_port()}/0"
    for words in (["status"], ["purge", "-f"], ["call", "add"], ["events"], ["list", "bindings"], ["dead", "list"]):
        ended = CliRunner().invoke(main, ["-b", url, *words])
        assert ended.exit_code == NOBODY, (words, ended.output)
        assert "Could not connect" in ended.stderr
        assert "s3cret" not in ended.output


# -- results, queues, events ------------------------------------------------------------------------------------------


def test_call_and_result(fleet, nbcanvas):
    sent = nbcanvas("call", "add", "-a", "[1, 2]").out.strip()
    assert nbcanvas("result", sent, "--timeout", "60").out.strip() == "3"
    assert json.loads(nbcanvas("result", sent, "-j").out)["status"] == "SUCCESS"
    failed = nbcanvas("call", "fail", "-k", '{"what": "boom"}').out.strip()
    ended = nbcanvas("result", failed, "--timeout", "60")
    assert ended.code == 1
    assert "ended as FAILURE: ValueError" in ended.err
    ended = nbcanvas("result", failed, "--traceback")
    assert (ended.code, "raise ValueError" in ended.out) == (1, True)
    ended = nbcanvas("result", failed, "-j")
    assert (ended.code, json.loads(ended.out)["status"]) == (1, "FAILURE")
    ended = nbcanvas("result", "nobody")
    assert ended.code == 75
    assert "nothing is known of it" in ended.err
    ended = nbcanvas("result", nbcanvas("call", "add", "-a", "[1, 2]", "--queue", "q", "--countdown", "60").out.strip())
    assert ended.code == 75


def test_a_result_that_comes_between_two_looks(fleet, nbcanvas, monkeypatch):
    backend, look = fleet.client().backend, AsyncResult.state.fget

    def looked(result):
        found = look(result)
        backend.settle(result.id, Record("SUCCESS", payload=3))
        return found

    monkeypatch.setattr(AsyncResult, "state", property(looked))
    ended = nbcanvas("result", "just-now")
    assert (ended.code, "nothing is known of it" in ended.err) == (75, True)
    assert nbcanvas("result", "just-now").out.strip() == "3"


def test_purge(fleet, nbcanvas):
    app = fleet.client()
    for _ in range(3):
        app.send_task("add", (1, 2), queue="nobody-listens")
    assert nbcanvas("purge", "-Q", "nobody-listens", input="n\n").code == 1
    ended = nbcanvas("purge", "-Q", "nobody-listens", input="y\n")
    assert "Purged 3 messages from 1 known task queue." in ended.out
    assert "No messages purged from 1 queue." in nbcanvas("purge", "-f", "-Q", "nobody-listens").out
    assert "No queue is left" in nbcanvas("purge", "-f", "-Q", "a", "-X", "a").out


def test_bindings(fleet, nbcanvas):
    lines = [line.split() for line in nbcanvas("list", "bindings").out.splitlines()]
    assert lines[0] == ["Queue", "Exchange", "Routing", "Key"]
    assert ["celery", "celery", "celery"] in lines
    assert ["ours@here.celery.pidbox", "celery.pidbox"] in lines
    found = json.loads(nbcanvas("list", "bindings", "-j").out)
    assert {"queue": "celery", "exchange": "celery", "routing_key": "celery"} in found


def test_events_are_printed_as_they_come(fleet, locked_redis):
    words = ["-b", locked_redis.url, "events", "--dump", "--json", "--type", "worker-heartbeat", "--limit", "2"]
    command = [str(Path(sys.executable).parent / "nbcanvas"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["type"] for event in heard} == {"worker-heartbeat"}
    assert {event["hostname"] for event in heard} <= {THEIRS, OURS}
    assert len(heard) == 2


def test_events_end_in_time(fleet, nbcanvas):
    ended = nbcanvas("events", "--timeout", "0.5", "--type", "no-such")
    assert (ended.code, ended.out) == (0, "")


def test_report(nbcanvas):
    assert "nbcanvas" in nbcanvas("report").out


# -- dead letters -----------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_shown_sent_again_and_thrown_away(locked_redis, nbcanvas):
    import redis

    url = locked_redis.url.replace("/0", "/4")
    with Fleet(url, tasks=TASKS) as fleet, redis.Redis.from_url(url) as client:
        fleet.ours("threads", 1, name=OURS)
        for raw in (b"garbage", b'{"body": 5}', b"\xff\xfe"):
            client.lpush("celery", raw)
        until(lambda: client.llen("nbcanvas:dead") == 3)
        lines = nbcanvas("dead", "list", url=url).out.splitlines()
        assert lines[0].split() == ["id", "time", "queue", "task"]
        assert max(map(len, lines)) < 80
        reasons = " ".join(line.strip() for line in lines if line.startswith("    "))
        letters = json.loads(nbcanvas("dead", "list", "-j", url=url).out)
        assert {letter["worker"] for letter in letters} == {OURS}
        assert all(letter["reason"] in reasons for letter in letters)
        assert {letter["queue"] for letter in letters} == {"celery"}
        [garbage] = [letter for letter in letters if letter["body"] == "garbage"]
        assert json.loads(nbcanvas("dead", "show", garbage["id"], url=url).out) == garbage
        fleet.workers[0].stop()
        assert nbcanvas("dead", "requeue", garbage["id"], url=url).out.strip() == "1 sent again."
        assert client.lrange("celery", 0, -1) == [b"garbage"]
        assert nbcanvas("dead", "drop", "--all", url=url).out.strip() == "2 thrown away."
        assert client.llen("nbcanvas:dead") == 0
        assert "- empty -" in nbcanvas("dead", "list", url=url).out


def test_what_is_sent_again_has_a_result_of_its_own(locked_redis, nbcanvas):
    url = locked_redis.url.replace("/0", "/6")
    with Fleet(url, tasks=TASKS) as fleet:
        fleet.ours("threads", 1, name=OURS)
        sent = fleet.client().send_task("mark", ("m",))
        assert sent.get(timeout=60, propagate=False).args
        assert sent.state == "FAILURE"
        fleet.workers[0].stop()
        assert nbcanvas("dead", "requeue", sent.id, url=url).out.strip() == "1 sent again."
    with Fleet(url, tasks="tests.cluster.chores") as fleet:
        fleet.ours("threads", 1, name=OURS)
        assert fleet.client().AsyncResult(sent.id).get(timeout=60) == "m"


# -- on RabbitMQ ------------------------------------------------------------------------------------------------------


def test_on_rabbitmq(rabbitmq_url, locked_redis, nbcanvas):
    with Fleet(rabbitmq_url, locked_redis.url.replace("/0", "/5"), tasks=TASKS) as fleet:
        fleet.ours("threads", 1, name=OURS)
        words = ("--result-backend", fleet.backend)
        assert "ours@here: OK" in nbcanvas(*words, "-C", "status", "-d", OURS, url=rabbitmq_url).out
        sent = nbcanvas(*words, "call", "add", "-a", "[1, 2]", url=rabbitmq_url).out.strip()
        assert nbcanvas(*words, "result", sent, "--timeout", "60", url=rabbitmq_url).out.strip() == "3"
        ended = nbcanvas(*words, "list", "bindings", url=rabbitmq_url)
        assert ended.code == 2
        assert "Your transport cannot list bindings" in ended.err

        import kombu

        with kombu.Connection(rabbitmq_url) as connection:
            kombu.Producer(connection.default_channel).publish(
                "garbage", routing_key="celery", content_type="text/plain", content_encoding="utf-8",
                headers={"task": "add", "id": "mine"},
            )  # fmt: skip
        until(lambda: "mine" in nbcanvas(*words, "dead", "list", url=rabbitmq_url).out)
        [letter] = json.loads(nbcanvas(*words, "dead", "list", "-j", url=rabbitmq_url).out)
        assert (letter["task_id"], letter["queue"], letter["worker"]) == ("mine", "celery", OURS)
        assert json.loads(nbcanvas(*words, "dead", "show", "mine", url=rabbitmq_url).out) == letter
        fleet.workers[0].stop()
        assert nbcanvas(*words, "dead", "requeue", "mine", url=rabbitmq_url).out.strip() == "1 sent again."
        assert "- empty -" in nbcanvas(*words, "dead", "list", url=rabbitmq_url).out
        assert "Purged 1 message" in nbcanvas(*words, "purge", "-f", "-Q", "celery", url=rabbitmq_url).out
