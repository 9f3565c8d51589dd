"""Finding a run again: one of this kernel, or one of another kernel or another day, from where its results are kept."""

from __future__ import annotations

import difflib
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from nbcanvas import states
from nbcanvas.app import App, Plan, current_app
from nbcanvas.backend.port import Record, RunLine, RunStore, StoredRun
from nbcanvas.errors import CorruptResult, NBCanvasError, ResultExpired, UnknownRun, WorkerLostError
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Node

from . import plainly
from . import stored as kept
from .audience import tells_clocks
from .ends import end_of, is_over
from .finding import found_again, known
from .run import Run, items_of
from .single import task_of
from .stored import Heard, Kernel, Planned
from .views import Description

__all__ = ["AttachedRun", "attach"]

log = logging.getLogger("nbcanvas.run")

#: Runs that an error names.
_NAMED: Final = 5
#: Characters of what was asked for that an error repeats.
_SHOWN: Final = 80
#: Characters of an id that a list of runs shows.
_ID: Final = 8
#: Runs whose canvases are searched for a task's id.
_SEARCHED: Final = 200
#: Seconds between two looks at what another kernel says, at least; so many times as long as the last one took.
_EVERY: Final = 0.5
_SHARE: Final = 5.0


def attach(id: str, app: App | None = None) -> Run:
    """Return a run: of this kernel, or of another one, as it is kept beside its results.

    Parameters
    ----------
    id
        The run's id or the beginning of it, its name (the latest run of that name is meant), or the id of one of its
        tasks.
    app
        Whose results to search; the current app by default.

    Returns
    -------
    Run
        The very same object, when the run is one of this kernel.  Else the run as it was kept: with its graph,
        progress, values and times; it follows the other kernel while that runs it, and ``rerun()`` completes it when
        that is gone.  What workers of a cluster run goes on without its kernel.  The id of a task that somebody sent to
        a cluster gives a run of that one task.

    Raises
    ------
    UnknownRun
        When there is none, or several begin like that.
    CorruptResult
        When what was kept cannot be understood, or is from a newer version.
    """
    app = app if app is not None else current_app()
    if not isinstance(id, str) or not id:
        msg = f"attach takes a run's id, its name, or a task's id, and not {id!r:.80}"
        raise UnknownRun(msg)
    mine = (run for run in known() if run.app is app or run.app.backend is app.backend)
    here = {run.id: run for run in mine if not run.deaf}
    store = app.backend.runs
    lines = {line.id: line for line in (store.lines() if store is not None else ())}
    lines |= {run.id: RunLine(run.id, run.name, run.started) for run in here.values()}
    found = _meant(id, sorted(lines.values(), key=lambda line: line.started, reverse=True))
    found = found or next((run.id for run in here.values() if id in run.snapshot()), None)
    if found in here:
        return here[found]
    stored = None if store is None else store.look(found) if found is not None else _with_task(id, store)
    if stored is None or store is None:
        single = task_of(app, id) if app.remote else None
        if single is None:
            raise _unknown(id, app, list(lines.values()))
        return found_again(single)
    return here[stored.id] if stored.id in here else found_again(AttachedRun(app, store, stored))


def _meant(word: str, lines: Sequence[RunLine]) -> str | None:
    """Return the id of the run with that id, that name, or an id that begins so; the latest stand first."""
    exact = next((line.id for line in lines if line.id == word), None)
    named = next((line.id for line in lines if line.name == word), None)
    if exact or named:
        return exact or named
    begins = [line for line in lines if line.id.startswith(word)]
    if len(begins) > 1:
        msg = f"{len(begins)} runs have an id that begins with {_cut(word)}; give more of it:{_listed(begins, word)}"
        raise UnknownRun(msg)
    return begins[0].id if begins else None


def _with_task(task_id: str, store: RunStore) -> StoredRun | None:
    """Return the latest run that has a task of that id; ids stand in what is kept as they are."""
    wanted = task_id.encode()
    for line in store.lines(_SEARCHED):
        stored = store.look(line.id)
        if stored is None or not (
            wanted in (stored.plan or b"") or not store.trusted or wanted in (stored.state or b"")
        ):
            continue
        try:
            root = _plan(store, stored).root
            state = State.of(root, stored.started).apply(_heard(store, stored, root).events)
        except CorruptResult as error:
            log.warning("while looking for task %s: %s", task_id, error)
            continue
        if task_id in state:
            return stored
    return None


def _plan(store: RunStore, run: StoredRun) -> Planned:
    return kept.load_plan(run) if store.trusted else plainly.load_plan(run)


def _heard(store: RunStore, run: StoredRun, root: Node) -> Heard:
    return kept.load_state(run) if store.trusted else plainly.load_state(run, root)


def _unknown(word: str, app: App, lines: Sequence[RunLine]) -> UnknownRun:
    store = app.backend.runs
    where = "among the runs of this kernel" + (f" and in {store.where()}" if store is not None else "")
    said = f"no run {_cut(word)}: looked {where} for a run's id or its beginning, a run's name, and a task's id"
    near = difflib.get_close_matches(word[:_SHOWN], {line.name for line in lines if line.name}, 1)
    if near:
        said += f"; did you mean {near[0]!r}?"
    elif app.backend.get(word) is not None:
        said += (
            "; that task was sent with delay() or apply_async(), and belongs to no run: "
            f"AsyncResult({_cut(word)}) reads its result, submit(sig) makes a Run"
        )
    elif store is None:
        said += (
            "; runs of another kernel, or of yesterday, are found when results are kept on a server or in a database: "
            'result_backend = "db+sqlite:///results.sqlite"'
        )
    else:
        said += "; what has expired (result_expires) is gone"
    latest = sorted(lines, key=lambda line: line.started, reverse=True)
    return UnknownRun(said + (f"\nthe latest runs are:{_listed(latest)}" if lines else "\nthere are no runs"))


def _listed(lines: Sequence[RunLine], word: str = "") -> str:
    """Return runs, one a line; of each id enough to tell it from others that begin with `word`, too."""
    clocks, size = tells_clocks(), max(_ID, len(word) + 4)
    shown = [
        f"\n  {line.id[:size]}{f'  {line.name[:_SHOWN]}' if line.name else ''}"
        f"{f'  {_moment(line.started)}' if clocks else ''}"
        for line in lines[:_NAMED]
    ]
    return "".join(shown) + (f"\n  and {len(lines) - _NAMED} more" if len(lines) > _NAMED else "")


def _cut(word: str) -> str:
    return repr(word if len(word) <= _SHOWN else f"{word[:_SHOWN]}…")


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


class AttachedRun(Run):
    """A run that another kernel started, as it was kept; it follows that kernel while it is there.

    Parameters
    ----------
    app
        Whose results tell of it, and which runs it again.
    store
        Where it is kept.
    stored
        What is kept.
    """

    def __init__(self, app: App, store: RunStore, stored: StoredRun) -> None:
        planned = _plan(store, stored)
        heard = _heard(store, stored, planned.root)
        state = State.of(planned.root, stored.started, items_of).apply(heard.events)
        records = store.results(state.tree.calls)
        ends = [end_of(state, one, record) for one, record in records.items() if not is_over(state, one)]
        # What has ended is known to have, though its result may have expired since.
        known = (*heard.events, *ends)
        super().__init__(app, Plan(planned.root, stored.id, planned.parent_id), stored.name, planned.canvas, known)
        self.started, self.finished = stored.started, stored.finished
        self._state = state.apply(ends)
        self._store = store
        self._parents = heard.parents
        self._kernel = Kernel.of(stored.kernel)
        self._seen = stored.seen
        self._reading = threading.Lock()
        self._next = monotonic() + _EVERY
        self._told: set[str] = set()
        self._stop: Callable[[], None] | None = None
        finished = self.finished
        if app.remote:
            self._mind_celerys()
        if self.done and finished is None:
            self.finished = max((record.done or 0.0 for record in records.values()), default=self.started)
        if self._mender is not None:
            for one, record in records.items():
                self._mender.hear(one, record)
                self._hear_links(one, record)
        self._listen()
        app.follow()

    def _listen(self) -> None:
        """Hear of the ends to come, as long as somebody holds this run and its kernel is there."""
        if self._stop is None and not self.done:
            mine = weakref.WeakMethod(self._ended)

            def ended(task_id: str, record: Record) -> None:
                tell = mine()
                if tell is not None:
                    tell(task_id, record)

            self._stop = self.app.backend.watch(self._open, ended)
            weakref.finalize(self, self._stop)

    def _ended(self, task_id: str, record: Record) -> None:
        if task_id in self._told:
            return
        self._told.add(task_id)
        if not is_over(self._state, task_id):
            self._events.append(end_of(self._state, task_id, record))
        super()._ended(task_id, record)

    # -- the other kernel ---------------------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """Return what every call is doing, as one immutable value."""
        self._read()
        return super().snapshot()

    def _read(self) -> None:
        """Read what the other kernel has said since, unless that was just now."""
        if monotonic() < self._next or not self._reading.acquire(blocking=False):
            return
        try:
            begun = monotonic()
            if self._state.done and self.finished is not None:
                return
            try:
                stored = self._store.look(self.id)
            except OSError as error:
                log.warning("%s: what its kernel says cannot be read: %s", self.id, error)
                return
            if stored is not None and stored.seen != self._seen:
                heard = _heard(self._store, stored, self.root)
                self._seen, self._parents = stored.seen, heard.parents
                self._events.extend(heard.events)
                self.finished = self.finished or stored.finished
        finally:
            self._next = monotonic() + max(_EVERY, (monotonic() - begun) * _SHARE)
            self._reading.release()

    @property
    def handle(self) -> str:
        """How to get at it in code: its name is that of another kernel's variable."""
        return self._found_by_id

    @property
    def lost(self) -> str | None:
        """Why it will not go on by itself: its kernel is gone; None while that is there, or when all has ended."""
        if self.snapshot().done:  # with the links, too
            return None
        gone = self._kernel.gone_since(self._seen)
        if gone is None:
            self._listen()
            return None
        if self._stop is not None:
            self._stop()  # there is nothing to hear; should it say something after all, `_read` notices
            self._stop = None
        return f"the kernel that ran it ({self._process}) is gone since {_moment(self._last)}"

    @property
    def _process(self) -> str:
        return f"process {self._kernel.pid} on {self._kernel.host}"

    def gone(self, *, clocks: bool) -> str | None:
        """Return why what has not ended never will, and what to do; see `Views.gone`."""
        if self.lost is None:
            return None
        since = f" ({self._process}) is gone since {_moment(self._last)}" if clocks else " is gone"
        return f"its kernel{since}; rerun() runs what is missing"

    @property
    def _now(self) -> float:
        """Of what is lost, the last moment it was heard of."""
        return super()._now if self.finished is not None or self.lost is None else self._last

    @property
    def _last(self) -> float:
        """When its kernel was last heard of: it said something, or the last result there is was made."""
        return max(self._seen, *(moment for moment in self._state.columns.finished if moment > 0), self.started)

    def __repr__(self) -> str:
        said = super().__repr__()
        if self.lost is None:
            return said
        name, _, counts = said.rpartition(": ")
        return f"{name}: lost, {counts}"

    def still_there(self) -> None:
        """Raise when waiting makes no sense: the kernel is gone, or a value has expired.

        Raises
        ------
        WorkerLostError, ResultExpired
            Saying what to do about it.
        """
        if self.done:
            if self.result.state not in states.READY_STATES:
                msg = f"the run {self.id} has ended, but its value has expired (result_expires); rerun() makes it again"
                raise ResultExpired(msg)
            return
        lost = self.lost
        if lost is not None:
            state = self.snapshot()
            left = sum(not is_over(state, one) for one in self._all)
            msg = f"{lost}, and {left} of {len(self)} tasks have not ended; rerun() runs what is missing"
            raise WorkerLostError(msg)

    def cancel(self, terminate: bool = False) -> None:
        """Revoke every call that has not ended; of a run that no cluster runs, only its kernel can do that.

        Raises
        ------
        NBCanvasError
            When that is another one, be it there or gone.
        """
        if self.done:
            return
        if self._kernel.elsewhere:
            super().cancel(terminate)
            return
        lost = self.lost
        if lost is not None:
            msg = f"{lost}; nothing runs that could be cancelled, rerun() runs what is missing"
            raise NBCanvasError(msg)
        msg = f"{self._process} runs it: cancel it there"
        raise NBCanvasError(msg)

    def describe(self, call: Call) -> Description:
        """Return a call's own arguments, its queue, and the id of what started it."""
        found = super().describe(call)
        return found._replace(parent_id=found.parent_id or self._parents.get(call.id))
