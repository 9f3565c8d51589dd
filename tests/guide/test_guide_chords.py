"""The canvas guide, section "Chords": every example, on the embedded worker."""

from __future__ import annotations

import threading

import pytest

from nbcanvas import Task, allow_join_result, chord, group, maybe_signature
from nbcanvas.errors import ChordError


def test_chords(tasks):
    assert chord(tasks.add.s(i, i) for i in range(100))(tasks.tsum.s()).get(timeout=30) == 9900
    assert sum(i + i for i in range(100)) == 9900


def test_chords_step_by_step(tasks):
    callback = tasks.tsum.s()
    header = [tasks.add.s(i, i) for i in range(100)]
    result = chord(header)(callback)
    assert result.get(timeout=30) == 9900
    assert result.parent.get(timeout=30) == [2 * i for i in range(100)]


def test_chords_id_is_that_of_the_body(tasks):
    @tasks.task(bind=True)
    def whoami(self, numbers):
        return self.request.id

    result = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)])(whoami.s())
    assert result.get(timeout=30) == result.id


def test_chords_countdown_delays_the_header(tasks):
    result = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.tsum.s()).apply_async(countdown=0.2)
    assert result.get(timeout=30) == 6
    assert result.parent.ready()


def test_chord_errors(tasks):
    c = chord([tasks.add.s(4, 4), tasks.fail.s(), tasks.add.s(8, 8)], tasks.xsum.s())
    result = c()
    with pytest.raises(ChordError) as caught:
        result.get(timeout=30)
    failed = result.parent[1]
    assert str(caught.value) == f"Dependency {failed.id} raised ValueError('something something')"
    assert result.state == "FAILURE"
    assert "ValueError: something something" in failed.traceback
    assert "something something" in result.traceback


def test_chord_errors_the_header_goes_on(tasks):
    gate = threading.Event()

    @tasks.task
    def late(x):
        gate.wait(100)
        return x

    result = chord([tasks.add.s(4, 4), tasks.fail.s(), late.s(16)], tasks.xsum.s())()
    result.parent[1].get(timeout=30, propagate=False)
    gate.set()
    assert result.parent[2].get(timeout=30) == 16
    assert isinstance(result.get(timeout=30, propagate=False), ChordError)
    assert result.parent[0].get(timeout=30) == 8


def test_chord_errors_name_one_of_the_failures(tasks):
    # Celery names the first in time; here it is the first in call order, so that a notebook says the same every time.
    gate = threading.Event()

    @tasks.task
    def late():
        gate.wait(100)
        raise KeyError("second")

    result = chord([late.s(), tasks.fail.s()], tasks.xsum.s())()
    result.parent[1].get(timeout=30, propagate=False)
    gate.set()
    with pytest.raises(ChordError, match=result.parent[0].id):
        result.get(timeout=30)


def test_chord_errors_errback_of_the_body(tasks):
    @tasks.task
    def on_chord_error(request, exc, traceback):
        tasks.note(f"Task {request.id!r} raised error: {exc!r}")

    sig = group([*(tasks.add.s(i, i) for i in range(9)), tasks.fail.s()]) | tasks.tsum.s().on_error(on_chord_error.s())
    result = sig.delay()
    error = result.get(timeout=30, propagate=False)
    assert isinstance(error, ChordError)
    assert tasks.wait_for_notes(1) == [(f"Task {result.id!r} raised error: {error!r}",)]


def test_chord_errors_errback_is_not_called_after_success(tasks):
    sig = group(tasks.add.s(i, i) for i in range(10)) | tasks.tsum.s().on_error(tasks.log_error.s())
    assert sig.delay().get(timeout=30) == 90
    assert tasks.noted == []


def test_chord_errors_the_two_styles_of_errbacks(tasks):
    @tasks.task
    def three(request, exc, traceback):
        tasks.note("three", request.id, type(exc))

    @tasks.task
    def one(task_id):
        tasks.note("one", task_id)

    @tasks.task(bind=True)
    def bound(self, task_id):
        tasks.note("bound", task_id, self.request.called_directly)

    body = tasks.tsum.s().on_error(three.s()).on_error(one.s()).on_error(bound.s())
    result = chord([tasks.add.s(1, 1), tasks.fail.s()], body)()
    result.get(timeout=30, propagate=False)
    notes = tasks.wait_for_notes(3)
    assert sorted(notes, key=str) == [("bound", result.id, False), ("one", result.id), ("three", result.id, ChordError)]


def test_chord_errors_an_errbacks_own_arguments_leave_less_room(tasks):
    @tasks.task
    def two(task_id, label):
        tasks.note(task_id, label)

    @tasks.task
    def four(request, exc, traceback, label):
        tasks.note(request.id, type(exc), label)

    @tasks.task
    def own(label):
        tasks.note(label)

    result = tasks.fail.apply_async(link_error=[two.s("old style"), four.s("new style"), own.si("its own only")])
    result.get(timeout=30, propagate=False)
    assert sorted(tasks.wait_for_notes(3), key=len) == [
        ("its own only",),
        (result.id, "old style"),
        (result.id, ValueError, "new style"),
    ]


def test_chord_errors_link_and_link_error_of_a_chord(tasks):
    good = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.tsum.s())
    good.link(tasks.log_result.s())
    good.link_error(tasks.log_error.s())
    assert good().get(timeout=30) == 6
    assert tasks.wait_for_notes(1) == [("result", 6)]

    bad = chord([tasks.fail.s(), tasks.add.s(2, 2), tasks.fail.s()], tasks.tsum.s())
    bad.link(tasks.log_result.s())
    bad.link_error(tasks.log_error.s())
    result = bad()
    result.get(timeout=30, propagate=False)
    assert result.parent.join(timeout=60, propagate=False)[1] == 4
    assert [note[0] for note in tasks.wait_for_notes(2)[1:]] == [result.id]  # once, for two failures


def test_chord_errors_errback_of_a_body_that_fails(tasks):
    result = chord([tasks.add.s(1, 1)] * 2, tasks.subtract.s().on_error(tasks.log_error.s()))()
    assert isinstance(result.get(timeout=30, propagate=False), TypeError)
    assert [note[0] for note in tasks.wait_for_notes(1)] == [result.id]


@pytest.mark.parametrize("allowed", [False, True])
def test_chord_errors_errbacks_on_the_header(tasks, app, allowed):
    app.conf.task_allow_error_cb_on_chord_header = allowed
    c = chord([tasks.fail.s(), tasks.add.s(2, 2), tasks.fail.s()], tasks.tsum.s())
    c.link_error(tasks.log_error.s())
    result = c()
    result.get(timeout=30, propagate=False)
    result.parent.join(timeout=60, propagate=False)
    expected = [result.id, *([result.parent[0].id, result.parent[2].id] if allowed else [])]
    notes = tasks.wait_for_notes(len(expected))
    assert sorted(note[0] for note in notes) == sorted(expected)


def test_chord_errors_link_error_of_apply_async(tasks, app):
    app.conf.task_allow_error_cb_on_chord_header = True  # does not apply to this way
    c = chord([tasks.fail.s(), tasks.add.s(2, 2)], tasks.tsum.s())
    result = c.apply_async(link_error=tasks.log_error.s())
    result.get(timeout=30, propagate=False)
    result.parent.join(timeout=60, propagate=False)
    assert [note[0] for note in tasks.wait_for_notes(1)] == [result.id]
    assert chord([tasks.add.s(1, 1)] * 2, tasks.tsum.s()).apply_async(link=tasks.log_result.s()).get(timeout=30) == 4
    assert tasks.wait_for_notes(2)[1] == ("result", 4)


def test_chord_errors_a_group_as_body_calls_errbacks_once_a_task(tasks):
    body = group(tasks.tsum.s().on_error(tasks.log_error.s()), tasks.xsum.s())
    c = chord([tasks.fail.s(), tasks.add.s(2, 2)], body)
    c.link_error(tasks.log_error.s())
    result = c()
    found = result.join(timeout=60, propagate=False)
    assert [type(one) for one in found] == [ValueError, ValueError], "the header's own, as in Celery"
    assert sorted(note[0] for note in tasks.wait_for_notes(2)) == sorted(member.id for member in result)


# -- important notes ------------------------------------------------------------------------------------------------


def test_important_notes_a_task_class_that_keeps_its_result(tasks, app):
    app.conf.task_ignore_result = True

    class MyTask(Task):
        ignore_result = False

        def run(self, x):
            return x

    my_task = app.register_task(MyTask())
    assert my_task.delay(3).get(timeout=30) == 3
    assert tasks.add.delay(1, 1).get(timeout=30) is None


def test_important_notes_a_task_that_keeps_its_result(tasks, app):
    app.conf.task_ignore_result = True

    @tasks.task(ignore_result=False)
    def another_task(project):
        return project

    assert another_task.delay("p").get(timeout=30) == "p"


def test_important_notes_chords_of_tasks_that_ignore_their_results(tasks):
    # Not so in Celery: here a barrier gets its values from the messages, so such a chord works.
    @tasks.task(ignore_result=True)
    def quiet(x):
        return x

    result = chord([quiet.s(1), quiet.s(2)], tasks.tsum.s())()
    assert result.get(timeout=30) == 3
    assert [member.get(timeout=30) for member in result.parent] == [None, None]


def test_important_notes_unlock_chord(tasks, app):
    @tasks.task(bind=True)
    def unlock_chord(self, group, callback, interval=0.02, max_retries=None):
        if group.ready():
            with allow_join_result():
                return maybe_signature(callback).delay(group.join())
        raise self.retry(countdown=interval, max_retries=max_retries)

    gate = threading.Event()

    @tasks.task
    def held(x):
        gate.wait(100)
        return x

    header = group(held.s(i) for i in range(3))()
    unlock = unlock_chord.delay(header, tasks.tsum.s())
    gate.set()
    assert unlock.get(timeout=30).get(timeout=30) == 3


def test_important_notes_after_return(tasks, app):
    class Base(Task):
        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            tasks.note(status)
            super().after_return(status, retval, task_id, args, kwargs, einfo)

    @tasks.task(base=Base)
    def member(x):
        return x

    assert chord([member.s(1), member.s(2)], tasks.tsum.s())().get(timeout=30) == 3
    assert tasks.wait_for_notes(2) == [("SUCCESS",), ("SUCCESS",)]
