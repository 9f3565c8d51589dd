"""Failures and revokes in canvases of every shape, asked of a cluster: everything ends, everybody is told once.

What Celery 5.7 comes to, measured, stands in each test (shared/RELIABILITY.md, section 2).
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

from nbcanvas import chain, chord, group
from nbcanvas.errors import ChordError, TaskRevokedError
from nbcanvas.plan import Fan
from nbcanvas.plan.graph import calls_of
from tests.cluster.scene import LATE, Scene, ends
from tests.cluster.trouble import Boom
from tests.servers import until

pytest.importorskip("redis")
pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

SOON = 60.0


@pytest.fixture(scope="module")
def scene(redis_server, tmp_path_factory):
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    made = Scene(redis_server.url, tmp_path_factory.mktemp("scene"))
    made.fleet.ours("threads", 4)
    yield made
    made.close()


def test_a_chord_of_ten_thousand(scene):
    """Celery: passes."""
    run = scene.submit(chord([scene.sig("add", n, n) for n in range(10_000)], scene.body("ten thousand")))
    assert run.get(timeout=200) == [2 * n for n in range(10_000)]
    assert scene.ran()["ten thousand"] == 1
    assert run.counts["SUCCESS"] == 10_001


class Shapes:
    """Nested shapes with one leaf that fails.

    Each is given what makes a leaf that succeeds, what makes the one that fails, and what makes a body.
    """

    @staticmethod
    def all(ok, bad, body):
        yield "task", bad()
        yield "group", group(ok(), bad())
        yield "group of one", group(bad())
        yield "chain, first", chain(bad(), ok(), ok())
        yield "chain, last", chain(ok(), ok(), bad())
        yield "chain, middle", chain(ok(), bad(), ok())
        yield "chord, header", chord([ok(), bad()], body())
        yield "chord, body", chord([ok(), ok()], bad())
        yield "chord, all of the header", chord([bad()], body())
        yield "chord in a chord, leaf", chord([chord([ok(), bad()], body()), ok()], body())
        yield "chord in a chord, body", chord([chord([ok(), ok()], bad()), ok()], body())
        yield "chord^3, leaf", chord([chord([chord([ok(), bad()], body()), ok()], body()), ok()], body())
        yield "chord^4, leaf", chord([chord([chord([chord([bad()], body())], body())], body())], body())
        yield "group of groups", group(group(ok(), bad()), group(ok(), ok()))
        yield "chord of groups", chord([group(ok(), bad()), ok()], body())
        yield "chord of chains, first", chord([chain(bad(), ok()), ok()], body())
        yield "chord of chains, last", chord([chain(ok(), bad()), ok()], body())
        yield "chain | group", chain(ok(), group(ok(), bad()))
        yield "chain | group | task", chain(ok(), group(ok(), bad()), body())
        yield "chain | group | group | task", chain(ok(), group(ok(), bad()), group(ok(), ok()), body())
        yield "chain | group | group with it | task", chain(ok(), group(ok(), ok()), group(ok(), bad()), body())
        yield "chord with a chain body, first", chord([ok(), bad()], chain(body(), ok()))
        yield "chord with a chain body, in it", chord([ok(), ok()], chain(body(), bad(), ok()))
        yield "chord with a group body", chord([ok(), bad()], group(body(), body()))
        yield "chord with a group body, in it", chord([ok(), ok()], group(body(), bad()))
        yield "group of chords", group(chord([ok(), bad()], body()), chord([ok(), ok()], body()))
        yield "chain of chords", chain(chord([ok(), bad()], body()), group(ok(), ok()), body())
        yield "chain in a chain in a chord", chord([chain(ok(), chain(ok(), bad())), ok()], chain(body(), body()))


def test_nested_shapes_with_one_failing_leaf_end_and_tell_once(scene):
    """Celery, 27 shapes: 1 hangs, 7 hang when asked by id, errback missing in 5, called twice in 2."""
    add = scene.app.tasks["after"]
    runs, words = [], []
    shapes = list(
        Shapes.all(
            lambda: add.si(1, "ok", scene.path),
            lambda: scene.app.tasks["boom"].si(word="X"),
            lambda: scene.app.tasks["body"].s(scene.path, "never"),
        )
    )
    assert len(shapes) >= 27
    for place, (name, sig) in enumerate(shapes):
        word = f"heard{place}"
        for leaf in _leaves(sig):
            if leaf.task == "boom":
                leaf.link_error(scene.app.tasks["heard"].s(scene.path, word))
        runs.append((name, scene.submit(sig)))
        words.append(word)
    wrong, asking = [], scene.fleet.celery_client()  # another process asks by id
    for name, run in runs:
        ends(run, SOON)
        with pytest.raises((Boom, ChordError)):
            run.get(timeout=SOON)
        if [failure.name for failure in run.failed] != ["boom"]:
            wrong.append((name, run.failed))
        by_id = asking.AsyncResult(_last_id(run))
        if by_id.state != "FAILURE":
            wrong.append((name, by_id.state))
    until(lambda: set(words) <= set(scene.ran()), what="all errbacks are called")
    time.sleep(0.5)  # a second call would have come by now
    ran = scene.ran()
    assert not wrong
    assert {word: ran[word] for word in words} == dict.fromkeys(words, 1)


def _leaves(sig):
    """Return every call in a canvas."""
    for member in [*sig.get("kwargs", {}).get("tasks", ()), *sig.get("kwargs", {}).get("header", ())]:
        yield from _leaves(member)
    if sig.get("kwargs", {}).get("body"):
        yield from _leaves(sig["kwargs"]["body"])
    if not sig.get("subtask_type"):
        yield sig


def _last_id(run):
    """Return the id of a call whose end is the canvas's: the one that failed, of a group."""
    return run.failed[0].task_id if isinstance(run.root, Fan) else _calls(run)[-1].id


def _positions(scene, slow):
    """Return canvases and in each the task that is revoked, by its word."""
    step = lambda word: scene.app.tasks["after"].s(word, scene.path)
    first = lambda word, seconds=0.0: scene.app.tasks["step"].s(word, scene.path, seconds)
    ok = first
    yield "task", slow()
    yield "group", group(slow(), ok("g"))
    yield "chain, first", chain(slow(), step("c1"), step("c2"))
    yield "chord, header", chord([slow(), ok("h")], scene.body("after the revoked"))
    yield (
        "chord in a chord",
        chord([chord([slow(), ok("n")], scene.body("after the revoked")), ok("m")], scene.body("after the revoked")),
    )
    yield "chain | group | task", chain(slow(), group(step("x"), step("y")), scene.body("after the revoked"))
    yield "chord, chain in header", chord([chain(slow(), step("z")), ok("w")], scene.body("after the revoked"))
    yield "group of chains", group(chain(slow(), step("p")), chain(ok("q"), step("r")))
    yield "chord, chain behind", chain(chord([slow(), ok("s")], scene.body("after the revoked")), step("t"))


@pytest.mark.parametrize("how", ["waiting", "running, terminate"])
def test_what_is_behind_a_revoked_task_ends_revoked(scene, how):
    """Celery, 18 cases: 3 hang by id, 4 leave tasks PENDING for ever."""
    blockers = []
    tag = how.split(",")[0]
    hold = lambda: scene.app.tasks["hold"].s(f"{tag} slow", f"{scene.path}.{tag}", 60.0)
    with_own = scene.folder / f"ran.{tag}"
    if tag == "waiting":  # nobody is free to take them
        blockers = [scene.submit(scene.sig("hold", "blocker", f"{scene.path}.block", 250.0)) for _ in range(4)]
        block = scene.folder / "ran.block"
        until(lambda: block.exists() and block.read_text().count("blocker") == 4)
    runs = []
    for name, sig in _positions(scene, hold):
        run = scene.submit(sig)
        if tag == "running":
            count = len(runs) + 1
            until(lambda count=count: with_own.exists() and with_own.read_text().count("slow") >= count)
        victim_id = _id_of(run, "hold")
        asked = {"destination": [scene.fleet.workers[0].name], "reply": True, "timeout": SOON}
        assert scene.app.control.revoke(victim_id, terminate=tag == "running", **asked)
        runs.append((name, run, victim_id))
    if tag == "waiting":
        (scene.folder / "ran.block.go").touch()
    wrong, asking = [], scene.fleet.celery_client()  # another process asks by id
    for name, run, victim_id in runs:
        ends(run, SOON)
        states = {call.id: asking.AsyncResult(call.id).state for call in _calls(run)}
        if states[victim_id] != "REVOKED":
            wrong.append((name, "the revoked task itself", states[victim_id]))
        if name not in {"group", "group of chains"}:
            with pytest.raises(TaskRevokedError):
                run.get(timeout=SOON)
        if not set(states.values()) <= {"REVOKED", "SUCCESS"}:
            wrong.append((name, states))
    for blocker in blockers:
        ends(blocker, SOON)
    assert not wrong
    assert scene.ran()["after the revoked"] == 0


def _calls(run):
    return list(calls_of(run.root))


def _id_of(run, task):
    return next(call.id for call in _calls(run) if call.task == task)


def test_revokes_survive_a_restart(redis_server, tmp_path):
    """Celery: 2 of 2 are forgotten when all workers start anew without a state file."""
    url = redis_server.url.removesuffix("/0") + "/9"
    scene = Scene(url, tmp_path, **LATE)
    try:
        worker = scene.fleet.ours("threads")
        inspect = scene.app.control.inspect(timeout=5, destination=[worker.name])
        run = scene.submit(
            chain(scene.sig("step", "revoked", scene.path), scene.sig("after", "behind", scene.path)),
            options={"countdown": 10},
        )
        result_id = _id_of(run, "step")
        until(lambda: (inspect.scheduled() or {}).get(worker.name), what="the worker has it")
        scene.app.control.revoke(result_id)
        worker.stop()
        scene.fleet.ours("threads")
        ends(run, SOON)
        assert set(run.counts) >= {"REVOKED"}
        assert run.counts["REVOKED"] == 2
        assert scene.ran() == Counter()
    finally:
        scene.close()
