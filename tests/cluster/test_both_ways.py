"""Random canvases, both ways with real Celery, on real Redis, many in flight at once.

The yardstick is Celery's client with Celery's worker. Against it: our client on Celery's workers, Celery's client on
ours, and our client on both kinds at once, where they share the headers of chords. What is compared stands in
`tests.cluster.compare`, and where Celery is not followed, and why, in tests/differential/test_against_celery.py.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from tests.cluster import seen
from tests.cluster.compare import assert_none, differences_to_celery, differences_to_meaning
from tests.cluster.drawn import anything, batch, cook, plain_enough, wired
from tests.cluster.fleet import Fleet

redis = pytest.importorskip("redis")
pytest.importorskip("celery")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

COUNT = 300 if settings().max_examples >= 500 else 40
DEEP = st.one_of(wired(2), wired(4), wired(5), wired(6))


@pytest.fixture(scope="module")
def fleet_of(redis_server):
    """Return what makes a fleet in a database of its own, and the store to look into it."""
    fleets = []

    def make(number):
        url = f"{redis_server.url.removesuffix('/0')}/{number}"
        redis.Redis.from_url(url).flushdb()
        fleets.append(Fleet(url))
        return fleets[-1], redis.Redis.from_url(url)

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture(scope="module")
def canvases():
    """Canvases that Celery runs as its guide says."""
    return batch(DEEP, COUNT, "c", plain_enough)


def named(canvases, name):
    """Return the canvases under names of their own: one Redis has the channels of all its databases."""
    return [cook(drawn.recipe, f"{name}{place}", drawn.stamps) for place, drawn in enumerate(canvases)]


@pytest.fixture(scope="module")
def yardstick(fleet_of, canvases):
    """What became of them between Celery's client and Celery's worker."""
    fleet, store = fleet_of(1)
    with fleet:
        fleet.celery("prefork")
        return seen.theirs(fleet.celery_client(), store, named(canvases, "yard"))[0]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_our_client_on_celerys_workers(fleet_of, canvases, yardstick, pool):
    fleet, store = fleet_of(2)
    with fleet:
        fleet.celery(pool)
        drawn = named(canvases, pool)
        found, runs = seen.ours(fleet.client(), store, drawn)
        assert_none(
            (one, differences_to_meaning(one, got, celerys=True)) for one, got in zip(drawn, found, strict=True)
        )
        assert_none(
            (one, [f"the State has {run.counts}"] if not run.done else []) for one, run in zip(drawn, runs, strict=True)
        )


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_celerys_client_on_our_worker(fleet_of, canvases, yardstick, pool):
    fleet, store = fleet_of(3)
    with fleet:
        fleet.ours(pool)
        drawn = named(canvases, pool)
        found, _ = seen.theirs(fleet.celery_client(), store, drawn)
        assert_none(
            (one, differences_to_meaning(one, got, celerys=False) + differences_to_celery(one, got, theirs))
            for one, got, theirs in zip(drawn, found, yardstick, strict=True)
        )


def test_our_client_on_a_mixed_fleet(fleet_of, canvases):
    fleet, store = fleet_of(4)
    with fleet:
        fleet.celery("prefork", 1)
        fleet.ours("threads", 2)
        drawn = named(canvases, "mixed")
        found, _ = seen.ours(fleet.client(), store, drawn)
        assert_none(
            (one, differences_to_meaning(one, got, celerys=True)) for one, got in zip(drawn, found, strict=True)
        )
        assert {"celery", "ours"} <= set().union(*(got.workers for got in found))
