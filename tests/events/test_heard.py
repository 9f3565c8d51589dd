"""What the embedded worker tells of tasks that do not simply start."""

import time
from itertools import pairwise

import pytest

from nbcanvas.app import App
from nbcanvas.canvas import group
from nbcanvas.run import submit
from tests.apps import rests


@pytest.fixture
def app():
    with App("heard", worker_concurrency=2) as app:
        yield app


def ended(sig):
    run = submit(sig).wait(60)
    until = time.monotonic() + 60
    while not (run.snapshot().done and rests(run.app)) and time.monotonic() < until:
        time.sleep(0.005)
    return run.snapshot()


def test_an_ordinary_task_is_received_when_it_starts(app):
    @app.task
    def add(x, y):
        return x + y

    state = ended(add.s(1, 2))
    assert state.received(0) == state.started(0) is not None
    assert state.columns.received[0] != state.columns.received[0]  # no event of its own


def test_a_task_held_back_by_its_rate_limit_is_received_before_it_starts(app):
    @app.task(rate_limit="20/s")
    def slow(i):
        return i

    state = ended(group(slow.s(i) for i in range(3)))
    held = [row for row in range(3) if state.received(row) < state.started(row)]  # none of them, where all are slow
    assert all(state.sent(row) <= state.received(row) <= state.due(row) <= state.started(row) for row in held)
    assert all(len(state.attempts_of(row)) == 1 for row in range(3))


def test_a_task_held_back_says_so_while_it_waits(app):
    @app.task(rate_limit="1/h")
    def slow(i):
        return i

    run = submit(group(slow.s(i) for i in range(3)))
    until = time.monotonic() + 60
    while run.counts.get("RECEIVED") != 2 and time.monotonic() < until:
        time.sleep(0.005)
    state = run.snapshot()
    one, other = (row for row in range(3) if state.state(row) == "RECEIVED")
    assert all(state.due(row) > time.time() + 3000 and state.started(row) is None for row in (one, other))
    app.control.rate_limit(slow.name, None)
    run.wait(60)
    state = run.snapshot()
    assert all(state.sent(row) <= state.received(row) < state.started(row) for row in (one, other))


def test_a_task_held_back_may_be_cancelled(app):
    @app.task(rate_limit="1/h")
    def slow(i):
        return i

    run = submit(group(slow.s(i) for i in range(2)))
    until = time.monotonic() + 60
    while run.counts.get("RECEIVED") != 1 and time.monotonic() < until:
        time.sleep(0.005)
    state = run.snapshot()
    row = next(row for row in range(2) if state.state(row) == "RECEIVED")
    run.cancel()
    run.wait(60)
    assert run.snapshot().state(row) == "REVOKED"


def test_what_expired_or_is_not_known_was_received_and_never_started(app):
    from nbcanvas import signature

    @app.task
    def add(x, y):
        return x + y

    state = ended(group(add.s(1, 2).set(expires=-1), signature("nobody.knows", app=app)))
    assert [state.state(row) for row in range(2)] == ["REVOKED", "FAILURE"]
    assert all(state.received(row) is not None and state.started(row) is None for row in range(2))


def test_attempts_have_times_of_their_own(app):
    @app.task(bind=True)
    def flaky(self):
        if self.request.retries < 2:
            raise self.retry(countdown=0.02, exc=ValueError(self.request.retries))
        return "done"

    state = ended(flaky.s())
    attempts = state.attempts_of(0)
    assert [one.state for one in attempts] == ["RETRY", "RETRY", "SUCCESS"]
    assert [one.retries for one in attempts] == [0, 1, 2]
    assert [str(one.error) for one in attempts] == ["0", "1", "None"]
    for one, following in pairwise(attempts):
        assert one.sent <= one.started <= one.finished <= following.started
        assert following.started >= one.started + 0.019
    assert all(one.worker for one in attempts)
    assert attempts[-1].finished == state.finished(0)
    assert list(state.several()) == [0]


def test_a_replaced_task_shows_what_it_did_before(app):
    @app.task
    def add(x, y):
        return x + y

    @app.task(bind=True)
    def turns(self):
        return self.replace(add.s(1, 2) | add.s(3))

    state = ended(turns.s())
    first, second = state.attempts_of(state.index_of(state.root.id))
    assert (first.state, second.state) == ("REPLACED", "SUCCESS")
    assert first.started <= first.finished <= second.started


def test_an_errback_that_is_told_has_times(app):
    told = []

    @app.task
    def fails():
        raise ValueError

    @app.task
    def hears(request, exc, traceback):
        time.sleep(0.02)
        told.append(exc)

    state = ended(fails.s().on_error(hears.s()))
    assert (state.state(1), len(told)) == ("SUCCESS", 1)
    assert state.finished(1) - state.started(1) >= 0.019


def test_what_a_task_calls_eagerly_is_a_child_of_it(app):
    @app.task
    def add(x, y):
        return x + y

    @app.task
    def outer():
        return (add.s(1, 1) | add.s(2)).apply().result

    state = ended(outer.s())
    assert [(place.path, state.state(row)) for row, place in enumerate(state.calls)] == [
        ("", "SUCCESS"),
        ("child[0].chain[0]", "SUCCESS"),
        ("child[0].chain[1]", "SUCCESS"),
    ]
    assert (state.pending, state.worker(1)) == (0, "eager")


def test_an_eager_canvas_that_is_given_up_is_over(app):
    @app.task
    def fails():
        raise ValueError("inside")

    @app.task
    def outer():
        try:
            group(fails.s() for _ in range(3)).apply(throw=True)
        except ValueError as error:
            return str(error)

    state = ended(outer.s())
    assert state.done
    assert dict(state.counts) == {"SUCCESS": 1, "FAILURE": 1, "REVOKED": 2}
