"""The ledger of RabbitMQ and a result backend: what is taken, written down, given back, and what comes twice."""

import kombu
import pytest

from nbcanvas import App, states
from nbcanvas.backend.port import Record
from nbcanvas.errors import ServerLost
from nbcanvas.ledger.port import Step
from nbcanvas.ledger.split import DEAD
from nbcanvas.plan import Value, advance
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture
def ledger(split_app: App):
    made = split_app.ledger("one@here")
    yield made
    made.close()


def done(split_app: App, delivery, value=None) -> Step:
    """Return the step of a message whose task returned a value."""
    message = split_app.post.read(delivery.letter)
    outcome = Value(value)
    record = Record(states.SUCCESS, value, done=1.0, settled=message.attempt, call=message.call)
    transition = advance(message, outcome, 1.0)
    sends, opens, arrivals = transition.send, transition.opens, transition.arrivals
    return Step(delivery, message, message.call.id, record, sends=sends, opens=opens, arrivals=arrivals)


def take(ledger, limit: int = 10):
    found = []
    until(lambda: found.extend(ledger.take(limit - len(found), timeout=0.2)) or len(found) == limit)
    return found


def test_a_step_is_stored_sent_and_acknowledged(split_app, ledger):
    add = split_app.tasks["add"]
    result = (add.s(1, 1) | add.s(5)).apply_async()
    (first,) = take(ledger, 1)
    (answer,) = ledger.commit([done(split_app, first, 2)])
    assert answer == (True, None)
    (second,) = take(ledger, 1)
    assert split_app.post.read(second.letter).call.id == result.id
    assert second.letter.properties["reply_to"] == split_app.client_id
    ledger.commit([done(split_app, second, 7)])
    assert result.get(timeout=60) == 7
    assert result.parent.get(timeout=60) == 2
    ledger.close()
    assert split_app.broker.depth()[split_app.conf.task_default_queue] == 0


def test_no_more_is_taken_than_asked_for_and_what_is_given_back_is_first_again(split_app, ledger):
    for number in range(6):
        split_app.tasks["add"].delay(number)
    taken = take(ledger, 3)
    other = split_app.ledger("two@here")
    assert len(take(other, 3)) == 3, "one worker reserved more than it asked for"
    other.close()
    until(lambda: split_app.broker.depth()[split_app.conf.task_default_queue] == 3)
    ledger.requeue(taken)
    # To who gives back, RabbitMQ may send what stands behind that first: its consumer is free before the queue has it.
    ledger.close()
    until(lambda: split_app.broker.depth()[split_app.conf.task_default_queue] == 6)
    third = split_app.ledger("three@here")
    numbers = [split_app.post.read(one.letter).call.payload.load()[0][0] for one in take(third, 6)]
    third.close()
    assert numbers == list(range(6))


def test_what_a_dead_worker_had_comes_again_and_what_it_began_is_said_to_have_begun(split_app, ledger):
    begun, waiting = (split_app.tasks["add"].delay(number) for number in range(2))
    dead = split_app.ledger("dead@here")
    taken = take(dead, 2)
    dead.started([taken[0].tag])
    marks = {taken[0].letter.headers["id"]: True, taken[1].letter.headers["id"]: False}
    dead._consumer._link._connection.collect()  # as if its process had been killed
    dead._consumer._link.broken = True
    came = []

    def all_came() -> bool:
        ledger.beat()
        came.extend(ledger.take(2, timeout=0.5))
        return len(came) == 2

    until(all_came)
    assert {one.letter.headers["id"]: one.began for one in came} == marks
    assert all(one.redelivered == 1 for one in came)
    assert begun.id != waiting.id


def test_a_task_that_has_ended_is_not_run_again_and_what_follows_it_is_sent(split_app, ledger):
    """A worker dies between storing a result and sending what follows."""
    add = split_app.tasks["add"]
    result = (add.s(1, 1) | add.s(5)).apply_async()
    dead = split_app.ledger("dead@here")
    (first,) = take(dead, 1)
    step = done(split_app, first, 2)
    dead._broker.deliver = None  # dies here
    with pytest.raises(TypeError):
        dead.commit([step])
    del dead._broker.deliver
    dead._consumer._link.close()
    (again,) = take(ledger, 1)
    assert again.ended is not None
    assert again.ended.state == states.SUCCESS
    ledger.commit([done(split_app, again, 2)])
    (second,) = take(ledger, 1)
    assert second.letter.headers["id"] == result.id
    ledger.commit([done(split_app, second, 7)])
    assert result.get(timeout=60) == 7


@pytest.mark.parametrize("fails", ["look", "mark", "marked"])
def test_what_was_taken_when_the_results_were_away_is_taken_again(split_app, ledger, fails):
    """The broker has sent it to this connection: it will not send it again."""
    sent = [split_app.tasks["add"].delay(number) for number in range(3)]
    other = split_app.ledger("two@here")
    take(other, 3)
    other._consumer._link.close()  # now all of them have been delivered before, and are looked up

    def away(*_):
        raise ServerLost("the results are away")

    def lost(marks):
        mark(marks)
        away()

    patched, name, does = {
        "look": (ledger._backend, "get_many", away),
        "mark": (ledger._store, "mark", away),
        "marked": (ledger._store, "mark", lost),
    }[fails]
    mark = ledger._store.mark
    setattr(patched, name, does)

    def is_away():
        try:
            return bool(ledger.take(3, 3, timeout=0.2))
        except ServerLost:
            return True

    until(is_away)
    assert not ledger._taken
    delattr(patched, name)
    came = []
    until(lambda: came.extend(ledger.take(3, 3, timeout=0.2)) or len(came) == 3, what="they are stuck")
    assert sorted(one.letter.headers["id"] for one in came) == sorted(one.id for one in sent)
    assert len(ledger._taken) == 3
    assert not any(one.began for one in came)


def test_of_a_message_that_is_there_twice_one_is_performed(split_app, ledger):
    add = split_app.tasks["add"]
    (add.s(1, 1) | add.s(5)).apply_async()
    (first,) = take(ledger, 1)
    other = split_app.ledger("two@here")
    split_app.broker.deliver([first.letter])
    (second,) = take(other, 1)
    assert ledger.commit([done(split_app, first, 2)])[0].performed
    assert not other.commit([done(split_app, second, 2)])[0].performed
    other.close()
    assert len(take(ledger, 1)) == 1
    assert ledger.take(1, timeout=0.3) == (), "the next step was sent twice"


def test_what_cannot_be_worked_on_is_kept_where_a_person_can_look(split_app, ledger, rabbitmq_server):
    with kombu.Connection(rabbitmq_server.url) as connection:
        channel = connection.channel()
        channel.queue_declare(DEAD, durable=True, auto_delete=False)
        channel.queue_purge(DEAD)
        split_app.tasks["add"].delay(1)
        (delivery,) = take(ledger, 1)
        ledger.reject(delivery, "nobody knows what it means")
        message = channel.message_to_python(channel.basic_get(DEAD, no_ack=True))
    assert message.headers["nbcanvas_reason"] == "nobody knows what it means"
    assert message.headers["nbcanvas_queue"] == split_app.conf.task_default_queue
    assert message.headers["id"] == delivery.letter.headers["id"]
    ledger.close()
    assert split_app.broker.depth()[split_app.conf.task_default_queue] == 0


def test_queues_come_and_go_and_take_is_woken(split_app, ledger):
    import threading

    split_app.tasks["add"].apply_async((1,), queue=f"{split_app.conf.task_default_queue}_more")
    assert ledger.take(1, timeout=0.3) == ()
    ledger.consume(f"{split_app.conf.task_default_queue}_more")
    (delivery,) = take(ledger, 1)
    assert [one["name"] for one in ledger.queues()] == [delivery.queue.removesuffix("_more"), delivery.queue]
    ledger.commit([done(split_app, delivery, 1)])
    ledger.cancel(delivery.queue)
    split_app.tasks["add"].apply_async((1,), queue=delivery.queue)
    assert ledger.take(1, timeout=0.3) == ()
    ledger.wake()
    assert ledger.take(1, timeout=None) == ()  # or it would wait for ever
    threading.Timer(0.1, ledger.wake).start()
    assert ledger.take(1, timeout=None) == ()
