"""Servers go away and come back, forget, run full, or are slow; and clocks disagree.

What Celery 5.7 comes to in the same case, measured, stands in each test (shared/RELIABILITY.md, section 2).
"""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from nbcanvas import chain, chord, group
from nbcanvas.errors import NBCanvasError, ServerLost
from tests.cluster.proxy import Proxy
from tests.cluster.scene import LATE, Scene
from tests.servers import Redis, until

pytest.importorskip("redis")
pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

SOON = 60.0


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A Redis that keeps everything when it is stopped, and may be stopped."""
    server = Redis(tmp_path_factory.mktemp("redis"), persistent=True)
    yield server
    server.stop()


@pytest.fixture
def spare(tmp_path_factory):
    """A Redis with which anything may be done."""
    server = Redis(tmp_path_factory.mktemp("redis"), arguments=("--maxmemory-policy", "noeviction"))
    yield server
    server.stop()


@pytest.fixture
def scene_on(tmp_path):
    """Return what makes a scene on a server."""
    scenes = []

    def make(url, backend=None, **conf):
        scenes.append(Scene(url, tmp_path, backend, **conf))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


def expected(count, kind):
    return Counter({str(number): 1 for number in range(count)} | ({"body": 1} if kind == "chord" else {}))


@pytest.mark.parametrize(("sig", "down"), [(signal.SIGTERM, 1.0), (signal.SIGKILL, 0.0)], ids=["stopped", "killed"])
def test_redis_is_restarted_while_a_group_and_a_chord_run(lasting, scene_on, sig, down):
    """Celery, client waiting: the group hangs 8 of 8, the chord fails or raises 8 of 8."""
    import redis

    with redis.Redis.from_url(lasting.url) as client:
        client.flushall()
    scene = scene_on(lasting.url)
    scene.fleet.ours("threads")
    runs = [scene.submit(scene.shape(kind, scene.steps(40, 0.03))) for kind in ("group", "chord")]
    last = scene.app.tasks["add"].delay(1, 1)  # waits behind them
    scene.wait_ran(10)
    lasting.stop(sig)
    time.sleep(down)
    lasting.start()
    assert [run.get(timeout=SOON) for run in runs] == [list(range(40))] * 2
    assert last.get(timeout=SOON) == 2
    assert scene.ran() == Counter({**{str(number): 2 for number in range(40)}, "body": 1})
    assert all(run.counts["SUCCESS"] == len(run) for run in runs)


def test_a_canvas_is_submitted_while_redis_is_down(lasting, scene_on):
    """Celery: passes, once the server is back. Without one it is an error that names the server, and no password."""
    scene = scene_on(
        lasting.url.replace("redis://", "redis://:secret@"), broker_transport_options={"socket_timeout": 2}
    )
    lasting.stop()
    try:
        with pytest.raises(ServerLost, match=str(lasting.port)) as lost:
            scene.submit(group(scene.steps(2))).get(timeout=1)
        assert "secret" not in str(lost.value)
    finally:
        lasting.start()


@pytest.mark.parametrize("who", ["client", "worker"])
def test_the_connection_is_cut(redis_url, redis_server, scene_on, who):
    """Celery: the client that waits for a group hangs; worker: stops consuming (celery #8030 and others)."""
    with Proxy(redis_server.port) as proxy:
        near, far = (proxy.url("redis"), redis_url) if who == "worker" else (redis_url, proxy.url("redis"))
        scene = scene_on(near)
        scene.fleet.ours("threads")
        scene.app = scene_on(far).app
        runs = [scene.submit(scene.shape(kind, scene.steps(30, 0.03))) for kind in ("group", "chord")]
        scene.wait_ran(10)
        proxy.cut()
        time.sleep(1.0)
        proxy.mend()
        assert [run.get(timeout=SOON) for run in runs] == [list(range(30))] * 2
        again = scene.submit(scene.shape("chord", scene.steps(5)))
        assert again.get(timeout=SOON) == list(range(5))
        assert scene.ran()["body"] == 2


def test_the_connection_is_slow(redis_url, redis_server, scene_on):
    """Celery: passes, slowly: it asks once for each thing it does."""
    with Proxy(redis_server.port) as proxy:
        proxy.delay = 0.02
        scene = scene_on(proxy.url("redis"))
        scene.fleet.ours("threads")
        run = scene.submit(chain(chord(scene.steps(50), scene.body()), scene.sig("after", "end", scene.path)))
        assert run.get(timeout=SOON) == "end"
        assert scene.ran() == expected(50, "chord") + Counter(end=1)


def test_redis_is_flushed(spare, scene_on):
    """Celery: hangs."""
    import redis

    scene = scene_on(spare.url)
    scene.fleet.ours("threads")
    run = scene.submit(chord([scene.sig("hold", n, scene.path) for n in range(2)] + scene.steps(40), scene.body()))
    scene.wait_ran(2)
    with redis.Redis.from_url(spare.url) as client:
        client.flushall()
    scene.go()
    with pytest.raises(NBCanvasError, match=r"flush|emptied|lost|gone") as caught:
        run.get(timeout=SOON)
    assert not isinstance(caught.value, TimeoutError)
    assert scene.submit(group(scene.steps(3))).get(timeout=SOON) == [0, 1, 2]  # and goes on


def test_redis_has_no_memory_left(spare, scene_on):
    """Celery: hangs."""
    import redis

    scene = scene_on(spare.url)
    worker = scene.fleet.ours("threads")
    run = scene.submit(group([scene.sig("hold", n, scene.path) for n in range(2)]))
    scene.wait_ran(2)
    with redis.Redis.from_url(spare.url) as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(NBCanvasError, match=r"(?i)memory"):
            scene.submit(group(scene.steps(1000))).get(timeout=SOON)
        scene.go()
        until(lambda: "memory" in worker.log.lower(), SOON, "the worker says what is wrong")
        assert worker.alive
        client.config_set("maxmemory", "0")
    assert run.get(timeout=SOON) == [0, 1]  # nothing was lost


def test_clocks_are_apart(redis_url, scene_on):
    """Workers' clocks are an hour off: they live, their tasks end, and nobody takes them for dead."""
    scene = scene_on(redis_url, **LATE)
    environment = scene.fleet.environment()
    workers = []
    for hours in (-1, 0, 1):
        folder = scene.folder / str(hours)
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            f"import time\n_time = time.time\ntime.time = lambda: _time() + {hours * 3600}\n"
        )
        shifted = {**environment, "PYTHONPATH": f"{folder}:{environment['PYTHONPATH']}"}
        scene.fleet.environment = lambda shifted=shifted: shifted
        workers.append(scene.fleet.ours("threads", arguments=("--disable-prefetch",), wait=False))
    for worker in workers:
        worker.await_ready()
    header = [scene.sig("hold", n, scene.path) for n in range(6)]
    run = scene.submit(chain(chord(header, scene.body()), scene.sig("after", "end", scene.path)))
    scene.wait_ran(6)  # each has two
    time.sleep(6)  # longer than a silence that counts as death
    scene.go()
    assert run.get(timeout=SOON) == "end"
    assert scene.ran() == Counter({str(n): 1 for n in range(6)} | {"body": 1, "end": 1})
    assert all(worker.alive for worker in workers)
    assert run.state == "SUCCESS"
