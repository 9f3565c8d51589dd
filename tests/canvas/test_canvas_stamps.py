"""Stamping: the guide's visitors, every hook, and what happens where two stamps of one name meet."""

from __future__ import annotations

import itertools

import pytest

from nbcanvas.canvas import StampingVisitor, chain, chord, group, signature
from tests.visitors import InGroup


class InGroupVisitor(InGroup, StampingVisitor):
    """The guide's."""


class Monitoring(StampingVisitor):
    def __init__(self):
        self.ids = itertools.count()

    def on_signature(self, sig, **headers):
        return {"monitoring_id": next(self.ids)}


class Custom(StampingVisitor):
    """The guide's for callbacks."""

    def on_signature(self, sig, **headers):
        return {"header": "value"}

    def on_callback(self, callback, **header):
        return {"on_callback": True}

    def on_errback(self, errback, **header):
        return {"on_errback": True}


class Diary(StampingVisitor):
    def __init__(self):
        self.lines = []

    def on_signature(self, sig, **headers):
        self.lines.append(("signature", sig.task, headers.get("from")))
        return {}

    def on_group_start(self, group, **headers):
        self.lines.append(("group", len(group)))
        return {"from": "group"}

    def on_group_end(self, group, **headers):
        self.lines.append(("group end", headers["from"]))

    def on_chain_start(self, chain, **headers):
        self.lines.append(("chain", len(chain.tasks)))
        return {"from": "chain"}

    def on_chain_end(self, chain, **headers):
        self.lines.append(("chain end", headers["from"]))

    def on_chord_body(self, sig, **header):
        self.lines.append(("body of", sig.task))
        return {}

    def on_callback(self, callback, **header):
        self.lines.append(("callback", callback.task))
        return {}

    def on_errback(self, errback, **header):
        self.lines.append(("errback", errback.task))
        return {}


def test_one_stamp_for_all(add, tsum):
    sig = chain(add.s(1), group(add.s(2), add.s(3)), queue="q") | tsum.s()
    assert sig.stamp(stamp="mine") is sig
    for task in (sig.tasks[0], *sig.tasks[1].tasks, sig.tasks[1].body):
        assert task.options["stamp"] == "mine"
        assert task.options["stamped_headers"] == ["stamp"]


def test_the_guides_callbacks(add, tsum):
    c = chord([add.s(1, 1), add.s(2, 2)], tsum.s())
    c.link(signature("sig_link"))
    c.link_error(signature("sig_link_error"))
    c.stamp(visitor=Custom())
    stamped = {"header": "value", "stamped_headers": ["header"]}
    assert [task.options for task in c.tasks.tasks] == [stamped, stamped]
    assert c.body.options.items() >= stamped.items()
    for key, hook in (("link", "on_callback"), ("link_error", "on_errback")):
        options = c.body.options[key][0].options
        assert options.pop("stamped_headers").sort() is None
        assert options == {"header": "value", hook: True}
        assert set(c.body.options[key][0].options) == {"header", hook}


def test_each_task_has_its_own(add, tsum):
    c = chain(signature("t1"), group(signature("t2"), signature("t3")), signature("t4"))
    c.stamp(visitor=Monitoring())
    chord_ = c.tasks[1]
    tasks = [c.tasks[0], *chord_.tasks.tasks, chord_.body]
    assert [task.options["monitoring_id"] for task in tasks] == [0, 1, 2, 3]


def test_in_group(add, tsum):
    c = add.s(1) | group(add.s(2), add.s(3))
    c.stamp(InGroupVisitor())
    assert c.tasks[0].options["in_group"] == [False]
    for task in c.tasks[1].tasks:
        assert set(task.options["in_group"]) == {True, False}
    one, two = (task.options["in_group"] for task in c.tasks[1].tasks)
    one.append(3)
    assert 3 not in two


def test_only_the_listed_are_stamps(add):
    class Visitor(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"monitoring_id": 1, "other": 2, "stamped_headers": ["monitoring_id"]}

    sig = add.s().stamp(Visitor())
    assert sig.options == {"monitoring_id": 1, "other": 2, "stamped_headers": ["monitoring_id"]}


def test_the_order_of_the_hooks(add, mul, tsum):
    first = add.s(1)
    first.link(mul.s())
    first.link_error(signature("oops"))
    sig = chain(first, chord([add.s(2), group(add.s(3))], tsum.s()), queue="q")
    diary = Diary()
    sig.stamp(diary)
    assert diary.lines == [
        ("chain", 2),
        ("callback", "tasks.mul"),
        ("signature", "tasks.mul", "chain"),
        ("errback", "oops"),
        ("signature", "oops", "chain"),
        ("signature", "tasks.add", "chain"),
        ("group", 2),
        ("signature", "tasks.add", "chain"),
        ("group", 1),
        ("signature", "tasks.add", "chain"),
        ("group end", "chain"),
        ("group end", "chain"),
        ("body of", "celery.chord"),
        ("signature", "tasks.tsum", "chain"),
        ("chain end", "chain"),
    ]


def test_chord_header_hooks(add, tsum):
    class Visitor(Custom):
        def on_chord_header_start(self, sig, **header):
            return {"place": "header", "n": len(sig.tasks)}

        def on_chord_header_end(self, sig, **header):
            self.ended = header["n"]

        def on_chord_body(self, sig, **header):
            return {"body": True}

    c, visitor = chord([add.s(1)], tsum.s()), Visitor()
    c.stamp(visitor)
    assert visitor.ended == 1
    assert isinstance(c.tasks, list)
    assert c.tasks[0].options["place"] == "header"
    assert c.body.options["body"] is True


@pytest.mark.parametrize(("append", "stamp", "value"), [(False, "new", "new"), (True, "new", ["new", "old"])])
def test_again(add, append, stamp, value):
    sig = add.s().stamp(key="old")
    sig.stamp(append_stamps=append, key=stamp)
    assert sig.options["key"] == value
    assert sig.options["stamped_headers"] == ["key"]


def test_lists_are_joined(add):
    sig = add.s().stamp(key=["a", "b"])
    sig.stamp(key=["c", "a"])
    assert sig.options["key"] == ["c", "a", "b"]
    sig = add.s().stamp(key={"x": [1]})
    sig.stamp(key={"x": [2], "y": 3})
    assert sig.options["key"] == {"x": [2, 1], "y": 3}


def test_names_are_in_a_stable_order(add):
    sig = add.s().stamp(Custom(), b=1, a=2)
    assert sig.options["stamped_headers"] == ["b", "a", "header"]


def test_links_only(add, mul):
    sig = add.s()
    sig.set(link=dict(mul.s(1)))
    sig.stamp_links(Custom(), label=1)
    assert "label" not in sig.options
    assert sig.options["link"][0].options["label"] == 1
    assert sig.options["link"][0].options["on_callback"] is True


def test_a_visitor_must_say_something_of_signatures():
    with pytest.raises(TypeError, match="on_signature"):
        StampingVisitor()


def test_stamping_a_clone_leaves_the_original(add, tsum):
    c = group(add.s(1), add.s(2)) | tsum.s() | add.s(3)
    c.clone().stamp(Custom(), x=1)
    assert c == group(add.s(1), add.s(2)) | tsum.s() | add.s(3)
    assert group(add.s(1)).stamp(x=1).tasks[0].options["x"] == 1
