"""What a cell shows while a run goes on: a view that moves, and a still that takes its place.

One daemon thread, the `Publisher`, moves all views, ten times a second at most, and only what changed.  It exists while
there is something to move.  It works whatever the main thread does: while a cell runs, sleeps, or awaits.

How a page keeps up with a run
------------------------------
There is one kind of message: a *snapshot*, which is complete and numbered.  None builds on another.  Hence:

- a snapshot that is lost (jupyter_server drops messages when there are more than a thousand a second), or a gap in the
  numbers, needs no cure: the next one has it all;
- one that comes late or twice has a number that is not new, and is ignored;
- the *last* one before a pause may be lost as well.  So the publisher repeats itself every `REPEAT` seconds even if
  nothing happened (`LiveView.tick`; this is the one guarantee, and it asks nothing of the main thread).  In between,
  the page lets the clock run by itself;
- a page that hears nothing for longer says so (the kernel may be gone, or hogged by code that never lets other threads
  run), and asks once, through `ControlModel`; the answer is the next snapshot, and nothing depends on it;
- a page that comes late (reloaded, reopened, another tab) asks for the whole state, as all widgets do, and gets the
  present snapshot (`LiveWidget.get_state`) once the kernel is free; a second view in the same page has it at once.

When the run ends, the still replaces the view.  It can not where the page was reloaded meanwhile: a front end knows the
outputs it may replace only until then.  So the latest `KEPT` widgets stay, showing how it ended, and say so again to a
page that asks: one that was just being loaded when it ended may have missed it, and hears nothing more.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from time import monotonic, sleep, time
from typing import Any, Final

from IPython.core.getipython import get_ipython

from nbcanvas.events.state import State
from nbcanvas.picture import Picture, bars_picture, graph_picture, table_picture, timeline_picture
from nbcanvas.picture.bars import BarsModel, bars_html, bars_model, bars_text
from nbcanvas.picture.markup import cut
from nbcanvas.run import Run
from nbcanvas.run.views import Views

from .testing import Display

__all__ = ["GRACE", "KEPT", "REPEAT", "TICK", "LiveView", "Publisher", "settled", "still", "text_of", "wait_settled"]

log = logging.getLogger("nbcanvas.notebook")

#: Seconds between two messages of one run, at least.
TICK: Final = 0.1
#: Seconds between two messages of one run, at most.
REPEAT: Final = 5.0
#: As many widgets of runs that ended are kept, for pages that came late.
KEPT: Final = 20
#: A run that ends this soon gets its still at once, and no live view before it.
GRACE: Final = 0.05
#: The last events of a run may come this much after its last result.
LATE: Final = 1.0
#: All views together may take this share of the time …
_SHARE: Final = 0.2
#: … and as many of them go at full pace; more get slower, so that a page is not flooded.
_AT_ONCE: Final = 20

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


def still(run: Views, state: State, view: str = "bars", *, durations: bool = True) -> Bundle:
    """Return a picture of a run that stays: html and text.

    Parameters
    ----------
    run, state
        The run, alive or recorded, and what is known of it.
    view
        ``"bars"``, ``"graph"``, ``"timeline"`` or ``"table"``.
    durations
        Whether to show times; without them equal runs give equal pictures.
    """
    now = run._now  # noqa: SLF001 - the views of a run are one thing, in two rooms
    if view == "graph":
        picture: Picture = graph_picture(run.root, state, describe=run.describe)
    elif view == "timeline":
        picture = timeline_picture(state, now, durations)
    elif view == "table":
        picture = table_picture(state, run.value_of, run.describe, durations)
    else:
        picture = bars_picture(state, now, durations, run.gone(clocks=durations))
    return picture._repr_mimebundle_()


def text_of(bundle: Mapping[str, Any]) -> Bundle:
    """Return the text of a bundle alone."""
    return {"text/plain": bundle["text/plain"]}


def _somebody_is_there() -> bool:
    """Whether the present cell was sent by a front end with a person in front of it, who could answer a question.

    What executes notebooks (nbclient, hence nbconvert, papermill and ``jupyter execute``) says that nobody could.  It
    hears nothing of a run between two cells and after the last, and a page that is made of such a notebook prefers a
    widget, which needs a kernel, or at least a network, to html.
    """
    get_parent = getattr(get_ipython(), "get_parent", None)
    asked = get_parent().get("content", {}) if get_parent is not None else {}
    return bool(asked.get("allow_stdin", True))


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
        self._spoke = 0.0
        self._asked = False
        self._closed = False
        self._last: Bundle | None = None

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
        self._spoke = monotonic()
        self._publish(bundle, self._id, False)

    def _drawn(self, model: BarsModel) -> Bundle:
        bundle: Bundle = {"text/plain": bars_text(model), "text/html": bars_html(model)}
        return bundle if self._display == "live" else text_of(bundle)

    def _made(self, model: BarsModel) -> Any:
        """Return the widget, or None where widgets cannot be had, or make no sense: html is updated instead."""
        if not _somebody_is_there():
            return None
        try:
            from .widgets import ControlModel, LiveWidget

            control = ControlModel({"cancel": lambda _: self.run.cancel(), "tell": lambda _: self.ask()})
            return LiveWidget(self._snapshot(model), control, self.present)
        except (ImportError, OSError) as missing:
            log.info("no live widget, html instead: %s", missing)
            return None

    def _snapshot(self, model: BarsModel, *, over: bool = False) -> Mapping[str, Any]:
        self._seq += 1
        return {
            **asdict(model),
            "bars": [{**asdict(bar), "label": cut(bar.label), "task": cut(bar.task)} for bar in model.bars],
            "seq": self._seq,
            "name": cut(self.run.name or ""),
            "over": over,
            "every": REPEAT,
        }

    def present(self) -> Mapping[str, Any]:
        """Return the present snapshot, for a page that came late (in any thread)."""
        with self._lock:
            return self._snapshot(bars_model(self.run.snapshot(), time()), over=self._closed)

    def ask(self) -> None:
        """Speak at the next tick, even if nothing happened; at once when all is said (in any thread)."""
        self._asked = True
        if self._closed and self._widget is not None:
            self._widget.tell()

    def tick(self, beside: int = 1) -> bool:
        """Send what changed, or what was not said for long; return whether the view is closed.

        Parameters
        ----------
        beside
            How many views the publisher moves.
        """
        with self._lock:
            if self._closed:
                return True
            now = monotonic()
            final = settled(self.run)
            if final is not None:
                self._close(final)
                return True
            if now >= self._next:
                self._update(now)
                busy = (monotonic() - now) / _SHARE
                self._next = now + max(TICK, max(busy, TICK / _AT_ONCE) * beside)
            return False

    def _update(self, now: float) -> None:
        state = self.run.snapshot()
        changed = state.version != self._shown
        if not self._replaces or not (changed or self._asked or now - self._spoke >= REPEAT):
            return
        self._shown, self._spoke, self._asked = state.version, now, False
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
        try:
            if self._replaces:
                bundle = still(self.run, state, self._view)
                self._last = bundle if self._display == "live" else text_of(bundle)
                self._publish(self._last, self._id, True)
        finally:  # a still that cannot be drawn leaves the view, which says how it ended
            if self._widget is not None:
                self._widget.end(self._snapshot(bars_model(state, time()), over=True))

    def repeat(self) -> None:
        """Put the still in place once more."""
        if self._last is not None:
            self._publish(self._last, self._id, True)

    @property
    def widget(self) -> Any:
        """The widget, or None when html is updated instead."""
        return self._widget


class Publisher:
    """Moves all live views, from one daemon thread that exists while there are any."""

    def __init__(self) -> None:
        self._views: list[LiveView] = []
        self._ended: deque[Any] = deque()  # widgets
        self._stills: list[LiveView] = []
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

    def cell_begins(self, _info: object = None) -> None:
        """Put stills in place once more that took the place of html: between two cells nbclient does not listen."""
        with self._lock:  # of those that still count as moving, one may just have ended
            views, self._stills = [*self._stills, *(view for view in self._views if view.widget is None)], []
        for view in views:
            view.repeat()

    def stop(self) -> None:
        """Leave all views as they are."""
        with self._lock:
            views, self._views = self._views, []
            ended, self._ended = self._ended, deque()
            self._stills = []
        for view in views:
            view.leave()
        for widget in (*ended, *(view.widget for view in views)):
            if widget is not None:
                widget.close()

    def _loop(self) -> None:
        while True:
            with self._lock:
                views = list(self._views)
            over = [view for view in views if self._ticked(view, len(views))]
            with self._lock:
                self._ended.extend(view.widget for view in self._views if view in over and view.widget is not None)
                self._stills += [view for view in over if view.widget is None]
                self._views = [view for view in self._views if view not in over]
                gone = [self._ended.popleft() for _ in range(len(self._ended) - KEPT)]
                if ends := not self._views:
                    self._thread = None
            for widget in gone:
                widget.close()
            if ends:
                return
            sleep(TICK)

    @staticmethod
    def _ticked(view: LiveView, beside: int) -> bool:
        try:
            return view.tick(beside)
        except Exception:  # one view that cannot be drawn must not stop the others
            log.exception("the live view of %r ended", view.run)
            return True
