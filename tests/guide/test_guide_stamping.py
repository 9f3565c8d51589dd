"""The canvas guide, section "Stamping": every example, on the embedded worker."""

from __future__ import annotations

from uuid import uuid4

import pytest

from nbcanvas import StampingVisitor, chain, chord, group, signature
from tests.visitors import InGroup


class InGroupVisitor(InGroup, StampingVisitor):
    """The guide's."""


class MonitoringIdStampingVisitor(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"monitoring_id": uuid4().hex}


class CustomStampingVisitor(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"header": "value"}

    def on_callback(self, callback, **header):
        return {"on_callback": True}

    def on_errback(self, errback, **header):
        return {"on_errback": True}


@pytest.fixture
def stamps_of(tasks):
    """Return a task that gives its own stamps."""

    @tasks.task(bind=True)
    def stamps_of(self, *args):
        return dict(self.request.stamps)

    return stamps_of


def test_stamping(tasks):
    sig1 = tasks.add.si(2, 2)
    sig1_res = sig1.freeze()
    g = group(sig1, tasks.add.si(3, 3))
    g.stamp(stamp="your_custom_stamp")
    res = g.apply_async()
    assert res.get(timeout=30) == [4, 6]
    assert sig1_res._get_task_meta()["stamp"] == ["your_custom_stamp"]


def test_custom_stamping_in_group(stamps_of):
    sig = chain(stamps_of.si(), group(stamps_of.si(), stamps_of.si()))
    sig.stamp(visitor=InGroupVisitor())
    res = sig.delay()
    # The chain's stamp and the member's own come together: the guide's visitor is asked for both.
    assert res.get(timeout=30) == [{"in_group": [False, True]}, {"in_group": [False, True]}]
    assert res.parent.get(timeout=30) == {"in_group": [False]}


def test_custom_stamping_monitoring_id(stamps_of, tasks):
    @tasks.task(bind=True)
    def stamps_and_more(self, before):
        return [*before, dict(self.request.stamps)]

    sig = chord([stamps_of.si(), stamps_of.si()], stamps_and_more.s())
    sig.stamp(visitor=MonitoringIdStampingVisitor())
    found = sig.delay().get(timeout=30)
    ids = [one for stamps in found for one in stamps["monitoring_id"]]
    assert len(set(ids)) == len(found) == 3


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ({"monitoring_id": "m", "other_data": "value"}, {"monitoring_id": ["m"], "other_data": ["value"]}),
        ({"monitoring_id": "m", "other_data": "value", "stamped_headers": ["monitoring_id"]}, {"monitoring_id": ["m"]}),
    ],
)
def test_custom_stamping_stamped_headers_are_optional(stamps_of, returned, expected):
    class Visitor(StampingVisitor):
        def on_signature(self, sig, **headers):
            return dict(returned)

    sig = stamps_of.si()
    sig.stamp(visitor=Visitor())
    assert sig.delay().get(timeout=30) == expected


def test_custom_stamping_of_tasks_that_are_only_named(app):
    def ids_in(*sigs):
        found = [sig.options["monitoring_id"] for sig in sigs]
        assert len(set(found)) == len(found)
        return found

    sig_example = signature("t1")
    sig_example.stamp(visitor=MonitoringIdStampingVisitor())
    ids_in(sig_example)

    group_example = group([signature("t1"), signature("t2")])
    group_example.stamp(visitor=MonitoringIdStampingVisitor())
    ids_in(*group_example.tasks)

    chord_example = chord([signature("t1"), signature("t2")], signature("t3"))
    chord_example.stamp(visitor=MonitoringIdStampingVisitor())
    ids_in(*chord_example.tasks.tasks, chord_example.body)

    chain_example = chain(signature("t1"), group(signature("t2"), signature("t3")), signature("t4"))
    chain_example.stamp(visitor=MonitoringIdStampingVisitor())
    # the chain has become a task and a chord
    first, then = chain_example.tasks
    ids_in(first, *then.tasks.tasks, then.body)


def test_callbacks_stamping(tasks):
    c = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.xsum.s())
    callback = signature("sig_link")
    errback = signature("sig_link_error")
    c.link(callback)
    c.link_error(errback)
    c.stamp(visitor=CustomStampingVisitor())
    stamped = {"header": "value", "stamped_headers": ["header"]}

    def sorted_stamps(sig):
        options = dict(sig.options)
        return {**options, "stamped_headers": sorted(options["stamped_headers"])}

    assert c.options == {}  # Celery's code, too, stamps tasks only; its guide shows a stamp here
    assert c.tasks.tasks[0].options == stamped
    assert c.tasks.tasks[1].options == stamped
    assert {key: c.body.options[key] for key in stamped} == stamped
    assert sorted_stamps(c.body.options["link"][0]) == {
        "header": "value",
        "on_callback": True,
        "stamped_headers": ["header", "on_callback"],
    }
    assert sorted_stamps(c.body.options["link_error"][0]) == {
        "header": "value",
        "on_errback": True,
        "stamped_headers": ["header", "on_errback"],
    }


def test_callbacks_stamping_seen_by_the_callbacks(tasks, stamps_of):
    @tasks.task(bind=True)
    def callback(self, value):
        tasks.note("callback", dict(self.request.stamps))

    @tasks.task(bind=True)
    def errback(self, task_id):
        tasks.note("errback", dict(self.request.stamps))

    good = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.xsum.s())
    good.link(callback.s())
    good.stamp(visitor=CustomStampingVisitor())
    assert good.delay().get(timeout=30) == 6
    assert tasks.wait_for_notes(1) == [("callback", {"header": ["value"], "on_callback": [True]})]

    bad = chord([tasks.fail.s(), tasks.add.s(2, 2)], tasks.xsum.s())
    bad.link_error(errback.s())
    bad.stamp(visitor=CustomStampingVisitor())
    bad.delay()
    assert tasks.wait_for_notes(2)[1] == ("errback", {"header": ["value"], "on_errback": [True]})
