"""The same random canvases on the real thing: the embedded worker with its threads, and ``apply()``."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbcanvas.worker.eager
from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.backend.local import LocalBackend
from nbcanvas.canvas import chain, group
from nbcanvas.errors import Ignore, Reject
from nbcanvas.plan import places
from nbcanvas.protocol.payload import unpack
from nbcanvas.run import submit
from tests.apps import rests
from tests.plan.recipes import build, canvases
from tests.plan.reference import Meaning, item_value, symbol
from tests.plan.replacements import AS_CELERY, AS_MEANT
from tests.plan.simulate import Boom, exception_text, name_of
from tests.plan.test_size import SHAPES, nested, work

FEW = settings(max_examples=2 * settings().max_examples)
#: ``apply`` looks at no clock, so nothing expires.
WITHOUT_REVOKES = st.sampled_from([("ok",), ("ok",), ("ok",), ("fail",), ("ignore",), ("reject",), ("retry", 2, "ok")])


class World:
    """An app whose tasks write down what they do."""

    def __init__(self):
        self.app = App("meaning", worker_concurrency=3)
        self.backend = self.app.backend
        self.lock = threading.Lock()
        self.clear()
        self.app.task(name="work", bind=True)(self._work)
        self.app.task(name="heard")(lambda request, exc, traceback, tag: self._heard(request, exc, tag))
        self.app.task(name="item")(self._item)

    def clear(self):
        self.backend.forget(list(self.backend.records()))
        self.runs, self.heard, self.told, self.stamps = Counter(), Counter(), Counter(), {}

    def name(self, task_id):
        return name_of(self.backend.get(task_id).call)

    def shown(self, value):
        return self.name(value) if isinstance(value, str) and self.backend.get(value) is not None else value

    def _work(self, task, *args, tag, do, more=None):
        what, *details = do
        value = symbol(tag, [self.shown(value) for value in args], more)
        with self.lock:
            self.runs[tag, value] += 1
            self.stamps[tag] = task.request.stamps
        if what == "retry":
            again, what = details
            if task.request.retries < again:
                raise task.retry(countdown=0)
        if what == "fail":
            raise Boom(tag)
        if what == "ignore":
            raise Ignore
        if what == "reject":
            raise Reject("no", requeue=False)
        return task.replace(details[0]) if what == "replace" else value

    def _heard(self, request, exc, tag):
        with self.lock:
            self.heard[tag, self.name(request.id), exception_text(exc, self.name)] += 1
            self.told[tag, request.id] += 1

    def _item(self, *item):
        if any("boom" in str(part) for part in item):
            raise Boom("item")
        return item_value(*item)

    @property
    def ends(self):
        return Counter(
            (name_of(record.call), record.state, self._text(record))
            for record in self.backend.records().values()
            if record.call.task != "heard"
        )

    def _text(self, record):
        if record.state == states.SUCCESS:
            return str(unpack(record.payload))
        if record.state == states.FAILURE:
            return exception_text(record.exc, self.name)
        return "None" if record.state == states.REVOKED else None

    def await_rest(self, meaning):
        count = sum(meaning.ends.values()) + sum(meaning.heard.values())
        until = time.monotonic() + 60
        while time.monotonic() < until and not self._rests(count):
            time.sleep(0.001)

    def assert_means(self, meaning):
        assert self.ends == meaning.ends
        assert self.runs == Counter({key: n for key, n in meaning.runs.items() if not key[0].startswith("celery.")})
        assert self.heard == meaning.heard

    def _rests(self, count):
        records = self.backend.records()
        return (
            len(records) >= count and all(r.state in states.READY_STATES for r in records.values()) and rests(self.app)
        )


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.app.close()


@FEW
@given(recipe=st.one_of(canvases(5), canvases(3)), args=st.sampled_from([(), ("given",)]))
def test_the_embedded_worker_means_what_the_reference_means(world, recipe, args):
    world.clear()
    canvas = build(recipe)
    plain = json.loads(json.dumps(canvas))
    meaning = Meaning(plain, args)
    result = world.app.submit(canvas, args)
    if meaning.end.kind == "value":
        assert result.get(timeout=30) == meaning.end.what
    world.await_rest(meaning)
    world.assert_means(meaning)
    assert result.ready()
    assert json.loads(json.dumps(canvas)) == plain


@FEW
@given(recipe=canvases(5, WITHOUT_REVOKES), args=st.sampled_from([(), ("given",)]))
def test_apply_means_what_the_reference_means(world, recipe, args):
    made = []

    class Watched(LocalBackend):
        def __init__(self):
            super().__init__()
            made.append(self)
            world.backend = self

    world.clear()
    canvas = build(recipe)
    meaning = Meaning(json.loads(json.dumps(canvas)), args)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nbcanvas.worker.eager, "LocalBackend", Watched)
        try:
            result = world.app.apply(canvas, args)
            if meaning.end.kind == "value":
                assert result.get() == meaning.end.what
            world.assert_means(meaning)
        finally:
            world.backend = world.app.backend
    assert len(made) == 1


@pytest.mark.parametrize("name", [*AS_CELERY, *AS_MEANT])
def test_a_replacement_has_the_id_the_links_the_errbacks_and_the_stamps(world, name):
    """Celery says the same of all of these but the stamps: see tests/cluster/test_both_ways_replace.py."""
    world.clear()
    canvas = build((AS_CELERY | AS_MEANT)[name])
    meaning = Meaning(json.loads(json.dumps(canvas)))
    run = submit(canvas, app=world.app, stamps={"lab": "x"})
    run.wait(timeout=30)
    world.await_rest(meaning)
    world.assert_means(meaning)
    names = {place.call.id: name_of(place.call) for place in places(run.root)}
    assert Counter((tag, names.get(told, "<id>")) for tag, told in world.told.elements()) == meaning.told
    records = {names[id_]: world.backend.get(id_) for id_ in names}
    assert {tag: (records[tag].state, world._text(records[tag])) for tag in meaning.stored} == meaning.stored
    assert {tag: stamps for tag, stamps in world.stamps.items() if stamps != {"lab": ["x"]}} == {}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_nesting_of_500_runs(world, shape):
    world.clear()
    run = submit(nested(SHAPES[shape]), app=world.app)
    until = time.monotonic() + 60
    while not (run.snapshot().done and world._rests(1)):  # between two tasks of a chain, all that is known rests
        assert time.monotonic() < until
        time.sleep(0.01)
    assert {record.state for record in world.backend.records().values()} <= {"SUCCESS", "FAILURE"}


def test_long_and_wide(world):
    for canvas in (chain(work(n) for n in range(10_000)), group(work(n) for n in range(10_000))):
        world.clear()
        result = world.app.submit(canvas)
        result.get(timeout=60)
        assert sum(world.ends.values()) == 10_000
