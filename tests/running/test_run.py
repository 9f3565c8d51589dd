"""The Run: one handle for a canvas that was started (shared/TOUR, sections 3 and 4)."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pandas as pd
import pytest

from nbcanvas import App, AsyncResult, GroupResult, Run, StampingVisitor, chain, chord, group, submit
from nbcanvas.errors import (
    CanvasError,
    ChordError,
    NotASignature,
    NotSerializable,
    ResultExpired,
    TaskRevokedError,
    TimeoutError,  # noqa: A004
)
from nbcanvas.events.state import State


def wait_until(condition, timeout=30.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.002)


def counts(run):
    return {state: count for state, count in run.counts.items() if count}


def test_a_run(app, tasks):
    run = submit(group(tasks.add.s(i, i) for i in range(100)) | tasks.tsum.s(), name="total")
    assert isinstance(run, Run) and run.name == "total" and run.app is app
    assert run.get(timeout=30) == 9900
    assert isinstance(run.result, AsyncResult) and run.result.get(timeout=30) == 9900
    assert run.wait(timeout=30) is run
    assert run.done and run.state == "SUCCESS" and len(run) == 101
    assert counts(run) == {"SUCCESS": 101}
    assert repr(run) == "<Run total: 101 SUCCESS>"
    assert run.finished >= run.started


def test_the_result_of_a_group_is_a_group_result(tasks):
    run = submit(group(tasks.add.s(1, 1), tasks.add.s(2, 2)))
    assert isinstance(run.result, GroupResult)
    assert run.get(timeout=30) == [2, 4]
    assert repr(run.wait(timeout=30)) == f"<Run {run.id[:8]}: 2 SUCCESS>"


def test_one_task(tasks):
    run = submit(tasks.add.s(1, 1))
    assert run.get(timeout=30) == 2 and len(run) == 1


def test_a_canvas_that_holds_nothing(app):
    for empty in (group([]), chain(), group(group([]), group([]))):
        run = submit(empty)
        assert run.wait(timeout=1).done and len(run) == 0
        assert run.state == "SUCCESS" and counts(run) == {}
        assert repr(run) == f"<Run {run.id[:8]}: empty>"
        assert run.frame().empty
        told = []
        run.add_done_callback(told.append)
        assert told == [run]
        run.cancel()
    assert submit(group([])).get(timeout=1) == []


def test_a_chord_whose_header_holds_nothing(tasks):
    assert submit(chord([], tasks.tsum.s())).get(timeout=30) == 0


@pytest.mark.parametrize("value", [3, None, [1], "add", print, {"task": "x"}])
def test_only_signatures_are_run(app, value):
    with pytest.raises(NotASignature, match="a canvas is a signature"):
        submit(value)


def test_a_task_is_no_signature_and_the_error_says_what_to_do(tasks):
    with pytest.raises(NotASignature, match=r"call \.s\("):
        submit(tasks.add)


def test_a_run_is_run_by_its_signatures_app(app):
    other = App("other", set_as_current=False)
    try:

        @other.task
        def work():
            return "other"

        run = submit(work.s())
        assert run.app is other and run.get(timeout=30) == "other"
        assert app.worker is None
    finally:
        other.close()


# -- states and counts ----------------------------------------------------------------------------------------------


def test_states_and_counts_while_it_runs(app, tasks, gate):
    app.start_worker(concurrency=1)
    run = submit(group(tasks.held.s(i) for i in range(3)) | tasks.tsum.s())
    wait_until(lambda: run.counts.get("STARTED"))
    assert not run.done and run.state == "STARTED"
    assert counts(run) == {"STARTED": 1, "SENT": 2, "WAITING": 1}
    gate.set()
    run.wait(timeout=30)
    assert counts(run) == {"SUCCESS": 4}


def test_a_run_that_has_not_begun_is_pending(tasks):
    run = submit(tasks.add.s(1, 1).set(countdown=600))
    assert run.state == "PENDING" and not run.done
    run.cancel()
    assert run.wait(timeout=30).state == "REVOKED"


def test_a_failing_run(tasks):
    run = submit(group(tasks.add.s(1, 1), tasks.fail.s("x")) | tasks.tsum.s())
    with pytest.raises(ChordError, match="ValueError"):
        run.get(timeout=30)
    assert isinstance(run.get(timeout=30, propagate=False), ChordError)
    run.wait(timeout=30)
    assert run.state == "FAILURE"
    assert counts(run) == {"SUCCESS": 1, "FAILURE": 2}


def test_a_failing_chain(tasks):
    run = submit(tasks.add.s(1, 1) | tasks.fail.s() | tasks.add.s(1) | tasks.add.s(1))
    with pytest.raises(ValueError, match="no"):
        run.get(timeout=30)
    run.wait(timeout=30)
    assert counts(run) == {"SUCCESS": 1, "FAILURE": 3}


def test_a_group_that_fails_in_part(tasks):
    run = submit(group(tasks.add.s(1, 1), tasks.fail.s()))
    run.wait(timeout=30)
    assert run.state == "FAILURE"
    assert run.result.join(propagate=False)[0] == 2


def test_retries_are_seen(app):
    @app.task(bind=True, default_retry_delay=0)
    def flaky(self):
        if self.request.retries < 2:
            raise self.retry(exc=KeyError("again"))
        return "ok"

    run = submit(group(flaky.s() for _ in range(3)))
    assert run.wait(timeout=30).get(timeout=0) == ["ok"] * 3
    assert counts(run) == {"SUCCESS": 3}
    assert list(run.frame()["retries"]) == [2, 2, 2]


def test_a_task_that_is_replaced(app, tasks):
    @app.task(bind=True)
    def replaces(self, n):
        return self.replace(group(tasks.add.s(i, i) for i in range(n)) | tasks.tsum.s())

    run = submit(replaces.s(10) | tasks.add.s(1))
    assert run.get(timeout=30) == 91
    run.wait(timeout=30)
    found = counts(run)
    assert found["SUCCESS"] == 12 and set(found) <= {"SUCCESS", "REPLACED"}


def test_a_task_that_starts_others(app, tasks):
    @app.task
    def starts(n):
        group(tasks.add.s(i, i) for i in range(n)).delay()
        return n

    run = submit(starts.s(5))
    assert run.get(timeout=30) == 5
    wait_until(lambda: counts(run) == {"SUCCESS": 6})


def test_links_and_errbacks_are_part_of_a_run(app, tasks):
    told = []

    @app.task
    def log_error(request, exc, traceback):
        told.append(request.id)

    run = submit(tasks.add.s(1, 1).set(link=tasks.add.s(5), link_error=log_error.s()))
    run.wait(timeout=30)
    assert run.get(timeout=30) == 2
    wait_until(lambda: counts(run).get("SUCCESS") == 2)
    bad = submit(tasks.fail.s().on_error(log_error.s()))
    bad.wait(timeout=30)
    wait_until(lambda: told)
    assert told == [bad.result.id]
    assert counts(bad)["FAILURE"] == 1


def test_runs_are_apart(tasks):
    sig = group(tasks.add.s(i, i) for i in range(3)) | tasks.tsum.s()
    first, second = submit(sig), submit(sig)
    assert first.get(timeout=30) == second.get(timeout=30) == 6
    assert first.id != second.id and not set(first._all) & set(second._all)
    assert counts(first.wait(60)) == counts(second.wait(60)) == {"SUCCESS": 4}


def test_a_run_does_not_change_its_canvas(tasks):
    sig = group(tasks.add.s(i, i) for i in range(3)) | tasks.tsum.s()
    before = repr(dict(sig))
    submit(sig, stamps={"a": 1}, options={"queue": "x"}).get(timeout=30)
    assert repr(dict(sig)) == before


def test_a_frozen_canvas_is_run(tasks):
    sig = tasks.add.s(1, 1) | tasks.add.s(2)
    result = sig.freeze()
    run = submit(sig)
    assert run.result == result
    assert run.get(timeout=30) == result.get(timeout=30) == 4


def test_names_and_values_of_any_script(app):
    @app.task(name="größe.税")
    def größe(x, *, ключ):  # noqa: PLC2401 - the point
        return f"{x}→{ключ}"

    run = submit(group(größe.s("é🙂", ключ="ß") for _ in range(2)), name="läuft")
    assert run.get(timeout=30) == ["é🙂→ß"] * 2
    assert "läuft" in repr(run.wait(60))
    frame = run.frame()
    assert list(frame["name"]) == ["größe.税"] * 2 and frame["kwargs"][0] == {"ключ": "ß"}


@pytest.mark.slow
def test_a_hundred_thousand_tasks(tasks):
    run = submit(group(tasks.add.s(i, 1) for i in range(100_000)) | tasks.tsum.s())
    assert run.get(timeout=60) == sum(range(100_000)) + 100_000
    run.wait(timeout=30)
    assert counts(run) == {"SUCCESS": 100_001}
    frame = run.frame()
    assert len(frame) == 100_001 and frame["state"].eq("SUCCESS").all()


# -- waiting --------------------------------------------------------------------------------------------------------


def test_timeouts_leave_the_run_alone(tasks, gate):
    run = submit(group(tasks.held.s(1), tasks.add.s(1, 1)))
    run.result[1].get(timeout=30)
    with pytest.raises(TimeoutError, match="1 of 2 tasks"):
        run.wait(timeout=0.05)
    with pytest.raises(TimeoutError):
        run.get(timeout=0.05)
    gate.set()
    assert run.get(timeout=30) == [1, 2]


@pytest.mark.parametrize("timeout", [None, 0.01])
@pytest.mark.parametrize("several", [False, True])
def test_a_value_that_was_forgotten_is_not_waited_for(tasks, timeout, several):
    run = submit(group(tasks.add.s(1, 1), tasks.add.s(2, 2)) if several else tasks.add.s(1, 1)).wait(timeout=30)
    run.result.forget()
    with pytest.raises(ResultExpired, match=r"has ended, but its value was forgotten or has expired; rerun\(\) makes"):
        run.get(timeout=timeout)
    with pytest.raises(ResultExpired, match=r"the value of add \(.*\) was forgotten or has expired; rerun\(\) makes"):
        run.values()
    assert run.wait(timeout=30) is run
    assert run.rerun().get(timeout=30) == ([2, 4] if several else 2)


def test_an_awaited_value_that_was_forgotten(tasks):
    async def main():
        with pytest.raises(ResultExpired):
            await run

    run = submit(tasks.add.s(1, 1)).wait(timeout=30)
    run.result.forget()
    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_view_that_is_interrupted_loses_nothing(tasks, monkeypatch):
    run = submit(group(tasks.add.s(i, i) for i in range(3)) | tasks.tsum.s()).wait(timeout=30)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(State, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.frame()
    assert counts(run) == {"SUCCESS": 4}


def test_what_nobody_has_any_more_is_not_listened_to(app, tasks):
    run = submit(tasks.add.s(1, 1)).wait(timeout=30)
    root_id = run.id
    assert app.hub.feed(root_id) is not None
    for _ in range(50):  # the last ones are kept, to be found
        run = submit(tasks.add.s(1, 1)).wait(timeout=30)
    # The thread that told of its end may still be about to let go of it.
    wait_until(lambda: gc.collect() is not None and app.hub.feed(root_id) is None)
    assert app.hub.feed(run.id) is not None


def test_await(tasks, gate):
    run = submit(group(tasks.held.s(1), tasks.add.s(1, 1)) | tasks.tsum.s())

    async def main():
        async def tick():
            for _ in range(3):
                await asyncio.sleep(0.005)
            gate.set()  # the loop goes on meanwhile, or it would wait for ever

        other = asyncio.ensure_future(tick())
        value = await asyncio.wait_for(run, 60)
        await other
        return value

    assert asyncio.run(main()) == 3


def test_await_again_and_in_several_loops(tasks):
    run = submit(tasks.add.s(1, 1))

    async def main():
        return await asyncio.gather(*[asyncio.wait_for(run, 60) for _ in range(3)])

    assert asyncio.run(main()) == asyncio.run(main()) == [2, 2, 2]
    found = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(main()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [[2, 2, 2]] * 3


def test_await_of_a_failure_and_of_a_wait_that_is_given_up(tasks, gate):
    async def fails():
        return await submit(tasks.fail.s())

    with pytest.raises(ValueError, match="no"):
        asyncio.run(fails())
    run = submit(tasks.held.s(4))

    async def gives_up():
        await asyncio.wait_for(run, 0.05)

    with pytest.raises((TimeoutError, asyncio.TimeoutError)):
        asyncio.run(gives_up())
    gate.set()  # its end is told to a loop that is closed by now
    assert run.get(timeout=30) == 4


def test_done_callbacks(tasks, gate):
    told = []
    run = submit(tasks.held.s(1))
    run.add_done_callback(lambda run: told.append(("first", run.done)))
    run.add_done_callback(lambda run: 1 / 0)  # one that raises holds up nobody
    run.add_done_callback(lambda run: told.append(("second", run.done)))
    assert told == []
    gate.set()
    run.wait(timeout=30)
    wait_until(lambda: len(told) == 2)
    assert told == [("first", True), ("second", True)]
    run.add_done_callback(lambda run: told.append("late"))
    assert told[2:] == ["late"]
    assert run.get(timeout=30) == 1


# -- cancelling -----------------------------------------------------------------------------------------------------


def test_cancel_what_waits(app, tasks, gate):
    app.start_worker(concurrency=1)
    run = submit(group(tasks.held.s(i) for i in range(3)) | tasks.tsum.s() | tasks.add.s(1))
    wait_until(lambda: run.counts.get("STARTED"))
    run.cancel()
    gate.set()  # what runs may end
    run.wait(timeout=30)
    with pytest.raises(TaskRevokedError):
        run.get(timeout=30)
    assert run.state == "REVOKED"
    # What was revoked has ended at once; of what is behind, the run hears when what ran has ended.
    wait_until(lambda: counts(run) == {"SUCCESS": 1, "REVOKED": 4})


def test_cancel_what_runs_too(app, tasks):
    @app.task
    def busy(*args):
        for _ in range(12_000):
            time.sleep(0.005)

    run = submit(group(busy.s(), busy.s()) | tasks.tsum.s())
    wait_until(lambda: run.counts.get("STARTED") == 2)
    run.cancel(terminate=True)
    run.wait(timeout=30)
    assert counts(run) == {"REVOKED": 3}
    assert submit(tasks.add.s(1, 1)).get(timeout=30) == 2


def test_cancel_what_has_ended(tasks):
    run = submit(tasks.add.s(1, 1)).wait(timeout=30)
    run.cancel(terminate=True)
    assert run.get(timeout=30) == 2 and run.state == "SUCCESS"


def test_cancel_a_retry_that_waits(app, tasks):
    @app.task(bind=True)
    def again(self):
        raise self.retry(countdown=600)

    run = submit(again.s() | tasks.add.s(1))
    wait_until(lambda: run.counts.get("RETRY"))
    run.cancel()
    run.wait(timeout=30)
    wait_until(lambda: counts(run) == {"REVOKED": 2})  # heard when what was about to wait again was found revoked


# -- options and stamps ---------------------------------------------------------------------------------------------


def test_options_are_for_every_call_and_a_signatures_own_win(app, tasks):
    run = submit(tasks.add.s(1, 1) | group(tasks.add.s(1), tasks.add.s(2).set(queue="own")), options={"queue": "all"})
    run.wait(timeout=30)
    assert list(run.frame()["queue"]) == ["all", "all", "own"]


def test_a_countdown_is_waited_for_once(app):
    @app.task(bind=True)
    def waited(self, before=()):
        return [*before, self.request.eta is not None]

    started = time.monotonic()
    run = submit(waited.s() | waited.s() | waited.s(), options={"countdown": 0.2})
    assert run.get(timeout=30) == [True, False, False]
    assert time.monotonic() - started >= 0.2


def test_a_countdown_delays_each_member_of_a_group(tasks):
    started = time.monotonic()
    run = submit(group(tasks.add.s(1, 1), tasks.add.s(2, 2)), options={"countdown": 0.2})
    first, second = run.result
    assert second.get(timeout=30) == 4
    assert time.monotonic() - started >= 0.2
    assert first.get(timeout=30) == 2


def test_stamps_and_a_visitor(tasks):
    class InChain(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"seen": sig.task}

    run = submit(tasks.add.s(1, 1) | tasks.add.s(1), stamps={"experiment": 42}, visitor=InChain())
    run.wait(timeout=30)
    frame = run.frame()
    assert list(frame["experiment"]) == [42, 42] and list(frame["seen"]) == ["add", "add"]


# -- tables ---------------------------------------------------------------------------------------------------------


def test_a_frame(app, tasks):
    sig = tasks.add.s(1, 1) | group(tasks.add.s(i) for i in range(2)) | tasks.tsum.s()
    run = submit(sig, stamps={"kind": ["a", "b"]})
    run.wait(timeout=30)
    frame = run.frame()
    assert list(frame["name"]) == ["add", "add", "add", "tsum"]
    assert list(frame["result"]) == [2, 2, 3, 5]
    assert list(frame["state"]) == ["SUCCESS"] * 4
    assert list(frame["args"]) == [(1, 1), (0,), (1,), ()]
    assert list(frame["kind"]) == [["a", "b"]] * 4
    assert (frame["root_id"] == run.id).all()
    assert frame["parent_id"][1] == frame["parent_id"][2] == frame["task_id"][0] and frame["parent_id"][0] is None
    assert list(frame["index"].astype(object).where(frame["index"].notna(), None)) == [None, 0, 1, None]
    assert list(frame["retries"]) == [0, 0, 0, 0]
    assert (frame["queue"] == "celery").all() and frame["worker"].str.contains("embedded@").all()
    for column in ("sent", "started", "finished"):
        assert isinstance(frame[column].dtype, pd.DatetimeTZDtype) and str(frame[column].dt.tz) == "UTC"
        assert frame[column].notna().all()
    for column in ("wait", "runtime"):
        assert frame[column].dtype == "timedelta64[ns]" and (frame[column] >= pd.Timedelta(0)).all()
    for column in ("name", "state", "worker", "queue"):
        assert isinstance(frame[column].dtype, pd.CategoricalDtype)
    assert len(run.frame(stamps="explode")) == 8


def test_a_frame_while_it_runs(app, tasks, gate):
    app.start_worker(concurrency=1)
    run = submit(group(tasks.add.s(1, 1), tasks.held.s(5)) | tasks.tsum.s())
    wait_until(lambda: counts(run) == {"SUCCESS": 1, "STARTED": 1, "WAITING": 1})
    frame = run.frame()
    assert list(frame["state"]) == ["SUCCESS", "STARTED", "WAITING"]
    assert list(frame["result"]) == [2, None, None]
    assert frame["finished"].isna().tolist() == [False, True, True]
    gate.set()
    run.wait(timeout=30)
    assert list(run.frame()["result"]) == [2, 5, 7]


def test_a_frame_of_failures(tasks):
    run = submit(group(tasks.add.s(1, 1), tasks.fail.s("x")) | tasks.tsum.s())
    run.wait(timeout=30)
    frame = run.frame()
    assert list(frame["state"]) == ["SUCCESS", "FAILURE", "FAILURE"]
    assert frame["result"].isna().tolist() == [False, True, True]
    assert isinstance(frame["error"][1], ValueError) and isinstance(frame["error"][2], ChordError)
    assert "raise ValueError" in frame["traceback"][1]


# -- bad input ------------------------------------------------------------------------------------------------------


def test_errors_come_before_anything_runs(app, tasks):
    with pytest.raises(NotSerializable):
        submit(group(tasks.add.s(1, 1), tasks.add.s(1, (x for x in "ab"))))
    with pytest.raises(TypeError, match="add"):
        submit(group(tasks.add.s(1, 1), tasks.add.s(1)))
    with pytest.raises(ZeroDivisionError):
        submit(group(tasks.add.s(1, 1 // i) for i in (1, 0)))
    sig = tasks.add.s(1, 1)
    sig.freeze()
    with pytest.raises(CanvasError):
        submit(group(sig, sig))
    assert not app.broker.waiting()


def test_a_value_that_does_not_travel(app):
    @app.task
    def gives():
        return (x for x in "ab")

    run = submit(gives.s())
    with pytest.raises(NotSerializable, match="gives"):
        run.get(timeout=30)
    assert run.wait(timeout=30).state == "FAILURE"
