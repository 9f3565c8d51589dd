"""Classes of handles that ask one app."""

from __future__ import annotations

from typing import Any, TypeVar

from .several import GroupResult, ResultSet
from .single import AsyncResult

__all__ = ["bound_to"]

Handle = TypeVar("Handle", AsyncResult, GroupResult, ResultSet)


def bound_to(app: Any, kind: type[Handle]) -> type[Handle]:
    """Return a class of handles that ask `app` (what ``app.AsyncResult`` is, and its two siblings)."""
    return type(kind.__name__, (kind,), {"__slots__": (), "__module__": kind.__module__, "_home": app})
