"""``|``, chain, group and chord: what they make, how they read, and that they never change what they are made of."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, chord, group, is_composite, pin, set_default_host, signature, steps_of
from nbcanvas.ids import seeded_ids


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("tasks.add(2, 2) | mul(8)", lambda a, m, t: a(2, 2) | m(8)),
        ("tasks.add(4, 4) | mul(8) | mul(10)", lambda a, m, t: chain(a(4, 4), m(8), m(10))),
        ("tasks.add(4, 16) | mul(2) | add(4) | mul(8)", lambda a, m, t: a(4, 16) | m(2) | (a(4) | m(8))),
        ("tasks.add(2, 2) | %add((add(1), add(2)), 1)", lambda a, m, t: a(2, 2) | group(a(1), a(2)) | a(1)),
        ("group((tasks.add(2, 2), add(4, 4)))", lambda a, m, t: group((a(2, 2), a(4, 4)))),
        ("group((tasks.add(1),))", lambda a, m, t: group(a(1))),
        ("%tasks.tsum((add(1), add(2)))", lambda a, m, t: group(a(1), a(2)) | t()),
        ("%(tasks.tsum((add(1), add(2))) | mul(3))", lambda a, m, t: group(a(1), a(2)) | t() | m(3)),
        ("<chord without body: (tasks.add(1),)>", lambda a, m, t: chord([a(1)])),
        ("<chain: empty>", lambda a, m, t: chain()),
        ("group(<empty>)", lambda a, m, t: group()),
        (
            "group((tasks.add(0), add(1), add(2), add(3), add(4), … 9995 more))",
            lambda a, m, t: group(a(i) for i in range(10_000)),
        ),
        ("tasks.add('tasks.mul')", lambda a, m, t: a("tasks.mul")),
    ],
)
def test_reprs(add, mul, tsum, text, make):
    assert repr(make(add.s, mul.s, tsum.s)) == text


def test_reprs_are_short_and_have_no_addresses(add):
    for value in (object(), "x" * 10_000, list(range(10_000)), {"a": [{}] * 999}, (i for i in "abc"), b"x" * 10_000):
        sig = chain(*(group(add.s(value, k=value) for _ in range(100)) for _ in range(50)))
        assert len(repr(sig)) < 2500
        assert "0x" not in repr(sig)
        assert len(repr(add.s(*[value] * 5000))) < 5000


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        ("task", "task", chain),
        ("task", "group", chain),
        ("task", "chord", chain),
        ("task", "chain", chain),
        ("chain", "task", chain),
        ("chain", "group", chain),
        ("chain", "chord", chain),
        ("chain", "chain", chain),
        ("group", "task", chord),
        ("group", "group", chord),
        ("group", "chord", chord),
        ("group", "chain", chord),
        ("chord", "task", chord),
        ("chord", "group", chord),
        ("chord", "chord", chord),
        ("chord", "chain", chord),
        ("map", "map", chain),
        ("group", "map", chord),
    ],
)
def test_kinds(add, mul, tsum, left, right, kind):
    kinds = {
        "task": lambda: add.s(1),
        "chain": lambda: chain(add.s(1), mul.s(2)),
        "map": lambda: add.map([1]),
        "group": lambda: group(add.s(1), mul.s(2)),
        "chord": lambda: chord([add.s(1)], tsum.s()),
    }
    one, two = kinds[left](), kinds[right]()
    before = json.dumps([one, two])
    both = one | two
    assert type(both) is kind
    assert json.dumps([one, two]) == before
    both.stamp(label=1)
    both.set(queue="q")
    both.link(mul.s(77))
    both.link_error(mul.s(78))
    assert json.dumps([one, two]) == before
    made = json.dumps(again := one | two)
    for operand in (one, two):
        operand.stamp(label=2)
        operand.link(mul.s(79))
    assert json.dumps(again) == made
    same = one
    same |= two
    assert type(same) is kind


def test_chain_constructor(add, mul, tsum):
    assert type(chain(add.s(1))) is chain
    assert chain(add.s(1)).tasks == [add.s(1)]
    assert type(chain(group(add.s(1), add.s(2)), tsum.s())) is chord
    assert type(chain(group(add.s(1), add.s(2)))) is chain
    assert type(chain([group(add.s(1), add.s(2))])) is group
    assert chain(add.s(i) for i in range(3)) == chain([add.s(0), add.s(1), add.s(2)]) == add.s(0) | add.s(1) | add.s(2)
    raw = chain(group(add.s(1), add.s(2)), tsum.s(), queue="q")
    assert type(raw) is chain
    assert raw.options == {"queue": "q"}
    assert chain(dict(add.s(1)), dict(mul.s(2))) == add.s(1) | mul.s(2)


def test_group_unrolling(add, mul, tsum):
    a, one, c = add.s(2, 2), group(add.s(1)), add.s(1)
    assert repr(chain(a, one, c)) == "tasks.add(2, 2) | add(1) | add(1)"
    assert repr(chain(group(add.s(1, 1)), add.s(2))) == "tasks.add(1, 1) | add(2)"
    unrolled = a | add.s(1) | c
    assert a | one | c == a | (one | c) == (a | one) | c == a | (one.clone() | c).clone() == unrolled
    assert a | group() | c == a | (group() | c) == chain(group(), a, group(), c) == a | c
    assert type(one | tsum.s()) is type(group() | tsum.s()) is chord
    assert (group(add.s(1), queue="q") | tsum.s()).tasks.options == {"queue": "q"}
    assert (a | group(add.s(1), queue="q")).tasks[1].options == {"queue": "q"}
    assert a | group(mul.s(1) | mul.s(2)) | c == a | mul.s(1) | mul.s(2) | c
    assert type((a | chord([add.s(1)], tsum.s())).tasks[1]) is chord, "an explicit chord stays one"
    assert chain([one]) == chain(add.s(1))
    assert group(add.s(1), add.s(2)) | group() == group(add.s(1), add.s(2))


def test_the_empty_chain_is_neutral(add, tsum):
    for sig in (add.s(1) | add.s(2), group(add.s(1), add.s(2)), chord([add.s(1)], tsum.s())):
        assert sig | chain() == sig
        assert chain() | sig == sig
    assert (chain() | chain()) == chain()


def test_constructors_keep_what_they_are_given(add, tsum):
    one, body = add.s(1), tsum.s()
    members = [one, add.s(2)]
    g = group(members)
    members.clear()
    assert len(g) == 2
    assert g.tasks[0] is one
    assert chord(g, body).body is body
    assert chord(g, body).tasks[0] is not one
    assert group(one).tasks[0] is not one
    assert group(g).tasks == g.tasks
    assert chord(add.s(1) | add.s(2), body).tasks == [add.s(1) | add.s(2)]


def test_a_chord_without_body_takes_what_follows(add, tsum):
    assert chord([add.s(1)]) | tsum.s() == chord([add.s(1)], tsum.s())


def test_a_group_with_options_stays_whole(add, tsum):
    made = group(add.s(1), add.s(2), queue="q") | tsum.s()
    assert made.tasks.options == {"queue": "q"}
    assert Signature.from_dict(json.loads(json.dumps(made))).tasks.options == {"queue": "q"}


def test_links_of_a_chain_are_given_to_its_steps(add, mul, tsum):
    c = add.s(1) | add.s(2)
    c.link(mul.s(1))
    c.link_error(mul.s(2))
    c.set(queue="q")
    first, second, third = (c | tsum.s()).tasks
    assert first.options == {"link_error": [mul.s(2)], "queue": "q"}
    assert second.options == {"link": [mul.s(1)], "link_error": [mul.s(2)]}
    assert third.options == {}
    assert [step.options.keys() for step in c.unchain_tasks()] == [first.options.keys(), second.options.keys()]
    assert c.options["queue"] == "q"
    assert steps_of(chain(c, c, queue="z"))[0].options["queue"] == "z"


def test_partial_arguments_of_a_chain_go_to_its_first_step(add, mul):
    c = (add.s(1) | mul.s(2)).clone(args=(5,))
    assert (c | add.s(3)).tasks[0].args == (5, 1)


def test_unsharing(add, mul):
    one = add.s(1) | add.s(2)
    two, three = one | mul.s(3), one | mul.s(4)
    two.tasks[0].set(queue="two")
    one.tasks[0].set(queue="one")
    three.kwargs["tasks"][0].set(queue="three")
    assert [c.tasks[0].options["queue"] for c in (one, two, three)] == ["one", "two", "three"]
    held = one.tasks[1]
    four = one | mul.s(5)
    held.set(queue="late")
    assert "queue" not in four.tasks[1].options


def test_nested_groups_are_kept_apart(add, tsum):
    c = group(group(add.s(1), add.s(2)), add.s(3)) | tsum.s()
    d = c.clone()
    d.tasks[0].tasks[0].set(queue="q")
    assert "queue" not in c.tasks[0].tasks[0].options


def test_length(add, tsum):
    inner = chord([add.s(1)] * 3, group(add.s(1), add.s(2)))
    assert chord([add.s(1), group(add.s(1), add.s(2)), add.s(1) | group(), inner], tsum.s()).__length_hint__() == 6
    assert len(group(add.s(1), add.s(2))) == 2


def test_a_subclass_stays_itself(add):
    class mychain(chain):
        __slots__ = ()

    assert type(mychain(add.s(1), add.s(2))) is mychain
    assert type(mychain(add.s(1), add.s(2)) | add.s(3)) is mychain


def test_the_order_of_members_of_a_generator(add):
    def members():
        yield add.s(1)
        raise LookupError("the user's own")

    for constructor in (group, chain, chord):
        with pytest.raises(LookupError, match="the user's own"):
            constructor(members())
    assert signature("x") == Signature("x")


def test_members_set_by_hand_as_dictionaries(add, tsum):
    for sig in (group(add.s(1)), chain(add.s(1)), chord([add.s(1)], tsum.s())):
        sig.tasks = [dict(add.s(2)), dict(tsum.s())]
        sig.stamp(label=1)
        tasks = sig.tasks if isinstance(sig.tasks, list) else sig.tasks.tasks
        assert [task.options["label"] for task in tasks] == [1, 1]


def leaf(name):
    return signature(name, (1,))


MAKE = {
    "|": lambda one, two: one | two,
    "chain": lambda one, two: chain([one, two]),
    "clone": lambda one, two: one.clone(),
    "one": lambda one, two: chain([one]),
}
CHANGE = {
    "stamp": lambda sig, n, ids: sig.stamp(label=n),
    "look": lambda sig, n, ids: getattr(sig, "tasks", None),
    "set": lambda sig, n, ids: sig.set(countdown=n, immutable=True),
    "pin": lambda sig, n, ids: pin(sig, ids),
    "link": lambda sig, n, ids: sig.link(leaf(f"l{n}")),
    "errback": lambda sig, n, ids: sig.link_error(leaf(f"e{n}")),
}
MOVES = st.lists(st.tuples(st.sampled_from(["|", *MAKE, *CHANGE]), st.integers(0, 50), st.integers(0, 50)), max_size=25)


@settings(max_examples=min(300, 3 * settings().max_examples))
@given(MOVES)
def test_only_what_is_changed_changes(moves):
    """Compose and change canvases in any order: no canvas ever shows what was done to another."""
    set_default_host(lambda: SimpleNamespace(conf=SimpleNamespace()))
    ids = seeded_ids()
    pool = [
        leaf("a"),
        group(leaf("b"), leaf("c")),
        chain(leaf("d"), leaf("e")),
        chord([leaf("f")], leaf("g")),
        group(leaf("h"), group(leaf("i")), queue="q"),
        chain(group(leaf("j"), leaf("k")), queue="q"),
    ]
    snapshots = [json.dumps(sig) for sig in pool]
    for number, (move, one, two) in enumerate(moves):
        place = one % len(pool)
        if move in CHANGE:
            CHANGE[move](pool[place], number, ids)
            snapshots[place] = json.dumps(pool[place])
        elif sum(map(len, snapshots)) < 100_000:
            pool.append(MAKE[move](pool[place], pool[two % len(pool)]))
            snapshots.append(json.dumps(pool[-1]))
        assert [json.dumps(sig) for sig in pool] == snapshots
    set_default_host(None)


def test_the_only_step_of_a_chain_is_not_shared(add):
    inner = chain(group(add.s(1), add.s(2))).clone()
    alone = chain([inner])
    assert type(alone) is group
    alone.tasks[0].set(queue="q")
    assert inner.tasks[0].tasks[0].options == {}


def test_a_group_with_options_is_not_shared(add, tsum):
    inner = add.s(0) | group(add.s(1), add.s(2), queue="q")
    made = inner | tsum.s()
    made.tasks[1].tasks.set(queue="r")
    made.tasks[1].tasks.tasks[0].set(queue="r")
    assert inner.tasks[1].options == {"queue": "q"}
    assert inner.tasks[1].tasks[0].options == {}


def test_a_map_is_one_step(add, tsum):
    mapped = add.map([1, 2])
    assert not is_composite(mapped)
    assert is_composite(group(mapped))
    assert chord([mapped, mapped | add.s(1)], tsum.s()).__length_hint__() == 2
    assert repr(mapped | tsum.s()) == "[tasks.add(x) for x in [1, 2]] | tasks.tsum()"
