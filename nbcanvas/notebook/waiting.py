"""Waiting in a cell: an interrupt stops the waiting, never the run; a second one soon after cancels it.

The notebook is the audience of every wait for a Run (`nbcanvas.run.Audience`): what a wait raises is made clear here.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from contextvars import ContextVar
from time import monotonic
from types import FrameType
from typing import Any, Final

from nbcanvas.errors import NBCanvasError, TaskError, TimeoutError  # noqa: A004 - Celery's name
from nbcanvas.events.state import State
from nbcanvas.run import Run
from nbcanvas.run.failures import comes_from

from .errors import Lines, WaitInterrupted, render_as, shorten
from .failures import failure_lines
from .settings import NBCanvas
from .testing import tells_clocks

__all__ = ["SECOND", "NotebookAudience"]

#: A second interrupt within so many seconds means the run.
SECOND: Final = 2.0
#: A coroutine hears of an interrupt as a cancellation, so much later at most: its loop may have been at work.
_LATE: Final = 30.0
#: When the present wait of this task began: an interrupt before it was not meant for it.
_begun: ContextVar[float] = ContextVar("begun", default=float("inf"))


class NotebookAudience:
    """Makes clear what a wait came to.

    Parameters
    ----------
    shell
        The InteractiveShell.
    settings
        Whether, and how much, to say.
    """

    def __init__(self, shell: Any, settings: NBCanvas) -> None:
        self._shell = shell
        self._settings = settings
        self._last: tuple[str, float] | None = None

    @property
    def tells_clocks(self) -> bool:
        """Whether frames say when, and by which worker, things were done."""
        return tells_clocks(self._settings, self._shell)

    def wait_begins(self, run: Run) -> None:
        """Note interrupts from now on: a coroutine hears of them as a cancellation, like any other."""
        _begun.set(monotonic())
        if hasattr(self._shell, "kernel") and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler) and handler is not signal.default_int_handler and not isinstance(handler, _Noted):
                signal.signal(signal.SIGINT, _Noted(handler))  # the kernel restores its own after the cell

    def wait_ended(self, run: Run, error: BaseException) -> BaseException:
        """Return what to raise instead of `error`."""
        if isinstance(error, WaitInterrupted):
            return error
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, asyncio.CancelledError) and _interrupted()):
            return self._interrupted(run)
        if isinstance(error, Exception):
            shown = getattr(error, "_render_traceback_", None)
            if isinstance(shown, Lines):  # of an earlier wait: more is known now
                del error._render_traceback_  # type: ignore[attr-defined]
                shown = None
            if shown is None and self._settings.short_errors:
                self._explain(run, error)
        return error

    def wait_ran_out(self, run: Run, error: TimeoutError) -> None:
        """Let the error show itself in one line."""
        if self._settings.short_errors:
            shorten(error)

    def _explain(self, run: Run, error: Exception) -> None:
        if isinstance(error, TaskError) or comes_from(run, error):
            render_as(
                error, failure_lines(run, error, self._shell, int(self._settings.tracebacks), workers=self.tells_clocks)
            )
        elif isinstance(error, NBCanvasError):
            shorten(error)  # waiting failed, not a task

    def _interrupted(self, run: Run) -> WaitInterrupted:
        handle, now = run.handle, monotonic()
        before, self._last = self._last, (run.id, now)
        if before is not None and before[0] == run.id and now - before[1] <= SECOND:
            run.cancel()
            return WaitInterrupted(f"{run.name or 'the run'} is cancelled; what runs already ends by itself")
        _watch_for_second(self._shell, run)
        return WaitInterrupted(
            f"the run goes on, {_progress(run.snapshot())}; {handle}.wait() waits again, "
            f"{handle}.cancel() stops it, and so does a second interrupt within {SECOND:.0f} s"
        )


def _progress(state: State) -> str:
    return f"{state.ready} of {state.total} done"


class _Noted:
    """A handler of SIGINT that remembers when it was last called."""

    last = float("-inf")

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        type(self).last = monotonic()
        return self._handler(number, frame)


def _interrupted() -> bool:
    return _Noted.last >= max(_begun.get(), monotonic() - _LATE)


def _watch_for_second(shell: Any, run: Run) -> None:
    """Let an interrupt of the idle kernel cancel the run, for a moment (a kernel ignores it otherwise)."""
    loop = getattr(getattr(shell, "kernel", None), "io_loop", None)
    if loop is None or threading.current_thread() is not threading.main_thread():
        return
    until = monotonic() + SECOND

    def begin() -> None:
        before = signal.getsignal(signal.SIGINT)

        def second(_number: int, _frame: FrameType | None) -> None:
            if monotonic() <= until:
                run.cancel()
            end()

        def end() -> None:
            if signal.getsignal(signal.SIGINT) is second:
                signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, second)
        loop.call_later(max(until - monotonic(), 0), end)

    # Later, because the kernel restores its own handler when the cell has ended.
    loop.call_later(0.05, begin)
