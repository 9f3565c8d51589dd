"""The values of one stamp as colours, each with its text; of many values the rest is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final

from nbcanvas.plan import Call

from .markup import cut, value_text

__all__ = ["NONE", "OTHER", "Stamped"]

#: Fill and stroke of the values, in the order in which they first appear; dark ink reads on each fill.
_COLOURS: Final = (
    ("#d3e4fb", "#3b7dd1"),
    ("#fde0c2", "#c26a12"),
    ("#cfeed9", "#2c8f5c"),
    ("#fad5e6", "#c9518a"),
    ("#e4d9f9", "#8664c9"),
    ("#f7edad", "#8f7a14"),
    ("#c6ecec", "#1c8b8e"),
    ("#ecd9c7", "#976b43"),
)
OTHER: Final = "other"
NONE: Final = "not stamped"
_GREY: Final = ("#e3e5e8", "#767c85")
_BLANK: Final = ("#f7f8f9", "#767c85")


class Stamped:
    """Which values of a stamp the calls of a canvas have.

    Parameters
    ----------
    name
        The stamp.
    calls
        The calls.

    Attributes
    ----------
    counts
        How many calls have each value, values as texts; `OTHER` for what has no colour of its own, `NONE` for calls
        without the stamp.

    Raises
    ------
    ValueError
        When no call has such a stamp; it names those there are.
    """

    def __init__(self, name: str, calls: Iterable[Call]) -> None:
        self.name = name
        self._known: dict[int, tuple[str, ...]] = {}  # by the call's identity
        listed = list(calls)
        found: Counter[str] = Counter(text for call in listed for text in self._texts(call))
        if not found:
            raise ValueError(_unknown(name, listed))
        # `most_common` keeps the order of first appearance among equals.
        room = len(_COLOURS) if len(found) <= len(_COLOURS) else len(_COLOURS) - 1
        kept = {text for text, _ in found.most_common(room)}
        self._colour = dict(zip((text for text in found if text in kept), _COLOURS, strict=False))
        self.counts: dict[str, int] = {text: found[text] for text in self._colour}
        if rest := sum(found.values()) - sum(self.counts.values()):
            self.counts[OTHER] = rest
        if without := sum(not self._texts(call) for call in listed):
            self.counts[NONE] = without

    def _texts(self, call: Call) -> tuple[str, ...]:
        if not call.stamps or self.name not in call.stamps:
            return ()
        found = self._known.get(id(call))
        if found is None:
            texts = dict.fromkeys(_text(value) for value in _listed(call.stamps[self.name]))
            found = self._known[id(call)] = tuple(texts)
        return found

    def values(self, calls: Sequence[Call]) -> list[str]:
        """Return the values that calls have, the most frequent first; `NONE` for calls that have none."""
        found = Counter(text for call in calls for text in (self._texts(call) or (NONE,)))
        return [text for text, _ in found.most_common()]

    def colours(self, value: str) -> tuple[str, str]:
        """Return the fill and the stroke of a value."""
        return _BLANK if value == NONE and NONE not in self._colour else self._colour.get(value, _GREY)

    def line(self, calls: Sequence[Call]) -> str:
        """Say which values calls have, shortly."""
        values = self.values(calls)
        if values == [NONE]:
            return NONE
        more = f" +{len(values) - 2}" if len(values) > 2 else ""
        return cut(f"{self.name} {', '.join(cut(value, 14) for value in values[:2])}", 30) + more


def _text(value: Any) -> str:
    return cut(value, 40) if isinstance(value, str) else value_text(value, 40)


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return value if isinstance(value, list | tuple) else (value,)


def _unknown(name: str, calls: Sequence[Call]) -> str:
    there = [str(stamp) for stamp in dict.fromkeys(stamp for call in calls for stamp in call.stamps or ())]
    if not there:
        return (
            f"no task has a stamp {cut(str(name), 60)!r}: nothing here is stamped; "
            "stamp with `%%canvas -s experiment=42` or with sig.stamp(experiment=42)"
        )
    near = get_close_matches(str(name), there, 1)
    hint = f"; did you mean {cut(near[0], 60)!r}?" if near else ""
    listed = ", ".join(repr(cut(stamp, 60)) for stamp in there[:12]) + (", …" if len(there) > 12 else "")
    return f"no task has a stamp {cut(str(name), 60)!r}{hint}; the stamps there are: {listed}"
