"""Frozen plans that messages refer to: written once, read by whoever goes on with them."""

from __future__ import annotations

from nbcanvas.errors import InvalidTaskError
from nbcanvas.servers.redis import RedisServer

__all__ = ["Plans"]


class Plans:
    """Keeps plans beside the results, as long as those are kept.

    Parameters
    ----------
    server
        The server.
    prefix
        What their ids are put behind.
    expires
        Seconds they are kept; 0 is for ever.
    """

    def __init__(self, server: RedisServer, prefix: str, expires: int) -> None:
        self._server = server
        self._prefix = prefix
        self._expires = expires

    def put(self, plan_id: str, text: bytes) -> None:
        """Keep a plan."""
        more = ("EX", self._expires) if self._expires else ()
        self._server.call("SET", self._prefix + plan_id, text, *more)

    def get(self, plan_id: str) -> bytes:
        """Return a plan, which from now on is kept as long as if it were new.

        Raises
        ------
        InvalidTaskError
            When it is not kept any more.
        """
        more = ("EX", self._expires) if self._expires else ()
        found: bytes | None = self._server.ask("GETEX", self._prefix + plan_id, *more)
        if found is None:
            msg = (
                f"what follows this task is written down as plan {plan_id}, which is not at {self._server.name} "
                f"(any more): it is kept as long as results are (result_expires)"
            )
            raise InvalidTaskError(msg)
        return found
