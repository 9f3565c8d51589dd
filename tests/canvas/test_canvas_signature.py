"""Signatures, partials, immutability, links, and the dictionary they are: the guide, statement by statement."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from nbcanvas.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    make,
    maybe_signature,
    pin,
    set_default_host,
    signature,
    xmap,
    xstarmap,
)
from nbcanvas.errors import ImproperlyConfigured, NotRegistered
from nbcanvas.ids import seeded_ids


def test_by_name(host):
    sig = signature("tasks.add", args=(2, 2), countdown=10)
    assert repr(sig) == "tasks.add(2, 2)"
    assert sig.args == (2, 2)
    assert sig.options == {"countdown": 10}


def test_fields(add):
    sig = add.signature((2, 2), {"debug": True}, countdown=10)
    assert (sig.task, sig.name, sig.args, sig.kwargs, sig.options) == (
        "tasks.add",
        "tasks.add",
        (2, 2),
        {"debug": True},
        {"countdown": 10},
    )
    assert (sig.subtask_type, sig.immutable, sig.id, sig.parent_id, sig.root_id) == (None, False, None, None, None)
    assert sig.type is add
    assert repr(add.s(2, 2, debug=True)) == "tasks.add(2, 2, debug=True)"


def test_it_is_celerys_dictionary(add):
    assert dict(add.s(2, 2)) == {
        "task": "tasks.add",
        "args": (2, 2),
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    assert json.loads(json.dumps(add.si(1)))["immutable"] is True
    assert isinstance(add.s(), dict)
    assert type(add.s().__json__()) is dict


def test_calling_runs_the_task_here(add):
    assert add.s(2, 2)() == 4
    assert add.s(2)(4) == 6
    assert signature("tasks.add", (1, 2))() == 3
    assert add.si(2, 2)(17) == 4


def test_partials_are_prepended(host):
    subtract = host.task("subtract", lambda x, y: x - y)
    assert subtract.s(10)(30) == 20


def test_delay_and_apply_async_hand_the_partials_to_the_app(host, add):
    sig = add.s(2)
    sig.delay(4, debug=True)
    sig.apply_async((4,), countdown=1, expires=None)
    sig.apply((4,), {"y": 1}, queue="q")
    assert host.calls == [
        ("submit", sig, (4,), {"debug": True}, {}),
        ("submit", sig, (4,), {}, {"countdown": 1}),
        ("apply", sig, (4,), {"y": 1}, {"queue": "q"}),
    ]
    assert ~sig == "the value"
    assert sig.freeze("x", parent_id="p") == "frozen"
    assert host.calls[-1][2]["task_id"] == "x"


def test_merged(add):
    sig = add.signature((2,), {"a": 1, "b": 1}, countdown=10)
    assert sig.merged((1,), {"b": 2}, {"countdown": 1, "queue": "q"}) == (
        (1, 2),
        {"a": 1, "b": 2},
        {"countdown": 1, "queue": "q"},
    )
    assert add.si(2).merged((1,), {"b": 2}, {"countdown": 1}) == ((2,), {}, {"countdown": 1})
    assert add.si(2).merged((1,), force=True)[0] == (1, 2)
    assert sig == add.signature((2,), {"a": 1, "b": 1}, countdown=10)


def test_merging_keeps_group_and_stamps(add):
    sig = add.s().set(group_id="g", stamped_headers=["s"], s=1)
    assert sig.merged(options={"group_id": "h", "stamped_headers": [], "s": 2, "queue": "q"})[2] == {
        "group_id": "g",
        "stamped_headers": ["s"],
        "s": 1,
        "queue": "q",
    }


def test_clone(add):
    sig = add.s(2)
    other = sig.clone(args=(4,), kwargs={"debug": True}, countdown=3)
    assert repr(other) == "tasks.add(4, 2, debug=True)"
    assert other.options == {"countdown": 3}
    other.kwargs["debug"] = 1
    other.options["x"] = [1]
    assert sig == add.s(2)
    third = other.partial()
    third.options["x"].append(2)
    assert other.options["x"] == [1]
    assert third.type is add


def test_a_clone_of_a_composite_keeps_its_partials(add, mul):
    assert (add.s(4) | mul.s(8)).clone(args=(16,)).args == (16,)
    assert group(add.s(1)).clone(args=(16,)).args == (16,)


def test_replace(add):
    sig = add.s(1, a=1)
    assert sig.replace(args=(5,)) == add.s(5, a=1)
    assert sig.replace(kwargs={}, options={"q": 1}) == add.s(1).set(q=1)
    assert sig == add.s(1, a=1)


def test_set_returns_itself(add):
    sig = add.s(2, 2)
    assert sig.set(countdown=1, immutable=True) is sig
    assert sig.immutable
    assert sig.options == {"countdown": 1}


def test_links(add, mul):
    sig, callback, errback = add.s(), mul.s(1), mul.s(2)
    assert sig.link(callback) is callback
    sig.link(mul.s(1))
    assert sig.options["link"] == [callback], "an equal callback is linked once"
    assert sig.link_error(errback) is errback
    assert sig.on_error(mul.s(3)) is sig
    assert sig.options["link_error"] == [mul.s(2), mul.s(3)]
    single = add.s().set(link=callback)
    single.link(errback)
    assert single.options["link"] == [callback, errback]
    single.extend_list_option("link", mul.s(9))
    assert len(single.options["link"]) == 3


def test_flatten_links(add, mul):
    third = mul.s(3)
    second = mul.s(2)
    second.link(third)
    sig = add.s()
    sig.link(second)
    sig.link(add.s(4))
    assert sig.flatten_links() == [sig, second, third, add.s(4)]


def test_link_of_composites(host, add, mul, tsum):
    g = group(add.s(1), add.s(2))
    assert g.link(mul.s(1)).immutable
    assert [len(t.options.get("link", ())) for t in g.tasks] == [1, 0]
    assert len(g.link_error(mul.s())) == 2
    c = chord([add.s(1), chord([add.s(2)], tsum.s())], tsum.s())
    assert c.link(cb := mul.s()) is cb
    assert c.body.options["link"] == [cb]
    c.link_error(mul.s(7))
    assert c.body.options["link_error"] == [mul.s(7)]
    assert "link_error" not in c.tasks[0].options
    assert c.tasks[1].body.options["link_error"] == [mul.s(7)]
    host.conf.task_allow_error_cb_on_chord_header = True
    c = chord([add.s(1)], tsum.s())
    c.link_error(mul.s(7))
    assert c.tasks[0].options["link_error"] == [mul.si(7)]


def test_set_immutable_of_composites(add, tsum):
    c = chord([add.s(1), group(add.s(2))], tsum.s())
    c.set_immutable(True)
    assert c.tasks[0].immutable
    assert c.tasks[1].tasks[0].immutable
    assert not c.body.immutable


def test_reprcall(add):
    assert add.si(2).reprcall(1, z=3) == "tasks.add(1, 2, z=3)"


def every_kind(add, mul, tsum):
    linked = add.s(1)
    linked.link(mul.s(1) | mul.s(2))
    linked.link_error(mul.s())
    return [
        add.s(1, x=[1, {"a": 2}]),
        add.si(),
        linked,
        chain(add.s(1), mul.s(2)),
        chain(),
        group(),
        group(add.s()),
        group(add.s(1), group(mul.s(1))),
        chord([add.s(1)], tsum.s()),
        group(add.s(1), linked) | tsum.s() | mul.s(2),
        add.map([1, 2]),
        add.starmap([[1, 2]]),
        add.chunks([[1, 2], [3, 4]], 1),
        group(add.map([1]), add.s()) | group(add.s(), mul.s()) | chord([tsum.s(), tsum.s()], tsum.s()),
    ]


@pytest.mark.parametrize("index", range(14))
def test_round_trips(add, mul, tsum, index):
    sig = every_kind(add, mul, tsum)[index]
    text = json.dumps(sig)
    # A member that occurs again must not be shared with the document that it came from.
    again = Signature.from_dict(document := json.loads(text))
    assert type(again) is type(sig)
    assert json.dumps(again) == text
    again.set(queue="q")
    assert json.dumps(document) == text
    for other in (
        pickle.loads(pickle.dumps(sig)),
        copy.deepcopy(sig),
        sig.clone(),
        copy.copy(sig),
        signature(sig),
        Signature.from_dict(sig),
        maybe_signature(sig, clone=True),
        maybe_signature(dict(sig)),
    ):
        assert type(other) is type(sig)
        assert other == sig
        assert json.dumps(other) == text


def test_copies_are_apart(add, mul, tsum):
    for make_copy in (copy.deepcopy, Signature.clone, lambda s: pickle.loads(pickle.dumps(s))):
        for sig, other in zip(
            every_kind(add, mul, tsum), map(make_copy, kinds := every_kind(add, mul, tsum)), strict=True
        ):
            original = kinds[every_kind(add, mul, tsum).index(sig)]
            other.stamp(label=1)
            assert original == sig


def test_deepcopy_copies_arguments_and_clone_does_not(add):
    sig = add.s([1])
    assert sig.clone().args[0] is sig.args[0]
    assert copy.deepcopy(sig).args[0] is not sig.args[0]
    assert copy.deepcopy(sig).type is add


def test_from_dict_of_a_short_dictionary(host):
    assert Signature.from_dict({"task": "tasks.add"}) == signature("tasks.add")
    assert maybe_signature(None) is None


def test_register_type(host):
    @Signature.register_type()
    class Special(Signature):
        __slots__ = ()

        def __init__(self, x):
            super().__init__("special", (x,), subtask_type="Special")

    sig = Special(3)
    try:
        assert type(Signature.from_dict(json.loads(json.dumps(sig)))) is Special
        assert type(sig.clone()) is Special
        assert type((sig | sig).tasks[0]) is Special
    finally:
        del Signature.TYPES["Special"]


def test_types(host):
    assert {
        "chain": chain,
        "group": group,
        "chord": chord,
        "xmap": xmap,
        "xstarmap": xstarmap,
        "chunks": chunks,
    }.items() <= Signature.TYPES.items()


def test_the_app(host, add):
    other = object()
    assert add.s().app is host
    assert signature("x", app=other).app is other
    assert group(signature("x", app=other)).app is other
    assert maybe_signature({"task": "x"}, app=other).app is other
    assert chord([add.s()], signature("x", app=other)).app is other
    with pytest.raises(NotRegistered, match="nobody"):
        signature("nobody").type  # noqa: B018


def test_without_an_app_it_says_so(add):
    set_default_host(None)
    with pytest.raises(ImproperlyConfigured, match="no app"):
        signature("tasks.add").delay()


def test_map_starmap_chunks(host, add):
    assert repr(add.map([1, 2])) == "[tasks.add(x) for x in [1, 2]]"
    assert repr(add.starmap(zip([1], [2], strict=True))) == "[tasks.add(*x) for x in [(1, 2)]]"
    chunk = add.chunks(zip(range(5), range(5), strict=True), 2)
    assert [len(part.kwargs["it"]) for part in chunk.group().tasks] == [2, 2, 1]
    assert all(isinstance(part, xstarmap) for part in chunk.group().tasks)
    assert add.map([1]).immutable
    chunk()
    assert host.calls[-1][:2] == ("submit", chunk)
    skewed = chunk.group().skew(start=1, stop=2)
    assert [part.options["countdown"] for part in skewed.tasks] == [1, 2, 2]


def test_calling_composites(host, add, mul, tsum):
    c = add.s(4) | mul.s(8)
    c(16)
    assert host.calls[-1] == ("submit", c, (16,), {}, {})
    g = group(add.s(1), add.s(2))
    g(5, queue="q")
    assert host.calls[-1] == ("submit", g, (5,), {}, {"queue": "q"})
    assert chain()() is None
    with pytest.raises(TypeError, match="chord"):
        g.apply_async(link=add.s())
    header = chord(add.s(i, i) for i in range(3))
    header(tsum.s())
    sent = host.calls[-1][1]
    assert isinstance(sent, chord)
    assert sent.body == tsum.s()
    assert header.body is None
    header.apply_async(kwargs={"body": mul.s(), "k": 1})
    assert host.calls[-1][1].body == mul.s()
    assert host.calls[-1][3] == {"k": 1}
    header.apply(body=mul.s())
    assert host.calls[-1][:2] == ("apply", host.calls[-2][1])


def ids_of(sig):
    return {k: v for k, v in sig.options.items() if k.endswith("_id") or k == "group_index"}


def test_pin(add, tsum):
    sig = add.s(1) | group(add.s(2), add.s(3) | add.s(4)) | tsum.s()
    whole = pin(sig, seeded_ids(1), task_id="mine", root_id="r", group_id="g", group_index=3)
    first, c = sig.tasks
    assert whole == "mine" == sig.id
    assert ids_of(c.body) == {"task_id": "mine", "root_id": "r", "group_id": "g", "group_index": 3}
    assert first.id
    assert ids_of(first).keys() == {"task_id", "root_id"}
    assert isinstance(c.tasks, group)
    assert c.id == c.tasks.id
    inner = c.tasks.tasks[1]
    assert inner.id == inner.tasks[-1].id
    before = json.dumps(sig)
    assert pin(sig, seeded_ids(2)) == "mine"
    assert json.dumps(sig) == before, "pinned ids stay"


def test_pin_gives_one_object_in_two_places_two_ids(add):
    one = add.s(1)
    g = group(one, one, group(one))
    pin(g, seeded_ids())
    assert g.tasks[0] is one
    assert len({g.tasks[0].id, g.tasks[1].id, g.tasks[2].tasks[0].id, g.id, g.tasks[2].id}) == 5
    inner = group(one)
    g = group(inner, inner)
    pin(g, seeded_ids(3))
    assert g.tasks[0].tasks[0].id != g.tasks[1].tasks[0].id or one.id


def test_make_is_a_plain_signature(add):
    assert make(add, (1,), {}) == Signature(add, (1,)) == signature(add, (1,))
