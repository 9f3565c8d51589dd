"""Revokes kept in Redis, for workers that are not there when somebody revokes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from nbcanvas.broker.names import Names
from nbcanvas.servers.redis import RedisServer, load_script

from .revokes import MOST, SECONDS, News

__all__ = ["RedisRevokes"]

#: So many at a time.
_PORTION: Final = 5_000


class RedisRevokes:
    """A `RevokeStore` on a Redis server: two sorted sets, by the server's own clock.

    Parameters
    ----------
    server
        The server.
    names
        What the keys are called.
    """

    def __init__(self, server: RedisServer, names: Names | None = None) -> None:
        self._server = server
        self._names = names or Names()
        self._script = load_script("nbcanvas.remote", "revoke")

    def add(self, ids: Iterable[str], stamps: Iterable[tuple[str, Any]]) -> None:
        """Keep them."""
        self._add(self._names.revoked, list(ids))
        self._add(self._names.revoked_stamps, [json.dumps([name, value], default=str) for name, value in stamps])

    def _add(self, key: str, members: Sequence[str]) -> None:
        for at in range(0, len(members), _PORTION):
            self._server.run(self._script, [key], [int(SECONDS), MOST, *members[at : at + _PORTION]])

    def since(self, cursor: float) -> News:
        """Return what was added at that time or later."""
        replies = self._server.pipeline(
            [
                ("ZRANGEBYSCORE", key, repr(cursor), "+inf", "WITHSCORES")
                for key in (self._names.revoked, self._names.revoked_stamps)
            ]
        )
        ids, stamps = ([*zip(found[::2], map(float, found[1::2]), strict=True)] for found in replies)
        latest = max((when for _, when in (*ids, *stamps)), default=cursor)
        return News([one.decode("utf-8", "replace") for one, _ in ids], [*_stamps(one for one, _ in stamps)], latest)


def _stamps(texts: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    for text in texts:
        try:
            name, value = json.loads(text)
        except (ValueError, TypeError):
            continue  # somebody else's
        if isinstance(name, str):
            yield name, value if isinstance(value, str | int | float | bool | None) else str(value)
