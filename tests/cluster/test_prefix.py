"""Two apps with prefixes of their own on one Redis: nothing of one is seen, run, revoked or found by the other."""

import json

import pytest

from nbcanvas.app.shipped import Shipping
from nbcanvas.broker.names import Names
from nbcanvas.cli.dead import OnRedis
from nbcanvas.errors import TaskRevokedError, UntrustedTask
from tests.cluster.fleet import Fleet
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

KEY = b"a key that both of them know of!"


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    return str(file)


@pytest.fixture
def fleets(redis_url):
    def fleet(name):
        return Fleet(
            redis_url,
            broker_transport_options={"global_keyprefix": f"{name}:"},
            result_backend_transport_options={"global_keyprefix": f"{name}-results:"},
        )

    with fleet("red") as red, fleet("blue") as blue:
        yield red, blue


def dead(app):
    return [one.task_id for one in OnRedis(app.redis, Names.of(app.conf), app.backend).letters()]


def test_nothing_crosses(fleets, key):
    red, blue = fleets
    ours, theirs = red.client(), blue.client()
    ours.shipping, theirs.shipping = Shipping(ours, KEY), Shipping(theirs, KEY)
    allow = ("--allow-shipped", "--signing-key", key)
    theirs.control.revoke("pinned", reply=False)
    ours.fleet.checks = theirs.fleet.checks = False

    # One worker: it takes only what is of its own app, and knows nothing of what the other one has revoked.
    red.ours(name="red@here", arguments=allow, concurrency=1)
    waits = theirs.signature("add", (1, 1)).set(task_id="pinned").apply_async()
    other = theirs.signature("add", (2, 2)).apply_async()
    assert ours.signature("add", (3, 3)).set(task_id="pinned").apply_async().get(timeout=60) == 6
    assert theirs.broker.depth()["celery"] == 2
    assert (theirs.control.ping(timeout=0.5), theirs.broker.consumers()) == ([], {})

    # Two: each answers its own app's questions.
    blue.ours(name="blue@here", arguments=allow, concurrency=1)
    assert other.get(timeout=60) == 4
    with pytest.raises(TaskRevokedError):
        waits.get(timeout=60)
    assert ours.control.inspect(timeout=60).ping() == {"red@here": {"ok": "pong"}}
    assert theirs.control.inspect(timeout=60).ping() == {"blue@here": {"ok": "pong"}}
    assert ours.broker.consumers()["celery"] == ["red@here"]
    assert theirs.broker.consumers()["celery"] == ["blue@here"]

    # Dead letters.
    server = ours.redis
    server.call("LPUSH", "red:celery", b"no envelope at all")
    until(lambda: dead(ours))
    assert dead(theirs) == []
    store = OnRedis(server, Names.of(ours.conf), ours.backend)
    red.workers[0].stop()
    store.requeue(store.letters()[0])
    assert server.call("LLEN", "red:celery") == 1
    server.call("DEL", "red:celery")

    # Shipped tasks: the message of one app is nothing to the other one's workers, although they have the same key.
    namespace = {"__name__": "__main__", "app": ours}
    exec("@app.task(name='cell')\ndef cell(x): return x", namespace)
    sent = namespace["cell"].delay(1)
    [raw] = server.call("LRANGE", "red:celery", 0, -1)
    server.call("LPUSH", "blue:celery", raw)
    astray = theirs.AsyncResult(sent.id)
    with pytest.raises(UntrustedTask, match="its code is not there"):
        astray.get(timeout=60)
    red.ours(name="red2@here", arguments=allow, concurrency=1)
    assert sent.get(timeout=60) == 1

    strays = [name for name in server.call("KEYS", "*") if not name.startswith((b"red:", b"red-", b"blue:", b"blue-"))]
    assert strays == [], json.dumps([name.decode() for name in strays])
