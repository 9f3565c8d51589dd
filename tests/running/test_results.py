"""Result handles: AsyncResult, GroupResult, ResultSet (Celery's guide: "Result API", "Group Results")."""

from __future__ import annotations

import json
import pickle
import threading
import time
from datetime import UTC, datetime

import pytest

from nbcanvas import AsyncResult, GroupResult, ResultSet, allow_join_result, chain, chord, group, result_from_tuple
from nbcanvas.errors import IncompleteStream, TaskRevokedError, TimeoutError  # noqa: A004 - Celery's name


def test_a_result_that_is_not_known_is_pending(app):
    result = app.AsyncResult("nobody")
    assert result.state == result.status == "PENDING"
    assert result.result is result.info is result.traceback is result.children is result.date_done is None
    assert not result.ready() and not result.successful() and not result.failed() and not result.exists()


def test_a_success(app, tasks):
    before = datetime.now(UTC)
    result = tasks.add.delay(2, 3)
    assert result.get(timeout=30) == 5
    assert result.state == result.status == "SUCCESS"
    assert result.ready() and result.successful() and not result.failed() and result.exists()
    assert result.result == result.info == 5
    assert result.traceback is None
    assert result.children == []
    assert result.name == "add" and result.args == (2, 3) and result.kwargs == {} and result.retries == 0
    assert result.queue == "celery" and "embedded@" in result.worker
    assert before <= result.date_done <= datetime.now(UTC)
    assert result.task_id == result.id == str(result)
    assert repr(result) == f"<AsyncResult: {result.id}>"


def test_a_failure(tasks):
    result = tasks.fail.delay("x")
    with pytest.raises(ValueError, match="no") as caught:
        result.get(timeout=30)
    assert caught.value.args == ("no", "x")
    assert result.state == "FAILURE"
    assert result.failed() and result.ready() and not result.successful()
    assert isinstance(result.result, ValueError)
    assert result.traceback.startswith("Traceback (most recent call last):")
    assert "raise ValueError" in result.traceback and "execute.py" not in result.traceback
    assert result.get(propagate=False) is result.result
    with pytest.raises(ValueError, match="no"):
        result.maybe_throw()
    assert isinstance(result.maybe_throw(propagate=False), ValueError)


def test_any_process_part_can_ask_by_id(app, tasks):
    result = tasks.add.delay(2, 3)
    result.get(timeout=30)
    assert app.AsyncResult(result.id).get(timeout=30) == 5
    assert AsyncResult(result.id).get(timeout=30) == 5
    assert tasks.add.AsyncResult(result.id).get(timeout=30) == 5


def test_an_id_is_needed():
    with pytest.raises(ValueError, match="id"):
        AsyncResult(None)


def test_timeout_leaves_the_task_alone(tasks, gate):
    result = tasks.held.delay(7)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=result.id):
        result.get(timeout=0.05)
    with pytest.raises(AsyncResult.TimeoutError):
        result.get(timeout=0)
    assert time.monotonic() - started >= 0.05
    gate.set()
    assert result.get(timeout=30) == 7


def test_callback_and_on_interval(tasks, gate):
    result = tasks.held.delay(7)
    ticks, told = [], []

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            gate.set()

    value = result.get(timeout=30, interval=0.01, on_interval=tick, callback=lambda *both: told.append(both))
    assert value == 7
    assert len(ticks) >= 3
    assert told == [(result.id, 7)]


def test_callback_hears_of_a_failure_too(tasks):
    told = []
    result = tasks.fail.delay()
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=30, callback=lambda of, value: told.append((of, type(value))))
    assert told == [(result.id, ValueError)]


def test_every_get_gives_the_value_again(tasks):
    result = tasks.add.delay([1], [2])
    assert result.get(timeout=30) == [1, 2]
    assert result.get(timeout=30) == result.wait(timeout=30) == result.result == [1, 2]
    assert AsyncResult(result.id).get(timeout=30) is not result.get(timeout=30)  # isolated, as on a cluster


def test_waiting_from_many_threads(tasks, gate):
    result = tasks.held.delay(7)
    found = []
    threads = [threading.Thread(target=lambda: found.append(result.get(timeout=30))) for _ in range(10)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(60)
    assert found == [7] * 10


def test_waiting_inside_a_task_is_refused(app, tasks):
    @app.task
    def waits():
        return tasks.add.delay(1, 1).get(timeout=30)

    @app.task
    def waits_for_a_group():
        return group(tasks.add.s(1, 1))().get(timeout=30)

    @app.task
    def insists():
        with allow_join_result():
            return tasks.add.delay(1, 1).get(timeout=30)

    @app.task
    def says_so():
        return tasks.add.delay(1, 1).get(timeout=30, disable_sync_subtasks=False)

    for task in (waits, waits_for_a_group):
        with pytest.raises(RuntimeError, match="allow_join_result"):
            task.delay().get(timeout=30)
    assert insists.delay().get(timeout=30) == 2
    assert says_so.delay().get(timeout=30) == 2


def test_forget(app, tasks):
    result = (tasks.add.s(1, 1) | tasks.add.s(2))()
    assert result.get(timeout=30) == 4
    result.forget()
    assert result.state == result.parent.state == "PENDING"
    assert not result.exists()
    assert result.result is None


def test_revoke_of_what_waits(tasks):
    result = tasks.add.apply_async((1, 1), countdown=600)
    result.revoke()
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert isinstance(result.get(propagate=False), TaskRevokedError)
    assert result.ready() and not result.successful()


def test_revoke_ends_what_waits_for_it(tasks):
    first = tasks.add.s(1, 1).set(countdown=600)
    result = (first | tasks.add.s(1) | group(tasks.add.s(1), tasks.add.s(2)) | tasks.tsum.s())()
    result.parent.parent.parent.revoke()
    for handle in (result, *result.parent, result.parent.parent, result.parent.parent.parent):
        with pytest.raises(TaskRevokedError):
            handle.get(timeout=30)
        assert handle.state == "REVOKED"


def test_then(tasks, gate):
    told = []
    good, bad = tasks.held.delay(7), tasks.fail.delay()
    assert good.then(lambda result: told.append(result.result)) is good
    bad.then(told.append, on_error=lambda result: told.append(type(result.result)))
    gate.set()
    good.get(timeout=30)
    until = time.monotonic() + 30
    while len(told) < 2 and time.monotonic() < until:
        time.sleep(0.001)
    assert set(told) == {7, ValueError}


def test_children_are_known_while_the_graph_is_incomplete(tasks, gate):
    result = tasks.add.apply_async((1, 1), link=tasks.held.s())
    result.get(timeout=30)
    with pytest.raises(IncompleteStream, match=result.children[0].id):
        list(result.iterdeps())
    assert list(result.iterdeps(intermediate=True)) == [(None, result), (result, result.children[0])]
    gate.set()
    result.children[0].get(timeout=30)
    assert list(result.iterdeps()) == [(None, result), (result, result.children[0])]
    assert result.get_leaf() == 2


def test_a_chains_graph_goes_through_a_chord(tasks):
    result = (tasks.add.s(1, 1) | group(tasks.add.s(1), tasks.add.s(2)) | tasks.tsum.s())()
    assert result.get(timeout=30) == 7
    first = result.parent.parent
    found = {str(node) for node in first.graph}
    assert {first.id, result.id} <= found
    assert next(value for _, value in first.collect()) == 2


def test_as_tuple_and_as_list(tasks):
    result = (tasks.add.s(1, 1) | tasks.add.s(2) | tasks.add.s(3))()
    a, b, c = result.parent.parent.id, result.parent.id, result.id
    assert result.as_tuple() == ((c, ((b, ((a, None), None)), None)), None)
    assert result.as_list() == [c, b, a]


def both_ways(result):
    yield result_from_tuple(result.as_tuple())
    yield result_from_tuple(json.loads(json.dumps(result.as_tuple())))
    yield pickle.loads(pickle.dumps(result))


def test_results_travel(tasks):
    add, tsum = tasks.add, tasks.tsum
    for sig in (
        add.s(1, 1),
        add.s(1, 1) | add.s(2),
        group(add.s(1, 1), add.s(2, 2)),
        chord([add.s(1, 1)] * 2, tsum.s()),
        add.s(1, 1) | group(add.s(1), add.s(2) | group(add.s(3), add.s(4))),
    ):
        result = sig.delay()
        value = result.get(timeout=30)
        for again in both_ways(result):
            assert again == result and hash(again) == hash(result)
            assert type(again) is type(result)
            assert again.as_tuple() == result.as_tuple()
            assert again.get(timeout=30) == value


def test_result_from_tuple_leaves_a_result_alone(tasks):
    result = tasks.add.delay(1, 1)
    assert result_from_tuple(result) is result
    assert result_from_tuple(None) is None


def test_a_long_chain_of_parents(tasks):
    result = chain(tasks.add.s(0, 1), *[tasks.add.s(1)] * 2999)()
    assert result.get(timeout=30) == 3000
    again = pickle.loads(pickle.dumps(result))
    assert len(again.as_list()) == 3000
    assert again == result


def test_equality_and_hash(app):
    one, same, other = app.AsyncResult("1"), AsyncResult("1"), AsyncResult("2")
    assert one == same == "1" and one != other and one != 1
    assert len({one, same, other}) == 2
    assert GroupResult("g", [one]) == GroupResult("g", [same])
    assert GroupResult("g", [one]) != GroupResult("g", [other])
    assert GroupResult("g", [one]) != one


def test_meta_has_celerys_keys(tasks):
    sig = tasks.add.s(1, 1)
    sig.stamp(experiment=42)
    result = sig.delay()
    result.get(timeout=30)
    meta = result._get_task_meta()
    assert meta["task_id"] == result.id and meta["status"] == "SUCCESS" and meta["result"] == 2
    assert meta["name"] == "add" and meta["args"] == (1, 1) and meta["kwargs"] == {} and meta["retries"] == 0
    assert meta["stamped_headers"] == ["experiment"] and meta["experiment"] == [42]


# -- groups ---------------------------------------------------------------------------------------------------------


def test_group_results_stand_in_call_order(app):
    @app.task
    def slow(i, delay):
        time.sleep(delay)
        return i

    result = group(slow.s(i, (5 - i) * 0.02) for i in range(5))()
    assert result.get(timeout=30) == [0, 1, 2, 3, 4]


def test_group_result_is_a_sequence(tasks):
    result = group(tasks.add.s(i, i) for i in range(5))()
    assert len(result) == 5 and result
    assert list(result) == result.results == result.children
    assert result[2].get(timeout=30) == 4
    assert [member.get(timeout=30) for member in result[1:3]] == [2, 4]
    assert str(result) == result.id and result.id in repr(result)
    assert repr(group(tasks.add.s(i, i) for i in range(1000))()).endswith(", … 990 more]>")


def test_group_join_callback_and_propagate(tasks):
    result = group(tasks.add.s(1, 1), tasks.fail.s(), tasks.add.s(2, 2))()
    told = []
    values = result.join(timeout=60, propagate=False, callback=lambda *both: told.append(both))
    assert values[0] == 2 and isinstance(values[1], ValueError) and values[2] == 4
    assert told == [(member.id, value) for member, value in zip(result, values, strict=True)]
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=30)
    with pytest.raises(ValueError, match="no"):
        result.maybe_throw()
    assert result.join_native(propagate=False)[2] == 4


def test_group_get_raises_as_soon_as_one_failed(tasks, gate):
    result = group(tasks.held.s(1), tasks.fail.s())()
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=30)
    assert result.waiting()


def test_group_timeout(tasks, gate):
    result = group(tasks.held.s(1), tasks.add.s(1, 1))()
    result[1].get(timeout=30)
    with pytest.raises(TimeoutError, match="1 of 2"):
        result.get(timeout=0.1)
    gate.set()
    assert result.get(timeout=30) == [1, 2]


def test_group_state(tasks, gate):
    result = group(tasks.held.s(1), tasks.add.s(1, 1))()
    result[1].get(timeout=30)
    assert result.state == "STARTED"
    gate.set()
    result.get(timeout=30)
    assert result.state == "SUCCESS"


def test_group_save_restore_delete(app, tasks):
    result = (tasks.add.s(1, 1) | group(tasks.add.s(1), group(tasks.add.s(2), tasks.add.s(3))))()
    result.save()
    again = GroupResult.restore(result.id)
    assert again == result
    assert again.parent == result.parent
    assert again.get(timeout=30) == [3, 4, 5]
    result.delete()
    assert GroupResult.restore(result.id) is None


def test_group_forget(tasks):
    result = (tasks.add.s(1, 1) | group(tasks.add.s(1), tasks.add.s(2)))()
    result.get(timeout=30)
    result.forget()
    assert [member.state for member in result] == ["PENDING"] * 2
    assert result.parent.state == "PENDING"


def test_group_iter_native(tasks, gate):
    result = group(tasks.held.s(1), tasks.add.s(1, 1))()
    found = result.iter_native(timeout=60)
    assert next(found)[0] == result[1].id
    gate.set()
    task_id, meta = next(found)
    assert task_id == result[0].id and meta["result"] == 1 and meta["status"] == "SUCCESS"
    assert list(found) == []


def test_group_graph_and_collect(tasks):
    result = group(tasks.add.s(1, 1), tasks.add.s(2, 2))()
    result.get(timeout=30)
    graph = result.graph
    assert graph[result] == list(result)
    assert list(result.collect()) == [(result, [2, 4]), (result[0], 2), (result[1], 4)]


def test_group_then(tasks, gate):
    told = threading.Event()
    result = group(tasks.held.s(1), tasks.add.s(1, 1))()
    result.then(lambda group: told.set())
    assert not told.wait(0.05)
    gate.set()
    assert told.wait(60)


def test_an_empty_group(tasks):
    result = group([])()
    assert len(result) == 0
    assert result.get(timeout=30) == []
    assert result.ready() and result.successful() and not result.failed() and not result.waiting()
    assert result.completed_count() == 0
    assert result.state == "SUCCESS"


# -- sets -----------------------------------------------------------------------------------------------------------


def test_a_result_set(app, tasks):
    one, two, bad = tasks.add.delay(1, 1), tasks.add.delay(2, 2), tasks.fail.delay()
    some = ResultSet([one])
    some.add(two)
    some.add(two)
    assert len(some) == 2 and list(some) == [one, two]
    assert some.get(timeout=30) == [2, 4]
    assert some.successful() and some.ready() and not some.failed() and some.completed_count() == 2
    some.update([bad])
    with pytest.raises(ValueError, match="no"):
        some.get(timeout=30)
    assert some.failed()
    some.remove(bad)
    some.discard(bad)
    with pytest.raises(KeyError):
        some.remove(bad)
    some.remove(two.id)
    assert some == ResultSet([one]) != ResultSet([two])
    assert repr(some) == f"<ResultSet: [{one.id}]>"
    some.clear()
    assert len(some) == 0 and some.get() == []
    assert app.ResultSet([one]).join(timeout=60) == [2]


def test_a_result_set_of_groups(tasks):
    some = ResultSet([group(tasks.add.s(1, 1), tasks.add.s(2, 2))(), tasks.add.delay(3, 3)])
    assert some.get(timeout=30) == [[2, 4], 6]
    some.forget()
    assert not some.ready()


def test_a_result_set_revokes_all(tasks):
    some = ResultSet(tasks.add.apply_async((1, 1), countdown=600) for _ in range(3))
    some.revoke()
    assert [result.state for result in some] == ["REVOKED"] * 3
