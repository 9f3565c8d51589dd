"""Calling tasks (Celery's guide "Calling Tasks"): options, links, times, arguments."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from nbcanvas.errors import InvalidTaskError, NotRegistered, NotSerializable, TaskRevokedError


def test_countdown(tasks):
    started = time.monotonic()
    assert tasks.add.apply_async((1, 1), countdown=0.2).get(timeout=30) == 2
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("zone", [UTC, None])
def test_eta(tasks, zone):
    started = time.monotonic()
    eta = datetime.now(zone) + timedelta(seconds=0.2)
    assert tasks.add.apply_async((1, 1), eta=eta).get(timeout=30) == 2
    assert time.monotonic() - started >= 0.15


def test_eta_in_the_past(tasks):
    assert tasks.add.apply_async((1, 1), eta=datetime.now(UTC) - timedelta(days=1)).get(timeout=30) == 2


def test_an_earlier_countdown_overtakes_a_later_one(app, tasks):
    order = []

    @app.task
    def note(x):
        order.append(x)

    app.start_worker(concurrency=1)  # which of two that run at once comes first nobody promises
    for soon in (0.2, 2.0, 20.0):  # as long as this machine needs to send them before the first is due
        order.clear()
        due = datetime.now(UTC) + timedelta(seconds=soon)
        results = [note.apply_async((delay,), eta=due + timedelta(seconds=delay)) for delay in (0.1, 0.05, 0.0)]
        in_time = datetime.now(UTC) < due
        for result in results:
            result.get(timeout=60)
        if in_time:
            break
    assert order == [0.0, 0.05, 0.1]


@pytest.mark.parametrize("expires", [0.02, lambda: datetime.now(UTC) + timedelta(seconds=0.02)])
def test_expires(app, tasks, gate, expires):
    app.start_worker(concurrency=1)
    blocking = tasks.held.delay()
    late = tasks.add.apply_async((1, 1), expires=expires() if callable(expires) else expires)
    time.sleep(0.05)
    gate.set()
    with pytest.raises(TaskRevokedError, match="expired"):
        late.get(timeout=30)
    assert late.state == "REVOKED"
    assert blocking.get(timeout=30) is None


def test_expires_in_time(tasks):
    assert tasks.add.apply_async((1, 1), expires=60).get(timeout=30) == 2


def test_link_takes_partials(app, tasks):
    told = []

    @app.task
    def note(value, *more):
        told.append((value, *more))
        return value

    result = tasks.add.apply_async((2, 2), link=[tasks.add.s(16), note.s("more")])
    assert result.get(timeout=30) == 4
    assert sorted(child.get(timeout=30) for child in result.children) == [4, 20]
    assert told == [(4, "more")]


def test_a_chosen_task_id(app, tasks):
    result = tasks.add.apply_async((2, 2), task_id="chosen")
    assert result.id == "chosen" and result.get(timeout=30) == 4
    assert app.AsyncResult("chosen").get(timeout=0) == 4


def test_ignore_result_for_one_call(tasks):
    result = tasks.add.apply_async((2, 2), ignore_result=True)
    assert result.get(timeout=30) is None
    assert result.state == "SUCCESS" and result.ignored


def test_headers_and_shadow(app):
    @app.task(bind=True)
    def show(self):
        return self.request.headers, self.request.options.get("shadow")

    assert show.apply_async(headers={"tenant": "x"}, shadow="other").get(timeout=30) == ({"tenant": "x"}, "other")


def test_priority(app, tasks, gate):
    app.start_worker(concurrency=1)
    order = []

    @app.task
    def note(x):
        order.append(x)

    tasks.held.delay()
    results = [note.apply_async((priority,), priority=priority) for priority in (9, 5, 0)]
    gate.set()
    for result in results:
        result.get(timeout=30)
    assert order == [0, 5, 9]  # as on Redis: 0 is served first


def test_arguments_are_checked_before_anything_is_sent(app, tasks):
    for call in (
        lambda: tasks.add.delay(1),
        lambda: tasks.add.delay(1, 2, 3),
        lambda: tasks.add.delay(1, z=2),
        (tasks.add.s(1) | tasks.add.s(1)).delay,
    ):
        with pytest.raises(InvalidTaskError, match=r"add\(x, y\)"):
            call()
    assert issubclass(InvalidTaskError, TypeError)


def test_arguments_are_not_checked_without_typing(app):
    @app.task(typing=False)
    def one(x):
        return x

    with pytest.raises(TypeError):
        one.delay().get(timeout=30)


def test_arguments_of_the_wrong_kind(tasks):
    with pytest.raises(TypeError, match="list or tuple"):
        tasks.add.apply_async("ab")
    with pytest.raises(TypeError, match="mapping"):
        tasks.add.apply_async((1,), ["y"])


def test_arguments_that_do_not_travel(tasks):
    with pytest.raises(NotSerializable):
        tasks.add.delay(1, (x for x in "abc"))


def test_arguments_are_isolated(app):
    @app.task
    def spoil(numbers):
        numbers.append(4)
        return numbers

    mine = [1, 2, 3]
    assert spoil.delay(mine).get(timeout=30) == [1, 2, 3, 4]
    assert mine == [1, 2, 3]
    sig = spoil.s(mine)
    assert sig.delay().get(timeout=30) == sig.delay().get(timeout=30) == [1, 2, 3, 4]


def test_send_task_by_name(app, tasks):
    assert app.send_task("add", (2, 2)).get(timeout=30) == 4
    assert app.send_task("add", kwargs={"x": 2, "y": 3}, countdown=0.01).get(timeout=30) == 5


def test_send_task_that_nobody_knows(app, tasks):
    result = app.send_task("ad", (2, 2))
    with pytest.raises(NotRegistered, match=r"did you mean 'add'"):
        result.get(timeout=30)


def test_an_unknown_task_by_signature(app, tasks):
    with pytest.raises(NotRegistered, match=r"nobody\.knows"):
        app.signature("nobody.knows", (1,)).delay().get(timeout=30)


def test_a_task_called_like_a_function(app, tasks):
    assert tasks.add(2, 2) == 4
    with pytest.raises(ValueError, match="no"):
        tasks.fail()
    assert app.worker is None
