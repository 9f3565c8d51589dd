"""A task that replaces itself, in small canvases: ids, links, errbacks and stamps, word for word as with Celery alone.

The one difference is on purpose: what replaces a stamped task has its stamps, links and errbacks included, so that a
run can be found, and revoked, by them; Celery's worker sends a replacement without any.
"""

from __future__ import annotations

import pytest

from tests.cluster import seen
from tests.cluster.compare import differences_to_celery, differences_to_meaning
from tests.cluster.drawn import cook
from tests.cluster.fleet import Fleet
from tests.plan.replacements import AS_CELERY, AS_MEANT

redis = pytest.importorskip("redis")
pytest.importorskip("celery")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def became(redis_server):
    """Name -> by way: the canvas, and what became of it."""
    found = {name: {} for name in (*AS_CELERY, *AS_MEANT)}
    for number, way in enumerate(("celery", "worker", "ours"), 11):
        url = f"{redis_server.url.removesuffix('/0')}/{number}"
        store = redis.Redis.from_url(url)
        store.flushdb()
        cases = AS_CELERY if way != "ours" else AS_CELERY | AS_MEANT
        drawn = [cook(recipe, f"replaced-{way}{n}", {"lab": "x"}) for n, recipe in enumerate(cases.values())]
        with Fleet(url) as fleet:
            (fleet.celery if way == "celery" else fleet.ours)("threads", 1)
            if way == "ours":
                ends, _ = seen.ours(fleet.client(), store, drawn)
            else:
                ends = seen.theirs(fleet.celery_client(), store, drawn)
        for name, one, end in zip(cases, drawn, ends, strict=True):
            found[name][way] = one, end
    return found


@pytest.mark.parametrize("way", ["worker", "ours"])
@pytest.mark.parametrize("name", AS_CELERY)
def test_it_is_as_with_celery(became, name, way):
    (_, celerys), (drawn, got) = became[name]["celery"], became[name][way]
    assert differences_to_celery(drawn, got, celerys) == []
    assert got.heard == celerys.heard
    assert got.metas.keys() >= celerys.metas.keys()


@pytest.mark.parametrize("name", [*AS_CELERY, *AS_MEANT])
def test_it_is_what_is_meant(became, name):
    drawn, got = became[name]["ours"]
    if name != "by one with a task as errback":  # it is given an id, and `Meaning` has none
        assert differences_to_meaning(drawn, got, celerys=False) == []
    assert {tag: stamps for tag, stamps in got.stamps.items() if stamps != {"lab": "x"}} == {}
