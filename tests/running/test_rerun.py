"""``run.rerun()``: only what failed or never ran, and what depends on it (shared/TOUR, section 4)."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcanvas import attach, chain, chord, group, submit
from nbcanvas.app import App
from nbcanvas.errors import (
    ChordError,
    Ignore,
    InvalidTaskError,
    NBCanvasError,
    Reject,
    StillRunning,
    TaskRevokedError,
)
from nbcanvas.picture.bars import bars_model
from tests.apps import rests
from tests.plan.recipes import build, canvases
from tests.plan.reference import Meaning, symbol
from tests.plan.simulate import Boom, name_of
from tests.plan.test_embedded import World
from tests.plan.test_resume import GOOD, calm, succeeded
from tests.running.test_run import wait_until

FEW = settings(max_examples=2 * settings().max_examples)


# -- until done ----------------------------------------------------------------------------------------------------


class Flaky(World):
    """A world whose tasks fail by chance.

    Attributes
    ----------
    chance
        How likely that is.
    successes
        (the run's id, tag, value): how often tasks returned.
    """

    def __init__(self):
        self.chance = 0.0
        self.random = random.Random()
        self.successes = Counter()
        super().__init__()

    def clear(self):
        super().clear()
        self.successes.clear()

    def _work(self, task, *args, tag, do, more=None):
        if self.random.random() < self.chance:
            wrong = [Boom(tag), Boom(tag), Ignore(), Reject("no", requeue=False), None]
            raise self.random.choice(wrong) or task.retry(countdown=0)
        value = super()._work(task, *args, tag=tag, do=do, more=more)
        with self.lock:
            self.successes[task.request.root_id, tag, symbol(tag, [self.shown(value) for value in args], more)] += 1
        return value

    def _item(self, *item):
        if self.random.random() < self.chance:
            raise Boom("item")
        return super()._item(*item)


@pytest.fixture(scope="module")
def world():
    world = Flaky()
    yield world
    world.app.close()


@FEW
@given(
    recipe=st.one_of(canvases(5, GOOD), canvases(3, GOOD)).map(calm),
    chances=st.lists(st.sampled_from([0.05, 0.3, 0.6]), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    cancelled=st.sampled_from([False] * 4 + [True]),
)
def test_rerun_until_done_means_what_a_run_without_failures_means(world, recipe, chances, seed, cancelled):
    world.clear()
    world.random.seed(seed)
    canvas = build(recipe)
    meaning = Meaning(json.loads(json.dumps(canvas)))
    world.chance = chances[0]
    run = submit(canvas, app=world.app)
    if cancelled:
        run.cancel()
    runs = {run.id}
    for chance in (*chances[1:], 0.0):
        ended(run)
        world.chance = chance
        run = run.rerun()
        runs.add(run.id)
    assert run.get(60) == meaning.end.what
    state = ended(run).snapshot()
    assert state.done and set(state.counts) <= {"SUCCESS"} and run.state == "SUCCESS"
    rows = [row for row in state.order if state.awake(row)]
    assert Counter(name_of(state.call(row)) for row in rows if state.call(row).task != "celery.accumulate") == Counter(
        name for name, _, _ in meaning.ends.elements() if name != "celery.accumulate"
    )
    wanted = Counter({key: n for key, n in succeeded(meaning).items() if not key[0].startswith("celery.")})
    tags = {tag for tag, _ in wanted}
    found = Counter((tag, value) for root, tag, value in world.successes.elements() if root in runs and tag in tags)
    assert found == wanted, "a task that succeeded ran twice, or one never ran"
    assert len(run.frame(clocks=False)) == len(rows)


# -- one at a time ---------------------------------------------------------------------------------------------------


@pytest.fixture
def flaky(app):
    """Return a task that fails for the values in its ``bad``, and how often it ran for which value."""

    @app.task(name="flaky")
    def flaky(x, *_):
        ran[x] += 1
        if x in bad:
            raise ValueError(f"no {x}")
        return x

    bad, ran = set(), Counter()
    flaky.bad, flaky.ran = bad, ran
    return flaky


def ended(run):
    """Wait until a run, and everything that hangs on it, has ended."""
    wait_until(lambda: run.wait(60).snapshot().done and rests(run.app), 60)
    return run


def states_of(run):
    state = run.snapshot()
    return {state.calls[row].path: state.state(row) for row in state.order if state.awake(row)}


def test_fix_the_bug_run_the_cell_rerun(app, tasks, flaky):
    flaky.bad |= {3, 7}
    run = submit(group(flaky.s(i) for i in range(10)) | tasks.tsum.s(), name="total")
    with pytest.raises(ChordError):
        run.get(timeout=30)
    before = ended(run).snapshot()
    known = app.tasks["flaky"].version

    @app.task(name="flaky")
    def fixed(x):
        fixes.append(x)
        return x * 100

    fixes = []
    again = run.rerun()
    assert again is not run and again.get(timeout=30) == 35 + 300 + 700
    assert sorted(fixes) == [3, 7] and set(flaky.ran.values()) == {1}
    state = ended(again).snapshot()
    assert {state.state(row) for row in state.order} == {"SUCCESS"} and len(again) == 11
    for row in range(10):
        call, old = state.call(row), before.call(row)
        same = (state.sent, state.started, state.finished, state.worker)
        kept = row not in (3, 7)
        assert (call.id == old.id) is kept
        assert call.version == (known if kept else fixed.version)
        if kept:
            theirs = (before.sent, before.started, before.finished, before.worker)
            assert [get(row) for get in same] == [get(row) for get in theirs]
    assert before == run.snapshot() and run.state == "FAILURE", "the run itself is as it was"
    frame = again.frame()
    assert list(frame["result"])[:4] == [0, 1, 2, 300] and set(frame["root_id"]) == {again.id}
    assert frame["group_id"].nunique() == 1


def test_a_rerun_of_what_has_all_is_done_at_once(tasks):
    for canvas in (tasks.add.s(1, 1), chain(tasks.add.s(1, 1), tasks.add.s(1)), group([tasks.add.s(1, 1)]), group([])):
        run = submit(canvas).wait(60)
        value = run.get(timeout=30)
        again = run.rerun()
        assert again.done and again.finished is not None and again.state == "SUCCESS"
        assert again.get(timeout=1) == value and len(again) == len(run)
        told = []
        again.add_done_callback(told.append)
        assert told == [again] and again.rerun().get(timeout=1) == value
        assert again.id != run.id


def test_a_rerun_of_a_rerun(tasks, flaky):
    flaky.bad |= {1, 2}
    run = submit(chord([flaky.s(i) for i in range(4)], tasks.tsum.s()))
    run = run.wait(60).rerun().wait(60)
    assert run.state == "FAILURE"
    flaky.bad.remove(1)
    run = run.rerun().wait(60)
    flaky.bad.clear()
    assert run.rerun().get(timeout=30) == 6
    assert flaky.ran == {0: 1, 1: 3, 2: 4, 3: 1}


def test_a_run_that_has_not_ended(tasks, gate):
    run = submit(group(tasks.held.s(i) for i in range(3)), name="slow")
    with pytest.raises(
        StillRunning, match=r"slow still runs, 3 of 3 tasks have not ended: slow.wait\(\) or slow.cancel"
    ):
        run.rerun()
    one = submit(tasks.held.s())
    with pytest.raises(NBCanvasError, match=r"the run still runs, its task has not ended") as told:
        one.rerun()
    said = f'nbcanvas.attach("{one.id[:8]}")'
    assert f"{said}.wait() or {said}.cancel() first, then {said}.rerun()" in str(told.value)
    assert attach(one.id[:8]) is one
    gate.set()
    assert run.wait(60).rerun().get(timeout=30) == [0, 1, 2]


def test_a_cancelled_run(tasks, gate):
    run = submit(chain(tasks.add.s(1, 1), tasks.held.s(), tasks.add.s(1)))
    wait_until(lambda: run.counts.get("STARTED"))
    run.cancel()
    gate.set()
    with pytest.raises(TaskRevokedError):
        run.wait(60).get()
    assert run.state == "REVOKED"
    again = run.rerun()
    assert again.get(timeout=30) == 3 and run.root.steps[0].id == again.root.steps[0].id
    before = submit(group(tasks.add.s(i, i) for i in range(100)) | tasks.tsum.s())
    before.cancel()
    assert before.wait(60).rerun().get(timeout=30) == 9900


def test_pinned_ids_partials_and_stamps(app, tasks, flaky):
    flaky.bad.add(2)
    canvas = chain(tasks.add.s(1), flaky.s()).clone(args=(1,))
    pinned = canvas.freeze()
    run = submit(canvas, stamps={"experiment": 42}).wait(60)
    assert pinned.state == "FAILURE"
    flaky.bad.clear()
    again = run.rerun()
    assert again.get(timeout=30) == 2
    assert again.result.id != pinned.id and again.result.parent.id == pinned.parent.id
    assert list(again.frame()["experiment"]) == [42, 42]


def test_values_that_are_gone(app, flaky):
    ran = Counter()

    @app.task(name="silent", ignore_result=True)
    def silent(x):
        ran["silent"] += 1
        return x + 1

    flaky.bad.add(2)
    run = submit(silent.s(1) | flaky.s()).wait(60)
    flaky.bad.clear()
    assert run.rerun().get(timeout=30) == 2 and ran["silent"] == 2
    # Nobody takes it:
    flaky.bad.add(5)
    run = submit(silent.s(1) | flaky.si(5)).wait(60)
    flaky.bad.clear()
    assert run.rerun().get(timeout=30) == 5 and ran["silent"] == 3
    # It is the value of the whole, and was never kept:
    run = submit(flaky.s(6) | silent.s()).wait(60)
    assert run.rerun().get(timeout=30) is None and ran["silent"] == 4
    # Forgotten, and asked for:
    run = submit(group(flaky.s(7), flaky.s(8))).wait(60)
    run.result[0].forget()
    assert run.rerun().get(timeout=30) == [7, 8] and flaky.ran[7] == 2 and flaky.ran[8] == 1
    # Forgotten, and needed by nobody:
    run = submit(flaky.s(9) | flaky.s(0)).wait(60)
    run.result.parent.forget()
    again = run.rerun()
    assert again.done and again.get(timeout=30) == 9 and flaky.ran[9] == 2


def test_links_and_errbacks(app, tasks, flaky):
    heard = []

    @app.task(name="heard")
    def told(request, exc, traceback):
        heard.append(str(exc))

    flaky.bad |= {2, 9}
    first = tasks.add.s(1, 1)
    first.link(flaky.s())
    run = ended(submit(chain(first, flaky.si(9).on_error(told.s()))))
    assert heard == ["no 9"]
    assert states_of(run)["chain[0].link[0]"] == "FAILURE"
    flaky.bad.remove(2)
    run = ended(run.rerun())
    assert states_of(run)["chain[0].link[0]"] == "SUCCESS" and heard == ["no 9", "no 9"]
    flaky.bad.clear()
    run = ended(run.rerun())
    assert run.get(timeout=30) == 9 and len(heard) == 2
    assert flaky.ran == {2: 2, 9: 3}
    assert states_of(run) == {"chain[0]": "SUCCESS", "chain[0].link[0]": "SUCCESS", "chain[1]": "SUCCESS"}


def test_a_link_that_is_still_under_way_stays_with_its_run(tasks, gate):
    first = tasks.add.s(1, 1)
    first.link(tasks.held.s())
    run = submit(first).wait(60)
    again = run.rerun()
    assert again.done and again.snapshot().done and len(again.snapshot()) == 1
    gate.set()
    assert states_of(ended(run)) == {"": "SUCCESS", "link[0]": "SUCCESS"}


@pytest.mark.parametrize("broken", ["inside", "behind", "both"])
def test_what_replaced_a_task_goes_on(app, tasks, flaky, broken):
    ran = []

    @app.task(name="chooses", bind=True)
    def chooses(self, x):
        ran.append(x)
        return self.replace(group(flaky.s(10 + i) for i in range(3)) | tasks.tsum.s())

    flaky.bad |= {"inside": {11}, "behind": {33}, "both": {11, 33}}[broken]
    run = ended(submit(chain(flaky.s(1), chooses.s(), flaky.s())))
    if broken == "both":
        flaky.bad.remove(11)
        run = ended(run.rerun())
    flaky.bad.clear()
    again = ended(run.rerun())
    assert again.get(timeout=30) == 33
    assert ran == [1], "it had done its work"
    assert {x: n for x, n in flaky.ran.items() if n > 1}.keys() == {"inside": {11}, "behind": {33}, "both": {11, 33}}[
        broken
    ]
    paths = states_of(again)
    assert set(paths.values()) == {"SUCCESS"} and paths.keys() == states_of(run).keys() and len(paths) == 6
    assert again.rerun().done


def test_what_replaced_a_task_and_did_nothing_is_chosen_anew(app, flaky):
    @app.task(name="chooses", bind=True)
    def chooses(self):
        return self.replace(flaky.s(1))

    flaky.bad.add(1)
    run = ended(submit(chooses.s()))

    @app.task(name="chooses", bind=True)
    def chooses_better(self):
        return self.replace(flaky.s(2))

    assert run.rerun().get(timeout=30) == 2 and flaky.ran == {1: 1, 2: 1}


def test_what_a_task_started_by_itself(app, flaky):
    @app.task(name="starts")
    def starts(fails):
        started.append((flaky.s(1) | flaky.s()).delay())
        if fails and len(started) == 1:
            raise ValueError("no")
        return "started"

    started = []
    flaky.bad.add(1)
    run = ended(submit(starts.s(False)))
    flaky.bad.clear()
    again = ended(run.rerun())
    assert len(started) == 1 and flaky.ran == {1: 3}
    assert states_of(again) == {"": "SUCCESS", "child[0].chain[0]": "SUCCESS", "child[0].chain[1]": "SUCCESS"}
    # One that fails starts it anew.
    started.clear()
    run = ended(submit(starts.s(True)))
    assert len(started) == 1 and len(states_of(run)) == 3
    again = ended(run.rerun())
    assert len(started) == 2 and len(states_of(again)) == 3


def test_code_that_takes_other_arguments_is_refused_before_anything_is_sent(app, flaky):
    flaky.bad.add(1)
    run = submit(flaky.s(1)).wait(60)

    @app.task(name="flaky")
    def flaky_now():
        return None

    with pytest.raises(InvalidTaskError, match="flaky"):
        run.rerun()
    assert run.state == "FAILURE"


def test_many_at_once(tasks, flaky):
    """Reruns of one run know nothing of each other."""
    flaky.bad.add(1)
    run = submit(group(flaky.s(i) for i in range(3)) | tasks.tsum.s()).wait(60)
    flaky.bad.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(run.rerun().get(timeout=30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [3] * 8 and flaky.ran == {0: 1, 1: 9, 2: 1}


def test_long_and_wide(tasks, flaky):
    flaky.bad |= {5_000}
    for canvas, size in (
        (chain(flaky.si(i) for i in range(10_000)), 10_000),
        (group(flaky.s(i) for i in range(10_000)), 10_000),
    ):
        flaky.ran.clear()
        flaky.bad.add(5_000)
        run = submit(canvas).wait(60)
        flaky.bad.clear()
        again = run.rerun().wait(60)
        assert again.counts == {"SUCCESS": size} and sum(flaky.ran.values()) == size + 1


def test_a_rerun_counts_only_what_it_runs_itself():
    app = App("rates")
    works = []

    @app.task
    def work(x):
        if x == 3 and not works:
            raise ValueError(x)
        return x

    run = submit(group(work.s(x) for x in range(50))).wait(60)
    works.append(True)
    again = run.rerun().wait(60)
    assert again.snapshot().kept == 49
    model = bars_model(again.snapshot(), time.time())
    assert model.done == 50
    assert (model.kept, model.rate, model.left) == (49, None, None)  # one task tells nothing of a rate
    app.close()
