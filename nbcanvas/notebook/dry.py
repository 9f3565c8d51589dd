"""``--dry-run``: what a canvas would do, and what is wrong with it, with nothing sent."""

from __future__ import annotations

from typing import Any, cast

from nbcanvas.app import App
from nbcanvas.canvas import Signature
from nbcanvas.errors import NBCanvasError
from nbcanvas.picture.explain import explanation_html, in_words
from nbcanvas.picture.markup import escape
from nbcanvas.picture.svg import canvas_alt, canvas_html

from .checks import Problem, problems

__all__ = ["canvas_bundle", "dry_run"]


def dry_run(sig: Signature, app: App) -> dict[str, Any]:
    """Return what a canvas would do as html and text: its picture, in words, and a list of problems.

    Parameters
    ----------
    sig
        The canvas; it is neither run nor changed.
    app
        The app that would run it.
    """
    root, found = problems(sig, app)
    if root is None:
        return {"text/plain": _verdict(found), "text/html": _problems_html(found)}
    told = in_words(root, sig, app)
    return {
        "text/plain": f"{told}\n{_verdict(found)}",
        "text/html": f"<div>{canvas_html(root)}{explanation_html(told)}{_problems_html(found)}</div>",
    }


def canvas_bundle(sig: Signature) -> dict[str, Any]:
    """Return what a signature shows as the value of a cell: its text, and its picture beside it."""
    text = repr(sig)
    try:
        root = cast("App", sig.app).look(sig)
        picture, alt = canvas_html(root), canvas_alt(root)
    except NBCanvasError:
        return {"text/plain": text}  # it cannot run; its text says what it is
    html = (
        f'<div><code style="background:transparent">{escape(text, 400)}</code>'
        f'<div style="padding-top:6px" title="{escape(alt, 400)}">{picture}</div></div>'
    )
    return {"text/plain": text, "text/html": html}


def _verdict(found: list[Problem]) -> str:
    errors = sum(problem.severity == "error" for problem in found)
    head = "No problems found." if not found else f"{errors} of these would fail:" if errors else "Worth knowing:"
    return "\n".join([head, *(f"  {problem}" for problem in found)])


def _problems_html(found: list[Problem]) -> str:
    if not found:
        return "<p>✓ no problems found; nothing was sent</p>"
    items = "".join(f'<li style="list-style:none">{escape(str(problem), 600)}</li>' for problem in found)
    errors = sum(problem.severity == "error" for problem in found)
    head = f"{errors} of these would fail" if errors else "Worth knowing"
    return f"<p><b>{head}</b>; nothing was sent</p><ul>{items}</ul>"
