"""A state is done exactly when the engine has nothing left to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, chord, group
from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import Failed, Revoked, Value, advance, calls_of, freeze, release, start


def sig(task, **options):
    return Signature(task, **options)


def linked(task):
    made = sig(task)
    made.link(sig("log") | sig("archive"))
    made.link_error(sig("mail"))
    return made


CANVASES = {
    "task": lambda: linked("a"),
    "chain": lambda: sig("a") | linked("b") | sig("c"),
    "chord": lambda: chord([sig("a"), linked("b"), sig("c")], sig("body")),
    "groups of chains": lambda: group(chain(sig("a"), group(sig("b"), sig("c")), linked("d")), sig("e")) | sig("z"),
    "chords in chords": lambda: chord([chord([sig("a"), sig("b")], linked("c")), sig("d")], sig("e") | sig("f")),
    "empty": group,
}


def run(root, fails, rng):
    """Yield the events of a run, in lists that come together, in a random interleaving."""
    first = start(root, (), None, "root", None, 0.0)
    todo, slots = list(first.send), {}
    clock = iter(range(1, 10_000))

    def tell(transition):
        events, left = [], [transition]
        while left:
            one = left.pop()
            todo.extend(one.send)
            events += [Event("sent", m.call.id, float(next(clock)), m.attempt) for m in one.send]
            for call, exit_ in one.skips:
                kind, data = ("failed", (exit_.exc, None)) if isinstance(exit_, Failed) else ("revoked", "skipped")
                events.append(Event(kind, call.id, float(next(clock)), 0, data))
            left += [start(errback.node, (), None, "root", errback.call.id, 0.0) for errback in one.errbacks]
            for slot, exit_, by in one.arrivals:
                filled = slots.setdefault(slot.join.id, {})
                filled[slot.index] = (exit_, by)
                if len(filled) == slot.join.size:
                    left.append(release(slot.join, [filled[i] for i in range(slot.join.size)], "root", by, 0.0))
        return events

    yield [Event("sent", m.call.id, 0.5, m.attempt) for m in todo] + tell(first._replace(send=()))
    while todo:
        message = todo.pop(rng.randrange(len(todo)))
        call, attempt = message.call, message.attempt
        yield [Event("started", call.id, float(next(clock)), attempt, "w/1")]
        error = ValueError(call.id)
        outcome, kind, data = {
            "fails": (Failed(error), "failed", (error, "tb")),
            "is revoked": (Revoked(error), "revoked", "why"),
        }.get(fails.get(call.task), (Value(1), "succeeded", None))
        yield [Event(kind, call.id, float(next(clock)), attempt, data), *tell(advance(message, outcome, 0.0))]


@pytest.mark.parametrize("name", CANVASES)
@given(
    st.dictionaries(st.sampled_from("abcdz"), st.sampled_from(["fails", "is revoked"]), max_size=2),
    st.randoms(use_true_random=False),
)
def test_done_when_the_engine_is_done_and_not_before(name, fails, rng):
    root = freeze(CANVASES[name](), seeded_ids(1), lambda args, kwargs: (args, kwargs))
    state = State.of(root, 0.0)
    batches = [batch for batch in run(root, fails, rng) if batch]
    for batch in batches[:-1]:
        state = state.apply(batch)
        assert not state.done
    if batches:
        state = state.apply(batches[-1])
    assert state.done
    assert all(state.finished(state.index_of(call.id)) is not None for call in calls_of(root))
    shuffled = [event for batch in batches for event in batch]
    rng.shuffle(shuffled)
    assert State.of(root, 0.0).apply(shuffled) == state
