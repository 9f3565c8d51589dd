"""Random canvases, both ways with real Celery, on real Redis, many in flight at once.

The yardstick is Celery's client with Celery's worker. Against it: our client on Celery's workers, Celery's client on
ours, and our client on both kinds at once, where they share the headers of chords. What is compared stands in
`tests.cluster.compare`, and where Celery is not followed, and why, in tests/differential/test_against_celery.py.
"""

from __future__ import annotations

import functools

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from nbcanvas.plan import calls_of
from tests.cluster import seen
from tests.cluster.compare import (
    assert_none,
    counts_apart,
    counts_for_nobody,
    differences_to_celery,
    differences_to_meaning,
    drops_a_value,
)
from tests.cluster.drawn import anything, batch, comparable, cook, plain_enough, wired
from tests.cluster.fleet import Fleet
from tests.plan.simulate import name_of

redis = pytest.importorskip("redis")
pytest.importorskip("celery")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

COUNT = 200 if settings().max_examples >= 500 else 40
DEEP = st.one_of(wired(2), wired(4), wired(5), wired(6))


@pytest.fixture(scope="module")
def fleet_of(redis_server):
    """Return what makes a fleet in a database of its own, and the store to look into it."""

    def make(number):
        url = f"{redis_server.url.removesuffix('/0')}/{number}"
        store = redis.Redis.from_url(url)
        store.flushdb()
        return Fleet(url), store

    return make


@pytest.fixture(scope="module")
def canvases():
    """Canvases that Celery runs as its guide says."""
    return batch(DEEP, COUNT, "c", plain_enough)


@pytest.fixture(scope="module")
def odd_ones():
    """Canvases that Celery's client sends in ways of its own: chunks, and chains that end in groups, in headers."""
    return batch(DEEP, COUNT // 4, "o", lambda canvas: not plain_enough(canvas))


def named(canvases, name, **how):
    """Return the canvases under names of their own: one Redis has the channels of all its databases."""
    return [cook(drawn.recipe, f"{name}{place}", drawn.stamps, **how) for place, drawn in enumerate(canvases)]


def assert_means(drawn, found, runs, *, celerys):
    assert_none(
        (one, differences_to_meaning(one, got, celerys=celerys) + unlike_its_state(run, got))
        for one, got, run in zip(drawn, found, runs, strict=True)
    )


def unlike_its_state(run, got):
    """Say where the Run's State is not what is stored."""
    state = run.snapshot()
    said = [] if run.done else [f"the run goes on: {run.counts}"]
    for call in calls_of(run.root):
        stored, told = got.states.get(name_of(call)), state.state(state.index_of(call.id))
        if stored != told:
            said.append(f"the State has {told} of {name_of(call)}, stored is {stored}")
    return said


def yardstick(fleet_of, canvases, name):
    """Return what became of canvases between Celery's client and Celery's worker."""
    fleet, store = fleet_of(1)
    with fleet:
        fleet.celery("prefork")
        return seen.theirs(fleet.celery_client(), store, named(canvases, name))


@pytest.fixture(scope="module")
def celerys(fleet_of, canvases):
    return yardstick(fleet_of, canvases, "yard")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_our_client_on_celerys_workers(fleet_of, canvases, odd_ones, pool):
    fleet, store = fleet_of(2)
    with fleet:
        fleet.celery(pool)
        drawn = named([*canvases, *odd_ones], pool)
        assert_means(drawn, *seen.ours(fleet.client(), store, drawn), celerys=True)


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_celerys_client_on_our_worker(fleet_of, canvases, celerys, pool):
    fleet, store = fleet_of(3)
    with fleet:
        fleet.ours(pool)
        drawn = named(canvases, f"ours-{pool}")
        found = seen.theirs(fleet.celery_client(), store, drawn)
        assert_none(
            (one, differences_to_meaning(one, got, celerys=False, client=False) + differences_to_celery(one, got, its))
            for one, got, its in zip(drawn, found, celerys, strict=True)
        )


TASK = ("task", ("ok",), 0, False)
GROUP = ("chain", [("group", [TASK, TASK])])
#: A chain of nothing but a group, behind something, in the places where Celery takes it so.
LONE_GROUPS = {
    "a body": ("chord", [TASK], GROUP),
    "a member of a body": ("chord", [TASK], ("group", [GROUP])),
    "a member of a step": ("chain", [TASK, ("group", [GROUP, TASK])]),
}


def test_a_chain_of_nothing_but_a_group_is_given_its_value(fleet_of):
    """Celery drops it; where ours and Celery's are compared such canvases are left out, and only they."""
    drawn = [cook(recipe, f"lone{place}") for place, recipe in enumerate(LONE_GROUPS.values())]
    (theirs, its), (ours, our_store) = fleet_of(1), fleet_of(3)
    with theirs, ours:
        theirs.celery("threads", wait=False)
        ours.ours("threads")
        dropped = seen.theirs(theirs.celery_client(), its, drawn)
        found = seen.theirs(ours.celery_client(), our_store, drawn)
    for one, got, without in zip(drawn, found, dropped, strict=True):
        assert got.runs == one.meaning.runs
        assert (got.end[0], without.end[0]) == ("value", "value")
        assert without.runs["t2", "t2()"] == without.runs["t3", "t3()"] == 1
        assert drops_a_value(one.canvas)
    spliced = ("chain", [TASK, ("group", [GROUP])])  # in a chain a group of one is its member, in Celery, too
    assert not drops_a_value(cook(spliced, "spliced").canvas)


CHORD = ("chord", [TASK], TASK)
LATE = ("task", ("retry", 1, "ok"), 0, False)
#: Chords directly in a group that a member of a header ends in.
CHORDS_IN_GROUPS = {
    "a body": ("chord", [LATE, ("chord", [TASK], ("group", [CHORD]))], TASK),
    "a step": ("chord", [LATE, ("|", [TASK, ("group", [CHORD, TASK])])], TASK),
}


def test_a_chord_in_a_group_counts_for_the_header_that_the_group_is_in(fleet_of):
    """Celery counts it apart, and waits, or goes on without what is late: such canvases are compared with `Meaning`."""
    drawn = [cook(recipe, f"apart{place}") for place, recipe in enumerate(CHORDS_IN_GROUPS.values())]
    fleet, store = fleet_of(3)
    with fleet:
        fleet.ours("threads")
        found = seen.theirs(fleet.celery_client(), store, drawn)
    for one, got in zip(drawn, found, strict=True):
        assert got.runs == one.meaning.runs
        assert counts_apart(one.canvas)
        assert not counts_for_nobody(one.canvas)


#: Headers that stand behind something: Celery's worker sends them, from what our messages say.
WAITED = {
    **{f"{name}, behind a task": ("chain", [TASK, recipe]) for name, recipe in CHORDS_IN_GROUPS.items()},
    **{f"{name}, behind a header": ("chord", [TASK], recipe) for name, recipe in CHORDS_IN_GROUPS.items()},
    "the one member": ("chain", [TASK, ("chord", [("chord", [TASK], ("group", [CHORD]))], TASK)]),
    "a failing one beside": (
        "chain",
        [TASK, ("chord", [("chord", [TASK], ("group", [CHORD])), ("task", ("fail",), 0, False)], TASK)],
    ),
}


@pytest.mark.parametrize("worker", ["Celery's", "ours"])
def test_a_chord_in_a_group_counts_wherever_our_client_sends_it(fleet_of, worker):
    """On Celery's worker, too, which between Celery's client and itself waits for ever (see above)."""
    drawn = [cook(recipe, f"waited-{worker[:3]}{place}") for place, recipe in enumerate(WAITED.values())]
    fleet, store = fleet_of(1)
    with fleet:
        (fleet.celery if worker == "Celery's" else fleet.ours)("threads")
        assert_means(drawn, *seen.ours(fleet.client(), store, drawn), celerys=worker == "Celery's")
    assert all(counts_apart(one.canvas) for one in drawn)


def test_a_chord_in_a_chain_of_nothing_but_a_group_counts_for_the_header(fleet_of):
    """Celery's client writes another group's id, and everybody waits; left out where we compare, and only that."""
    group = ("chain", [("group", [TASK, CHORD])])
    drawn = cook(("chord", [group, TASK], TASK), "counted")
    fleet, store = fleet_of(1)
    with fleet:
        fleet.celery("threads")
        (got,), _ = seen.ours(fleet.client(), store, [drawn])
        (without,) = seen.theirs(fleet.celery_client(), store, [cook(drawn.recipe, "miscounted")])
    assert got.end == ("value", drawn.meaning.end.what)
    assert without.end == ("waits",)
    assert counts_for_nobody(drawn.canvas)
    followed = ("chord", [("|", [group, TASK]), TASK], TASK)
    assert not counts_for_nobody(cook(followed, "followed").canvas)


def test_celerys_own_forms_on_our_worker(fleet_of, odd_ones):
    celerys = yardstick(fleet_of, odd_ones, "odd")
    fleet, store = fleet_of(3)
    with fleet:
        fleet.ours("threads")
        drawn = named(odd_ones, "ours-odd")
        found = seen.theirs(fleet.celery_client(), store, drawn)
        assert_none(
            (one, differences_to_celery(one, got, its)) for one, got, its in zip(drawn, found, celerys, strict=True)
        )


def test_our_client_on_a_mixed_fleet(fleet_of, canvases, odd_ones):
    fleet, store = fleet_of(4)
    with fleet:
        fleet.celery("prefork", 1)
        fleet.ours("threads", 2)
        drawn = named([*canvases, *odd_ones], "mixed")
        found, runs = seen.ours(fleet.client(), store, drawn)
        assert_means(drawn, found, runs, celerys=True)
        shared = [got for got in found if got.workers == {"celery", "ours"}]
        assert len(shared) > COUNT // 10


def test_everything_the_language_has_on_celerys_workers(fleet_of):
    """Links, errbacks and options of composites, empty groups: what Celery's own client refuses, or takes otherwise."""
    fits = functools.partial(comparable, replaces=False)
    drawn = named(batch(anything, COUNT // 2, "all", fits), "all", pin=False)
    fleet, store = fleet_of(5)
    with fleet:
        fleet.celery("prefork")
        assert_means(drawn, *seen.ours(fleet.client(), store, drawn, links=False), celerys=True)


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_our_client_on_our_worker(fleet_of, pool):
    drawn = named(batch(anything, COUNT, "any", comparable), f"any-{pool}", pin=False)
    fleet, store = fleet_of(5)
    with fleet:
        fleet.ours(pool)
        assert_means(drawn, *seen.ours(fleet.client(), store, drawn), celerys=False)


@pytest.mark.parametrize("direction", ["our client on Celery's worker", "Celery's client on our worker"])
def test_rabbitmq_with_results_in_redis(fleet_of, rabbitmq_url, redis_server, direction):
    ours = direction.startswith("our")
    backend = f"{redis_server.url.removesuffix('/0')}/8"
    store = redis.Redis.from_url(backend)
    store.flushdb()
    drawn = batch(DEEP, max(COUNT // 8, 8), "rabbit-ours" if ours else "rabbit-theirs", plain_enough)
    with Fleet(rabbitmq_url, backend, task_default_queue="ways-ours" if ours else "ways-theirs") as fleet:
        if ours:
            fleet.celery("prefork")
            assert_means(drawn, *seen.ours(fleet.client(), store, drawn), celerys=True)
        else:
            fleet.ours("threads")
            found = seen.theirs(fleet.celery_client(), store, drawn)
            assert_none(
                (one, differences_to_meaning(one, got, celerys=False, client=False))
                for one, got in zip(drawn, found, strict=True)
            )
