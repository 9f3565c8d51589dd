"""The canvas guide, section "Groups": every example, on the embedded worker."""

from __future__ import annotations

import threading

import pytest

from nbcanvas import GroupResult, chain, chord, group


def test_groups_repr(tasks):
    # Celery itself prints a module once, and the word; the guide's text does not.
    assert repr(group(tasks.add.s(2, 2), tasks.add.s(4, 4))) == "group((tasks.add(2, 2), add(4, 4)))"


def test_groups_called(tasks):
    g = group(tasks.add.s(2, 2), tasks.add.s(4, 4))
    res = g()
    assert isinstance(res, GroupResult)
    assert res.get(timeout=30) == [4, 8]


def test_groups_of_an_iterator(tasks):
    assert group(tasks.add.s(i, i) for i in range(100))().get(timeout=30) == [2 * i for i in range(100)]


def test_group_callbacks_do_not_get_the_groups_results(tasks):
    g = group(tasks.add.s(2, 2), tasks.add.s(4, 4))
    g.link(tasks.add.s())
    res = g()
    assert res.get(timeout=30) == [4, 8]
    (callback,) = res[0].children  # Celery links it to the first member, immutable
    assert isinstance(callback.get(timeout=30, propagate=False), TypeError)  # no argument, and it needs two
    assert res[1].children == []


def test_group_errbacks_run_once_for_each_failure(tasks):
    g = group(tasks.fail.s(), tasks.fail.s())
    g.link_error(tasks.log_error.s())
    res = g()
    with pytest.raises(ValueError, match="something"):
        res.get(timeout=30)
    notes = tasks.wait_for_notes(2)
    assert sorted(note[0] for note in notes) == sorted(member.id for member in res)


def job_of(tasks):
    return group([tasks.add.s(2, 2), tasks.add.s(4, 4), tasks.add.s(8, 8), tasks.add.s(16, 16), tasks.add.s(32, 32)])


def test_group_results(tasks):
    result = job_of(tasks).apply_async()
    assert result.get(timeout=30) == [4, 8, 16, 32, 64]
    assert result.ready()
    assert result.successful()


def test_group_results_operations(tasks):
    result = job_of(tasks).apply_async()
    assert result.join(timeout=60) == [4, 8, 16, 32, 64]
    assert not result.failed()
    assert not result.waiting()
    assert result.completed_count() == 5


def test_group_results_while_one_waits(tasks):
    gate = threading.Event()

    @tasks.task
    def held():
        gate.wait(100)

    result = group(tasks.add.s(2, 2), held.s(), tasks.fail.s())()
    result[0].get(timeout=30)
    result[2].get(timeout=30, propagate=False)
    assert result.waiting()
    assert not result.ready()
    assert not result.successful()
    assert result.failed()
    assert result.completed_count() == 1  # complete means successful
    gate.set()
    assert result[1].get(timeout=30) is None
    assert result.ready()
    assert result.completed_count() == 2


def test_group_results_revoke(tasks):
    result = group(tasks.add.s(i, i).set(countdown=600) for i in range(3))()
    result.revoke()
    assert [member.state for member in result] == ["REVOKED"] * 3
    assert result.ready()


def test_group_unrolling(app):
    @app.task(name="add")
    def add(*args):
        return sum(x if isinstance(x, int) else sum(x) for x in args)

    one = chain(add.s(2, 2), group(add.s(1)), add.s(1))
    assert repr(one) == "add(2, 2) | add(1) | add(1)"
    assert one().get(timeout=30) == 6
    two = chain(add.s(2, 2), group(add.s(1), add.s(2)), add.s(1))
    assert repr(two) == "add(2, 2) | %add((add(1), add(2)), 1)"
    assert two().get(timeout=30) == (4 + 1) + (4 + 2) + 1


def test_group_unrolling_of_a_group_that_comes_first(app):
    @app.task(name="add")
    def add(x, y):
        return x + y

    sig = chain(group(add.s(1, 1)), add.s(2))
    assert repr(sig) == "add(1, 1) | add(2)"
    assert not isinstance(sig, chord)
    assert sig().get(timeout=30) == 4
