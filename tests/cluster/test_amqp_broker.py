"""What a client puts into RabbitMQ: queues as Celery declares them, priorities, exchanges, and never a lost message."""

import threading
from collections.abc import Iterator

import kombu
import pytest

from nbcanvas import App
from nbcanvas.errors import ImproperlyConfigured, ServerLost
from tests.cluster.amqp_tasks import define
from tests.cluster.fleet import Fleet
from tests.cluster.proxy import Proxy
from tests.servers import RabbitMQ, free_port

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
TASKS = "tests.cluster.amqp_tasks"


@pytest.fixture
def connection(rabbitmq_server: RabbitMQ) -> Iterator[kombu.Connection]:
    with kombu.Connection(rabbitmq_server.url) as one:
        yield one


def app_on(url: str, backend: str = "rpc://", **settings) -> App:
    app = App("amqp", broker=url, backend=backend, set_as_current=False, **settings)
    define(app)
    return app


def taken(connection: kombu.Connection, queue: str) -> list[kombu.Message]:
    """Take everything out of a queue."""
    channel, found = connection.channel(), []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        found.append(channel.message_to_python(message))
    return found


def test_a_large_group_arrives_once_and_in_order(rabbitmq_server, connection):
    app = app_on(rabbitmq_server.url, task_default_queue="many")
    from nbcanvas import group

    group(app.tasks["add"].s(n) for n in range(3000)).apply_async()
    assert app.broker.depth()["many"] == 3000
    numbers = [message.payload[0][0] for message in map(_json, taken(connection, "many"))]
    assert numbers == list(range(3000))
    app.close()


def _json(message: kombu.Message) -> kombu.Message:
    message.accept = {"application/json"}
    return message


def test_priorities_are_rabbitmqs(rabbitmq_server, connection):
    app = app_on(rabbitmq_server.url, task_default_queue="urgent", task_queue_max_priority=10)
    for priority in (1, 9, 5):
        app.tasks["add"].apply_async((priority,), priority=priority)
    assert [message.properties["priority"] for message in taken(connection, "urgent")] == [9, 5, 1]
    app.close()


def test_a_topic_exchange_sends_to_every_queue_bound_to_it(rabbitmq_server, connection):
    exchange = kombu.Exchange("feeds", "topic")
    queues = [kombu.Queue("feeds_all", exchange, "feed.#"), kombu.Queue("feeds_sports", exchange, "feed.sports.*")]
    settings = {"task_queues": queues, "task_default_queue": "feeds_all"}
    app = app_on(rabbitmq_server.url, task_create_missing_queues=False, **settings)
    app.tasks["add"].apply_async((0,), queue="feeds_sports", routing_key="feed.sports.news")  # declares its queue only
    app.tasks["add"].apply_async((1,), queue="feeds_all", routing_key="feed.weather")
    app.tasks["add"].apply_async((2,), queue="feeds_all", routing_key="feed.sports.golf")
    assert len(taken(connection, "feeds_all")) == 2
    assert len(taken(connection, "feeds_sports")) == 2
    with pytest.raises(ImproperlyConfigured, match="went nowhere"):
        app.tasks["add"].apply_async((3,), exchange="feeds", routing_key="unheard.of")
    with pytest.raises(ImproperlyConfigured, match="task_create_missing_queues"):
        app.tasks["add"].apply_async((4,), queue="feeds_none")
    app.close()


def test_a_quorum_queue_is_worked_on(rabbitmq_server, redis_url):
    settings = {"task_default_queue": "quorum", "task_default_queue_type": "quorum"}
    with Fleet(rabbitmq_server.url, redis_url, TASKS, **settings) as fleet:
        fleet.ours()
        app = fleet.client()
        from nbcanvas import group

        result = group(app.tasks["add"].s(n, 1) for n in range(50)).apply_async()
        assert result.get(timeout=60) == list(range(1, 51))
        later = group(app.tasks["add"].si(n).set(countdown=1) for n in range(30)).apply_async()
        assert app.tasks["add"].delay(1, 1).get(timeout=60) == 2, "tasks that wait for their time stand in the way"
        assert later.get(timeout=60) == list(range(30))
    other = app_on(rabbitmq_server.url, task_default_queue="quorum")
    with pytest.raises(ImproperlyConfigured, match="'quorum' exists, and is not what the settings say"):
        other.tasks["add"].delay(1)
    other.close()


def test_a_queue_that_was_deleted_is_made_again(rabbitmq_server, connection):
    app = app_on(rabbitmq_server.url, task_default_queue="gone")
    app.tasks["add"].delay(1)
    connection.channel().queue_delete("gone")
    app.tasks["add"].delay(2)
    assert app.broker.depth()["gone"] == 1
    assert app.broker.purge() == 1
    app.close()


def test_the_connection_of_a_client_is_cut_between_and_while_it_sends(rabbitmq_server):
    with Proxy(rabbitmq_server.port) as proxy:
        app = app_on(f"amqp://guest:guest@127.0.0.1:{proxy.port}//", task_default_queue="cut")
        add = app.tasks["add"]
        add.delay(0)
        proxy.cut()
        proxy.mend()
        add.delay(1)
        assert app.broker.depth()["cut"] == 2
        from nbcanvas import group

        proxy.delay = 0.02
        cutter = threading.Timer(0.15, lambda: (proxy.cut(), proxy.mend()))
        cutter.start()
        group(add.s(n) for n in range(2000)).apply_async()
        cutter.join()
        proxy.delay = 0.0
        assert app.broker.depth()["cut"] >= 2002, "messages were lost"
        app.close()


def test_a_broker_that_is_away_is_an_error_without_its_password():
    url = f"amqp://someone:verysecret@127.0.0.1:{free_port()}//"
    app = app_on(url, backend="db+sqlite:////tmp/never-written.sqlite", database_create_tables_at_setup=False)
    with pytest.raises(ServerLost, match="amqp://someone:") as raised:
        app.tasks["add"].delay(1)
    shown = "".join(map(str, [raised.value, repr(raised.value), raised.value.__cause__, raised.value.__context__]))
    assert "verysecret" not in shown
    app.close()


def test_threads_publish_at_the_same_time(rabbitmq_server, connection):
    app = app_on(rabbitmq_server.url, task_default_queue="threads")
    add = app.tasks["add"]
    add.delay(0)
    threads = [threading.Thread(target=lambda: [add.delay(n) for n in range(50)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken(connection, "threads")) == 301
    app.close()
