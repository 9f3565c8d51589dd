"""Eager runs: ``apply``, ``task_always_eager``, ``task_eager_propagates`` (Celery's guides: "Testing", "Canvas")."""

from __future__ import annotations

import pickle
import threading

import pytest

from nbcanvas import EagerResult, GroupResult, chain, chord, group
from nbcanvas.errors import ChordError


def test_apply_runs_in_this_thread(app, tasks):
    @app.task(bind=True)
    def where(self):
        return threading.get_ident(), self.request.is_eager, self.request.called_directly

    result = where.apply()
    assert isinstance(result, EagerResult)
    assert result.get() == (threading.get_ident(), True, False)
    assert app.worker is None


def test_an_eager_result(tasks):
    result = tasks.add.apply((2, 2), task_id="mine")
    assert result.id == "mine" and repr(result) == "<EagerResult: mine>"
    assert result.get() == result.result == result.wait() == 4
    assert result.state == "SUCCESS" and result.ready() and result.successful() and not result.failed()
    assert result.traceback is None and result.name == "add" and result.children == []
    result.forget()
    result.revoke()
    assert result.state == "REVOKED"


def test_an_eager_failure(tasks):
    result = tasks.fail.apply()
    assert result.state == "FAILURE" and result.failed()
    assert "raise ValueError" in result.traceback
    assert isinstance(result.get(propagate=False), ValueError)
    with pytest.raises(ValueError, match="no"):
        result.get()


def test_throw(app, tasks):
    with pytest.raises(ValueError, match="no"):
        tasks.fail.apply(throw=True)
    app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no"):
        tasks.fail.apply()
    assert tasks.fail.apply(throw=False).failed()


def test_always_eager(app, tasks):
    app.conf.task_always_eager = True
    assert isinstance(tasks.add.delay(1, 1), EagerResult)
    assert tasks.add.delay(1, 1).get() == 2
    assert ~(tasks.add.s(1, 1) | tasks.add.s(2)) == 4
    assert app.worker is None
    assert tasks.fail.delay().failed()
    app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no"):
        tasks.fail.delay()


def test_store_eager_result(app, tasks):
    result = tasks.add.apply((2, 2))
    assert app.AsyncResult(result.id).state == "PENDING"
    app.conf.task_store_eager_result = True
    result = tasks.add.apply((2, 2))
    assert app.AsyncResult(result.id).get(timeout=0) == 4


def test_eager_canvases(tasks):
    add, tsum = tasks.add, tasks.tsum
    result = chain(add.s(4, 4), add.s(8), add.s(10)).apply()
    assert [result.get(), result.parent.get(), result.parent.parent.get()] == [26, 16, 8]
    assert result.parent.parent.children == [result.parent]
    result = group(add.s(i, i) for i in range(3)).apply()
    assert isinstance(result, GroupResult) and result.get() == [0, 2, 4] and result.successful()
    result = (group(add.s(i, i) for i in range(3)) | tsum.s()).apply()
    assert result.get() == 6 and result.parent.get() == [0, 2, 4]
    assert add.s(2).apply((2,)).get() == 4
    with pytest.raises(ChordError, match="ValueError"):
        chord([add.s(1, 1), tasks.fail.s()], tsum.s()).apply().get()


def test_eager_links_and_errbacks(app, tasks):
    told = []

    @app.task
    def note(value):
        told.append(value)

    @app.task
    def log_error(request, exc, traceback):
        told.append((request.id, repr(exc)))

    result = tasks.add.apply((2, 2), link=note.s(), link_error=log_error.s())
    assert result.get() == 4 and told == [4]
    assert [child.get() for child in result.children] == [None]
    result = tasks.fail.apply(link=note.s(), link_error=log_error.s())
    assert told == [4, (result.id, "ValueError('no')")]


def test_eager_retries_do_not_wait(app):
    @app.task(bind=True)
    def third_time(self):
        if self.request.retries < 2:
            raise self.retry(countdown=600)
        return self.request.retries

    @app.task(bind=True, max_retries=1, default_retry_delay=600)
    def never(self):
        raise self.retry(exc=KeyError("given up"))

    assert third_time.apply().get() == 2
    assert third_time.apply(retries=2).get() == 2
    with pytest.raises(KeyError):
        never.apply().get()


def test_a_long_eager_chain(tasks):
    result = chain(tasks.add.s(0, 1), *[tasks.add.s(1)] * 2999).apply()
    assert result.get() == 3000
    assert len(result.as_list()) == 3000
    again = pickle.loads(pickle.dumps(result))
    assert isinstance(again, EagerResult) and again.get() == 3000 and again.parent.get() == 2999


def test_eager_results_travel_with_their_values(tasks):
    result = group(tasks.add.s(i, i) for i in range(3)).apply()
    again = pickle.loads(pickle.dumps(result))
    assert again == result and again.get() == [0, 2, 4]


def test_an_eager_task_that_replaces_itself_and_one_that_starts_another(app, tasks):
    @app.task(bind=True)
    def replaces(self, x):
        return self.replace(tasks.add.s(x, 1) | tasks.add.s(10))

    @app.task
    def starts(x):
        return tasks.add.apply((x, 1)).get()

    assert replaces.apply((1,)).get() == 12
    assert (replaces.s(1) | tasks.add.s(100)).apply().get() == 112
    assert starts.apply((1,)).get() == 2
