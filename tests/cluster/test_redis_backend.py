"""Results on Redis: Celery's backend, in this process, reads what ours writes and the other way round."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import gc
import json
import os
import pickle
import threading
import time
import uuid

import celery
import pytest
from celery.app.task import Context

from nbcanvas import states
from nbcanvas.backend.documents import Documents
from nbcanvas.backend.encoding import Encoding
from nbcanvas.backend.port import Record, StoredRun
from nbcanvas.backend.redis import RedisBackend
from nbcanvas.backend.redis.listener import _Session
from nbcanvas.backend.redis.steps import Expiry
from nbcanvas.errors import (
    ChordError,
    CorruptResult,
    InvalidTaskError,
    NotSerializable,
    RemoteError,
    ServerLost,
    TaskRevokedError,
)
from nbcanvas.plan import Call, Chain, Fan
from nbcanvas.protocol.payload import pack, pack_args, unpack, unpack_args
from nbcanvas.servers.redis import RedisServer
from tests.cluster.on_redis import World, new_id
from tests.cluster.proxy import Proxy
from tests.costs import operations
from tests.servers import Redis, until

pytestmark = pytest.mark.servers

VALUES = [
    7,
    2.5,
    "ü",
    None,
    True,
    [1, {"a": [None]}],
    dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC),
    decimal.Decimal("1.5"),
    uuid.UUID(int=3),
]


@pytest.fixture
def server(redis_url):
    made = RedisServer(redis_url)
    yield made
    made.close()


def never(*_args):
    raise AssertionError("Celery's tasks are not run here")


@pytest.fixture
def backend(redis_url):
    made = RedisBackend(RedisServer(redis_url), client_id="me")
    yield made
    made.close()


@pytest.fixture
def theirs(redis_url):
    app = celery.Celery("theirs", broker=redis_url, backend=redis_url, set_as_current=False)
    for name in ("add", "fail"):
        app.task(name=name, shared=False)(never)
    yield app
    gc.collect()  # results unsubscribe when they are collected: now, while the server lives
    app.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Workers that beat once, here, live on while a test's machine stands still."""
    monkeypatch.setattr("nbcanvas.backend.redis.store._SILENT", 600)


def looked(backend):
    """Wait until the listener has seen that the server still has its data, and gone on."""
    asks, asked = backend._listener._epoch, []
    backend._listener._epoch = lambda: (asked.append(True), asks())[1]
    until(lambda: len(asked) > 1)
    backend._listener._epoch = asks


def subscribed(server, *channels):
    """Return how many clients have subscribed to each of these channels."""
    return server.call("PUBSUB", "NUMSUB", *channels)[1::2]


def done(state="SUCCESS", value=None, **more):
    return Record(state, pack(value), done=time.time(), settled=0, **more)


class Heard(dict):
    def __call__(self, task_id, record):
        assert task_id not in self, "heard twice"
        self[task_id] = record


# -- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_both_ways(backend, theirs, value):
    backend.settle("ours", done(value=value))
    assert theirs.AsyncResult("ours").get(timeout=60) == value
    theirs.backend.store_result("theirs", value, "SUCCESS")
    record = backend.get("theirs")
    assert (record.state, unpack(record.payload)) == ("SUCCESS", value)


def test_failures_both_ways(backend, theirs):
    backend.settle("f", done("FAILURE", exc=ValueError("no", 1), traceback="Traceback"))
    backend.settle("r", done("REVOKED", exc=TaskRevokedError("revoked")))
    backend.settle("c", done("FAILURE", exc=ChordError("Dependency x raised ValueError()")))
    with pytest.raises(ValueError, match=r"\('no', 1\)"):
        theirs.AsyncResult("f").get(timeout=60)
    assert theirs.AsyncResult("f").traceback == "Traceback"
    with pytest.raises(celery.exceptions.TaskRevokedError, match="revoked"):
        theirs.AsyncResult("r").get(timeout=60)
    with pytest.raises(celery.exceptions.ChordError, match="Dependency x"):
        theirs.AsyncResult("c").get(timeout=60)
    theirs.backend.store_result("g", KeyError("k"), "FAILURE", traceback="their traceback")
    record = backend.get("g")
    assert (repr(record.exc), record.traceback, record.state) == ("KeyError('k')", "their traceback", "FAILURE")
    theirs.backend.mark_as_revoked("h", "terminated")
    assert repr(backend.get("h").exc) == "TaskRevokedError('terminated')"


def test_states_on_the_way_both_ways(backend, theirs):
    backend.update("t", Record("STARTED", pack({"pid": 1, "hostname": "w"})))
    assert (theirs.AsyncResult("t").state, theirs.AsyncResult("t").info) == ("STARTED", {"pid": 1, "hostname": "w"})
    theirs.backend.store_result("t", {"at": 5}, "HALFWAY")
    assert (backend.get("t").state, unpack(backend.get("t").payload)) == ("HALFWAY", {"at": 5})
    backend.update("t", Record("RETRY", exc=ValueError("again")))
    assert theirs.AsyncResult("t").state == "RETRY"


def test_children_dates_parents_and_groups_are_as_celery_writes_them(backend, theirs, server):
    call = Call("t", "proj.add", (1,), group_id="g", index=0)
    children = [(("c", None), None), (("d", None), [(("e", None), None)])]
    backend.settle("t", done(value=3, call=call, parent_id="p", children=children))
    meta = theirs.AsyncResult("t")._get_task_meta()
    request = Context(id="u", group="g", parent_id="p", children=[])
    theirs.backend.store_result("u", 3, "SUCCESS", request=request)
    other = json.loads(server.call("GET", "celery-task-meta-u"))
    assert json.loads(server.call("GET", "celery-task-meta-t")).keys() == other.keys()
    assert (meta["group_id"], meta["parent_id"]) == ("g", "p")
    assert [child.id for child in meta["children"]] == ["c", "d"]
    assert abs(theirs.AsyncResult("t").date_done.timestamp() - time.time()) < 60
    assert backend.get("u").parent_id == "p"


def test_extended_documents_both_ways(redis_url, theirs):
    backend = RedisBackend(RedisServer(redis_url), extended=True, queue_of=lambda _: "fast")
    call = Call("t", "proj.add", pack_args((2, [3]), {"k": None}), stamps={"run": "r-1"})
    backend.settle("t", done(value=3, call=call, worker="w@here", given=(pack(1),)))
    found = theirs.AsyncResult("t")
    seen = (found.name, found.args, found.kwargs, found.worker, found.retries, found.queue)
    assert seen == ("proj.add", [1, 2, [3]], {"k": None}, "w@here", 0, "fast")
    assert found._get_task_meta()["stamped_headers"] == ["run"]
    assert found._get_task_meta()["run"] == "r-1"
    theirs.conf.result_extended = True
    request = Context(id="u", task="proj.mul", args=[1], kwargs={}, hostname="v@there", retries=2,
                      delivery_info={"routing_key": "q"}, stamped_headers=["s"], stamps={"s": 5})  # fmt: skip
    theirs.backend.store_result("u", 3, "SUCCESS", request=request)
    record = backend.get("u")
    assert (record.call.task, unpack_args(record.call.payload)) == ("proj.mul", ((1,), {}))
    assert (record.retries, record.worker) == (2, "v@there")
    assert (record.call.options, record.call.stamps) == ({"queue": "q"}, {"s": 5})
    backend.close()


def test_pickled_results_both_ways(redis_url, theirs):
    theirs.conf.update(result_serializer="pickle", result_accept_content=["pickle"])
    backend = RedisBackend(RedisServer(redis_url), Encoding("pickle", ["pickle"]), client_id="me")
    backend.settle("t", done(value={1, 2}))
    assert theirs.AsyncResult("t").get(timeout=60) == {1, 2}
    theirs.backend.store_result("u", (1, {3}), "SUCCESS")
    assert unpack(backend.get("u").payload) == (1, {3})
    assert not backend.update("u", Record("HALFWAY"))
    theirs.backend.store_result("v", ValueError("x"), "FAILURE")
    assert repr(backend.get("v").exc) == "ValueError('x')"
    backend.close()


def test_a_global_prefix_is_celerys(redis_url, theirs):
    theirs.conf.result_backend_transport_options = {"global_keyprefix": "team"}
    backend = RedisBackend(RedisServer(redis_url), prefix="team")
    backend.settle("t", done(value=5))
    assert theirs.AsyncResult("t").get(timeout=60) == 5
    backend.close()


def test_saved_groups_both_ways(backend, theirs):
    tree = (("g", None), [(("a", None), None), (("h", None), [(("b", None), None)])])
    backend.save_group("g", tree)
    found = theirs.GroupResult.restore("g")
    assert [found.results[0].id, found.results[1].id, found.results[1].results[0].id] == ["a", "h", "b"]
    theirs.GroupResult("k", [theirs.AsyncResult("x"), theirs.AsyncResult("y")]).save()
    assert [child[0][0] for child in backend.restore_group("k")[1]] == ["x", "y"]
    backend.delete_group("k")
    assert theirs.GroupResult.restore("k") is None


def test_results_expire_as_the_settings_say(redis_url, server):
    expiry = Expiry.of(1000, 5000, 400)
    backend = RedisBackend(RedisServer(redis_url), expiry=expiry)
    backend.settle("s", done())
    backend.settle("f", done("FAILURE", exc=ValueError()))
    world = World(redis_url, expiry=expiry)
    fan = Fan("g", [Call("m", "add", (1,)), Call("n", "add", (1,))])
    world.send(Chain((fan, Call("b", "add", ()))))
    ledger = world.ledger()
    world.work(ledger, 1)
    ttl = {key: server.call("TTL", key) for key in (f"celery-taskset-meta-g{end}" for end in (".s", ".j", ".d"))}
    assert 800 < server.call("TTL", "celery-task-meta-s") <= 1000
    assert 4800 < server.call("TTL", "celery-task-meta-f") <= 5000
    assert all(200 < seconds <= 400 for seconds in ttl.values()), ttl
    never = RedisBackend(RedisServer(redis_url), expiry=Expiry.of(None))
    never.settle("n2", done())
    assert server.call("TTL", "celery-task-meta-n2") == -1
    ledger.close()
    world.close()
    backend.close()


def test_a_finished_task_takes_no_more_room_than_celerys(backend, theirs, server):
    for name in range(50):
        task_id = str(uuid.UUID(int=name))
        backend.settle(task_id, done(value=name))
        theirs.backend.store_result(str(uuid.UUID(int=name + 1000)), name, "SUCCESS")
    sizes = [server.call("MEMORY", "USAGE", f"celery-task-meta-{uuid.UUID(int=n)}") for n in (7, 1007)]
    assert sizes[0] <= sizes[1]
    assert not [key for key in server.call("KEYS", "*") if b"nbcanvas" in key]  # nothing beside it


# -- garbage ----------------------------------------------------------------------------------------------------------


META = {"status": "SUCCESS", "result": 1, "traceback": None, "children": [], "date_done": None, "task_id": "t"}
GARBAGE = [
    "",
    "\x00\xff",
    "null",
    "[]",
    "7",
    '"SUCCESS"',
    "{}",
    "{" * 5000,
    "[" * 100_000,
    '{"status": "SUCCESS", "result": ',
    json.dumps(META)[:-10],
    base64.b64encode(json.dumps(META).encode()).decode(),
    *(json.dumps({**META, "status": status}) for status in (None, 3, [], "", {"a": 1})),
    *(json.dumps({**META, "traceback": traceback}) for traceback in (3, [], {"a": 1})),
    *(json.dumps({**META, "children": children}) for children in (3, "x", {"a": 1})),
    json.dumps({**META, "task_id": "another"}),
    *(
        json.dumps({**META, "status": "FAILURE", "result": result})
        for result in (None, 3, "x", [], {}, {"exc_type": 3})
    ),
    *(json.dumps({**META, "status": "REVOKED", "result": result}) for result in (None, [1])),
    json.dumps({**META, "result": {"__type__": "datetime", "__value__": "never"}}),
    json.dumps({**META, "result": {"__type__": "uuid", "__value__": 5}}),
    pickle.dumps(META).decode("latin1"),
]


def odd(kind, *args, module="builtins"):
    return json.dumps({"exc_type": kind, "exc_message": args, "exc_module": module})


ODD = {  # what stands for an exception -> how it reads here
    odd("SystemExit", 3): "SystemExit(3)",
    odd("KeyboardInterrupt"): "KeyboardInterrupt()",
    odd("GeneratorExit"): "GeneratorExit()",
    odd("system", "touch /tmp/x", module="os"): "system('touch /tmp/x')",
    odd("Gone", "x", module="not.loaded"): "Gone('x')",
    odd("Gone", "x", 2, module="not.loaded"): "Gone('x', 2)",
    odd("UnicodeDecodeError", "x"): "UnicodeDecodeError('x')",
    odd("no name", "x"): "RemoteError('no name', 'x')",
}


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_result_that_cannot_be_understood_is_said_to_be_at_once(backend, server, garbage):
    heard = Heard()
    stop = backend.watch(["t"], heard)
    server.call("SET", "celery-task-meta-t", garbage.encode("latin1", "replace"))
    record = backend.get("t")
    assert (record.state, type(record.exc)) == ("FAILURE", CorruptResult)
    assert "t cannot be understood" in str(record.exc)
    until(lambda: "t" in heard)
    assert type(heard["t"].exc) is CorruptResult
    stop()


@pytest.mark.parametrize("kind", ["LPUSH", "SADD"])
def test_a_result_of_another_type_is_said_to_be_none(backend, server, kind):
    server.call(kind, "celery-task-meta-t", "x")
    assert type(backend.get("t").exc) is CorruptResult
    assert backend.settle("t", done(value=3))  # and does not stand in the way
    assert backend.get("t").payload == 3


@pytest.mark.parametrize("text", ODD, ids=ODD.values())
def test_only_known_exceptions_are_made(backend, server, text):
    server.call("SET", "celery-task-meta-t", json.dumps({**META, "status": "FAILURE", "result": json.loads(text)}))
    found = backend.get("t").exc
    assert isinstance(found, RemoteError)
    assert repr(found) == ODD[text]  # its class has the name of the other one
    assert repr(pickle.loads(pickle.dumps(found))) == ODD[text]


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_a_celery_client_that_waits_is_told(backend, theirs):
    result = theirs.AsyncResult("t")
    theirs.backend.result_consumer.consume_from("t")
    tells = threading.Timer(0.2, lambda: backend.settle("t", done(value="told")))
    tells.start()
    assert result.get(timeout=60) == "told"  # it asks once, at the beginning
    tells.join()


@pytest.mark.parametrize("count", [1, 200, 1200])
def test_ends_that_celery_publishes_are_heard(backend, theirs, server, count):
    heard, ids = Heard(), [f"t{n}" for n in range(count)]
    theirs.backend.store_result("t0", 0, "SUCCESS")  # before anybody watched
    backend.watch(ids, heard)
    for n in range(1, count):
        theirs.backend.store_result(f"t{n}", n, "SUCCESS")
    until(lambda: len(heard) == count)
    assert [unpack(heard[one].payload) for one in ids] == list(range(count))
    assert len(server.call("PUBSUB", "CHANNELS", "celery-task-meta-t*")) <= 1000
    server.call("FLUSHALL")
    assert backend.get("t0").state == "SUCCESS"  # it need not be asked for again


def test_ends_that_nobody_told_are_found_while_workers_of_ours_live(redis_url, backend, theirs):
    ledger = World(redis_url).ledger()
    ledger.beat()
    heard = Heard()
    backend.watch(["a"], heard)
    time.sleep(0.1)  # the first look is over, as a rule
    theirs.backend.store_result("a", 1, "SUCCESS")
    until(lambda: "a" in heard)
    ledger.close()


def test_when_a_worker_of_ours_comes_its_channel_is_enough(redis_url, server):
    world = World(redis_url)
    heard = Heard()
    world.backend.watch(["t"], heard)
    until(lambda: subscribed(server, "celery-task-meta-t") == [1])
    ledger = world.ledger()
    ledger.beat()
    time.sleep(1.1)  # it asks who lives once a second
    one = Call(new_id(), "add", (1,))
    world.backend.watch([one.id], heard)
    world.send(one)
    world.work(ledger)
    until(lambda: one.id in heard)
    channels = "nbcanvas:news:client", "celery-task-meta-t", f"celery-task-meta-{one.id}"
    until(lambda: subscribed(server, *channels) == [1, 0, 0])
    ledger.close()
    world.close()


def test_news_that_make_no_sense_hide_no_others(backend, server):
    told = []
    backend.on_news = told.append
    stop = backend.watch(["t"], lambda *_: None)
    until(lambda: subscribed(server, "nbcanvas:news:me") == [1])
    good = '["started","t",0,1.5,"root","w@here"]\n'
    for garbage in (
        b"\xff\x00",
        b"[",
        b"[1]\n",
        b"7\n\n8\n",
        b'["a","b","c","d","e","f"]\n',
        b"1,2\n",
        b'["succeeded",3,0,1,"r",0]\n{}',
    ):
        server.call("PUBLISH", "nbcanvas:news:me", garbage + b"\n" + good.encode())
    server.call("PUBLISH", "nbcanvas:news:me", '["started","last",0,1.5,"root","w@here"]\n')
    until(lambda: told and told[-1].id == "last")
    assert [news.data for news in told if news.id == "t"].count("w@here") >= 4
    stop()


def test_a_hundred_thousand_tasks_are_watched_over_one_channel(redis_url, server):
    world = World(redis_url)
    ledger = world.ledger()
    ledger.beat()
    calls = [Call(new_id(), "add", (n,)) for n in range(100_000)]
    heard, stops, ids = Heard(), [], [call.id for call in calls]
    others = server.call("PUBSUB", "NUMPAT")
    assert operations(lambda: stops.append(world.backend.watch(ids, heard))) < 10_000
    world.send(Fan(new_id(), calls[:3000]))
    while world.work(ledger, batch=500):
        pass
    until(lambda: len(heard) == 3000)
    assert subscribed(server, "nbcanvas:news:client") == [1]
    channels = {
        name.decode().removeprefix("celery-task-meta-") for name in server.call("PUBSUB", "CHANNELS", "celery-*")
    }
    assert channels.isdisjoint(ids)  # clients of other tests may have some
    assert server.call("PUBSUB", "NUMPAT") <= others
    stops[0]()
    ledger.close()
    world.close()


def test_who_waits_goes_on_when_the_server_is_back(tmp_path):
    server = Redis(tmp_path, persistent=True)
    try:
        backend = RedisBackend(RedisServer(server.url), client_id="me")
        other = RedisBackend(RedisServer(server.url), client_id="you")
        heard = Heard()
        backend.watch(["before", "after"], heard)
        time.sleep(0.1)
        server.stop()
        server.start()
        other.settle("before", done(value=1))
        until(lambda: "before" in heard)
        other.settle("after", done(value=2))
        until(lambda: "after" in heard)
        backend.close()
        other.close()
    finally:
        server.stop()


def test_who_watches_a_server_that_is_away_hears_when_it_comes(tmp_path):
    server = Redis(tmp_path)
    server.stop()
    try:
        backend = RedisBackend(RedisServer(server.url), client_id="me")
        heard = Heard()
        backend.watch(["t"], heard)
        server.start()
        backend.settle("t", done(value=1))
        until(lambda: "t" in heard)
        backend.close()
    finally:
        server.stop()


def test_who_watches_a_server_that_is_away_tries_now_and_then():
    tries = []

    class Away(RedisServer):
        def connect(self, **how):
            tries.append(time.monotonic())
            raise ServerLost("nobody is there")

    backend = RedisBackend(Away("redis://127.0.0.1:1/0"), client_id="me")
    for n in range(5):  # each of them rings
        backend.watch([f"t{n}"], Heard())
    begun, before = time.monotonic(), len(tries)
    time.sleep(0.5)
    assert len(tries) - before <= (time.monotonic() - begun) / 0.2 + 1
    backend._listener.close()


def test_records_that_are_told_are_kept_up_to_so_many_bytes(redis_url, backend, server, monkeypatch):
    monkeypatch.setattr("nbcanvas.backend.redis.store._KEPT_BYTES", 10_000)
    other, heard = RedisBackend(RedisServer(redis_url), client_id="you"), Heard()
    names = [f"t{n}" for n in range(6)]
    backend.watch(names, heard)
    for name in names:
        other.settle(name, done(value="x" * 4000))
    until(lambda: len(heard) == 6)
    server.call("DEL", *[f"celery-task-meta-{name}" for name in names])
    kept = backend.get_many(names)
    assert len(kept) == 2
    backend.forget(kept)
    assert not backend.get_many(names)
    other.close()


def test_a_client_whose_clock_is_wrong_knows_our_workers(redis_url, monkeypatch):
    world = World(redis_url)
    ledger = world.ledger()
    ledger.beat()
    now = time.time
    monkeypatch.setattr("nbcanvas.backend.redis.store.time", lambda: now() + 3600)
    assert world.backend._ours()
    ledger.close()
    assert not world.backend._ours()
    world.close()


def test_a_child_that_is_forked_hears_for_itself(backend, server):
    heard = Heard()
    backend.watch(["parents"], heard)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            mine = Heard()
            backend.watch(["childs"], mine)
            backend.settle("childs", done(value=1))
            until(lambda: "childs" in mine)
            os.write(writing, b"heard")
        finally:
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 10) == b"heard"
    os.waitpid(child, 0)
    backend.settle("parents", done(value=2))
    until(lambda: "parents" in heard)


def listeners() -> set[threading.Thread]:
    """Return the threads that listen, those of other tests' apps included."""
    return {thread for thread in threading.enumerate() if thread.name == "nbcanvas-listener"}


def test_the_thread_that_listens_ends_with_the_backend(redis_url):
    before = listeners()
    backend = RedisBackend(RedisServer(redis_url), client_id="me")
    backend.watch(["t"], lambda *_: None)
    assert listeners() - before
    backend.close()
    until(lambda: not listeners() - before)


def test_tasks_are_lost_loudly_with_the_data_of_the_server(backend, server):
    heard, later = Heard(), Heard()
    backend.settle("ended", done(value=1))
    backend.watch(["lost"], heard)
    looked(backend)
    server.call("FLUSHALL")
    until(lambda: "lost" in heard)
    assert type(heard["lost"].exc) is ServerLost
    assert "flushed" in str(heard["lost"].exc)
    backend.watch(["later"], later)
    looked(backend)
    server.call("FLUSHALL")
    backend.watch(["more"], later)  # after it: this one is not lost
    backend.settle("more", done(value=2))
    until(lambda: len(later) == 2)
    assert [later["later"].state, later["more"].state] == ["FAILURE", "SUCCESS"]


def test_what_is_watched_while_the_server_is_asked_for_its_data_is_not_lost(backend, server):
    heard = Heard()
    backend.watch(["lost"], heard)
    looked(backend)
    asks = backend._listener._epoch

    def loses():
        backend._listener._epoch = asks
        server.call("FLUSHALL")
        found = asks()
        backend.watch(["more"], heard)
        return found

    backend._listener._epoch = loses
    until(lambda: "lost" in heard)
    backend.settle("more", done(value=2))
    until(lambda: "more" in heard)
    assert [heard["lost"].state, heard["more"].state] == ["FAILURE", "SUCCESS"]


def test_what_is_told_during_a_look_at_many_tasks_is_nobody_elses(redis_url, monkeypatch):
    """Or whoever watches thousands takes its own workers for others, and listens to everything from then on."""
    monkeypatch.setattr("nbcanvas.backend.redis.listener._CHUNK", 1)
    world, heard, again = World(redis_url), Heard(), []
    ledger = world.ledger()
    ledger.beat()
    calls = [Call(new_id(), "add", (n,)) for n in (1, 2)]
    world.backend.watch(["another", *[call.id for call in calls]], heard)
    until(lambda: world.backend._listener.session)
    session, record = world.backend._listener.session, world.record

    def of_a_while_ago(*ended):
        made = record(*ended)
        made.done -= 60
        return made

    world.record = of_a_while_ago
    look, look_again = world.backend._listener._look, _Session._look_again

    def looks(ids):
        found = look(ids)
        if again:
            again.clear()
            world.send(Fan(new_id(), calls))
            assert world.work(ledger) == 2
        return found

    monkeypatch.setattr(_Session, "_look_again", lambda self: (again.append(True), look_again(self)))
    world.backend._listener._look = looks
    until(lambda: len(heard) == 2)
    assert world.backend._listener.session == session
    ledger.close()
    world.close()


def test_many_that_are_sent_while_our_workers_tell_are_not_looked_for_at_once(redis_url, monkeypatch):
    monkeypatch.setattr(_Session, "_look_again", lambda self: setattr(self, "sweep", time.monotonic() + 60))
    world = World(redis_url)
    ledger, backend, heard, looks = world.ledger(), world.backend, Heard(), []
    ledger.beat()
    backend.watch(["other"], lambda *_: None)
    until(lambda: backend._listener.session)
    look = backend._listener._look
    backend._listener._look = lambda ids: (looks.extend(ids), look(ids))[1]
    busy, go = threading.Event(), threading.Event()
    backend.on_news = lambda _: (busy.set(), go.wait(60))
    world.server.call("PUBLISH", f"{backend.keys.news}client", '["started","other",0,1.0,"root","w"]\n')
    assert busy.wait(60)  # so the listener's first look comes when all of this has been done
    fan = Fan(new_id(), [Call(new_id(), "add", (number,)) for number in range(20)])
    ids = [call.id for call in fan.members]
    backend.watch(ids, heard)
    world.send(fan)
    backend.watch(ids, lambda *_: None)
    backend.watch(["another"], lambda *_: None)
    backend.on_news = None
    go.set()
    until(lambda: "another" in looks)
    assert not set(looks) & set(ids)
    while world.work(ledger, batch=500):
        pass
    until(lambda: len(heard) == 20)
    ledger.close()
    world.close()


@pytest.mark.parametrize("emptied", ["before it is sent", "after it was sent"])
def test_what_is_sent_is_lost_with_the_data_it_was_put_beside_and_no_other(redis_url, emptied):
    world = World(redis_url)
    ledger, backend, heard = world.ledger(), world.backend, Heard()
    busy, go = threading.Event(), threading.Event()
    fan = Fan(new_id(), [Call(new_id(), "add", (number,)) for number in range(20)])
    ids = [call.id for call in fan.members]
    backend.watch(["other"], lambda *_: None)
    until(lambda: backend._listener.epoch)
    known = backend._listener.epoch
    if emptied == "before it is sent":
        backend.watch(ids, heard)
        time.sleep(0.1)
    # From here on the listener does something else, and looks at the server when all is over.
    backend.on_news = lambda _: (busy.set(), go.wait(60))
    world.server.call("PUBLISH", f"{backend.keys.news}client", '["started","other",0,1.0,"root","w"]\n')
    assert busy.wait(60)
    if emptied == "before it is sent":
        world.server.call("FLUSHALL")
        world.send(fan)
    else:
        backend.watch(ids, heard)
        world.send(fan)
        world.server.call("FLUSHALL")
    backend.on_news = None
    go.set()
    until(lambda: backend._listener.epoch != known)
    while world.work(ledger, batch=500):
        pass
    until(lambda: len(heard) == 20)
    ended = {"FAILURE"} if emptied == "after it was sent" else {"SUCCESS"}
    assert {record.state for record in heard.values()} == ended
    ledger.close()
    world.close()


def test_the_listener_ends_when_nothing_is_watched_and_begins_again(redis_url, monkeypatch):
    monkeypatch.setattr("nbcanvas.backend.redis.listener._IDLE", 0.05)
    before = listeners()
    backend = RedisBackend(RedisServer(redis_url), client_id="me")
    for round_ in range(3):
        heard = Heard()
        backend.watch([f"t{round_}"], heard)
        backend.settle(f"t{round_}", done(value=1))
        until(lambda heard=heard: heard)
        until(lambda: backend._listener._thread is None)
        until(lambda: not listeners() - before)
    backend.close()


def test_who_sends_while_it_listens_is_told_and_need_not_ask(redis_url):
    world = World(redis_url)
    ledger = world.ledger()
    ledger.beat()
    backend = world.backend
    backend.expect(["before"])
    assert not backend.tells("before")  # nobody listened
    stop = backend.watch(["other"], lambda *_: None)
    until(lambda: backend._listener.session)
    one, two = (Call(new_id(), "add", (number,)) for number in (1, 2))
    backend.expect([one.id, two.id])
    assert (backend.tells(one.id), backend.tells("stranger")) == (True, False)
    world.send(one)
    world.work(ledger)
    until(lambda: not backend.tells(one.id))
    world.server.call("DEL", f"celery-task-meta-{one.id}")
    assert unpack(backend.get(one.id).payload) == 1  # heard, although nobody watched
    backend.forget([one.id])
    assert backend.get(one.id) is None
    assert backend.tells(two.id)
    world.server.call("CLIENT", "KILL", "TYPE", "pubsub")
    until(lambda: not backend.tells(two.id))  # what was said meanwhile is not known
    stop()
    ledger.close()
    world.close()


# -- chords shared with Celery's workers ------------------------------------------------------------------------------


def celery_chord(app, count):
    """Send a chord as a Celery client does."""
    add, total = app.signature("add"), app.signature("add")
    header = [add.clone((n,)) for n in range(count)]
    return celery.chord(header, total, app=app).apply_async()


@pytest.mark.parametrize("ours", ["0011", "1100", "0101", "1010", "0000", "1111", "0001", "1110"])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_chords_members_are_counted_together(redis_url, theirs, ours, ordered):
    theirs.conf.result_backend_transport_options = {"result_chord_ordered": ordered}
    world = World(redis_url, ordered=ordered)
    result = celery_chord(theirs, 4)
    ledger = world.ledger()
    for mine in ours:
        if mine == "1":
            assert world.work(ledger, 1) == 1
        else:
            work_as_celery(theirs, world)
    assert world.broker.depth() == {"celery": 1}  # the body, once
    assert world.work(ledger) == 1
    assert result.get(timeout=60) == 6
    # The whole header once more: nothing happens.
    assert world.broker.depth() == {"celery": 0}
    ledger.close()
    world.close()


@pytest.mark.parametrize("last", ["ours", "theirs"])
def test_a_member_that_failed_on_either_side_fails_the_body_on_the_other(redis_url, theirs, last):
    world = World(redis_url)
    header = [theirs.signature("fail"), theirs.signature("add", (1,))]
    if last == "theirs":
        header.reverse()
    result = celery.chord(header, theirs.signature("add"), app=theirs).apply_async()
    ledger = world.ledger()
    if last == "ours":
        work_as_celery(theirs, world, ValueError("no"))
        world.work(ledger, 1)
    else:
        world.work(ledger, 1)
        work_as_celery(theirs, world, ValueError("no"))
    with pytest.raises(celery.exceptions.ChordError, match="ValueError"):
        result.get(timeout=60, follow_parents=False)
    assert type(world.backend.get(result.id).exc) is ChordError
    assert world.broker.depth() == {"celery": 0}
    ledger.close()
    world.close()


def work_as_celery(app, world, error=None):
    """Do what Celery's worker does with a header's message when its task has ended."""
    raw = json.loads(world.server.call("RPOP", "celery"))
    args, _, embed = json.loads(base64.b64decode(raw["body"]))
    headers = raw["headers"]
    chord = app.signature(embed["chord"])
    request = Context(id=headers["id"], group=headers["group"], group_index=headers["group_index"], chord=chord)
    if error is None:
        app.backend.mark_as_done(headers["id"], sum(args), request=request)
    else:
        app.backend.mark_as_failure(headers["id"], error, request=request)


def test_a_chord_of_ours_is_finished_by_celerys_workers(redis_url, theirs):
    world = World(redis_url)
    fan = Fan(new_id(), [Call(new_id(), "add", (n,), group_id=None) for n in range(3)])
    for index, member in enumerate(fan.members):
        member.group_id, member.index = fan.id, index
    body = Call(new_id(), "add", ())
    world.send(Chain((fan, body)))
    for _ in range(3):
        work_as_celery(theirs, world)
    ledger = world.ledger()
    assert world.work(ledger) == 1
    assert unpack(world.backend.get(body.id).payload) == 3
    ledger.close()
    world.close()


def test_a_group_inside_a_header_of_celerys_is_a_list_inside_the_values(redis_url, theirs):
    world = World(redis_url)
    add = theirs.signature("add")
    inner = celery.chain(add.clone((1,)), celery.group(add.clone((10,)), add.clone((20,)), app=theirs), app=theirs)
    result = celery.chord([inner, add.clone((100,))], add.clone(), app=theirs).apply_async()
    ledger = world.ledger()
    seen = []
    world.outcome = lambda message, ran=world.outcome: seen.append(message) or ran(message)
    assert world.work(ledger) == 5
    assert unpack(seen[-1].given[0] if seen[-1].given else unpack_args(seen[-1].call.payload)[0][0]) == [[11, 21], 100]
    assert world.backend.get(result.id).state == "SUCCESS"
    ledger.close()
    world.close()


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"\xff", b"7", b'[1,"b","SUCCESS"', b'[1,"b","SUCCESS",2],[1,"b","SUCCESS",2]']
)
def test_what_makes_no_sense_in_a_slot_hides_no_others(garbage):
    parts = [b'[1,"a","SUCCESS",[1]]', garbage, b'[1,"c","SUCCESS",3]']
    (first, a), (second, _), (third, c) = Documents(Encoding()).read_parts(None, parts)
    assert ((a, unpack(first.payload)), (c, third.payload)) == (("a", [1]), ("c", 3))
    assert type(second.exc) is CorruptResult


def test_a_group_that_was_saved_under_the_headers_id_changes_nothing(redis_url):
    world = World(redis_url)
    inner = Fan(new_id(), [Call(new_id(), "add", (n,)) for n in (1, 2)])
    fan = Fan(new_id(), [Chain((Call(new_id(), "add", (3,)), inner)), Call(new_id(), "add", (4,))])
    body = Call(new_id(), "count", ())
    leaf = ((fan.members[1].id, None), None)
    for tree in (
        ((fan.id, None), [((inner.id, None), [((one.id, None), None) for one in inner.members]), leaf]),
        ((fan.id, None), [leaf]),
        ((fan.id, None), [(("other", None), None), leaf]),
    ):
        world.server.call("FLUSHALL")
        world.backend.save_group(fan.id, tree)
        world.send(Chain((fan, body)))
        seen = []
        world.outcome = lambda message, ran=world.outcome, seen=seen: seen.append(message) or ran(message)
        ledger = world.ledger()
        world.work(ledger)
        given = seen[-1].given[0] if seen[-1].given else unpack_args(seen[-1].call.payload)[0][0]
        assert unpack(given) == [[4, 5], 4]
        ledger.close()
    world.close()


class Bomb:
    """Unpickled, it says so."""

    ran = False

    def __reduce__(self):
        return setattr, (Bomb, "ran", True)


@pytest.mark.parametrize("serializer", ["json", "yaml"])
def test_a_pickle_that_somebody_put_there_is_not_opened(server, serializer):
    backend = RedisBackend(server, Encoding(serializer, [serializer]))
    bomb = pickle.dumps(Bomb(), 2)
    server.call("SET", "celery-task-meta-t", bomb)
    server.call("SET", "celery-taskset-meta-g", bomb)
    assert isinstance(backend.get("t").exc, CorruptResult)
    with pytest.raises(CorruptResult):
        backend.restore_group("g")
    assert not Bomb.ran
    with pytest.raises(NotSerializable):  # nor is one written
        backend.settle("u", Record("SUCCESS", pack({1j}), done=1.0, settled=0))
    backend.close()


# -- runs and plans ---------------------------------------------------------------------------------------------------


def test_what_is_said_once_of_a_run_is_written_when_the_server_is_back(redis_server, redis_url):
    first = StoredRun("a", "name", 1.0, None, 2.0, "host:1", 1, b"plan", b"state")
    once = [{"state": b"ended"}]
    with Proxy(redis_server.port) as proxy:
        server = RedisServer(proxy.url("redis"))
        backend = RedisBackend(server)
        backend.runs.put("a", lambda: first, at_once=True)

        def cut(words, answered):
            if words[0] == b"HSET" and not answered:
                proxy.on_command = None
                proxy.cut()
                proxy.mend()

        proxy.on_command = cut
        backend.runs.update("a", lambda: {"seen": 3.0, **(once.pop() if once else {})})
        assert backend.flush(60)
        assert proxy.on_command is None
        assert backend.runs.look("a") == first._replace(seen=3.0, state=b"ended")
        backend.close()


def test_runs_are_kept_beside_their_results(backend, server):
    first = StoredRun("a", "name", 1.0, None, 2.0, "host:1", 1, b"plan", b"state\x00")
    backend.runs.put("a", lambda: first)
    backend.runs.put("b", lambda: first._replace(id="b", name=None, started=5.0))
    assert backend.flush(60)
    assert backend.runs.look("a") == first
    assert [(line.id, line.name) for line in backend.runs.lines()] == [("b", None), ("a", "name")]
    assert [line.id for line in backend.runs.lines(1)] == ["b"]
    backend.runs.update("a", lambda: {"seen": 3.0, "finished": 4.0, "state": b"more"})
    backend.runs.update("unknown", lambda: {"seen": 3.0})
    assert backend.flush(60)
    assert backend.runs.look("a") == first._replace(seen=3.0, finished=4.0, state=b"more")
    assert backend.runs.look("unknown") is None
    assert 0 < server.call("TTL", "nbcanvas-run-a") <= 86400
    server.call("DEL", "nbcanvas-run-b")
    assert [line.id for line in backend.runs.lines()] == ["a"]
    server.call("HSET", "nbcanvas-run-a", "started", "never")
    with pytest.raises(CorruptResult, match="of the run a"):
        backend.runs.look("a")


def test_results_of_calls_come_with_the_calls(backend):
    calls = [Call(f"t{n}", "proj.add", ()) for n in range(3)]
    backend.settle("t0", done(value=0))
    backend.update("t1", Record("STARTED"))
    found = backend.runs.results(calls)
    assert list(found) == ["t0"]
    assert found["t0"].call is calls[0]
    assert set(backend.get_many(["t0", "t1", "t2"])) == {"t0", "t1"}


def test_plans_are_found_again(backend, redis_url, server):
    backend.plans.put("p", b"text")
    other = RedisBackend(RedisServer(redis_url))
    assert backend.plans.get("p") == other.plans.get("p") == b"text"
    assert 0 < server.call("TTL", "nbcanvas-plan-p") <= 86400
    server.call("DEL", "nbcanvas-plan-p")
    with pytest.raises(InvalidTaskError, match="plan p"):
        other.plans.get("p")
    other.close()


def test_states_that_celery_never_stores_are_ends(backend):
    for state in (states.IGNORED, states.REJECTED):
        assert backend.settle(state, Record(state, done=1.0, settled=0))
        assert not backend.update(state, Record("HALFWAY"))
