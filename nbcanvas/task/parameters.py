"""What a function can be called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

__all__ = ["arity", "signature_of"]

_ANYTHING: Final = inspect.signature(lambda *args, **kwargs: (args, kwargs))


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function; of a builtin that does not say, anything."""
    try:
        return inspect.signature(function)
    except ValueError:
        return _ANYTHING


def arity(signature: inspect.Signature) -> tuple[int, float]:
    """Return how many positional arguments alone make a valid call: at least, at most."""
    low, high = 0, 0.0
    for p in signature.parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            high = float("inf")
        elif p.kind is p.KEYWORD_ONLY and p.default is p.empty:
            return 1, 0  # cannot be called without keywords
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            high += 1
            low += p.default is p.empty
    return low, high
