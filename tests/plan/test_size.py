"""Long, deep and wide canvases: planned and run without recursion, at a cost that is linear in the tasks."""

from __future__ import annotations

from functools import reduce

import pytest

from nbcanvas.canvas import Signature, chain, chord, group
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import Message, Value, advance, calls_of, freeze, places, start
from nbcanvas.protocol.payload import pack_args
from tests.costs import memory, operations
from tests.plan.simulate import Simulation, check


def work(number=0):
    return Signature("work", (), {"tag": f"t{number}", "do": ["ok"]})


def failing():
    return Signature("work", (), {"tag": "failing", "do": ["fail"]})


def nested(step, depth=500, seed=work):
    return reduce(lambda canvas, number: step(canvas, work(number)), range(depth), seed())


def linked(canvas, first):
    first.link(canvas)
    return first


def errback_of_errback(canvas, _):
    return failing().on_error(canvas)


SHAPES = {
    "group | task": lambda inner, task: group(inner, work(-1)) | task,
    "task | group": lambda inner, task: task | group(inner, work(-1)),
    "group in group": lambda inner, task: group(group(inner), task),
    "group of one": lambda inner, task: group(inner),
    "chain of whole chains": lambda inner, task: chain(inner, task, priority=1),
    "chain in group": lambda inner, task: group(chain(inner, task, priority=1)),
    "chord in a body": lambda inner, task: chord([task], inner),
    "chord in a header": lambda inner, task: chord([inner, task], work(-1)),
    "both": lambda inner, task: chord([task, chord([work(-1)], work(-2))], chain(inner, work(-3))),
    "links of links": linked,
    "errbacks of errbacks": errback_of_errback,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [work, failing])
def test_a_nesting_of_500(shape, seed):
    canvas = nested(SHAPES[shape], seed=seed)
    run = Simulation(canvas)
    check(run)
    assert sum(run.ends.values()) >= (500 if shape != "group of one" else 1)
    assert sum(1 for _ in places(run.nodes[0])) >= len(list(calls_of(run.nodes[0])))


def test_a_replacement_in_a_replacement():
    canvas = work()
    for number in range(60):  # each is pickled inside the one before
        canvas = Signature("work", (), {"tag": f"r{number}", "do": ["replace", canvas | work(-1)]})
    run = Simulation(canvas | work(-2))
    check(run)
    assert run.ends["t-2", "SUCCESS", next(r for t, s, r in run.ends if t == "t-2")] == 1


def test_a_chain_of_10_000():
    run = Simulation(chain(work(number) for number in range(10_000)))
    check(run)
    assert len(run.ends) == 10_000
    assert {state for _, state, _ in run.ends} == {"SUCCESS"}


def test_a_chain_of_10_000_whose_first_step_fails():
    run = Simulation(chain(failing(), *(work(number) for number in range(10_000))))
    check(run)
    assert len(run.ends) == 10_001
    assert {state for _, state, _ in run.ends} == {"FAILURE"}


@pytest.mark.slow
def test_a_chord_of_100_000():
    node = freeze(group(work(number) for number in range(100_000)) | work(-1), seeded_ids(), pack_args)
    transition = start(node, (), None, "root", None, 0.0)
    assert len(transition.send) == 100_000
    slots = [advance(message, Value(1), 0.0).arrivals[0].slot for message in transition.send]
    assert [slot.index for slot in slots] == list(range(100_000))
    assert {slot.join for slot in slots} == {slots[0].join}


# -- cost ----------------------------------------------------------------------------------------------------------


def plan(canvas):
    return freeze(canvas, seeded_ids(), pack_args)


WIDE = {
    "chain": lambda n: chain(work(number) for number in range(n)),
    "chain with errback": lambda n: chain(*(work(number) for number in range(n)), link_error=[work(-1)]),
    "group": lambda n: group(work(number) for number in range(n)),
    "group with errback": lambda n: group([work(number) for number in range(n)], link_error=[work(-1)]),
    "chords": lambda n: chain(
        *(step for number in range(n // 3) for step in (group(work(), work()), work())), priority=1
    ),
}


@pytest.mark.parametrize("shape", WIDE)
def test_planning_is_linear_in_the_tasks(shape):
    one, two = WIDE[shape](1_000), WIDE[shape](2_000)
    plan(WIDE[shape](3))  # what is imported or remembered once is, whichever test comes first
    assert operations(lambda: plan(two)) < 2.1 * operations(lambda: plan(one))
    assert memory(lambda: plan(two)) < 3 * memory(lambda: plan(one))  # quadratic is 4


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"errbacks of errbacks"}))
def test_planning_is_linear_in_the_nesting(shape):
    one, two = nested(SHAPES[shape], 100), nested(SHAPES[shape], 200)
    plan(nested(SHAPES[shape], 3))  # as above
    assert operations(lambda: plan(two)) < 2.2 * operations(lambda: plan(one))
    assert memory(lambda: plan(two)) < 3 * memory(lambda: plan(one))  # quadratic is 4


def test_a_message_costs_the_same_whatever_is_behind_it():
    def advanced(length):
        node = plan(chain(work(number) for number in range(length)))
        first = start(node, (), None, "root", None, 0.0).send[0]
        assert isinstance(first, Message)
        return operations(lambda: advance(first, Value(1), 0.0))

    assert advanced(20) == advanced(2_000)


def test_running_is_linear_in_the_tasks():
    one, two = WIDE["chain"](500), WIDE["chain"](1_000)
    assert operations(lambda: Simulation(two)) < 2.2 * operations(lambda: Simulation(one))
    one, two = WIDE["chords"](500), WIDE["chords"](1_000)
    assert operations(lambda: Simulation(two)) < 2.2 * operations(lambda: Simulation(one))


def test_a_chain_of_tasks_that_replace_themselves_is_linear():
    def run(length):
        step = Signature("work", (), {"tag": "r", "do": ["replace", chain(work(-1), work(-2))]})
        return Simulation(chain([step.clone() for _ in range(length)]))

    assert operations(lambda: run(200)) < 2.2 * operations(lambda: run(100))
