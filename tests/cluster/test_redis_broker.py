"""Queues on Redis: kombu, in this process, reads what ours writes and the other way round."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import kombu
import pytest

from nbcanvas.broker.redis import _PUSH
from nbcanvas.errors import ImproperlyConfigured, ServerLost
from nbcanvas.ledger.redis import RedisLedger
from nbcanvas.plan import Call, Fan
from nbcanvas.protocol.letter import Letter
from nbcanvas.protocol.payload import unpack_args
from nbcanvas.servers.queues import Queues, QueueSpec
from nbcanvas.servers.redis import RedisServer, Refused, Script
from tests.cluster.on_redis import World, new_id
from tests.cluster.proxy import Proxy
from tests.servers import Redis, free_port, program, until

pytestmark = pytest.mark.servers


def call(*args, **options):
    return Call(new_id(), "add", args, options=options)


def letter(queue="q", exchange="", key=None, body=b"[[1], {}, {}]", priority=0):
    headers = {"task": "add", "id": new_id()}
    return Letter(queue, headers, body, {"correlation_id": headers["id"]}, priority, exchange=exchange, routing_key=key)


# -- kombu ------------------------------------------------------------------------------------------------------------


def test_kombu_consumes_what_we_publish_urgent_ones_first(world, redis_url):
    for priority in (9, 0, 3, 5):
        world.send(call(priority, priority=priority))
    seen = []
    with (
        kombu.Connection(redis_url) as connection,
        connection.Consumer(
            kombu.Queue("celery"),
            callbacks=[lambda body, message: (seen.append((body[0], message.properties)), message.ack())],
        ),
    ):
        while len(seen) < 4:
            connection.drain_events(timeout=60)
    assert [args for args, _ in seen] == [[0], [3], [5], [9]]
    tags = {properties["delivery_tag"] for _, properties in seen}
    assert len(tags) == 4
    assert all(properties["reply_to"] == "client" for _, properties in seen)


@pytest.mark.parametrize("priority", range(10))
def test_we_take_what_kombu_publishes(world, redis_url, priority):
    with kombu.Connection(redis_url) as connection:
        queue = kombu.Queue("celery", kombu.Exchange("celery"), "celery")
        connection.Producer().publish(
            [[1], {}, None],
            headers={"task": "add", "id": "t", "lang": "py"},
            exchange="celery",
            routing_key="celery",
            declare=[queue],
            priority=priority,
        )
    ledger = world.ledger()
    (delivery,) = ledger.take(1, 0, 0)
    assert unpack_args(world.post.read(delivery.letter).call.payload) == ((1,), {})
    assert world.lists.keys("celery")[(0, 3, 6, 9).index(priority // 3 * 3)] == ledger._held[delivery.tag][1]
    ledger.close()


def test_a_named_exchange_brings_a_letter_to_the_queues_bound_to_it(world, redis_url):
    with kombu.Connection(redis_url) as connection:
        direct, topic = kombu.Exchange("d"), kombu.Exchange("t", type="topic")
        bound = [
            kombu.Queue("one", direct, "k"),
            kombu.Queue("two", direct, "k"),
            kombu.Queue("other", direct, "l"),
            kombu.Queue("stars", topic, "a.*.c"),
            kombu.Queue("hashes", topic, "a.#"),
        ]
        for queue in bound:
            queue(connection.default_channel).declare()
    world.broker.post([letter("one", "d", "k"), letter("stars", "t", "a.b.c"), letter("stars", "t", "a.b.d")])
    world.broker.notice(["one", "two", "other", "stars", "hashes"])
    depth = world.broker.depth()
    assert {name: depth[name] for name in ("one", "two", "other", "stars", "hashes")} == {
        "one": 1, "two": 1, "other": 0, "stars": 1, "hashes": 2,
    }  # fmt: skip


def test_a_letter_to_an_exchange_that_nobody_has_bound_waits_in_its_queue(world):
    world.broker.post([letter("waiting", "nowhere", "k")])
    assert world.server.call("LLEN", "waiting") == 1


def test_our_workers_bind_their_queues_as_kombu_does(world, redis_url):
    queues = Queues(
        [kombu.Queue("dq", kombu.Exchange("d"), "k"), kombu.Queue("tq", kombu.Exchange("t", "topic"), "a.*")]
    )
    ledger = RedisLedger(world.backend, world.post, world.lists, queues, ["dq", "tq"], "w@here")
    ledger.take(1, 0, 0)
    ours = {key: world.server.call("SMEMBERS", key) for key in world.keys("_kombu.binding*")}
    world.server.call("FLUSHALL")
    with kombu.Connection(redis_url) as connection:
        for queue in (
            kombu.Queue("dq", kombu.Exchange("d"), "k"),
            kombu.Queue("tq", kombu.Exchange("t", "topic"), "a.*"),
        ):
            queue(connection.default_channel).declare()
    theirs = {key: world.server.call("SMEMBERS", key) for key in world.keys("_kombu.binding*")}
    assert {key: set(members) for key, members in ours.items()} == {key: set(m) for key, m in theirs.items()}


def test_a_queue_of_a_fanout_exchange_is_refused(world):
    queues = Queues({"f": {"exchange": "e", "exchange_type": "fanout"}})
    with pytest.raises(ImproperlyConfigured, match="fanout exchange 'e'"):
        RedisLedger(world.backend, world.post, world.lists, queues, ["f"], "w@here")


def test_a_global_prefix_is_kombus(redis_url):
    world = World(redis_url, prefix="team:")
    world.send(call(1))
    seen = []
    hear = [lambda body, message: (seen.append(body), message.ack())]
    with (
        kombu.Connection(redis_url, transport_options={"global_keyprefix": "team:"}) as connection,
        connection.Consumer(kombu.Queue("celery"), callbacks=hear),
    ):
        connection.drain_events(timeout=60)
    assert seen[0][0] == [1]
    world.close()


# -- publishing -------------------------------------------------------------------------------------------------------


def test_messages_keep_their_order_however_many(world):
    calls = [call(n) for n in range(1234)]
    world.send(Fan(new_id(), calls))
    ledger = world.ledger()
    taken = ledger.take(1000, 0, 0), ledger.take(1000, 0, 0)
    assert [d.letter.headers["id"] for part in taken for d in part] == [one.id for one in calls]
    ledger.close()


def test_a_batch_whose_reply_is_lost_is_sent_once(redis_server, redis_url):
    with Proxy(redis_server.port) as proxy:
        world = World(f"redis://127.0.0.1:{proxy.port}/0")
        lost = []

        def lose(command, answered):
            if command[0] == b"EVALSHA" and b"nbcanvas:sent:" in command[3] and answered and not lost:
                lost.append(command)
                proxy.cut()
                threading.Timer(0.05, proxy.mend).start()

        world.broker._retry["max_retries"] = 100  # whoever mends it may be late
        world.send(call(0))  # the script is known now
        proxy.on_command = lose
        world.send(call(1))
        proxy.on_command = None
        assert lost
        assert world.broker.depth() == {"celery": 2}
        world.close()


def test_what_is_sent_is_told_which_data_it_was_put_beside(world):
    told = []

    class Witness:
        epoch_key = "epoch"

        def sent(self, task_ids, epoch):
            told.append((list(task_ids), epoch))

    world.broker._witness = Witness
    calls = [call(number) for number in range(3)]
    world.send(calls[0])
    world.send(calls[1])
    first = world.server.call("GET", "epoch")
    world.server.call("FLUSHALL")
    world.send(calls[2])
    assert told == [
        ([one.id], epoch) for one, epoch in zip(calls, (first, first, world.server.call("GET", "epoch")), strict=True)
    ]
    assert told[2][1] != first


def test_a_batch_that_is_sent_again_to_other_data_is_told_so(world):
    def push():
        return world.server.run(_PUSH, ("sender", "queue", "epoch"), (1, 1, 1, b"message"))

    first = push()
    assert push() == first
    world.server.call("FLUSHALL")
    assert push() not in {None, first}
    assert world.server.call("LLEN", "queue") == 1


def test_a_server_that_stays_away_is_said_to_be_after_the_retries(world):
    world.broker.server = RedisServer(f"redis://:secret@127.0.0.1:{free_port()}/0")
    world.broker._retry = {"max_retries": 2, "interval_start": 0, "interval_step": 0.01, "interval_max": 0.1}
    with pytest.raises(ServerLost, match=r"redis://:\*+@") as caught:
        world.broker.publish([])
        world.broker.post([letter()])
    assert "secret" not in str(caught.value)


def test_a_forked_child_publishes_for_itself(world):
    world.send(call(0))
    child = os.fork()
    if not child:
        try:
            world.send(call(1))
            world.send(call(2))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    world.send(call(3))
    assert world.broker.depth() == {"celery": 4}


def test_what_waits_can_be_counted_looked_at_and_dropped(world):
    world.send(call(1))
    world.send(call(2, priority=9))
    world.server.call("LPUSH", "celery", "garbage")
    assert world.broker.depth() == {"celery": 3}
    assert [unpack_args(message.call.payload)[0] for message in world.broker.waiting()] == [(1,), (2,)]
    assert world.broker.purge() == 3
    assert world.broker.depth() == {"celery": 0}
    assert world.broker.purge(["unknown"]) == 0
    assert world.broker.withdraw(lambda _: True) == []


def test_workers_of_ours_are_known_by_their_queues(world):
    first, second = world.ledger("a@here"), world.ledger("b@here", ["celery", "more"])
    first.beat()
    second.beat()
    assert world.broker.consumers() == {"celery": ["a@here", "b@here"], "more": ["b@here"]}
    first.close()
    second.close()
    assert world.broker.consumers() == {}


# -- the server -------------------------------------------------------------------------------------------------------


def test_an_interrupt_never_leaves_a_reply_for_the_next_question(redis_url):
    server = RedisServer(redis_url)
    for n in range(50):
        server.call("SET", f"k{n}", n)
    main = threading.get_ident()
    interrupts = 0
    for n in range(150):
        timer = threading.Timer(0.0005 * (n % 7), lambda: signal.pthread_kill(main, signal.SIGINT))
        try:
            timer.start()
            for k in range(50):
                assert server.call("GET", f"k{k}") == str(k).encode()
            timer.join()
            time.sleep(0.001)
        except KeyboardInterrupt:
            interrupts += 1
        timer.join()
    assert interrupts > 50
    assert [server.call("GET", f"k{k}") for k in range(50)] == [str(k).encode() for k in range(50)]


def test_a_server_that_was_restarted_is_connected_to_again(tmp_path):
    redis = Redis(tmp_path, persistent=True)
    try:
        server = RedisServer(redis.url)
        script = Script("return redis.call('INCR', KEYS[1])")
        assert server.run(script, ("n",)) == 1
        redis.stop()
        with pytest.raises(ServerLost):
            server.call("PING")
        redis.start()
        assert server.run(script, ("n",)) == 2  # a new server does not know the script
    finally:
        redis.stop()


def test_errors_say_what_is_wrong_and_no_password(tmp_path):
    redis = Redis(tmp_path, password="hunter2", arguments=("--maxmemory", "1mb"))
    try:
        server = RedisServer(redis.url)
        assert server.call("PING") == b"PONG"
        wrong = RedisServer(redis.url.replace("hunter2", "hunter3"))
        with pytest.raises(ServerLost, match="password") as refused:
            wrong.call("PING")
        with pytest.raises(ServerLost, match="out of memory") as full:
            server.call("SET", "k", "x" * 2_000_000)
            server.call("SET", "l", "x")
        with pytest.raises(Refused) as odd:
            server.call("GET")
        for caught in (refused, full, odd):
            assert "hunter" not in str(caught.value)
        assert "hunter" not in repr(server) + repr(wrong) + server.name
    finally:
        redis.stop()


def test_a_unix_socket(tmp_path):
    redis = Redis(tmp_path, arguments=("--unixsocket", str(tmp_path / "redis.sock")))
    try:
        for url in (f"unix://{tmp_path}/redis.sock?db=2", f"redis+socket://{tmp_path}/redis.sock?virtual_host=2"):
            server = RedisServer(url)
            server.call("INCR", "n")
        assert server.call("GET", "n") == b"2"
    finally:
        redis.stop()


def test_tls(tmp_path):
    port = free_port()
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    arguments = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key),
                 "--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no", "--save", ""]  # fmt: skip
    process = subprocess.Popen([program("redis-server"), *arguments], stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        verified = RedisServer(f"rediss://localhost:{port}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={cert}")
        until(lambda: verified.wait(0.2))
        assert verified.call("PING") == b"PONG"
        assert RedisServer(f"rediss://localhost:{port}/0", ssl={"ssl_cert_reqs": "none"}).call("PING") == b"PONG"
        assert RedisServer(f"redis://localhost:{port}/0", ssl={"ssl_ca_certs": str(cert)}).call("PING") == b"PONG"
        with pytest.raises(ServerLost, match=r"(?i)certificate"):
            RedisServer(f"rediss://localhost:{port}/0").call("PING")
        world = World(f"rediss://localhost:{port}/0?ssl_cert_reqs=none")
        heard = []
        one = call(1, 2)
        world.backend.watch([one.id], lambda *end: heard.append(end))
        ledger = world.ledger()
        taken = []
        thread = threading.Thread(target=lambda: taken.extend(ledger.take(1, 1, 60)))
        thread.start()
        world.send(one)
        thread.join(60)
        world.commit(ledger, [world.steps(taken[0])])
        until(lambda: heard)
        ledger.close()
        world.close()
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("sentinel://h:26379", "does not mean one Redis server"),
        ("redis://h:port/0", "no URL of a Redis server"),
        ("redis://h/0?ssl_cert_reqs=none", "TLS is rediss"),
        ("rediss://:secret@h/0?ssl_cert_reqs=maybe", "CERT_REQUIRED"),
        ("unix://", "names no socket"),
    ],
)
def test_urls_that_mean_no_redis(url, what):
    with pytest.raises(ImproperlyConfigured, match=what) as caught:
        RedisServer(url)
    assert "secret" not in str(caught.value)


def test_queue_specs_have_kombus_bindings(world):
    spec = QueueSpec("q", "e", "topic", "a.*.#")
    assert world.lists.bindings(spec) == [("e", "a.*.#\x06\x16^a\\.[^\\.]+\\..*?$\x06\x16q")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("redis://h", "redis://h:6379/0", True),
        ("redis://h/", "redis://:pw@h/0", True),
        ("redis://", "redis://localhost/0", True),
        ("redis://localhost", "redis://127.0.0.1:6379/0", True),
        ("redis://LOCALHOST:6379", "redis://[::1]", True),
        ("redis://127.0.0.1:6380/3", "redis://:pw@localhost:6380?db=3", True),
        ("redis://Here.example", "redis://here.example:6379", True),
        ("redis://h?virtual_host=2", "redis://h/2", True),
        ("unix:///s", "redis+socket:///s?virtual_host=0", True),
        ("redis://h/1", "redis://h", False),
        ("redis://h:6380", "redis://h", False),
        ("redis://127.0.0.2", "redis://127.0.0.1", False),
        ("redis://localhost.example", "redis://localhost", False),
        ("unix:///s", "unix:///t", False),
    ],
)
def test_one_server_is_one_however_it_is_written(one, other, same):
    assert RedisServer(one).same_as(RedisServer(other)) is same


def test_a_redis_cluster_is_refused(tmp_path):
    redis = Redis(tmp_path, arguments=("--cluster-enabled", "yes", "--cluster-port", str(free_port())))
    try:
        with pytest.raises(ImproperlyConfigured, match="is a node of a Redis Cluster"):
            RedisServer(redis.url).call("PING")
    finally:
        redis.stop()
