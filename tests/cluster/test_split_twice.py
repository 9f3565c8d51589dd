"""One message that is in a queue of RabbitMQ twice, and an id that is used again: what begins, and what does not."""

import threading
import uuid
from collections.abc import Iterator
from time import time

import kombu
import pytest

from nbcanvas import App, states
from nbcanvas.backend.port import Record
from nbcanvas.ledger import split
from nbcanvas.ledger.port import Step
from nbcanvas.plan import Value, advance
from nbcanvas.protocol.letter import AGAIN, Letter
from tests.cluster.amqp_tasks import define
from tests.cluster.proxy import Proxy
from tests.servers import RabbitMQ, until

pytestmark = pytest.mark.servers


@pytest.fixture(params=["redis", "database"])
def app(request, rabbitmq_server: RabbitMQ, redis_url: str, tmp_path) -> Iterator[App]:
    backend = redis_url if request.param == "redis" else f"db+sqlite:///{tmp_path}/results.sqlite"
    queue = f"twice_{uuid.uuid4().hex[:8]}"
    one = App("s", broker=rabbitmq_server.url, backend=backend, set_as_current=False, task_default_queue=queue)
    define(one)
    yield one
    one.close()


@pytest.fixture
def ledgers(app: App):
    made = [app.ledger(f"{name}@here") for name in ("one", "two")]
    yield made
    for one in made:
        one.close()


def done(app: App, delivery, value) -> Step:
    """Return the step of a message whose task returned a value."""
    message = app.post.read(delivery.letter)
    transition = advance(message, Value(value), 1.0)
    record = Record(states.SUCCESS, value, done=time(), settled=message.attempt, call=message.call)
    return Step(delivery, message, message.call.id, record, sends=transition.send)


def take(ledger, begin: int = 1):
    """Return the next delivery that comes out of a ledger."""
    found = []

    def came() -> bool:
        ledger.beat()
        found.extend(ledger.take(1, begin, timeout=0.2))
        return bool(found)

    until(came, 15)
    return found[0]


def put(app: App, *, again: bool, like: Letter | None = None) -> Letter:
    """Put a message into the queue, or another one like it."""
    if like is None:
        app.tasks["add"].apply_async((1, 1))
        with kombu.Connection(app.conf.broker_url) as connection:
            channel = connection.channel()
            raw = channel.basic_get(app.conf.task_default_queue, no_ack=True)
            message = channel.message_to_python(raw)
        names = ("correlation_id", "reply_to", "delivery_mode")
        properties = {name: message.properties.get(name) for name in names}
        like = Letter(app.conf.task_default_queue, dict(message.headers), message.body.encode(), properties)
    letter = Letter(like.queue, {**like.headers}, like.body, like.properties)
    letter.headers.pop(AGAIN, None)
    if again:
        letter.headers[AGAIN] = True
    app.broker.deliver([letter])
    return letter


def all_gone(app: App, ledgers) -> None:
    """What is left begins nowhere, and is acknowledged."""
    for _ in range(3):
        for ledger in ledgers:
            ledger.beat()
            for one in ledger.take(1, 1, timeout=0.2):
                assert one.ended is not None
                ledger.commit([done(app, one, 2)])
    for ledger in ledgers:
        ledger.close()
    assert app.broker.depth()[app.conf.task_default_queue] == 0


@pytest.mark.parametrize("marked", [(False, True), (True, False), (False, False), (True, True)])
def test_of_two_copies_one_begins_and_the_other_waits_for_its_end(app, ledgers, marked):
    one, two = ledgers
    letter = put(app, again=marked[0])
    first = take(one)
    put(app, again=marked[1], like=letter)
    for _ in range(3):
        two.beat()
        assert two.take(1, 1, timeout=0.3) == (), "it begins a second time, while the first one runs"
    one.commit([done(app, first, 2)])
    all_gone(app, ledgers)


@pytest.mark.parametrize("goes_on", [True, False], ids=["runs", "has ended"])
def test_what_was_taken_before_its_copy_began_elsewhere_does_not_begin(app, ledgers, goes_on):
    one, two = ledgers
    letter = put(app, again=False)
    early = take(one, begin=0)
    put(app, again=True, like=letter)
    copy = take(two)
    if not goes_on:
        two.commit([done(app, copy, 2)])
    assert one.started([early.tag]) == [early.tag]
    if goes_on:
        assert one.take(1, 1, timeout=0.3) == ()
        two.commit([done(app, copy, 2)])
    all_gone(app, ledgers)


def test_both_copies_at_one_worker_and_the_next_message_begins_in_their_place(app, ledgers):
    one, _ = ledgers
    letter = put(app, again=False)
    put(app, again=False, like=letter)
    other = Letter(letter.queue, {**letter.headers, "id": uuid.uuid4().hex}, letter.body, letter.properties)
    app.broker.deliver([other])
    until(lambda: app.broker.depth()[app.conf.task_default_queue] == 3, 10)
    came = []
    until(lambda: came.extend(one.take(3, 2, timeout=0.2)) or len(came) == 2, 10)
    assert [delivery.letter.headers["id"] for delivery in came] == [letter.headers["id"], other.headers["id"]]
    assert {record.state for record in app.backend.get_many([x.headers["id"] for x in (letter, other)]).values()} == {
        states.STARTED
    }
    one.commit([done(app, delivery, 2) for delivery in came])
    all_gone(app, ledgers)


def test_a_copy_whose_other_one_died_runs(app, ledgers, monkeypatch):
    monkeypatch.setattr(split, "_GRACE", 0.3)
    one, two = ledgers
    letter = put(app, again=False)
    early = take(one, begin=0)
    put(app, again=True, like=letter)
    take(two)
    assert one.started([early.tag]) == [early.tag]
    two._consumer._link._connection.collect()  # as if its process had been killed
    two._consumer._link.broken = True
    delivery = take(one)
    assert delivery.ended is None
    one.commit([done(app, delivery, 3)])
    all_gone(app, [one])


def test_an_id_that_is_used_again_runs_again(app, ledgers):
    one, _ = ledgers
    letter = put(app, again=False)
    one.commit([done(app, take(one), 2)])
    for begin in (1, 0):
        put(app, again=False, like=letter)
        delivery = take(one, begin)
        assert delivery.ended is None
        assert not one.started([delivery.tag])
        one.commit([done(app, delivery, 2)])


def test_what_nobody_confirmed_is_sent_again_and_says_so(rabbitmq_server: RabbitMQ, redis_url: str):
    """More than may be unconfirmed at a time: nothing is left out, and what was on its way says so."""
    queue = f"twice_{uuid.uuid4().hex[:8]}"
    letters = [Letter(queue, {"id": str(number), "task": "add"}, b"[]", {}) for number in range(600)]
    with Proxy(rabbitmq_server.port) as proxy, kombu.Connection(rabbitmq_server.url) as connection:
        app = App("s", broker=proxy.url("amqp"), backend=redis_url, set_as_current=False, task_default_queue=queue)
        channel = connection.channel()
        app.broker.deliver(letters[:1])
        proxy.mute = True
        sender = threading.Thread(target=app.broker.deliver, args=(letters[1:],))
        sender.start()
        until(lambda: channel.queue_declare(queue, passive=True).message_count >= 500, 20)
        proxy.cut()
        proxy.mute = False
        proxy.mend()
        sender.join(20)
        assert not sender.is_alive()
        app.close()
        copies: dict[str, list[bool]] = {letter.headers["id"]: [] for letter in letters}
        while (raw := channel.basic_get(queue, no_ack=True)) is not None:
            headers = channel.message_to_python(raw).headers
            copies[headers["id"]].append(bool(headers.get(AGAIN)))
    assert copies.pop("0") == [False]
    assert all(found in ([False, True], [True], [False]) for found in copies.values()), copies
    assert sum(found == [False, True] for found in copies.values()) > 400
