"""What a Run says of a canvas while workers elsewhere do it: Celery's, with events and without, and ours."""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise

import pytest

from nbcanvas import chord
from nbcanvas.run import submit
from tests.cluster.fleet import Fleet
from tests.servers import until

redis = pytest.importorskip("redis")
pytest.importorskip("celery")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

HELD = 6
ENDED = {"SUCCESS", "FAILURE", "REVOKED"}


@pytest.fixture(scope="module", params=["celery", "celery -E", "ours"])
def fleet(request, redis_server):
    """A fleet of one worker with two slots, and whether it says what it starts."""
    url = f"{redis_server.url.removesuffix('/0')}/6"
    redis.Redis.from_url(url).flushdb()
    with Fleet(url) as fleet:
        if request.param == "ours":
            fleet.ours("threads", 2)
        else:
            fleet.celery("threads", 2, events=request.param.endswith("-E"))
        fleet.app = fleet.client()
        fleet.store = redis.Redis.from_url(url)
        fleet.tells = request.param != "celery"
        if fleet.tells:  # who listens from now on may miss the events of this moment
            until(lambda: told(submit(fleet.app.tasks["add"].s(1, 1), app=fleet.app)), what="its events are heard")
        yield fleet


def told(run):
    run.wait(timeout=60)
    return all(run.frame()["worker"].notna())


def late(hears, tell, *said):
    hears.wait(60)
    tell(*said)


def canvas(app, run):
    held = [app.tasks["hold"].s(n, run=run) for n in range(HELD)]
    return chord(held, app.tasks["tsum"].s()) | app.tasks["add"].s(1)


def test_states_on_the_way_and_at_the_end(fleet):
    run = submit(canvas(fleet.app, "one"), app=fleet.app)
    seen = [run.snapshot()]

    def look():
        seen.append(run.snapshot())
        return seen[-1].counts

    if fleet.tells:
        until(lambda: look().get("STARTED", 0) == 2, what="two start")
        assert run.state == "STARTED"
    for place in range(1, HELD):
        fleet.store.rpush("gate:one", 1)
        until(lambda place=place: look().get("SUCCESS", 0) == place, what="one more ends")
        assert not run.done
        counts = seen[-1].counts
        assert counts.get("STARTED", 0) <= 2
        assert sum(counts.values()) == HELD + 2
        if fleet.tells:
            until(lambda place=place: look().get("STARTED", 0) == min(2, HELD - place), what="the next one starts")
    fleet.store.rpush("gate:one", 1)
    assert run.get(timeout=60) == sum(range(HELD)) + 1
    run.wait(timeout=60)
    assert run.state == "SUCCESS"
    assert {state: count for state, count in run.counts.items() if count} == {"SUCCESS": HELD + 2}
    for before, after in pairwise(seen):  # what has ended stays as it is
        for row in range(HELD + 2):
            assert before.state(row) not in ENDED or before.state(row) == after.state(row)


def test_the_frame_tells_who_and_when(fleet):
    run = submit(canvas(fleet.app, "two"), app=fleet.app)
    fleet.store.rpush("gate:two", *[1] * HELD)
    run.wait(timeout=60)
    if fleet.tells:  # events may come a moment after the results
        until(lambda: all(run.frame()["worker"].notna()), what="the workers are told")
    frame = run.frame()
    assert list(frame["state"]) == ["SUCCESS"] * (HELD + 2)
    assert list(frame["name"]) == ["hold"] * HELD + ["tsum", "add"]
    assert frame["finished"].notna().all()
    names = {worker.name for worker in fleet.workers}
    if fleet.tells:
        assert {worker.partition("/")[0] for worker in frame["worker"]} == names
        assert (frame["started"] <= frame["finished"]).all()
    else:
        assert frame["worker"].isna().all()
    assert frame["finished"].iloc[-1] >= frame["finished"].iloc[:HELD].max()
    assert "8" in run.bars().text


def test_who_has_the_value_knows_what_it_was_made_of(fleet, monkeypatch):
    """The value is read from the server, while the news of all that came before are on their way."""
    listener, hears = fleet.app.backend._listener, threading.Event()
    for name in ("_on_news", "_on_document"):
        monkeypatch.setattr(listener, name, partial(late, hears, getattr(listener, name)))
    add, tsum = fleet.app.tasks["add"], fleet.app.tasks["tsum"]
    run = submit(chord([add.s(n, n) for n in range(20)], tsum.s()), app=fleet.app)
    try:
        until(run.result.ready, what="it has ended")
        assert run.get(timeout=60) == 380
        assert run.done
        assert {state: count for state, count in run.counts.items() if count} == {"SUCCESS": 21}
        assert run.state == "SUCCESS"
    finally:
        hears.set()


def test_failures_reach_the_state(fleet):
    tasks = fleet.app.tasks
    run = submit(chord([tasks["boom"].s(), tasks["add"].s(1, 1)], tasks["tsum"].s()) | tasks["add"].s(1), app=fleet.app)
    run.wait(timeout=60)
    assert run.state == "FAILURE"
    assert {state: count for state, count in run.counts.items() if count} == {"FAILURE": 3, "SUCCESS": 1}
    assert "boom" in str(run.why())
    assert len(run.failed) == 1
