"""What Celery's workers leave PENDING for ever ends for a Run of ours all the same: it knows the plan."""

from __future__ import annotations

import gc

import pytest

from nbcanvas import chain, chord, group
from nbcanvas.errors import ChordError, TaskRevokedError
from nbcanvas.plan import places
from nbcanvas.run import attach, submit
from tests.cluster.fleet import Fleet
from tests.servers import until

redis = pytest.importorskip("redis")
pytest.importorskip("celery")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=["celery", "ours", "mixed"])
def fleet(request, redis_server):
    url = f"{redis_server.url.removesuffix('/0')}/7"
    redis.Redis.from_url(url).flushdb()
    with Fleet(url) as fleet:
        if request.param != "ours":
            fleet.celery("prefork", 2)
        if request.param != "celery":
            fleet.ours("threads", 2)
        fleet.app = fleet.client()
        fleet.store = redis.Redis.from_url(url)
        yield fleet


@pytest.fixture
def tasks(fleet):
    return fleet.app.tasks


def states(run):
    """Return the states of a run's calls as the State has them, after checking that they are stored."""
    run.wait(timeout=60)
    state = run.snapshot()
    told = [state.state(state.index_of(place.call.id)) for place in places(run.root) if not place.role]
    stored = [run.app.AsyncResult(place.call.id).state for place in places(run.root) if not place.role]
    assert told == stored
    return told


def test_the_rest_of_a_revoked_chain(fleet, tasks):
    late = tasks["add"].s(1, 1).set(countdown=300)
    run = submit(
        late | tasks["add"].s(1) | group(tasks["add"].s(2), tasks["add"].s(3)) | tasks["tsum"].s(), app=fleet.app
    )
    first = next(places(run.root)).call.id
    run.app.control.revoke(first)
    assert states(run) == ["REVOKED"] * 5
    with pytest.raises(TaskRevokedError):
        run.get(timeout=60)


def test_a_revoked_member_of_a_chord(fleet, tasks):
    inner = chord([tasks["add"].s(1, 1), tasks["add"].s(2, 2).set(countdown=300)], tasks["tsum"].s())
    run = submit(chord([inner, tasks["add"].s(3, 3)], tasks["tsum"].s()) | tasks["add"].s(1), app=fleet.app)
    member = [place.call.id for place in places(run.root)][1]
    until(lambda: run.counts.get("SUCCESS", 0) == 2, what="the others have run")
    run.app.control.revoke(member)
    run.wait(timeout=60)
    found = states(run)
    assert found[:2] == ["SUCCESS", "REVOKED"]
    assert found[3] == "SUCCESS"
    # What waits for it ends: with us as revoked; where Celery's worker ends a chord, it says that it failed.
    assert set(found[2:3] + found[4:]) <= {"REVOKED", "FAILURE"}


def test_an_expired_step(fleet, tasks):
    run = submit(chain(tasks["add"].s(1, 1), tasks["add"].s(1).set(expires=-1), tasks["add"].s(1)), app=fleet.app)
    assert states(run) == ["SUCCESS", "REVOKED", "REVOKED"]


def test_everything_behind_a_failed_chord(fleet, tasks):
    failing = chord([tasks["boom"].s(), tasks["add"].s(1, 1)], tasks["tsum"].s())
    run = submit(failing | tasks["add"].s(1) | group(tasks["add"].s(1), tasks["add"].s(2)), app=fleet.app)
    assert states(run) == ["FAILURE", "SUCCESS", *["FAILURE"] * 4]
    with pytest.raises(Exception, match="boom"):
        run.get(timeout=60)


def test_chords_in_a_failed_chords_body(fleet, tasks):
    body = chord(
        [tasks["add"].s(1), tasks["add"].s(2)], chord([tasks["add"].s(1), tasks["add"].s(2)], tasks["tsum"].s())
    )
    run = submit(chord([tasks["boom"].s(), tasks["add"].s(1, 1)], body), app=fleet.app)
    assert states(run) == ["FAILURE", "SUCCESS", *["FAILURE"] * 5]
    with pytest.raises(ChordError):
        run.get(timeout=60)


def test_a_failed_group_in_a_header_is_heard_of_without_a_run(fleet, tasks):
    grouped = tasks["add"].s(1, 1) | group(tasks["boom"].si(), tasks["add"].s(2))
    result = chord([tasks["add"].s(1, 1), grouped], tasks["tsum"].s()).apply_async()
    with pytest.raises(ChordError, match="boom"):
        result.get(timeout=60)
    assert result.state == "FAILURE"


def test_who_waits_for_one_of_its_tasks_is_told(fleet, tasks):
    """Celery's clients, too: what a Run ends is stored, and published, as a worker's result is."""
    run = submit(chain(tasks["add"].s(1, 1), tasks["add"].s(1).set(expires=-1), tasks["add"].s(1)), app=fleet.app)
    last = [place.call.id for place in places(run.root)][-1]
    theirs = fleet.celery_client().AsyncResult(last)
    with pytest.raises(Exception, match=r"revoked|expired") as caught:
        theirs.get(timeout=60, propagate=True)
    assert type(caught.value).__name__ == "TaskRevokedError"


def test_who_attaches_ends_it_when_its_client_is_gone(fleet):
    client = fleet.client()
    add = client.tasks["add"]
    run = submit(chain(add.s(1, 1), add.s(1).set(expires=-1), add.s(1)), app=client)
    run_id = run.id
    client.close()
    del run
    gc.collect()
    assert states(attach(run_id, app=fleet.app)) == ["SUCCESS", "REVOKED", "REVOKED"]


def test_errbacks_that_take_an_id_are_told_once(fleet, tasks):
    """The body of a chord around a failed one hears: by whoever ends it."""
    errback = tasks["work"].s(tag="told", do=["ok"], run="told")
    inner = chord([tasks["boom"].s(), tasks["add"].s(1, 1)], tasks["tsum"].s())
    outer = chord([inner, tasks["add"].s(3, 3)], tasks["tsum"].s().on_error(errback))
    fleet.store.delete("notes:told")
    run = submit(outer, app=fleet.app)
    run.wait(timeout=60)
    until(lambda: fleet.store.llen("notes:told"), what="the errback has run")
    until(lambda: not fleet.store.llen("celery"), what="nothing waits")
    assert fleet.store.llen("notes:told") == 1


def test_a_worker_of_celerys_that_came_later_hands_on_references(redis_server, patient):
    """Where all workers are ours, what follows travels as a reference; a worker that does not know any sends it on."""
    url = f"{redis_server.url.removesuffix('/0')}/10"
    store = redis.Redis.from_url(url)
    store.flushdb()
    with Fleet(url) as fleet:
        fleet.ours("threads", queues="celery")
        app = fleet.client()
        add, tsum, boom = (app.tasks[name] for name in ("add", "tsum", "boom"))

        def theirs(*args):
            return add.s(*args).set(queue="theirs")

        canvases = [
            (theirs(1, 1) | add.s(1) | theirs(1) | add.s(1) | theirs(1) | add.s(1) | add.s(1), 8),
            (chord([theirs(i, i) for i in range(3)], tsum.s()) | add.s(1) | theirs(1) | add.s(1) | add.s(1), 10),
            (theirs(1, 1) | group(theirs(1), add.s(2)) | tsum.s() | group(add.s(1), theirs(2)) | tsum.s(), 17),
            (chord([theirs(1, 1) | add.s(1) | theirs(1) | add.s(1) | add.s(1), theirs(1, 1)], tsum.s()), 8),
        ]
        runs = [submit(canvas, app=app) for canvas, _ in canvases]
        failing = submit(theirs(1, 1) | boom.s() | add.s(1) | theirs(1) | add.s(1) | add.s(1), app=app)
        assert len(store.keys("nbcanvas-plan-*")) == 5
        fleet.celery("solo", queues="theirs")
        assert [run.get(timeout=60) for run in runs] == [value for _, value in canvases]
        assert states(failing) == ["SUCCESS", *["FAILURE"] * 5]
