"""How signatures, runs and explanations look as values of cells; with the shell, so that the language stays pure."""

from __future__ import annotations

from time import time
from typing import Any

from nbcanvas.canvas import Signature
from nbcanvas.canvas.shape import TYPES
from nbcanvas.picture.bars import bars_model, bars_text
from nbcanvas.picture.explain import Explanation, explanation_html
from nbcanvas.run import Run

from .dry import canvas_bundle
from .live import still
from .session import Session
from .testing import tells_clocks

__all__ = ["register", "unregister"]


def register(session: Session) -> None:
    """Show signatures with their picture, runs with their bars, explanations as lists."""

    def durations() -> bool:
        return tells_clocks(session.settings, session.shell)

    def text_of_signature(sig: Signature, printer: Any, cycle: bool) -> None:
        printer.text(repr(sig) if not cycle else "…")

    def html_of_signature(sig: Signature) -> str | None:
        return canvas_bundle(sig).get("text/html")

    def text_of_run(run: Run, printer: Any, cycle: bool) -> None:
        if cycle:
            printer.text("…")
        else:
            printer.text(f"{_title(run)}\n{bars_text(bars_model(run.snapshot(), time()), durations=durations())}")

    def html_of_run(run: Run) -> str:
        html: str = still(run, run.snapshot(), durations=durations())["text/html"]
        return html

    formatters = session.shell.display_formatter.formatters
    for kind in _signatures():
        formatters["text/plain"].for_type(kind, text_of_signature)
        formatters["text/html"].for_type(kind, html_of_signature)
    formatters["text/plain"].for_type(Run, text_of_run)
    formatters["text/html"].for_type(Run, html_of_run)
    formatters["text/html"].for_type(Explanation, explanation_html)


def unregister(session: Session) -> None:
    """Take all of it back."""
    for mime in ("text/plain", "text/html"):
        formatter = session.shell.display_formatter.formatters[mime]
        for kind in (*_signatures(), Run, Explanation):
            formatter.pop(kind, None)


def _signatures() -> tuple[type[Signature], ...]:
    # A printer of dict stands before that of a base class for classes without one: each class is named.
    return (Signature, *TYPES.values())


def _title(run: Run) -> str:
    return f"Run {run.name or run.id[:8]} · {run.name or 'run'}.get() waits for its value"
