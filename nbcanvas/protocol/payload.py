"""Values on their way.

Inside one machine any Python object goes, isolated as it would be on a cluster: a value that cannot be changed travels
as itself; everything else travels pickled, so that no task sees what another one (or the cell that called it) does to
its own copy.  What plain pickle refuses, a lambda or a class made in a function, cloudpickle takes.

On the way to a cluster a value is JSON text, made once: the text that is checked when a canvas is planned is the text
that is sent.  What JSON refuses is pickled, for tasks whose serializer is pickle; for any other it is an error.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from nbcanvas.errors import NotSerializable
from nbcanvas.plan.freezing import Packer
from nbcanvas.plan.model import Gathered, Payload

from .jsonable import dumps, loads
from .saferepr import saferepr, shown

__all__ = [
    "EMBEDDED",
    "WIRE",
    "Held",
    "Packed",
    "Packing",
    "Text",
    "TextArgs",
    "pack",
    "pack_args",
    "shown",
    "size_of",
    "unpack",
    "unpack_args",
    "value_in",
]

#: Types whose values nobody can change.
ATOMS: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})


class Packed:
    """A pickled value.

    Attributes
    ----------
    data
        The pickle.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    @classmethod
    def of(cls, value: Any) -> Packed:
        """Pickle a value, by any means."""
        return cls(_dumps(value))

    def load(self) -> Any:
        """Return a fresh copy of the value."""
        return pickle.loads(self.data)  # noqa: S301 - made in this process, or in a child of it

    def __repr__(self) -> str:
        return f"<{len(self.data)} bytes>"


class Text:
    """A value as JSON text; wherever it stands in what becomes JSON, it is its value.

    Attributes
    ----------
    text
        The text.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def load(self) -> Any:
        """Return a fresh copy of the value."""
        return loads(self.text)

    __json__ = load

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{len(self.text)} characters of JSON>"


class TextArgs:
    """The arguments of a call as JSON texts: a list and an object.

    Attributes
    ----------
    args, kwargs
        The texts.
    shown
        Both as people see them (see `saferepr`), when that is known.
    """

    __slots__ = ("args", "kwargs", "shown")

    def __init__(self, args: str, kwargs: str, shown: tuple[str, str] | None = None) -> None:
        self.args = args
        self.kwargs = kwargs
        self.shown = shown

    def load(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return fresh arguments."""
        return tuple(loads(self.args)), loads(self.kwargs)

    def __repr__(self) -> str:
        return f"<{len(self.args) + len(self.kwargs)} characters of JSON>"


class Held:
    """A value that was read from a message: nobody else has it, so it needs no copy.

    Attributes
    ----------
    value
        The value; of arguments, ``(args, kwargs)``.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def load(self) -> Any:
        """Return the value itself."""
        return self.value

    def __repr__(self) -> str:
        return f"<{type(self.value).__qualname__}>"


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except Exception as refused:  # noqa: BLE001 - reducers may raise anything
        import cloudpickle

        try:
            return bytes(cloudpickle.dumps(value, 5))
        except Exception as error:  # noqa: BLE001 - as above
            raise NotSerializable(_reason(value, error)) from (error or refused)


def _reason(value: Any, error: BaseException) -> str:
    return f"{type(value).__qualname__} {_short(value)} cannot be pickled ({type(error).__name__}: {error})"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not hide the real error
        return "<unprintable>"
    return text if len(text) <= 60 else text[:57] + "..."


#: Payloads that are not the value itself.
_LOADED: Final = frozenset({Packed, Text, Held})


def pack(value: Any) -> Payload:
    """Isolate one value.

    Raises
    ------
    NotSerializable
        When the value can be pickled by no means.
    """
    return value if type(value) in ATOMS else Packed(_dumps(value))


def unpack(payload: Payload) -> Any:
    """Return the value of a payload; a list for what a barrier gathered."""
    kind = type(payload)
    if kind in _LOADED:
        return payload.load()
    if kind is not Gathered:
        return payload
    result: list[Any] = []
    todo: list[tuple[Gathered, list[Any]]] = [(payload, result)]
    while todo:
        gathered, values = todo.pop()
        for item in gathered:
            if type(item) is Gathered:
                inner: list[Any] = []
                values.append(inner)
                todo.append((item, inner))
            else:
                values.append(item.load() if type(item) in _LOADED else item)
    return result


def value_in(item: Any) -> Any:
    """Return the value of a payload as it is; what a barrier gathered stays a sequence of payloads."""
    return item.load() if type(item) in _LOADED else item


def pack_args(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    """Isolate the arguments of one call.

    Raises
    ------
    NotSerializable
        Naming the argument.
    """
    if not kwargs:
        for value in args:
            if type(value) not in ATOMS:
                break
        else:
            return args
    try:
        return Packed(_dumps((args, dict(kwargs))))
    except NotSerializable:
        refuse_argument(args, kwargs, _dumps)
        raise


def refuse_argument(args: Sequence[Any], kwargs: Mapping[str, Any], dump: Callable[[Any], Any]) -> None:
    """Raise what `dump` says of the first argument it refuses, with the argument's name or number.

    Raises
    ------
    NotSerializable
        As described.
    """
    for name, value in (*enumerate(args, 1), *kwargs.items()):
        try:
            dump(value)
        except NotSerializable as error:
            msg = f"argument {name}: {error}"
            raise NotSerializable(msg) from error.__cause__


def unpack_args(payload: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return fresh ``(args, kwargs)`` of a call's payload."""
    if type(payload) is tuple:
        return payload, {}
    args, kwargs = payload.load()
    return args, kwargs


def size_of(payload: Payload) -> int:
    """Return about how many bytes a payload takes when it is sent."""
    if type(payload) is Text:
        return len(payload.text)
    if type(payload) is TextArgs:
        return len(payload.args) + len(payload.kwargs)
    return len(payload.data) if type(payload) is Packed else len(pickle.dumps(payload, 5))


#: Types that JSON gives back as they were.
_PLAIN: Final = frozenset({int, float, bool, str, type(None)})


def _to_text(value: Any) -> Payload:
    if type(value) in _PLAIN:
        return value
    try:
        return Text(dumps(value))
    except NotSerializable:
        return Packed(_dumps(value))


def _to_text_args(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    if not kwargs:
        for value in args:
            if type(value) not in _PLAIN:
                break
        else:
            return args
    try:
        return TextArgs(dumps(args), dumps(kwargs), (saferepr(args), saferepr(kwargs)))
    except NotSerializable:
        return pack_args(args, kwargs)


class Packing(NamedTuple):
    """In which form an app's values travel.

    Attributes
    ----------
    pack
        Isolates a value.
    pack_args
        Isolates the arguments of a call.
    """

    pack: Callable[[Any], Payload]
    pack_args: Packer


#: Inside one machine.
EMBEDDED: Final = Packing(pack, pack_args)
#: On the way to a cluster.  What JSON refuses comes out as `Packed`: whoever sends it knows whether it may.
WIRE: Final = Packing(_to_text, _to_text_args)
