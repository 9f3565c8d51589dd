"""Apps for a test."""

from collections.abc import Iterator
from contextlib import contextmanager

from nbcanvas import App, current_app
from nbcanvas.canvas import set_default_host

__all__ = ["fresh_app"]


@contextmanager
def fresh_app(name: str) -> Iterator[App]:
    """Yield an app of its own, which is the current one meanwhile."""
    set_default_host(current_app)
    before = current_app()
    app = App(name)
    yield app
    app.stop_worker(timeout=5)
    before.set_current()
