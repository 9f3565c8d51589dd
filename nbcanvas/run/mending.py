"""A run on Celery's workers ends everything that they leave PENDING for ever (see `nbcanvas.plan.mending`)."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.errors import ServerLost
from nbcanvas.plan import Call, Errback, Exit, Failed, Revoked, Skip, Value, start
from nbcanvas.plan.mending import mend

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Mender"]

log = logging.getLogger("nbcanvas.run")

#: Seconds that workers have to end something by themselves; and until a server that is away is tried again, at most.
_GRACE: Final = 1.5
_LONGEST: Final = 30.0
#: Looking takes no more than this part of a thread's time.
_SHARE: Final = 0.05
_VALUE: Final = Value(None)


class Mender:
    """Ends what a run's workers will not end.

    Nothing is done before something failed or was revoked, and then only about calls that twice, `_GRACE` seconds
    apart, had not ended though nothing can start them.

    Parameters
    ----------
    run
        The run; not kept alive by this.
    """

    def __init__(self, run: Run) -> None:
        self._run = weakref.ref(run)
        self._ends: dict[str, Exit] = {}
        self._trouble = False
        self._suspects: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._pause = _GRACE

    def hear(self, task_id: str, record: Record) -> None:
        """Hear that a call ended."""
        self._ends[task_id] = end = _exit_of(record)
        if end is not _VALUE:
            self._trouble = True
        if self._trouble:
            self._look_soon()

    def _look_soon(self) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(self._pause, self._look)
                self._timer.daemon = True
                self._timer.start()

    def _look(self) -> None:
        with self._lock:
            self._timer = None
        run = self._run()
        if run is None or run.done:
            return
        begun = monotonic()
        try:
            self._mend(run)
        except ServerLost as error:
            log.warning("%r cannot end what its workers left: %s", run, error)
            self._pause = min(self._pause * 2, _LONGEST)
            self._look_soon()
        except Exception:
            log.exception("%r cannot end what its workers left", run)
        else:
            self._pause = max(_GRACE, (monotonic() - begun) / _SHARE)
            if self._suspects and not run.done:
                self._look_soon()

    def _mend(self, run: Run) -> None:
        found = mend(run.root, dict(self._ends))
        # What ended meanwhile, and was not heard of yet, is not ended again.
        known = run.app.backend.get_many([skip.call.id for skip in found.skips]) if found.skips else {}
        open_ = [
            skip
            for skip in found.skips
            if (record := known.get(skip.call.id)) is None or record.state not in states.READY_STATES
        ]
        suspects = frozenset(skip.call.id for skip in open_)
        lost = suspects & self._suspects
        self._suspects = suspects
        if lost:
            self._end(run, [skip for skip in open_ if skip.call.id in lost], found.errbacks)

    def _end(self, run: Run, skips: Iterable[Skip], errbacks: Iterable[Errback]) -> None:
        now, performer = time(), run.app.performer
        # Of several clients that know the plan, the one that ends a call tells its errbacks.
        ended = {skip.call.id for skip in skips if performer.skip(skip, run.id, now)}
        for errback in errbacks:
            call = errback.call
            if call.id in ended and not _wants_the_error(run, errback.node):
                performer.perform(start(errback.node, (call.id,), None, run.id, call.id, now), run.id, call.id, now)


def _exit_of(record: Record) -> Exit:
    if record.state == states.SUCCESS:
        return _VALUE
    exc = record.exc or Exception(record.state)
    return Failed(exc, record.traceback) if record.state == states.FAILURE else Revoked(exc)


def _wants_the_error(run: Run, node: object) -> bool:
    """Whether an errback is called with the exception itself, which only a worker's process can do."""
    task = run.app.tasks.find(node.task, node.version) if isinstance(node, Call) else None
    return task is not None and task.takes_error()
