"""Text that may hold a password: what prints it by accident prints it masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbcanvas.servers.urls import masked

__all__ = ["Hidden", "hidden"]


class Hidden(str):
    """A URL or a key as it is, whose ``repr`` shows no password: in a dict, a frame's variables, a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = masked(str(self))
        return repr(shown if "://" in shown else "********")

    def __reduce__(self) -> Any:
        # A pickle is read by others, and a URL without its password is of no use there.
        msg = "this text may hold a password, and does not travel"
        raise TypeError(msg)

    def __copy__(self) -> Hidden:
        return self

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Hidden:
        return self


def hidden(given: Any) -> Any:
    """Return a URL, or several, so that none shows a password; anything else as it is."""
    if isinstance(given, list | tuple):
        return [hidden(one) for one in given]
    return Hidden(given) if isinstance(given, str) else given
