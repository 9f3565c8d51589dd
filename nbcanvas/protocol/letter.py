"""A serialised message, as any transport takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Letter"]


class Letter:
    """One message, its body serialised.

    Attributes
    ----------
    queue
        The queue it is for; of a letter that was taken, the one it came from.
    exchange, routing_key
        Where it is published; the anonymous exchange and the queue's name for a plain queue.
    priority
        0 to 9; 0 is served first on Redis.
    headers
        Protocol 2's headers.
    body
        The serialised body.
    content_type, content_encoding
        Of the body.
    properties
        ``correlation_id``, ``reply_to``, ``delivery_mode``, ``expiration`` …; what a transport adds is not here.
    """

    __slots__ = (
        "body",
        "content_encoding",
        "content_type",
        "exchange",
        "headers",
        "priority",
        "properties",
        "queue",
        "routing_key",
    )

    def __init__(
        self,
        queue: str,
        headers: Mapping[str, Any],
        body: bytes,
        properties: Mapping[str, Any],
        priority: int = 0,
        content_type: str = "application/json",
        content_encoding: str = "utf-8",
        exchange: str = "",
        routing_key: str | None = None,
    ) -> None:
        self.queue = queue
        self.headers = headers
        self.body = body
        self.properties = properties
        self.priority = priority
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.exchange = exchange
        self.routing_key = queue if routing_key is None else routing_key

    def __repr__(self) -> str:
        return f"Letter({self.headers.get('task')!r}, {self.headers.get('id')!r} for {self.queue!r})"
