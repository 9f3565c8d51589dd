"""One database, two libraries: what nbcanvas keeps Celery reads, and the other way round.

No server is needed: Celery's own worker, where one is wanted, has its broker in memory, in this process.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import uuid
from types import SimpleNamespace

import celery
import celery.exceptions
import celery.result
import pytest
from celery.contrib.testing.worker import start_worker

from nbcanvas import App, chain, group
from nbcanvas.errors import ChordError, RemoteError, TaskRevokedError
from tests.celerys import unshared

SERIALIZERS = ["json", "pickle"]
VALUES = [
    None,
    0,
    "",
    "ünïcode 😀",
    [1, [2, [None]]],
    {"a": {"b": 1.5}},
    dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    uuid.UUID(int=7),
    decimal.Decimal("1.50"),
    b"\xff\x00",
]


class Own(Exception):
    """An exception of the user's."""


@pytest.fixture(params=SERIALIZERS)
def both(request, tmp_path):
    """Return an app of each library, with their results in one file."""
    settings = {"result_serializer": request.param, "accept_content": ["json", "pickle"], "result_extended": True}
    url = f"db+sqlite:///{tmp_path}/results.sqlite"
    with App("ours", backend=url, set_as_current=False, **settings) as ours:
        theirs = unshared(celery.Celery("theirs", broker="memory://", backend=url, set_as_current=False))
        theirs.conf.update(settings)
        for app in (ours, theirs):
            for task in (echo, add, fail):
                app.task(name=task.__name__)(task)
        yield SimpleNamespace(ours=ours, theirs=theirs)


def echo(x=None):
    return x


def add(x, y):
    return x + y


def fail(kind):
    raise {"value": ValueError("ü", 1), "own": Own("mine"), "key": KeyError("k")}[kind]


def read(result):
    """Return what a handle of either library says."""
    return {
        "state": result.state,
        "result": (type(result.result).__name__, str(result.result))
        if isinstance(result.result, BaseException)
        else result.result,
        "name": result.name,
        "args": list(result.args or ()),
        "kwargs": result.kwargs,
        "worker": result.worker,
        "retries": result.retries,
        "queue": result.queue,
        "traceback": result.traceback,
        "done": result.date_done.replace(tzinfo=None),
        "children": [child.id for child in result.children or ()],
    }


def fresh(both):
    """Return an app that has seen nothing of what `both.ours` did."""
    conf = both.ours.conf
    return App("fresh", set_as_current=False, **conf.given)


# -- what we keep ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_celery_reads_our_values(both, value):
    ours = both.ours.signature("echo", (), {"x": value}).apply_async()
    assert ours.get(timeout=60) == value
    theirs = both.theirs.AsyncResult(ours.id)
    assert (theirs.get(timeout=60), theirs.successful(), theirs.kwargs) == (value, True, {"x": value})


@pytest.mark.parametrize("kind", ["value", "own", "key"])
def test_celery_reads_our_failures(both, kind):
    ours = both.ours.signature("fail", (kind,)).apply_async()
    with pytest.raises(Exception) as here:
        ours.get(timeout=60)
    theirs = both.theirs.AsyncResult(ours.id)
    with pytest.raises(type(here.value)) as there:
        theirs.get(timeout=60)
    assert there.value.args == here.value.args
    assert theirs.traceback == ours.traceback
    assert "fail(kind)" in theirs.traceback or "in fail" in theirs.traceback


def test_celery_reads_everything_else_we_know_of_a_task(both):
    ours = chain(*(both.ours.signature("add", args) for args in [(1, 2), (3,), (4,)]), app=both.ours).apply_async()
    assert ours.get(timeout=60) == 10
    for result in (ours, ours.parent, ours.parent.parent):
        theirs, again = read(both.theirs.AsyncResult(result.id)), read(fresh(both).AsyncResult(result.id))
        assert theirs == again
        assert theirs["name"] == "add"
    assert theirs["children"] == [ours.parent.id]
    assert read(both.theirs.AsyncResult(ours.id))["args"] == [6, 4]  # as Celery has it: with what came before


def test_celery_reads_our_states_on_the_way(both):
    @both.ours.task(name="slow", bind=True)
    def slow(self):
        self.update_state(state="HALFWAY", meta={"current": 5})
        self.app.backend.flush(10)
        seen.append((both.theirs.AsyncResult(self.request.id).state, both.theirs.AsyncResult(self.request.id).info))
        raise self.retry(countdown=3600, exc=ValueError("later"))

    seen = []
    result = slow.delay()
    while result.state != "RETRY":
        both.ours.backend.flush(10)
    both.ours.backend.flush(10)
    theirs = both.theirs.AsyncResult(result.id)
    assert seen == [("HALFWAY", {"current": 5})]
    assert (theirs.state, str(theirs.result), theirs.date_done) == ("RETRY", "later", None)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    both.ours.backend.flush(10)
    assert both.theirs.AsyncResult(result.id).state == "REVOKED"
    with pytest.raises(
        celery.exceptions.TaskRevokedError if both.theirs.conf.result_serializer == "json" else Exception
    ):
        both.theirs.AsyncResult(result.id).get(timeout=60)


def test_celery_reads_our_chord_errors_as_its_own(both):
    body, bad = both.ours.signature("add", (1,)), both.ours.signature("fail", ("value",))
    result = chain(group(bad, bad, app=both.ours), body, app=both.ours).apply_async()
    with pytest.raises(ChordError):
        result.get(timeout=60)
    theirs = both.theirs.AsyncResult(result.id)
    assert (theirs.state, type(theirs.result).__name__) == ("FAILURE", "ChordError")
    if both.theirs.conf.result_serializer == "json":
        assert isinstance(theirs.result, celery.exceptions.ChordError)


def test_groups_are_restored_on_the_other_side(both):
    ours = group(*(both.ours.signature("add", (i, i)) for i in range(5)), app=both.ours).apply_async()
    ours.save()
    assert both.theirs.GroupResult.restore(ours.id).get(timeout=60) == [0, 2, 4, 6, 8]
    results = [both.theirs.AsyncResult(member.id) for member in ours.results]
    both.theirs.GroupResult("theirs", results).save()
    restored = both.ours.GroupResult.restore("theirs")
    assert (restored.id, restored.get(timeout=60)) == ("theirs", [0, 2, 4, 6, 8])
    both.theirs.GroupResult.restore("theirs").delete(both.theirs.backend)
    assert both.ours.GroupResult.restore("theirs") is None


def test_what_one_forgets_the_other_does_not_find(both):
    for forgets, asks in ((both.ours, both.theirs), (both.theirs, both.ours)):
        result = both.ours.signature("add", (1, 1)).apply_async()
        result.get(timeout=60)
        forgets.AsyncResult(result.id).forget()
        reader = fresh(both) if asks is both.ours else asks
        assert reader.AsyncResult(result.id).state == "PENDING"


# -- what Celery keeps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_we_read_celerys_values(both, value):
    both.theirs.backend.store_result("t", value, "SUCCESS")
    assert both.ours.AsyncResult("t").get(timeout=60) == value


@pytest.mark.parametrize(
    ("exc", "type_"),
    [
        (ValueError("ü", 1), ValueError),
        (celery.exceptions.ChordError("Dependency x raised"), ChordError),
        (celery.exceptions.TaskRevokedError("revoked"), TaskRevokedError),
        (Own("mine"), Own),
        (type("Vanished", (Exception,), {"__module__": "gone"})("x"), RemoteError),
    ],
    ids=repr,
)
def test_we_read_celerys_failures(both, exc, type_):
    state = "REVOKED" if type_ is TaskRevokedError else "FAILURE"
    both.theirs.backend.store_result("t", exc, state, traceback="Traceback …")
    ours = both.ours.AsyncResult("t")
    assert (ours.state, ours.traceback, ours.ready()) == (state, "Traceback …", True)
    with pytest.raises(type_) as raised:
        ours.get(timeout=60)
    assert (type(raised.value).__name__, raised.value.args) == (type(exc).__name__, exc.args)


def test_we_read_celerys_states_on_the_way(both):
    both.theirs.backend.store_result("t", {"current": 5}, "HALFWAY")
    assert (both.ours.AsyncResult("t").state, both.ours.AsyncResult("t").info) == ("HALFWAY", {"current": 5})
    both.theirs.backend.store_result("t", ValueError("again"), "RETRY")
    assert (both.ours.AsyncResult("t").state, str(both.ours.AsyncResult("t").info)) == ("RETRY", "again")
    assert both.ours.AsyncResult("t").date_done is None


def test_we_read_what_celery_kept_without_names_and_arguments(tmp_path):
    url = f"db+sqlite:///{tmp_path}/results.sqlite"
    theirs = celery.Celery("theirs", backend=url, set_as_current=False)
    theirs.backend.store_result("t", 5, "SUCCESS")
    with App("ours", backend=url, set_as_current=False) as ours:
        found = ours.AsyncResult("t")
        assert (found.get(timeout=60), found.name, found.args, found.worker) == (5, None, None, None)
        ours.task(name="add")(add)
        own = ours.signature("add", (1, 2)).apply_async()
        assert own.get(timeout=60) == 3
        assert theirs.AsyncResult(own.id).get(timeout=60) == 3


@pytest.mark.slow
def test_we_wait_for_and_read_what_a_celery_worker_works_on(both):
    theirs = both.theirs
    theirs.finalize()
    with contextlib.ExitStack() as stack:
        stack.enter_context(start_worker(theirs, pool="solo", perform_ping_check=False, shutdown_timeout=60))
        good = (theirs.signature("add", (1, 2)) | theirs.signature("add", (3,))).apply_async()
        bad = theirs.signature("fail", ("own",)).apply_async()
        assert both.ours.AsyncResult(good.id).get(timeout=60) == 6
        with pytest.raises(Own, match="mine"):
            both.ours.AsyncResult(bad.id).get(timeout=60)
        many = celery.group([theirs.signature("add", (i, i)) for i in range(10)], app=theirs).apply_async()
        many.save()
        assert both.ours.GroupResult.restore(many.id).get(timeout=60) == [2 * i for i in range(10)]
        for result in (good, good.parent, bad):
            assert read(both.ours.AsyncResult(result.id)) == read(theirs.AsyncResult(result.id))
