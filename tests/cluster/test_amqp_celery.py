"""RabbitMQ with each result backend, both ways with Celery's own workers and clients."""

from collections.abc import Iterator

import celery
import celery.exceptions
import pytest

import nbcanvas
from nbcanvas.errors import ChordError, ImproperlyConfigured
from tests.cluster.fleet import Fleet
from tests.servers import RabbitMQ

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
TASKS = "tests.cluster.amqp_tasks"
PAIRS = [("ours", "celery"), ("celery", "ours"), ("ours", "ours")]


def backend_url(kind: str, redis_url: str, folder) -> str:
    return {"redis": redis_url, "database": f"db+sqlite:///{folder}/results.sqlite", "rpc": "rpc://"}[kind]


@pytest.fixture(scope="module", params=["redis", "database", "rpc"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=PAIRS, ids=["ours-celery", "celery-ours", "ours-ours"])
def pair(
    request: pytest.FixtureRequest, kind: str, rabbitmq_server: RabbitMQ, redis_server, tmp_path_factory
) -> Iterator[tuple]:
    """A client's app, the canvas functions of its library, and a worker that consumes what it sends."""
    client, worker = request.param
    url = backend_url(kind, redis_server.url, tmp_path_factory.mktemp("results"))
    settings = {"task_default_queue": f"pair_{kind}_{client}_{worker}", "result_chord_retry_interval": 0.1}
    with Fleet(rabbitmq_server.url, url, TASKS, **settings) as fleet:
        fleet.celery("threads") if worker == "celery" else fleet.ours("threads")
        yield (fleet.client(), nbcanvas) if client == "ours" else (fleet.celery_client(), celery)


def test_tasks_chains_and_groups(pair, kind):
    app, library = pair
    add, again, boom = (app.tasks[name] for name in ("add", "again", "boom"))
    assert add.delay(2, 3).get(timeout=60) == 5
    assert library.chain(add.s(1, 1), add.s(2), add.s(3)).apply_async().get(timeout=60) == 7
    assert library.group(add.s(n, 1) for n in range(30)).apply_async().get(timeout=60) == list(range(1, 31))
    assert again.delay("x", 2).get(timeout=60) == "x"
    assert add.apply_async((1, 1), countdown=0.3).get(timeout=60) == 2
    with pytest.raises(ValueError, match="boom"):
        boom.delay().get(timeout=60)


def test_chords(pair, kind):
    app, library = pair
    add, total, boom = (app.tasks[name] for name in ("add", "total", "boom"))
    if kind == "rpc":
        with pytest.raises((ImproperlyConfigured, NotImplementedError), match="rpc"):
            library.chord([add.s(1, 1), add.s(2, 2)], total.s()).apply_async()
        return
    results = [
        library.chord([add.s(n, 1) for n in range(5)], total.s()).apply_async(),
        library.chain(add.s(1, 1), library.group(add.s(n) for n in range(3)), total.s(), add.s(1)).apply_async(),
        library.chord([library.chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(5, 5)], total.s()).apply_async(),
    ]
    assert [result.get(timeout=60) for result in results] == [15, 10, 16]
    failed = library.chord([add.s(1, 1), boom.s()], total.s()).apply_async()
    with pytest.raises((ChordError, celery.exceptions.ChordError, ValueError), match="boom"):
        failed.get(timeout=60)


def test_a_chord_behind_a_task_is_refused_without_results(rabbitmq_server: RabbitMQ):
    """What only the worker would find out is found out before anything is sent."""
    with Fleet(rabbitmq_server.url, "rpc://", TASKS, task_default_queue="refused") as fleet:
        app = fleet.client()
        add, total = app.tasks["add"], app.tasks["total"]
        with pytest.raises(ImproperlyConfigured, match="rpc"):
            nbcanvas.chain(add.s(1), nbcanvas.group(add.s(2), add.s(3)), total.s()).apply_async()
        assert app.broker.depth().get("refused", 0) == 0
