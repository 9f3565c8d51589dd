"""Arguments as people see them are the same text as Celery's, whatever they are and wherever it is cut."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.protocol.payload import Packed, Text, value_in
from nbcanvas.protocol.saferepr import saferepr

celery = pytest.importorskip("celery.utils.saferepr")

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.decimals(),
    st.text(max_size=40),
    st.binary(max_size=30),
    st.datetimes(),
    st.sampled_from([Fraction(1, 3), range(3), object]),
)
keys = st.one_of(st.text(max_size=10), st.integers(), st.tuples(st.integers(), st.text(max_size=3)))
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=4),
        st.frozensets(keys, max_size=3),
        st.sets(keys, max_size=3),
    ),
    max_leaves=30,
)


@given(values, st.sampled_from([1024, 80, 40, 20, 10, 5, 3, 1]), st.sampled_from([3, 1, 2, 5, 0]))
def test_it_is_celerys_text(value, longest, deepest):
    assert saferepr(value, longest, deepest) == celery.saferepr(value, longest, deepest)


def test_what_contains_itself_and_what_cannot_be_shown():
    class Broken:
        def __repr__(self):
            raise ZeroDivisionError

    inside = [1]
    inside.append(inside)
    assert saferepr((inside, Broken())).startswith("([1, <Recursion on list with id=")
    assert saferepr(Broken()) == "<test_what_contains_itself_and_what_cannot_be_shown.<locals>.Broken>"


def test_only_what_is_shown_is_looked_at():
    looked = []

    def look(item):
        looked.append(item)
        return value_in(item)

    items = tuple(Text(f'"{n:03} {"x" * 20}"') for n in range(1000))
    text = saferepr((*items, Packed(b"no pickle")), 200, look=look)
    assert text.endswith(", ...)")
    assert len(looked) < 30
