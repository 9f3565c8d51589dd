"""`run.why()`: each reason, on the embedded worker; and what it looks like."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from nbcanvas import App, chain, chord, group, signature, submit
from nbcanvas.canvas import set_default_host
from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan
from nbcanvas.run import AttachedRun, set_audience
from nbcanvas.run.reasons import KINDS, Busy, Queued, Scene, reasons
from nbcanvas.run.why import Why, why
from tests.costs import operations


def until(condition, timeout=30.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)


def state_of(run, path):
    state = run.snapshot()
    return next(state.state(row) for row in state.order if state.calls[row].path == path)


def told(run, **options):
    """Return path -> (kind, text)."""
    return {one.path: (one.kind, one.text) for one in run.why(**options)}


def kinds(run):
    return {path: kind for path, (kind, _) in told(run).items()}


@pytest.fixture
def two(app, tasks):
    """Return the tasks of an app whose worker has two slots."""
    app.start_worker(2)
    return tasks


# -- done ------------------------------------------------------------------------------------------------------------


def test_nothing_to_tell_of_what_succeeded(tasks):
    found = submit(group(tasks.add.s(i, i) for i in range(3)), name="total").wait(timeout=30).why()
    assert isinstance(found, Why) and not found and list(found) == []
    assert repr(found) == "total is done: 3 tasks succeeded"
    assert "total is done" in found._repr_html_()
    assert repr(submit(group([]), name="none").why()) == "none is done: it has no tasks"


# -- waiting for others ----------------------------------------------------------------------------------------------


def test_a_body_waits_for_those_of_its_header_that_are_missing(two):
    run = submit(chord([two.add.s(i, i) for i in range(3)] + [two.held.s(), two.held.s()], two.tsum.s()))
    until(lambda: run.counts.get("SUCCESS") == 3 and run.counts.get("STARTED") == 2)
    body = run.why()[-1]
    assert (body.path, body.kind, body.state) == ("chord.body", "barrier", "WAITING")
    assert body.text == "3 of 5 arrived; it waits for chord.header[3], chord.header[4]"
    assert body.waits_for == ("chord.header[3]", "chord.header[4]")


def test_a_step_waits_for_the_one_before_it(two):
    run = submit(chain(two.held.s(1), two.add.s(1), group(two.add.s(1), two.add.s(2))))
    until(lambda: state_of(run, "chain[0]") == "STARTED")
    found = told(run)
    assert found == {
        "chain[0]": found["chain[0]"],
        "chain[1]": ("predecessor", "it waits for chain[0] (STARTED)"),
        "chain[2].group[0]": ("predecessor", "it waits for chain[1] (WAITING)"),
        "chain[2].group[1]": ("predecessor", "it waits for chain[1] (WAITING)"),
    }
    assert run.why()[1].waits_for == ("chain[0]",)


def test_a_barrier_names_where_its_members_stand(app, two):
    app.start_worker(4)
    member = two.add.s(1, 1) | two.held.s() | two.add.s(1)
    run = submit(chord([member, two.add.s(1, 1), chord([two.held.s(1)] * 2, two.tsum.s())], two.tsum.s()))
    until(lambda: state_of(run, "chord.header[0].chain[1]") == "STARTED")
    until(lambda: state_of(run, "chord.header[1]") == "SUCCESS")
    found = {one.path: one for one in run.why()}
    assert found["chord.body"].waits_for == ("chord.header[0].chain[1]", "chord.header[2].chord.header[0]")
    assert found["chord.body"].text.startswith("1 of 3 arrived")
    assert found["chord.header[2].chord.body"].kind == "barrier"


def test_a_header_that_holds_nothing_is_not_what_is_waited_for(two):
    run = submit(two.held.s(1) | chord([], two.tsum.s()))
    until(lambda: run.counts.get("STARTED") == 1)
    assert told(run)["chain[2]"] == ("predecessor", "it waits for chain[0] (STARTED)")


def test_many_that_are_missing_are_counted(two):
    run = submit(chord([two.held.s(i) for i in range(1000)], two.tsum.s()))
    body = run.why()[-1]
    assert body.text.endswith("it waits for chord.header[0], chord.header[1], chord.header[2], and 997 others")
    assert len(body.waits_for) == 1000


def test_what_failed_in_a_header_has_arrived(two):
    run = submit(chord([two.fail.s(), two.fail.s() | two.add.s(1), two.held.s()], two.tsum.s()))
    until(lambda: run.counts.get("FAILURE") == 3)
    assert told(run)["chord.body"] == ("barrier", "2 of 3 arrived; it waits for chord.header[2]")


# -- queued ----------------------------------------------------------------------------------------------------------


def test_all_slots_are_busy(app, two):
    first = submit(group(two.held.s(i) for i in range(2)))
    until(lambda: first.counts.get("STARTED") == 2)
    other = submit(group(two.add.s(i, i) for i in range(3)))
    run = submit(group(two.add.s(i, i) for i in range(4)))
    found = run.why()
    assert [(one.kind, one.place) for one in found] == [("queued", place) for place in (4, 5, 6, 7)]
    assert found[0].text == ("queued in 'celery' behind 3 of other runs: all 2 slots are busy with held ×2, place 4")
    assert set(found[0].waits_for) == {call.id for call in first.root.members}
    assert other.why()[0].text == "queued in 'celery': all 2 slots are busy with held ×2, place 1"
    assert repr(found).splitlines()[1:] == [
        "→ group[*] add ×4: queued in 'celery' behind 3 of other runs: all 2 slots are busy with held ×2, places 4 to 7"
    ]
    assert {one.kind for one in first.why()} == {"running"}


def test_the_slots_are_busy_with_tasks_of_the_run_itself(two):
    run = submit(group(two.held.s(i) for i in range(3)))
    until(lambda: run.counts.get("STARTED") == 2)
    waiting = next(one for one in run.why() if one.kind == "queued")
    assert len(waiting.waits_for) == 2 and all(path.startswith("group[") for path in waiting.waits_for)


def test_higher_priorities_are_served_first(app, two):
    held = submit(group(two.held.s(i) for i in range(2)))
    until(lambda: held.counts.get("STARTED") == 2)
    low, high = submit(two.add.s(1, 1).set(priority=9)), submit(two.add.s(1, 1).set(priority=0))
    assert (high.why()[0].place, low.why()[0].place) == (1, 2)


def test_no_worker(app, two):
    held = submit(group(two.held.s(i) for i in range(4)) | two.tsum.s())
    until(lambda: held.counts.get("STARTED", 0) >= 2)
    app.stop_worker(timeout=0)
    found = kinds(held)
    assert sorted(found.values()) == ["barrier", "no worker", "no worker", "worker lost", "worker lost"]
    text = next(text for kind, text in told(held).values() if kind == "no worker")
    assert text == "no worker runs: start one with %canvas worker start"


def test_a_started_task_whose_worker_is_another_one_now(app, two):
    run = submit(two.held.s())
    until(lambda: run.counts.get("STARTED") == 1)
    app.stop_worker(timeout=0)
    assert re.fullmatch(r"the worker embedded@\S+ that ran it is gone", run.why()[0].text)
    assert told(run, clocks=False)[""] == ("worker lost", "the worker that ran it is gone")
    app.start_worker(2)
    assert run.why()[0].kind == "worker lost"


def test_a_killed_child_process(tmp_path):
    set_default_host(None)
    with App("killed") as app:

        @app.task(name="pid")
        def pid(path):
            Path(path).write_text(str(os.getpid()))
            time.sleep(60)

        app.start_worker(1, "processes")
        path = tmp_path / "pid"
        run = submit(pid.s(str(path)) | pid.s(), app=app)
        until(lambda: path.exists() and path.read_text() and run.counts.get("STARTED"))
        assert kinds(run) == {"chain[0]": "running", "chain[1]": "predecessor"}
        os.kill(int(path.read_text()), signal.SIGKILL)
        run.wait(timeout=30)
        found = told(run)
        assert found["chain[0]"][0] == "worker lost" and "WorkerLostError" in found["chain[0]"][1]
        assert found["chain[1]"][0] == "skipped" and "chain[0] failed" in found["chain[1]"][1]


# -- its time has not come -------------------------------------------------------------------------------------------


def test_a_countdown(two):
    run = submit(two.add.s(1, 1).set(countdown=1000))
    (one,) = run.why()
    assert one.kind == "eta" and re.fullmatch(r"it waits for its time, in 1[67] min", one.text)
    assert abs(one.until - time.time() - 1000) < 60
    (still,) = run.why(clocks=False)
    assert (still.text, still.until) == ("it waits for its time", None)
    run.cancel()


def test_a_retry(app, two):
    @app.task(bind=True, max_retries=5, name="again")
    def again(self):
        raise self.retry(exc=ValueError("not yet"), countdown=0 if self.request.retries == 0 else 1000)

    run = submit(again.s() | two.add.s(1))
    until(lambda: run.snapshot().retries(0) == 2)
    first, second = run.why()
    assert first.kind == "retry" and first.until > time.time()
    assert first.text.startswith("it waits for its retry 2 after ValueError: not yet, in 1")
    assert (second.kind, second.text) == ("predecessor", "it waits for chain[0] (RETRY)")
    run.cancel()


def test_a_rate_limit(app, two):
    slow = app.task(lambda x: x, name="slow", rate_limit="1/h")
    run = submit(group(slow.s(i) for i in range(4)))
    until(lambda: run.counts.get("RECEIVED") == 3 and run.counts.get("SUCCESS") == 1)
    found = run.why()
    assert [one.kind for one in found] == ["rate limit"] * 3
    assert found[0].text.startswith("its rate limit of 1/h holds it back, in ")
    (line,) = found.lines()
    assert line.tasks == 3 and re.search(r"in \d+ min to \d h \d+ min$", line.text)
    app.control.rate_limit("slow", None)
    run.wait(timeout=30)
    assert not run.why()


def test_progress(app, two, gate):
    @app.task(bind=True, name="train")
    def train(self):
        self.update_state(state="PROGRESS", meta={"current": 3, "total": 10})
        assert gate.wait(100)

    run = submit(train.s())
    until(lambda: run.counts.get("PROGRESS") == 1)
    (one,) = run.why()
    assert one.kind == "running" and re.fullmatch(r"it runs on embedded@\S+/\d for .*, 30% done", one.text)
    assert told(run, clocks=False) == {"": ("running", "it runs, 30% done")}


# -- it ended --------------------------------------------------------------------------------------------------------


def test_failed_and_what_never_ran_because_of_it(two):
    run = submit(chain(two.add.s(1, 1), two.fail.s(), two.add.s(1), two.add.s(1))).wait(timeout=30)
    assert told(run) == {
        "chain[1]": ("failed", "ValueError: ('no', 2)"),
        "chain[2]": ("skipped", "it never ran: chain[1] failed (ValueError: ('no', 2))"),
        "chain[3]": ("skipped", "it never ran: chain[1] failed (ValueError: ('no', 2))"),
    }


def test_what_never_ran_because_of_what_replaced_something(app, two):
    @app.task(name="replaces", bind=True)
    def replaces(self, times):
        self.replace(replaces.s(times - 1) if times else chord([two.add.s(1, 1), two.fail.s()], two.tsum.s()))

    for times, part in ((0, "replaced"), (2, "replaced[2]")):
        run = submit(chain(chord([replaces.s(times), two.add.s(1, 1)], two.tsum.s()), two.add.s(1))).wait(timeout=30)
        culprit = f"chain[0].header[0].{part}.chord.header[1]"
        assert told(run) == {
            culprit: ("failed", "ValueError: no"),
            **dict.fromkeys(
                ("chain[0].header[0]", "chain[1]", "chain[2]"),
                ("skipped", f"it never ran: {culprit} failed (ValueError: no)"),
            ),
        }


@pytest.mark.parametrize("grouped", [False, True])
def test_long_chains_are_told_as_fast_as_short_ones(two, grouped):
    def step(i):
        return group(two.add.si(i, i), two.add.si(i, i)) if grouped else two.add.si(i, i)

    def cost(n):
        run = submit(chain(two.fail.s(), *map(step, range(n)))).wait(timeout=60)
        return operations(run.why)

    assert cost(1_000) < 2.2 * cost(500)
    run = submit(chain(two.fail.s(), *map(step, range(2_000))), name="long").wait(timeout=60)
    why = run.why()
    assert len(why) == len(run) and {one.kind for one in why[1:]} == {"skipped"}
    assert {one.text for one in why[1:]} == {"it never ran: chain[0] failed (ValueError: no)"}


def test_a_body_whose_header_failed(two):
    run = submit(chord([two.fail.s(), two.add.s(1, 1), two.fail.s()], two.tsum.s())).wait(timeout=30)
    assert told(run)["chord.body"] == (
        "skipped",
        "it never ran: chord.header[0] failed (ValueError: no), and 1 other",
    )


def test_a_task_that_nobody_knows(app, two):
    run = submit(signature("nb.nobody") | two.add.s(1)).wait(timeout=30)
    found = told(run)
    assert found["chain[0]"][0] == "unknown task" and "nb.nobody" in found["chain[0]"][1]
    assert found["chain[1]"][0] == "skipped"
    held = submit(group(two.held.s(i) for i in range(2)))
    until(lambda: held.counts.get("STARTED") == 2)
    (waiting,) = submit(signature("nb.later")).why()
    assert waiting.kind == "unknown task" and waiting.text.endswith("does not know nb.later")


def test_expired(two, gate):
    held = submit(group(two.held.s(i) for i in range(2)))
    until(lambda: held.counts.get("STARTED") == 2)
    run = submit(two.add.s(1, 1).set(expires=0.01) | two.add.s(1))
    time.sleep(0.05)
    gate.set()
    run.wait(timeout=30)
    assert told(run) == {
        "chain[0]": ("expired", "it expired before it was started"),
        "chain[1]": ("skipped", "it never ran: chain[0] was revoked"),
    }


def test_revoked_by_id_by_stamp_and_terminated(app, two, gate):
    held = submit(group(two.held.s(i) for i in range(2)))
    until(lambda: held.counts.get("STARTED") == 2)
    by_id, by_stamp = submit(two.add.s(1, 1)), submit(two.add.s(1, 1), stamps={"experiment": 42})
    by_id.cancel()
    app.control.revoke_by_stamped_headers({"experiment": 42})
    until(lambda: by_id.counts.get("REVOKED") and by_stamp.counts.get("REVOKED"))
    assert told(by_id) == {"": ("revoked", "revoked by its id")}
    assert told(by_stamp) == {"": ("revoked", "revoked by its stamp experiment=42")}
    held.cancel()
    assert {one.kind for one in held.why()} == {"running"}
    assert all(one.text.endswith("it is revoked, and goes on: cancel(terminate=True) ends it") for one in held.why())
    held.cancel(terminate=True)
    until(lambda: held.counts.get("REVOKED") == 2)
    assert told(held)["group[0]"] == ("revoked", "revoked by its id: terminated")


def test_what_was_cancelled_while_it_waits(two, gate):
    run = submit(two.held.s(1) | two.add.s(1))
    until(lambda: state_of(run, "chain[0]") == "STARTED")
    run.cancel()
    assert told(run)["chain[1]"] == (
        "predecessor",
        "it waits for chain[0] (STARTED); it is revoked, and will not run",
    )
    gate.set()
    until(lambda: state_of(run, "chain[1]") == "REVOKED")


def test_ignored_and_rejected(app, two):
    from nbcanvas.errors import Ignore, Reject

    @app.task(name="ignored")
    def ignored():
        raise Ignore

    @app.task(name="rejected", acks_late=True)
    def rejected():
        raise Reject("bad input", requeue=False)

    run = submit(group(ignored.s() | two.add.s(1), rejected.s())).wait(timeout=30)
    until(lambda: run.snapshot().done)
    found = told(run)
    assert found["group[0].chain[0]"][0] == "ignored" and found["group[1]"][0] == "rejected"
    assert "bad input" in found["group[1]"][1]
    assert found["group[0].chain[1]"] == ("skipped", "it never ran: group[0].chain[0] was ignored")


# -- of any shape ----------------------------------------------------------------------------------------------------


def test_links_count_once_they_start(two):
    sig = two.add.s(1, 1)
    sig.link(two.held.s())
    sig.link_error(two.held.si())
    run = submit(sig).wait(timeout=30)
    until(lambda: run.counts.get("STARTED") == 1)
    assert kinds(run) == {"link[0]": "running"}


def test_a_replaced_task(app, two):
    @app.task(bind=True, name="swap")
    def swap(self):
        raise self.replace(chord([two.held.s(1), two.add.s(1, 1)], two.tsum.s()))

    run = submit(swap.s() | two.add.s(1))
    until(lambda: run.counts.get("STARTED") == 1 and run.counts.get("SUCCESS", 0) >= 1)
    found = {one.name: one for one in run.why()}
    assert found["held"].kind == "running"
    assert found["tsum"].kind == "barrier" and found["tsum"].text.startswith("1 of 2 arrived")
    assert found["add"].kind == "predecessor"


def test_every_reason_is_of_a_known_kind_and_every_task_has_one(two):
    nested = group(two.add.s(1, 1) | group(two.held.s(), two.fail.s()), chord([two.held.s()] * 3, two.tsum.s()))
    run = submit(nested | two.tsum.s() | group(two.add.s(1), two.add.s(2)) | two.tsum.s())
    until(lambda: [one.name for one in run.why() if one.kind == "running"] == ["held", "held"])  # to stay
    state = run.snapshot()
    found = run.why()
    assert {one.kind for one in found} <= set(KINDS)
    missing = [state.calls[row].path for row in state.order if state.awake(row) and state.state(row) != "SUCCESS"]
    assert [one.path for one in found] == missing
    assert all(one.text for one in found)


# -- the pure core ---------------------------------------------------------------------------------------------------


def scene_of_one(**options):
    return Scene(worker="w@a", slots=["w@a/1"], **options)


def sent(*ids, **events):
    root = Fan("g", [Call(one, "add", None) for one in ids])
    return State.of(root, 0.0).apply([Event("sent", one, 1.0) for one in ids])


def test_nobody_consumes_a_queue():
    state = sent("a", "b")
    queued = [Queued("a", "add", "hi"), Queued("b", "add", "lo")]
    first, second = reasons(state, scene_of_one(queued=queued, queues={"lo", "celery"}), 2.0)
    assert first.kind == "no consumer"
    assert first.text == "nobody consumes queue 'hi': worker w@a takes 'celery', 'lo'"
    assert second.kind != "no consumer"
    (still, _) = reasons(state, scene_of_one(queued=queued, queues={"lo"}), 2.0, clocks=False)
    assert still.text == "nobody consumes queue 'hi': the worker takes 'lo'"


def test_a_free_slot_means_that_it_starts_now():
    queued = [Queued("a", "add", "celery"), Queued("b", "add", "celery")]
    first, second = reasons(sent("a", "b"), scene_of_one(queued=queued), 2.0)
    assert (first.kind, first.text) == ("starting", "queued in 'celery': a slot is free")
    assert (second.kind, second.place) == ("queued", 2)


def test_one_slot_and_many_kinds_of_tasks():
    busy = [Busy("w@a/1", "x", "proj.load")]
    (one,) = reasons(sent("a"), scene_of_one(queued=[Queued("a", "add", "celery")], busy=busy), 2.0)
    assert one.text == "queued in 'celery': the only slot is busy with load, place 1" and one.waits_for == ("x",)
    five = Scene(
        queued=[Queued("a", "add", "celery")],
        worker="w@a",
        slots=[str(i) for i in range(5)],
        busy=[Busy(str(i), str(i), f"t{i}") for i in range(5)],
    )
    (one,) = reasons(sent("a"), five, 2.0)
    assert "all 5 slots are busy with t0, t1, t2, …" in one.text
    (one,) = reasons(sent("a"), five, 2.0, clocks=False)
    assert "all slots are busy with" in one.text


def test_a_run_that_is_recorded_says_only_what_was_heard():
    root = Chain([Fan("g", [Call(f"m{i}", "add", None) for i in range(3)]), Call("body", "tsum", None)])
    events = [
        Event("sent", "m0", 1.0),
        Event("started", "m0", 2.0, 0, "w@a/1"),
        Event("sent", "m1", 1.0),
        Event("sent", "m2", 1.0, 0, {"due": 1000.0}),
    ]
    found = reasons(State.of(root, 0.0).apply(events), None, 12.0)
    assert [(one.kind, one.text) for one in found] == [
        ("running", "it runs on w@a/1 for 10 s"),
        ("starting", "it was sent, and no worker has said that it started it"),
        ("eta", "it waits for its time, in 16 min"),
        ("barrier", "0 of 3 arrived; it waits for chord.header[0], chord.header[1], chord.header[2]"),
    ]


def test_the_core_is_a_function_of_its_arguments():
    state, scene = sent("a", "b"), scene_of_one(queued=[Queued("a", "add", "celery", 50.0)])
    assert reasons(state, scene, 10.0) == reasons(state, scene, 10.0)
    assert reasons(state, scene, 10.0)[0].text == "it waits for its time, in 40 s"
    assert reasons(state, scene, 60.0)[0].kind == "starting"


def test_of_a_recording_there_is_no_app_to_ask(two):
    class Recorded:
        id, name = "0123456789", None

        def snapshot(self):
            return sent("a")

    assert why(Recorded()).title == "01234567 is not done: 0 of 1 task succeeded, 1 sent"
    assert [one.kind for one in why(Recorded())] == ["starting"]


def test_stamps_that_cannot_be_looked_up():
    root = Call("a", "add", None, stamps={"x": [{"of": "dict"}], "y": {"b": 1}})
    state = State.of(root, 0.0).apply([Event("sent", "a", 1.0), Event("revoked", "a", 2.0, 0, "revoked")])
    (one,) = reasons(state, Scene(revoked_stamps={"x": {"other"}, "y": {1}}), 3.0)
    assert one.text == "revoked"
    (one,) = reasons(state, Scene(revoked_stamps={"x": [{"of": "dict"}]}), 3.0)
    assert one.text == "revoked by its stamp x={'of': 'dict'}"


def test_forged_grafts_end():
    root = Chain([Call("x", "add", None), Call("y", "add", None)])
    forged = Chain([Call("y", "add", None, nesting=1), Call("x", "add", None, nesting=1)])
    state = State.of(root, 0.0).apply(
        [Event("grafted", "y", 1.0, 0, (forged, "replacement")), *(Event("revoked", i, 2.0, 1 << 20, "") for i in "xy")]
    )
    assert [one.kind for one in reasons(state, None, 3.0)] == ["skipped"] * 2


def test_a_run_of_another_kernel():
    class Attached(AttachedRun):
        lost = None

        def __init__(self):
            self.id, self.name = "0123456789", "old"

        def snapshot(self):
            return sent("a", "b").apply([Event("started", "a", 2.0, 0, "w@a/1")])

    run = Attached()
    assert [one.kind for one in why(run)] == ["running", "starting"]
    run.lost = "the kernel that ran it (process 7 on a) is gone since yesterday"
    found = why(run)
    assert [one.kind for one in found] == ["worker lost", "no worker"]
    assert {one.text for one in found} == {f"{run.lost}; rerun() runs what is missing"}
    assert {one.text for one in why(run, clocks=False)} == {"the process that ran it is gone"}


# -- how it reads ----------------------------------------------------------------------------------------------------


def test_text(two):
    run = submit(chord([two.held.s(i) for i in range(50)], two.tsum.s()), name="total")
    until(lambda: run.counts.get("STARTED") == 2)
    first = ", ".join(f"chord.header[{i}]" for i in range(3))
    lines = repr(run.why(clocks=False)).splitlines()
    assert lines[0] == "total is not done: 0 of 51 tasks succeeded, 2 running, 48 sent, 1 waiting"
    assert lines[1:] == [
        "▶ chord.header[*] held ×2: it runs",
        "→ chord.header[*] held ×48: queued in 'celery': all slots are busy with held ×2, places 1 to 48",
        f"○ chord.body tsum: 0 of 50 arrived; it waits for {first}, and 47 others",
    ]


def test_only_numbers_that_differ_are_starred(two):
    run = submit(group(two.fail.s() | two.add.s(1) for _ in range(3))).wait(timeout=30)
    assert repr(run.why()).splitlines()[1:] == [
        "✗ group[*].chain[0] fail ×3: ValueError: no",
        "✗ group[*].chain[1] add ×3: it never ran: group[*].chain[0] failed (ValueError: no)",
    ]


def test_many_tasks_read_as_a_few_lines(two):
    run = submit(chord([two.held.s(i) | two.add.s(1) for i in range(10_000)], two.tsum.s()))
    until(lambda: run.counts.get("STARTED") == 2)
    found = run.why()
    lines = repr(found).splitlines()
    assert len(found) == 20_001 and len(lines) == 6
    assert len(found._repr_html_()) < 10_000
    run.cancel()


def test_many_different_reasons_are_cut(app):
    @app.task(name="fail_with")
    def fail_with(text):
        raise ValueError(text)

    run = submit(group(fail_with.s("x" * i) for i in range(100))).wait(timeout=30)
    lines = repr(run.why()).splitlines()
    assert lines[-1] == "… and 60 tasks for 60 reasons" and len(lines) == 42
    assert "60 reasons" in run.why()._repr_html_()


HOSTILE = ["<script>alert(1)</script>", "</td></table>", "\u202eevil", "a\nb\nc", '" onmouseover="x', "x" * 1_000_000]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_from_data_becomes_markup(app, text):
    @app.task(name=f"t{text}"[:1000])
    def bad():
        raise ValueError(text)

    found = submit(bad.s(), name="run").wait(timeout=30).why()
    html, plain = found._repr_html_(), repr(found)
    assert "<script" not in html and "</table></table>" not in html.replace(" ", "") and 'onmouseover="' not in html
    assert "\u202e" not in html + plain and len(html) + len(plain) < 10_000
    assert len(plain.splitlines()) == 2
    assert html.count("<table") == html.count("</table>") == 1 and html.count("<td") == html.count("</td>")


def test_an_exception_without_a_text(app):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    Mute.__module__ = "tests.running.test_why"

    @app.task(name="mute")
    def mute():
        raise ValueError(Mute())

    (one,) = submit(mute.s()).wait(timeout=30).why()
    assert "ValueError" in one.text


def test_frame(two):
    run = submit(chord([two.held.s(i) for i in range(3)], two.tsum.s().set(countdown=0)))
    until(lambda: run.counts.get("STARTED") == 2)
    late = submit(two.add.s(1, 1).set(countdown=1000))
    df = run.why().frame()
    assert {name: str(kind) for name, kind in df.dtypes.items()} == {
        "path": "object",
        "task_id": "object",
        "name": "category",
        "state": "category",
        "kind": "category",
        "text": "object",
        "waits_for": "object",
        "until": "datetime64[ns, UTC]",
    }
    assert df["path"].tolist() == [one.path for one in run.why()]
    assert df["waits_for"].tolist()[-1] == ["chord.header[0]", "chord.header[1]", "chord.header[2]"]
    assert late.why().frame()["until"][0] > pd.Timestamp.now("UTC")
    assert late.why(clocks=False).frame()["until"].isna().all()
    empty = submit(group([])).why().frame()
    assert empty.empty and empty.dtypes.astype(str).equals(df.dtypes.astype(str))
    late.cancel()


def test_where_cells_are_compared_no_durations_are_told(two):
    class Static:
        tells_clocks = False

    run = submit(two.add.s(1, 1).set(countdown=1000))
    set_audience(Static())
    try:
        assert told(run) == {"": ("eta", "it waits for its time")}
    finally:
        set_audience(None)
    run.cancel()


def test_it_is_a_sequence(two):
    run = submit(group(two.fail.s(), two.fail.s())).wait(timeout=30)
    found = run.why()
    assert found[0] in found and found[-1] is list(found)[1] and len(found[:1]) == 1
    assert found[0].task_id == run.root.members[0].id and found[0].name == "fail"


def test_a_recording_is_told_as_of_its_last_moment(two, tmp_path):
    run = submit(two.held.s() | two.add.s(1), name="total")
    until(lambda: run.counts.get("STARTED") == 1)
    recording = run.record(tmp_path / "run.json")
    time.sleep(0.1)
    assert repr(recording.why(clocks=False)).splitlines()[1:] == [
        "▶ chain[0] held: it runs",
        "○ chain[1] add: it waits for chain[0] (STARTED)",
    ]
    assert repr(recording.why()) == repr(recording.why())
