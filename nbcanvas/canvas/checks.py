"""Bad input, said clearly: what it was, where it stood, what to do."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Final

from nbcanvas.errors import NotASignature, NotAVisitor

__all__ = ["NO_BODY", "bad_visitor", "not_a_signature"]

NO_BODY: Final = "this chord has no body; call it with one: chord(header)(body)"


def _described(value: Any) -> tuple[str, str]:  # noqa: PLR0911 - one line for each way to go wrong
    """Return what `value` is and what to do about it."""
    name = getattr(value, "__name__", None) or getattr(value, "name", None)
    short = str(name).rpartition(".")[2]
    if callable(getattr(value, "s", None)) and callable(getattr(value, "si", None)):
        return f"the task {getattr(value, 'name', name)} itself", f"call .s on it: {short}.s(...)"
    if value is None:
        return "None", "a step that returns nothing was built here; leave it out"
    if isinstance(value, str):
        return f"the text {reprlib.repr(value)}", f"for a task of that name write signature({reprlib.repr(value)})"
    if isinstance(value, Mapping):
        return 'a dictionary without the key "task"', "a signature as a dictionary has at least that key"
    if isinstance(value, type):
        return f"the class {value.__qualname__}", "pass a signature: task.s(...)"
    if callable(value) and name:
        hint = (
            "a lambda cannot be a task" if short == "<lambda>" else f"decorate it with @task and write {short}.s(...)"
        )
        return f"the function {short}", hint
    if hasattr(value, "get") and hasattr(value, "ready"):
        return f"{_article(value)}, the result of a call", "write task.s(...) where task.delay(...) was written"
    if hasattr(value, "__iter__") and not isinstance(value, bytes):
        return _article(value), "to run several in parallel put them into a group: group(...)"
    return f"{_article(value)}: {reprlib.repr(value)}", "pass a signature: task.s(...)"


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def not_a_signature(value: Any, where: str) -> NotASignature:
    """Return the error for `value` standing at `where` ("member 3 of a group")."""
    what, hint = _described(value)
    return NotASignature(f"{where} is not a signature but {what}; {hint}")


def bad_visitor(visitor: Any) -> NotAVisitor | None:
    """Return the error for what cannot be a visitor, None when it can."""
    if isinstance(visitor, type):
        return NotAVisitor(f"a visitor is an object, and this is the class itself: write {visitor.__name__}()")
    if not callable(getattr(visitor, "on_signature", None)):
        return NotAVisitor(
            f"{_article(visitor)} is no visitor: {visitor!r:.40}; pass a StampingVisitor, or stamps by name: label=..."
        )
    return None
