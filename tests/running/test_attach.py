"""Finding a run again: in this kernel, in another one, after a kernel was killed, and when there is nothing to find."""

from __future__ import annotations

import contextlib
import gc
import json
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbcanvas
from nbcanvas import App, StampingVisitor, chain, group, submit
from nbcanvas.errors import (
    CorruptResult,
    NBCanvasError,
    NotRegistered,
    ResultExpired,
    StillRunning,
    TimeoutError,  # noqa: A004 - Celery's name
    UnknownRun,
    WorkerLostError,
)
from nbcanvas.events.state import State
from nbcanvas.run import attach
from nbcanvas.run.attach import AttachedRun
from nbcanvas.run.audience import _Registered
from nbcanvas.run.finding import _keeper
from nbcanvas.run.run import items_of
from nbcanvas.run.stored import Kernel, Planned, dump_plan, dump_state
from tests.apps import rests
from tests.plan.recipes import build, canvases
from tests.plan.reference import Meaning
from tests.plan.simulate import name_of
from tests.plan.test_embedded import World
from tests.plan.test_resume import GOOD, calm
from tests.running.test_run import wait_until

# -- in this kernel ----------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_its_id_its_name_and_its_tasks(app, tasks, gate):
    going = submit(group(tasks.held.s(1), tasks.add.s(1, 1)), name="going")
    ended = submit(tasks.add.s(1, 1), name="ended").wait(timeout=60)
    for run in (going, ended):
        assert attach(run.id) is attach(run.id[:13]) is attach(run.name) is run
        assert all(attach(call.id) is run for call in run.snapshot().tree.calls)
    assert nbcanvas.attach is attach


def test_a_name_means_the_latest_run_of_that_name(app, tasks):
    submit(tasks.add.s(1, 1), name="twice").wait(timeout=60)
    second = submit(tasks.add.s(1, 1), name="twice")
    assert attach("twice") is second


def test_a_beginning_that_several_have_lists_them(app, tasks):
    ids = [f"abc{number}" for number in range(3)]
    runs = [submit(tasks.add.s(1, 1).set(task_id=one), name=f"run {one}") for one in ids]
    with pytest.raises(UnknownRun, match="3 runs have an id that begins with 'abc'") as several:
        attach("abc")
    assert all(one in str(several.value) for one in ids)
    assert attach("abc1") is runs[1]


@pytest.mark.parametrize("word", ["no such run", "f" * 10_000, "'; DROP TABLE x", "ü\x00"])
def test_what_is_not_there_says_what_was_looked_for_and_what_there_is(app, tasks, word):
    run = submit(tasks.add.s(1, 1), name="known").wait(timeout=60)
    with pytest.raises(UnknownRun) as unknown:
        attach(word)
    said = str(unknown.value)
    assert "among the runs of this kernel" in said
    assert f"\n  {run.id[:8]}  known" in said
    assert 'result_backend = "db+sqlite:///results.sqlite"' in said
    assert len(said) < 1500


@pytest.mark.parametrize("word", ["", None, 5, b"x"])
def test_what_cannot_be_an_id_is_refused(app, word):
    with pytest.raises(UnknownRun, match="takes a run's id, its name, or a task's id"):
        attach(word)


def test_runs_that_nobody_holds_are_forgotten_but_for_the_latest(app, tasks):
    ids = [submit(tasks.add.s(1, 1)).wait(timeout=30).id for _ in range(25)]

    def is_forgotten():
        gc.collect()
        try:
            attach(ids[0])
        except UnknownRun:
            return True
        return False

    wait_until(is_forgotten)  # the thread that told of its end may still be about to let go of it
    assert attach(ids[-1]).id == ids[-1]


def test_a_run_that_could_not_start_is_no_run(app, tasks):
    with pytest.raises(NBCanvasError):
        submit(tasks.add.s(1), name="wrong")
    with pytest.raises(UnknownRun):
        attach("wrong")


# -- from where it is kept ---------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return tmp_path / "results.sqlite"


@pytest.fixture
def kernel(file):
    """Return what makes an app, as another kernel would have it: with the same tasks, and results in the same file."""
    with contextlib.ExitStack() as stack:

        def make():
            app = stack.enter_context(App("x", backend=f"db+sqlite:///{file}", set_as_current=False))
            app.task(name="add")(lambda x, y: x + y)
            app.task(name="tsum")(sum)
            app.task(name="fail")(fail)
            app.task(name="again", bind=True)(again)
            app.task(name="instead", bind=True)(instead)
            app.task(name="steps", bind=True)(steps)
            return app

        yield make


def fail(*args):
    raise ValueError("no", *args)


def again(self, x):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return x


def instead(self, x):
    return self.replace(self.app.signature("add", (x, 1)) | self.app.signature("add", (1,)))


def steps(self, x):
    for _ in self.track(range(3)):
        pass
    self.app.signature("add", (x, x)).delay()
    return x


class Who(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"who": ["me", "you"], "stamped_headers": ["who"]}


def signer(app):
    def s(name, *args):
        return app.signature(name, args)

    s.app = app
    return s


def linked(s):
    sig = s("add", 1, 1)
    sig.link(s("add", 10))
    sig.link_error(s("fail"))
    return group(sig, s("fail", 3), app=s.app)


def stamped(s):
    sig = group(s("add", 1, 1), s("add", 2, 2), app=s.app)
    sig.stamp(Who())
    return sig


def deep(s, depth):
    sig = s("add", 1, 1)
    for _ in range(depth):
        sig = chain(group(sig, s("add", 1, 1), app=s.app), s("tsum"), app=s.app)
    return sig


CANVASES = {
    "a task": lambda s: s("add", 1, 1),
    "a chord": lambda s: chain(group(*(s("add", i, i) for i in range(10)), app=s.app), s("tsum"), app=s.app),
    "a failing chord": lambda s: chain(group(s("fail", 1), s("add", 1, 1), app=s.app), s("tsum"), app=s.app),
    "a failing chain": lambda s: chain(s("add", 1, 1), s("fail", 2), s("add", 3), app=s.app),
    "retries": lambda s: group(s("again", 1), s("again", 2), app=s.app),
    "replaced": lambda s: chain(s("instead", 1), s("add", 5), app=s.app),
    "links": linked,
    "track and delay": lambda s: group(s("steps", 1), s("steps", 2), app=s.app),
    "stamps": stamped,
    "a deep one": lambda s: deep(s, 300),
    "a long one": lambda s: chain(s("add", 1, 1), *(s("add", 1) for _ in range(300)), app=s.app),
    "nothing": lambda s: group([], app=s.app),
}


def settle(run):
    """Wait until a run has ended with all that belongs to it, and is kept."""
    run.wait(timeout=60)
    wait_until(lambda: run.snapshot().done and rests(run.app), timeout=60)
    wait_until(lambda: kept_state(run) == run.snapshot().version and kept_end(run) is not None, timeout=60)


def kept_state(run):
    """Return the version of what is kept of a run; of one that is no longer listened to, the last there was."""
    kept = _keeper._kept.get(id(run))
    version = run.snapshot().version if kept is None else kept.version  # it says so before it is written
    assert run.app.backend.flush(60)
    return version


def kept_end(run):
    """Return when it ended, as it is kept: what is kept may be as of the moment before."""
    return run.app.backend.runs.look(run.id).finished


def facts(state):
    """Return what a State knows, to be compared with another kernel's: nodes by their form, errors by their text."""
    return [
        (*event[:4], dump_plan(Planned(event.data[0], None, "")) if event.kind == "grafted" else repr(event.data))
        for event in state.events()
    ]


@pytest.mark.parametrize("what", CANVASES)
def test_another_kernel_finds_the_same_run(kernel, what):
    here = kernel()
    run = submit(CANVASES[what](signer(here)), app=here, name="total")
    settle(run)
    found = attach(run.id[:20], app=kernel())
    assert type(found) is AttachedRun
    assert (found.id, found.name, found.canvas, len(found)) == (run.id, run.name, run.canvas, len(run))
    assert (found.started, found.finished, found.state, found.done) == (run.started, run.finished, run.state, True)
    assert facts(found.snapshot()) == facts(run.snapshot())
    theirs, ours = found.frame(clocks=True), run.frame(clocks=True)
    for name in ("error", "result", "args"):  # exceptions are not equal; what JSON brings back is a list
        theirs[name], ours[name] = theirs[name].map(repr), ours[name].map(repr)
    pd.testing.assert_frame_equal(theirs, ours, check_categorical=False)
    assert found.lost is None
    assert repr(found.why(clocks=False)) == repr(run.why(clocks=False))
    assert str(found.bars()) == str(run.bars())
    assert [(one.path, list(one.args), one.kwargs, one.traceback) for one in found.failed] == [
        (one.path, list(one.args), one.kwargs, one.traceback) for one in run.failed
    ]
    try:
        value = run.get(timeout=60)
    except Exception as error:
        with pytest.raises(type(error)):
            found.get(timeout=60)
    else:
        assert found.get(timeout=30) == value


class Kept(World):
    """A world whose results are kept."""

    def __init__(self, url):
        super().__init__()
        self.url = url
        self.app.conf.result_backend = url

    def settle(self, run):
        run.wait(timeout=60)
        wait_until(lambda: self._rests(0), timeout=60)
        settle(run)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = Kept(f"db+sqlite:///{tmp_path_factory.mktemp('world')}/results.sqlite")
    yield world
    world.app.close()


@settings(max_examples=max(20, settings().max_examples // 2))
@given(canvases(3))
def test_any_canvas_is_found_as_it_was(world, recipe):
    world.clear()
    run = submit(build(recipe), app=world.app)
    world.settle(run)
    with App("other", backend=world.url, set_as_current=False) as other:
        found = attach(run.id, app=other)
        state = run.snapshot()
        assert found.done
        assert facts(found.snapshot()) == facts(state)
        for call in state.tree.calls:
            if state.state(state.index_of(call.id)) == "SUCCESS":
                assert found.value_of(call) == run.value_of(call)


@pytest.fixture(scope="module")
def two_worlds(world):
    """Return a world, another one that keeps results in the same place, and a process that is gone."""
    other = Kept(world.url)
    gone = subprocess.Popen(["true"])
    gone.wait()
    yield world, other, str(Kernel.here()._replace(pid=gone.pid))
    other.app.close()


@settings(max_examples=max(20, settings().max_examples // 2))
@given(canvases(4, GOOD).map(calm), st.floats(0, 1))
def test_a_kernel_that_is_killed_at_any_moment_is_made_good(two_worlds, recipe, moment):
    first, second, gone = two_worlds
    first.clear()
    second.clear()
    canvas = build(recipe)
    meaning = Meaning(json.loads(json.dumps(canvas)))
    run = submit(canvas, app=first.app)
    first.settle(run)
    # What would be kept had it been killed then.
    events = sorted(run.snapshot().events(), key=lambda event: event.time)
    known = State.of(run.root, run.started, items_of).apply(events[: int(len(events) * moment)])
    calls = known.tree.calls
    had = {calls[i].id: calls[i] for i in range(len(calls)) if known.state(i) == "SUCCESS"}
    file = first.url.partition(":///")[2]
    change(
        file,
        "UPDATE nbcanvas_run SET state = ?, finished = NULL, kernel = ? WHERE id = ?",
        dump_state(known, first.app),
        gone,
        run.id,
    )
    change(file, f"DELETE FROM celery_taskmeta WHERE task_id NOT IN ({','.join('?' * len(had))})", *had)
    found = attach(run.id, app=second.app)
    assert found.counts.get("SUCCESS", 0) == len(had)
    assert found.lost or found.snapshot().done
    if found.lost:
        found = found.rerun()
    assert found.get(timeout=30) == meaning.end.what
    second.settle(found)
    ran = {tag for tag, _ in second.runs}
    assert not ran & {name_of(call) for call in had.values() if call.task == "work"}, "a task that succeeded ran again"


def test_attaching_again_gives_the_same_object(kernel):
    run = submit(kernel().signature("add", (1, 1)), name="total")
    settle(run)
    app = kernel()
    found = attach("total", app=app)
    assert attach(run.id, app=app) is found


def test_a_run_that_was_forgotten_here_is_found_where_it_is_kept(kernel):
    app = kernel()
    ids = [submit(app.signature("add", (1, 1)), app=app).wait(timeout=30).id for _ in range(25)]
    app.backend.flush(60)
    wait_until(lambda: gc.collect() is not None and type(attach(ids[0], app=app)) is AttachedRun, timeout=60)
    assert attach(ids[0], app=app).get(timeout=30) == 2


def test_a_task_that_was_added_on_the_way_leads_to_its_run(kernel):
    here = kernel()
    run = submit(CANVASES["replaced"](signer(here)), app=here)
    settle(run)
    grafted = run.snapshot().tree.calls[-1].id
    assert grafted not in {call.id for call in run.root.steps}
    assert attach(grafted, app=kernel()).id == run.id


def test_what_is_kept_nowhere_says_where_was_looked(kernel, file):
    here = kernel()
    run = submit(here.signature("add", (1, 1)), app=here, name="total")
    alone = here.signature("add", (2, 2)).apply_async()
    assert alone.get(timeout=30) == 4
    settle(run)
    with pytest.raises(UnknownRun, match=f"and in sqlite:///{file}") as unknown:
        attach("nothing", app=kernel())
    assert f"\n  {run.id[:8]}  total" in str(unknown.value)
    assert "expired" in str(unknown.value)
    with pytest.raises(UnknownRun, match=r"that task was sent with delay\(\).*submit\(sig\) makes a Run"):
        attach(alone.id, app=kernel())
    with pytest.raises(UnknownRun, match=r"did you mean 'total'\?"):
        attach("totl", app=kernel())


# -- bad input ---------------------------------------------------------------------------------------------------------


def change(file, statement, *values):
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


@pytest.fixture
def kept(kernel):
    """Return the id of a run that has ended and is kept."""
    app = kernel()
    run = submit(CANVASES["a chord"](signer(app)), app=app, name="total")
    settle(run)
    wait_until(lambda: run.app.backend.flush(60))
    return run.id


@pytest.mark.parametrize("column", ["plan", "state"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"{}",
        pickle.dumps(5),
        pickle.dumps((1, 2, 3)),
        pickle.dumps(([(0,)], None, "")),
        None,
        b"\x80\x05.",
    ],
    ids=repr,
)
def test_what_is_damaged_says_so(kernel, kept, file, column, data):
    change(file, f'UPDATE nbcanvas_run SET "{column}" = ?', data)
    with pytest.raises(CorruptResult, match=f"the {column} of the run {kept} cannot be read"):
        attach(kept, app=kernel())


def test_what_a_newer_version_kept_says_so(kernel, kept, file):
    change(file, "UPDATE nbcanvas_run SET version = 2")
    with pytest.raises(
        CorruptResult, match=r"kept by a newer nbcanvas .form 2, this one reads up to 1.: update nbcanvas"
    ):
        attach(kept, app=kernel())


def test_a_damaged_run_does_not_hide_the_others(kernel, kept, file):
    change(file, "INSERT INTO nbcanvas_run (id, started, seen, version) VALUES ('bad', 9e9, 9e9, 1)")
    run = attach("total", app=kernel())
    assert run.get(timeout=30) == 90
    assert attach(run.root.steps[1].id, app=kernel()).id == kept


def test_when_values_have_expired_the_rest_is_still_told(kernel, kept, file):
    change(file, "DELETE FROM celery_taskmeta")
    run = attach(kept, app=kernel())
    assert run.done
    assert run.counts == {"SUCCESS": 11}
    assert run.wait(timeout=30) is run
    assert run.frame(clocks=True).runtime.notna().all()
    with pytest.raises(ResultExpired, match=r"has expired .result_expires.; rerun.. makes it again"):
        run.get(timeout=60)
    assert run.rerun().get(timeout=30) == 90


def test_when_the_run_has_expired_it_is_unknown(kernel, kept):
    app = kernel()
    app.conf.result_expires = 0.001
    time.sleep(0.01)
    app.backend.cleanup()
    with pytest.raises(UnknownRun, match="expired"):
        attach(kept, app=app)


# -- real kernels ------------------------------------------------------------------------------------------------------

KERNEL = """
    import os, sys, time
    from pathlib import Path
    from nbcanvas import App, chain, group, submit
    from nbcanvas.run import attach

    here = Path(sys.argv[1])
    app = App("x", backend=f"db+sqlite:///{here}/results.sqlite", worker_concurrency=4)

    @app.task(name="work")
    def work(n, bad=()):
        with open(here / "log", "a") as log:
            log.write(f"{n}\\n")
        while n >= 8 and not (here / "gate").exists():
            time.sleep(0.01)
        if n in bad and not (here / "mended").exists():
            raise ValueError(n)
        return n

    @app.task(name="tsum")
    def tsum(numbers):
        return sum(numbers)
"""


class Kernels:
    """Processes that share a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, program):
        code = textwrap.dedent(KERNEL) + textwrap.dedent(program)
        kernel = subprocess.Popen(
            [sys.executable, "-c", code, str(self.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.running.append(kernel)
        return kernel

    def run(self, program):
        kernel = self.start(program)
        said, errors = kernel.communicate(timeout=60)
        assert kernel.returncode == 0, errors
        return said

    def open(self, name):
        (self.folder / name).touch()

    @property
    def log(self):
        return Counter((self.folder / "log").read_text().split())

    def kept(self):
        with contextlib.closing(sqlite3.connect(self.folder / "results.sqlite")) as connection:
            return connection.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'").fetchone()[0]


@pytest.fixture
def kernels(tmp_path):
    found = Kernels(tmp_path)
    yield found
    for kernel in found.running:
        kernel.kill()
        kernel.communicate()


HELD = """
    run = submit(chain(group(*(work.s(n) for n in range(20))), tsum.s()), name="total")
    print(run.id, flush=True)
    run.wait()
    run.frame(clocks=True).to_pickle(here / "frame.pickle")
    print(run.get())
"""


def other_app(kernels):
    """Return an app in this process, as a kernel that knows the tasks."""
    app = App("x", backend=f"db+sqlite:///{kernels.folder}/results.sqlite", set_as_current=False)

    @app.task(name="work")
    def work(n, bad=()):
        with (kernels.folder / "log").open("a") as log:
            log.write(f"{n}\n")
        return n

    app.task(name="tsum")(sum)
    return app


def test_a_kernel_is_killed_and_another_one_completes_its_run(kernels):
    first = kernels.start(HELD)
    run_id = first.stdout.readline().strip()
    wait_until(lambda: kernels.kept() == 8, timeout=60)
    first.kill()
    first.wait()
    with other_app(kernels) as app:
        run = attach("total", app=app)
        assert run.id == run_id
        assert not run.done
        assert run.counts["SUCCESS"] == 8
        assert sum(run.counts.values()) == 21
        assert f"process {first.pid} on" in run.lost
        assert run.frame().state.value_counts()["SUCCESS"] == 8
        assert "is gone since" in repr(run.why())
        for wait in (run.wait, run.get):
            with pytest.raises(WorkerLostError, match=r"is gone since .* 13 of 21 tasks have not ended; rerun"):
                wait(timeout=60)
        assert repr(run).startswith("<Run total: lost, ")
        with pytest.raises(NBCanvasError, match=r"is gone since .* nothing runs that could be cancelled, rerun\(\)"):
            run.cancel()
        before = kernels.log
        again = run.rerun()
        assert again.get(timeout=30) == sum(range(20))
        assert again.counts == {"SUCCESS": 21}
        ran = kernels.log - before
        assert sorted(map(int, ran)) == list(range(8, 20))
        assert set(ran.values()) == {1}
        app.backend.flush(60)
    assert kernels.run(f"print(attach({again.id!r}).get(timeout=30))") == f"{sum(range(20))}\n"


def test_another_kernel_follows_a_run_to_its_end(kernels):
    first = kernels.start(HELD)
    run_id = first.stdout.readline().strip()
    wait_until(lambda: kernels.kept() == 8, timeout=60)
    with other_app(kernels) as app:
        run = attach(run_id, app=app)
        wait_until(lambda: run.counts.get("STARTED") == 4, timeout=60)
        assert (run.counts["SUCCESS"], run.done, run.lost) == (8, False, None)
        with pytest.raises(TimeoutError, match="13 of 21 tasks have not ended"):
            run.wait(timeout=0.01)
        with pytest.raises(NBCanvasError, match=f"process {first.pid} on .* runs it: cancel it there"):
            run.cancel()
        with pytest.raises(StillRunning):
            run.rerun()
        told = threading.Event()
        run.add_done_callback(lambda _: told.set())
        kernels.open("gate")
        assert run.get(timeout=30) == sum(range(20))
        assert run.wait(timeout=30).counts == {"SUCCESS": 21}
        assert told.wait(60)
        assert first.communicate(timeout=30)[0] == f"{sum(range(20))}\n"
        found = attach(run_id, app=other_app(kernels)).frame(clocks=True)
        pd.testing.assert_frame_equal(found, pd.read_pickle(kernels.folder / "frame.pickle"), check_categorical=False)


def test_what_failed_yesterday_runs_today(kernels):
    kernels.open("gate")
    said = kernels.run("""
        run = submit(chain(group(*(work.s(n, bad=[3, 12]) for n in range(20))), tsum.s()), name="total")
        print(run.wait(timeout=30).id)
    """)
    kernels.open("mended")
    said = kernels.run(f"""
        run = attach({said.strip()!r})
        print(run.counts["FAILURE"], [failure.path for failure in run.failed])
        try:
            run.get(timeout=60)
        except Exception as error:
            print(type(error).__name__)
        print(run.rerun().get(timeout=30))
    """)
    assert said == f"3 ['chord.header[3]', 'chord.header[12]']\nChordError\n{sum(range(20))}\n"
    assert kernels.log == Counter({**{str(n): 1 for n in range(20)}, "3": 2, "12": 2})


@pytest.fixture
def lost(kernels):
    """Return the name of a run whose kernel was killed, and the process."""
    first = kernels.start(HELD)
    first.stdout.readline()
    wait_until(lambda: kernels.kept() == 8, timeout=60)
    first.kill()
    first.wait()
    return "total", first.pid


class Static:
    """An audience that is not to see times."""

    tells_clocks = False


def test_a_lost_run_is_shown_as_of_the_moment_it_was_heard_of(kernels, lost, monkeypatch):
    name, pid = lost
    with other_app(kernels) as app:
        run = attach(name, app=app)
        said = str(run.bars())
        summary, remark = said.split("\n")[-2:]
        assert summary.startswith("? lost · 8 of 21 tasks · ")
        assert "left" not in summary
        assert remark.startswith(f"⚠ its kernel (process {pid} on ")
        assert remark.endswith("; rerun() runs what is missing")
        assert "⚠ its kernel (process" in run.bars().html
        assert "running" not in run.bars().alt
        assert run._now >= run.frame(clocks=True).finished.max().timestamp()
        time.sleep(0.2)
        assert run.bars() == attach(name, app=app).bars()
        assert str(run.bars()) == said
        assert run.timeline() == run.timeline()
        monkeypatch.setattr(_Registered, "audience", Static())
        assert str(run.bars()).split("\n")[-2:] == [
            "? lost · 8 of 21 tasks",
            "⚠ its kernel is gone; rerun() runs what is missing",
        ]


def test_the_timeline_of_a_lost_run_adds_up(kernels, lost):
    change(kernels.folder / "results.sqlite", "UPDATE nbcanvas_run SET state = ?", pickle.dumps(([], {})))
    with other_app(kernels) as app:
        assert "nobody knows when (8 succeeded, 13 waiting)" in str(attach(lost[0], app=app).timeline())


def test_what_is_not_defined_here_is_said_before_anything_runs_again(kernels, lost):
    name, _ = lost
    with App("x", backend=f"db+sqlite:///{kernels.folder}/results.sqlite", set_as_current=False) as app:
        run = attach(name, app=app)
        with pytest.raises(NotRegistered) as missing:
            run.rerun()
        assert str(missing.value) == (
            "no task named 'work' is registered; 12 calls need it, and 'tsum' is missing, too: "
            "run its cell, or import its module, then rerun()"
        )
        assert [line.id for line in app.backend.runs.lines()] == [run.id]
        app.task(name="work")(lambda n, bad=(): n)
        with pytest.raises(NotRegistered, match="'tsum' is registered; 1 call needs it:"):
            run.rerun()
        app.task(name="tsum")(sum)
        assert run.rerun().get(timeout=30) == sum(range(20))
