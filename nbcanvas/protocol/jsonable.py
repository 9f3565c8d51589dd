"""Values as JSON, with the types that kombu adds to it (PROTOCOL: "JSON extensions").

An object with exactly the keys ``__type__`` and ``__value__`` stands for a value that JSON has not: datetime, date,
time, Decimal, UUID, bytes.  Tuples become lists.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from nbcanvas.errors import NotSerializable

__all__ = ["dumps", "loads", "nested_deeper", "plain"]

_SEPARATORS: Final = (",", ":")


def _bytes(value: bytes) -> tuple[str, Any]:
    try:
        return "bytes", value.decode("utf-8")
    except UnicodeDecodeError:
        return "base64", base64.b64encode(value).decode("ascii")


#: Type -> its tag, and what stands for a value of it; a datetime is a date, too, so it comes first.
_WRITERS: Final[dict[type, Callable[[Any], tuple[str, Any]]]] = {
    datetime: lambda value: ("datetime", value.isoformat()),
    date: lambda value: ("date", value.isoformat()),
    time: lambda value: ("time", value.isoformat()),
    Decimal: lambda value: ("decimal", str(value)),
    UUID: lambda value: ("uuid", {"hex": value.hex}),
    bytes: _bytes,
}


def plain(value: Any) -> Any:
    """Return what stands for a value that JSON has not.

    Raises
    ------
    TypeError
        When nothing does.
    """
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            tag, plain = write(value)
            return {"__type__": tag, "__value__": plain}
    msg = f"{type(value).__qualname__} has no form in JSON"
    raise TypeError(msg)


_ENCODER: Final = json.JSONEncoder(default=plain, separators=_SEPARATORS)
#: The same made once, and not for each call; where there is one in C.
_made: Final = getattr(json.encoder, "c_make_encoder", None)
_encode: Final = _made and _made(
    None, plain, json.encoder.encode_basestring_ascii, None, *reversed(_SEPARATORS), False, False, True
)


def dumps(value: Any) -> str:
    """Return a value as JSON.

    Raises
    ------
    NotSerializable
        Saying which type has no form in JSON.
    """
    if _encode is not None:
        try:
            return "".join(_encode(value, 0))
        except (TypeError, ValueError, RecursionError):
            pass  # the other one finds better words for what is in the way
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{type(value).__qualname__} cannot travel as JSON ({error or type(error).__name__})"
        raise NotSerializable(msg) from error


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda value: UUID(**value),
    "bytes": lambda value: value.encode("utf-8"),
    "base64": lambda value: base64.b64decode(value.encode("ascii")),
}


def _object(found: dict[str, Any]) -> Any:
    if len(found) == 2 and "__type__" in found and "__value__" in found:
        reader = _READERS.get(found["__type__"])
        if reader is not None:
            return reader(found["__value__"])
    return found


_PLAIN: Final = json.JSONDecoder()
_TAGGED: Final = json.JSONDecoder(object_hook=_object)


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text; an unknown ``__type__`` stays as it is.

    Raises
    ------
    ValueError
        When it is no such text.
    """
    try:
        if not isinstance(text, str):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        return (_TAGGED if "__type__" in text else _PLAIN).decode(text)
    except (TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        msg = f"a tagged value that says something else than its type: {error}"
        raise ValueError(msg) from error


_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])', re.DOTALL)


def nested_deeper(text: str | bytes, limit: int) -> bool:
    """Say whether a JSON text nests more than `limit` lists and objects in each other; it is not parsed for that."""
    if isinstance(text, str):
        if text.count("[") + text.count("{") <= limit:
            return False
        data = text.encode("utf-8", "surrogatepass")
    elif text.count(b"[") + text.count(b"{") <= limit:
        return False
    else:
        data = text
    depth = 0
    for found in _BRACKETS.finditer(data):
        if found.lastindex == 1:
            depth += 1
            if depth > limit:
                return True
        elif found.lastindex == 2:
            depth -= 1
    return False
