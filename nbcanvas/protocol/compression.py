"""Compressed bodies, under kombu's names (header ``compression``); what is inflated is bounded."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from nbcanvas.errors import ImproperlyConfigured, InvalidTaskError

__all__ = ["compress", "decompress"]


class _Method(NamedTuple):
    """A way to compress.

    Attributes
    ----------
    names
        What it is called; the first is what the header says.
    deflate
        Compresses bytes.
    inflater
        Makes an object with ``decompress(data, at most so many bytes)``.
    errors
        What that raises for data that is none.
    """

    names: tuple[str, ...]
    deflate: Callable[[bytes], bytes]
    inflater: Callable[[], Any]
    errors: tuple[type[BaseException], ...]


def _zstd() -> Any:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    msg = "zstd needs Python 3.14 or the package backports.zstd"
    raise ImproperlyConfigured(msg)


_METHODS: Final = (
    _Method(("application/x-gzip", "gzip", "zlib"), zlib.compress, zlib.decompressobj, (zlib.error,)),
    _Method(("application/x-bz2", "bzip2", "bzip"), bz2.compress, bz2.BZ2Decompressor, (OSError, ValueError)),
    _Method(("application/x-lzma", "lzma", "xz"), lzma.compress, lzma.LZMADecompressor, (lzma.LZMAError, EOFError)),
    _Method(
        ("application/zstd", "zstd", "zstandard"),
        lambda data: bytes(_zstd().compress(data)),
        lambda: _zstd().ZstdDecompressor(),
        (Exception,),
    ),
)
_BY_NAME: Final = {name: method for method in _METHODS for name in method.names}


def compress(data: bytes, name: str) -> tuple[bytes, str]:
    """Return compressed bytes, and what the header ``compression`` says of them.

    Raises
    ------
    ImproperlyConfigured
        When no compression has that name.
    """
    method = _BY_NAME.get(name)
    if method is None:
        msg = f"there is no compression {name!r}; use gzip, bzip2, lzma or zstd"
        raise ImproperlyConfigured(msg)
    return method.deflate(data), method.names[0]


def decompress(data: bytes, name: Any, limit: int) -> bytes:
    """Return what was compressed.

    Raises
    ------
    InvalidTaskError
        When it was not, or is longer than `limit` bytes.
    """
    method = _BY_NAME.get(name) if isinstance(name, str) else None
    if method is None:
        raise InvalidTaskError(f"a body compressed by {name!r:.40}, which is not known here")
    inflater = method.inflater()
    try:
        found: bytes = inflater.decompress(data, limit + 1)
    except method.errors as error:
        raise InvalidTaskError(f"a body that is not compressed by {name} as it says: {error}") from None
    if len(found) > limit:
        raise InvalidTaskError(f"a body of more than {limit} bytes once it is decompressed")
    if not inflater.eof:
        raise InvalidTaskError(f"a body compressed by {name} that ends too early")
    return found
