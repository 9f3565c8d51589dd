"""What stays of a cell in files: the recording of its run, and the module of its canvas."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nbcanvas.app import App
from nbcanvas.canvas import Signature, StampingVisitor, raw
from nbcanvas.canvas.shape import children
from nbcanvas.errors import NotWritable
from nbcanvas.picture.markup import escape
from nbcanvas.run import Recording, Run
from nbcanvas.run.files import replace_file, why_not_writable
from nbcanvas.writing import is_written, module_source

from .live import Bundle, still, wait_settled

__all__ = ["Recorder", "replayed", "write_module"]

log = logging.getLogger("nbcanvas.notebook")
#: Characters of a file's first line that are read to know who wrote it.
_FIRST_LINE: Final = 1000


class Recorder:
    """Records a run when it has ended.

    Parameters
    ----------
    run
        The run.
    path
        The file.
    """

    def __init__(self, run: Run, path: Path) -> None:
        self.path = path
        self.error: Exception | None = None
        self._over = threading.Event()
        run.add_done_callback(self._begin)

    def _begin(self, run: Run) -> None:
        # Not in the worker's thread, which tells of the end before its last events are out; and no daemon: the file
        # is written even when the kernel ends now.
        threading.Thread(target=self._record, args=(run,), name="nbcanvas-recorder").start()

    def _record(self, run: Run) -> None:
        try:
            wait_settled(run)
            run.record(self.path)
        except Exception as error:  # it is raised where somebody waits
            self.error = error
            log.exception("%r could not be recorded", run)
        finally:
            self._over.set()

    def wait(self) -> None:
        """Wait until the file of a run that has ended is written; raise what kept it from being written."""
        self._over.wait()
        if self.error is not None:
            raise self.error


def replayed(recording: Recording, view: str, *, durations: bool) -> Bundle:
    """Return what a recorded run shows: what it showed when it ran, and what was left out of the file."""
    bundle = still(recording, recording.snapshot(), view, durations=durations)
    if recording.notes:
        said = "; ".join(recording.notes)
        bundle = {
            **bundle,
            "text/plain": f"{bundle['text/plain']}\n{said}",
            "text/html": f"{bundle['text/html']}<p>{escape(said, 400)}</p>",
        }
    return bundle


def write_module(
    path: Path,
    sig: Signature,
    app: App,
    options: Mapping[str, Any],
    stamps: Mapping[str, Any],
    visitor: StampingVisitor | None,
) -> None:
    """Write a canvas as a module that stock Celery runs; only a file that was written so before is overwritten.

    Parameters
    ----------
    path
        The file.
    sig, app
        The canvas, and the app that has its tasks.
    options
        Execution options: for every call that has none of its own; a countdown delays what starts first.
    stamps, visitor
        For every task.

    Raises
    ------
    NotWritable
        Naming what cannot be written, and where; also when somebody else's file is there.
    """
    why = why_not_writable(path)
    if why is not None:
        raise NotWritable(f"the module cannot be written: {why}")
    if _is_anothers(path):
        raise NotWritable(f"{path} is there already, and nbcanvas did not write it; choose another name")
    if stamps or visitor is not None:
        sig = sig.clone()
        sig.stamp(visitor, **stamps)
    delay = {name: value for name, value in options.items() if name == "countdown"}
    rest = {name: value for name, value in options.items() if name != "countdown"}
    if rest:
        sig = sig.clone()
        _set_everywhere(sig, rest)
    try:
        replace_file(path, module_source(sig, app, path.stem, options=delay))
    except OSError as error:
        raise NotWritable(f"{path} cannot be written: {error.strerror or error}") from error


def _is_anothers(path: Path) -> bool:
    """Whether there is a file that nbcanvas did not write."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return not is_written(file.readline(_FIRST_LINE))
    except FileNotFoundError:
        return False
    except OSError:
        return True  # what cannot be read is not known to be ours


def _set_everywhere(sig: Signature, options: Mapping[str, Any]) -> None:
    """Set options of every message of a canvas, where it has none of its own."""
    todo: list[Any] = [sig]
    while todo:
        one = todo.pop()
        if one.KIND == "task":
            one.set(**{name: value for name, value in options.items() if name not in raw(one, "options")})
        else:
            _ = one["kwargs"]  # members that were shared with other canvases are this one's own from here on
            todo += children(one)
