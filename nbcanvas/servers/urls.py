"""URLs of servers: which kind they mean, and how they are shown."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["canonical_host", "is_redis", "masked"]

_IN_QUERY: Final = re.compile(r"([?&][^=&#]*(?:pass|pwd|secret|token)[^=&#]*=)[^&#\s'\"]*", re.IGNORECASE)
#: Up to the last @: a password that should have been quoted, and was not, may have any character.
_PASSWORD: Final = re.compile(r"(//[^/@:\s]*:)[^\s'\"<>]*@")
#: The same of a text that begins with a URL: there the password may have blanks and quotes, too.
_WHOLE: Final = re.compile(r"^(\w[\w+.-]*://[^/@:\s]*:)(?!\d*(?:[/?#\s]|$))(?:\S*@(?=[^\s@]*$)|[^@]*@)")
#: What this machine is called by itself, once the brackets are off.
_HERE: Final = frozenset({"", "localhost", "127.0.0.1", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"})
_REDIS: Final = frozenset({"redis", "rediss", "redis+socket", "socket", "unix"})


def masked(url: str) -> str:
    """Return a URL without its password."""
    found = _WHOLE.sub(r"\1********@", _PASSWORD.sub(r"\1********@", url))
    return _IN_QUERY.sub(r"\1********", found)


def is_redis(url: str) -> bool:
    """Whether a URL means one Redis server."""
    return url.partition("://")[0].lower() in _REDIS


def canonical_host(host: str) -> str:
    """Return a host's name as it is compared: ``localhost`` for each of the ways to write that."""
    name = host.strip("[]").rstrip(".").lower()
    return "localhost" if name in _HERE else name
