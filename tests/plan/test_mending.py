"""Whoever knows the plan and how calls ended knows what will never run: the same as the engine does, at any moment."""

from __future__ import annotations

import random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from nbcanvas.errors import TaskRevokedError
from nbcanvas.plan import Exit, Failed, Ignored, Rejected, Revoked, Value, calls_of
from nbcanvas.plan.mending import mend
from tests.plan.recipes import build, canvases, depth_of
from tests.plan.simulate import Simulation

SOME = settings(max_examples=4 * settings().max_examples)
CANVASES = st.one_of(canvases(5), canvases(6), canvases(3))


def exit_of(outcome: object) -> Exit:
    return Revoked(TaskRevokedError()) if isinstance(outcome, Ignored | Rejected) else outcome


@SOME
@given(CANVASES, st.integers(0, 2**32))
def test_what_was_skipped_is_what_is_found(recipe, order):
    run = Simulation(build(recipe), order=order)
    root = run.nodes[0]
    ran = {task_id for task_id, _ in run.executions}
    ends = {call.id: exit_of(run.records[call.id].result) for call in calls_of(root) if call.id in ran}
    skipped = {call.id: run.records[call.id].result for call in calls_of(root) if call.id not in ran}
    event(f"depth {depth_of(recipe)}, {'some' if skipped else 'none'} skipped")
    found = mend(root, ends)
    assert {skip.call.id: run.text(skip.exit) for skip in found.skips} == {k: run.text(v) for k, v in skipped.items()}
    told = {key for key, count in run.told.items() if key[0] in skipped}
    assert {(errback.call.id, id(errback.node)) for errback in found.errbacks} == told
    # Nothing is found twice, nothing that has ended, and what was ended by it is enough to stand on.
    assert len(found.skips) == len(skipped)
    again = mend(root, ends | {skip.call.id: skip.exit for skip in found.skips})
    assert not again.skips and not again.errbacks


@SOME
@given(CANVASES, st.integers(0, 2**32), st.data())
def test_nothing_is_given_up_too_early(recipe, order, data):
    run = Simulation(build(recipe), order=order)
    root = run.nodes[0]
    ran = {task_id for task_id, _ in run.executions}
    ends = {call.id: exit_of(run.records[call.id].result) for call in calls_of(root) if call.id in ran}
    kept = set(random.Random(data.draw(st.integers(0, 99))).sample(sorted(ends), data.draw(st.integers(0, len(ends)))))
    some = mend(root, {key: end for key, end in ends.items() if key in kept})
    assert {skip.call.id for skip in some.skips} <= {skip.call.id for skip in mend(root, ends).skips}
    assert all(isinstance(skip.exit, Failed | Revoked) for skip in some.skips)


@given(CANVASES)
def test_where_all_is_well_there_is_nothing_to_mend(recipe):
    root = Simulation(build(recipe)).nodes[0]
    found = mend(root, {call.id: Value(None) for call in calls_of(root)})
    assert not found.skips and not found.errbacks
