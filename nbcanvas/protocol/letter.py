"""A serialised message, as any transport takes it, and where it is to go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["AGAIN", "Address", "Letter"]

#: Header of a message that may have been sent before: whoever gets it looks first whether somebody has it.
AGAIN: Final = "nbcanvas_again"

_NOTHING: Final[Mapping[str, Any]] = {}


class Address(NamedTuple):
    """Where a message goes, and how it is sent.

    Attributes
    ----------
    queue
        The queue's name.
    exchange, routing_key
        Where it is published; the anonymous exchange and the queue's name for a plain queue.
    priority
        0 to 9.
    delivery_mode
        2 for messages that a broker keeps on disk, 1 for others.
    serializer, compression
        Names of those to use; None for the usual ones.
    defaults
        Execution options of the task itself, under those of the call.
    reply_to
        The client that results are announced to; None for the sender.
    """

    queue: str
    exchange: str = ""
    routing_key: str | None = None
    priority: int = 0
    delivery_mode: int = 2
    serializer: str | None = None
    compression: str | None = None
    defaults: Mapping[str, Any] = _NOTHING
    reply_to: str | None = None


class Letter:
    """One message, its body serialised.

    Parameters
    ----------
    headers
        A dictionary, or its JSON text, which is not parsed before somebody asks for it.

    Attributes
    ----------
    queue
        The queue it is for; of a letter that was taken, the one it came from.
    exchange, routing_key
        Where it is published; the anonymous exchange and the queue's name for a plain queue.
    priority
        0 to 9; 0 is served first on Redis.
    body
        The serialised body.
    content_type, content_encoding
        Of the body.
    properties
        ``correlation_id``, ``reply_to``, ``delivery_mode``, ``expiration`` …; of a letter that was taken, whatever its
        transport added.
    """

    __slots__ = (
        "_headers",
        "body",
        "content_encoding",
        "content_type",
        "exchange",
        "priority",
        "properties",
        "queue",
        "routing_key",
    )

    def __init__(
        self,
        queue: str,
        headers: dict[str, Any] | str,
        body: bytes,
        properties: Mapping[str, Any],
        priority: int = 0,
        content_type: str = "application/json",
        content_encoding: str = "utf-8",
        exchange: str = "",
        routing_key: str | None = None,
    ) -> None:
        self.queue = queue
        self._headers = headers
        self.body = body
        self.properties = properties
        self.priority = priority
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.exchange = exchange
        self.routing_key = queue if routing_key is None else routing_key

    @property
    def headers(self) -> dict[str, Any]:
        """Protocol 2's headers; they may be changed."""
        found = self._headers
        if isinstance(found, str):
            found = self._headers = json.loads(found)
        return found

    @property
    def headers_text(self) -> str | None:
        """The headers as JSON, if nobody has asked for the dictionary."""
        found = self._headers
        return found if isinstance(found, str) else None

    @property
    def redelivered(self) -> bool:
        """Whether its transport says that somebody had it before."""
        info = self.properties.get("delivery_info")
        return isinstance(info, Mapping) and bool(info.get("redelivered"))

    def __repr__(self) -> str:
        return f"Letter({self.headers.get('task')!r}, {self.headers.get('id')!r} for {self.queue!r})"
