"""A run that was written down shows what the run showed (docs/recording.md)."""

import asyncio
import contextlib
import copy
import datetime as dt
import decimal
import json
import os
import random
import sys
import threading
import time
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcanvas import App, chain, chord, group, submit
from nbcanvas.errors import ChordError, Ignore, NBCanvasError, RecordingError, Reject, RemoteError, TaskRevokedError
from nbcanvas.picture.bars import bars_html, bars_model, bars_text
from nbcanvas.picture.svg import canvas_alt, canvas_html
from nbcanvas.plan import calls_of
from nbcanvas.protocol.plain import AsText
from nbcanvas.run import Recording, set_audience
from tests.apps import rests
from tests.plan.recipes import build, canvases
from tests.protocol.test_document import facts


def settled(run, seconds=60):
    """Wait for everything a run started, errbacks too."""
    run.wait(seconds)
    until = time.monotonic() + seconds
    while not (run.snapshot().done and rests(run.app)):
        assert time.monotonic() < until, "it did not settle"
        time.sleep(0.001)
    return run


# -- whatever ran comes back -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    """An app for the canvases of tests.plan.recipes; what fails raises an exception that every Python has."""
    with App("recorded", worker_concurrency=3, set_as_current=False) as app:

        @app.task(name="work", bind=True)
        def work(self, *args, tag, do):
            what, *details = do
            if what == "retry":
                again, what = details
                if self.request.retries < again:
                    raise self.retry(countdown=0, exc=LookupError(tag))
            if what == "fail":
                raise ValueError(tag, 3)
            if what == "ignore":
                raise Ignore
            if what == "reject":
                raise Reject("no", requeue=False)
            if what == "replace":
                return self.replace(details[0])
            self.update_state(meta={"current": 1, "total": 2, "when": dt.date(2026, 1, 1)})
            return {"tag": tag, "args": args, "bytes": b"\xff"}

        @app.task(name="heard")
        def heard(request, exc, traceback, tag):
            return tag

        @app.task(name="item")
        def item(*parts):
            if "boom" in str(parts):
                raise KeyError("item")
            return decimal.Decimal("1.5")

        yield app


def shown(state, clocks=True):
    """Return all that a state says, by its public face."""
    rows = range(len(state))
    return (
        facts(state.root),
        [(graft.owner, graft.role, facts(graft.node)) for graft in state.tree.grafts],
        [state.calls[i][1:4] for i in rows],
        [(state.call(i).id, state.state(i), state.attempt(i), state.items(i), state.awake(i)) for i in rows],
        [(repr(state.error(i)), state.progress(i) and state.progress(i)[1:]) for i in rows],
        [(state.sent(i), state.started(i), state.finished(i), state.due(i), state.worker(i)) for i in rows if clocks],
        [list(state.order), dict(state.counts), clocks and state.began],
    )


def compared(frame, clocks=True):
    """Return a table in a form in which equal ones are equal: exceptions are not."""
    frame = frame.drop(columns=["traceback"] if clocks else ["traceback", "sent", "started", "finished"])
    # (Workers are categories in the order they were heard of, those of forgotten attempts included.)
    workers = frame["worker"].cat.remove_unused_categories()
    frame = frame.assign(worker=workers.cat.set_categories(sorted(workers.cat.categories)))
    return frame.assign(**{name: frame[name].map(written) for name in ("error", "args", "kwargs", "result")})


def written(value):
    """Return a value as text, sets in an order of their own."""
    if isinstance(value, dict):
        return repr({key: written(one) for key, one in value.items()})
    return repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)


def pictures(views):
    state = views.snapshot()
    model = bars_model(state, state.began + 100)
    drawn = [bars_text(model), bars_html(model), canvas_html(views.root, state), canvas_alt(views.root, state)]
    return drawn + [
        getattr(views, name)().text for name in ("bars", "graph", "timeline", "table") if hasattr(views, name)
    ]


FEW = settings(max_examples=max(20, settings().max_examples // 3))


@FEW
@given(
    recipe=st.one_of(canvases(5), canvases(3)), stamps=st.sampled_from([None, {"experiment": 42, "who": ["a", "b"]}])
)
def test_what_ran_comes_back(world, recipe, stamps):
    run = settled(submit(build(recipe), app=world, name="it", stamps=stamps))
    recording = run.record()
    assert shown(recording.snapshot()) == shown(run.snapshot())
    pd.testing.assert_frame_equal(compared(recording.frame()), compared(run.frame()))
    assert pictures(recording) == pictures(run)
    assert (recording.id, recording.name, recording.canvas) == (run.id, run.name, run.canvas)
    assert (recording.started, recording.finished, len(recording)) == (run.started, run.finished, len(run))
    assert recording.done and recording.state == run.state and recording.counts == run.counts
    assert repr(ended(recording)) == repr(ended(run))
    assert not recording.notes


def ended(views):
    try:
        return views.get(timeout=30)
    except Exception as error:
        return type(error).__name__, error.args


@FEW
@given(recipe=canvases(4))
def test_a_recording_of_a_recording_is_the_same_file(world, recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    settled(submit(build(recipe), app=world)).record(folder / "one.json").record(folder / "two.json")
    assert (folder / "one.json").read_bytes() == (folder / "two.json").read_bytes()
    assert shown(Recording.read(folder / "two.json").snapshot()) == shown(
        Recording.read(folder / "one.json").snapshot()
    )


def test_a_run_that_goes_on_is_written_as_far_as_it_is(app, tasks, gate):
    app.start_worker(concurrency=1)
    run = submit(group(tasks.add.s(1, 1), tasks.held.s(1)) | tasks.tsum.s(), name="half")
    until = time.monotonic() + 30
    while not (run.counts.get("SUCCESS") and run.counts.get("STARTED")):
        assert time.monotonic() < until
        time.sleep(0.002)
    recording = run.record()
    gate.set()
    assert not recording.done and recording.finished is None and recording.state == "STARTED"
    assert recording.counts == {"SUCCESS": 1, "STARTED": 1, "WAITING": 1}
    assert "recorded while it ran" in repr(recording)
    for ask in (recording.get, recording.wait):
        with pytest.raises(RecordingError, match="had not ended when it was recorded"):
            ask()
    run.wait(60)


# -- values and errors -----------------------------------------------------------------------------------------------


def test_values_come_back_as_what_they_were(app):
    value = {
        "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        ("a", 1): [decimal.Decimal("1.50"), uuid.UUID(int=7), {1, 2}, 1j, float("inf")],
        "half": "\ud83d → ×",
    }

    @app.task
    def echo(x):
        return x

    recording = settled(submit(echo.s(value), app=app)).record()
    assert recording.get() == value
    assert recording.frame().args[0] == (value,)
    got = recording.get()
    got.clear()
    assert recording.get() == value  # nobody changes a recording


def test_what_json_has_not_is_a_text(app):
    @app.task
    def table():
        return pd.DataFrame({"a": range(3)})

    @app.task
    def array():
        return np.zeros((4, 5))

    found = settled(submit(group(table.s(), array.s()), app=app)).record().get()
    assert [type(one) for one in found] == [AsText, AsText]
    assert [one.shape for one in found] == [(3, 1), (4, 5)]
    assert repr(found[0]) == "   a\n0  0\n1  1\n2  2"


class Own(Exception):
    pass


def test_errors_come_back_and_unknown_ones_as_remote_errors(app, tasks):
    @app.task
    def own():
        raise Own("mine", 3)

    recording = submit(tasks.fail.s("x")).wait(60).record()
    with pytest.raises(ValueError, match="no"):
        recording.get()
    assert recording.get(propagate=False).args == ("no", "x")
    with pytest.raises(RemoteError, match=r"Own\(mine, 3\)"):
        submit(own.s()).wait(60).record().get()
    with pytest.raises(ChordError, match="ValueError"):
        submit(chord([tasks.add.s(1, 1), tasks.fail.s("x")], tasks.tsum.s())).wait(60).record().get()
    run = submit(tasks.add.s(1, 1).set(countdown=600))
    run.cancel()
    with pytest.raises(TaskRevokedError):
        run.wait(60).record().get()


def test_a_recording_can_be_awaited_and_waited_for(tasks):
    recording = submit(tasks.add.s(1, 1)).wait(60).record()
    assert asyncio.run(_awaited(recording)) == 2
    assert recording.wait(1) is recording


async def _awaited(recording):
    return await recording


def test_what_only_a_run_can_do_is_refused(tasks):
    recording = submit(tasks.add.s(1, 1)).wait(60).record()
    for do in (
        recording.rerun,
        recording.cancel,
        lambda: recording.result,
        lambda: recording.add_done_callback(print),
    ):
        with pytest.raises(RecordingError, match="a recording"):
            do()


# -- size, and this machine ------------------------------------------------------------------------------------------


def test_the_file_is_limited_and_says_what_was_left_out(app, tmp_path):
    @app.task
    def blow(x, size):
        return chr(ord("a") + x) * size

    @app.task
    def fails(x):
        raise ValueError("x" * 900)

    sizes = [5000, 10, 9000, 300] * 5
    run = settled(submit(group(blow.s(i, size) for i, size in enumerate(sizes)), app=app))
    whole = run.record(tmp_path / "whole.json")
    assert list(map(len, whole.get())) == sizes and not any(whole.left_out.values())
    some = run.record(tmp_path / "some.json", limit=40_000)
    assert (tmp_path / "some.json").stat().st_size <= 40_000
    assert some.left_out["results"] > 0 == some.left_out["arguments"]
    kept = [value for value in some.get() if not isinstance(value, AsText)]
    assert sorted(map(len, kept)) == sorted(sizes)[: len(kept)]  # the largest went first
    assert len(kept) == len(sizes) - some.left_out["results"]
    assert f"{some.left_out['results']} results left out" in repr(some)
    assert repr(some.frame().result[2]) == "<left out>"
    assert json.loads((tmp_path / "some.json").read_text())["left_out"] == dict(some.left_out)
    assert (tmp_path / "some.json").read_text() == _rewritten(some, tmp_path, limit=40_000)

    run = settled(submit(group(fails.s("y" * 3000 + str(i)) for i in range(20)), app=app))
    few = run.record(limit=60_000)
    assert few.left_out["results"] == 0 < few.left_out["arguments"] and few.left_out["tracebacks"] == 0
    none = run.record(limit=100)
    assert none.left_out["arguments"] == none.left_out["tracebacks"] == 20
    assert none.frame().args.map(repr).tolist() == ["(<left out>,)"] * 20
    assert none.counts == {"FAILURE": 20} and none.frame().traceback.isna().all()


def _rewritten(recording, folder, **kwargs):
    recording.record(folder / "again.json", **kwargs)
    found = json.loads((folder / "again.json").read_text())
    found["left_out"] = dict(recording.left_out)  # what was left out before is not left out now
    original = json.loads((folder / "some.json").read_text())
    assert found == original
    return (folder / "some.json").read_text()


@pytest.mark.slow
def test_a_hundred_thousand_tasks(app, tasks, tmp_path):
    sizes = []
    for count in (25_000, 100_000):
        run = settled(submit(group(tasks.add.s(i, i) for i in range(count)) | tasks.tsum.s(), app=app), 100)
        recording = run.record(tmp_path / "run.json")
        sizes.append((tmp_path / "run.json").stat().st_size)
        assert recording.get() == count * (count - 1) and not recording.notes
        found, was = Recording.read(tmp_path / "run.json").snapshot(), run.snapshot()
        assert found.counts == was.counts and len(found) == len(was)
        assert [column.tobytes() for column in found.columns[1:5]] == [column.tobytes() for column in was.columns[1:5]]
    assert sizes[1] < 10_000_000 and sizes[1] < 4.5 * sizes[0]


def test_tracebacks_do_not_tell_where_this_machine_keeps_things(app, tmp_path, monkeypatch):
    home, here = tmp_path / "home" / "ada", tmp_path / "home" / "ada" / "work"
    here.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    (here / "mine.py").write_text("def boom(where):\n    raise OSError(where)\n")
    (home / "other.py").write_text("from mine import boom\ndef far(where):\n    boom(where)\n")
    monkeypatch.syspath_prepend(here)
    monkeypatch.syspath_prepend(home)
    for name in ("mine", "other"):  # another test may have had modules of these names
        monkeypatch.delitem(sys.modules, name, raising=False)
    import other

    app.task(other.far, name="far")
    submit(app.tasks["far"].s("x"), app=app).wait(60).record(here / "run.json")
    text = (here / "run.json").read_text()
    assert './mine.py\\", line 2' in text and '~/other.py\\", line 3' in text
    assert str(tmp_path) not in text


class Static:
    """What a notebook under a test runner says."""

    tells_clocks = False

    def wait_begins(self, run): ...

    def wait_ended(self, run, error):
        return error

    def wait_ran_out(self, run, error): ...


def static_recording(path):
    with App("static", worker_concurrency=4, set_as_current=False) as app:
        app.seed_ids(0)

        @app.task
        def shaky(x):
            time.sleep(random.random() / 100)
            return {"x": x, "set": {"b", "a", "c"}}

        @app.task(bind=True)
        def parent(self, x):
            raise self.replace(chain(shaky.si(x), fail.si(x)) if x == 3 else shaky.si(x))

        @app.task(bind=True, autoretry_for=(KeyError,), default_retry_delay=0)
        def again(self, x):
            if self.request.retries < 2:
                raise KeyError(x)
            return self.request.retries

        @app.task
        def fail(x):
            raise ValueError(x)

        canvas = chord([*(shaky.s(i) for i in range(20)), again.s(1), fail.s(2)], fail.s())
        canvas.link_error(shaky.si(0))
        run = settled(submit(canvas, app=app, name="it"))
        run.record(path)
        return run


def test_equal_runs_have_equal_recordings_where_cells_are_compared(tmp_path):
    set_audience(Static())
    try:
        for name in ("one", "two", "three"):
            run = static_recording(tmp_path / name)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()
        recording = Recording.read(tmp_path / "one")
        assert shown(recording.snapshot(), clocks=False) == shown(run.snapshot(), clocks=False)
        theirs, ours = (compared(one.frame(), clocks=False) for one in (recording, run))
        pd.testing.assert_frame_equal(theirs, ours, check_dtype=False)
    finally:
        set_audience(None)


# -- files -----------------------------------------------------------------------------------------------------------


def test_writing_is_all_or_nothing(tasks, tmp_path, monkeypatch):
    run = submit(tasks.add.s(1, 1)).wait(60)
    path = tmp_path / "rün.json"
    run.record(path)
    before = path.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordingError, match="No space left"):
        run.record(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to_says_so(tasks, tmp_path):
    run = submit(tasks.add.s(1, 1)).wait(60)
    (tmp_path / "file").touch()
    for path, says in (
        (tmp_path / "nowhere" / "run.json", "there is no folder"),
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "run.json", "is a file"),
    ):
        with pytest.raises(RecordingError, match=says):
            run.record(path)


@pytest.fixture
def good(app, tasks, tmp_path):
    """A recording with a bit of everything."""

    @app.task(bind=True)
    def parent(self, x):
        tasks.add.delay(1, 1)
        self.update_state(meta={"current": 1, "total": 2})
        raise self.replace(tasks.add.si(x, x))

    @app.task(bind=True)
    def again(self):
        if not self.request.retries:
            raise self.retry(countdown=0)

    link = tasks.add.s(1, 1)
    link.link(tasks.tsum.si([1]))
    link.link_error(tasks.add.si(0, 0))
    canvas = group(parent.s(1), link, again.s(), tasks.fail.s(dt.date(2026, 1, 1)), tasks.add.map([1, 2])) | again.si()
    settled(submit(canvas, name="good", stamps={"s": [1]})).record(tmp_path / "good.json")
    return tmp_path / "good.json"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d | {"version": 2}, "version 2 of the format.*newer nbcanvas"),
        (lambda d: d | {"version": "1"}, "no version"),
        (lambda d: d | {"version": 0}, "no version"),
        (lambda d: {"cells": [], "nbformat": 4}, "no recording of nbcanvas"),
        (lambda d: [d], "no recording of nbcanvas"),
        (lambda d: 3, "no recording of nbcanvas"),
        (lambda d: {k: v for k, v in d.items() if k != "plan"}, 'it has no "plan"'),
        (lambda d: d | {"events": {}}, '"events" is no array'),
        (lambda d: d | {"results": []}, '"results" is no object'),
        (lambda d: d | {"left_out": {"results": -1}}, "left_out"),
        (lambda d: d | {"run": d["run"] | {"id": 3}}, '"id" of the run'),
        (lambda d: d | {"run": d["run"] | {"began": "now"}}, '"began"'),
        (lambda d: d | {"run": d["run"] | {"began": 10**400}}, '"began"'),
        (lambda d: d | {"run": d["run"] | {"began": 1e300}}, '"began"'),
        (lambda d: d | {"run": d["run"] | {"origin": True}}, '"origin"'),
        (lambda d: d | {"run": d["run"] | {"clocks": 1}}, '"clocks"'),
        (lambda d: d | {"plan": d["plan"] | {"root": 10_000}}, '"root"'),
        (lambda d: d | {"plan": d["plan"] | {"root": None}}, '"root"'),
        (lambda d: d | {"plan": d["plan"] | {"calls": 10**9}}, "values for 1000000000 rows"),
        (lambda d: d | {"plan": d["plan"] | {"items": {"all": -1}}}, "a count of items"),
        (lambda d: d | {"plan": d["plan"] | {"queue": {"all": []}}}, "name of a queue"),
        (lambda d: d | {"plan": d["plan"] | {"parent": {"all": 99_999}}}, "a parent"),
        (lambda d: d | {"events": [{"kind": "exploded"}]}, "no events can be"),
        (lambda d: d | {"events": [None]}, "no events can be"),
        (lambda d: d | {"events": [d["events"][0] | {"rows": [[0, 10**12]]}]}, "outside the table"),
        (lambda d: d | {"events": [d["events"][0] | {"rows": [[0, 3]] * 10**6}]}, "more numbers than there can be"),
        (lambda d: d | {"events": [d["events"][0] | {"rows": ["forged"]}]}, "no list of numbers"),
        (lambda d: d | {"events": [d["events"][0] | {"times": {"all": None}}]}, "a time"),
        (lambda d: d | {"events": [d["events"][0] | {"attempts": {"all": 1 << 50}}]}, "an attempt"),
        (lambda d: d | {"events": [d["events"][0] | {"attempts": []}]}, "0 values for"),
        (lambda d: d | {"results": d["results"] | {"rows": [99_999]}}, "outside the table"),
    ],
    ids=map(str, range(31)),
)
def test_what_is_no_recording_is_refused(good, change, says):
    document = change(json.loads(good.read_text()))
    good.write_text(json.dumps(document))
    with pytest.raises(RecordingError, match=says) as told:
        Recording.read(good)
    assert str(told.value).startswith(str(good)) and "%%canvas --record FILE" in str(told.value)


def test_files_that_are_cut_or_are_not_there(good, tmp_path):
    whole = good.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 3):
        good.write_bytes(whole[:size])
        with pytest.raises(RecordingError, match="ends too early"):
            Recording.read(good)
    good.write_bytes(whole.replace(b'"version":1', b'"version":NaN'))
    with pytest.raises(RecordingError, match="NaN is not JSON"):
        Recording.read(good)
    for path, says in ((tmp_path / "none.json", "No such file"), (tmp_path, "directory")):
        with pytest.raises(RecordingError, match=says):
            Recording.read(path)
    good.write_text("[" * 200_000)
    with pytest.raises(RecordingError, match="nested too deeply"):
        Recording.read(good)


ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1,
        7,
        10**12,
        10**400,
        1e308,
        "",
        "x",
        "\ud800",
        [],
        {},
        [[0, 5]],
        {"all": 3},
        {"__type__": "x", "__value__": 1},
    ]
)


def test_a_damaged_recording_loads_or_says_what_is_wrong(good):
    whole = json.loads(good.read_text())

    @settings(max_examples=max(150, settings().max_examples))
    @given(data=st.data())
    def damaged(data):
        document = json.loads(json.dumps(whole))
        for _ in range(data.draw(st.integers(1, 3))):
            _damage(document, data)
        good.write_text(json.dumps(document), encoding="utf-8", errors="surrogatepass")
        _loads_or_says(good)

    damaged()


def _damage(document, data):
    """Put something odd in the place of something, take it away, double it, or swap it with another."""
    holder, key = {"": document}, ""
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.integers(0, 5)):
        holder = holder[key]
        key = (
            data.draw(st.sampled_from(sorted(holder)))
            if isinstance(holder, dict)
            else data.draw(st.integers(0, len(holder) - 1))
        )
    how = data.draw(st.sampled_from(["odd", "odd", "gone", "twice", "other"]))
    if holder.get("") is document if isinstance(holder, dict) else False:
        return
    if how == "odd":
        holder[key] = copy.deepcopy(data.draw(ODD))
    elif how == "gone":
        del holder[key]
    elif isinstance(holder, list):
        other = data.draw(st.integers(0, len(holder) - 1))
        holder[key] = holder[other]
        if how == "twice":
            holder.append(holder[other])
    elif how == "other":
        holder[key] = holder[data.draw(st.sampled_from(sorted(holder)))]


def _loads_or_says(path):
    try:
        found = Recording.read(path)
    except RecordingError as refused:
        said = str(refused)
    else:
        said = None
    if said is not None:
        assert said.startswith(str(path)) and len(said) < 500
        return
    # What loads can be looked at.
    found.frame()
    repr(found)
    pictures(found)
    with contextlib.suppress(NBCanvasError, ValueError, LookupError):  # how its task failed, or that nobody knows
        found.get()


@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_byte_that_changed(byte_file, at, byte, drop):
    path, whole = byte_file
    at %= len(whole)
    path.write_bytes(whole[:at] + (b"" if drop else bytes([byte])) + whole[at + 1 :])
    _loads_or_says(path)


@pytest.fixture(scope="module")
def byte_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "run.json"
    with App("bytes", set_as_current=False) as app:
        add = app.task(lambda x, y: x + y, name="add")
        submit(group(add.s(i, i) for i in range(3)), app=app).wait(60).record(path)
    return path, path.read_bytes()


def test_recording_waits_for_nobody(app, tasks, gate):
    """It may be asked for in the thread of a worker."""
    made, told = [], threading.Event()
    run = submit(tasks.held.s(1))

    def note(ended):
        made.append(ended.record())
        told.set()

    run.add_done_callback(note)
    gate.set()
    assert told.wait(60) and made[0].get() == 1
    assert next(calls_of(made[0].root)).id == run.id


def test_a_word_of_a_megabyte_is_recorded_at_once(app):
    @app.task
    def wordy():
        raise ValueError("x" * 2_000_000)

    run = settled(submit(wordy.s(), app=app))
    assert len(json.dumps(run.record().frame()["traceback"][0])) < 20_000
