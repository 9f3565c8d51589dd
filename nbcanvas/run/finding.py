"""Which runs there are: those of this process, found while they go on, while somebody holds them, and a little longer.

A run that has ended and that nobody holds is forgotten, but for the latest few; a notebook's session holds its
latest fifty.  Where results are kept in a database, runs are kept beside them: the canvas when it starts, and what
was heard of it every few seconds and when it ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from nbcanvas.app import App
from nbcanvas.backend.port import RunStore, StoredRun, flush_all
from nbcanvas.errors import NotSerializable
from nbcanvas.events.state import State

from . import plainly, stored
from .stored import VERSION, Kernel, Planned

if TYPE_CHECKING:
    from .run import Run

__all__ = ["found_again", "known", "remember"]

Found = TypeVar("Found", bound="Run")

log = logging.getLogger("nbcanvas.run")

#: Runs that are held when nobody else holds them.
_LATEST: Final = 20
#: Seconds between two looks at a run that goes on, at least; so many times as long as the last one took.
_EVERY: Final = 2.0
#: Seconds until the first one.
_FIRST: Final = 0.5
_SHARE: Final = 20.0
#: Seconds by which the first look at a large run is later, for each of its calls.
_FOR_EACH: Final = 2e-4
#: How long after its end a run is still listened to: links and errbacks may go on.
_AFTER: Final = 60.0
#: How long the end of the process waits for the last word on its runs.
_LAST_WORDS: Final = 5.0


class _Known:
    runs: ClassVar[weakref.WeakValueDictionary[str, Run]] = weakref.WeakValueDictionary()
    latest: ClassVar[deque[Run]] = deque(maxlen=_LATEST)


def remember(run: Run) -> None:
    """Make a run that starts one that can be found, in this process and where its results are kept."""
    _Known.runs[run.id] = run
    _Known.latest.append(run)
    store = run.app.backend.runs
    if store is not None:
        _keeper.add(_Kept(run, store))


def never_started(run: Run) -> None:
    """Forget a run whose first messages could not be sent."""
    _Known.runs.pop(run.id, None)
    with suppress(ValueError):
        _Known.latest.remove(run)
    _keeper.drop(run)


def found_again(run: Found) -> Found:
    """Make a run that was attached to one that can be found, while somebody holds it; returns it."""
    _Known.runs[run.id] = run
    return run


def known() -> Iterator[Run]:
    """Yield the runs of this process, the latest first."""
    runs = [run for ref in _Known.runs.valuerefs() if (run := ref()) is not None]
    return iter(sorted(runs, key=lambda run: run.started, reverse=True))


class _Kept:
    """A run that goes on, and is kept."""

    def __init__(self, run: Run, store: RunStore) -> None:
        self.run = run
        self.store = store
        self.version = -1
        self._waiting = self._closed = False
        self.next = monotonic() + _FIRST + len(run) * _FOR_EACH
        # What workers elsewhere go on with, whoever dies here, is kept before they hear of it.
        store.put(run.id, self._all, at_once=run.app.remote)

    def _all(self) -> StoredRun:
        run = self.run
        kernel = Kernel.here(elsewhere=run.app.remote)
        plan, said = self._plan(), b""  # of a run that begins nothing has been heard yet
        if self.store.trusted:
            state = run.snapshot()
            self.version, said = state.version, self._state(state)
        return StoredRun(run.id, run.name, run.started, run.finished, time(), str(kernel), VERSION, plan, said)

    def _plan(self) -> bytes:
        run = self.run
        planned = Planned(run.root, run.parent_id, run.canvas)
        if self.store.trusted:
            return stored.dump_plan(planned)
        try:
            return plainly.dump_plan(planned)
        except NotSerializable as error:
            log.warning("%r cannot be attached to from elsewhere: %s", run, error)
            return b""

    def _state(self, state: State) -> bytes:
        return stored.dump_state(state, self.run.app) if self.store.trusted else plainly.dump_state(self.run.id, state)

    def say(self) -> None:
        """Have what is known by then kept, in the thread that writes."""
        self.next = monotonic() + _EVERY
        if not (self._waiting or self._closed):  # while the store is away, what is to be said does not pile up
            self._waiting = True
            self.store.update(self.run.id, self._news)

    def close(self) -> None:
        """Say the last word."""
        self.say()
        self._closed = True

    def _news(self) -> dict[str, float | bytes | None]:
        """Return the columns that changed; once: whoever writes them repeats what could not be written."""
        self._waiting = False
        run, begun = self.run, monotonic()
        state = run.snapshot()
        news: dict[str, float | bytes | None] = {"seen": time(), "finished": run.finished}
        if state.version != self.version:
            news["state"] = self._state(state)
            self.version = state.version
            self.next += (monotonic() - begun) * _SHARE
        return news

    @property
    def over(self) -> bool:
        """Whether there is nothing to hear any more."""
        run = self.run
        if not run.done or run.finished is None:
            return False
        return run.snapshot().done or time() - run.finished > _AFTER


class _Keeper:
    """Says every few seconds what is known of the runs that go on; its thread ends when there are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, _Kept] = {}
        self._thread: threading.Thread | None = None

    def add(self, kept: _Kept) -> None:
        """Keep a run from now on."""
        with self._lock:
            self._kept[id(kept.run)] = kept
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="nbcanvas-runs", daemon=True)
                self._thread.start()
        kept.run.app.before_close(self.leave)
        kept.run.add_done_callback(lambda _: kept.say())

    def leave(self, app: App) -> None:
        """Say what is known of an app's runs, which is closed now, and nothing more."""
        with self._lock:
            gone = [kept for kept in self._kept.values() if kept.run.app is app]
            for kept in gone:
                del self._kept[id(kept.run)]
        for kept in gone:
            kept.close()

    def drop(self, run: Run) -> None:
        """Keep a run no longer."""
        with self._lock:
            kept = self._kept.pop(id(run), None)
        if kept is not None:
            kept.store.drop(run.id)

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(_FIRST)
            now = monotonic()
            for kept in list(self._kept.values()):
                try:
                    if kept.next <= now:
                        kept.say()
                    if kept.over:
                        kept.say()
                        with self._lock:
                            self._kept.pop(id(kept.run), None)
                except Exception:  # one run's trouble is not the others'
                    log.exception("%r cannot be kept", kept.run)
            with self._lock:
                if not self._kept:
                    self._thread = None
                    return

    def close(self) -> None:
        """Say what is known at the end of the process."""
        runs = list(self._kept.values())
        for kept in runs:
            kept.say()
        flush_all({kept.run.app.backend for kept in runs}, _LAST_WORDS)

    def forked(self) -> None:
        """Leave the runs to the parent."""
        self.__init__()  # type: ignore[misc]


_keeper = _Keeper()
atexit.register(_keeper.close)
os.register_at_fork(after_in_child=_keeper.forked)
