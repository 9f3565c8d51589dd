"""How tasks run: limits, times, retries, states, hooks, the request; in threads and in processes alike."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from nbcanvas import chain, chord, errors, group
from tests.worker.conftest import settle, started
from tests.worker.tasks import Flaky, note, notes

# -- limits and times -------------------------------------------------------------------------------------------------


def test_soft_limit(lab, tmp_path):
    result = lab.nap.apply_async((10,), soft_time_limit=0.1)
    with pytest.raises(errors.SoftTimeLimitExceeded):
        result.get(timeout=60)
    assert lab.patient.apply_async((str(tmp_path / "n"),), soft_time_limit=1).get(timeout=60) == "cleaned"
    assert notes(tmp_path / "n") == ["cleaned"]


def test_a_soft_limit_that_comes_before_the_task_begins_is_not_lost(lab):
    with pytest.raises(errors.SoftTimeLimitExceeded):
        lab.nap.apply_async((10,), soft_time_limit=1e-6).get(timeout=60)
    spared = lab.nap.apply_async((0.01,), soft_time_limit=60)  # the next one is not hit by it
    spared.get(timeout=60)
    assert spared.state == "SUCCESS"


def test_a_soft_limit_that_comes_when_the_task_has_just_ended_costs_no_process(lab):
    if lab.pool != "processes":
        return

    def late(self):
        guard = self.app._link.guard
        close = guard.close

        def closing():  # as the signal's handler does
            guard.close, guard.due = close, guard._number
            guard.arrived()

        guard.close = closing
        return os.getpid()

    task = lab.app.task(name="late", bind=True)(late)
    for _ in range(2):
        with pytest.raises(errors.SoftTimeLimitExceeded):
            task.delay().get(timeout=60)


def test_hard_limit(lab):
    result = lab.nap.apply_async((10,), time_limit=0.2)
    with pytest.raises(errors.TimeLimitExceeded, match=r"hard time limit of 0\.2"):
        result.get(timeout=60)
    with pytest.raises(errors.TimeLimitExceeded):
        (lab.nap.si(10).set(time_limit=0.1) | lab.echo.s()).delay().get(timeout=60)
    with pytest.raises(errors.ChordError, match="TimeLimitExceeded"):
        chord([lab.nap.si(10).set(time_limit=0.1), lab.add.s(1, 1)], lab.tsum.s()).delay().get(timeout=60)


def test_a_limit_that_is_not_reached_disturbs_nothing(lab):
    sigs = [lab.add.s(i, i).set(time_limit=60, soft_time_limit=60) for i in range(50)]
    assert group(sigs).delay().get(timeout=60) == [2 * i for i in range(50)]


def test_limits_that_are_just_reached(lab):
    """A limit strikes around the very end of its task: one of the two ends wins, and the next task never suffers."""
    results = [
        lab.nap.apply_async((0.02,), time_limit=0.02 + i / 2000, soft_time_limit=0.02 + i / 4000) for i in range(20)
    ]
    for result in results:
        end = result.get(timeout=60, propagate=False)
        assert end == "slept" or isinstance(end, errors.TimeLimitExceeded | errors.SoftTimeLimitExceeded)
    assert group(lab.add.s(i, i) for i in range(20)).delay().get(timeout=60) == [2 * i for i in range(20)]


def test_expires(lab):
    result = lab.add.apply_async((1, 1), countdown=0.2, expires=0.1)
    with pytest.raises(errors.TaskRevokedError, match="expired"):
        result.get(timeout=60)
    with pytest.raises(errors.TaskRevokedError):
        (lab.add.s(1, 1).set(countdown=0.2, expires=0.1) | lab.add.s(1)).delay().get(timeout=60)
    assert lab.add.apply_async((1, 1), expires=60).get(timeout=60) == 2


def test_countdown_and_eta(lab):
    for options in (lambda: {"countdown": 0.3}, lambda: {"eta": datetime.now(UTC) + timedelta(seconds=0.3)}):
        before = time.monotonic()
        result = lab.add.apply_async((1, 1), **options())
        assert result.get(timeout=60) == 2
        assert time.monotonic() - before > 0.25


def test_rate_limit(lab, tmp_path):
    lab.stamp.delay(str(tmp_path / "first")).get(timeout=60)
    lab.app.control.rate_limit("stamp", "20/s")
    before = time.time()
    group(lab.stamp.si(str(tmp_path / "n")) for _ in range(6)).delay().get(timeout=60)
    times = [float(t) for t in notes(tmp_path / "n")]
    assert len(times) == 6 and max(times) - before >= 0.24
    lab.app.control.rate_limit("stamp", None)


def test_a_changed_rate_limit_frees_what_waits(lab, tmp_path):
    lab.app.control.rate_limit("stamp", "1/h")
    result = group(lab.stamp.si(str(tmp_path / "n")) for _ in range(20)).delay()
    settle(lambda: result.completed_count() == 1)
    lab.app.control.rate_limit("stamp", None)
    result.get(timeout=60)


def test_a_rate_limit_does_not_hold_up_other_tasks(lab, tmp_path):
    lab.app.control.rate_limit("stamp", "100/s")
    limited = group(lab.stamp.si(str(tmp_path / "n")) for _ in range(3000)).delay()
    assert group(lab.add.s(i, i) for i in range(100)).delay().get(timeout=60) == [2 * i for i in range(100)]
    assert limited.completed_count() < 3000
    limited.revoke()
    lab.app.control.rate_limit("stamp", None)
    settle(limited.ready)


# -- retries ----------------------------------------------------------------------------------------------------------


def test_autoretry(lab, tmp_path):
    assert lab.flaky.delay(str(tmp_path / "n"), 2).get(timeout=60) == 2
    assert notes(tmp_path / "n") == ["0", "1", "2"]
    result = lab.flaky.delay(str(tmp_path / "m"), 99)
    with pytest.raises(Flaky, match="3"):
        result.get(timeout=60)
    assert notes(tmp_path / "m") == ["0", "1", "2", "3"] and result.retries == 3


def test_retry_with_other_arguments(lab):
    assert tuple(lab.again.delay(1).get(timeout=60)) == (2, 5, 1)
    assert (lab.add.s(1, 1) | lab.again.s() | lab.echo.s()).delay().get(timeout=60) == (3, 5, 1)


def test_retry_without_throwing(lab):
    assert lab.quietly.delay().get(timeout=60) == "second"


def test_max_retries(lab, tmp_path):
    with pytest.raises(errors.MaxRetriesExceededError):
        lab.for_ever.delay(str(tmp_path / "n"), False).get(timeout=60)
    with pytest.raises(Flaky):
        lab.for_ever.delay(str(tmp_path / "m"), True).get(timeout=60)
    assert notes(tmp_path / "n") == notes(tmp_path / "m") == ["0", "1", "2"]


# -- states -----------------------------------------------------------------------------------------------------------


def test_custom_states_are_seen_while_the_task_runs(lab, tmp_path):
    gate = str(tmp_path / "gate")
    result = lab.custom.delay(gate)
    started(gate)
    settle(lambda: result.state == "CUSTOM")  # what a child says takes a moment
    assert result.info == {"at": 1}
    (tmp_path / "gate").touch()
    assert result.get(timeout=60) == "end" and result.state == "SUCCESS"


def test_track_is_seen_while_the_task_runs(lab, tmp_path):
    gate = str(tmp_path / "gate")
    result = lab.tracked.delay(gate)
    started(f"{gate}1")
    settle(lambda: result.info == {"current": 0, "total": 2})  # what a child says takes a moment
    assert result.state == "PROGRESS"
    (tmp_path / "gate1").touch()
    started(f"{gate}2")
    settle(lambda: result.info == {"current": 1, "total": 2})  # what a child says takes a moment
    (tmp_path / "gate2").touch()
    result.get(timeout=60)


def test_update_state_and_ignore(lab):
    result = lab.half_way.delay()
    settle(result.ready)
    assert result.get(timeout=60) == {"done": 50}


def test_track_started(lab, tmp_path):
    gate = str(tmp_path / "gate")
    lab.app.conf.task_track_started = True
    try:
        result = lab.hold.delay(gate)
        started(gate)
        assert result.state == "STARTED" and "pid" in result.info
    finally:
        lab.app.conf.task_track_started = False
        (tmp_path / "gate").touch()
    result.get(timeout=60)


def test_ignore_result(lab):
    result = lab.add.apply_async((1, 1), ignore_result=True)
    settle(result.ready)
    assert result.result is None and result.state == "SUCCESS"
    ignored = [lab.add.s(i, i).set(ignore_result=True) for i in range(3)]
    assert chord(ignored, lab.tsum.s()).delay().get(timeout=60) == 6  # a chord needs its header's values


def test_errbacks_are_told(lab, tmp_path):
    log = str(tmp_path / "n")

    def told(request, exc, traceback):
        note(log, f"{request.id} {exc!r} {type(traceback).__name__}")

    def told_id(task_id):
        note(log, task_id)

    errbacks = [lab.app.task(name="told")(told).s(), lab.app.task(name="told_id")(told_id).s()]
    ends = [lab.fail.s("no"), lab.nap.s(9).set(time_limit=0.1), lab.nap.s(9).set(soft_time_limit=0.1)]
    if lab.pool == "processes":
        ends.append(lab.os_exit.s())
    for sig in ends:
        result = sig.set(link_error=errbacks).delay()
        error = result.get(timeout=60, propagate=False)
        settle(lambda: len(notes(log)) == 2)
        assert set(notes(log)) == {f"{result.id} {error!r} {'str' if result.traceback else 'NoneType'}", result.id}
        (tmp_path / "n").unlink()


def test_a_router_that_raises_ends_what_is_behind(lab):
    def route(name, args, kwargs, options, task=None):
        if name == "tsum":
            raise LookupError("no way")

    lab.app.conf.task_routes = (route,)
    try:
        with pytest.raises(LookupError):
            (lab.add.s(1, 1) | lab.tsum.s() | lab.echo.s()).delay().get(timeout=60)
        with pytest.raises(LookupError):
            chord([lab.add.s(1, 1), lab.add.s(1, 1)], lab.tsum.s() | lab.echo.s()).delay().get(timeout=60)
        with pytest.raises(LookupError):
            lab.tsum.delay([1])
    finally:
        lab.app.conf.task_routes = None


# -- classes, hooks, options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("well", ["before_start", "run", "on_success well", "after_return SUCCESS"]),
        ("fail", ["before_start", "run", "on_failure bad True", "after_return FAILURE"]),
        (
            "retry",
            [
                "before_start",
                "run",
                "on_retry once",
                "before_start",
                "run",
                "on_success retry",
                "after_return SUCCESS",
            ],
        ),
    ],
)
def test_hooks(lab, tmp_path, end, said):
    lab.hooked.delay(str(tmp_path / "n"), end).get(timeout=60, propagate=False)
    assert notes(tmp_path / "n") == said


def test_class_based_tasks(lab):
    assert lab.adder.delay(1).get(timeout=60) == 101
    assert chain(lab.adder.s(1), lab.adder.s()).delay().get(timeout=60) == 201


def test_pydantic(lab):
    from pydantic import BaseModel

    class Order(BaseModel):
        amount: int

    def price(order: Order) -> Order:
        return Order(amount=order.amount * 2)

    price.__annotations__ = {"order": Order, "return": Order}
    task = lab.app.task(name="price", pydantic=True)(price)
    assert task.delay({"amount": "21"}).get(timeout=60) == {"amount": 42}
    with pytest.raises(Exception, match="amount"):
        task.delay({"amount": "many"}).get(timeout=60)


def test_a_task_defined_again_runs_the_new_code(lab):
    def first():
        return "first"

    def second():
        return "second"

    one = lab.app.task(name="redefined")(first)
    assert one.delay().get(timeout=60) == "first"
    two = lab.app.task(name="redefined")(second)
    assert two.delay().get(timeout=60) == "second"
    assert lab.app.send_task("redefined").get(timeout=60) == "second"


# -- the request ------------------------------------------------------------------------------------------------------


def test_the_request(lab):
    found = lab.who.apply_async((1,), {"k": 2}, task_id="me")
    seen = found.get(timeout=60)
    assert seen["id"] == "me" and seen["root_id"] == "me" and seen["parent_id"] is None and seen["retries"] == 0
    assert seen["args"] == [1] and seen["kwargs"] == {"k": 2} and seen["hostname"].startswith("embedded@")
    assert not seen["direct"] and seen["task"] == "who" == seen["current"] and seen["queue"] == "celery"
    assert seen["chain"] is None and seen["callbacks"] is None and not seen["chord"]


def test_the_request_in_a_canvas(lab):
    sig = lab.who.s(0)
    sig.stamp(colour="red")
    seen = sig.delay().get(timeout=60)
    assert seen["stamps"] == {"colour": ["red"]}
    linked = lab.who.s(0).set(link=lab.echo.s())
    assert (linked | lab.echo.s() | lab.echo.s()).delay().parent.parent.get(timeout=60)["chain"] == 2
    members = group(lab.who.s(i) for i in range(3)).delay()
    assert [m["group_index"] for m in members.get(timeout=60)] == [0, 1, 2]
    assert {m["group"] for m in members.get(timeout=60)} == {members.id}
    assert all(seen["chord"] for seen in chord([lab.who.s(1), lab.who.s(2)], lab.echo.s()).delay().get(timeout=60))
    nested = group(lab.echo.s(0), lab.echo.s(0) | lab.who.s()).delay()
    assert [nested.get(timeout=60)[1][name] for name in ("group", "group_index")] == [nested.id, 1]
    body = chord([lab.echo.s(1), lab.echo.s(2)], lab.who.s()).delay()  # as with Celery: that of its header
    assert [body.get(timeout=60)[name] for name in ("group", "group_index")] == [body.parent.id, None]
    assert linked.delay().get(timeout=60)["callbacks"] == 1


def test_tasks_started_by_a_task_are_its_children(lab):
    result = lab.starts.delay(3)
    assert result.get(timeout=60) == [1, 2, 3]
    assert len(result.children) == 3
    child = lab.app.backend.get(result.children[0].id)
    assert child.parent_id == result.id


def test_a_task_reads_and_revokes_others(lab):
    done = lab.add.delay(2, 3)
    done.get(timeout=60)
    assert lab.reads.delay(done.id).get(timeout=60) == ("SUCCESS", 5, "add")
    failed = lab.fail.delay("why")
    failed.get(timeout=60, propagate=False)
    assert lab.reads.delay(failed.id).get(timeout=60) == ("FAILURE", "ValueError('why')", "fail")
    assert lab.reads.delay("nobody").get(timeout=60)[0] == "PENDING"
    later = lab.add.apply_async((1, 1), countdown=60)
    assert lab.revokes.delay(later.id).get(timeout=60) == "REVOKED"
    assert later.state == "REVOKED"


def test_replace(lab):
    result = lab.replaced.delay(1)
    assert result.get(timeout=60) == 12
    assert (lab.replaced.s(1) | lab.add.s(100)).delay().get(timeout=60) == 112
    assert lab.replaced_by_group.delay(3).get(timeout=60) == [0, 2, 4]
    assert chord([lab.replaced.s(1), lab.replaced_by_group.s(2)], lab.echo.s()).delay().get(timeout=60) == [12, [0, 2]]


def test_map_starmap_chunks(lab):
    assert lab.echo.map([1, 2]).delay().get(timeout=60) == [1, 2]
    assert lab.add.starmap([(1, 2), (3, 4)]).delay().get(timeout=60) == [3, 7]
    assert lab.add.chunks([(i, i) for i in range(10)], 4).delay().get(timeout=60) == [
        [0, 2, 4, 6],
        [8, 10, 12, 14],
        [16, 18],
    ]
