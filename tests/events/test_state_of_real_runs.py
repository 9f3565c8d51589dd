"""What the embedded worker tells of random canvases, heard in any order, is what its backend and the meaning say."""

import json
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas import states
from nbcanvas.errors import Reject
from nbcanvas.events.event import KINDS
from nbcanvas.events.state import State
from nbcanvas.run.run import items_of
from tests.plan.recipes import ENDS, build, canvases
from tests.plan.reference import Meaning, symbol
from tests.plan.simulate import name_of
from tests.plan.test_embedded import World

#: What tasks do besides ending: they say how far they are, start tasks by themselves, are delivered twice.
DOES = st.one_of(
    ENDS,
    st.sampled_from([("track", 3), ("delay", 2), ("apply", 2), ("requeue",), ("retry", 2, "requeue")]),
)


class Watched(World):
    """A world whose tasks do more, and are listened to."""

    def __init__(self):
        super().__init__()
        self.app.task(name="child")(lambda tag: tag)

    def clear(self):
        super().clear()
        self.deliveries = Counter()

    def _work(self, task, *args, tag, do, more=None):
        if do[0] == "retry" and task.request.retries == do[1]:
            do = do[2:]
        what, *details = do
        value = symbol(tag, [self.shown(value) for value in args], more)
        if what == "track":
            for _ in task.track(range(details[0])):
                pass
        elif what == "requeue":
            with self.lock:
                self.deliveries[task.request.id] += 1
            if self.deliveries[task.request.id] <= 2:
                raise Reject("later", requeue=True)
        elif what in ("delay", "apply"):
            child = self.app.tasks["child"]
            for place in range(details[0]):
                tags = {"tag": f"child of {tag}, {place}"}
                child.delay(**tags) if what == "delay" else child.apply((), tags)
        else:
            return super()._work(task, *args, tag=tag, do=do, more=more)
        return value

    def run(self, canvas, args):
        """Run a canvas to its end; return its plan, when it began, and all that was heard."""
        plan = self.app.plan(canvas, args)
        heard = self.app.hub.open(plan.root_id)
        began = time.time()
        try:
            self.app.publish(plan)
            until = time.monotonic() + 60
            state = State.of(plan.node, began)
            while not (state.done and self._rests(0)) and time.monotonic() < until:
                time.sleep(0.002)
                state = State.of(plan.node, began, items_of).apply(list(heard))
        finally:
            self.app.hub.close(plan.root_id, heard)
        return plan, began, list(heard)


@pytest.fixture(scope="module")
def world():
    world = Watched()
    yield world
    world.app.close()


def in_pieces(events, rng):
    while events:
        size = rng.randint(1, len(events))
        yield events[:size]
        events = events[size:]


def folded(state, events, rng):
    for piece in in_pieces(events, rng):
        state = state.apply(piece)
    return state


@given(
    st.one_of(canvases(4, DOES), canvases(2, DOES)),
    st.sampled_from([(), ("given",)]),
    st.randoms(use_true_random=False),
)
def test_however_it_is_heard_it_is_what_happened(world, recipe, args, rng):
    world.clear()
    canvas = build(recipe)
    meaning = Meaning(json.loads(json.dumps(canvas)), args)
    plan, began, heard = world.run(canvas, args)
    state = State.of(plan.node, began, items_of).apply(heard)

    assert state.done
    assert (state.pending, state.ignored) == (0, 0)
    records = world.backend.records()
    rows = [row for row in state.order if state.awake(row) and state.state(row) != states.WAITING]
    known = {state.call(row).id: row for row in rows}
    # Eager children have records of their own; a call that a group replaced ends elsewhere.
    assert {task_id for task_id in records if task_id not in known} == set()
    for task_id, row in known.items():
        record = records.get(task_id)
        if record is None:
            assert state.calls[row].path.rpartition(".")[2].startswith("child")
            continue
        attempts = state.attempts_of(row)
        assert (state.state(row), state.attempt(row)) == (record.state, record.settled)
        assert state.finished(row) == record.done
        if state.worker(row):
            assert state.worker(row) == record.worker
        assert state.retries(row) == attempts[-1].retries == sum(one.state == states.RETRY for one in attempts)
        assert len(attempts) == 1 + state.retries(row) + sum(
            one.state in (states.REPLACED, states.STARTED) for one in attempts[:-1]
        )
        times = [moment for one in attempts for moment in one[1:5] if moment is not None]
        assert all(moment >= began for moment in times)
        for one in attempts:
            assert one.started is None or (one.sent or began) <= one.received <= one.started
            assert one.finished is None or one.started is None or one.started <= one.finished
    for task_id, count in world.deliveries.items():
        earlier = state.attempts_of(known[task_id])[:-1]
        assert sum(one.state == states.STARTED for one in earlier) == count - 1

    ends = Counter((name_of(state.call(row)), state.state(row)) for row in rows)
    proper = {end: n for end, n in ends.items() if not end[0].startswith(("child of", "h", "celery.accumulate"))}
    meant = Counter()
    for (tag, how, _), n in meaning.ends.items():
        meant[tag, how] += n
    assert proper == {end: n for end, n in meant.items() if end[0] != "celery.accumulate"}

    other = [*heard, *rng.choices(heard, k=len(heard) // 2)] if heard else []
    rng.shuffle(other)
    shuffled = folded(State.of(plan.node, began, items_of), other, rng)
    assert shuffled == state
    assert [place.path for place in shuffled.calls] == [place.path for place in state.calls]
    assert list(shuffled.order) == list(state.order)
    assert State.of(plan.node, began, items_of).apply(state.events()) == state

    some = [event for event in heard if rng.random() < 0.7]
    partly = State.of(plan.node, began, items_of).apply(some)
    rng.shuffle(some)
    assert folded(State.of(plan.node, began, items_of), some, rng) == partly
    assert partly.apply(heard) == state  # what was missed may come later
    assert {event[0] for event in heard} <= set(KINDS)
