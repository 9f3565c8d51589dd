"""Events may be forged, broken, late, doubled, or another run's: the fold goes on, and what it knows stays right."""

import math
import random
from decimal import Decimal
from fractions import Fraction

import pytest

from nbcanvas.events import fold
from nbcanvas.events.attempts import MOST
from nbcanvas.events.event import KINDS, Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan

ROOT = Chain([Fan("g", [Call("m0", "add", None), Call("m1", "add", None)]), Call("body", "tsum", None)])
ERROR = ValueError("no")


class Unhashable(str):
    __slots__ = ()
    __hash__ = None


class Mute:
    """Nothing can be learned of it."""

    def __repr__(self):
        raise RuntimeError

    def __eq__(self, other):
        raise RuntimeError

    __hash__ = object.__hash__


def fresh():
    return State.of(ROOT, 0.0)


def known():
    return fresh().apply([Event("sent", "m0", 1.0), Event("started", "m0", 2.0, 0, "w"), Event("sent", "m1", 1.0)])


BAD = {
    "nothing": (),
    "None": None,
    "a number": 7,
    "a text": "sent!",
    "too few": ("sent", "m0", 3.0, 0),
    "too many": ("sent", "m0", 3.0, 0, None, None),
    "a dictionary": {"kind": "sent", "id": "m0"},
    "an unknown kind": ("exploded", "m0", 3.0, 0, None),
    "a kind that is none": (None, "m0", 3.0, 0, None),
    "a kind that is a list": (["sent"], "m0", 3.0, 0, None),
    "a kind in capitals": ("SUCCEEDED", "m0", 3.0, 0, None),
    "an id that is a number": ("succeeded", 5, 3.0, 0, None),
    "an id that is a list": ("succeeded", ["m0"], 3.0, 0, None),
    "an id that is None": ("succeeded", None, 3.0, 0, None),
    "an id that is empty": ("succeeded", "", 3.0, 0, None),
    "an id without end": ("succeeded", "m" * 5_000_000, 3.0, 0, None),
    "an id that nobody can hash": ("succeeded", Unhashable("m0"), 3.0, 0, None),
    "a time that is a text": ("succeeded", "m0", "3", 0, None),
    "a time that is None": ("succeeded", "m0", None, 0, None),
    "a time that is no number": ("succeeded", "m0", math.nan, 0, None),
    "a time without end": ("succeeded", "m0", math.inf, 0, None),
    "a time before time": ("succeeded", "m0", -1.0, 0, None),
    "a time in nanoseconds": ("succeeded", "m0", 1.7e18, 0, None),
    "a time that is huge": ("succeeded", "m0", 10**400, 0, None),
    "a time that is true": ("succeeded", "m0", True, 0, None),
    "a time that is a decimal": ("succeeded", "m0", Decimal(3), 0, None),
    "a time that is a fraction": ("succeeded", "m0", Fraction(3), 0, None),
    "an attempt that is a text": ("succeeded", "m0", 3.0, "1", None),
    "an attempt that is None": ("succeeded", "m0", 3.0, None, None),
    "an attempt that is half": ("succeeded", "m0", 3.0, 0.5, None),
    "an attempt before the first": ("succeeded", "m0", 3.0, -1, None),
    "an attempt that is huge": ("succeeded", "m0", 3.0, 1 << 80, None),
    "an attempt that is true": ("succeeded", "m0", 3.0, True, None),
    "sent with a text": ("sent", "m1", 0.5, 0, "now"),
    "sent for no time": ("sent", "m1", 0.5, 0, {"due": math.nan}),
    "sent for a text": ("sent", "m1", 0.5, 0, {"due": "tomorrow"}),
    "received with a list": ("received", "m1", 0.5, 0, [1]),
    "started by a number": ("started", "m1", 3.0, 0, 7),
    "started by a list": ("started", "m1", 3.0, 0, []),
    "progress without data": ("progress", "m1", 3.0, 0, None),
    "progress in no state": ("progress", "m1", 3.0, 0, (7, None)),
    "progress of one": ("progress", "m1", 3.0, 0, ("PROGRESS",)),
    "failed without data": ("failed", "m1", 3.0, 0, None),
    "failed by a number": ("failed", "m1", 3.0, 0, (7, None)),
    "failed with a traceback in bytes": ("failed", "m1", 3.0, 0, (ERROR, b"tb")),
    "failed by a class": ("failed", "m1", 3.0, 0, (ValueError, None)),
    "retried without data": ("retried", "m1", 3.0, 0, None),
    "retried never": ("retried", "m1", 3.0, 0, (ERROR, math.inf)),
    "retried by two letters": ("retried", "m1", 3.0, 0, "ab"),
    "revoked by a dictionary": ("revoked", "m1", 3.0, 0, {}),
    "rejected by bytes": ("rejected", "m1", 3.0, 0, b"no"),
    "grafted without data": ("grafted", "m1", 3.0, 0, None),
    "grafted, a text": ("grafted", "m1", 3.0, 0, ("node", "child")),
    "grafted, a dictionary": ("grafted", "m1", 3.0, 0, ({"task": "add"}, "child")),
    "grafted in no role": ("grafted", "m1", 3.0, 0, (Call("c", "add", None), "uncle")),
    "grafted in a list": ("grafted", "m1", 3.0, 0, (Call("c", "add", None), ["child"])),
    "grafted, an empty chain": ("grafted", "m1", 3.0, 0, (Chain([]), "child")),
    "grafted, a chain of texts": ("grafted", "m1", 3.0, 0, (Chain(["a", "b"]), "child")),
    "grafted, an id that is a list": ("grafted", "m1", 3.0, 0, (Call(["c"], "add", None), "child")),
    "grafted, a task that is None": ("grafted", "m1", 3.0, 0, (Call("c", None, None), "child")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_counted_and_passed_over(name):
    state = known()
    after = state.apply([BAD[name]])
    assert after == state
    assert (after.ignored, after.version) == (state.ignored + 1, state.version)
    beside = state.apply([Event("succeeded", "m1", 4.0), BAD[name], Event("succeeded", "m0", 4.0)])
    assert dict(beside.counts) == {"SUCCESS": 2, "WAITING": 1}


def test_every_kind_is_tried_with_every_wrong_thing():
    wrong = [None, 0, 1.5, "", "text", b"", (), (1, 2), [None, None], {}, {"due": "x"}, object(), Mute(), ROOT, ERROR]
    events = [
        (kind, task_id, time, attempt, data)
        for kind in (*KINDS, *wrong)
        for task_id in ("m0", "stranger", 3, Mute())
        for time in (3.0, None, "x")
        for attempt in (0, 1, "x")
        for data in wrong
    ]
    random.Random(1).shuffle(events)
    state = fresh().apply(events)
    assert state.ignored > len(events) * 0.7
    assert fresh().apply([Event(*event) for event in reversed(events)]).ignored == state.ignored


def test_whole_numbers_are_times():
    assert fresh().apply([("sent", "m0", 3, 0, None)]).sent(0) == 3.0


def test_a_version_that_says_more_is_understood():
    state = fresh().apply(
        [("sent", "m0", 1.0, 0, {"queue": "q", "due": 2, "size": 9}), ("succeeded", "m0", 3.0, 0, {"runtime": 1})]
    )
    assert (state.state(0), state.due(0), state.ignored) == ("SUCCESS", 2.0, 0)


def test_a_text_may_stand_for_an_exception():
    state = fresh().apply([("failed", "m0", 1.0, 0, ("ValueError('no')", None))])
    assert (state.state(0), state.error(0)) == ("FAILURE", "ValueError('no')")


# -- late ----------------------------------------------------------------------------------------------------------


def test_what_comes_after_the_end_changes_nothing_of_it():
    state = known().apply([Event("succeeded", "m0", 5.0)])
    late = [
        Event("sent", "m0", 6.0),
        Event("received", "m0", 6.0),
        Event("started", "m0", 6.0, 0, "another"),
        Event("progress", "m0", 6.0, 0, ("PROGRESS", {"current": 1, "total": 2})),
        Event("failed", "m0", 6.0, 0, (ERROR, "tb")),
        Event("revoked", "m0", 6.0, 0, "why"),
    ]
    after = state.apply(late)
    for one in (after, fresh().apply(late).apply(known().events()).apply([Event("succeeded", "m0", 5.0)])):
        assert (one.state(0), one.sent(0), one.started(0), one.finished(0)) == ("SUCCESS", 1.0, 2.0, 5.0)
        assert (one.received(0), one.worker(0), one.error(0)) == (2.0, "w", None)
        assert [a.started for a in one.attempts_of(0)] == [2.0]


def test_an_older_attempt_says_nothing_of_the_present_one():
    state = fresh().apply([Event("started", "m0", 9.0, 2, "w"), Event("succeeded", "m0", 10.0, 2)])
    after = state.apply(
        [
            Event("started", "m0", 1.0, 0, "v"),
            Event("failed", "m0", 11.0, 1, (ERROR, None)),
            Event("revoked", "m0", 12.0, 0, "why"),
            Event("progress", "m0", 12.0, 1, ("PROGRESS", None)),
            Event("retried", "m0", 12.0, 0, (ERROR, 99.0)),
        ]
    )
    assert (after.state(0), after.started(0), after.finished(0), after.due(0)) == ("SUCCESS", 9.0, 10.0, None)
    assert (after.error(0), after.progress(0), dict(after.counts)) == (None, None, dict(state.counts))


# -- another run's --------------------------------------------------------------------------------------------------


def test_a_flood_of_strangers_is_bounded_and_counted(monkeypatch):
    monkeypatch.setattr(fold, "PENDING", 100)
    state = known()
    for batch in range(20):
        state = state.apply([Event("started", f"stranger {batch}.{i}", 3.0, 0, "w") for i in range(30)])
    assert (state.pending, state.ignored) == (100, 500)
    assert dict(state.counts) == dict(known().counts)
    state = state.apply([Event("grafted", "m0", 3.0, 0, (Call("stranger 19.29", "add", None), "child"))])
    assert (state.pending, state.state(3)) == (99, "STARTED")


def test_a_flood_about_one_stranger_is_bounded_too(monkeypatch):
    monkeypatch.setattr(fold, "PENDING", 100)
    state = known().apply([Event("progress", "stranger", float(i), 0, ("P", {"current": i})) for i in range(5000)])
    assert (state.pending, state.ignored) == (100, 4900)


def test_in_one_batch_any_number_may_wait_for_its_graft(monkeypatch):
    monkeypatch.setattr(fold, "PENDING", 10)
    children = Fan("c", [Call(f"c{i}", "add", None) for i in range(1000)])
    events = [Event("succeeded", f"c{i}", 3.0) for i in range(1000)]
    state = known().apply([*events, Event("grafted", "m0", 2.5, 0, (children, "child"))])
    assert (state.pending, state.ignored, state.counts["SUCCESS"]) == (0, 0, 1000)


# -- far too much --------------------------------------------------------------------------------------------------


def test_a_task_that_is_retried_for_ever_keeps_its_latest_attempts():
    events = []
    for attempt in range(3000):
        now = attempt * 10.0
        events += [
            Event("sent", "m0", now, attempt),
            Event("started", "m0", now + 1, attempt, "w"),
            Event("retried", "m0", now + 2, attempt, (ERROR, now + 10)),
        ]
    state = fresh().apply(events)
    assert (state.state(0), state.retries(0)) == ("RETRY", 3000)
    assert [one.attempt for one in state.attempts_of(0)] == [*range(3000 - MOST, 3001)]
    random.Random(1).shuffle(events)
    assert fresh().apply(events[:4000]).apply(events[4000:]) == state
    assert fresh().apply(state.events()) == state


def test_a_task_that_is_delivered_for_ever_keeps_its_latest_starts():
    events = [Event("started", "m0", float(i), 0, f"w/{i % 7}") for i in range(3000)]
    state = fresh().apply(events)
    assert (state.started(0), len(state.attempts_of(0))) == (2999.0, MOST)
    assert fresh().apply(events[2000:]).apply(events[:2000]) == state


def test_names_of_slots_are_not_kept_for_ever():
    state = fresh()
    for batch in range(50):
        state = state.apply(
            [Event("started", "m0", float(batch * 100 + i), 0, f"slot {batch}.{i}") for i in range(100)]
        )
    assert len(state.worker_names) < 1200
    assert (state.worker(0), state.worker(1)) == ("slot 49.99", None)
    assert fresh().apply([Event("started", "m0", 1.0, 0, "w" * 5_000_000)]).worker(0) == "w" * 1000


def test_what_a_task_says_may_be_anything():
    mute = [Event("progress", "m0", 3.0, 0, ("PROGRESS", Mute())) for _ in range(3)]
    strangers = [Event("progress", "stranger", 3.0, 0, ("PROGRESS", Mute())) for _ in range(3)]
    errors = [Event("failed", "m1", 3.0, 0, (ValueError(Mute()), None)) for _ in range(3)]
    state = fresh().apply([*mute, *strangers, *errors])
    assert (state.state(0), state.state(1), state.ignored) == ("PROGRESS", "FAILURE", 0)
    assert state.progress(0).fraction == 0.0


def test_a_graft_whose_items_cannot_be_counted():
    def items(call):
        msg = "not ours"
        raise RuntimeError(msg)

    forged = Event("grafted", "m0", 3.0, 0, (Call("c", "celery.map", b"\x80garbage"), "child"))
    state = State.of(ROOT, 0.0, items).apply([forged])
    assert (len(state), state.items(3)) == (4, 1)
