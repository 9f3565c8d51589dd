"""Tasks (Celery's guide "Tasks"): names, binding, retries, states, base classes, hooks, pydantic, what they show."""

from __future__ import annotations

import inspect
import pickle
import pydoc
import time

import pytest
from pydantic import BaseModel, ValidationError

from nbcanvas import Task, chain, group
from nbcanvas.errors import (
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
)
from nbcanvas.task import exponential_backoff
from tests.costs import operations


def wait_until(condition, timeout=30.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.002)


# -- names ----------------------------------------------------------------------------------------------------------


def test_names(app):
    @app.task
    def plain():
        pass

    @app.task(name="sum-of-two")
    def named():
        pass

    assert plain.name == f"{__name__}.plain"
    assert named.name == "sum-of-two"
    assert app.tasks["sum-of-two"] is named


def test_names_of_a_notebook(app):
    def add(x, y):
        return x + y

    add.__module__ = "__main__"
    assert app.task(add).name == "running.add"
    app.main = None
    assert app.task(add).name == "add"


def test_a_naming_scheme_of_ones_own(app):
    app.gen_task_name = lambda name, module: f"mine:{name}"

    @app.task
    def plain():
        pass

    assert plain.name == "mine:plain"


# -- what a task shows ----------------------------------------------------------------------------------------------


def test_a_task_shows_its_own_signature_and_text(app):
    @app.task
    def add(x: int, y: int = 3) -> int:
        """Add two numbers."""
        return x + y

    @app.task(bind=True, autoretry_for=(KeyError,))
    def bound(self, a, *, k=2):
        """Do it."""
        return a, k

    for shown in (add, add.s, add.si, add.delay):
        assert str(inspect.signature(shown)) == "(x: 'int', y: 'int' = 3) -> 'int'"
    for shown in (bound, bound.s, bound.delay):
        assert str(inspect.signature(shown)) == "(a, *, k=2)"
    assert add.__name__ == "add" and add.__doc__ == "Add two numbers." and add.__module__ == __name__
    assert inspect.getdoc(add) == "Add two numbers."
    assert add.__wrapped__(2, 2) == 4
    assert bound.__wrapped__(1) == (1, 2)
    assert "return x + y" in inspect.getsource(inspect.unwrap(add))
    text = pydoc.plain(pydoc.render_doc(add))
    assert "add(x: 'int', y: 'int' = 3) -> 'int'" in text and "Add two numbers." in text
    assert repr(add) == f"<@task: {add.name}>"


def test_a_signature_is_made_quickly(tasks):
    calls = operations(lambda: [tasks.add.s(2, 2) for _ in range(1_000)]) / 1_000
    assert calls < 6  # half a microsecond each; the target is 1.2


def test_a_builtin_can_be_a_task(app):
    total = app.task(sum, name="sum")
    assert total.delay([1, 2]).get(timeout=30) == 3
    largest = app.task(max, name="max")  # a builtin without a signature
    assert largest.delay(1, 2).get(timeout=30) == 2


def test_tasks_travel_by_name(tasks):
    assert pickle.loads(pickle.dumps(tasks.add)) is tasks.add


# -- bind and request -----------------------------------------------------------------------------------------------


def test_bind_and_the_request(app):
    @app.task(bind=True, name="show")
    def show(self, x, y=0):
        r = self.request
        return {
            name: getattr(r, name)
            for name in (
                "id",
                "root_id",
                "parent_id",
                "args",
                "kwargs",
                "retries",
                "is_eager",
                "called_directly",
                "group",
                "group_index",
                "delivery_info",
                "eta",
                "expires",
                "timelimit",
                "task",
                "reply_to",
                "utc",
                "stamps",
            )
        }

    result = show.apply_async((1,), {"y": 2}, time_limit=60, soft_time_limit=30, queue="q", priority=3)
    found = result.get(timeout=30)
    assert found["id"] == found["root_id"] == result.id and found["parent_id"] is None
    assert found["args"] == (1,) and found["kwargs"] == {"y": 2} and found["task"] == "show"
    assert found["retries"] == 0 and not found["is_eager"] and not found["called_directly"]
    assert found["timelimit"] == [60, 30]
    assert found["group"] is found["group_index"] is found["eta"] is found["expires"] is None
    assert found["delivery_info"]["priority"] == 3 and found["delivery_info"]["routing_key"] == "q"
    result = (show.si(1) | group(show.si(2), show.si(3)))()
    first, members = result.parent.get(timeout=30), result.get(timeout=30)
    assert [m["root_id"] for m in members] == [first["id"]] * 2 == [m["parent_id"] for m in members]
    assert [m["group"] for m in members] == [result.id] * 2 and [m["group_index"] for m in members] == [0, 1]


def test_the_request_of_a_direct_call(app):
    @app.task(bind=True)
    def show(self):
        return self.request.id, self.request.called_directly, self.request.retries

    assert show() == (None, True, 0)


def test_the_current_task(app):
    @app.task
    def show():
        return app.current_task.name, app.current_task.request.id

    result = show.delay()
    assert result.get(timeout=30) == (show.name, result.id)
    assert app.current_task is None


# -- retries --------------------------------------------------------------------------------------------------------


def test_retry(app):
    seen = []

    @app.task(bind=True, default_retry_delay=0.01)
    def flaky(self, x):
        seen.append(self.request.retries)
        try:
            if self.request.retries < 2:
                raise ConnectionError("down")
        except ConnectionError as exc:
            raise self.retry(exc=exc) from exc
        return x

    result = flaky.delay(7)
    assert result.get(timeout=30) == 7
    assert seen == [0, 1, 2] and result.retries == 2


def test_retry_keeps_the_id_and_shows_the_state(app):
    @app.task(bind=True)
    def again(self):
        raise self.retry(exc=ConnectionError("down"), countdown=600)

    result = again.delay()
    wait_until(lambda: result.state == "RETRY")
    assert isinstance(result.result, ConnectionError)
    assert not result.ready()
    result.revoke()
    assert result.state == "REVOKED"


def test_retry_too_often(app):
    @app.task(bind=True, max_retries=2, default_retry_delay=0)
    def with_exc(self):
        raise self.retry(exc=ConnectionError("down"))

    @app.task(bind=True, max_retries=1, default_retry_delay=0)
    def without(self):
        raise self.retry()

    @app.task(bind=True, default_retry_delay=0)
    def for_this_call(self):
        raise self.retry(max_retries=0)

    with pytest.raises(ConnectionError, match="down"):
        with_exc.delay().get(timeout=30)
    for task in (without, for_this_call):
        with pytest.raises(MaxRetriesExceededError, match="Can't retry"):
            task.delay().get(timeout=30)


def test_retry_for_ever_when_there_is_no_limit(app):
    @app.task(bind=True, max_retries=None, default_retry_delay=0)
    def tenth(self):
        if self.request.retries < 10:
            raise self.retry()
        return self.request.retries

    assert tenth.delay().get(timeout=30) == 10


def test_retry_with_other_arguments(app):
    @app.task(bind=True)
    def show(self, x, y=0):
        if not self.request.retries:
            raise self.retry((5,), {"y": 6}, countdown=0)
        return x, y

    @app.task(bind=True)
    def keeps(self, x, y=0):
        if not self.request.retries:
            raise self.retry(kwargs={"y": 9}, countdown=0)
        return x, y

    assert show.delay(1).get(timeout=30) == (5, 6)
    assert keeps.delay(1, 2).get(timeout=30) == (1, 9)


def test_retry_without_throwing(app):
    @app.task(bind=True)
    def show(self):
        if not self.request.retries:
            assert isinstance(self.retry(countdown=0, throw=False), Retry)
            return "not this"
        return "this"

    assert show.delay().get(timeout=30) == "this"


def test_retry_of_a_direct_call_raises_the_exception(app):
    @app.task(bind=True)
    def show(self):
        raise self.retry(exc=KeyError("k"))

    with pytest.raises(KeyError):
        show()


def test_a_retried_member_of_a_chord(app, tasks):
    @app.task(bind=True, default_retry_delay=0)
    def flaky(self, x):
        if not self.request.retries:
            raise self.retry()
        return x

    assert (group(flaky.s(i) for i in range(5)) | tasks.tsum.s())().get(timeout=30) == 10
    assert chain(flaky.s(1), tasks.add.s(1))().get(timeout=30) == 2


def test_autoretry_for(app):
    seen = []

    @app.task(bind=True, autoretry_for=(ConnectionError,), default_retry_delay=0, retry_kwargs={"max_retries": 5})
    def flaky(self):
        seen.append(self.request.retries)
        raise ConnectionError("down")

    with pytest.raises(ConnectionError, match="down"):
        flaky.delay().get(timeout=30)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_autoretry_but_not_for(app):
    seen = []

    @app.task(bind=True, autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), default_retry_delay=0)
    def flaky(self):
        seen.append(1)
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        flaky.delay().get(timeout=30)
    assert seen == [1]


def test_autoretry_backs_off(app, monkeypatch):
    waits = []

    @app.task(
        bind=True,
        autoretry_for=(ConnectionError,),
        retry_backoff=3,
        retry_backoff_max=20,
        retry_jitter=False,
        max_retries=4,
    )
    def flaky(self):
        raise ConnectionError("down")

    def noted(*args, countdown=None, **options):
        waits.append(countdown)
        return Task.retry(flaky, *args, countdown=0, **options)

    monkeypatch.setattr(flaky, "retry", noted)
    with pytest.raises(ConnectionError):
        flaky.delay().get(timeout=30)
    assert waits == [3, 6, 12, 20, 20]


def test_backoff_with_jitter_stays_within_its_bounds():
    for retries in range(12):
        most = min(600, 2 * 2**retries)
        found = {exponential_backoff(2, retries, 600, full_jitter=True) for _ in range(300)}
        assert min(found) >= 0 and max(found) <= most
        assert len(found) > 1
        assert exponential_backoff(2, retries, 600) == most


def test_autoretry_options_of_a_base_class(app):
    class Flaky(Task):
        autoretry_for = (ConnectionError,)
        max_retries = 2
        default_retry_delay = 0

    seen = []

    @app.task(base=Flaky)
    def flaky():
        seen.append(1)
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        flaky.delay().get(timeout=30)
    assert len(seen) == 3


# -- states ---------------------------------------------------------------------------------------------------------


def test_track_started(app, gate):
    @app.task(track_started=True)
    def held():
        gate.wait(100)

    result = held.delay()
    wait_until(lambda: result.state == "STARTED")
    assert set(result.info) == {"pid", "hostname"}
    gate.set()
    result.get(timeout=30)
    assert result.state == "SUCCESS"


def test_custom_states(app, gate):
    @app.task(bind=True)
    def upload(self, names):
        for i, _ in enumerate(names):
            self.update_state(state="UPLOADING", meta={"current": i, "total": len(names)})
        gate.wait(100)
        return "done"

    result = upload.delay(["a", "b"])
    wait_until(lambda: result.state == "UPLOADING" and result.info["current"] == 1)
    assert result.info == result.result == {"current": 1, "total": 2}
    assert not result.ready()
    gate.set()
    assert result.get(timeout=30) == "done" and result.state == "SUCCESS"


def test_update_state_of_a_direct_call_does_nothing(app):
    @app.task(bind=True)
    def upload(self):
        self.update_state(state="UPLOADING", meta={})
        return list(self.track("abc"))

    assert upload() == ["a", "b", "c"]


def test_track_reports_how_far_it_is(app, gate):
    @app.task(bind=True)
    def work(self):
        for i in self.track(range(4)):
            if i == 3:
                gate.wait(100)

    result = work.delay()
    wait_until(lambda: result.state == "PROGRESS")
    assert result.info["total"] == 4 and 0 <= result.info["current"] <= 4
    gate.set()
    result.get(timeout=30)


def test_ignore(app):
    @app.task(bind=True)
    def ignores(self):
        self.update_state(state="MINE", meta={"a": 1})
        raise Ignore

    result = ignores.delay()
    wait_until(lambda: result.info == {"a": 1} or result.ready())
    # Not so in Celery: there get() waits for ever; here an ignored task has ended, and what it said of itself is kept.
    result.get(timeout=30)
    assert result.info == {"a": 1}
    assert not result.failed() and not result.successful()


def test_reject(app):
    @app.task(bind=True, acks_late=True)
    def rejects(self):
        raise Reject("no use", requeue=False)

    result = rejects.delay()
    result.get(timeout=30)  # ends: nothing waits for ever for a message that was dropped
    assert result.state == "REJECTED"


def test_reject_and_requeue(app):
    seen = []

    @app.task(bind=True, acks_late=True)
    def rejects(self):
        seen.append(self.request.id)
        if len(seen) < 3:
            raise Reject("later", requeue=True)
        return "at last"

    result = rejects.delay()
    assert result.get(timeout=30) == "at last"
    assert seen == [result.id] * 3


# -- classes and hooks ----------------------------------------------------------------------------------------------


def test_a_base_class_is_made_once(app):
    made = []

    class DatabaseTask(Task):
        _db = None

        @property
        def db(self):
            if self._db is None:
                made.append(1)
                self._db = {"a": 1}
            return self._db

    @app.task(base=DatabaseTask, bind=True)
    def process(self, key):
        return self.db[key]

    assert [process.delay("a").get(timeout=30) for _ in range(3)] == [1, 1, 1]
    assert made == [1]
    assert isinstance(process, DatabaseTask)


def test_a_task_class(app):
    class Add(Task):
        """Add two numbers."""

        def run(self, x, y):
            return x + y, self.request.id

    add = app.register_task(Add())
    assert add.name == f"{__name__}.Add"
    result = add.delay(1, 2)
    assert result.get(timeout=30) == (3, result.id)
    assert add.s(1, 2).apply().get()[0] == 3
    assert str(inspect.signature(add)) == "(x, y)"


def test_a_task_class_as_the_apps_own(app):
    class Mine(Task):
        max_retries = 11

    app.Task = Mine

    @app.task
    def plain():
        pass

    assert isinstance(plain, Mine) and plain.max_retries == 11


def test_a_task_that_overrides_call(app):
    class Counting(Task):
        calls = 0

        def __call__(self, *args, **kwargs):
            type(self).calls += 1
            return super().__call__(*args, **kwargs)

    @app.task(base=Counting, bind=True)
    def work(self, x):
        return x, self.request.id

    result = work.delay(1)
    assert result.get(timeout=30)[0] == 1
    assert type(work).calls == 1


def test_hooks(app):
    told = []

    class Told(Task):
        def before_start(self, task_id, args, kwargs):
            told.append(("before_start", task_id, args, kwargs))

        def on_success(self, retval, task_id, args, kwargs):
            told.append(("on_success", retval))

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            told.append(("on_failure", repr(exc), "Traceback" in str(einfo)))

        def on_retry(self, exc, task_id, args, kwargs, einfo):
            told.append(("on_retry", repr(exc)))

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            told.append(("after_return", status))

    @app.task(base=Told, bind=True, default_retry_delay=0)
    def work(self, what):
        if what == "retry" and not self.request.retries:
            raise self.retry(exc=KeyError("again"))
        if what == "fail":
            raise ValueError("no")
        return what

    def heard(what):
        told.clear()
        result = work.delay(what)
        result.get(timeout=30, propagate=False)
        assert told.pop(0) == ("before_start", result.id, (what,), {})
        return list(told)

    assert heard("ok") == [("on_success", "ok"), ("after_return", "SUCCESS")]
    assert heard("fail") == [("on_failure", "ValueError('no')", True), ("after_return", "FAILURE")]
    retried = heard("retry")
    assert retried[0] == ("on_retry", "KeyError('again')")  # and nothing has returned
    assert retried[1][0] == "before_start" and retried[2:] == [("on_success", "retry"), ("after_return", "SUCCESS")]


def test_time_limits(app):
    @app.task(soft_time_limit=0.2)  # it may not come before the `try`, on a busy machine either
    def soft():
        try:
            while True:
                time.sleep(0.005)
        except SoftTimeLimitExceeded:
            return "cleaned up"

    @app.task(time_limit=0.05)
    def hard():
        while True:
            time.sleep(0.005)

    assert soft.delay().get(timeout=30) == "cleaned up"
    with pytest.raises(TimeLimitExceeded, match=r"0\.05"):
        hard.delay().get(timeout=30)


def test_replace(app, tasks):
    @app.task(bind=True)
    def replaces(self, x):
        return self.replace(group(tasks.add.s(x, i) for i in range(3)))

    @app.task(bind=True)
    def to_nothing(self):
        return self.replace(chain())

    result = replaces.delay(1)
    assert result.get(timeout=30) == [1, 2, 3]
    assert (replaces.s(1) | tasks.tsum.s())().get(timeout=30) == 6
    assert replaces(1) == [1, 2, 3]
    with pytest.raises(ImproperlyConfigured, match="empty chain"):
        to_nothing.delay().get(timeout=30)


# -- pydantic -------------------------------------------------------------------------------------------------------


class ArgModel(BaseModel):
    value: int


class ReturnModel(BaseModel):
    value: str


def test_pydantic(app):
    @app.task(pydantic=True)
    def x(arg: ArgModel) -> ReturnModel:
        assert isinstance(arg, ArgModel)
        return ReturnModel(value=f"example: {arg.value}")

    assert x.delay({"value": 1}).get(timeout=30) == {"value": "example: 1"}
    with pytest.raises(ValidationError):
        x.delay({"value": "no number"}).get(timeout=30)


def test_pydantic_optional_and_bound(app):
    @app.task(pydantic=True, bind=True)
    def x(self, arg: ArgModel | None = None, other: int = 0):
        return self.request.id, None if arg is None else arg.value, other

    result = x.delay()
    assert result.get(timeout=30) == (result.id, None, 0)
    assert x.delay({"value": 3}, other=4).get(timeout=30)[1:] == (3, 4)


def test_pydantic_strict_and_context_and_dump(app):
    @app.task(pydantic=True, pydantic_strict=True)
    def strict(arg: ArgModel):
        return arg.value

    @app.task(pydantic=True, pydantic_dump_kwargs={"exclude": {"value"}})
    def dumped() -> ReturnModel:
        return ReturnModel(value="x")

    with pytest.raises(ValidationError):
        strict.delay({"value": "1"}).get(timeout=30)
    assert strict.delay({"value": 1}).get(timeout=30) == 1
    assert dumped.delay().get(timeout=30) == {}
