"""Long and deep canvases: nothing recurses with the depth, and folding ``|`` does not copy what it has."""

from __future__ import annotations

import copy
import operator
import pickle
import sys
from functools import reduce

import pytest

from nbcanvas.canvas import Signature, StampingVisitor, chain, children, group, pin
from nbcanvas.ids import seeded_ids
from tests.costs import operations

DEPTH = 500


class Everything(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"seen": True}


@pytest.fixture(autouse=True)
def the_default_limit():
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


def nested_headers(add, tsum):
    sig = add.s(1, 1)
    for _ in range(DEPTH):
        sig = group(sig, add.s(1)) | tsum.s()
    return sig


def nested_bodies(add, tsum):
    sig = add.s(1)
    for _ in range(DEPTH):
        sig = group(add.s(1), add.s(2)) | sig
    return sig


def grown_bodies(add, tsum):
    sig = add.s(1)
    for _ in range(DEPTH):
        sig = sig | group(add.s(1), add.s(2))
    return sig


def nested_groups(add, tsum):
    sig = group(add.s(1))
    for _ in range(DEPTH):
        sig = group([sig, add.s(2)])
    return sig


def nested_chains(add, tsum):
    sig = chain(add.s(1))
    for _ in range(DEPTH):
        sig = chain(sig, add.s(2), queue="q")
    return sig


def nested_links(add, tsum):
    sig = add.s(1)
    for _ in range(DEPTH):
        outer = add.s(2)
        outer.link(sig)
        outer.link_error(tsum.s())
        sig = outer
    return sig


def long_chain(add, tsum):
    return reduce(operator.or_, [add.s(i) for i in range(10_000)])


def size(sig):
    count, pending = 0, [sig]
    while pending:
        node = pending.pop()
        count += 1
        pending.extend(children(node))
        pending.extend(node.options.get("link", ()))
    return count


def plain(sig):
    """As JSON would give it, without recursion: every signature a dict, shared with nothing."""
    root = dict(sig)
    pending = [root]
    while pending:
        node = pending.pop()
        for where in (node.setdefault("kwargs", {}), node["options"]):
            for key, value in list(where.items()):
                if isinstance(value, dict) and "task" in value:
                    where[key] = dict(value, kwargs=dict(value["kwargs"]), options=dict(value["options"]))
                    pending.append(where[key])
                elif isinstance(value, list) and value and isinstance(value[0], dict):
                    where[key] = [dict(v, kwargs=dict(v["kwargs"]), options=dict(v["options"])) for v in value]
                    pending.extend(where[key])
    return root


@pytest.mark.parametrize(
    "shape", [nested_headers, nested_bodies, grown_bodies, nested_groups, nested_chains, nested_links, long_chain]
)
def test_everything_works_at_any_depth(add, tsum, shape):
    sig = shape(add, tsum)
    nodes = size(sig)
    assert nodes >= DEPTH
    assert len(repr(sig)) < 5000
    for other in (
        sig.clone(),
        copy.deepcopy(sig),
        pickle.loads(pickle.dumps(sig)),
        Signature.from_dict(plain(sig.clone())),
    ):
        assert other == sig
        assert type(other) is type(sig)
        assert size(other) == nodes
    work = sig.clone()
    work.stamp(Everything(), label=1)
    assert "label" not in str(sig.options)
    pin(work, seeded_ids())
    assert work.id
    assert work != sig
    work.link(add.s(5))
    work.link_error(add.s(6))
    work.set_immutable(True)
    assert len(work.flatten_links()) >= 1
    work.unchain_tasks() if isinstance(work, chain) else None
    assert type(sig | sig).__name__ in ("chain", "chord")
    del work


def test_folding_is_fast(add):
    def fold(n):
        return reduce(operator.or_, [add.s(i) for i in range(n)])

    assert operations(lambda: fold(4_000)) < 2.1 * operations(lambda: fold(2_000))
    steps = [add.s(i) for i in range(10_000)]
    whole = reduce(operator.or_, steps)
    assert len(whole.tasks) == 10_000
    assert [step.args for step in whole.tasks[::999]] == [step.args for step in steps[::999]]


def test_pinning_ten_thousand(add):
    ids = seeded_ids()
    whole = chain(add.s(i) for i in range(10_000))
    assert pin(whole, ids) == whole.tasks[-1].id
    assert len({step.id for step in whole.tasks}) == 10_000


def test_building_is_cheap(add):
    assert operations(lambda: group(add.s(i, i) for i in range(1_000))) < 15_000  # BUILD
    assert sys.getsizeof(add.s(1, 1)) < 400
