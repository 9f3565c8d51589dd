"""Which way a cell shows its canvas: live for a person, still and reproducible under a test runner."""

from __future__ import annotations

import os
from typing import Any, Final, Literal
from weakref import WeakSet

from nbcanvas.app import App

from .errors import UnknownOption
from .settings import DISPLAYS, NBCanvas

__all__ = ["ENVIRONMENT", "Display", "display_of", "seed_once", "tells_clocks"]

#: ``static``, ``live``, ``text`` or ``none``; it overrules every setting.
ENVIRONMENT: Final = "NBCANVAS_DISPLAY"
#: pytest sets this, and a kernel that nbval starts inherits it.
_UNDER_TEST: Final = "PYTEST_CURRENT_TEST"

Display = Literal["live", "static", "text", "none"]

_seeded: WeakSet[App] = WeakSet()


def seed_once(app: App) -> None:
    """Let an app give the same ids in every process: once, or what it has run would be run over."""
    if app not in _seeded:
        _seeded.add(app)
        app.seed_ids(0)


def tells_clocks(settings: NBCanvas, shell: Any) -> bool:
    """Whether cells say when, how long and on which host: not where a test runner compares them.

    Everything that is shown asks here: stills, frames, the panel, failures.
    """
    return display_of(settings, shell) != "static"


def display_of(settings: NBCanvas, shell: Any) -> Display:
    """Return how to show a canvas.

    ``live``
        a view that moves, replaced by a still when the run ends;
    ``static``
        the cell waits and shows one still, with seeded ids and without durations, so that a test runner can compare;
    ``text``
        the same as text, for terminals: shown as the run begins, or at its end when the cell waits for it;
    ``none``
        nothing.

    Raises
    ------
    UnknownOption
        When the environment variable says something else.
    """
    asked = os.environ.get(ENVIRONMENT) or str(settings.display)
    if asked not in DISPLAYS:
        raise UnknownOption.of(f"value of {ENVIRONMENT}:", asked, DISPLAYS, f"it can be {', '.join(DISPLAYS[1:])}")
    if asked == "auto":
        asked = "static" if _UNDER_TEST in os.environ else "live"
    if asked == "live" and not hasattr(shell, "kernel"):
        asked = "text"  # a terminal cannot replace what it has shown
    return asked  # type: ignore[return-value]
