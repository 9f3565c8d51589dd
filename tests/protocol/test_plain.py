"""Any value as JSON, and back."""

import json
import math
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import NamedTuple

import kombu.utils.json
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, xmap
from nbcanvas.errors import NotRegistered, RemoteError
from nbcanvas.protocol.plain import LIMIT, AsText, Malformed, dumps, loads, read_value, write_error, write_value


def there_and_back(value, **kwargs):
    text = write_value(value, **kwargs)
    json.loads(text, parse_constant=pytest.fail)
    return read_value(loads(text))


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.sampled_from([None, UTC])),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
KEYS = st.one_of(st.text(max_size=5), st.sampled_from(["__type__", "__value__"]), st.integers(), st.booleans())
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.fixed_dictionaries({"__type__": inner, "__value__": inner}),
        st.frozensets(st.integers() | st.text(), max_size=4),
        st.sets(st.integers() | st.binary(), max_size=4),
    ),
    max_leaves=10,
)


@given(VALUES)
def test_every_value_of_pythons_own_types_comes_back(value):
    found = there_and_back(value)
    assert same(found, value)


def same(found, value):
    """Compare values in which NaN, which is not itself, may stand beside sets, which have no order."""
    if type(found) is not type(value):
        return False
    if isinstance(value, dict):
        return found.keys() == value.keys() and all(same(found[key], value[key]) for key in value)
    if isinstance(value, list | tuple):
        return len(found) == len(value) and all(map(same, found, value))
    return found == value or repr(found) == repr(value)


@given(st.text(alphabet=st.characters()))
def test_every_text_is_utf_8_in_the_end(text):
    dumps({text: text}).encode("utf-8")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(10**5000, id="huge"),
        pytest.param(-(2**4096), id="tiny"),
        math.inf,
        range(3, 9, 2),
        pytest.param("half a \ud83d character", id="half"),
        Signature("add", (1, 2), {"x": 1}, {"queue": "hi"}),
        xmap(Signature("add"), [1, (2, 3)]),
        chain(Signature("a"), Signature("b"), priority=3),
    ],
)
def test_and_some_of_others(value):
    found = there_and_back(value)
    assert found == value and type(found) is type(value)


def test_subclasses_become_what_they_are_of():
    class Word(str):
        __slots__ = ()

    class Point(NamedTuple):
        x: int
        y: int

    assert there_and_back([Word("a"), Point(1, 2), OrderedDict(a=1)]) == ["a", (1, 2), {"a": 1}]
    assert there_and_back([np.float64(1.5), np.int32(3), np.bool_(True)]) == [1.5, 3, True]


@pytest.mark.parametrize("value", [datetime(2026, 1, 2, 3, tzinfo=UTC), date(2026, 1, 2), time(3, 4), Decimal("1.50")])
def test_kombu_reads_what_kombu_has_a_tag_for(value):
    assert kombu.utils.json.loads(write_value(value)) == value
    assert kombu.utils.json.loads(write_value(uuid.UUID(int=5))) == uuid.UUID(int=5)
    assert kombu.utils.json.loads(write_value(b"text")) == b"text"
    assert kombu.utils.json.loads(write_value(b"\xff\x00")) == b"\xff\x00"


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Own:
    pass


class Broken:
    def __repr__(self):
        raise LookupError


@pytest.mark.parametrize(
    ("value", "type_", "shape", "text"),
    [
        (pd.DataFrame({"a": [1, 2]}), "DataFrame", (2, 1), "   a\n0  1\n1  2"),
        (np.zeros((2, 2)), "numpy.ndarray", (2, 2), "array([[0., 0.],\n       [0., 0.]])"),
        (Colour.RED, "Colour", None, "<Colour.RED: 1>"),
        (Level.LOW, "Level", None, "<Level.LOW: 1>"),
        (print, "builtin_function_or_method", None, "<built-in function print>"),
        (Own(), "Own", None, "Own object>"),
        (Broken(), "Broken", None, "Broken"),
    ],
)
def test_what_json_has_not_is_a_text_that_says_so(value, type_, shape, text):
    found = there_and_back([value])[0]
    assert isinstance(found, AsText)
    assert found.type.endswith(type_) and found.shape == shape and text in repr(found) and not found.cut
    assert " at 0x" not in repr(found)
    assert there_and_back(found) == found  # a recording can be recorded


def test_what_is_too_long_is_cut_and_says_so():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    wide = [0]
    for _ in range(200):
        wide = [wide, wide]
    selfish = []
    selfish.append(selfish)
    for value in (["x"] * 5000, "x" * 50_000, {str(i): i for i in range(5000)}, b"x" * 20_000, deep, wide, selfish):
        text = write_value(value)
        assert len(text) < 2 * LIMIT
        found = read_value(loads(text))
        assert isinstance(found, AsText) and found.cut
    assert there_and_back(["x"] * 5000).shape == (5000,)
    assert there_and_back("x" * 9_000) == "x" * 9_000


class Unknown(Exception):
    pass


class Awkward(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}-{b}")

    def __str__(self):
        raise LookupError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no", 3),
        KeyError(("a", 1)),
        FileNotFoundError(2, "No such file or directory", "x.csv"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ExceptionGroup("two", [ValueError(1), TypeError(2)]),
        NotRegistered("add", "define it"),
        RemoteError("Boom", "x"),
        StopIteration(),
    ],
)
def test_known_exceptions_are_made_again(error):
    for text in (write_error(error), write_value(error)):
        found = read_value(loads(text))
        assert type(found) is type(error) and repr(found) == repr(error) and str(found) == str(error)


def test_unknown_exceptions_are_never_looked_for():
    found = read_value(loads(write_error(Unknown("x", 3))))
    assert type(found) is RemoteError and str(found) == "Unknown(x, 3)"
    assert type(read_value(loads(write_error(Awkward(1, 2))))) is RemoteError
    for module, name in (("os", "system"), ("builtins", "eval"), ("builtins", "SystemExit"), ("subprocess", "Popen")):
        value = {"module": module, "name": name, "args": ["echo"], "text": ""}
        assert type(read_value({"__type__": "exception", "__value__": value})) is RemoteError
    huge = write_error(ValueError("x" * 100_000, Own()))
    assert len(huge) < 2 * LIMIT and type(read_value(loads(huge))) is ValueError


@pytest.mark.parametrize(
    "plain",
    [
        {"__type__": "nonsense", "__value__": 1},
        {"__type__": ["x"], "__value__": 1},
        {"__type__": "datetime", "__value__": "yesterday"},
        {"__type__": "datetime", "__value__": 3},
        {"__type__": "decimal", "__value__": "x"},
        {"__type__": "uuid", "__value__": {"hex": "x"}},
        {"__type__": "uuid", "__value__": None},
        {"__type__": "map", "__value__": [[[], 1]]},
        {"__type__": "set", "__value__": [[]]},
        {"__type__": "tuple", "__value__": 3},
        {"__type__": "int", "__value__": "10"[:0]},
        {"__type__": "float", "__value__": 1.5},
        {"__type__": "range", "__value__": [1, 2, 0]},
        {"__type__": "timedelta", "__value__": [10**12, 0, 0]},
        {"__type__": "base64", "__value__": "é"},
        {"__type__": "signature", "__value__": {"task": "a"}},
        {"__type__": "signature", "__value__": dict.fromkeys(Signature("a"), 3)},
        {"__type__": "exception", "__value__": {"name": 3}},
        {"__type__": "text", "__value__": {"text": 3}},
    ],
)
def test_what_stands_for_no_value_is_refused(plain):
    with pytest.raises(Malformed):
        read_value(plain)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2", "ends too early"),
        ("", "ends too early"),
        ("[1, x]", "not JSON"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "not JSON"),
        (b"\xff\xfe\x00[", "it is"),
        (b'["\xff"]', "UTF-8"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        pytest.param("[" + "9" * 10_000 + "]", "digits", id="digits"),
    ],
)
def test_what_is_no_json_is_refused(text, says):
    with pytest.raises(Malformed, match=says):
        loads(text)


def test_times_of_a_span():
    assert there_and_back(timedelta(days=-3, microseconds=7)) == timedelta(days=-3, microseconds=7)
