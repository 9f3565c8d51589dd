"""What every picture shares: how states look, how text is escaped and cut, how numbers and times are written."""

from __future__ import annotations

import base64
import re
from html import escape as _escape
from typing import Final, NamedTuple

from nbcanvas import states

__all__ = ["LOOKS", "Look", "css", "cut", "data_uri", "duration", "escape", "names", "number", "plural", "short"]

LIMIT: Final = 200
#: Characters that XML 1.0 does not allow, and those that would turn the writing direction of what follows.
_UNSAFE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

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
        CSS variables of the notebook's theme that are preferred to `colour`.
    """

    word: str
    glyph: str
    colour: str
    variables: str = ""


LOOKS: Final = {
    states.SUCCESS: Look("succeeded", "✓", "#2f9461", "--jp-success-color1,var(--vscode-testing-iconPassed,"),
    states.FAILURE: Look("failed", "✗", "#dc4f4f", "--jp-error-color1,var(--vscode-testing-iconFailed,"),
    states.REVOKED: Look("revoked", "⊘", "#a066c4"),
    states.REJECTED: Look("rejected", "⊗", "#a066c4"),
    states.IGNORED: Look("ignored", "∅", "#858b94"),
    states.PROGRESS: Look("running", "▶", "#3d8bd9", "--jp-brand-color1,var(--vscode-charts-blue,"),
    states.STARTED: Look("running", "▶", "#3d8bd9", "--jp-brand-color1,var(--vscode-charts-blue,"),
    states.RETRY: Look("waiting to retry", "↻", "#cc8412", "--jp-warn-color1,var(--vscode-charts-orange,"),
    states.RECEIVED: Look("received", "●", "#7890ab"),
    states.SENT: Look("sent", "→", "#7890ab"),
    states.WAITING: Look("waiting", "○", "#858b94"),
    states.PENDING: Look("pending", "○", "#858b94"),
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


def short(task: str) -> str:
    """Return the last part of a task's name."""
    return task.rpartition(".")[2] or task


def names(tasks: set[str]) -> dict[str, str]:
    """Return a short name for each task; those that would be alike keep their full name."""
    taken: dict[str, int] = {}
    for task in tasks:
        taken[short(task)] = taken.get(short(task), 0) + 1
    return {task: short(task) if taken[short(task)] == 1 else task for task in tasks}


def plural(count: int, word: str) -> str:
    """Return ``1 task``, ``12 tasks``."""
    return f"{number(count)} {word}" + ("" if count == 1 else "s")


def number(count: float) -> str:
    """Return a number with its thousands apart."""
    return f"{count:,.0f}".replace(",", "\u202f") if abs(count) >= 10_000 else f"{count:.0f}"


def duration(seconds: float) -> str:
    """Return seconds as a person would say them."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
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
