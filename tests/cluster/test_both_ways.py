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
from tests.cluster.compare import assert_none, differences_to_celery, differences_to_meaning
from tests.cluster.drawn import anything, batch, comparable, cook, plain_enough, wired
from tests.cluster.fleet import Fleet
from tests.plan.simulate import name_of

redis = pytest.importorskip("redis")
pytest.importorskip("celery")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

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
        # A header that groups end in makes Celery's worker join, under a flag that its threads share: now and then one
        # of them raises "Never call result.get() within a task!".
        drawn = named([*canvases, *(odd_ones if pool == "prefork" else ())], pool)
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
