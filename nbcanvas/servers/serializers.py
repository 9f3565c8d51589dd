"""Kombu's serializers, for what is neither JSON nor pickle: yaml, msgpack, and those an application registered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu import serialization
from kombu.exceptions import KombuError

from nbcanvas.errors import ImproperlyConfigured, InvalidTaskError, NotSerializable

__all__ = ["content_type", "decode", "encode"]


def content_type(name: str) -> str:
    """Return the content type that a serializer's name (or a content type) stands for.

    Raises
    ------
    ImproperlyConfigured
        When no serializer has that name.
    """
    if "/" in name:
        return name
    known: dict[str, str] = serialization.registry.name_to_type
    if name not in known:
        msg = f"there is no serializer {name!r}; there are {', '.join(sorted(known))}"
        raise ImproperlyConfigured(msg)
    return known[name]


def encode(value: Any, serializer: str) -> tuple[str, str, bytes]:
    """Return a value serialised, as content type, encoding and bytes.

    Raises
    ------
    NotSerializable
        When the serializer refuses the value.
    ImproperlyConfigured
        When no serializer has that name.
    """
    content_type(serializer)
    try:
        kind, encoding, data = serialization.dumps(value, serializer=serializer)
    except KombuError as error:
        msg = f"{serializer} refuses it: {error}"
        raise NotSerializable(msg) from error
    return kind, encoding, data if isinstance(data, bytes) else data.encode("utf-8")


def decode(data: bytes, kind: str, encoding: str) -> Any:
    """Return the value; whether the content type is accepted was asked before.

    Raises
    ------
    InvalidTaskError
        When it cannot be decoded.
    """
    try:
        return serialization.loads(data, kind, encoding, force=True)
    except (KombuError, LookupError, ValueError) as error:
        msg = f"{kind} that cannot be decoded: {error}"
        raise InvalidTaskError(msg) from error


def accepted(names: Iterable[str]) -> frozenset[str]:
    """Return the content types of serializers."""
    return frozenset(map(content_type, names))
