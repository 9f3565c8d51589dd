"""The two helpers against the stack: driving generators, comparing structures."""

from __future__ import annotations

import pytest

from nbcanvas.canvas import drive
from nbcanvas.canvas.trampoline import same


def factorial(n):
    return n * (yield factorial(n - 1)) if n else 1


def test_values_come_back():
    assert drive(factorial(20)) == 2432902008176640000


def depth(n):
    return 1 + (yield depth(n - 1)) if n else 0


def test_any_depth():
    assert drive(depth(100_000)) == 100_000


def test_an_error_closes_everything_innermost_first():
    closed = []

    def walk(n):
        try:
            if not n:
                raise LookupError(n)
            yield walk(n - 1)
        finally:
            closed.append(n)

    with pytest.raises(LookupError):
        drive(walk(3))
    assert closed == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"a": [1, (2, {"b": None})]}, {"a": [1, (2, {"b": None})]}),
        ([], ()),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
        (1, 1.0),
        ((1,), [1]),
        ({}, {}),
        (float("nan"), float("nan")),
    ],
)
def test_same_is_equality(one, two):
    assert same(one, two) is (one == two)


def test_same_at_any_depth():
    one, two = [], []
    for _ in range(10_000):
        one, two = [one], [two]
    assert same(one, two)
    while one:  # taken apart by hand: a structure this deep is not for the interpreter to free
        one, two = one[0], two[0]
