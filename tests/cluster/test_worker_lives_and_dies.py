"""Our worker's end, warm, cold and sudden: nothing is lost, nothing runs twice that must not, and it is quick."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import redis

from nbcanvas.errors import WorkerLostError
from tests.cluster.fleet import Fleet
from tests.servers import until

pytestmark = pytest.mark.servers


@pytest.fixture
def fleet(redis_url):
    with Fleet(redis_url, tasks="tests.cluster.chores") as fleet:
        yield fleet


@pytest.fixture
def app(fleet):
    return fleet.client()


@pytest.fixture
def store(redis_url):
    with redis.Redis.from_url(redis_url) as store:
        yield store


def runs(store, key):
    return store.llen(f"ran:{key}")


def send(app, name, *args, **options):
    return app.send_task(name, args, **options)


def test_a_warm_stop_lets_tasks_end_and_gives_back_the_rest(fleet, app, store):
    worker = fleet.ours("threads", 1)
    results = [send(app, "hold" if not number else "mark", f"m{number}") for number in range(4)]
    until(lambda: runs(store, "m0"), what="the first task runs")
    worker.signal(signal.SIGTERM)
    until(lambda: "warm" in worker.log)
    store.rpush("go:m0", 1)
    assert worker.process.wait(60) == 0
    assert results[0].get(timeout=60) == "m0"
    assert [runs(store, f"m{number}") for number in range(4)] == [1, 0, 0, 0]
    assert store.llen("celery") == 3
    fleet.ours("threads", 4)
    assert [one.get(timeout=60) for one in results] == ["m0", "m1", "m2", "m3"]
    assert [runs(store, f"m{number}") for number in range(4)] == [1, 1, 1, 1]


def test_a_server_that_takes_no_writes_for_now_costs_no_result(fleet, app, store):
    fleet.ours("threads", 2)
    results = [send(app, "mark", f"m{number}", 0.5) for number in range(2)]
    until(lambda: runs(store, "m0") and runs(store, "m1"), what="both run")
    store.config_set("min-replicas-to-write", 1)
    try:
        time.sleep(1.5)  # they end, and the worker is refused: it may not make failures of them
    finally:
        store.config_set("min-replicas-to-write", 0)
    assert [one.get(timeout=60) for one in results] == ["m0", "m1"]
    assert send(app, "mark", "after").get(timeout=60) == "after"
    assert not store.llen("nbcanvas:dead")


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_cold_stop_does_not_wait(fleet, app, store, pool):
    worker = fleet.ours(pool, 2)
    early, late = send(app, "mark", "early", 300), send(app, "late", "late", 300)
    until(lambda: runs(store, "early") and runs(store, "late"), what="both run")
    children = worker.children
    worker.signal(signal.SIGINT)
    until(lambda: "warm" in worker.log)
    worker.signal(signal.SIGINT)
    worker.process.wait(60)  # they would run for five minutes
    with pytest.raises(WorkerLostError):
        early.get(timeout=60)
    assert store.llen("celery") == 1
    assert late.state in {"PENDING", "STARTED"}
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), what="its children are gone")


def test_a_worker_that_is_killed_is_noticed_in_seconds(fleet, app, store):
    """The begun early task ends as lost, the late one runs again, and so does what was only fetched."""
    victim = fleet.ours("processes", 2)
    early, late = send(app, "hold", "early"), send(app, "late_hold", "late")
    until(lambda: runs(store, "early") and runs(store, "late"), what="both run")
    fetched = [send(app, "mark", f"f{number}") for number in range(3)]
    victim.kill()
    rescuer = fleet.ours("threads", 2, name="rescuer@here")
    with pytest.raises(WorkerLostError, match="acknowledges early"):
        early.get(timeout=60)
    until(lambda: runs(store, "late") == 2, what="it runs again")
    store.rpush("go:late", 1)
    assert late.get(timeout=60) == "late"
    assert [one.get(timeout=60) for one in fetched] == ["f0", "f1", "f2"]
    assert (runs(store, "early"), runs(store, "late")) == (1, 2)
    assert rescuer.alive


@pytest.mark.timeout(300)
def test_a_task_that_kills_every_worker_ends_loudly(redis_url, store):
    with Fleet(redis_url, tasks="tests.cluster.chores", broker_transport_options={"worker_silence": 3}) as fleet:
        for number in range(6):
            fleet.ours("threads", 1, name=f"victim{number}@here", wait=False)
        result = send(fleet.client(), "kill_worker", "poison")
        until(lambda: not any(worker.alive for worker in fleet.workers), 150, "it kills them all")
        fleet.ours("threads", 1, name="last@here")
        with pytest.raises(WorkerLostError, match="6 workers"):
            result.get(timeout=60)
    assert runs(store, "poison") == 6
    until(lambda: store.llen("nbcanvas:dead"), what="it is kept")
    assert "did not finish" in json.loads(store.lindex("nbcanvas:dead", 0))["reason"]


def test_a_child_that_dies_costs_its_task_alone(fleet, app, store):
    worker = fleet.ours("processes", 2)
    again = send(app, "kill_child", "child")
    assert send(app, "mark", "beside").get(timeout=60) == "beside"
    assert again.get(timeout=60) == "child"
    assert runs(store, "child") == 2
    assert worker.alive


def test_children_do_not_outlive_a_worker_that_is_killed(fleet, app):
    worker = fleet.ours("processes", 2)
    child = send(app, "pid").get(timeout=60)
    os.kill(worker.pid, signal.SIGKILL)
    worker.process.wait(60)
    until(lambda: not Path(f"/proc/{child}").exists(), what="the child is gone")
