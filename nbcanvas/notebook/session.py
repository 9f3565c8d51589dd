"""One notebook's use of nbcanvas: its settings, its runs and its saved canvases, and how a canvas is started in it."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from pathlib import Path
from shlex import quote
from typing import Any, Final
from weakref import WeakSet

from nbcanvas.app import App, current_app
from nbcanvas.canvas import Signature, StampingVisitor
from nbcanvas.run import Recording, Run, prepare, set_audience, submit
from nbcanvas.run.recording import check_target

from .cell import show_frames
from .checks import refuse_unknown_or_wrong
from .cluster import ClusterView
from .dry import dry_run
from .failures import innermost
from .keeping import Recorder, replayed, write_module
from .live import GRACE, Bundle, LiveView, Publisher, still, text_of, wait_settled
from .names import app_named, refuse_taken, visitor_named
from .options import CellOptions
from .settings import NBCanvas
from .testing import Display, display_of, seed_once
from .waiting import NotebookAudience

__all__ = ["NOTHING", "Session", "Saved"]

#: Runs remembered for ``%canvas runs``.
_REMEMBERED: Final = 50


class Nothing:
    """Stands for "no value to show": a task may well return None."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = Nothing()
Saved = dict[str, Signature]


class Session:
    """What stands behind the magics of one shell.

    Parameters
    ----------
    shell
        The InteractiveShell.

    Attributes
    ----------
    settings
        ``%config NBCanvas``.
    publisher
        Moves the live views.
    runs
        The latest runs, oldest first.
    saved
        Canvases kept under a name.
    cluster
        The view of the cluster, if there is one.
    """

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.settings = NBCanvas(parent=shell)
        self.settings.read_files()
        self.publisher = Publisher()
        self.runs: deque[Run] = deque(maxlen=_REMEMBERED)
        self.saved: Saved = {}
        self.cluster: ClusterView | None = None
        self._apps: WeakSet[App] = WeakSet()
        set_audience(NotebookAudience(shell, self.settings))
        self._results: str | None = None
        self._keep_results()
        self.settings.observe(lambda _: self._keep_results(), "result_backend")
        if display_of(self.settings, shell) == "static":
            seed_once(current_app())

    def _keep_results(self) -> None:
        """Have the current app keep results where the settings say, if nobody told it otherwise."""
        conf, wanted = current_app().conf, self.settings.result_backend
        if wanted and conf.result_backend in {None, self._results}:
            self._results = conf.result_backend = wanted

    @property
    def namespace(self) -> MutableMapping[str, Any]:
        """The user's variables."""
        found: MutableMapping[str, Any] = self.shell.user_ns
        return found

    def close(self) -> None:
        """Stop moving views, and stop the embedded worker."""
        self.publisher.stop()
        if self.cluster is not None:
            self.cluster.stop()
        set_audience(None)
        for app in {current_app(), *self._apps}:
            app.stop_worker(timeout=1.0)

    def moved(self, before: App, app: App) -> None:
        """Hear that what follows is run elsewhere; what `before` runs goes on."""
        self._apps |= {before, app}
        if self.cluster is not None:
            self.cluster.stop()
            self.cluster = None

    # -- starting a canvas ------------------------------------------------------------------------------------------

    def canvas(self, sig: Signature, options: CellOptions) -> Any:
        """Start a canvas as the options say, show it, and return its value, or NOTHING when nobody waits for it.

        Parameters
        ----------
        sig
            The canvas; it is not changed.
        options
            What the line ``%%canvas`` says; the settings say the rest.

        Raises
        ------
        NBCanvasError
            For what is known to be wrong before anything is sent.
        """
        self._refuse_taken(options)
        app = app_named(self.namespace, options.app) if options.app else _own_app(sig)
        if options.save:
            self.saved[options.save] = self.namespace[options.save] = sig.clone()
        visitor = visitor_named(self.namespace, options.visitor) if options.visitor else None
        if options.write:
            path = Path(options.write).expanduser()
            write_module(path, sig, app, self._execution(options), options.stamps, visitor)
            if display_of(self.settings, self.shell) != "none":
                self.show_bundle({"text/plain": f"wrote {path}: python {quote(str(path))} runs it"})
        if options.dry_run:
            self.show_bundle(dry_run(sig, app))
            return NOTHING
        refuse_unknown_or_wrong(sig, app)
        settings = self.settings
        if settings.eager if options.eager is None else options.eager:
            return self._eagerly(sig, app, options, visitor)
        return self._on_the_worker(sig, app, options, visitor)

    def _on_the_worker(self, sig: Signature, app: App, options: CellOptions, visitor: StampingVisitor | None) -> Any:
        settings = self.settings
        display = self._before(app, options)
        self._prepare(app)
        run = submit(
            sig,
            app=app,
            options=self._execution(options),
            stamps=options.stamps or None,
            visitor=visitor,
            name=options.out,
        )
        self._bind(run, options)
        recorder = Recorder(run, Path(options.record).expanduser()) if options.record else None
        view = options.view or settings.view
        wait = (True if settings.wait else None) if options.wait is None else options.wait
        timeout = None if wait is None or wait is True else float(wait)
        waits = wait is not None or options.frame is not None
        try:
            self.show(run, display, view, waits=waits, timeout=timeout)
            if not waits:
                return NOTHING
            try:
                if options.frame:
                    self.namespace[options.frame] = run.wait(timeout).frame()
                return NOTHING if wait is None else run.get(timeout)
            finally:
                self._end(run, display, view)
        finally:
            if recorder is not None and run.done:  # whoever waited finds the file
                recorder.wait()

    def replay(self, options: CellOptions) -> Any:
        """Show a recorded run as if it had just run, and return its value, or NOTHING when nobody asks for it.

        Parameters
        ----------
        options
            What the line ``%%canvas`` says.

        Raises
        ------
        RecordingError
            When the file cannot be read.
        """
        self._refuse_taken(options)
        recording = Recording.read(Path(str(options.replay)).expanduser())
        if options.out:
            self.namespace[options.out] = recording
        display, view = display_of(self.settings, self.shell), options.view or str(self.settings.view)
        if "none" not in {display, view}:
            bundle = replayed(recording, view, durations=display != "static" and recording.clocks)
            self.show_bundle(text_of(bundle) if display == "text" else bundle)
        if options.frame:
            self.namespace[options.frame] = recording.frame()
        wait = (True if self.settings.wait else None) if options.wait is None else options.wait
        return NOTHING if wait is None else recording.get()

    def _eagerly(self, sig: Signature, app: App, options: CellOptions, visitor: StampingVisitor | None) -> Any:
        """Run a canvas in this thread; an exception arrives here with its real frames, for ``%debug``."""
        options.refuse_with_eager()
        display = self._before(app, options)
        execution = {name: value for name, value in self._execution(options).items() if name == "queue"}
        run = prepare(sig, app=app, options=execution, stamps=options.stamps or None, visitor=visitor, name=options.out)
        self._bind(run, options)
        try:
            run.run_here()
        except Exception as error:
            trace = innermost(error.__traceback__)
            if self.settings.short_errors and trace is not None:
                show_frames(self.shell, error, trace)
            raise
        finally:
            if options.record and run.done:
                Recorder(run, Path(options.record).expanduser()).wait()
            if options.view:
                self.show(run, display, options.view)
            if options.frame:
                self.namespace[options.frame] = run.frame()
        return run.get()

    def _refuse_taken(self, options: CellOptions) -> None:
        for option, name in (("-o", options.out), ("-f", options.frame), ("--save", options.save)):
            if name is not None:
                refuse_taken(self.namespace, option, name)

    def _before(self, app: App, options: CellOptions) -> Display:
        """See to what has to be right before a run is planned; return how it is shown."""
        display = display_of(self.settings, self.shell)
        if display == "static":
            seed_once(app)
        if options.record:
            check_target(Path(options.record).expanduser())
        return display

    def _bind(self, run: Run, options: CellOptions) -> None:
        self.runs.append(run)
        if options.out:
            self.namespace[options.out] = run

    def _end(self, run: Run, display: Display, view: str) -> None:
        """Let the cell that waited end with the still, of the state reached if the run goes on."""
        if run.done:
            self.publisher.finish(run)
        if display == "text" and view != "none" and not hasattr(self.shell, "kernel"):
            self.show_bundle(text_of(still(run, wait_settled(run) if run.done else run.snapshot(), view)))

    def _execution(self, options: CellOptions) -> dict[str, Any]:
        settings = self.settings
        defaults = {
            "queue": settings.queue,
            "priority": settings.priority,
            "countdown": settings.countdown,
            "expires": settings.expires,
            "time_limit": settings.timeout,
        }
        return {**{name: value for name, value in defaults.items() if value is not None}, **options.execution()}

    def _prepare(self, app: App) -> None:
        """Start the worker as the settings say, if it is not there; it will be stopped with the session."""
        self._apps.add(app)
        if app.worker is None and (self.settings.concurrency is not None or self.settings.pool is not None):
            app.start_worker(self.settings.concurrency, self.settings.pool)

    # -- showing ----------------------------------------------------------------------------------------------------

    def show(
        self,
        run: Run,
        display: Display | None = None,
        view: str | None = None,
        *,
        waits: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Show a run in the present cell.

        Parameters
        ----------
        run
            The run.
        display
            How; as the settings and the environment say by default.
        view
            What stays; as the settings say by default.
        waits
            Whether the cell will wait for the run anyway.
        timeout
            How long a static display, which has to wait, waits at most.
        """
        display = display or display_of(self.settings, self.shell)
        view = view or str(self.settings.view)
        if display == "static":
            try:
                run.wait(timeout)
            finally:  # a wait that ran out leaves what was reached
                state = wait_settled(run) if run.done else run.snapshot()
                if view != "none":
                    self.show_bundle(still(run, state, view, durations=False))
            return
        terminal = not hasattr(self.shell, "kernel")
        if "none" in {display, view} or (terminal and waits):
            return
        try:
            run.wait(GRACE)
        except TimeoutError:
            opened = LiveView(run, self.publish, display, view, replaces=not terminal)
            opened.open()
            self.publisher.add(opened)
        else:
            bundle = still(run, wait_settled(run), view)
            self.show_bundle(text_of(bundle) if display == "text" else bundle)

    def show_bundle(self, bundle: Bundle) -> None:
        """Show a bundle as an output of the present cell."""
        self.publish(bundle, None, False)

    def publish(self, bundle: Bundle, display_id: str | None, update: bool) -> None:
        """Put a bundle into the output of the present cell, or in the place of an earlier one."""
        transient = {} if display_id is None else {"display_id": display_id}
        self.shell.display_pub.publish(bundle, metadata={}, transient=transient, update=update)


def _own_app(sig: Signature) -> App:
    app = sig.app
    return app if isinstance(app, App) else current_app()
