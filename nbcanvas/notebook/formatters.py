"""How signatures, runs and explanations look as values of cells; with the shell, so that the language stays pure."""

from __future__ import annotations

from typing import Any, Final

from nbcanvas.canvas import Signature
from nbcanvas.canvas.shape import TYPES
from nbcanvas.picture.explain import Explanation, explanation_html
from nbcanvas.picture.markup import escape
from nbcanvas.run import AttachedRun, Recording, Run
from nbcanvas.run.views import Views

from .dry import canvas_bundle
from .live import still
from .session import Session
from .testing import tells_clocks

__all__ = ["register", "unregister"]

_RUNS: Final[tuple[type[Views], ...]] = (Run, AttachedRun, Recording)


def register(session: Session) -> None:
    """Show signatures with their picture, runs with their bars, explanations as lists."""

    def durations() -> bool:
        return tells_clocks(session.settings, session.shell)

    def told(run: Views) -> bool:
        return durations() and getattr(run, "clocks", True)

    def text_of_signature(sig: Signature, printer: Any, cycle: bool) -> None:
        printer.text(repr(sig) if not cycle else "…")

    def html_of_signature(sig: Signature) -> str | None:
        return canvas_bundle(sig).get("text/html")

    def text_of_run(run: Views, printer: Any, cycle: bool) -> None:
        if cycle:
            printer.text("…")
        else:
            printer.text(
                f"{_title(run, clocks=told(run))}\n{still(run, run.snapshot(), durations=told(run))['text/plain']}"
            )

    def html_of_run(run: Views) -> str:
        html: str = still(run, run.snapshot(), durations=told(run))["text/html"]
        gone = run.gone(clocks=told(run)) if isinstance(run, AttachedRun) else None
        return f"<div>{escape(gone, 300)}</div>{html}" if gone else html

    formatters = session.shell.display_formatter.formatters
    for kind in _signatures():
        formatters["text/plain"].for_type(kind, text_of_signature)
        formatters["text/html"].for_type(kind, html_of_signature)
    for run in _RUNS:
        formatters["text/plain"].for_type(run, text_of_run)
        formatters["text/html"].for_type(run, html_of_run)
    formatters["text/html"].for_type(Explanation, explanation_html)


def unregister(session: Session) -> None:
    """Take all of it back."""
    for mime in ("text/plain", "text/html"):
        formatter = session.shell.display_formatter.formatters[mime]
        for kind in (*_signatures(), *_RUNS, Explanation):
            formatter.pop(kind, None)


def _signatures() -> tuple[type[Signature], ...]:
    # A printer of dict stands before that of a base class for classes without one: each class is named.
    return (Signature, *TYPES.values())


def _title(run: Views, *, clocks: bool) -> str:
    if isinstance(run, Recording):
        said = "".join(f"; {note}" for note in run.notes)
        return f"Recording {run.name or run.id[:8]} · get() gives its value{said}"
    gone = run.gone(clocks=clocks) if isinstance(run, AttachedRun) else None
    if gone:
        return f"Run {run.name or run.id[:8]} · {gone}"
    return f"Run {run.name or run.id[:8]} · {run.handle}.get() waits for its value"
