"""Frozen canvases as plain JSON, and back."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, group
from nbcanvas.errors import CanvasError
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import Call, Chain, Fan, freeze
from nbcanvas.protocol.columns import read_column, read_runs, write_column, write_runs
from nbcanvas.protocol.document import PlanTable, read_plan, write_arguments
from nbcanvas.protocol.payload import pack_args, unpack_args
from nbcanvas.protocol.plain import LIMIT, Malformed
from tests.plan.recipes import build, canvases


def written(*roots):
    table = PlanTable(roots)
    table.check()
    arguments = [write_arguments(*unpack_args(call.payload), LIMIT) for call in table.calls]
    pieces = table.write([one for one, _ in arguments], [other for _, other in arguments], LIMIT, str)
    document = json.loads("{" + ",".join(f'"{name}":{text}' for name, text in pieces.items()) + "}")
    return document, [table.number_of(root) for root in roots]


def back(*roots):
    document, numbers = written(*roots)
    nodes = read_plan(document)[1]
    return [nodes[number] for number in numbers]


def facts(root):
    """Return all that is in a frozen canvas as plain values; without recursion."""
    found, todo, seen = [], [root], {}
    while todo:
        node = todo.pop()
        if id(node) in seen:
            found.append(("again", seen[id(node)]))
            continue
        seen[id(node)] = len(seen)
        if isinstance(node, Call):
            values = {name: getattr(node, name) for name in Call.__slots__ if name not in {"links", "errbacks"}}
            values["payload"] = unpack_args(node.payload)
            values["options"] = dict(node.options)
            found.append((values, len(node.links), len(node.errbacks)))
            todo += [*node.links, *node.errbacks]
        elif isinstance(node, Chain):
            found.append(("chain", len(node.steps)))
            todo += node.steps
        else:
            found.append(("fan", node.id, len(node.members)))
            todo += node.members
    return found


@given(st.integers(0, 8).flatmap(canvases))
def test_every_canvas_comes_back(recipe):
    try:
        root = freeze(build(recipe), seeded_ids(1), pack_args, {"work": "v1"})
    except CanvasError:
        assume(False)
    [found] = back(root)
    assert facts(found) == facts(root)


def test_stamps_options_and_shared_nodes_come_back():
    errback = Call("e", "mail", ())
    calls = [
        Call(f"c{i}", "add", (i, i), True, {"queue": "hi", "expires": 3.5}, (), (errback,), {"s": [i]}, "g", i, "v", 2)
        for i in range(3)
    ]
    roots = Fan("g", calls), Chain([Call("a", "a", pack_args((), {"x": {1: (2,)}})), Fan("h", ())]), calls[1]
    found = back(*roots)
    assert [facts(node) for node in found] == [facts(node) for node in roots]
    assert found[0].members[1] is found[2]
    assert len({id(call.errbacks[0]) for call in found[0].members}) == 1


def test_a_long_chain_and_a_wide_group_are_written_in_few_characters():
    root = freeze(chain(Signature("a", (1,)) for _ in range(2000)), seeded_ids(1), pack_args)
    document, _ = written(root)
    assert len(json.dumps({**document, "id": []})) < 1000
    root = freeze(group(Signature("a", (1,)) for _ in range(2000)), seeded_ids(1), pack_args)
    document, _ = written(root)
    assert len(json.dumps({**document, "id": [], "index": []})) < 1000


def nested(depth):
    node = Call("0", "a", ())
    for i in range(1, depth):
        node = Fan(f"f{i}", [node]) if i % 2 else Chain([node, Call(str(i), "a", ())])
    return node


def linked(depth):
    node = Call("0", "a", ())
    for i in range(1, depth):
        node = Call(str(i), "a", (), links=(node,))
    return node


@pytest.mark.parametrize("shape", [nested, linked])
def test_a_deep_canvas_comes_back_and_one_that_is_too_deep_is_refused(shape):
    assert facts(back(shape(1900))[0]) == facts(shape(1900))
    with pytest.raises(Malformed, match="inside each other"):
        PlanTable([shape(10_000)]).check()


def document(**changes):
    made, _ = written(Chain([Fan("g", [Call("a", "add", (1,)), Call("b", "add", (2,))]), Call("c", "tsum", ())]))
    return {**made, **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"calls": "three"}, "number of calls"),
        ({"calls": -1}, "number of calls"),
        ({"calls": True}, "number of calls"),
        ({"calls": 10**30}, "number of calls"),
        ({"calls": 2}, "3 values for 2 rows"),
        ({"id": ["a"]}, "1 values for 3 rows"),
        ({"id": ["a", "b", 3]}, '"id" of call 2'),
        ({"id": "abc"}, '"id" is no list'),
        ({"id": {"all": "a"}, "calls": 10**10}, '"id" is no list'),
        ({"task": {"of": ["a"], "at": [0, 0, 1]}}, "values it does not have"),
        ({"task": {"of": ["a"], "at": [[0, 10**15]]}}, "more values than 3 rows"),
        ({"task": {"of": ["a"], "at": [[0, 0]]}}, "more values than 3 rows"),
        ({"task": [None] * 3}, '"task" of call 0'),
        ({"args": [{}] * 3}, "arguments of call 0"),
        ({"args": [[{"__type__": "x", "__value__": 1}]] * 3}, "tagged"),
        ({"kwargs": [[]] * 3}, "keyword arguments of call 0"),
        ({"immutable": [1, 0, 0]}, "neither true nor false"),
        ({"options": [3] * 3}, '"options" of call 0'),
        ({"stamps": [[], [], []]}, '"stamps" of call 0'),
        ({"links": {"all": [7]}}, "outside the table"),
        ({"links": [[2], [], [0]]}, "inside itself"),
        ({"links": [[0], [], []]}, "inside itself"),
        ({"links": [[4], [], []]}, "inside itself"),
        ({"links": {"all": {}}}, "no list of numbers"),
        ({"index": [-1, 0, 0]}, '"index" of call 0'),
        ({"index": [1.5, 0, 0]}, '"index" of call 0'),
        ({"nesting": {"all": 1 << 20}}, '"nesting"'),
        ({"composites": {}}, '"composites" is no list'),
        ({"composites": [["loop", [0]]]}, "neither a chain nor a fan"),
        ({"composites": [[]]}, "neither a chain nor a fan"),
        ({"composites": [["fan", 3, [0]]]}, "the id of composite 3"),
        ({"composites": [["chain", [0]]]}, "fewer than two steps"),
        ({"composites": [["chain", [0, 1]], ["chain", [3, 2]]]}, "chain of chains"),
        ({"composites": [["fan", "g", [0]], ["fan", "h", [3]]]}, "fan in a fan"),
        ({"composites": [["fan", "g", [0]], ["fan", "h", [0]]]}, "inside two composites"),
        ({"composites": [["fan", "g", [0, 0]]]}, "inside two composites"),
        ({"composites": [["fan", "g", [3]]]}, "inside itself"),
        ({"composites": [["fan", "g", [[0, 10**15]]]]}, "outside the table"),
    ],
)
def test_what_is_no_plan_is_refused(changes, says):
    with pytest.raises(Malformed, match=says):
        read_plan(document(**changes))
    gone = {name: value for name, value in document().items() if name not in changes}
    with pytest.raises(Malformed):
        read_plan(gone)


def test_a_plan_that_grows_out_of_all_proportion_is_refused():
    """Each call links twice to the next: 2**60 calls, written out."""
    made, _ = written(linked(60))
    made["links"] = [[i + 1] if i < 59 else [] for i in range(60)]
    made["errbacks"] = made["links"]
    with pytest.raises(Malformed, match="repeated very often"):
        read_plan(made)
    count = 20_000
    wide = {**written(Fan("g", [Call(str(i), "a", ()) for i in range(count)]))[0], "links": {"all": [[0, count - 1]]}}
    with pytest.raises(Malformed, match="repeated very often"):
        read_plan(wide)


@given(st.lists(st.sampled_from(["1", "null", '"a"']), max_size=40))
def test_every_column_comes_back(texts):
    found = read_column(json.loads(write_column(texts)), len(texts), "it")
    assert [json.dumps(value) for value in found] == texts


@given(st.lists(st.integers(0, 9), max_size=30))
def test_every_run_of_numbers_comes_back(numbers):
    runs = json.loads(json.dumps(write_runs(numbers)))
    assert read_runs(runs, 10, "it", 30) == numbers
