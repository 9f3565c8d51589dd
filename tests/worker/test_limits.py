"""Deadlines and rate limits by themselves."""

import threading
import time

import pytest

from nbcanvas.plan import Call, Message
from nbcanvas.worker.limits import Watchdog
from nbcanvas.worker.rates import RateLimits, rate_per_second


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


def test_each_message_waits_once_for_its_own_time():
    rates = RateLimits()
    messages = [message() for _ in range(4)]
    waits = [rates.wait(m, "10/s") for m in messages]
    assert waits == [0, *(pytest.approx(i / 10, abs=0.02) for i in (1, 2, 3))]
    assert rates.wait(messages[2], "10/s") == 0  # it comes back
    assert rates.wait(message("other"), "10/s") == 0
    assert rates.release("t") == {id(messages[1]), id(messages[3])}
    assert rates.wait(messages[3], None) == 0


def test_deadlines_strike_in_order_and_only_when_not_cancelled():
    watchdog, struck, done = Watchdog(), [], threading.Event()
    now = time.time()
    watchdog.at(now + 0.06, done.set)
    watchdog.at(now + 0.04, lambda: struck.append("late"))
    watchdog.at(now + 0.02, lambda: struck.append("early"))
    watchdog.at(now + 0.03, lambda: struck.append("never"))()
    watchdog.at(now + 0.01, lambda: 1 / 0)  # one that fails does not take the others with it
    assert done.wait(5)
    assert struck == ["early", "late"]
    watchdog.stop()


def test_cancelled_deadlines_are_let_go():
    watchdog = Watchdog()
    kept = watchdog.at(time.time() + 3600, lambda: None)
    for _ in range(20_000):
        watchdog.at(time.time() + 3600, lambda: None)()
    assert len(watchdog._entries) < 2000
    kept()
    watchdog.stop()
