"""The envelope of a message on Redis: kombu's JSON around a body in base64 (PROTOCOL: "Broker envelope")."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from nbcanvas.errors import InvalidTaskError
from nbcanvas.protocol.jsonable import dumps
from nbcanvas.protocol.letter import Letter

__all__ = ["LARGEST", "open_", "seal"]

#: Bytes of the longest envelope that is opened.
LARGEST: Final = 64 * 1024 * 1024 * 4 // 3 + 1024 * 1024


def seal(letter: Letter, tag: str) -> bytes:
    """Return a letter as one JSON text.

    Parameters
    ----------
    letter
        What to send.
    tag
        Its delivery tag, a fresh one.
    """
    headers = letter.headers_text
    if headers is None:
        headers = dumps(letter.headers)
    given = [
        f"{quoted(name)}:{quoted(value) if type(value) is str else str(value) if type(value) is int else dumps(value)}"
        for name, value in letter.properties.items()
        if name not in _ADDED
    ]
    return (
        f'{{"body":"{b64encode(letter.body).decode("ascii")}","content-encoding":{quoted(letter.content_encoding)},'
        f'"content-type":{quoted(letter.content_type)},"headers":{headers},"properties":{{{",".join(given)}'
        f'{"," if given else ""}"delivery_info":{{"exchange":{quoted(letter.exchange)},'
        f'"routing_key":{quoted(letter.routing_key)}}},"priority":{letter.priority:d},"body_encoding":"base64",'
        f'"delivery_tag":{quoted(tag)}}}}}'
    ).encode("ascii")


#: Properties that `seal` writes itself.
_ADDED: Final = frozenset({"body_encoding", "delivery_info", "delivery_tag", "priority"})


def open_(raw: bytes, queue: str = "") -> Letter:
    """Return the letter in an envelope.

    Parameters
    ----------
    raw
        As it came from a list on Redis.
    queue
        The queue it was taken from; by default where it says it was published to.

    Raises
    ------
    InvalidTaskError
        When it is no envelope.
    """
    if len(raw) > LARGEST:
        raise InvalidTaskError(f"a message of {len(raw)} bytes, and no more than {LARGEST} are read")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidTaskError(f"a message whose envelope is not JSON: {error}") from None
    try:
        return _opened(found, queue)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, Base64Error) as error:
        raise InvalidTaskError(f"a message whose envelope is not kombu's ({type(error).__name__}: {error})") from None


def _opened(found: Any, queue: str) -> Letter:
    properties, headers, body = found["properties"], found["headers"], found["body"]
    info = properties.get("delivery_info") or {}
    if not isinstance(headers, dict) or not isinstance(properties, dict) or not isinstance(info, dict):
        raise TypeError("headers, properties and delivery_info are objects")
    encoding = properties.get("body_encoding")
    if not isinstance(body, str) or encoding not in ("base64", None):
        raise TypeError("the body is text, in base64 or plain")
    content_type, content_encoding = found.get("content-type"), found.get("content-encoding")
    exchange, routing_key = info.get("exchange") or "", info.get("routing_key")
    return Letter(
        queue or str(routing_key or ""),
        headers,
        b64decode(body, validate=True) if encoding else body.encode("utf-8"),
        properties,
        int(properties.get("priority") or 0),
        str(content_type or "application/data"),
        str(content_encoding or "utf-8"),
        str(exchange),
        None if routing_key is None else str(routing_key),
    )
