"""Workers die: a pool's child, a whole worker, each at a bad moment; and the client goes away.

What Celery 5.7 comes to in the same case, measured, stands in each test (shared/RELIABILITY.md, section 2).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

import nbcanvas
from nbcanvas import chain, chord, group
from nbcanvas.errors import ChordError, WorkerLostError
from nbcanvas.plan.graph import calls_of
from nbcanvas.run import attach
from tests.cluster.fleet import ROOT
from tests.cluster.scene import EARLY, LATE, Scene, ends
from tests.servers import Redis, until

redis = pytest.importorskip("redis")
pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

#: Seconds within which another worker has noticed a death and done what is to do.
SOON = 60.0


@pytest.mark.parametrize("kind", ["group", "chord"])
def test_a_pools_child_is_killed_and_late_acknowledgement_runs_its_task_again(scene_of, kind):
    """Celery, with ``task_reject_on_worker_lost``: passes in 2 to 4 s."""
    scene = scene_of(**LATE)
    scene.fleet.ours("processes")
    members = [*scene.steps(20, 0.01), scene.sig("dies", "victim", scene.path), *scene.steps(20, 0.01)]
    run = scene.submit(scene.shape(kind, members))
    assert run.get(timeout=SOON) == [*range(20), "victim", *range(20)]
    expected = Counter({str(number): 2 for number in range(20)}) + Counter(victim=2)
    if kind == "chord":
        expected["body"] = 1
    assert scene.ran() == expected


@pytest.mark.parametrize("kind", ["group", "chord"])
def test_a_pools_child_is_killed_and_early_acknowledgement_names_what_was_lost(scene_of, kind):
    """Celery: one task lost, ``WorkerLostError``."""
    scene = scene_of(**EARLY)
    scene.fleet.ours("processes")
    members = [*scene.steps(20, 0.01), scene.sig("dies", "victim", scene.path, 9)]
    run = scene.submit(scene.shape(kind, members))
    with pytest.raises(WorkerLostError if kind == "group" else ChordError, match=r"SIGKILL|WorkerLost|signal 9"):
        run.get(timeout=SOON)
    ends(run, SOON)  # one may have failed while another still ran
    assert run.counts["SUCCESS"] == 20
    assert scene.ran() == Counter({**{str(number): 1 for number in range(20)}, "victim": 1})
    assert [failure.name for failure in run.failed] == ["dies"]


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_whole_worker_is_killed_and_late_acknowledgement_loses_nothing(scene_of, pool):
    """Celery: with its defaults 3 of 3 hang, 12 to 16 tasks do not run again within a minute; with a short visibility
    timeout 4 of 12 hang, one task lost between pop and record.
    """  # fmt: skip
    scene = scene_of(**LATE)
    victim = scene.fleet.ours(pool)
    steps = [*scene.steps(80, 0.03), scene.sig("hold", 80, scene.path)]  # no body runs before the last one is let go
    runs = [scene.submit(group(steps[:40])), scene.submit(chord(steps[40:], scene.body()))]
    scene.wait_ran(35)  # it has the end of the group in hand, and the beginning of the chord
    victim.kill()
    results = [scene.app.AsyncResult(call.id) for run in runs for call in calls_of(run.root)]
    ended = {str(one.result) for one in results if one.state == "SUCCESS"}
    assert ended
    scene.go()
    scene.fleet.ours(pool)
    assert [run.get(timeout=SOON + 10) for run in runs] == [list(range(40)), list(range(40, 81))]
    found = scene.ran()
    assert found.pop("body") == 1
    assert set(found) == {str(number) for number in range(81)}  # none is lost ...
    assert max(found.values()) <= 2
    assert not {word for word, times in found.items() if times > 1} & ended  # ... and no more ran again than had to


@pytest.mark.parametrize("kind", ["group", "chord"])
def test_a_whole_worker_is_killed_and_early_acknowledgement_ends_loudly(scene_of, kind):
    """Celery: hangs 6 of 6, 3 to 4 tasks lost, nobody told."""
    scene = scene_of(**EARLY)
    victim = scene.fleet.ours("threads")
    run = scene.submit(
        scene.shape(kind, [scene.sig("hold", "a", scene.path), scene.sig("hold", "b", scene.path), *scene.steps(20)])
    )
    scene.wait_ran(2)
    victim.kill()
    scene.fleet.ours("threads")
    ends(run, SOON + 10)
    assert sorted(failure.args[0] for failure in run.failed) == ["a", "b"]
    with pytest.raises(WorkerLostError if kind == "group" else ChordError, match="is gone"):
        run.get(timeout=SOON)
    assert scene.ran() == Counter({**{str(number): 1 for number in range(20)}, "a": 1, "b": 1})


def test_the_worker_itself_comes_back(scene_of):
    """Celery: what it had fetched waits for the visibility timeout, an hour."""
    scene = scene_of(**LATE)
    scene.fleet.ours("threads", name="same@here").kill()
    run = scene.submit(scene.shape("chord", scene.steps(30, 0.05)))
    victim = scene.fleet.ours("threads", name="same@here")
    scene.wait_ran(5)
    victim.kill()
    scene.fleet.ours("threads", name="same@here")
    assert run.get(timeout=SOON) == list(range(30))
    assert scene.ran()["body"] == 1


def test_a_poison_task_kills_a_bounded_number_of_workers(scene_of):
    """Celery: with late acknowledgement it is run again for ever (celery #4354 and others)."""
    scene = scene_of(**LATE)
    scene.fleet.ours("processes")
    run = scene.submit(group(scene.sig("dies", "poison", scene.path, 1000), *scene.steps(5)))
    ends(run, SOON + 10)
    assert 1 < scene.ran()["poison"] <= 10
    with pytest.raises(WorkerLostError):
        run.get(timeout=SOON)
    assert run.counts["SUCCESS"] == 5


_CLIENT = """
import sys, time
from tests.cluster.fleet import from_environment, our_app
import nbcanvas
from nbcanvas import chain, chord, group, submit
app = from_environment(our_app)
path = sys.argv[1]
tasks = app.tasks
run = submit(chain(
    group([tasks["hold"].s(n, path) for n in range(2)]), tasks["body"].s(path, "one"), tasks["after"].s("two", path)
), app=app, name="left behind")
print(run.id, flush=True)
time.sleep(60)
"""


def test_the_client_is_gone_and_another_one_attaches(scene_of):
    """Celery: results by id, but members and parents only if saved."""
    scene = scene_of()
    scene.fleet.ours("threads")
    client = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, scene.path],
        cwd=ROOT, env=scene.fleet.environment(), stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    run_id = client.stdout.readline().strip()
    scene.wait_ran(2)
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    run = attach(run_id, app=scene.app)
    assert not run.done
    assert len(run) == 4
    scene.go()
    assert run.get(timeout=SOON) == "two"
    until(lambda: run.counts.get("SUCCESS") == 4, SOON, "the State of the attached run says all of it")
    assert attach("left behind", app=scene.app) is run


def held(url):
    """Return what a Redis holds that is under way."""
    with redis.Redis.from_url(url) as client:
        lines = []
        for key in sorted(client.scan_iter()):
            if key.startswith((b"celery-task-meta-", b"nbcanvas-run-", b"_kombu")):
                continue
            kind = client.type(key)
            ask = {b"list": "lrange", b"hash": "hgetall", b"zset": "zrange", b"set": "smembers", b"string": "get"}
            arguments = (0, -1) if kind in {b"list", b"zset"} else ()
            lines.append(f"{key!r} {getattr(client, ask[kind])(key, *arguments)!r:.2000}")
        return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_chaos(tmp_path):
    """Celery: five minutes of it: canvases hang.

    ``NBCANVAS_CHAOS`` says for how many seconds, and ``NBCANVAS_SEED`` what happens when, as a failure tells it.
    """
    seconds = float(os.environ.get("NBCANVAS_CHAOS", "15"))
    seed = os.environ.get("NBCANVAS_SEED", "")
    seed = int(seed) if seed.isdigit() else time.time_ns() % 10**6
    print(f"NBCANVAS_SEED={seed}")  # shown when it fails
    server = Redis(tmp_path, persistent=True)
    scene = Scene(server.url, tmp_path, **LATE)
    rng = random.Random(seed)
    try:
        workers = [scene.fleet.ours("threads") for _ in range(2)]
        runs, kills, until_ = [], 0, time.monotonic() + seconds
        while time.monotonic() < until_:
            word = f"body{len(runs)}"
            header = [scene.sig("step", f"{word}.{n}", scene.path, 0.05) for n in range(10)]
            runs.append(
                (word, scene.submit(chain(chord(header, scene.body(word)), scene.sig("after", word, f"{scene.path}2"))))
            )
            time.sleep(rng.uniform(0.2, 1.0))
            match rng.randrange(4):
                case 0:
                    at = rng.randrange(2)
                    workers[at].kill()
                    kills += 1
                    workers[at] = scene.fleet.ours("threads", wait=False)
                case 1:
                    server.stop(rng.choice([signal.SIGTERM, signal.SIGKILL]))
                    time.sleep(rng.uniform(0, 1.0))
                    server.start()
                case _:
                    pass
        for word, run in runs:
            try:
                assert run.get(timeout=60) == word
            except nbcanvas.errors.TimeoutError as error:
                logs = [f"{worker.name} {worker.alive}:\n{worker.log[-2000:]}" for worker in workers]
                raise AssertionError("\n".join([f"{word} hangs: {run.why()}", *logs, held(server.url)])) from error
        bodies = {word: times for word, times in scene.ran().items() if "." not in word}
        assert set(bodies) == {word for word, _ in runs}
        assert sum(bodies.values()) <= len(runs) + 2 * kills  # again only what a worker that died had in hand
    finally:
        scene.close()
        server.stop()
