"""Our worker is started before its servers: it waits for them, says so, and can be stopped; what waiting cannot cure it
says at once.  As Celery's does, which logs an error for each try.
"""  # fmt: skip

from __future__ import annotations

import signal
import socket
import subprocess

import pytest

from tests.cluster.fleet import Fleet
from tests.servers import RabbitMQ, Redis, free_port, until

pytestmark = pytest.mark.servers
TASKS = "tests.cluster.trouble"


def works(fleet):
    add = fleet.client().tasks["add"]
    assert add.delay(1, 2).get(timeout=60) == 3


def test_redis_comes_later(tmp_path):
    server = Redis(tmp_path, password="sesame")
    server.stop()
    with Fleet(server.url, tasks=TASKS) as fleet:
        worker = fleet.ours(wait=False)
        until(lambda: "trying again in 2 s (2 of 100)" in worker.log, what="it waits, longer each time")
        server.start()
        worker.await_ready()
        works(fleet)
        assert f"redis://:********@127.0.0.1:{server.port}/0 is not there" in worker.log
        assert "sesame" not in worker.log
    server.stop()


def test_rabbitmq_comes_later(rabbitmq_server: RabbitMQ, redis_url):
    rabbitmq_server.stop()
    with Fleet(rabbitmq_server.url, redis_url, TASKS, task_default_queue="starts") as fleet:
        worker = fleet.ours(wait=False)
        until(lambda: "trying again in 1 s (1 of 100)" in worker.log, what="it waits")
        rabbitmq_server.start()
        worker.await_ready()
        works(fleet)
        assert f"amqp://guest:********@127.0.0.1:{rabbitmq_server.port}// does not answer" in worker.log


def test_the_results_of_rabbitmqs_tasks_come_later(rabbitmq_server: RabbitMQ, tmp_path):
    results = Redis(tmp_path)
    results.stop()
    with Fleet(rabbitmq_server.url, results.url, TASKS, task_default_queue="starts") as fleet:
        worker = fleet.ours(wait=False)
        until(lambda: "trying again in 1 s" in worker.log, what="it waits")
        results.start()
        worker.await_ready()
        works(fleet)
    results.stop()


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "says nothing"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("scheme", ["redis://127.0.0.1:{}/0", "amqp://guest:guest@127.0.0.1:{}//"])
def test_who_waits_can_be_stopped(scheme, sig, silent):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1] if silent else free_port()
        with Fleet(scheme.format(port), "rpc://" if "amqp" in scheme else None, TASKS) as fleet:
            worker = fleet.ours(wait=False)
            if silent:
                mute.settimeout(60)
                held, _ = mute.accept()
            else:
                until(lambda: "trying again" in worker.log, what="it waits")
            worker.signal(sig)
            assert worker.process.wait(60) == 0
            assert "ready" not in worker.log
            if silent:
                held.close()


@pytest.mark.parametrize(
    ("conf", "tries"),
    [
        ({"broker_connection_retry_on_startup": False}, 0),
        ({"broker_connection_retry_on_startup": None, "broker_connection_retry": False}, 0),
        ({"broker_connection_max_retries": 1}, 1),
    ],
)
@pytest.mark.parametrize("scheme", ["redis://:sesame@127.0.0.1:{}/0", "amqp://me:sesame@127.0.0.1:{}//"])
def test_it_tries_as_often_as_the_settings_say(scheme, conf, tries):
    with Fleet(scheme.format(free_port()), "rpc://" if "amqp" in scheme else None, TASKS, **conf) as fleet:
        said = ends(fleet)
        assert said.count("trying again") == tries
        assert "Error: " in said


def ends(fleet):
    """Return what a worker says that ends by itself."""
    worker = fleet.ours(wait=False)
    try:
        assert worker.process.wait(60) not in {0, None}
    except subprocess.TimeoutExpired:
        raise AssertionError(worker.log) from None
    assert "sesame" not in worker.log
    assert "Traceback" not in worker.log
    return worker.log


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A Redis with a password."""
    server = Redis(tmp_path_factory.mktemp("locked"), password="right")
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:sesame@127.0.0.1:{}/0", "does not accept the user name and the password"),
        ("redis://127.0.0.1:{}/0", "does not accept the user name and the password"),
        ("redis://:right@127.0.0.1:{}/99", "DB index is out of range"),
        ("nosuch://:sesame@127.0.0.1:{}/0", "No such transport: nosuch"),
    ],
)
def test_what_no_waiting_cures_is_said_at_once_of_redis(locked, url, says):
    with Fleet(url.format(locked.port), locked.url if "nosuch" in url else None, TASKS) as fleet:
        said = ends(fleet)
    assert says in said
    assert "trying again" not in said


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://guest:sesame@127.0.0.1:{}//", "ACCESS_REFUSED"),
        ("amqp://guest:guest@127.0.0.1:{}/elsewhere", "vhost elsewhere not found"),
        ("amqps://guest:guest@127.0.0.1:{}//", "WRONG_VERSION_NUMBER"),
    ],
)
def test_what_no_waiting_cures_is_said_at_once_of_rabbitmq(rabbitmq_server, url, says):
    with Fleet(url.format(rabbitmq_server.port), "rpc://", TASKS) as fleet:
        said = ends(fleet)
    assert says in said
    assert "trying again" not in said


def test_a_certificate_that_is_not_trusted_is_refused_at_once(tmp_path):
    key, cert, port = tmp_path / "key", tmp_path / "cert", free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=127.0.0.1"], check=True, capture_output=True,
    )  # fmt: skip
    files = ["--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-ca-cert-file", str(cert)]
    server = Redis(tmp_path, arguments=("--tls-port", str(port), *files, "--tls-auth-clients", "no"))
    with Fleet(f"rediss://127.0.0.1:{port}/0", tasks=TASKS) as fleet:
        said = ends(fleet)
    server.stop()
    assert "certificate verify failed" in said
    assert "trying again" not in said
