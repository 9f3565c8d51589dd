"""URLs of servers: which kind they mean, and how they are shown."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_redis", "masked"]

_IN_QUERY: Final = re.compile(r"([?&][^=&#]*(?:pass|pwd|secret|token)[^=&#]*=)[^&#\s'\"]*", re.IGNORECASE)
#: Up to the last @: a password that should have been quoted, and was not, may have any character.
_PASSWORD: Final = re.compile(r"(//[^/@:\s]*:)[^\s'\"<>]*@")
_REDIS: Final = frozenset({"redis", "rediss", "redis+socket", "socket", "unix"})


def masked(url: str) -> str:
    """Return a URL without its password."""
    return _IN_QUERY.sub(r"\1********", _PASSWORD.sub(r"\1********@", url))


def is_redis(url: str) -> bool:
    """Whether a URL means one Redis server."""
    return url.partition("://")[0].lower() in _REDIS
