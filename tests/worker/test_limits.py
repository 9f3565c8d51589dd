"""Deadlines and rate limits by themselves."""

import threading
import time

import pytest

from nbcanvas import App
from nbcanvas.errors import SoftTimeLimitExceeded
from nbcanvas.plan import Call, Message
from nbcanvas.protocol.payload import pack_args, unpack
from nbcanvas.request import Context
from nbcanvas.worker.limits import Watchdog
from nbcanvas.worker.rates import RateLimits, rate_per_second
from nbcanvas.worker.slots import executors


def message(name="t"):
    return Message(Call("id", name, ()), (), None, "root", None, 0.0)


@pytest.mark.parametrize(
    ("limit", "rate"),
    [
        (None, 0),
        (0, 0),
        ("", 0),
        (2.5, 2.5),
        ("5", 5),
        ("10/s", 10),
        ("60/m", 1),
        ("3600/h", 1),
        ("1 / h", 1 / 3600),
    ],
)
def test_rates(limit, rate):
    assert rate_per_second(limit) == rate


@pytest.mark.parametrize("limit", ["often", "1/d", "/s", "1/s/s"])
def test_a_rate_nobody_understands(limit):
    with pytest.raises(ValueError, match="rate_limit"):
        rate_per_second(limit)


def test_each_message_waits_once_for_its_own_time(monkeypatch):
    monkeypatch.setattr("nbcanvas.worker.rates.monotonic", lambda: 100.0)
    rates = RateLimits()
    messages = [message() for _ in range(4)]
    waits = [rates.wait(m, "10/s") for m in messages]
    assert waits == [0, *(pytest.approx(i / 10) for i in (1, 2, 3))]
    assert rates.wait(messages[2], "10/s") == 0  # it comes back
    assert rates.wait(message("other"), "10/s") == 0
    assert rates.release("t") == {id(messages[1]), id(messages[3])}
    assert rates.wait(messages[3], None) == 0


def test_deadlines_strike_in_order_and_only_when_not_cancelled(monkeypatch):
    now = clock = 1000.0
    monkeypatch.setattr("nbcanvas.worker.limits.time", lambda: clock)
    watchdog, struck, done = Watchdog(), [], threading.Event()
    watchdog.at(now + 0.06, done.set)
    watchdog.at(now + 0.04, lambda: struck.append("late"))
    watchdog.at(now + 0.02, lambda: struck.append("early"))
    watchdog.at(now + 0.03, lambda: struck.append("never"))()
    watchdog.at(now + 0.01, lambda: 1 / 0)  # one that fails does not take the others with it
    assert not struck
    clock += 1
    assert done.wait(60)
    assert struck == ["early", "late"]
    watchdog.stop()


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_what_comes_before_the_task_is_in_its_executors_hands_is_not_lost(pool):
    with App(set_as_current=False) as app:
        add = app.task(name="add")(lambda x, y: x + y)
        executor = executors(pool, app)()
        executor.ready()

        def run(before=None):
            message = Message(Call("id", "add", pack_args((1, 2), {})), (), None, "root", None, 0.0)
            if before is not None:
                before(message)
            return executor.run(add, message, Context(message, "add"))

        assert isinstance(run(executor.soft_limit).exc, SoftTimeLimitExceeded)
        assert run(lambda message: executor.end(message, "SIGTERM", lambda: None)).terminated
        assert unpack(run().payload) == 3
        executor.close()


def test_cancelled_deadlines_are_let_go():
    watchdog = Watchdog()
    kept = watchdog.at(time.time() + 3600, lambda: None)
    for _ in range(20_000):
        watchdog.at(time.time() + 3600, lambda: None)()
    assert len(watchdog._entries) < 2000
    kept()
    watchdog.stop()
