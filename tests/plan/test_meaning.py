"""The engine against the reference: random canvases, in random orders, with messages that come twice."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, chord, group, pin
from nbcanvas.errors import DuplicateId
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import Fan, calls_of, freeze
from nbcanvas.protocol.payload import pack_args
from tests.plan.recipes import PLAIN, Kitchen, build, canvases, depth_of
from tests.plan.reference import Meaning
from tests.plan.simulate import Simulation, check, name_of

#: The simulator is quick, so it may look at more examples than a profile asks for otherwise.
MANY = settings(max_examples=12 * settings().max_examples)
SOME = settings(max_examples=3 * settings().max_examples)

CANVASES = st.one_of(canvases(5), canvases(6), canvases(3))
ARGS = st.sampled_from([(), (), ("given",), ("one", "two")])
ORDERS = st.integers(0, 2**32)


def plain(canvas):
    return json.loads(json.dumps(canvas))


def assert_means(run, meaning):
    assert run.runs == meaning.runs
    assert run.ends == meaning.ends
    assert run.heard == meaning.heard


@MANY
@given(CANVASES, ARGS, ORDERS, st.sampled_from([0, 0.2, 0.6]))
def test_the_engine_means_what_the_reference_means(recipe, args, order, redeliver):
    event(f"depth {depth_of(recipe)}")
    canvas = build(recipe)
    simulation = Simulation(canvas, args, order, redeliver)
    check(simulation)
    assert_means(simulation, Meaning(plain(canvas), args))


@SOME
@given(canvases(3), canvases(3), canvases(3), ORDERS)
def test_pipes_are_associative_by_meaning(one, two, three, order):
    both = []
    for bracket in (lambda a, b, c: (a | b) | c, lambda a, b, c: a | (b | c)):
        kitchen = Kitchen()
        canvas = bracket(*kitchen.all([one, two, three]))
        meaning = Meaning(plain(canvas), ("given",))
        assert_means(Simulation(canvas, ("given",), order), meaning)
        both.append(meaning)
    left, right = both
    assert_means(left, right)
    assert left.end == right.end


@SOME
@given(CANVASES, ARGS, ORDERS)
def test_running_never_changes_the_canvas(recipe, args, order):
    canvas = build(recipe)
    before, data = plain(canvas), pickle.dumps(canvas)
    first, second = Simulation(canvas, args, order), Simulation(canvas, args, order + 1)
    assert plain(canvas) == before
    assert pickle.dumps(canvas) == data
    assert_means(first, second)
    assert not set(first.records) & set(second.records)


@SOME
@given(canvases(4))
def test_ids_are_pinned_by_an_explicit_freeze_alone(recipe):
    canvas = build(recipe)
    ids = seeded_ids("plan")

    def planned():
        return {name_of(call): call.id for call in calls_of(freeze(canvas, ids, pack_args))}

    fresh = planned()
    assert not set(fresh.values()) & set(planned().values())
    whole = pin(canvas, seeded_ids("pinned"))
    pinned = planned()
    assert pinned == planned()
    assert not set(fresh.values()) & set(pinned.values())
    written = json.dumps(canvas)
    assert all(task_id in written for name, task_id in pinned.items() if not name.startswith("celery."))  # not chunks
    node = freeze(canvas, ids, pack_args)
    last = getattr(node, "steps", [node])[-1]
    assert last.id == whole or isinstance(last, Fan)  # a group may have no task in it that could have an id


def test_a_frozen_signature_stands_in_one_place_only():
    one = Signature("work").set(task_id="mine")
    with pytest.raises(DuplicateId, match="mine appears twice"):
        freeze(group(one, one), seeded_ids(), pack_args)


def test_an_id_from_outside_is_that_of_the_end():
    work = [Signature("work").set(task_id=f"own{i}") for i in range(3)]
    for canvas in (work[0], chain(work[0], work[1]), chord([work[0]], work[1]), chord(group(work[0]), work[1])):
        node = freeze(canvas, seeded_ids(), pack_args, options={"task_id": "given"})
        assert getattr(node, "steps", [node])[-1].id == "given"


@SOME
@given(canvases(4, PLAIN), st.sampled_from(["link", "link_error", "more"]))
def test_what_a_canvas_is_called_with(recipe, what):
    """``sig.apply_async(…, link=…)`` adds to what the canvas has."""
    extra = Signature("work", kwargs={"tag": "extra", "do": ["ok"]})
    canvas = build(recipe)
    called = Simulation(canvas, ("given",), kwargs={"more": 1}, options={what: [extra]} if what != "more" else {})
    links, errbacks = ([plain(extra)] if what == name else [] for name in ("link", "link_error"))
    assert_means(called, Meaning(plain(canvas), ("given",), {"more": 1}, links, errbacks, errbacks))
