"""Arguments as a text for people who watch, the same as Celery's (protocol 2: ``argsrepr``, ``kwargsrepr``).

Containers below a depth are shown as ``[...]``, the text stops after a length, and what is open then is closed; texts
are put in quotes but not escaped; numbers are `str`.  What fits costs no more than a repr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from numbers import Number
from typing import Any, Final, NamedTuple

from nbcanvas.plan.model import Gathered

__all__ = ["saferepr", "shown"]


def shown(value: Any) -> str:
    """Return the repr of any value; of one whose repr raises, its class."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not hide the real error
        return f"<{type(value).__qualname__}>"


class _Bit(NamedTuple):
    """Punctuation; `closes` a container that was opened."""

    text: str
    closes: bool = False


class _Key(NamedTuple):
    value: Any


_COMMA: Final = _Bit(", ")
_COLON: Final = _Bit(": ")
#: Types whose repr, alone or in a tuple, is Celery's text.
_SIMPLE: Final = frozenset({int, bool, float, type(None)})


def _itself(value: Any) -> Any:
    return value


def saferepr(value: Any, longest: int = 1024, deepest: int = 3, look: Callable[[Any], Any] = _itself) -> str:
    """Return a value as text.

    Parameters
    ----------
    value
        Anything.
    longest
        Characters, about.
    deepest
        Containers in each other; 0 for any number.
    look
        Applied to each item before it is shown, and to none that is not.
    """
    if type(value) is tuple and len(value) < 30 and _SIMPLE.issuperset(map(type, value)):
        text = repr(value)
        if len(text) < longest:
            return text
    return "".join(_texts(value, longest, deepest, look))


def _texts(value: Any, left: int, deepest: int, look: Callable[[Any], Any]) -> Iterator[str]:
    todo: list[Iterator[Any]] = [iter((value,))]
    closers: list[str] = []  # of each container that is open
    above: list[int] = []  # their identities
    while todo:
        for item in todo[-1]:
            one = look(item)
            inside = None if isinstance(one, _Bit | _Key) else _opened(one)
            hidden = inside is not None and bool(deepest) and len(closers) >= deepest
            if left <= 0:
                yield ", ..."
                yield from reversed(closers)
                return
            if inside is None:
                text = _text(one, left, deepest)
            elif hidden:
                text = f"{inside[0]}...{inside[1]}"
            elif id(one) in above:
                text = f"<Recursion on {type(one).__name__} with id={id(one)}>"
            else:
                text = inside[0]
                todo.append(inside[2])
                closers.append(inside[1])
                above.append(id(one))
            yield text
            left -= len(text)
            if inside is not None and not hidden and todo[-1] is inside[2]:
                break
        else:
            todo.pop()
            if closers:
                text = closers.pop()
                above.pop()
                yield text
                left -= len(text)


def _opened(value: Any) -> tuple[str, str, Iterator[Any]] | None:
    """Return how a container opens and closes, and what is between; None for anything else."""
    if isinstance(value, set | frozenset):
        if not value:
            return None
        start, end = ("{", "}") if type(value) is set else (f"{type(value).__name__}({{", "})")
        return start, end, _listed(iter(value))
    if isinstance(value, tuple) and type(value) is not Gathered:
        return "(", ",)" if len(value) == 1 else ")", _listed(iter(value))
    if isinstance(value, dict):
        return "{", "}", _paired(value)
    if isinstance(value, list | Gathered):
        return "[", "]", _listed(iter(value))
    return None


def _listed(items: Iterator[Any]) -> Iterator[Any]:
    for place, item in enumerate(items):
        if place:
            yield _COMMA
        yield item


def _paired(items: Mapping[Any, Any]) -> Iterator[Any]:
    for place, (key, item) in enumerate(items.items()):
        if place:
            yield _COMMA
        yield _Key(key)
        yield _COLON
        yield item


def _text(value: Any, left: int, deepest: int) -> str:  # noqa: PLR0911 - one a type
    if isinstance(value, _Bit):
        return value.text
    if isinstance(value, _Key):
        return saferepr(value.value, left, deepest)
    if isinstance(value, str):
        quoted = _cut(value, left).replace("'", "\\'")
        return f"'{quoted}'"
    if isinstance(value, bytes):
        return f"b'{_binary(value[:left])}{'...' if len(value) > left else ''}'"
    if isinstance(value, set | frozenset):
        return _cut(f"{type(value).__name__}()", left)
    if isinstance(value, Number) and not isinstance(value, Decimal):
        try:
            return _cut(str(value), left)
        except ValueError:  # more digits than Python writes out
            return f"<{type(value).__name__} of many digits>"
    return _cut(shown(value), left)


def _binary(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex()


def _cut(text: str, left: int) -> str:
    return text if len(text) < left else text[:left].rsplit(" ", 1)[0] + "..."
