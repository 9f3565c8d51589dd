"""Values and exceptions as Celery's result backends write them, and back again.

The serializer is kombu's.  In a database what it refuses is pickled, as every Celery up to 5.6 did with all results of
its database backend, and as Celery 5.7 still reads it; anywhere else a pickle is neither written nor opened, unless
that is the serializer.  An exception becomes a document ``exc_type``, ``exc_message``,
``exc_module`` (the pickle serializer takes the exception itself).  Celery's own exceptions have the names they have
there, so that either side finds its own class.

Whoever may write to a store of pickles can have code run by those who read it.  A document's exception is only ever an
exception class that is loaded already.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from kombu import serialization
from kombu.exceptions import KombuError
from kombu.serialization import prepare_accept_content

from nbcanvas import errors
from nbcanvas.errors import CorruptResult, ImproperlyConfigured, NotSerializable, RemoteError, stand_in
from nbcanvas.plan.model import Payload
from nbcanvas.protocol.payload import Packed, pack, shown, unpack

__all__ = ["Encoding"]

#: What a pickle starts with, of every protocol that Celery and kombu write.
_PICKLE: Final = b"\x80"
_BILLIARDS: Final = frozenset({"SoftTimeLimitExceeded", "Terminated", "TimeLimitExceeded", "WorkerLostError"})
#: Of our exceptions, those that Celery has by the same name.
_CELERYS: Final = _BILLIARDS | {
    "ChordError",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotRegistered",
    "Reject",
    "Retry",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "TimeoutError",
}
_FOREIGN: Final = ("celery.", "billiard.")


class Encoding:
    """How results look in a store.

    Parameters
    ----------
    serializer
        Celery's ``result_serializer``.
    accept
        Celery's ``result_accept_content``; what else is refused when it is read.
    trusted
        Whether pickles are written and read beside what the serializer makes: in a database they are.

    Raises
    ------
    ImproperlyConfigured
        When kombu has no such serializer.
    """

    def __init__(self, serializer: str = "json", accept: Iterable[str] = ("json",), *, trusted: bool = False) -> None:
        registry = serialization.registry
        try:
            self.content_type, self.content_encoding, _ = registry._encoders[serializer]  # noqa: SLF001 - no other way
            self._accept = prepare_accept_content(accept)
        except (KeyError, KombuError) as error:
            msg = f"result_serializer {serializer!r}, result_accept_content {list(accept)!r}: there is no {error}"
            raise ImproperlyConfigured(msg) from None
        self._serializer = self.serializer = serializer
        self._pickles = serializer == "pickle"
        self._trusted = trusted
        if self.content_type not in self._accept:
            msg = (
                f"results are written with the serializer {serializer!r}, which is not accepted when they are read: "
                f"add {serializer!r} to result_accept_content"
            )
            raise ImproperlyConfigured(msg)

    def trusting(self) -> Encoding:
        """Return the same for a store that may hold pickles."""
        return Encoding(self._serializer, self._accept, trusted=True)

    # -- values -------------------------------------------------------------------------------------------------------

    def dump(self, value: Any) -> bytes:
        """Encode a value; what the serializer refuses is pickled where pickles are trusted.

        Raises
        ------
        NotSerializable
            When it can be encoded by no means.
        """
        found = self.try_dump(value)
        if found is not None:
            return found
        if self._trusted:
            return _pickled(value)
        raise NotSerializable(f"{shown(value)[:100]} has no form in {self._serializer}")

    def try_dump(self, value: Any) -> bytes | None:
        """Encode a value by the serializer, or return None when it refuses it."""
        if self._pickles:
            return _pickled(value)
        try:
            body = serialization.dumps(value, serializer=self._serializer)[2]
        except Exception:  # noqa: BLE001 - a serializer, or what it asks of the value, may raise anything
            return None
        return body.encode() if isinstance(body, str) else bytes(body)

    def dump_payload(self, payload: Payload) -> bytes:
        """Encode a value in the form it travels in."""
        if type(payload) is Packed:
            # Already a pickle: good as it is, or when the serializer refuses it.
            return payload.data if self._pickles else self.try_dump(payload.load()) or payload.data
        return self.dump(unpack(payload))

    def load(self, data: bytes | str) -> Any:
        """Decode a value.

        Raises
        ------
        CorruptResult
            When it cannot be decoded.
        """
        data = data.encode() if isinstance(data, str) else bytes(data)
        if not self._pickles:
            try:
                return serialization.loads(data, self.content_type, self.content_encoding, accept=self._accept)
            except Exception as error:
                if not (self._trusted and data.startswith(_PICKLE)):
                    msg = f"{len(data)} bytes that are no {self._serializer} ({_first_line(error)})"
                    raise CorruptResult(msg) from error
        try:
            return _Unpickler(io.BytesIO(data)).load()
        except Exception as error:
            msg = f"a pickle of {len(data)} bytes that cannot be opened here ({_first_line(error)})"
            raise CorruptResult(msg) from error

    def load_payload(self, data: bytes) -> Payload:
        """Decode a value into the form it travels in."""
        return pack(self.load(data))

    # -- exceptions ---------------------------------------------------------------------------------------------------

    def dump_exception(self, exc: BaseException) -> bytes:
        """Encode an exception."""
        if self._pickles:
            return _pickled_exception(exc)
        kind = type(exc)
        name, module, args = kind.__qualname__, _module_of(kind), exc.args
        if isinstance(exc, RemoteError):
            module, _, name = exc.exc_type.rpartition(".")
            args = exc.exc_args
        elif isinstance(exc, errors.NotRegistered):
            args = (exc.name,)  # as Celery has it; the hint is for who reads it here
        safe = tuple(arg if self.try_dump(arg) is not None else shown(arg) for arg in args)
        return self.dump({"exc_type": name, "exc_message": safe, "exc_module": module or None})

    def load_exception(self, data: bytes) -> Exception | None:
        """Decode an exception; None stands for none.

        Raises
        ------
        CorruptResult
            When it is none.
        """
        return self.exception_of(self.load(data))

    def exception_of(self, found: Any) -> Exception | None:
        """Return the exception that a decoded value stands for; None for none.

        Raises
        ------
        CorruptResult
            When it is none.
        """
        if found is None or isinstance(found, Exception):
            return found
        if isinstance(found, BaseException):  # SystemExit and its like would end whoever reads it
            return stand_in(type(found).__qualname__, *found.args)
        if not isinstance(found, dict) or not isinstance(found.get("exc_type"), str):
            raise CorruptResult(f"{shown(found)[:200]} stands where an exception belongs")
        return _exception(found)


def _exception(found: dict[str, Any]) -> Exception:
    name, module, message = found["exc_type"], found.get("exc_module"), found.get("exc_message", ())
    args = tuple(message) if isinstance(message, list | tuple) else (message,)
    module = module if isinstance(module, str) else ""
    kind = _known(module, name)
    if kind is not None:
        try:
            return kind(*args)
        except Exception:  # noqa: BLE001 - a constructor may want anything
            kind = None
    full = name if module in {"", "builtins", "__main__"} else f"{module}.{name}"
    return stand_in(full, *args)


def _known(module: str, name: str) -> type[Exception] | None:
    """Return the exception class of that name if it is loaded; nothing is imported, and nothing else is returned."""
    if module.startswith(_FOREIGN) and name in _CELERYS:
        module = errors.__name__
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _module_of(kind: type[BaseException]) -> str:
    if kind.__module__ != errors.__name__ or kind.__name__ not in _CELERYS:
        return kind.__module__
    return "billiard.exceptions" if kind.__name__ in _BILLIARDS else "celery.exceptions"


# -- pickles ----------------------------------------------------------------------------------------------------------


def _pickled(value: Any) -> bytes:
    """Pickle a value; what only says how it looks when no pickler takes it."""
    try:
        packed = Packed.of(value)
    except NotSerializable as error:
        packed = Packed.of(f"<{error}>")
    return packed.data


def _pickled_exception(exc: BaseException) -> bytes:
    try:
        data = pickle.dumps(exc, 5)
        if type(pickle.loads(data)) is type(exc):  # noqa: S301 - made just now
            return data
    except Exception:  # noqa: BLE001, S110 - reducers and constructors may raise anything; what stands for it follows
        pass
    return pickle.dumps(RemoteError(type(exc).__qualname__, *map(shown, exc.args)), 5)


def _tree_of_task(id: str, backend: Any = None, name: Any = None, app: Any = None, parent: Any = None) -> Any:
    return ((id, parent), None)


def _tree_of_group(id: str, results: Iterable[Any] = (), parent: Any = None, **_: Any) -> Any:
    return ((id, parent), list(results))


def _of_app(kind: str, args: Iterable[Any]) -> Any:
    """Return what stands for an object of a class that belongs to one of Celery's apps."""
    return _STAND_INS.get(kind, _Celerys)(*args)


def _remote_error(module: str, name: str, args: Iterable[Any] = (), text: str | None = None) -> RemoteError:
    return stand_in(f"{module}.{name}", *args)


class _Celerys:
    """Stands for an object of Celery's that means nothing here: its app, its backend."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Accept everything."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


#: What Celery pickles as a result besides plain values -> what makes the same of it here.
_STAND_INS: Final[dict[str, Callable[..., Any]]] = {
    "AsyncResult": _tree_of_task,
    "EagerResult": _tree_of_task,
    "GroupResult": _tree_of_group,
    "UnpickleableExceptionWrapper": _remote_error,
    "_unpickle_appattr": _of_app,
}


class _Unpickler(pickle.Unpickler):
    """Opens pickles that Celery wrote, without importing it."""

    def find_class(self, module: str, name: str) -> Any:
        if not f"{module}.".startswith(_FOREIGN):
            return super().find_class(module, name)
        return getattr(errors, name) if name in _CELERYS else _STAND_INS.get(name, _Celerys)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]
