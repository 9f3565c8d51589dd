"""Apps for a test."""

from collections.abc import Iterator
from contextlib import contextmanager

from nbcanvas import App, current_app
from nbcanvas.canvas import set_default_host

__all__ = ["fresh_app", "rests"]


@contextmanager
def fresh_app(name: str) -> Iterator[App]:
    """Yield an app of its own, which is the current one meanwhile."""
    set_default_host(current_app)
    before = current_app()
    app = App(name)
    yield app
    app.stop_worker(timeout=5)
    before.set_current()


def rests(app: App) -> bool:
    """Whether nothing waits in an app without a cluster, and its worker is through with all it had.

    That the end of a task is told does not say so: links, errbacks and whatever follows are seen to after that.
    """
    worker, broker = app.worker, app.broker
    with broker._lock:  # a slot that waits for a message holds it while it takes one
        return not broker.waiting() and (worker is None or broker._idle == len(worker.slots))
