"""JSON texts put into JSON that is written: what is text already is not parsed to be written again."""

from __future__ import annotations

import json
from typing import Any, Final

from nbcanvas.errors import NotSerializable

from .jsonable import dumps, plain
from .payload import Text

__all__ = ["spliced"]


#: Stands where a text goes; a value that happens to be the same makes one too many, which is seen.
_HOLE: Final = "\0raw\0"
_MARK: Final = json.dumps(_HOLE)


def spliced(value: Any) -> str:
    """Return a value as JSON, with each `Text` in it written as its text.

    Raises
    ------
    NotSerializable
        Saying which type has no form in JSON.
    """
    texts: list[str] = []

    def stand_in(found: Any) -> Any:
        if type(found) is Text:
            texts.append(found.text)
            return _HOLE
        return plain(found)

    try:
        parts = json.JSONEncoder(default=stand_in, separators=(",", ":")).encode(value).split(_MARK)
    except (TypeError, ValueError) as error:
        msg = f"it cannot travel as JSON ({error})"
        raise NotSerializable(msg) from error
    if len(parts) != len(texts) + 1:
        return dumps(value)
    return "".join([part for pair in zip(parts, [*texts, ""], strict=True) for part in pair])
