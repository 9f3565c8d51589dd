"""A canvas as one line of text, as the Celery guide prints it; short however large the canvas is.

Task names of the module that the line starts with are printed without that module from the second one on. The text
has no memory addresses in it, so it is the same in every process.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .shape import kind_of, raw
from .trampoline import Walk, drive

if TYPE_CHECKING:
    from .signature import Signature

__all__ = ["call_text", "canvas_text"]

#: A composite with more members shows the first of them and how many are left out.
MANY = 12
SHOWN = 5
#: No text is longer than about this; what comes after is left out.
LONGEST = 600
DEEPEST = 24

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SPACE = re.compile(r"\s*\n\s*")

_short = reprlib.Repr()
_short.maxlevel = 4
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = _short.maxarray = 12
_short.maxstring = _short.maxother = 120
_short.maxlong = 60


def _value_text(value: Any) -> str:
    text = _ADDRESS.sub(
        "", repr(value) if isinstance(value, dict) and hasattr(value, "MEMBERS") else _short.repr(value)
    )
    return _SPACE.sub(" ", text) if "\n" in text else text


class _Line:
    """What is printed so far: a budget, and the module that need not be repeated."""

    def __init__(self) -> None:
        self.left = LONGEST
        self.module: str | None = None

    def name(self, task: Any) -> str:
        name = str(task)
        if self.module is None:
            self.module = name.rpartition(".")[0] + "." if "." in name else ""
            return name
        return name.removeprefix(self.module)

    def spend(self, text: str) -> str:
        self.left -= len(text)
        return text


def _arguments(args: Iterable[str], kwargs: dict[str, Any]) -> str:
    return ", ".join([*args, *(f"{key}={_value_text(value)}" for key, value in kwargs.items())])


def _values(args: Sequence[Any]) -> list[str]:
    texts = [_value_text(value) for value in args[:MANY]]
    if len(args) > MANY:
        texts.append(f"… {len(args) - MANY} more")
    return texts


def _some(line: _Line, members: Sequence[Any], depth: int) -> Walk:
    """Return the texts of as many members as fit."""
    shown = len(members) if len(members) <= MANY else SHOWN
    texts: list[str] = []
    for member in members[:shown]:
        if texts and line.left <= 0:
            break
        texts.append((yield _text(line, member, depth + 1)))
    if len(texts) < len(members):
        texts.append(f"… {len(members) - len(texts)} more")
    return texts


def _in_brackets(texts: list[str]) -> str:
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _header(sig: Signature) -> Sequence[Any]:
    header = raw(sig, "kwargs").get("header") or ()
    return list(raw(header, "kwargs")["tasks"]) if isinstance(header, dict) else header


def _text(line: _Line, sig: Any, depth: int) -> Walk:
    if depth > DEEPEST or line.left <= 0:
        return line.spend("…")
    kind = kind_of(sig)
    kwargs = raw(sig, "kwargs")
    if kind == "chain":
        texts = yield _some(line, kwargs["tasks"], depth)
        return " | ".join(texts) if texts else "<chain: empty>"
    if kind == "group":
        texts = yield _some(line, kwargs["tasks"], depth)
        return f"group({_in_brackets(texts)})" if texts else "group(<empty>)"
    if kind == "chord":
        return (yield _chord_text(line, sig, depth))
    if sig.MEMBERS:
        return line.spend(sig.members_text())
    return line.spend(f"{line.name(raw(sig, 'task'))}({_arguments(_values(raw(sig, 'args')), kwargs)})")


def _chord_text(line: _Line, sig: Signature, depth: int) -> Walk:
    body = raw(sig, "kwargs").get("body")
    if body is None:
        texts = yield _some(line, _header(sig), depth)
        return f"<chord without body: {_in_brackets(texts)}>"
    # In text a chord reads as a call of its body with the header as first argument.
    first, rest = body, []
    if kind_of(body) == "chain" and raw(body, "kwargs")["tasks"]:
        first, *rest = raw(body, "kwargs")["tasks"]
    if first.MEMBERS:
        header = _in_brackets((yield _some(line, _header(sig), depth)))
        text = f"{header} | {(yield _text(line, first, depth + 1))}"
    else:
        name = line.name(raw(first, "task"))
        header = _in_brackets((yield _some(line, _header(sig), depth)))
        inner = _arguments([header, *_values(raw(first, "args"))], raw(first, "kwargs"))
        text = line.spend(f"{name}(") + inner + ")"
    if rest:
        texts = yield _some(line, rest, depth)
        return f"%({text} | {' | '.join(texts)})"
    return f"%({text})" if first.MEMBERS else f"%{text}"


def canvas_text(sig: Signature) -> str:
    """Return the one-line text of a canvas."""
    text: str = drive(_text(_Line(), sig, 0))
    return text


def call_text(sig: Signature, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> str:
    """Return `sig` as a call, with `args` put before its own and `kwargs` merged over its own."""
    merged = {**raw(sig, "kwargs"), **(kwargs or {})}
    return f"{raw(sig, 'task')}({_arguments(_values((*args, *raw(sig, 'args'))), merged)})"
