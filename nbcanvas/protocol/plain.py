"""Any value as JSON, and back: what JSON has no word for is tagged, what no tag is for becomes a text that says so.

A tagged value is ``{"__type__": tag, "__value__": ...}``, with kombu's tags where kombu has one (``datetime``,
``date``, ``time``, ``decimal``, ``uuid``, ``bytes``, ``base64``).  Reading makes values of a fixed set of types and
runs no code that the text chooses: a class named in it is looked up in a fixed table, and is never imported.
"""

from __future__ import annotations

import base64
import builtins
import json
import re
import reprlib
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Final, NoReturn
from uuid import UUID

from nbcanvas import errors
from nbcanvas.canvas import Signature
from nbcanvas.errors import RemoteError

__all__ = [
    "LEFT_OUT",
    "LIMIT",
    "AsText",
    "Malformed",
    "dumps",
    "error_of",
    "loads",
    "read_value",
    "write_error",
    "write_value",
]

#: Characters a value may take; what takes more is cut.
LIMIT: Final = 10_000
#: Values nested deeper than this are cut.
_DEEPEST: Final = 50
#: Whole numbers of more bits are written in hexadecimal: reading a long decimal takes quadratic time.
_BITS: Final = 1024
_KEYS: Final = frozenset({"__type__", "__value__"})
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Malformed(ValueError):
    """A text or a value that cannot be read."""


class AsText:
    """A value of which only a text was kept; its ``repr`` is that text.

    Attributes
    ----------
    text
        What ``repr`` said of it, shortened.
    type
        The qualified name of its class.
    shape
        Of an array or a table, else None.
    cut
        Whether the value is missing only because it was too long.
    """

    __slots__ = ("cut", "shape", "text", "type")

    def __init__(self, text: str, type: str = "", shape: tuple[int, ...] | None = None, cut: bool = False) -> None:
        self.text = text
        self.type = type
        self.shape = shape
        self.cut = cut

    def __repr__(self) -> str:
        return self.text

    def _facts(self) -> tuple[Any, ...]:
        return self.text, self.type, self.shape, self.cut

    def __eq__(self, other: object) -> bool:
        return self._facts() == other._facts() if isinstance(other, AsText) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._facts())


#: Stands for a value that was not written, because the whole grew too large.
LEFT_OUT: Final = AsText("<left out>", "left out", None, True)


# -- texts -------------------------------------------------------------------------------------------------------------


def dumps(value: Any) -> str:
    """Return plain data as one line of JSON."""
    text = _encode(value)
    # Half a character, alone, is a character of Python's strings but none of UTF-8.
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def loads(text: str | bytes) -> Any:
    """Read JSON: strictly, so without NaN, and with an end to nesting.

    Raises
    ------
    Malformed
        Saying where it stops being JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"it is not text in UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
        what = "the JSON ends too early" if cut else f"it is not JSON: {error.msg}"
        raise Malformed(f"{what} (line {error.lineno}, column {error.colno})") from None
    except ValueError as error:  # a number of too many digits
        raise Malformed(str(error).partition(";")[0]) from None


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


# -- writing -----------------------------------------------------------------------------------------------------------


def write_value(value: Any, limit: int = LIMIT, clean: Callable[[str], str] = str) -> str:
    """Return a value as JSON.

    Parameters
    ----------
    value
        Anything.
    limit
        Characters it may take; of a longer one only a shortened text is kept.
    clean
        Applied to texts that stand for a value, and to no value.
    """
    kind = type(value)
    if kind is int and value.bit_length() <= 64:
        return str(value)
    if value is None:
        return "null"
    try:
        text = dumps(_Writer(limit, clean).plain(value, 0))
    except _TooLong:
        return dumps(_tagged("text", _text_of(value, limit, clean, cut=True)))
    return text if len(text) <= limit + 200 else dumps(_tagged("text", _text_of(value, limit, clean, cut=True)))


def write_error(error: BaseException, limit: int = LIMIT, clean: Callable[[str], str] = str) -> str:
    """Return an exception as JSON; its arguments are shortened, itself it is kept in any case."""
    kind = type(error)
    args = ",".join([write_value(arg, max(limit // 4, 40), clean) for arg in _arguments_of(error)[:20]])
    about = dumps({"module": kind.__module__, "name": kind.__qualname__, "text": _said_by(error)[:limit]})
    return f'{{"__type__":"exception","__value__":{about[:-1]},"args":[{args}]}}}}'


def _arguments_of(error: BaseException) -> tuple[Any, ...]:
    args: tuple[Any, ...] = error.args
    if isinstance(error, OSError) and error.filename is not None:
        return (*args[:2], error.filename)  # what `args` leaves out
    return args


def _said_by(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return "<unprintable>"


class _TooLong(Exception):
    """The value takes more than its limit."""


class _Writer:
    def __init__(self, limit: int, clean: Callable[[str], str]) -> None:
        self.left = limit
        self.limit = limit
        self.clean = clean

    def plain(self, value: Any, depth: int) -> Any:  # noqa: C901, PLR0911, PLR0912 - a line or two a type
        self.left -= 2
        if self.left < 0 or depth > _DEEPEST:
            raise _TooLong
        if value is None or value is True or value is False:
            return value
        kind = type(value)
        if isinstance(value, str) and _is_plain(kind, str):
            self.left -= len(value)
            return str.__str__(value) if kind is not str else value
        if isinstance(value, int) and _is_plain(kind, int):
            self.left -= value.bit_length() // 4
            number = int(value)
            return number if number.bit_length() <= _BITS else _tagged("int", hex(number))
        if isinstance(value, float):
            number_ = float(value)
            return number_ if isfinite(number_) else _tagged("float", repr(number_))
        inner = depth + 1
        if value is LEFT_OUT:
            return _tagged("left out", None)
        if isinstance(value, Signature):
            return _tagged("signature", {key: self.plain(dict.__getitem__(value, key), inner) for key in value})
        if isinstance(value, list):
            return [self.plain(item, inner) for item in value]
        if isinstance(value, tuple):
            return _tagged("tuple", [self.plain(item, inner) for item in value])
        if isinstance(value, dict):
            return self._mapping(value, inner)
        if kind in _WORDS:
            tag, word = _WORDS[kind]
            made = word(value)
            self.left -= len(made) if isinstance(made, str) else 40
            return _tagged(tag, made)
        if kind is bytes or kind is bytearray:
            return self._bytes(bytes(value))
        if kind is set or kind is frozenset:
            return _tagged(kind.__name__, [self.plain(item, inner) for item in sorted(value, key=_order)])
        if isinstance(value, BaseException):
            return _tagged("exception", self._exception(value, inner))
        if kind.__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
            item = value.item()
            if item is not value:
                return self.plain(item, inner)
        return _tagged("text", _text_of(value, self.limit, self.clean))

    def _mapping(self, value: dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str for key in value) and value.keys() != _KEYS:
            self.left -= sum(map(len, value))
            return {key: self.plain(item, depth) for key, item in dict.items(value)}
        return _tagged("map", [[self.plain(key, depth), self.plain(item, depth)] for key, item in dict.items(value)])

    def _bytes(self, value: bytes) -> Any:
        self.left -= len(value)
        try:
            return _tagged("bytes", value.decode("utf-8"))
        except UnicodeDecodeError:
            return _tagged("base64", base64.b64encode(value).decode("ascii"))

    def _exception(self, error: BaseException, depth: int) -> dict[str, Any]:
        kind, text = type(error), _said_by(error)
        self.left -= len(text)
        args = [self.plain(arg, depth) for arg in _arguments_of(error)]
        return {"module": kind.__module__, "name": kind.__qualname__, "text": text, "args": args}


def _is_plain(kind: type, base: type) -> bool:
    """Say whether a subclass is no more than its base (a member of an Enum is)."""
    return kind is base or not any(c.__module__ == "enum" for c in kind.__mro__)


def _tagged(tag: str, value: Any) -> dict[str, Any]:
    return {"__type__": tag, "__value__": value}


def _order(item: Any) -> tuple[str, str]:
    return type(item).__name__, repr(item)


#: Marks the second of two times that the end of summer time makes look the same (``fold``).
_SECOND: Final = "~"


def _clock_text(value: datetime | time) -> str:
    return value.isoformat() + _SECOND * value.fold


#: Types of one tag, and the plain data for it.
_WORDS: Final[Mapping[type, tuple[str, Callable[[Any], Any]]]] = {
    datetime: ("datetime", _clock_text),
    date: ("date", date.isoformat),
    time: ("time", _clock_text),
    timedelta: ("timedelta", lambda span: [span.days, span.seconds, span.microseconds]),
    Decimal: ("decimal", str),
    UUID: ("uuid", lambda found: {"hex": found.hex}),
    complex: ("complex", lambda z: [repr(z.real), repr(z.imag)]),
    range: ("range", lambda r: [r.start, r.stop, r.step]),
    AsText: ("text", lambda t: {"text": t.text, "type": t.type, **_extras(t.shape, t.cut)}),
}

_short = reprlib.Repr()
_short.maxlevel = 6
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = _short.maxdeque = 40
_short.maxlong = 200


def _text_of(value: Any, limit: int, clean: Callable[[str], str], *, cut: bool = False) -> dict[str, Any]:
    """Return what is kept of a value that JSON has not, or that is too long."""
    if isinstance(value, AsText):
        return {"text": value.text[:limit], "type": value.type, **_extras(value.shape, True)}
    kind = type(value)
    _short.maxstring = _short.maxother = max(limit // 2, 40)
    try:
        text = _ADDRESS.sub("", _short.repr(value))
    except Exception:  # noqa: BLE001 - a broken repr must not hide everything else
        text = f"<{kind.__qualname__}>"
    if len(text) > limit // 2:
        text = text[: limit // 2] + "…"
        cut = True
    shape = getattr(value, "shape", None)
    known = isinstance(shape, tuple) and all(type(side) is int for side in shape)
    if cut and known is False and hasattr(value, "__len__"):
        shape, known = (len(value),), True
    return {"text": clean(text), "type": _name(kind), **_extras(shape if known else None, cut)}


def _extras(shape: tuple[int, ...] | None, cut: bool) -> dict[str, Any]:
    return {**({"shape": list(shape)} if shape is not None else {}), **({"cut": True} if cut else {})}


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# -- reading -----------------------------------------------------------------------------------------------------------


def read_value(plain: Any) -> Any:
    """Return the value that plain data stands for.

    Raises
    ------
    Malformed
        For a tag that does not exist, or what cannot stand behind it.
    """
    if type(plain) not in {dict, list}:
        return plain
    try:
        return _read(plain)
    except RecursionError:
        raise Malformed("a value is nested too deeply") from None


def _read(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_read(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if plain.keys() != _KEYS:
        return {key: _read(item) for key, item in plain.items()}
    tag, value = plain["__type__"], plain["__value__"]
    reader = _READERS.get(tag) if isinstance(tag, str) else None
    if reader is None:
        raise Malformed(f"no value is tagged {tag!r:.60}")
    try:
        return reader(value)
    except (Malformed, RecursionError):
        raise
    except Exception:  # noqa: BLE001 - whatever a constructor makes of what it was never meant for
        raise Malformed(f"a value tagged {tag} cannot be {_short.repr(value):.60}") from None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _float(value: Any) -> float:
    if value not in {"nan", "inf", "-inf"}:
        raise ValueError
    return float(value)


def _as_text(value: Any) -> AsText:
    shape = value.get("shape")
    return AsText(
        _str(value["text"]),
        _str(value["type"]),
        None if shape is None else tuple(_whole(side) for side in _list(shape)),
        value.get("cut") is True,
    )


def _signature(value: Any) -> Any:
    made = {key: _read(value[key]) for key in ("task", "args", "kwargs", "options", "subtask_type", "immutable")}
    return Signature.from_dict(made)


def _uuid(value: Any) -> UUID:
    return UUID(hex=_str(value["hex"]))


#: Exceptions that may be made again: those of Python and of nbcanvas.  (Not what is no `Exception`: nobody wants a
#: recording to end the interpreter.)
_KNOWN: Final[Mapping[tuple[str, str], type[Exception]]] = {
    (module.__name__, name): found
    for module in (builtins, errors)
    for name, found in vars(module).items()
    if isinstance(found, type) and issubclass(found, Exception) and found.__module__ == module.__name__
}


def error_of(value: Any) -> Exception:
    """Return an exception from what was written of it: itself, when it is a known one, else a RemoteError."""
    module, name, text = _str(value["module"]), _str(value["name"]), _str(value["text"])
    args = [_read(arg) for arg in _list(value["args"])]
    kind = _KNOWN.get((module, name))
    if kind is not None:
        try:
            return kind(*args)
        except Exception:  # noqa: BLE001 - it wants other arguments: it is shown by its text
            return RemoteError(name, text)
    return RemoteError(name, *(arg if isinstance(arg, str) else repr(arg) for arg in args))


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "int": lambda v: int(_str(v), 16),
    "float": _float,
    "complex": lambda v: complex(*(float(_str(part)) for part in _list(v))),
    "tuple": lambda v: tuple(_read(item) for item in _list(v)),
    "set": lambda v: {_read(item) for item in _list(v)},
    "frozenset": lambda v: frozenset(_read(item) for item in _list(v)),
    "map": lambda v: {_read(key): _read(item) for key, item in _list(v)},
    "range": lambda v: range(*(_whole(part) for part in _list(v))),
    "bytes": lambda v: _str(v).encode("utf-8"),
    "base64": lambda v: base64.b64decode(_str(v), validate=True),
    "datetime": lambda v: datetime.fromisoformat(_str(v).rstrip(_SECOND)).replace(fold=int(v.endswith(_SECOND))),
    "date": lambda v: date.fromisoformat(_str(v)),
    "time": lambda v: time.fromisoformat(_str(v).rstrip(_SECOND)).replace(fold=int(v.endswith(_SECOND))),
    "timedelta": lambda v: timedelta(*(_whole(part) for part in _list(v))),
    "decimal": lambda v: Decimal(_str(v)),
    "uuid": _uuid,
    "exception": error_of,
    "signature": _signature,
    "text": _as_text,
    "left out": lambda v: LEFT_OUT,
}
