"""What a cell shows while a run goes on: a view that moves, and a still that takes its place.

One daemon thread publishes for all runs, ten times a second at most, and only what changed.  It exists while there is
something to publish.  Everything it sends is complete, so nothing depends on a message that got lost.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from time import monotonic, sleep, time
from typing import Any, Final

from nbcanvas.events.state import State
from nbcanvas.picture.bars import BarsModel, bars_html, bars_model, bars_text
from nbcanvas.picture.svg import canvas_alt, canvas_html
from nbcanvas.run import Run

from .testing import Display

__all__ = ["GRACE", "TICK", "LiveView", "Publisher", "settled", "still", "text_of", "wait_settled"]

log = logging.getLogger("nbcanvas.notebook")

#: Seconds between two messages of one run.
TICK: Final = 0.1
#: A run that ends this soon gets its still at once, and no live view before it.
GRACE: Final = 0.05
#: The last events of a run may come this much after its last result.
LATE: Final = 1.0
#: A tick may take this share of the time.
_SHARE: Final = 0.2

Bundle = dict[str, Any]
#: Publishes a bundle: (bundle, display id, whether it replaces an earlier one).
Publish = Callable[[Bundle, str | None, bool], None]


def settled(run: Run) -> State | None:
    """Return what is known of a run once all of it is known, None before that."""
    if not run.done:
        return None
    state = run.snapshot()
    late = run.finished is not None and time() - run.finished > LATE
    return state if state.done or late else None


def wait_settled(run: Run) -> State:
    """Wait for the last events of a run that is done."""
    while (state := settled(run)) is None:
        sleep(0.001)
    return state


def still(run: Run, state: State, view: str = "bars", *, durations: bool = True) -> Bundle:
    """Return a picture of a run that stays: html and text.

    Parameters
    ----------
    run, state
        The run, and what is known of it.
    view
        ``"bars"``, ``"graph"`` or ``"table"``.
    durations
        Whether to show times; without them equal runs give equal pictures.
    """
    model = bars_model(state, time())
    text = bars_text(model, durations=durations)
    if view == "graph":
        return {"text/plain": f"{canvas_alt(run.root, state)}\n{text}", "text/html": canvas_html(run.root, state)}
    if view == "table":
        return _table(run, durations=durations)
    return {"text/plain": text, "text/html": bars_html(model, durations=durations)}


def text_of(bundle: Mapping[str, Any]) -> Bundle:
    """Return the text of a bundle alone."""
    return {"text/plain": bundle["text/plain"]}


#: The columns of ``--view table``, and those of them that differ from run to run.
_COLUMNS: Final = ("name", "path", "args", "state", "result", "error", "worker", "retries", "runtime")
_VOLATILE: Final = frozenset({"worker", "runtime"})


def _table(run: Run, *, durations: bool) -> Bundle:
    frame = run.frame()
    shown = frame[[name for name in _COLUMNS if name in frame.columns and (durations or name not in _VOLATILE)]]
    return {"text/plain": repr(shown), "text/html": shown.to_html(max_rows=60, border=0)}


class LiveView:
    """The display of one run: opened in a cell, moved by the publisher, closed with a still.

    Parameters
    ----------
    run
        The run.
    publish
        Puts bundles into the cell's output.
    display
        ``"live"`` or ``"text"``.
    view
        What stays when the run has ended.
    replaces
        Whether the front end can replace what it has shown (a terminal cannot).
    """

    def __init__(
        self, run: Run, publish: Publish, display: Display = "live", view: str = "bars", *, replaces: bool = True
    ) -> None:
        self.run = run
        self._replaces = replaces
        self._publish = publish
        self._display = display
        self._view = view
        self._id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._widget: Any = None
        self._shown = -1
        self._seq = 0
        self._next = 0.0
        self._closed = False

    def open(self) -> None:
        """Show the view (in the thread of the cell)."""
        state = self.run.snapshot()
        model = bars_model(state, time())
        bundle = self._drawn(model)
        if self._display == "live":
            self._widget = self._made(model)
            if self._widget is not None:
                bundle["application/vnd.jupyter.widget-view+json"] = self._widget.view_spec()
        self._shown = state.version
        self._publish(bundle, self._id, False)

    def _drawn(self, model: BarsModel) -> Bundle:
        bundle: Bundle = {"text/plain": bars_text(model), "text/html": bars_html(model)}
        return bundle if self._display == "live" else text_of(bundle)

    def _made(self, model: BarsModel) -> Any:
        """Return the widget, or None where widgets cannot be had: html is updated instead."""
        try:
            from .widgets import CancelModel, LiveWidget

            return LiveWidget(self._snapshot(model), CancelModel(self.run.cancel))
        except (ImportError, OSError) as missing:
            log.info("no live widget, html instead: %s", missing)
            return None

    def _snapshot(self, model: BarsModel) -> Mapping[str, Any]:
        self._seq += 1
        return {
            **asdict(model),
            "bars": [asdict(bar) for bar in model.bars],
            "seq": self._seq,
            "name": self.run.name or "",
        }

    def tick(self) -> bool:
        """Send what changed, if it is time to; return whether the view is closed (in the publisher's thread)."""
        with self._lock:
            if self._closed:
                return True
            now = monotonic()
            final = settled(self.run)
            if final is not None:
                self._close(final)
                return True
            if now >= self._next:
                self._update()
                self._next = now + max(TICK, (monotonic() - now) / _SHARE)
            return False

    def _update(self) -> None:
        state = self.run.snapshot()
        if state.version == self._shown or not self._replaces:
            return
        self._shown = state.version
        model = bars_model(state, time())
        if self._widget is not None:
            self._widget.snapshot = self._snapshot(model)
        else:
            self._publish(self._drawn(model), self._id, True)

    def finish(self) -> None:
        """Put the still in place now; the run is done."""
        state = wait_settled(self.run)
        with self._lock:
            if not self._closed:
                self._close(state)

    def leave(self) -> None:
        """Stop moving, with what is known now (the extension is unloaded)."""
        with self._lock:
            if not self._closed:
                self._close(self.run.snapshot())

    def _close(self, state: State) -> None:
        self._closed = True
        if self._replaces:
            bundle = still(self.run, state, self._view)
            self._publish(bundle if self._display == "live" else text_of(bundle), self._id, True)
        if self._widget is not None:
            self._widget.close()


class Publisher:
    """Moves all live views, from one daemon thread that exists while there are any."""

    def __init__(self) -> None:
        self._views: list[LiveView] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, view: LiveView) -> None:
        """Move this view from now on."""
        with self._lock:
            self._views.append(view)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="nbcanvas-publisher", daemon=True)
                self._thread.start()

    def finish(self, run: Run) -> None:
        """Put the stills of a run that is done in place, now."""
        with self._lock:
            views = [view for view in self._views if view.run is run]
        for view in views:
            view.finish()

    def stop(self) -> None:
        """Leave all views as they are."""
        with self._lock:
            views, self._views = self._views, []
        for view in views:
            view.leave()

    def _loop(self) -> None:
        while True:
            with self._lock:
                views = list(self._views)
                if not views:
                    self._thread = None
                    return
            over = [view for view in views if self._ticked(view)]
            with self._lock:
                self._views = [view for view in self._views if view not in over]
                if not self._views:
                    self._thread = None
                    return
            sleep(TICK)

    @staticmethod
    def _ticked(view: LiveView) -> bool:
        try:
            return view.tick()
        except Exception:  # one view that cannot be drawn must not stop the others
            log.exception("the live view of %r ended", view.run)
            return True
