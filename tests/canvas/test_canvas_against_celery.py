"""Random expressions, built by Celery 5.7 and by nbcanvas from the same recipe, must mean the same.

Meaning is what the data flow gives (``meaning`` below, over the plain JSON of either). Where the structures are the
same too, they are compared literally. Celery contradicts itself in places; what nbcanvas does there instead:

* ``|`` is associative: a group of one, or of none, that comes behind something is unrolled, in every bracketing
  (Celery: not in ``a | (group(b) | c)``, not behind a group, and an empty one stays behind a single task).
  As in Celery ``group(b) | c`` alone is a chord and ``chain(group(b), c)`` is not.
* What follows a group is a chord's body and what follows a chord joins its body, always (Celery: depends on which
  side is a chain). The meaning is the same.
* ``|`` and ``chain()`` copy both operands (Celery: all but the last; members of groups not at all), and a clone
  shares nothing that can be changed with its original (Celery: members of groups).
* Options, partial args and immutability of a chain go to its first step when it is composed further, those of a group
  stay with the header (Celery drops them); ``clone`` and ``from_dict`` keep args and immutability of composites.
* ``chord(chain, body)`` has one header task, the chain (Celery: its steps, in parallel).
* ``clone``, ``from_dict`` and pickle keep the class of map, starmap and chunks, and of registered classes; linked
  signatures come back as signatures; ``deepcopy`` gives a signature (Celery: plain ones, dicts, a dict).
* Without a visitor ``stamp`` reaches the body of a chord; list stamps are separate lists in each task and have no
  repetitions; one callback's stamps do not leak into the next (Celery: no; one shared list that grows; they do).
* ``stamp`` returns the canvas for composites too (Celery: None). As in Celery's code, and unlike its guide, a chord's
  own options are not stamped, only those of its tasks.
* An errback linked to a chord with ``task_allow_error_cb_on_chord_header`` reaches a nested chord once (Celery: twice).
* ``link_error`` on a chord does not warn. A chord's text shows a group or a map as body readably.
"""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nbcanvas.canvas as ours
from nbcanvas.canvas import set_default_host
from tests.celerys import unshared
from tests.visitors import InGroup

celery = pytest.importorskip("celery")

APP = unshared(celery.Celery("differential", set_as_current=False))
NAMES = ("m.a", "m.b", "other.c", "d")


def _function(*args):
    return args


for _name in NAMES:
    APP.task(name=_name)(_function)


class Ours:
    chain, group, chord, Visitor = ours.chain, ours.group, ours.chord, ours.StampingVisitor

    @staticmethod
    def leaf(name, args, immutable):
        return ours.Signature(name, args, immutable=immutable)


class Theirs:
    chain, group, chord, Visitor = celery.chain, celery.group, celery.chord, celery.canvas.StampingVisitor

    @staticmethod
    def leaf(name, args, immutable):
        return APP.signature(name, args, immutable=immutable)


@pytest.fixture(autouse=True, scope="module")
def no_host():
    set_default_host(lambda: SimpleNamespace(conf=SimpleNamespace()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    set_default_host(None)


LEAF = st.tuples(st.just("leaf"), st.sampled_from(NAMES), st.lists(st.integers(0, 3), max_size=2), st.booleans())


def expressions(fewest):
    def deeper(inner):
        some = st.lists(inner, min_size=fewest, max_size=3)
        return st.one_of(
            st.tuples(st.just("or"), inner, inner),
            st.tuples(st.just("or"), inner, inner),
            st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=4)),
            st.tuples(st.just("group"), some),
            st.tuples(st.just("chord"), some, inner),
        )

    return st.recursive(LEAF, deeper, max_leaves=12)


def build(recipe, with_):
    kind, *rest = recipe
    if kind == "leaf":
        return with_.leaf(rest[0], tuple(rest[1]), rest[2])
    if kind == "or":
        return build(rest[0], with_) | build(rest[1], with_)
    members = [build(member, with_) for member in rest[0]]
    if kind == "chord":
        return with_.chord(members, build(rest[1], with_))
    return getattr(with_, kind)(members)


def plain(sig):
    return json.loads(json.dumps(sig))


NOTHING = object()


def meaning(sig, value=NOTHING):
    """Return the result of a canvas as a term: what is called with what."""
    kind, kwargs = sig["subtask_type"], sig["kwargs"]
    if kind is None:
        given_ = [] if value is NOTHING or sig["immutable"] else [value]
        return (sig["task"], *given_, *sig["args"])
    if kind == "chain":
        for step in kwargs["tasks"]:
            value = meaning(step, value)
        return value
    header = kwargs["tasks"] if kind == "group" else kwargs["header"]
    if isinstance(header, dict):
        header = header["kwargs"]["tasks"]
    values = []
    for member in header:
        result = meaning(member, value)
        values += result if member["subtask_type"] == "group" else [result]
    return values if kind == "group" else meaning(kwargs["body"], values)


QUICK = settings(
    max_examples=min(300, 3 * settings().max_examples), deadline=None, suppress_health_check=list(HealthCheck)
)


@QUICK
@given(expressions(2))
def test_it_means_what_celery_makes_of_it(recipe):
    assert meaning(plain(build(recipe, Ours))) == meaning(plain(build(recipe, Theirs)))


LINEAR = st.lists(LEAF, min_size=1, max_size=5)


@QUICK
@given(LINEAR, st.lists(st.lists(LEAF, min_size=2, max_size=3), max_size=1), LINEAR)
def test_the_structure_is_celerys(before, groups, after):
    recipe = before[0]
    for step in (*before[1:], *(("group", members) for members in groups), *after):
        recipe = ("or", recipe, step)
    mine, theirs = build(recipe, Ours), build(recipe, Theirs)
    assert plain(mine) == plain(theirs)
    assert type(mine).__name__ == type(theirs).__name__.lstrip("_")
    assert plain(mine.clone()) == plain(theirs.clone())
    assert plain(ours.Signature.from_dict(plain(theirs))) == plain(theirs)


@QUICK
@given(LINEAR, LINEAR)
def test_reprs_are_celerys(steps, more):
    chained = ("chain", steps)
    for recipe in (steps[0], chained, ("or", chained, ("chain", more))):
        assert repr(build(recipe, Ours)) == repr(build(recipe, Theirs))
    if len(steps) > 1:
        grouped = tuple(build(step, Theirs) for step in steps)
        assert repr(build(("group", steps), Ours)) == repr(celery.group(*grouped))
        assert repr(build(("or", ("group", steps), more[0]), Ours)) == repr(
            celery.group(*grouped) | build(more[0], Theirs)
        )


@QUICK
@given(expressions(0), expressions(0), expressions(0))
def test_or_is_associative(one, two, three):
    a, b, c = (build(recipe, Ours) for recipe in (one, two, three))
    left, right = (a | b) | c, a | (b | c)
    assert meaning(plain(left)) == meaning(plain(right))
    if one[0] == "leaf":
        assert meaning(plain(left)) == meaning(plain(ours.chain(a, b, c)))


@QUICK
@given(expressions(0), expressions(0))
def test_nothing_is_shared(one, two):
    a, b = build(one, Ours), build(two, Ours)
    before = plain([a, b])
    both, again = a | b, a | b
    clone = both.clone()
    made = plain(both)
    for canvas in (both, clone):
        canvas.stamp(label=[1]).set(queue="q")
        canvas.set_immutable(True)
    assert plain([a, b]) == before
    a.stamp(label=2)
    b.stamp(label=3)
    assert plain(again) == made


def visitors(base):
    class InGroupVisitor(InGroup, base):
        """The guide's."""

    class Custom(base):
        def on_signature(self, sig, **headers):
            return {"header": "value", "name": sig.task}

        def on_callback(self, callback, **header):
            return {"on_callback": True}

        def on_errback(self, errback, **header):
            return {"on_errback": True}

    class Listed(base):
        def on_signature(self, sig, **headers):
            return {"stamp": 1, "other": 2, "stamped_headers": ["stamp"]}

        def on_chord_body(self, sig, **header):
            return {"body": "yes"}

        def on_chain_start(self, chain, **headers):
            return {"in_chain": len(chain.tasks)}

    return {"in_group": InGroupVisitor, "custom": Custom, "listed": Listed}


def assert_same_stamps(mine, theirs, key=None):
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert_same_stamps(value, theirs[name], name)
    elif key == "stamped_headers":
        assert sorted(mine) == sorted(theirs)
    elif key == "in_group":
        # One list grows in all tasks of Celery's; ours says less, the last word of each task among it.
        assert set(mine) <= set(theirs)
        assert mine
    elif isinstance(mine, list):
        assert len(mine) == len(theirs)
        for pair in zip(mine, theirs, strict=True):
            assert_same_stamps(*pair)
    else:
        assert mine == theirs


@settings(QUICK, max_examples=min(150, 2 * settings().max_examples))
@given(
    LINEAR,
    st.lists(LEAF, min_size=2, max_size=3),
    LINEAR,
    st.sampled_from(["in_group", "custom", "listed"]),
    st.booleans(),
    st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["s", 1]), max_size=2),
)
def test_stamps_are_celerys(before, members, after, visitor, linked, headers):
    made = []
    for with_ in (Ours, Theirs):
        recipe = ("or", ("or", ("chain", before), ("group", members)), after[0])
        sig = build(recipe, with_)
        if linked:
            sig.link(with_.leaf("d", (), False))
            sig.link_error(with_.leaf("d", (), False))
            sig.tasks[0].link(with_.leaf("m.a", (), False))
        sig.stamp(visitor=visitors(with_.Visitor)[visitor](), **headers)
        made.append(plain(sig))
    assert_same_stamps(*made)


@pytest.mark.parametrize("kind", ["map", "starmap", "chunks"])
def test_map_starmap_and_chunks_on_the_wire(kind):
    task = APP.tasks["m.a"]
    items = [[1, 2], [3, 4], [5, 6]]
    theirs = task.chunks(items, 2) if kind == "chunks" else getattr(task, kind)(items)
    mine = (
        ours.chunks(ours.signature("m.a"), items, 2)
        if kind == "chunks"
        else {"map": ours.xmap, "starmap": ours.xstarmap}[kind](ours.signature("m.a"), items)
    )
    assert plain(mine) == plain(theirs)
    again = ours.Signature.from_dict(plain(theirs))
    assert type(again) is type(mine)
    if kind == "chunks":
        assert plain(mine.group()) == plain(theirs.group())
    else:
        assert repr(mine) == repr(theirs)


def test_links_of_composed_chains_are_celerys():
    made = []
    for with_ in (Ours, Theirs):
        inner = with_.leaf("m.a", (1,), False) | with_.leaf("m.b", (2,), False)
        inner.link(with_.leaf("d", (3,), False))
        inner.link_error(with_.leaf("d", (4,), True))
        made.append(
            [
                plain(inner),
                plain(inner | with_.leaf("d", (), False)),
                plain(with_.leaf("d", (), False) | inner),
                plain(inner.unchain_tasks()),
            ]
        )
    assert made[0] == made[1]


@pytest.mark.parametrize(("start", "stop", "step"), [(1, None, 1), (1, 3, 1), (1, 3.5, 0.75), (0, 2, 5)])
def test_skew_is_celerys(start, stop, step):
    made = [
        plain(with_.group(with_.leaf("d", (i,), False) for i in range(6)).skew(start, stop, step))
        for with_ in (Ours, Theirs)
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("partial", [((), {}, {}), ((9,), {"k": 2}, {"queue": "q", "group_id": "h", "s": 2})])
@pytest.mark.parametrize("immutable", [False, True])
def test_partials_are_merged_as_celery_does(partial, immutable):
    options = {"group_id": "g", "stamped_headers": ["s"], "s": 1, "countdown": 3}
    mine = ours.Signature("d", (1,), {"k": 1}, options, immutable=immutable)
    theirs = celery.Signature("d", (1,), {"k": 1}, options, immutable=immutable, app=APP)
    for force in (False, True):
        assert mine.merged(*partial, force=force) == theirs._merge(*partial, force=force)
    assert plain(mine.clone(partial[0], partial[1], **partial[2])) == plain(
        theirs.clone(partial[0], partial[1], **partial[2])
    )
