"""`why()` on a cluster: each reason against real workers of both kinds, and what only a rare moment has as a table."""

import time

import pytest

from nbcanvas import group, submit
from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain
from nbcanvas.run.reasons import Busy, Host, Queued, Scene, reasons
from tests.cluster.fleet import Fleet
from tests.servers import until

NOW = 1000.0


def told(scene, *events, task="proj.add", clocks=True):
    state = State.of(Call("a", task, ()), 990.0).apply(events)
    [reason] = reasons(state, scene, NOW, clocks=clocks)
    return reason


SENT = Event("sent", "a", 991.0, 0, None)
STARTED = Event("started", "a", 992.0, 0, "w1@h")
FREE = Host(["celery"], ["proj.add"], 2)
FULL = Host(["celery"], ["proj.add"], 1, [Busy("w1@h", "b", "proj.fit")])
QUEUED = [Queued("a", "proj.add", "celery")]


@pytest.mark.parametrize(
    ("scene", "events", "kind", "says"),
    [
        (Scene(hosts={}), [SENT], "no worker", "no worker answers"),
        (Scene(hosts={}, silent=["w1@h"]), [SENT], "no worker", "worker w1@h did before"),
        (Scene(hosts={}, unreachable="redis://h is not there"), [SENT], "no broker", "redis://h is not there"),
        (Scene(hosts={}, unreachable="redis://h is not there"), [STARTED], "running", "it runs"),
        (Scene(hosts={"w1@h": FREE}, queued=QUEUED), [SENT], "starting", "worker w1@h has a slot free"),
        (Scene(hosts={"w1@h": FULL}, queued=QUEUED), [SENT], "queued", "the only slot of worker w1@h is busy with fit"),
        (
            Scene(hosts={"w1@h": FREE}, queued=[Queued("a", "proj.add", "gpu")]),
            [SENT],
            "no consumer",
            "nobody consumes queue 'gpu': consumed are 'celery'",
        ),
        (Scene(hosts={"w1@h": FREE}, routes={"a": "gpu"}), [SENT], "no consumer", "nobody consumes queue 'gpu'"),
        (
            Scene(hosts={"w1@h": FREE._replace(tasks=["proj.sub"])}, queued=QUEUED),
            [SENT],
            "unknown task",
            "worker w1@h does not know proj.add",
        ),
        (
            Scene(hosts={"w1@h": FREE, "w2@h": FREE._replace(tasks=["proj.sub"])}, queued=QUEUED),
            [SENT],
            "starting",
            "worker w2@h would fail it",
        ),
        (
            Scene(hosts={"w1@h": FULL._replace(reserved=["a"])}),
            [SENT],
            "prefetched",
            "worker w1@h has taken it, and the only slot of worker w1@h is busy with fit",
        ),
        (Scene(hosts={"w1@h": FREE._replace(reserved=["a"])}), [SENT], "prefetched", "about to start it"),
        (
            Scene(hosts={"w1@h": FREE._replace(reserved=["a"], limits={"proj.add": "2/m"})}),
            [SENT],
            "rate limit",
            "its rate limit of 2/m holds it back at worker w1@h",
        ),
        (
            Scene(hosts={"w1@h": FREE._replace(limits={"proj.add": "2/m"})}, routes={"a": "celery"}),
            [SENT],
            "rate limit",
            "2/m",
        ),
        (Scene(hosts={"w1@h": FREE._replace(scheduled={"a": 1060.0})}), [SENT], "eta", "worker w1@h, in 60 s"),
        (Scene(hosts={"w1@h": FREE._replace(scheduled={"a": 1060.0})}), [STARTED], "eta", "in 60 s"),
        (
            Scene(hosts={"w1@h": FREE._replace(scheduled={"a": 1060.0})}),
            [Event("retried", "a", 995.0, 0, (ValueError("busy"), 1060.0)), Event("sent", "a", 995.0, 1, None)],
            "retry",
            "after ValueError: busy",
        ),
        (
            Scene(hosts={"w1@h": FREE}, silent=["w2@h"], routes={"a": "celery"}),
            [SENT],
            "starting",
            "worker w2@h does not answer",
        ),
        (
            Scene(hosts={"w1@h": FREE._replace(results="nothing")}, routes={"a": "celery"}, results="redis://here"),
            [SENT],
            "no result",
            "This looks in redis://here; worker w1@h keeps results in nothing",
        ),
        (Scene(hosts={"w1@h": FULL._replace(active=[Busy("w1@h", "a", "proj.add")])}), [SENT], "running", "it runs"),
        (Scene(hosts={"w1@h": FULL._replace(active=[Busy("w1@h", "a", "proj.add")])}), [STARTED], "running", "it runs"),
        (
            Scene(hosts={"w1@h": FULL}, routes={"a": "celery"}, hidden={"celery": 4}),  # RabbitMQ shows only how many
            [SENT],
            "queued",
            "4 messages wait in 'celery', and it is probably one of them: ",
        ),
        (Scene(hosts={"w1@h": FREE}), [STARTED], "starting", "its result is about to come"),
        (Scene(hosts={"w2@h": FREE}), [STARTED], "worker lost", "worker w1@h that ran it is gone"),
        (Scene(hosts={}, silent=["w1@h"]), [STARTED], "worker lost", "does not answer"),
        (Scene(hosts={"w1@h": FREE}), [Event("revoked", "a", 995.0, 0, "expired")], "expired", "it expired"),
    ],
)
def test_each_reason(scene, events, kind, says):
    reason = told(scene, *events)
    assert (reason.kind, says in reason.text) == (kind, True), reason
    plain = told(scene, *events, clocks=False)
    assert plain.kind == kind
    assert "w1@h" not in plain.text
    assert "w2@h" not in plain.text


@pytest.mark.parametrize(
    ("scene", "kind", "says"),
    [
        (Scene(hosts={"w1@h": FULL._replace(active=[Busy("w1@h", "z", "proj.add")])}), "running", "it runs"),
        (Scene(hosts={"w1@h": FULL._replace(reserved=["z"])}), "prefetched", "worker w1@h has taken it"),
        (Scene(hosts={"w1@h": FULL}, queued=[Queued("z", "proj.add", "celery")]), "queued", "of worker w1@h is busy"),
        (Scene(hosts={"w1@h": FREE}), "starting", "a has ended: it is about to be sent"),
    ],
)
def test_a_later_step_that_nobody_said_was_sent(scene, kind, says):
    chain = Chain([Call("a", "a", ()), Call("z", "proj.add", ())])
    state = State.of(chain, 990.0).apply([SENT, Event("succeeded", "a", 992.0)])
    [reason] = reasons(state, scene, NOW)
    assert reason.kind == kind
    assert says in reason.text.replace("chain[0]", "a")


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["celery", "ours"])
def test_on_real_workers(request, redis_url, kind):
    with Fleet(redis_url, tasks="tests.cluster.attached") as fleet:
        app = fleet.client()
        app.fleet.checks = False
        slow, held, seldom = (app.tasks[name] for name in ("slow", "held", "seldom"))

        def kinds(run):
            return {reason.kind for reason in run.why()}

        before = submit(slow.s(0), app=app)
        assert kinds(before) == {"no worker"}
        request.getfixturevalue("patient")
        worker = getattr(fleet, kind)(pool="threads", concurrency=1, queues="celery")
        before.wait(60)
        assert list(before.why()) == []

        # Each message is at its worker, or where it stays, before the next one is sent.
        eta = submit(slow.s(1), app=app, options={"countdown": 600})
        until(lambda: app.control.inspect([worker.name], 60).scheduled()[worker.name], what="it is scheduled")
        [reason] = eta.why()
        assert reason.kind == "eta"
        assert 500 < reason.until - time.time() < 601

        assert kinds(submit(slow.s(1), app=app, options={"queue": "gpu"})) == {"no consumer"}

        many = submit(group(held.s(n) for n in range(12)), app=app)
        # One runs until it is let go, some are at the worker, and the rest stays in the queue: once they are there.
        until(lambda: {"prefetched", "queued", "running"} >= kinds(many) >= {"prefetched", "queued"}, what="they wait")
        assert any(worker.name in reason.text for reason in many.why())
        many.cancel(terminate=False)
        app.redis.call("RPUSH", "gate", *range(12))

        limited = submit(group(seldom.s() for _ in range(3)), app=app)
        until(lambda: limited.counts.get("SUCCESS") == 1, what="the first of them has run")
        until(lambda: kinds(limited) == {"rate limit"}, what="the worker has the others, and holds them back")

        unknown = submit(app.signature("nobody.knows"), app=app)
        until(lambda: unknown.done)
        assert kinds(unknown) == {"unknown task"}

        worker.kill()


@pytest.mark.servers
def test_a_broker_that_is_gone(tmp_path):
    from tests.servers import Redis

    server = Redis(tmp_path)
    try:
        with Fleet(server.url, tasks="tests.cluster.attached") as fleet:
            app = fleet.client()
            run = submit(app.tasks["slow"].s(1), app=app)
            server.stop()
            [reason] = run.why()
            assert reason.kind == "no broker"
            assert server.url in reason.text
            server.start()
    finally:
        server.stop()
