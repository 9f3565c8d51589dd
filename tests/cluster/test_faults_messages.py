"""Messages come twice, or make no sense; results make no sense.

What Celery 5.7 comes to in the same case, measured, stands in each test (shared/RELIABILITY.md, section 2).
"""

from __future__ import annotations

import builtins
import json
import time
import uuid
from collections import Counter

import pytest

from nbcanvas import chain, chord, group
from nbcanvas.errors import NBCanvasError, RemoteError
from nbcanvas.errors import TimeoutError as Late
from tests.cluster.garbage import CANARY, documents, envelopes
from tests.cluster.scene import EARLY, LATE, ends
from tests.servers import until

redis = pytest.importorskip("redis")
pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

SOON = 60.0
ROUTES = {"task_routes": {"body": "later", "after": "later"}}


@pytest.fixture
def store(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def twice(store, queue="celery", which=slice(None)):
    """Let messages that wait in a queue come twice, the second time as redelivered."""
    waiting = store.lrange(queue, 0, -1)[::-1]
    for raw in waiting[which]:
        message = json.loads(raw)
        message["headers"]["redelivered"] = True
        store.lpush(queue, json.dumps(message))
    return len(waiting)


@pytest.mark.parametrize("conf", [EARLY, LATE], ids=["early", "late"])
@pytest.mark.parametrize("which", [slice(1), slice(None)], ids=["one", "all"])
def test_header_tasks_come_twice(scene_of, store, which, conf):
    """Celery: passes (5.7)."""
    scene = scene_of(**conf)
    run = scene.submit(chord(scene.steps(5), scene.body()))
    assert twice(store, which=which) == 5
    scene.fleet.ours("threads")
    assert run.get(timeout=SOON) == list(range(5))
    time.sleep(0.5)  # a second body would have come by now
    assert scene.ran()["body"] == 1
    until(lambda: store.llen("celery") == 0)


def test_a_chords_body_comes_twice(scene_of, store):
    """Celery: body twice, with the deduplication setting too; and so what follows it."""
    scene = scene_of(**ROUTES)
    scene.fleet.ours("threads", queues="celery")
    run = scene.submit(chain(chord(scene.steps(3), scene.body()), scene.sig("after", "end", scene.path)))
    until(lambda: store.llen("later") == 1, SOON, "the body waits")
    twice(store, "later")
    scene.fleet.ours("threads", 1, queues="later")
    assert run.get(timeout=SOON) == "end"
    time.sleep(0.5)
    assert scene.ran()["end"] == 1


def test_a_chains_first_step_comes_twice(scene_of, store):
    """Celery: steps 2 and 3 run twice, with the deduplication setting too."""
    scene = scene_of()
    run = scene.submit(
        chain(scene.steps(1)[0], scene.sig("after", "second", scene.path), scene.sig("after", "third", scene.path))
    )
    assert twice(store) == 1
    scene.fleet.ours("threads", 1)
    scene.fleet.ours("threads", 1)
    assert run.get(timeout=SOON) == "third"
    time.sleep(0.5)
    found = scene.ran()
    assert (found["second"], found["third"]) == (1, 1)


def test_garbage_in_the_queue(scene_of, store):
    """Celery, 91 malformed messages: 32 kill the worker, 16 its successor too, 3 stay unacknowledged, 1 wedges."""
    scene = scene_of()
    CANARY.unlink(missing_ok=True)
    thrown = dict(envelopes())
    assert len(thrown) >= 150
    ids = {}
    for name, raw in thrown.items():
        ids[name] = str(uuid.uuid4())
        store.lpush("celery", raw.replace(b'"ID"', json.dumps(ids[name]).encode()))
    run = scene.submit(group(scene.steps(3)))
    worker = scene.fleet.ours("processes")
    assert run.get(timeout=SOON) == [0, 1, 2]
    until(lambda: not store.llen("celery") and not _held(store), SOON, "nothing is left over")
    assert worker.alive
    assert not CANARY.exists()
    letters = [json.loads(raw) for raw in store.lrange("nbcanvas:dead", 0, -1)]
    assert all(letter["reason"] for letter in letters)
    dead = Counter(letter.get("raw") or letter.get("raw_base64") for letter in letters)
    # What is understood so far that its id is known is a task that failed; of everything else the letter is kept.
    silent = [
        name
        for name, raw in thrown.items()
        if not store.exists(f"celery-task-meta-{ids[name]}")
        and not any(_means(kept, raw.replace(b'"ID"', json.dumps(ids[name]).encode())) for kept in dead)
    ]
    assert not silent
    assert scene.submit(group(scene.steps(3))).get(timeout=SOON) == [0, 1, 2]


def _held(store):
    """Return how many messages a worker has, those included that the server is just handing over."""
    handed = sum(store.llen(key) for key in store.scan_iter("nbcanvas:handed:*"))
    return handed + sum(store.hlen(key) for key in store.scan_iter("nbcanvas:unacked:*"))


def _means(kept, raw):
    import base64

    try:
        return kept.encode() == raw or base64.b64decode(kept) == raw
    except ValueError:
        return False


def test_garbage_in_the_results(scene_of, store):
    """Celery, 47 corrupted results: 3 raise SystemExit / KeyboardInterrupt / GeneratorExit, 4 wait for ever."""
    scene = scene_of()
    CANARY.unlink(missing_ok=True)
    broken = dict(documents())
    assert len(broken) >= 80
    wrong = {}
    for name, raw in broken.items():
        task_id = str(uuid.uuid4())
        store.set(f"celery-task-meta-{task_id}", raw.replace(b'"ID"', json.dumps(task_id).encode()))
        result = scene.app.AsyncResult(task_id)
        try:
            value = result.get(timeout=SOON)
        except Late:
            wrong[name] = "waits for ever"
        except Exception as error:
            # What stands for an exception without arguments says as much as that did: the name of its class.
            if not str(error) and type(error).__module__ != "builtins" and not isinstance(error, RemoteError):
                wrong[name] = f"says nothing: {error!r}"
        except BaseException as error:
            wrong[name] = f"raises {error!r}"
        else:
            wrong[name] = f"is taken for the value {value!r}"
        for ask in (
            repr,
            lambda one: one.state,
            lambda one: one.ready(),
            lambda one: one.traceback,
            lambda one: one.children,
        ):
            try:
                ask(result)
            except NBCanvasError:
                pass
            except BaseException as error:
                wrong[name] = f"raises {error!r} when looked at"
    assert not wrong, json.dumps(wrong, indent=1)
    assert not CANARY.exists()


def test_garbage_reaches_those_who_wait(scene_of, store):
    """Celery: who waits for one of several results that is garbage waits for ever."""
    scene = scene_of()
    run = scene.submit(group(scene.steps(3)))
    victim = next(iter(run.root.members)).id
    store.set(f"celery-task-meta-{victim}", b"{")
    store.publish(f"celery-task-meta-{victim}", b"{")
    with pytest.raises(NBCanvasError) as told:
        run.get(timeout=SOON)
    assert not isinstance(told.value, builtins.TimeoutError)
    assert victim in str(told.value)


def test_garbage_in_a_chords_keys(scene_of, store):
    """Celery: garbage in the key of a chord's size makes it hang."""
    scene = scene_of()
    run = scene.submit(chord(scene.steps(3), scene.body()))
    size = next(key for key in store.scan_iter("celery-taskset-meta-*.s"))
    store.set(size, b"many")
    scene.fleet.ours("threads")
    ends(run, SOON)
    with pytest.raises(NBCanvasError):
        run.get(timeout=SOON)
