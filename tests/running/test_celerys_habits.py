"""What somebody coming from Celery tries, and what an error says to them."""

import logging
import pickle
from datetime import UTC, datetime, timedelta

import pytest

import nbcanvas
from nbcanvas import StampingVisitor, Task, chain, chord, group, submit
from nbcanvas.errors import CanvasError, Ignore, InvalidTaskError
from nbcanvas.result import EagerResult


@pytest.fixture
def add(app):
    return app.task(name="add")(lambda x, y: x + y)


# -- hooks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raises", [ValueError, SystemExit])
@pytest.mark.parametrize(("end", "state"), [("well", "SUCCESS"), ("fail", "FAILURE"), ("retry", "SUCCESS")])
def test_a_hook_that_raises_is_logged_and_changes_nothing(app, caplog, raises, end, state):
    def broken(*_):
        raise raises("the hook")

    hooks = dict.fromkeys(("on_success", "on_failure", "on_retry", "after_return"), broken)

    @app.task(base=type("Broken", (Task,), hooks), bind=True, default_retry_delay=0)
    def work(self, end):
        if end == "fail":
            raise KeyError("own")
        if end == "retry" and not self.request.retries:
            raise self.retry()
        return end

    with caplog.at_level(logging.ERROR, "nbcanvas.worker"):
        result = work.delay(end)
        value = result.get(timeout=30, propagate=False)
    assert (result.state, repr(value)) == (state, "KeyError('own')" if end == "fail" else repr(end))
    said = [record.message for record in caplog.records]
    assert any("after_return" in line for line in said) and len(said) == (3 if end == "retry" else 2)


def test_before_start_may_fail_the_task(app):
    def refuse(*_):
        raise ValueError("not now")

    work = app.task(base=type("Refusing", (Task,), {"before_start": refuse}))(lambda: 1)
    with pytest.raises(ValueError, match="not now"):
        work.delay().get(timeout=30)


def test_an_ignored_task_that_set_a_state_holds_nothing_up(app, add):
    @app.task(bind=True)
    def ignoring(self):
        self.update_state(state="MINE", meta={"at": 1})
        raise Ignore

    first = ignoring.s().set(task_id="ignoring")
    result = (first | add.si(1, 2)).delay()
    assert isinstance(result.get(timeout=30, propagate=False), nbcanvas.errors.TaskRevokedError)
    assert app.AsyncResult("ignoring").state == "IGNORED"


# -- stamps -----------------------------------------------------------------------------------------------------------


def test_stamps_given_to_a_call_reach_the_first_calls(app, add):
    seen = app.task(bind=True)(lambda self, *_: dict(self.request.stamps))
    stamps = {"stamped_headers": ["a"], "a": ["x"]}
    assert seen.apply_async(**stamps).get(timeout=30) == {"a": ["x"]}
    assert seen.s().apply_async(**stamps).get(timeout=30) == {"a": ["x"]}
    assert group(seen.s(), seen.s()).apply_async(**stamps).get(timeout=30) == [{"a": ["x"]}] * 2
    assert seen.s().stamp(b="own").apply_async(**stamps).get(timeout=30) == {"a": ["x"], "b": ["own"]}
    result = chain(add.s(1, 2), seen.s()).apply_async(**stamps)
    assert result.get(timeout=30) == {}


class Returns(StampingVisitor):
    def on_signature(self, sig, **headers):
        return 5


@pytest.mark.parametrize(
    ("visitor", "says"),
    [(5, "an int is no visitor"), (Returns, r"write Returns\(\)"), (Returns(), "on_signature must return a dict")],
)
def test_bad_visitors(add, visitor, says):
    with pytest.raises(CanvasError, match=says) as raised:
        group(add.s(1, 2), add.s(3, 4)).stamp(visitor)
    assert isinstance(raised.value, TypeError)


# -- canvases ---------------------------------------------------------------------------------------------------------


def test_a_chord_without_a_body_is_refused_everywhere(app, add):
    bare = chord([add.s(1, 2)])
    for attempt in (
        lambda: submit(bare),
        lambda: submit(chain(add.s(1, 1), bare)),
        lambda: group(add.s(1, 1), bare).delay(),
        lambda: app.look(bare),
        bare.apply,
    ):
        with pytest.raises(CanvasError, match="no body"):
            attempt()
    assert bare(app.task(name="total")(sum).s()).get(timeout=30) == 3


def test_an_empty_chain(app):
    assert chain()() is None
    assert (
        chain().delay().get(timeout=30)
        == chain().apply_async().get(timeout=30)
        == submit(chain()).get(timeout=30)
        == []
    )


# -- times ------------------------------------------------------------------------------------------------------------


def test_times_as_text(app, add):
    past, zoned = "2020-01-31T12:00:00", datetime.now(UTC).isoformat()
    assert add.apply_async((1, 2), eta=past).get(timeout=30) == 3
    assert add.apply_async((1, 2), eta=zoned).get(timeout=30) == 3
    assert add.apply_async((1, 2), countdown=timedelta(0)).get(timeout=30) == 3
    late = add.apply_async((1, 2), expires=past)
    late.get(timeout=30, propagate=False)
    assert late.state == "REVOKED"
    when = app.task(bind=True)(lambda self: self.request.eta)
    assert when.apply_async(eta=past).get(timeout=30) == "2020-01-31T12:00:00+00:00"


@pytest.mark.parametrize(
    "options", [{"countdown": "soon"}, {"eta": "soon"}, {"expires": object}, {"eta": timedelta(1)}, {"countdown": [1]}]
)
def test_bad_times_are_refused_at_once(add, options):
    name = next(iter(options))
    with pytest.raises(InvalidTaskError, match=f"^add: {name}="):
        add.apply_async((1, 2), **options)
    with pytest.raises(InvalidTaskError, match=f"^add: {name}="):
        chain(add.s(1, 1), add.s(1).set(**options)).delay()


# -- results ----------------------------------------------------------------------------------------------------------


def test_an_error_says_once_where_its_task_failed(app):
    @app.task(name="deep.fails")
    def fails():
        raise ValueError("deep down")

    result = fails.delay()
    notes = []
    for _ in range(3):
        with pytest.raises(ValueError, match="deep down") as raised:
            result.get(timeout=30)
        notes = raised.value.__notes__
    assert len(notes) == 1
    assert f"deep.fails[{result.id}] failed on " in notes[0] and "in fails" in notes[0]
    with pytest.raises(ValueError, match="deep down"):
        group(fails.s(), fails.s())().get(timeout=30)


def test_an_error_that_takes_no_notes_is_raised_as_it_is(app):
    class Closed(Exception):
        def __setattr__(self, name, value):
            raise TypeError

    @app.task
    def fails():
        raise Closed("shut")

    with pytest.raises(Closed, match="shut"):
        fails.delay().get(timeout=30)


def test_eager_results(app, add):
    result = add.apply((1, 2))
    told = []
    result.then(told.append)
    assert told == [result]
    assert result.get(5, True, False, on_message=print, whatever=1) == 3
    first = result.date_done
    assert first == result.date_done == pickle.loads(pickle.dumps(result)).date_done
    failed = EagerResult("id", ValueError("no"), "FAILURE")
    failed.then(lambda _: told.append("well"), lambda _: told.append("badly"))
    both = group(add.s(1, 1), add.s(2, 2)).apply()
    both.then(told.append)
    assert told[1:] == ["badly", both]
    assert [meta["result"] for _, meta in both.iter_native(timeout=5)] == [2, 4]


def test_an_apps_own_classes_of_results(app, add):
    other = nbcanvas.App("other", set_as_current=False)
    result = app.AsyncResult(add.delay(1, 2).id)
    assert isinstance(result, app.AsyncResult) and result.get(timeout=30) == 3
    assert other.AsyncResult(result.id).state == "PENDING"
    whole = group(add.s(1, 1), add.s(2, 2))()
    whole.save()
    assert app.GroupResult.restore(whole.id).get(timeout=30) == [2, 4]
    assert other.GroupResult.restore(whole.id) is None
    assert app.ResultSet([result]).get(timeout=30) == [3] and app.ResultSet([]).app is app
    assert add.s(1, 2).AsyncResult is app.AsyncResult
    with pytest.raises(KeyError):
        result.throw(KeyError("thrown"))


# -- tasks and the app ------------------------------------------------------------------------------------------------


def test_a_coroutine_function_is_refused(app):
    async def later():
        return 1

    async def many():
        yield 1

    for function in (later, many):
        with pytest.raises(TypeError, match=r"asyncio\.run"):
            app.task(function)

    class Later(Task):
        async def run(self):
            return 1

    with pytest.raises(TypeError, match=r"asyncio\.run"):
        app.register_task(Later)


@pytest.mark.parametrize("option", ["delay", "run", "request", "on_failure", "_app"])
def test_options_that_would_take_a_method_away(app, option):
    with pytest.raises(TypeError, match=f"'{option}' is no task option"):
        app.task(**{option: 5})(lambda: 1)


def test_options_that_no_task_has(app):
    work = app.task(db="x", session=1)(lambda: 1)
    assert (work.db, work.session) == ("x", 1)
    with pytest.raises(TypeError, match="did you mean 'max_retries'"):
        app.task(max_retry=1)(lambda: 1)
    heard = []
    hooked = app.task(on_success=lambda self, value, *_: heard.append(value))(lambda: 7)
    hooked.delay().get(timeout=30)
    assert heard == [7]


def test_names_of_the_package(app):
    add = nbcanvas.shared_task(name="shared")(lambda x, y: x + y)
    assert app.tasks["shared"] is add
    assert nbcanvas.subtask("shared", (1, 2)) == nbcanvas.maybe_subtask({**add.s(1, 2)}) == add.s(1, 2)
    assert len({nbcanvas.uuid(), nbcanvas.uuid()}) == 2
    assert not nbcanvas.current_task

    @app.task
    def who():
        inner = add(1, 2)
        return nbcanvas.current_task.request.id, app.current_worker_task is who, inner

    result = who.delay()
    assert result.get(timeout=30) == (result.id, True, 3)
    with pytest.raises(ValueError, match="not member of any chord"):
        add.add_to_chord(add.s(1, 2))


def test_a_header_does_not_grow_on_the_embedded_worker(app, add):
    """Nobody else counts its parts: the error says what to do."""
    grows = app.task(bind=True, name="grows")(lambda self: self.add_to_chord(add.s(1, 2)))
    result = chord([grows.s(), add.s(1, 2)], add.s([])).delay()
    with pytest.raises(nbcanvas.errors.ChordError, match=r"return self\.replace"):
        result.get(timeout=30)
    with pytest.raises(ValueError, match="not member of any chord"):
        grows.delay().get(timeout=30)


def test_names_of_the_request(app):
    @app.task(bind=True)
    def said(self, x, y=0):
        request = self.request
        request.update(mine=1)
        return request.mine, request.argsrepr, request.kwargsrepr, request.lang, request.shadow, request.properties

    result = said.apply_async((1,), {"y": 2}, shadow="other")
    properties = {"correlation_id": result.id, "reply_to": None, "priority": None}
    assert result.get(timeout=30) == (1, "(1,)", "{'y': 2}", "py", "other", properties)


def test_names_of_the_app(app, monkeypatch, tmp_path):
    package = tmp_path / "found_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tasks.py").write_text("import nbcanvas\n\n@nbcanvas.task\ndef found(): return 1\n")
    (tmp_path / "found_settings.py").write_text("task_default_queue = 'theirs'\n")
    monkeypatch.syspath_prepend(tmp_path)
    app.autodiscover_tasks(lambda: ["found_package"])
    assert "found_package.tasks.found" in app.tasks
    monkeypatch.setenv("FOUND", "found_settings")
    assert app.config_from_envvar("FOUND") and app.conf.task_default_queue == "theirs"
    assert not app.config_from_envvar("NOT_THERE", silent=True)
    with pytest.raises(nbcanvas.errors.ImproperlyConfigured, match="NOT_THERE"):
        app.config_from_envvar("NOT_THERE")
    assert app.now().utcoffset() == timedelta(0)
    assert "task_default_queue" in app.bugreport()
    assert app.finalize() is None
