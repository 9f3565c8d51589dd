"""What `why()` says of random canvases, beside what the engine then does."""

from hypothesis import given
from hypothesis import strategies as st

from nbcanvas import states
from nbcanvas.canvas import Signature
from nbcanvas.events.state import State
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import freeze
from nbcanvas.run.reasons import KINDS, reasons
from tests.events.test_state_of_runs import run
from tests.plan.recipes import build, canvases

WAITING = {"barrier", "predecessor"}


class Ends:
    """How tasks end: some of them badly."""

    def __init__(self, rng, share):
        self.rng, self.share = rng, share

    def get(self, task):
        return self.rng.choice(["fails", "is revoked"]) if self.rng.random() < self.share else None


def plain(recipe):
    """Freeze a canvas, whose tasks all just return."""
    sig = build(recipe)
    return freeze(sig, seeded_ids(1), lambda args, kwargs: (args, kwargs)) if isinstance(sig, Signature) else None


@given(canvases(4), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.5]))
def test_what_a_task_waits_for_is_what_its_start_then_follows(recipe, rng, share):
    root = plain(recipe)
    state = State.of(root, 0.0)
    before = {}
    for batch in run(root, Ends(rng, share), rng):
        state = state.apply(batch)
        found = reasons(state, None, 1.0)
        unfinished = [row for row in state.order if state.awake(row) and state.state(row) != states.SUCCESS]
        assert [one.task_id for one in found] == [state.call(row).id for row in unfinished]
        assert {one.kind for one in found} <= set(KINDS)
        paths = {place.path or place.call.task: place.call.id for place in state.calls}
        ended = {event.id for event in batch if event.kind not in ("sent", "started")}
        for event in batch:
            # What is sent, or never will be, has waited for nothing but what ended just now.
            if event.kind == "sent" and (reason := before.get(event.id)) is not None and reason.kind in WAITING:
                assert {paths[path] for path in reason.waits_for} <= ended
        for one in found:
            assert (one.kind in WAITING) == (one.state == states.WAITING)
            if one.kind in WAITING:
                assert one.waits_for
                assert all(_state(state, paths[path]) not in states.READY_STATES for path in one.waits_for)
        before = {one.task_id: one for one in found}
    assert not {one.kind for one in before.values()} & {*WAITING, "running", "starting", "queued"}
    for one in before.values():
        if one.kind == "skipped":
            culprit = one.text.removeprefix("it never ran: ").split(" ", 1)[0]
            row = state.index_of(paths[culprit])
            assert state.state(row) in (states.FAILURE, states.REVOKED) and state.started(row) is not None


def _state(state, task_id):
    return state.state(state.index_of(task_id))
