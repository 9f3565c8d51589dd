"""What needs no server: clocks, revokes, commands as they come, and Celery's events as ours."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.events.event import FAILED, RECEIVED, REJECTED, RETRIED, REVOKED, SENT, STARTED, SUCCEEDED
from nbcanvas.events.foreign import MOST, Foreign
from nbcanvas.remote.clock import Clock
from nbcanvas.remote.mailbox import reads_request
from nbcanvas.remote.revokes import Revokes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)

# -- clocks -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.none() | st.integers() | st.text(max_size=2) | st.booleans()))
def test_a_clock_never_goes_back_and_is_ahead_of_what_it_heard(heard):
    clock, before = Clock(), 0
    for one in heard:
        after = clock.adjust(one)
        assert after > before
        if type(one) is int and 0 <= one < 1 << 62:
            assert after > one
        before = after


def test_threads_share_a_clock():
    clock = Clock()
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.extend(clock.forward() for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 2001))


# -- commands ---------------------------------------------------------------------------------------------------------


@given(JSON, JSON)
def test_anything_in_a_mailbox_is_a_command_or_refused(body, inner):
    for found in (body, {"method": "ping", "arguments": inner}, {"method": "ping", "destination": inner},
                  {"method": "ping", "reply_to": inner, "ticket": inner}):  # fmt: skip
        try:
            request = reads_request(found, "me@here")
        except ValueError:
            continue
        assert request is None or isinstance(request.arguments, dict)


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        ({}, True),
        ({"destination": None}, True),
        ({"destination": ["me@here", "you@there"]}, True),
        ({"destination": ["you@there"]}, False),
        ({"pattern": "me@*", "matcher": "glob"}, True),
        ({"pattern": "you@*", "matcher": "glob"}, False),
        ({"pattern": "^m.@", "matcher": "pcre"}, True),
        ({"pattern": None, "matcher": None}, True),
    ],
)
def test_who_is_meant(body, meant):
    assert (reads_request({"method": "ping", **body}, "me@here") is not None) is meant


# -- revokes ----------------------------------------------------------------------------------------------------------


def test_stamps_hit_by_any_of_their_values():
    revokes = Revokes()
    revokes.add(["one"])
    revokes.add_stamps({"colour": ["red", "blue"], "size": 3})
    assert revokes.hits("one")
    assert revokes.hits("x", {"colour": "red"})
    assert revokes.hits("x", {"colour": ["green", "blue"]})
    assert revokes.hits("x", {"size": [3]})
    assert not revokes.hits("x", {"colour": "green", "size": 4, "other": "red"})
    assert not revokes.hits("x", {"colour": ["green", {"un": "hashable"}]})
    assert not revokes.hits("x")


def test_the_oldest_revokes_are_forgotten_first():
    revokes = Revokes()
    revokes.add(str(number) for number in range(50_010))
    assert len(revokes.ids) == 50_000
    assert not revokes.hits("9")
    assert revokes.hits("10")


def test_revokes_survive_in_a_file(tmp_path: Path):
    file = tmp_path / "state"
    before, after = Revokes(), Revokes()
    before.add(["a", "b"])
    before.add_stamps({"colour": ["red"]})
    before.save(file)
    after.load(file)
    assert list(after.ids) == ["a", "b"]
    assert after.hits("x", {"colour": "red"})
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", "[]", '{"revoked": 5}', '{"revoked": {"a": "x"}, "stamps": []}', "\x80"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str):
    file = tmp_path / "state"
    file.write_bytes(text.encode("latin-1"))
    revokes = Revokes()
    revokes.load(file)
    assert not revokes.ids
    revokes.load(tmp_path / "not there")


def test_long_ago_is_forgotten(tmp_path: Path):
    file = tmp_path / "state"
    file.write_text(json.dumps({"revoked": {"old": time.time() - 20_000, "new": time.time()}, "stamps": []}))
    revokes = Revokes()
    revokes.load(file)
    assert list(revokes.ids) == ["new"]


# -- Celery's events --------------------------------------------------------------------------------------------------


class Runs:
    """The feeds of the runs that are followed here."""

    def __init__(self, *roots: str) -> None:
        self.heard: dict[str, list] = {root: [] for root in roots}

    def feed(self, root: str):
        found = self.heard.get(root)
        return None if found is None else found.append


def event(kind: str, uuid: str = "t", **fields):
    return {"type": f"task-{kind}", "uuid": uuid, "hostname": "w@here", "timestamp": 1000.5, "clock": 1, **fields}


def received(uuid: str = "t", root: str = "r", **fields):
    return event("received", uuid, root_id=root, parent_id=None, name="add", retries=0, eta=None, **fields)


def test_a_task_is_followed_from_its_sending_to_its_end():
    runs = Runs("r")
    foreign = Foreign(runs.feed, ends=True)
    foreign.hear(
        [
            event("sent", root_id="r", retries=0, eta="2026-11-21T02:05:11+00:00"),
            received(),
            event("started"),
            event("retried", exception="KeyError('again')", traceback="…"),
            received() | {"retries": 1},
            event("started"),
            event("failed", exception="ValueError()", traceback="Traceback"),
        ]
    )
    due = 1795226711.0
    assert runs.heard["r"] == [
        (SENT, "t", 1000.5, 0, {"due": due}),
        (RECEIVED, "t", 1000.5, 0, None),
        (STARTED, "t", 1000.5, 0, "w@here"),
        (RETRIED, "t", 1000.5, 0, ("KeyError('again')", None)),
        (RECEIVED, "t", 1000.5, 1, None),
        (STARTED, "t", 1000.5, 1, "w@here"),
        (FAILED, "t", 1000.5, 1, ("ValueError()", "Traceback")),
    ]


def test_a_retry_that_is_told_after_the_next_attempt_was_received_is_of_the_one_before():
    runs = Runs("r")
    Foreign(runs.feed).hear(
        [received(), event("started"), received() | {"retries": 1}, event("retried", exception="E"), event("started")]
    )
    assert [(heard[0], heard[3]) for heard in runs.heard["r"]] == [
        *((RECEIVED, 0), (STARTED, 0), (RECEIVED, 1), (RETRIED, 0), (STARTED, 1))
    ]


@pytest.mark.parametrize(
    ("told", "ours", "data"),
    [
        (event("succeeded", result="4", runtime=0.1), SUCCEEDED, None),
        (event("revoked", terminated=True, signum=15, expired=False), REVOKED, "terminated"),
        (event("revoked", terminated=False, signum=None, expired=True), REVOKED, "expired"),
        (event("revoked", terminated=False, signum=None, expired=False), REVOKED, "revoked"),
        (event("rejected", requeue=False), REJECTED, ""),
    ],
)
def test_ends_are_told_only_when_asked_for(told, ours, data):
    for ends in (True, False):
        runs = Runs("r")
        Foreign(runs.feed, ends=ends).hear([received(), told])
        assert runs.heard["r"][1:] == ([(ours, "t", 1000.5, 0, data)] if ends else [])


def test_only_runs_that_are_followed_here_are_remembered():
    runs = Runs("r")
    foreign = Foreign(runs.feed)
    foreign.hear(received(str(number), "somebody's") for number in range(1000))
    foreign.hear(event("started", str(number)) for number in range(1000))
    assert (foreign.told, foreign.ignored, len(foreign._seen)) == (0, 2000, 0)


def test_what_is_remembered_is_bounded():
    runs = Runs("r")
    foreign = Foreign(runs.feed)
    foreign.hear(received(str(number)) for number in range(MOST + 10))
    assert len(foreign._seen) == MOST
    foreign.hear([event("started", "5"), event("started", "11")])
    assert runs.heard["r"][-1][1] == "11"


@given(st.lists(st.dictionaries(st.sampled_from(
    ["type", "uuid", "root_id", "retries", "timestamp", "eta", "hostname", "exception"]
), JSON | st.sampled_from(["task-received", "task-started", "task-retried", "r"])), max_size=5))  # fmt: skip
def test_forged_events_are_counted(events):
    runs = Runs("r")
    foreign = Foreign(runs.feed, ends=True)
    foreign.hear(events)
    assert foreign.told + foreign.ignored == len(events)
    assert foreign.told == len(runs.heard["r"])
