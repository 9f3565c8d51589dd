"""Recursion without the interpreter's stack, so that nesting is limited by memory alone."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

__all__ = ["Walk", "drive", "same"]

#: A recursive function written as a generator: it yields the calls it makes, is sent their values, and returns its own.
Walk = Generator[Any, Any, Any]


def drive(walk: Walk) -> Any:
    """Run a recursion written as generators and return its value.

    Parameters
    ----------
    walk
        A generator; each thing it yields is another such generator, whose return value is sent back.
        An exception ends all of them, innermost first.
    """
    stack = [walk]
    value: Any = None
    try:
        while stack:
            try:
                stack.append(stack[-1].send(value))
                value = None
            except StopIteration as done:
                stack.pop()
                value = done.value
    finally:
        while stack:
            stack.pop().close()
    return value


def same(one: Any, two: Any) -> bool:
    """Compare two structures of dicts, lists and tuples as ``==`` does, at any depth."""
    pairs = [(one, two)]
    while pairs:
        a, b = pairs.pop()
        if a is b:
            continue
        if isinstance(a, dict) and isinstance(b, Mapping):
            if dict.__len__(a) != (dict.__len__(b) if isinstance(b, dict) else len(b)):
                return False
            for key, value in dict.items(a):
                if key not in b:
                    return False
                pairs.append((value, dict.__getitem__(b, key) if isinstance(b, dict) else b[key]))
        elif (isinstance(a, list) and isinstance(b, list)) or (isinstance(a, tuple) and isinstance(b, tuple)):
            if len(a) != len(b):
                return False
            pairs.extend(zip(a, b, strict=True))
        elif not a == b:  # noqa: SIM201 - some values define == alone
            return False
    return True
