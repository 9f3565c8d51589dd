"""What every picture shares: how states look, how text is escaped and cut, how numbers and times are written."""

from __future__ import annotations

import base64
import re
import reprlib
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape as _escape
from typing import Any, Final, NamedTuple

from nbcanvas import states

__all__ = [
    "LOOKS",
    "Look",
    "call_text",
    "css",
    "cut",
    "data_uri",
    "duration",
    "error_text",
    "escape",
    "names",
    "number",
    "plural",
    "short",
    "value_text",
    "extent",
]

LIMIT: Final = 200
#: Characters that XML 1.0 does not allow, those that would turn the writing direction of what follows, and those that
#: nobody sees (but the joiners, which some scripts need).
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)

_SPACE: Final = re.compile("[ \t\r\n\f\v]+")


class Look(NamedTuple):
    """How a state looks: never by colour alone.

    Attributes
    ----------
    word
        What it is called beside a picture.
    glyph
        One character.
    colour
        Reads on white and on black.
    variables
        CSS variables of the notebook's theme, or of a page of ours, that are preferred to `colour`.
    """

    word: str
    glyph: str
    colour: str
    variables: str = ""


LOOKS: Final = {
    states.SUCCESS: Look("succeeded", "✓", "#2f9461", "--jp-success-color1,var(--vscode-testing-iconPassed,"),
    states.FAILURE: Look("failed", "✗", "#dc4f4f", "--jp-error-color1,var(--vscode-testing-iconFailed,"),
    states.REVOKED: Look("revoked", "⊘", "#a066c4", "--nbc-revoked,"),
    states.REJECTED: Look("rejected", "⊗", "#a066c4", "--nbc-revoked,"),
    states.IGNORED: Look("ignored", "∅", "#858b94", "--nbc-faint,"),
    states.PROGRESS: Look("running", "▶", "#3d8bd9", "--jp-brand-color1,var(--vscode-charts-blue,"),
    states.STARTED: Look("running", "▶", "#3d8bd9", "--jp-brand-color1,var(--vscode-charts-blue,"),
    states.RETRY: Look("waiting to retry", "↻", "#cc8412", "--jp-warn-color1,var(--vscode-charts-orange,"),
    states.REPLACED: Look("replaced", "⇢", "#7890ab", "--nbc-sent,"),
    states.REPLACED: Look("replaced", "⇢", "#7890ab", "--nbc-sent,"),
    states.RECEIVED: Look("received", "●", "#7890ab", "--nbc-sent,"),
    states.SENT: Look("sent", "→", "#7890ab", "--nbc-sent,"),
    states.WAITING: Look("waiting", "○", "#858b94", "--nbc-faint,"),
    states.PENDING: Look("pending", "○", "#858b94", "--nbc-faint,"),
}


def css(look: Look, attribute: str = "color") -> str:
    """Return a colour for a style: the look's own, then the theme's, which is dropped where variables are not allowed.

    JupyterLab drops them in notebooks it does not trust.
    """
    plain = f"{attribute}:{look.colour}"
    if not look.variables:
        return plain
    closing = ")" * (look.variables.count("var(") + 1)
    return f"{plain};{attribute}:var({look.variables}{look.colour}{closing}"


def cut(text: str, limit: int = LIMIT) -> str:
    """Return `text` on one line, cut to `limit` characters; an ellipsis is the last of them then."""
    text = _UNSAFE.sub("\ufffd", _SPACE.sub(" ", text[: 4 * limit])).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def escape(text: object, limit: int = LIMIT) -> str:
    """Return any text so that it stands for itself inside html and svg, attributes included; cut to `limit`."""
    return _escape(cut(str(text), limit), quote=True)


#: How wide characters are, in parts of the font's size; of the widest of the usual system fonts.
_WIDTHS: Final = {
    **dict.fromkeys("ijl.,:;'|!", 0.33),
    **dict.fromkeys("tfr()[]/ -", 0.42),
    **dict.fromkeys("mMW@%—", 0.98),
    **dict.fromkeys("wGOQNDH", 0.82),
}


def extent(text: str, size: float = 12) -> float:
    """Return about how wide a text is, in pixels: a bit more than most fonts need."""
    return size * sum(_WIDTHS.get(char) or _em(char) for char in text)


def _em(char: str) -> float:
    if char < "\x7f":
        return 0.7 if char.isupper() else 0.63
    if unicodedata.combining(char):
        return 0.0
    return 1.05 if unicodedata.east_asian_width(char) in "WF" else 0.72


class _Short(reprlib.Repr):
    """Writes any value shortly: without memory addresses, and whatever its own repr does."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = 8
        self.maxstring = self.maxother = 120

    def repr_instance(self, x: Any, level: int) -> str:
        try:
            text = repr(x)
        except Exception:  # noqa: BLE001 - a broken repr must not take the whole picture with it
            return f"<{type(x).__name__}>"
        return _ADDRESS.sub("", cut(text, self.maxother))


_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_short = _Short()


def value_text(value: Any, limit: int = 60) -> str:
    """Return any value as a short text on one line; the same in every process."""
    return cut(_short.repr(value), limit)


def call_text(task: str, args: Sequence[Any], kwargs: Mapping[str, Any], limit: int = 80) -> str:
    """Return a call as a person would write it, ``add(17, None)``."""
    said = [value_text(value, 40) for value in args[:8]] + ["…"] * (len(args) > 8)
    said += [f"{cut(str(name), 40)}={value_text(kwargs[name], 40)}" for name in list(kwargs)[:8]]
    return cut(f"{cut(task, 60)}({', '.join(said)})", limit)


def error_text(error: BaseException | str | None, limit: int = 160) -> str:
    """Return an error on one line, as the last line of a traceback has it."""
    if error is None or isinstance(error, str):
        return cut(error or "", limit)
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an exception of the user's, whose text cannot be had
        said = ""
    name = type(error).__name__
    return cut(f"{name}: {said}" if said else name, limit)


def short(task: str) -> str:
    """Return the last part of a task's name."""
    return task.rpartition(".")[2] or task


def names(tasks: set[str]) -> dict[str, str]:
    """Return a short name for each task, on one line; those that would be alike keep their full name."""
    taken: dict[str, int] = {}
    for task in tasks:
        taken[short(task)] = taken.get(short(task), 0) + 1
    return {task: cut(short(task) if taken[short(task)] == 1 else task, 100) or "(no name)" for task in tasks}


def plural(count: int, word: str) -> str:
    """Return ``1 task``, ``12 tasks``."""
    return f"{number(count)} {word}" + ("" if count == 1 else "s")


def number(count: float) -> str:
    """Return a number with its thousands apart."""
    return f"{count:,.0f}".replace(",", "\u202f") if abs(count) >= 10_000 else f"{count:.0f}"


def duration(seconds: float) -> str:
    """Return seconds as a person would say them."""
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440} days"


def data_uri(svg: str) -> str:
    """Return an svg picture as the address of itself."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")
