"""Random canvases, run by real Celery on a real Redis and by the embedded worker, from the same JSON.

Compared: the value, how the whole ended and whether that was a ChordError, the state of every task of the result tree
by its position, and which task ran how often with which arguments.

Where nbcanvas differs from Celery 5.7 on purpose (these shapes are drawn around, and `Meaning` has our rule):

* A chain that ends in a group, as a member of a chord's header, gives one list; Celery puts the group's values into
  the header's list one by one, or waits for ever.
* A chord's failure names the first failed member in call order; Celery's the first in time.
* What stands behind something revoked, ignored or rejected ends as REVOKED; in Celery it stays PENDING for ever.
* Every later step of a failed chain ends as FAILURE; in Celery those between may stay PENDING.
* What stands behind a failed chord, more than one step away, ends as FAILURE with the same ChordError; in Celery it
  stays PENDING, and asking for it by id hangs.
* Everything in a chord that is the body of a failed chord ends; in Celery only what is its first task.
* The parent of what follows a chord's body is the body; Celery's result tree goes from there to the header at once
  (so that trees are compared of canvases without chords, and of those with chords the whole's state).
* Errbacks are told once each; in Celery those of nested chords are missing or told twice in many shapes
  (celery #3709, #8211, #8786).
* Empty headers and bodies, and what holds no task, mean something; in Celery they are refused, or lose the chain.
* A chain of nothing but a group hands on what it is given, wherever it stands; in Celery it drops it as a chord's body
  or as a member of a group.
* A chord in a group that a header's member ends in counts for that header; in Celery its body counts for the group, and
  what is behind the header waits for ever, or starts without a value that is late.
* Chunks in a chain or a header are their group of starmaps; in Celery they are one task that starts others.
* A retry is recorded before it is sent. Celery sends it first, so that with a pool of threads RETRY can overwrite the
  next attempt's SUCCESS, and whoever asks waits for ever; the worker here runs one task at a time, not to meet that.
* Values of groups in groups, and in headers, are in call order; Celery turns those of the inner one round.
* A group of one gives a list of one; Celery's client gives the member's own list, when that ends in a group.
* What replaces a stamped task has its stamps; Celery's worker sends a replacement without any.
* Callbacks linked to a group or a chain by an option reach the same task wherever it stands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, event, example, given, seed, settings
from hypothesis import strategies as st

pytest.importorskip("celery")

from tests.cluster.drawn import chosen, ends_in_a_group, plain_enough
from tests.plan.recipes import build, canvases
from tests.plan.reference import Group, Meaning, steps_of
from tests.plan.replacements import FAIL, IN_PLACE, OK
from tests.plan.test_embedded import World
from tests.servers import Redis, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
EXAMPLES = settings(
    max_examples=60 if settings().max_examples >= 500 else 15,
    suppress_health_check=[HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)  # each example takes real time: no shrinking
ENDS = st.one_of(
    *[st.sampled_from([("ok",)] * 6 + [("fail",), ("retry", 1, "ok"), ("retry", 1, "fail")])] * 2,
    st.tuples(st.just("replace"), st.sampled_from(IN_PLACE)),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def celery_world(server):
    """Return the module of tasks, with a worker in another process that runs them."""
    os.environ["DIFFERENTIAL_REDIS"] = server
    from tests.differential import celery_world

    log = subprocess.DEVNULL if not os.environ.get("DIFFERENTIAL_LOG") else sys.stderr
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.differential.celery_world",
            "worker",
            "--pool",
            "solo",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=log,
        stderr=log,
    )
    try:
        work = celery_world.app.signature("work", kwargs={"tag": "hello", "do": ["ok"]})
        assert work.apply_async().get(timeout=60)
        yield celery_world
    finally:
        worker.terminate()
        try:
            worker.wait(60)
        except subprocess.TimeoutExpired:
            worker.kill()
            raise


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.app.close()


def tree(result):
    """Return the ids of a result tree, parents included, as nested lists."""
    if result is None:
        return None
    here = [tree(member) for member in result.results] if hasattr(result, "results") else result.id
    return [tree(result.parent), here] if result.parent is not None else here


def leaves(found, state_of):
    """Return the states of a result tree, in order."""
    return [s for part in found for s in leaves(part, state_of)] if isinstance(found, list) else [state_of(found)]


def has_groups_in_groups(value):
    """Say whether a group stands directly in a group or in a header anywhere."""
    if isinstance(value, list):
        return any(map(has_groups_in_groups, value))
    if not isinstance(value, dict):
        return False
    members = {"celery.group": "tasks", "celery.chord": "header"}.get(str(value.get("task")))
    direct = members and [one for one in value["kwargs"][members] if one["task"] == "celery.group"]
    return bool(direct) or any(map(has_groups_in_groups, value.values()))


@seed(chosen())
@EXAMPLES
@example(recipe=("group", [("chord", [OK, OK], ("group", [OK, OK]))]))
@example(recipe=("chain", [OK, ("task", ("replace", ("chain", [OK, ("group", [OK, FAIL])])), 0, False), OK]))
@given(
    recipe=st.one_of(canvases(1, ENDS, extras=False), canvases(2, ENDS, extras=False), canvases(3, ENDS, extras=False))
)
def test_celery_and_nbcanvas_do_the_same(celery_world, world, recipe):
    canvas = json.loads(json.dumps(build(recipe)))
    text = json.dumps(canvas)
    # A chain of nothing has no result to freeze in Celery: IndexError where it is a chord's body.
    assume(plain_enough(canvas) and not has_groups_in_groups(canvas))
    meaning = Meaning(canvas)
    event(f"{sum(meaning.ends.values())} tasks")
    signed = celery_world.app.signature(canvas)
    world.clear()
    celery_world.store.delete("notes")
    ours = world.app.submit(build(recipe))
    world.await_rest(meaning)
    result = signed.apply_async()
    expected = sum(n for key, n in meaning.runs.items() if not key[0].startswith("celery."))

    def noted():
        return [json.loads(note) for note in celery_world.store.lrange("notes", 0, -1)]

    until(lambda: sum(kind == "run" for kind, *_ in noted()) >= expected, what=f"{expected} tasks run")

    # Of a chord that failed Celery can be asked when one task is behind the header, and hangs in many other shapes.
    steps = steps_of(canvas)
    answers = (
        meaning.end.kind == "value"
        or text.count('"header"') == 0
        or (text.count('"header"') == 1 and len(steps) == 2 and isinstance(steps[0], Group))
    )
    if meaning.end.kind == "value":
        assert ours.get(timeout=60) == meaning.end.what
        alone = isinstance(steps[0], Group) and len(steps) == 1 and len(steps[0].members) == 1
        unrolled = alone and ends_in_a_group(steps[0].members[0])
        assert result.get(timeout=60) == (meaning.end.what[0] if unrolled else meaning.end.what)
    elif not ends_in_a_group(steps) and answers:
        failure = result.get(timeout=60, propagate=False)
        mine = ours.get(timeout=60, propagate=False)
        assert type(failure).__name__ == type(mine).__name__
    runs = Counter((tag, value) for kind, tag, value in noted() if kind == "run")
    assert runs == world.runs

    if "header" in text:
        if answers and not ends_in_a_group(steps):
            assert celery_world.app.AsyncResult(result.id).state == world.app.AsyncResult(ours.id).state
        return
    mine = leaves(tree(ours), lambda task_id: world.app.AsyncResult(task_id).state)

    def theirs():
        return leaves(tree(result), lambda task_id: celery_world.app.AsyncResult(task_id).state)

    def alike():
        return all(
            one in {two, "PENDING"} if two == "FAILURE" else one == two for one, two in zip(theirs(), mine, strict=True)
        )

    assert len(theirs()) == len(mine)
    until(alike, what="the states are alike")  # a task that has run is stored in a moment
