"""Who waits for runs, and wants to be told: a notebook registers itself here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nbcanvas.errors import TimeoutError  # noqa: A004 - Celery's name

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Audience", "audience", "set_audience", "tells_clocks", "waiting"]


class Audience(Protocol):
    """Who waits for runs, and wants to be told what a wait came to; a notebook registers itself as this."""

    @property
    def tells_clocks(self) -> bool:
        """Whether it is to see when, and by which worker, things were done: that differs from run to run."""

    def wait_begins(self, run: Run) -> None:
        """Hear that somebody starts waiting for a run."""

    def wait_ended(self, run: Run, error: BaseException) -> BaseException:
        """Return what to raise when waiting for a run raised `error`: that itself, or something clearer."""

    def wait_ran_out(self, run: Run, error: TimeoutError) -> None:
        """Hear that `error` will be raised: a run has not ended in the time that somebody wanted to wait."""


class _Registered:
    audience: Audience | None = None


def audience() -> Audience | None:
    """Return who is told of waits, or None."""
    return _Registered.audience


def tells_clocks() -> bool:
    """Whether what is shown may say when, and by which worker, things were done."""
    return _Registered.audience is None or _Registered.audience.tells_clocks


def set_audience(audience: Audience | None) -> None:
    """Say who is told of waits (the notebook room does this; None takes it back)."""
    _Registered.audience = audience


class waiting:
    """Tell the audience that somebody waits for a run, and let it say what a wait raises.

    A class, because what `contextmanager` does to an exception on its way not every exception allows.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._hears = _Registered.audience

    def __enter__(self) -> None:
        if self._hears is not None:
            self._hears.wait_begins(self._run)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None or self._hears is None:
            return
        told = self._hears.wait_ended(self._run, error)
        if told is not error:
            raise told from None
