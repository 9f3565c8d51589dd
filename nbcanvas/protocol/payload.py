"""Values on their way inside one machine: isolated as they would be on a cluster, any Python object goes.

A value that cannot be changed travels as itself; everything else travels pickled, so that no task sees what
another one (or the cell that called it) does to its own copy.  What plain pickle refuses, a lambda or a class
made in a function, cloudpickle takes.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, Final

from nbcanvas.errors import NotSerializable
from nbcanvas.plan.model import Gathered, Payload

__all__ = ["Packed", "pack", "pack_args", "shown", "size_of", "unpack", "unpack_args"]

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


def shown(value: Any) -> str:
    """Return the repr of any value; of one whose repr raises, its class."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not hide the real error
        return f"<{type(value).__qualname__}>"


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
    if kind is Packed:
        return pickle.loads(payload.data)  # noqa: S301 - see Packed.load
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
                values.append(pickle.loads(item.data) if type(item) is Packed else item)  # noqa: S301
    return result


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
        for name, value in (*enumerate(args, 1), *kwargs.items()):
            try:
                _dumps(value)
            except NotSerializable as error:
                msg = f"argument {name}: {error}"
                raise NotSerializable(msg) from error.__cause__
        raise


def unpack_args(payload: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return fresh ``(args, kwargs)`` of a call's payload."""
    if type(payload) is tuple:
        return payload, {}
    args, kwargs = payload.load()
    return args, kwargs


def size_of(payload: Payload) -> int:
    """Return about how many bytes a payload takes when it is sent."""
    return len(payload.data) if type(payload) is Packed else len(pickle.dumps(payload, 5))
