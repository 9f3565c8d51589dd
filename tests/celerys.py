"""Apps of Celery's for a test; nothing of ours is imported here."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["unshared"]


def unshared(app: Any) -> Any:
    """Return an app of Celery's whose tasks are its own: by default all of a process share them, later ones, too."""
    app.task = functools.partial(app.task, shared=False)
    return app
