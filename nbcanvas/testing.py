"""Apps for tests: fresh, alone, with the same ids every time, and able to say what failed in them.

The pytest plugin (`pytest_nbcanvas`) makes its fixtures of this; without pytest it is one context manager:

>>> from nbcanvas.testing import fresh_app
>>> with fresh_app(worker_concurrency=1) as app:
...     @app.task
...     def add(x, y):
...         return x + y
...     add.delay(2, 2).get(timeout=5)
4
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nbcanvas import states
from nbcanvas.app import App, Plan, current_app
from nbcanvas.backend.port import Record
from nbcanvas.picture.markup import call_text, error_text
from nbcanvas.plan import places
from nbcanvas.plan.graph import Place
from nbcanvas.protocol.payload import unpack_args
from nbcanvas.run.failures import Style, user_frames
from nbcanvas.task import Task

__all__ = ["WatchedApp", "fresh_app", "stop_worker", "what_went_wrong"]

#: Failures, and calls that have not ended, that are told of one canvas.
MOST: Final = 4
#: Seconds that what runs gets when a test is over.
PATIENCE: Final = 5.0


class WatchedApp(App):
    """An App that remembers what was started in it.

    Attributes
    ----------
    plans
        Every canvas that was sent, the oldest first.
    """

    def __init__(self, main: str | None = None, **settings: Any) -> None:
        self.plans: list[Plan] = []
        super().__init__(main, **settings)

    def publish(self, plan: Plan) -> None:
        """Start a plan, and remember it."""
        self.plans.append(plan)
        super().publish(plan)


@contextmanager
def fresh_app(main: str | None = None, **settings: Any) -> Iterator[WatchedApp]:
    """Give a test an app of its own: the current one, until the block ends.

    It knows the tasks of the app that was current before, so that those of imported modules run in it, and it gives
    the same ids every time.  Afterwards its worker is stopped, its messages and results are gone, and what was current
    before is again.

    Parameters
    ----------
    main, **settings
        As for `nbcanvas.App`.

    Yields
    ------
    WatchedApp
        The app.
    """
    before = current_app()
    app = WatchedApp(main, **settings)
    app.seed_ids(0)
    borrowed = [task for name, task in before.tasks.items() if name not in app.tasks]
    _move(borrowed, app)
    try:
        yield app
    finally:
        stop_worker(app)
        # What a test imported first was defined here, but belongs to its module, which is imported once only.
        imported = [task for task in app.tasks.values() if task not in borrowed and _is_of_a_module(task)]
        _move([*borrowed, *imported], before)
        before.set_current()


def _move(tasks: Sequence[Task], app: App) -> None:
    for task in tasks:
        task.bind(app)
        app.tasks.register(task)


def _is_of_a_module(task: Task) -> bool:
    return not task.name.startswith("celery.") and "<locals>" not in getattr(task.run, "__qualname__", "<locals>")


def stop_worker(app: App, timeout: float = PATIENCE) -> None:
    """Stop an app's worker, and warn when what runs in it does not end.

    Parameters
    ----------
    app
        The app; it need not have a worker.
    timeout
        Seconds to wait for what runs.
    """
    worker = app.worker
    if worker is None:
        return
    app.stop_worker(timeout)
    running = [slot.message.call.task for slot in worker.slots if slot.message is not None]
    if running:
        told = f"{', '.join(running)} still ran {timeout:g} seconds after the test, and nobody waits for it any more"
        warnings.warn(told, RuntimeWarning, stacklevel=2)


def what_went_wrong(app: App) -> list[str]:
    """Return, line by line, which calls of an app failed or have not ended; nothing when all is well.

    Parameters
    ----------
    app
        One made by `fresh_app`; of another one nothing is known.
    """
    lines: list[str] = []
    for plan in app.plans if isinstance(app, WatchedApp) else ():
        known = [(place, app.backend.get(place.call.id)) for place in places(plan.node)]
        lines += _failures(known)
        lines += _unfinished(known)
    return lines


Known = tuple[Place, Record | None]


def _failures(known: Sequence[Known]) -> Iterator[str]:
    failed = [(place, record) for place, record in known if record is not None and record.state == states.FAILURE]
    # What stood behind a failure ended with its exception, or a ChordError, and no worker ever ran it.
    own = [(place, record) for place, record in failed if record.worker is not None] or failed[:1]
    for place, record in own[:MOST]:
        after = f" after {record.retries} retr{'y' if record.retries == 1 else 'ies'}" if record.retries else ""
        yield f"{_said(place)} failed{after}: {error_text(record.exc)}"
        yield from user_frames(record.traceback or "", Style(file=_file))
    if len(own) > MOST:
        yield f"… and {len(own) - MOST} more failed"


def _unfinished(known: Sequence[Known]) -> Iterator[str]:
    # Links and errbacks may well never be called.
    left = [
        (place, record)
        for place, record in known
        if not place.role and (record is None or record.state not in states.READY_STATES)
    ]
    for place, record in left[:MOST]:
        yield f"{_said(place)} has not ended: {record.state if record is not None else states.PENDING}"
    if len(left) > MOST:
        yield f"… and {len(left) - MOST} more have not ended"


def _said(place: Place) -> str:
    call = call_text(place.call.task.rpartition(".")[2], *unpack_args(place.call.payload))
    return f"{place.path} → {call}" if place.path else call


def _file(file: str) -> str:
    """Return how pytest would call a file: by its path below the working directory, if it stands there."""
    path, here = Path(file), Path.cwd()
    return f'File "{path.relative_to(here) if path.is_relative_to(here) else path}"'
