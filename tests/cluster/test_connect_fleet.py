"""Connecting to real servers, and what is known of their workers before anything is sent."""

import functools
import logging
import signal

import pytest

from nbcanvas import App, cluster, current_app, errors, group, signature, submit
from nbcanvas.app.connecting import connect, disconnect, hello, worries
from nbcanvas.app.sight import sighted
from tests.cluster.fleet import Fleet
from tests.servers import Redis, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300), pytest.mark.usefixtures("patient")]


@pytest.fixture
def notebook():
    with App("notebook") as app:

        @app.task(name="slow")
        def slow(x):
            return ("here", x)

        @app.task(name="only.here")
        def here(x):
            return x

        yield app


@pytest.fixture
def fleet(redis_url):
    with Fleet(redis_url, tasks="tests.cluster.attached") as fleet:
        yield fleet


def test_there_and_back(fleet, notebook):
    fleet.celery(pool="threads")
    slow = notebook.tasks["slow"]
    going = submit(slow.s(0), app=notebook)
    app = connect(fleet.url)
    assert app is current_app()
    assert app.remote
    assert slow.app is app
    assert submit(slow.s(1)).get(timeout=60) == 1  # the worker's code, not ours
    assert going.get(timeout=60) == ("here", 0)
    far = submit(slow.s(2))
    back = disconnect()
    assert not back.remote
    assert submit(slow.s(3)).get(timeout=60) == ("here", 3)
    assert far.get(timeout=60) == 2
    assert "1 (1 Celery) with 2 slots on queue celery" in hello(app)
    app.close()


def test_what_does_not_answer_changes_nothing(notebook, tmp_path):
    for url, backend, says in (
        ("redis://:hidden@127.0.0.1:1/0", None, "is not there"),
        ("amqp://me:hidden@127.0.0.1:1//", None, "does not answer"),
        ("redis://127.0.0.1:1/0", "redis://:hidden@127.0.0.1:1/0", "is not there"),
    ):
        with pytest.raises(errors.ServerLost, match=says) as caught:
            connect(url, backend)
        assert "hidden" not in str(caught.value)
        assert current_app() is notebook
        assert notebook.tasks["slow"].app is notebook
    assert submit(notebook.tasks["slow"].s(1)).get(timeout=60) == ("here", 1)


def test_nobody_is_waited_for_where_nobody_listens(redis_url, notebook, monkeypatch):
    app = connect(redis_url)

    def ask(*_args, **_kwargs):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(app.control, "ask", ask)
    assert hello(app) == "no worker answers: what is sent waits until one is there"
    assert not app.fleet.all_ours()
    sent = submit(notebook.tasks["slow"].s(1))
    assert app.broker.depth()["celery"] == 1
    assert sent.state == "PENDING"
    app.close()


def test_a_backend_that_does_not_answer_is_named(redis_url, notebook):
    with pytest.raises(errors.ServerLost, match=r"^the result backend .* is not there"):
        connect(redis_url, "redis://127.0.0.1:1/0")
    assert current_app() is notebook


def test_an_unknown_task_is_an_error_before_anything_is_sent(fleet, notebook):
    fleet.celery(pool="threads")
    fleet.ours()
    app = connect(fleet.url)
    with pytest.raises(errors.NotRegistered, match=r"only\.here") as caught:
        submit(group(app.tasks["slow"].s(1), app.tasks["only.here"].s(1)))
    said = str(caught.value)
    assert "celery0@here" in said
    assert "ours1@here" in said
    assert "ship it by value" in said
    with pytest.raises(errors.NotRegistered, match=r"did you mean 'slow'\?"):
        submit(app.signature("proj.slo", (1,)))
    assert app.redis.call("LLEN", "celery") == 0
    app.fleet.checks = False
    assert submit(app.tasks["only.here"].s(1)) is not None
    app.close()


def test_nobody_there_is_a_warning_and_the_message_waits(fleet, notebook, caplog):
    app = connect(fleet.url)
    with caplog.at_level(logging.WARNING):
        run = submit(app.tasks["slow"].s(7))
    assert "no worker answers" in caplog.text
    caplog.clear()
    submit(app.tasks["slow"].s(8))
    assert "no worker answers" not in caplog.text  # said once
    fleet.ours()
    assert run.get(timeout=60) == 7
    assert not disconnect().remote
    app.close()


def test_a_queue_nobody_consumes_and_a_worker_that_lacks_the_task(fleet, notebook, redis_url, caplog):
    fleet.ours(queues="celery")
    app = connect(fleet.url)
    with caplog.at_level(logging.WARNING):
        submit(app.tasks["slow"].s(1), options={"queue": "gpu"})
    assert "nobody consumes queue 'gpu'" in caplog.text
    assert "slow is known to worker ours0@here on celery" in caplog.text
    with Fleet(redis_url) as others:  # other tasks, the same queue
        others.ours(name="other@here")
        app.fleet.forget()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            submit(app.tasks["slow"].s(1))
        assert "worker other@here take from 'celery' too, and do not know it" in caplog.text.replace("takes", "take")
    app.close()


def test_another_version_is_named_for_our_workers(fleet, notebook, caplog):
    fleet.ours(queues="celery")
    app = connect(fleet.url)
    with caplog.at_level(logging.WARNING):
        submit(app.tasks["slow"].s(1)).get(timeout=60)  # defined otherwise here
    assert "slow: worker ours0@here runs another version" in caplog.text
    same = fleet.client()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        submit(same.tasks["slow"].s(1), app=same).get(timeout=60)
    assert "version" not in caplog.text
    app.close()


def test_what_celerys_workers_do_not_tell_is_not_waited_for(fleet, notebook):
    """Ends whose results are ignored; and of the others they tell at once, where it is known that they are there."""
    fleet.celery(pool="threads")
    fleet.ours()
    app = connect(fleet.url)
    ignored = group(signature("slow", (n,), ignore_result=True) for n in range(3))
    run = submit(group(ignored, signature("slow", (3,)))).wait(60)
    assert run.get(timeout=60) == [None, None, None, 3]
    assert app.backend.others()
    assert not app.backend.tells(run.id)
    assert set(run.counts) <= {"SUCCESS", "IGNORED"}
    assert ignored.apply_async().get(timeout=60) == [None, None, None]
    app.close()


def test_a_worker_that_does_not_answer_may_be_one_of_celerys(fleet):
    """Then nothing travels by reference, which it would not understand."""
    theirs = fleet.celery(pool="threads")
    fleet.ours()
    theirs.signal(signal.SIGSTOP)
    app = fleet.client()
    app.fleet.ask = functools.partial(app.fleet.ask, timeout=2.0)
    try:
        until(lambda: set(app.fleet.workers(fresh=True)) == {"ours1@here"})  # ours may be late, too
        assert not app.fleet.all_ours()
    finally:
        theirs.signal(signal.SIGCONT)
    until(lambda: len(app.fleet.workers(fresh=True)) == 2)
    assert not app.fleet.all_ours()
    theirs.stop()
    until(lambda: len(app.fleet.workers(fresh=True)) == 1)
    assert app.fleet.all_ours()


def test_a_worker_that_was_killed_is_not_taken_for_a_busy_one_for_ever(fleet, monkeypatch):
    """Its name stays bound on Redis."""
    fleet.ours().kill()
    fleet.ours()
    app = fleet.client()
    until(lambda: set(app.fleet.workers(fresh=True)) == {"ours1@here"})
    assert not app.fleet.all_ours()
    monkeypatch.setattr("nbcanvas.app.fleet._BUSY", 0.0)
    assert app.fleet.all_ours()


def test_it_costs_nothing_for_each_message(fleet, notebook):
    fleet.celery(pool="threads")
    app = connect(fleet.url)
    asked = []
    ask = app.fleet.ask
    app.fleet.ask = lambda *args, **kwargs: (asked.append(args), ask(*args, **kwargs))[1]
    for n in range(20):
        submit(app.tasks["slow"].s(n))
    assert len(asked) <= 1
    app.close()


def test_the_cluster_as_frames(fleet, notebook):
    fleet.celery(pool="prefork", concurrency=2, name="theirs@gpu", queues="celery,gpu")
    fleet.ours(pool="threads", concurrency=2, name="ours@cpu")
    app = connect(fleet.url)
    app.fleet.checks = False
    later = submit(app.signature("slow", (1,)), options={"countdown": 600})
    until(lambda: sum(map(len, (app.control.inspect(timeout=60).scheduled() or {}).values())) == 1)
    busy = submit(group(app.signature("held", (n,)) for n in range(30)))
    until(lambda: sum(map(len, (app.control.inspect(timeout=60).active() or {}).values())) == 4)
    partial = []
    found = cluster(on_answer=partial.append)
    assert found.silent == ()
    workers = found.workers.set_index("worker")
    assert workers.kind.to_dict() == {"theirs@gpu": "celery", "ours@cpu": "nbcanvas"}
    assert workers.slots.tolist() == [2, 2]
    assert workers.queues["theirs@gpu"] == ["celery", "gpu"]
    assert "slow" in workers.tasks["ours@cpu"]
    assert set(found.active.name) == {"held"}
    assert len(found.scheduled) == 1
    assert found.scheduled.eta.notna().all()
    queues = found.queues.set_index("queue")
    assert queues.messages["celery"] + len(found.reserved) + len(found.active) <= 31
    assert queues.workers["gpu"] == ["theirs@gpu"]
    assert len(partial) >= 6  # answers as they come, of two workers to several questions
    assert partial[0].workers.answered.sum() == 1
    assert "theirs@gpu" in repr(found)
    assert "<table" in found._repr_mimebundle_()["text/html"]
    busy.cancel()
    later.cancel()
    app.redis.call("RPUSH", "gate", *range(30))
    fleet.workers[1].kill()
    looks = []
    until(lambda: looks.append(cluster(timeout=1.0)) or looks[-1].silent == ("ours@cpu",))  # the other may answer late
    gone = looks[-1]
    assert not gone.workers.set_index("worker").answered["ours@cpu"]
    assert "no answer" in repr(gone)
    app.close()


def test_what_somebody_should_know_of_a_redis(tmp_path, notebook):
    server = Redis(tmp_path, arguments=("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"))
    app = connect(server.url)
    assert [text for text in worries(app) if "allkeys-lru" in text]
    app.close()
    server.stop()


def test_answers_that_make_no_sense_are_no_trouble():
    answers = {
        "stats": {"w1": {"error": "KeyError('stats')"}, "w2": None, "w3": {"pool": 3, "total": "x"}, "w4": "text"},
        "active": {"w1": [1, None, {}], "w2": {"a": 1}, "w3": [{"id": 1, "time_start": "noon", "delivery_info": 3}]},
        "scheduled": {"w1": [{"eta": "never", "request": 3}, {"eta": 5}]},
        "active_queues": {"w1": [{}, {"name": 3}], "w2": "x"},
        "registered": {"w1": ["a [rate_limit=1/s version=x]", "b", 7], "w2": {"error": "x"}},
    }
    sight = sighted("here", 0.0, answers, known=["w5"], depths={"q": 1})
    assert [worker.name for worker in sight.workers] == ["w1", "w2", "w3", "w4", "w5"]
    assert sight.silent == ("w5",)
    assert sight.workers[0].limits == {"a": "1/s"}
    assert sight.workers[0].tasks == {"a": "x", "b": "", "7": ""}
