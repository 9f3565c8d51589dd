"""A canvas as Python source means the same under nbcanvas and under Celery."""

import ast
import datetime as dt
import json
import math
import warnings
from decimal import Decimal
from uuid import UUID

import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import nbcanvas
from nbcanvas.canvas import Signature, chain, chord, group, set_default_host, signature, xmap
from nbcanvas.canvas.code import source_of, to_code, value_source
from nbcanvas.errors import CanvasError, NotWritable
from tests.celerys import unshared
from tests.plan.recipes import build, canvases

celery = pytest.importorskip("celery")

APP = unshared(celery.Celery("theirs", set_as_current=False))
WORDS = ("chain", "group", "chord", "signature", "xmap", "xstarmap", "chunks")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def functions(register):
    def nothing(*args, **kwargs):
        return None

    return {name: register(name)(nothing) for name in ("work", "item", "heard", "add", "tsum")}


@pytest.fixture(scope="module")
def ours():
    with nbcanvas.App("ours", set_as_current=False) as app:
        set_default_host(lambda: app)
        yield {
            "datetime": dt,
            "Decimal": Decimal,
            "UUID": UUID,
            **{word: getattr(nbcanvas, word) for word in WORDS},
            **functions(lambda name: app.task(name=name)),
        }
    set_default_host(nbcanvas.current_app)


@pytest.fixture(scope="module")
def theirs():
    return {
        **{word: getattr(celery, word) for word in WORDS},
        **functions(lambda name: APP.task(name=name)),
    }


RECIPES = st.one_of(st.integers(0, 8).flatmap(canvases), canvases(4))


@given(recipe=RECIPES, width=st.sampled_from([40, 100]))
def test_it_makes_an_equal_canvas_here(ours, recipe, width):
    try:
        sig = build(recipe)
    except CanvasError:
        assume(False)
    code = to_code(sig, width)
    made = eval(code, dict(ours))
    assert made == sig and type(made) is type(sig)
    assert json.dumps(made) == json.dumps(sig)


def plain(sig):
    """Return a canvas as Celery sends it; without what only says how it was made."""

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(one) for key, one in value.items() if key != "chord_size"}
        return [clean(one) for one in value] if isinstance(value, list) else value

    return clean(json.loads(json.dumps(sig)))


def celery_loses(sig):
    """Say whether Celery's own constructors cannot make this.

    A chord's header is a list there, so options and partial arguments of a group are lost; and its members are copied
    as what is sent, which forgets that a chain, a group or a chord was immutable, and its partial arguments.
    """
    todo = [(plain(sig), False)]
    while todo:
        one, in_header = todo.pop()
        if isinstance(one, dict):
            forgets = one.get("subtask_type") in {"chain", "group", "chord"} and (one["immutable"] or one["args"])
            if isinstance(one.get("header"), dict) or (in_header and forgets):
                return True
            todo += [(value, in_header or key == "header") for key, value in one.items()]
        elif isinstance(one, list):
            todo += [(value, in_header) for value in one]
    return False


@settings(max_examples=settings().max_examples)
@given(recipe=RECIPES)
@example(recipe=("immutable", ("partial", ("chain", [("chain", [])]))))
@example(recipe=("immutable", ("partial", ("chain", [("map", 2, False), ("map", 1, False)]))))
def test_it_makes_an_equal_canvas_under_celery(theirs, recipe):
    try:
        sig = build(recipe)
    except CanvasError:
        assume(False)
    assume(not celery_loses(sig))
    assert plain(eval(to_code(sig), dict(theirs))) == plain(sig)


def test_it_reads_as_somebody_would_type_it(ours):
    add, tsum = ours["add"], ours["tsum"]
    for sig, code in [
        (add.s(2, 2) | tsum.s(8), "add.s(2, 2) | tsum.s(8)"),
        (chord([add.s(1, 2), add.s(2, 3)], tsum.s()), "chord([add.s(1, 2), add.s(2, 3)], tsum.s())"),
        (group(add.s(i, i) for i in range(100)), "group([add.s(i, i) for i in range(100)])"),
        (group(add.s(i, 7, x=1) for i in range(3, 33, 3)), "group([add.s(i, 7, x=1) for i in range(3, 33, 3)])"),
        (group(add.si(1), tsum.s()), "group(add.si(1), tsum.s())"),
        (add.s("it's").set(queue="hi", priority=3), 'add.s("it\'s").set(queue="hi", priority=3)'),
        (add.s(1).on_error(tsum.si()), "add.s(1).on_error(tsum.si())"),
        (add.chunks([(1, 2)], 10), "add.chunks([(1, 2)], 10)"),
        (add.s(**{"for": 1}), 'signature("add", kwargs={"for": 1})'),
        (signature("proj.tasks.add", (1,)), "add.s(1)"),
        (signature("other-task"), 'signature("other-task")'),
        (chain(*(add.s(i) for i in range(5))), "chain(add.s(0), add.s(1), add.s(2), add.s(3), add.s(4))"),
        (group([group([add.s()])]), "group([group([add.s()])])"),
    ]:
        assert to_code(sig) == code


def test_what_is_long_has_a_line_for_each_part(ours):
    add, tsum = ours["add"], ours["tsum"]
    sig = group(add.s(f"a rather long argument, number {i}", i * i) for i in range(3)) | tsum.s().set(queue="hi")
    assert (
        to_code(sig)
        == """\
chord(
    [
        add.s("a rather long argument, number 0", 0),
        add.s("a rather long argument, number 1", 1),
        add.s("a rather long argument, number 2", 4),
    ],
    tsum.s().set(queue="hi"),
)"""
    )
    for width in (30, 60, 100):
        assert eval(to_code(sig, width), dict(ours)) == sig
    long = chain(*(add.s("x" * 20, [1, 2, {"y": "z" * 20}]) for _ in range(4)))
    assert max(map(len, to_code(long, 60).splitlines())) <= 60 and eval(to_code(long, 60), dict(ours)) == long


def test_names_of_tasks_can_be_chosen(ours):
    sig = chain(Signature("a.add", (1,)), Signature("b.add", (2,)), xmap(Signature("a.add"), [1]))
    found = source_of(sig, {"a.add": "first"}.get)
    assert found.text == 'first.s(1) | signature("b.add", args=(2,)) | first.map([1])'
    assert found.words == ("chain", "signature") and found.tasks == {"a.add": "first"}


def test_a_counting_variable_is_never_a_task():
    sig = group(Signature("i", (k,)) for k in range(5))
    assert to_code(sig) == "group([i.s(n) for n in range(5)])"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        math.inf,
        -1.5,
        "a 'b' \"c\"\n",
        b"\xff",
        2 + 3j,
        [],
        (),
        (1,),
        {"a": [1, (2,)]},
        set(),
        {1, 2},
        frozenset(),
        frozenset({"x"}),
        range(3),
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        dt.timedelta(seconds=3),
        Decimal("1.50"),
        UUID(int=5),
        {"long": ["x" * 30] * 5},
    ],
)
def test_values(ours, value):
    source = value_source(value, 40)
    namespace = {}
    exec("\n".join(source.imports), namespace)
    found = eval(source.text, namespace)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("sig", "says"),
    [
        (Signature("clean", (1, pd.DataFrame())), "clean, argument 2: a pandas.*DataFrame"),
        (Signature("clean", (), {"x": [object()]}), "clean, argument x: a object"),
        (Signature("clean", (), {}, {"headers": object()}), "clean, option a object"),
        (group(Signature("a"), Signature("b", (print,))), "b, argument 1: a builtin_function"),
        (xmap(Signature("a"), [print]), "a, items: a builtin_function"),
    ],
)
def test_what_cannot_be_written_is_named(sig, says):
    with pytest.raises(NotWritable, match=says):
        to_code(sig)


def test_a_canvas_nobody_could_read_is_refused():
    sig = Signature("a")
    for _ in range(100):
        sig = group([sig, Signature("b")]) | Signature("c")
        sig = group([sig])
    with pytest.raises(NotWritable, match="inside each other"):
        to_code(sig)
    wide = group(Signature("a", (i, i * i)) for i in range(20_000))
    assert len(ast.parse(to_code(wide), mode="eval").body.args) == 20_000
