"""What is kept of a run beside its plan, and read again."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Fan
from nbcanvas.protocol.plain import Malformed
from nbcanvas.run.heard import read, write
from tests.events.test_state import GRAFTS, ROOT, an_event

BEGAN = 0.0


def again(state):
    return State.of(state.root, state.began).apply(read(write("run", state), state.root))


def told(state):
    """Return what a state says of each call, errors as their texts: they are rebuilt from those."""
    return {
        state.call(row).id: (
            [attempt._replace(error=str(attempt.error)) for attempt in state.attempts_of(row)],
            state.due(row),
            state.progress(row),
            state.traceback(row),
            state.awake(row),
        )
        for row in range(len(state))
    }


@given(st.lists(st.one_of(an_event(), st.sampled_from(GRAFTS)), max_size=25))
def test_what_is_kept_says_what_was_heard(events):
    state = State.of(ROOT, BEGAN).apply(events)
    found = again(state)
    assert told(found) == told(state)
    assert dict(found.counts) == dict(state.counts)
    assert list(found.order) == list(state.order)


def test_many_calls_take_few_bytes_and_no_ids():
    began, count = 1_700_000_000.25, 10_000
    root = Fan("g", [Call(f"id-{place:033}", "t", (), group_id="g", index=place) for place in range(count)])
    events = [
        event
        for place, call in enumerate(root.members)
        for start in (began + 0.02 + place // 2 * 0.000_143,)
        for event in (
            Event("sent", call.id, began + 0.01, 0, None),
            Event("started", call.id, start, 0, f"w{place % 2}@host/0"),
            Event("succeeded", call.id, start + 0.000_05, 0, None),
        )
    ]
    state = State.of(root, began).apply(events)
    text = write("run", state)
    assert "id-" not in text
    assert len(zlib.compress(text.encode())) < 6 * count
    found = State.of(root, began).apply(read(text, root))
    assert found.counts == {"SUCCESS": count}
    for row in range(0, count, 997):
        assert found.worker(row) == state.worker(row)
        assert found.sent(row) == pytest.approx(state.sent(row), abs=0.000_06)
        assert found.started(row) == pytest.approx(state.started(row), abs=0.000_06)
        assert found.finished(row) == pytest.approx(state.finished(row), abs=0.000_06)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"began":1,"rows":[9],"names":[""],"worker":[0]}',
        '{"began":1,"rows":[0],"names":[""],"worker":[1]}',
        '{"began":1,"rows":[0],"names":[""],"worker":[0],"sent":["x"]}',
        '{"began":1,"rows":[0],"names":[""],"worker":[0],"sent":[1],"received":[1,2]}',
        '{"began":1,"rows":[0],"names":[0],"worker":[0]}',
        f'{{"began":{10**400},"rows":[],"names":[""],"worker":[]}}',
        f'{{"began":1,"rows":[0],"names":[""],"worker":[0],"sent":[{10**400}]}}',
    ],
)
def test_what_cannot_be_understood_says_so(text):
    with pytest.raises(Malformed):
        list(read(text, Fan("g", [Call("a", "t", ())])))
