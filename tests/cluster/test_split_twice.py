"""One message that is in a queue of RabbitMQ twice, and an id that is used again: what begins, and what does not."""

import threading
import uuid
from time import monotonic, time

import kombu
import pytest

from nbcanvas import App, states
from nbcanvas.backend.port import Record
from nbcanvas.ledger import split
from nbcanvas.ledger.consumer import Consumer
from nbcanvas.ledger.port import Step
from nbcanvas.plan import Value, advance
from nbcanvas.protocol.letter import AGAIN, Letter
from tests.cluster.proxy import Proxy
from tests.servers import RabbitMQ, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture
def ledgers(split_app: App):
    made = [split_app.ledger(f"{name}@here") for name in ("one", "two")]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def acks(monkeypatch) -> list[object]:
    """What has been acknowledged, whoever did."""
    tags: list[object] = []
    real = Consumer.ack

    def ack(self: Consumer, generation: int, tag: object) -> bool:
        acknowledged = real(self, generation, tag)
        tags.extend([tag] if acknowledged else [])
        return acknowledged

    monkeypatch.setattr(Consumer, "ack", ack)
    return tags


def done(split_app: App, delivery, value) -> Step:
    """Return the step of a message whose task returned a value."""
    message = split_app.post.read(delivery.letter)
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

    until(came)
    return found[0]


def put(split_app: App, *, again: bool, like: Letter | None = None) -> Letter:
    """Put a message into the queue, or another one like it."""
    if like is None:
        split_app.tasks["add"].apply_async((1, 1))
        with kombu.Connection(split_app.conf.broker_url) as connection:
            channel = connection.channel()
            raw = channel.basic_get(split_app.conf.task_default_queue, no_ack=True)
            message = channel.message_to_python(raw)
        names = ("correlation_id", "reply_to", "delivery_mode")
        properties = {name: message.properties.get(name) for name in names}
        like = Letter(split_app.conf.task_default_queue, dict(message.headers), message.body.encode(), properties)
    letter = Letter(like.queue, {**like.headers}, like.body, like.properties)
    letter.headers.pop(AGAIN, None)
    if again:
        letter.headers[AGAIN] = True
    split_app.broker.deliver([letter])
    return letter


def all_gone(split_app: App, ledgers, acks: list[object], messages: int = 2) -> None:
    """What is left of so many messages begins nowhere, and is acknowledged."""

    def turn() -> bool:
        for ledger in ledgers:
            ledger.beat()
            for one in ledger.take(1, 1, timeout=0.1):
                assert one.ended is not None
                ledger.commit([done(split_app, one, 2)])
        return len(acks) >= messages

    until(turn, what="every message is acknowledged")
    assert len(acks) == messages
    for ledger in ledgers:
        ledger.close()
    assert split_app.broker.depth()[split_app.conf.task_default_queue] == 0


@pytest.mark.parametrize("marked", [(False, True), (True, False), (False, False), (True, True)])
def test_of_two_copies_one_begins_and_the_other_waits_for_its_end(split_app, ledgers, acks, marked):
    one, two = ledgers
    letter = put(split_app, again=marked[0])
    first = take(one)
    put(split_app, again=marked[1], like=letter)

    def waits() -> bool:
        two.beat()
        assert two.take(1, 1, timeout=0.3) == (), "it begins a second time, while the first one runs"
        return bool(two._doubts)

    for _ in range(3):  # it has come, and is looked at again
        until(waits)
    one.commit([done(split_app, first, 2)])
    all_gone(split_app, ledgers, acks)


@pytest.mark.parametrize("goes_on", [True, False], ids=["runs", "has ended"])
def test_what_was_taken_before_its_copy_began_elsewhere_does_not_begin(split_app, ledgers, acks, goes_on):
    one, two = ledgers
    letter = put(split_app, again=False)
    early = take(one, begin=0)
    put(split_app, again=True, like=letter)
    copy = take(two)
    if not goes_on:
        two.commit([done(split_app, copy, 2)])
    assert one.started([early.tag]) == [early.tag]
    if goes_on:
        assert one.take(1, 1, timeout=0.3) == ()
        two.commit([done(split_app, copy, 2)])
    all_gone(split_app, ledgers, acks)


def test_both_copies_at_one_worker_and_the_next_message_begins_in_their_place(split_app, ledgers, acks):
    one, _ = ledgers
    letter = put(split_app, again=False)
    put(split_app, again=False, like=letter)
    other = Letter(letter.queue, {**letter.headers, "id": uuid.uuid4().hex}, letter.body, letter.properties)
    split_app.broker.deliver([other])
    until(lambda: split_app.broker.depth()[split_app.conf.task_default_queue] == 3)
    came = []
    until(lambda: came.extend(one.take(3, 2, timeout=0.2)) or len(came) == 2)
    assert [delivery.letter.headers["id"] for delivery in came] == [letter.headers["id"], other.headers["id"]]
    assert {
        record.state for record in split_app.backend.get_many([x.headers["id"] for x in (letter, other)]).values()
    } == {states.STARTED}
    one.commit([done(split_app, delivery, 2) for delivery in came])
    all_gone(split_app, ledgers, acks, 3)


def begin_and_lose(split_app, one, two):
    """Have one ledger refused what the other one has begun; then that one loses its connection."""
    letter = put(split_app, again=False)
    early = take(one, begin=0)
    put(split_app, again=True, like=letter)
    take(two)
    assert one.started([early.tag]) == [early.tag]
    two._consumer._link._connection.collect()
    two._consumer._link.broken = True


def test_a_copy_whose_other_one_died_runs(split_app, ledgers, acks, monkeypatch):
    monkeypatch.setattr(split, "_GRACE", 0.3)
    one, two = ledgers
    begin_and_lose(split_app, one, two)  # as if its process had been killed
    delivery = take(one)
    assert delivery.ended is None
    one.commit([done(split_app, delivery, 3)])
    all_gone(split_app, [one], acks)


def test_a_pause_of_this_process_is_not_taken_for_the_death_of_another_one(split_app, ledgers, acks, monkeypatch):
    """A machine that stood still for ten seconds: everybody was silent, and nobody is dead."""
    passed = 0.0
    monkeypatch.setattr(split, "monotonic", lambda: monotonic() + passed)
    one, two = ledgers
    begin_and_lose(split_app, one, two)  # the connection, and it is about to come back
    came = []
    for seconds in (0.0, 60.0, 0.0):
        passed += seconds
        one.beat()
        came += one.take(1, 1, timeout=0.3)
    assert not came, "it counts as dead though nobody has looked for it"
    while not came:
        passed += 1.0
        one.beat()
        came += one.take(1, 1, timeout=0.1)
    one.commit([done(split_app, came[0], 3)])
    all_gone(split_app, [one], acks)


def test_an_id_that_is_used_again_runs_again(split_app, ledgers):
    one, _ = ledgers
    letter = put(split_app, again=False)
    one.commit([done(split_app, take(one), 2)])
    for begin in (1, 0):
        put(split_app, again=False, like=letter)
        delivery = take(one, begin)
        assert delivery.ended is None
        assert not one.started([delivery.tag])
        one.commit([done(split_app, delivery, 2)])


def test_what_nobody_confirmed_is_sent_again_and_says_so(rabbitmq_server: RabbitMQ, redis_url: str):
    """More than may be unconfirmed at a time: nothing is left out, and what was on its way says so."""
    queue = f"twice_{uuid.uuid4().hex[:8]}"
    letters = [Letter(queue, {"id": str(number), "task": "add"}, b"[]", {}) for number in range(600)]
    with Proxy(rabbitmq_server.port) as proxy, kombu.Connection(rabbitmq_server.url) as connection:
        patient = {"max_retries": 30, "interval_start": 0.1}  # the proxy is mended when this thread gets to it
        app = App(
            "s",
            broker=proxy.url("amqp"),
            backend=redis_url,
            set_as_current=False,
            task_default_queue=queue,
            task_publish_retry_policy=patient,
        )
        channel = connection.channel()
        app.broker.deliver(letters[:1])
        proxy.mute = True
        sender = threading.Thread(target=app.broker.deliver, args=(letters[1:],))
        sender.start()
        until(lambda: channel.queue_declare(queue, passive=True).message_count >= 500)
        proxy.cut()
        proxy.mute = False
        proxy.mend()
        sender.join(60)
        assert not sender.is_alive()
        app.close()
        copies: dict[str, list[bool]] = {letter.headers["id"]: [] for letter in letters}
        while (raw := channel.basic_get(queue, no_ack=True)) is not None:
            headers = channel.message_to_python(raw).headers
            copies[headers["id"]].append(bool(headers.get(AGAIN)))
    assert copies.pop("0") == [False]
    assert all(found in ([False, True], [True], [False]) for found in copies.values()), copies
    assert sum(found == [False, True] for found in copies.values()) > 400
