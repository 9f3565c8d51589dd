"""Servers and fleets that several modules need; what workers wrote is shown with the test that failed."""

import uuid

import pytest

from nbcanvas import App
from nbcanvas.app import fleet
from nbcanvas.run import overview
from tests.cluster.amqp_tasks import define
from tests.cluster.fleet import Fleet
from tests.cluster.on_redis import World
from tests.cluster.scene import Scene
from tests.servers import Redis


@pytest.fixture(scope="module")
def locked_redis(tmp_path_factory):
    """A Redis with a password, which nothing may show."""
    server = Redis(tmp_path_factory.mktemp("redis"), password="s3cret")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def both_kinds(locked_redis):
    """A worker of Celery's, celery@here, and one of ours, ours@here."""
    with Fleet(locked_redis.url, tasks="tests.cluster.remote_tasks") as fleet:
        fleet.celery("prefork", 2, name="celery@here", wait=False)
        fleet.ours("threads", 2, name="ours@here", wait=False)
        for worker in fleet.workers:
            worker.await_ready()
        yield fleet


@pytest.fixture
def world(redis_url):
    """Broker, backend and ledgers on an empty Redis."""
    made = World(redis_url)
    yield made
    made.close()


@pytest.fixture(params=["redis", "database"])
def split_app(request, rabbitmq_server, redis_url, tmp_path):
    """An app with the tasks of `amqp_tasks`: its broker is RabbitMQ, its results are elsewhere."""
    backend = redis_url if request.param == "redis" else f"db+sqlite:///{tmp_path}/results.sqlite"
    queue = f"split_{uuid.uuid4().hex[:8]}"
    one = App("s", broker=rabbitmq_server.url, backend=backend, set_as_current=False, task_default_queue=queue)
    define(one)
    yield one
    one.close()


@pytest.fixture
def scene_of(redis_url, tmp_path):
    """Return what makes a scene on an empty Redis."""
    scenes = []

    def make(**conf):
        scenes.append(Scene(redis_url, tmp_path, **conf))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def patient(monkeypatch):
    """What our client asks of workers by itself may take longer: those of a busy machine answer late."""
    for asks in (fleet.Fleet.ask, fleet.Fleet.sight, overview.cluster):
        monkeypatch.setitem(asks.__kwdefaults__, "timeout", 20 * fleet.PATIENCE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        report.sections += [section for fleet in Fleet.living for section in fleet.logs()]
    return report
