"""Plans that messages refer to: every place in them, their text, and what they spare."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given

from nbcanvas.broker.envelope import open_, seal
from nbcanvas.canvas import Signature, chain, chord, group
from nbcanvas.errors import InvalidTaskError, NotSerializable
from nbcanvas.ids import random_source, seeded_ids
from nbcanvas.plan import Call, Chain, Fan, Next, Slot, freeze, places, start
from nbcanvas.plan.pointing import Pointing
from nbcanvas.protocol.payload import WIRE, Held, unpack_args
from nbcanvas.protocol.plans import dump, load
from tests.plan.recipes import build, canvases
from tests.protocol.test_wire_meaning import ByReference, Plans, post


def frozen(canvas, pack=WIRE.pack_args):
    return freeze(canvas, seeded_ids(1), pack)


def described(root):
    """Return all that a node says, as plain data."""
    return [
        (
            place.path,
            place.role,
            call.id,
            call.task,
            json.loads(json.dumps(unpack_args(call.payload))),
            call.immutable,
            dict(call.options),
            call.stamps,
            call.group_id,
            call.index,
            call.version,
            call.nesting,
        )
        for place in places(root)
        for call in [place.call]
    ]


def continuations(root):
    """Return what is behind every call of a canvas, and of what hangs on it, as starting it gives it."""
    found, todo = [], [(root, None)]
    while todo:
        node, then = todo.pop()
        for message in start(node, (), then, "root", None, 0.0).send:
            behind = message.then
            todo += [(hanging, None) for hanging in (*message.call.links, *message.call.errbacks)]
            while behind is not None:
                found.append(behind)
                if isinstance(behind, Next):
                    todo.append((behind.step, behind.behind))
                    behind = None
                else:
                    behind = behind.join.then
    return found


def named(then):
    if isinstance(then, Next):
        return [step.id for step in then.rest()[0]], named(then.rest()[1])
    return None if then is None else (then.join.id, then.index, named(then.join.then))


@given(canvases(3))
def test_every_continuation_has_a_place_and_the_place_means_it(recipe):
    root = frozen(build(recipe))
    here, there = Pointing(root), Pointing(load(dump(root)))
    for then in continuations(root):
        number, position = here.refer(then)
        for pointing in (here, there):
            found = pointing.resolve(number, position)
            assert named(found) == named(then)
            assert pointing.refer(found) == (number, position)


def test_what_is_not_of_the_canvas_has_no_place():
    one, other = (frozen(chain(*[Signature("add", (i,)) for i in range(3)])) for _ in range(2))
    pointing = Pointing(one)
    assert pointing.refer(None) is None
    assert pointing.refer(Next(other, 1, None)) is None
    assert pointing.refer(Next(one, 1, Next(other, 1, None))) is None, "it goes on behind its end"
    for number, position in [(0, 3), (0, -1), (1, 0), (-1, 0)]:
        with pytest.raises(LookupError, match="no place"):
            pointing.resolve(number, position)
    with pytest.raises(LookupError, match="no barrier"):
        pointing.join(0)


@given(canvases(4))
def test_a_plan_comes_back_from_its_text(recipe):
    root = frozen(build(recipe))
    assert described(load(dump(root))) == described(root)
    assert described(load(json.loads(dump(root)))) == described(root), "as an object inside another text"


def test_all_that_a_call_says_comes_back():
    call = Call(
        "an id",
        "add",
        Held(((1, {"a": (2, 3)}), {"more": [None]})),
        True,
        {"queue": "q", "countdown": 3, "headers": {"x": "y"}},
        (Call("a link", "add", ()),),
        (Call("an errback", "e", (1,)),),
        {"lab": ["a"]},
        "a group",
        3,
        "a version",
        2,
    )
    assert described(load(dump(call))) == described(call)


def test_members_that_are_alike_are_written_at_once():
    def read(members, ids=None):
        root = freeze(group(members), ids or seeded_ids(1), WIRE.pack_args)
        text = dump(root)
        assert described(load(text)) == described(root)
        return len(text) / len(members)

    plain = [Signature("add", (place, 'é"%', 0.5, None)) for place in range(1000)]
    assert read(plain, random_source()) < 40, "no ids"
    assert read(plain) < 80
    assert read([Signature("add", ([place],), {"y": {"z": place}}) for place in range(1000)]) < 120
    around = (f"{number & 0xFFFFFFFF:08x}-1" for number in itertools.count(0xFFFFFFF0))
    assert read(plain, around.__next__) < 80
    odd = Signature("add", (1,), options={"queue": "other"})
    read([*plain[:9], odd, *plain[:3], odd, Signature("mul", (1,)), *plain[:20]])
    read([Signature("add", (1,), options={"task_id": f"id {place}"}) for place in range(9)])
    root = frozen(chain(group(plain[:100]), Signature("sum")))
    assert described(load(dump(root))) == described(root)


def test_plans_may_be_long_and_deep():
    long = Chain([Call(f"c{i}", "add", (i,)) for i in range(10_000)])
    assert [step.id for step in load(dump(long)).steps] == [step.id for step in long.steps]
    deep = Call("innermost", "add", ())
    for depth in range(500):
        deep = Chain([Fan(f"f{depth}", [deep, Call(f"m{depth}", "add", ())]), Call(f"b{depth}", "sum", ())])
    assert described(load(dump(deep))) == described(deep)
    pointing = Pointing(load(dump(deep)))
    innermost = continuations(pointing.root)[0]
    assert pointing.resolve(*pointing.refer(innermost)).index == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"version":1,"nodes":[]}',
        '{"version":2,"nodes":[["f","a",[]]]}',
        '{"version":1,"nodes":7}',
    ]
    + [
        json.dumps({"version": 1, "nodes": nodes})
        for nodes in (
            [7],
            [["x"]],
            [["c", "a"]],
            [["c", "a", "t", [], {}]],
            [["s", [0]]],
            [["f", 3, []]],
            [["s", ["a"]]],
            [["s", []], ["s", [0]]],
            [["f", "a", []], ["f", "b", [0]]],
            [["c", "a", "t", "[]", "{}", 7]],
        )
    ],
)
def test_a_text_that_is_no_plan_is_one_clear_error(text):
    with pytest.raises(InvalidTaskError, match="a plan"):
        load(text)


def test_a_plan_that_cannot_travel_says_which_task():
    with pytest.raises(NotSerializable, match=r"odd: .*set has no form"):
        dump(Chain([Call("a", "fine", ()), Call("b", "odd", Held((({1},), {})))]))


# -- what it spares ----------------------------------------------------------------------------------------------------


class Weighed(ByReference):
    """Counts messages and their bytes."""

    messages = bytes = 0

    def travelled(self, message):
        self.messages += 1
        self.bytes += len(seal(self.posts[0].write(message), "a delivery tag of 36 characters long"))
        return super().travelled(message)


def work(number):
    return Signature("work", (), {"tag": f"t{number}", "do": ["ok"]})


def stages(count, width):
    steps = [step for k in range(count) for step in (group([work(f"{k}.{i}") for i in range(width)]), work(k))]
    return chain(*steps)


def test_the_messages_of_a_chain_take_bytes_linear_in_its_steps():
    run = Weighed(chain(*[work(i) for i in range(1000)]))
    assert run.messages == 1000
    assert run.bytes < 2_000_000


def test_the_messages_of_stages_take_bytes_linear_in_the_tasks():
    each = [
        run.bytes / run.messages for run in (Weighed(stages(k, w)) for k, w in [(3, 5), (30, 5), (3, 60), (12, 30)])
    ]
    assert max(each) < 1.1 * min(each)


def test_what_is_short_is_told_in_full():
    root = frozen(chain(work(1), work(2)))
    (message,) = start(root, (), None, "root", None, 0.0).send
    written = post(plans=Plans(Pointing(root)), by_reference=lambda message: "the plan").write(message)
    assert json.loads(written.body)[2]["chain"][0]["task"] == "work"


def test_groups_that_end_in_headers_are_written_for_celerys_workers_and_read_as_they_are():
    """Celery's worker would count their tasks one by one; a call behind each hands on its list."""
    inner = group(work(3), chain(work(4), group(work(5), work(6))))
    header = [chain(work(2), inner), chord([work(7)], inner)]
    (message,) = start(frozen(chain(work(1), chord(header, work(8)))), (), None, "root", None, 0.0).send
    letter = post().write(message)
    (written,) = json.loads(letter.body)[2]["chain"]
    ends = [_end(member) for member in written["kwargs"]["header"]["kwargs"]["tasks"]]
    assert [end["task"] for end in ends] == ["celery.accumulate"] * 2
    read = post().read(open_(seal(letter, "tag")))
    assert described(read.then.step) == described(message.then.step)


def _end(sig):
    while sig["subtask_type"]:
        sig = sig["kwargs"]["body"] if sig["subtask_type"] == "chord" else sig["kwargs"]["tasks"][-1]
    return sig


# -- the signature that stands for the rest ----------------------------------------------------------------------------


def continued(pointing, place, *values):
    """Return the message that a worker of Celery's sends, which takes a reference for a task like any other."""
    letter = post().write(
        start(Call("next", "nbcanvas.continue", Held((values, place))), (), None, "root", "p", 0.0).send[0]
    )
    return post(plans=Plans(pointing)).read(open_(seal(letter, "tag")))


def test_a_reference_that_comes_as_a_task_is_what_it_stands_for():
    body = Chain([Call("b", "sum", ()), Call("c", "add", ())])
    fan = Fan("g", [Call("m0", "add", ()), Chain([Call("m1", "add", ()), Fan("inner", [Call("n", "add", ())])])])
    pointing = Pointing(Chain([Call("first", "add", ()), fan, *body.steps]))
    read = continued(pointing, {"plan": "the plan", "node": 0, "position": 2}, [1, 2])
    assert (read.call.id, read.root_id, read.parent_id, read.given[0].value) == ("b", "root", "p", [1, 2])
    assert read.then.step.id == "c"
    into_fan = continued(pointing, {"plan": "the plan", "node": 0, "position": 1}, 5)
    assert into_fan.call.task == "celery.accumulate"
    assert into_fan.then.step.id == "g"
    behind = continued(pointing, {"plan": "the plan", "node": 1}, [3])
    assert behind.call.id == "b"
    inner = continued(pointing, {"plan": "the plan", "node": 3}, [4])
    assert isinstance(inner.then, Slot)
    assert (inner.then.join.id, inner.then.index) == ("g", 1)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ({"plan": "another", "node": 0, "position": 0}, "stands in the plan 'another', which is not kept here"),
        ({"plan": ["another"], "node": 0, "position": 0}, "which is not kept here"),
        ({"plan": "the plan", "node": 0, "position": 9}, "no place 9 in number 0"),
        ({"plan": "the plan", "node": "0", "position": 1}, "cannot be understood"),
        ({"plan": "the plan", "node": 0}, "no barrier of the number 0"),
        ({"plan": "the plan"}, "KeyError: 'node'"),
    ],
)
def test_a_reference_to_nothing_is_one_clear_error(place, says):
    with pytest.raises(InvalidTaskError, match=says):
        continued(Pointing(Chain([Call("a", "add", ()), Call("b", "add", ())])), place, 1)
