"""The Run: one handle for a canvas that was started."""

from __future__ import annotations

import builtins
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from time import time
from typing import Any, cast

from nbcanvas import states
from nbcanvas.app import App, Plan
from nbcanvas.backend.port import Record
from nbcanvas.canvas import Signature, StampingVisitor
from nbcanvas.errors import NBCanvasError, NotASignature, ResultExpired, TimeoutError  # noqa: A004 - Celery's name
from nbcanvas.events.event import IGNORED, Event
from nbcanvas.events.hub import Heard
from nbcanvas.events.state import State
from nbcanvas.events.tree import linked_calls
from nbcanvas.garbage import collect_less, collecting_less
from nbcanvas.plan import Call, calls_of
from nbcanvas.protocol.payload import unpack, unpack_args
from nbcanvas.result import AsyncResult, GroupResult, Latch, is_wanting, result_of

from .audience import audience, waiting
from .ends import end_of
from .failures import note, received
from .finding import never_started, remember
from .mending import Mender
from .views import Description, Views

__all__ = ["Run", "explain", "prepare", "submit"]

log = logging.getLogger("nbcanvas.run")

_TICK = 0.1
_FOLD_AT = 8192
#: Seconds for hearing what a value was made of.
_CATCH_UP = 2.0
#: Runs of so many calls keep the garbage collector from looking at all of them again and again.
_MANY = 10_000


class Run(Views):
    """A canvas that was started: its results, what every call of it is doing, and the ways to wait or cancel.

    Make one with `submit`, or with ``%%canvas -o name``.

    Attributes
    ----------
    id
        The run's id: the root id of its tasks.
    app
        The app that runs it.
    canvas
        How it reads, shortened.
    root
        The frozen canvas.
    result
        Its result handle: an AsyncResult, or a GroupResult.
    name
        What it was bound to, or None.
    started, finished
        When, in seconds since the epoch; None while it goes on.

    Parameters
    ----------
    app, plan, name, canvas
        The app, the frozen canvas, what to call the run, and how the canvas reads.
    known
        What is known of some of its calls already, as events.
    """

    app: App

    def __init__(
        self, app: App, plan: Plan, name: str | None = None, canvas: str = "", known: Iterable[Event] = ()
    ) -> None:
        self.app = app
        self.name = name
        self.canvas = canvas
        self.root = plan.node
        self.id = plan.root_id
        self.parent_id = plan.parent_id
        self.result: AsyncResult | GroupResult = result_of(plan.node, app)
        self.started = time()
        self.finished: float | None = None
        self._plan = plan
        self._all = [call.id for call in calls_of(plan.node)]
        claimed = self._all if app.remote else ()
        self._events = app.hub.open(plan.root_id, claimed)
        weakref.finalize(self, app.hub.close, self.id, self._events, claimed).atexit = False
        self._state = State.of(plan.node, self.started, items_of).keep(known)
        self._fresh: list[Heard] = []
        #: Results that came from elsewhere, where their ends are told by nothing else.
        self._results: deque[tuple[str, Record]] = deque()
        self._mender = Mender(self) if app.remote else None
        self._folding = threading.Lock()
        self._ending = threading.Lock()
        self._callbacks: list[Callable[[Run], Any]] = []
        #: Those that are not known to have ended: of the others nothing more will be heard.
        self._open = [call_id for call_id in self._all if not self._has_ended(call_id)] if known else self._all
        self._restore: Callable[[], None] = lambda: None
        #: Calls whose end may be told by nobody.
        self._untold: Collection[str] = ()
        #: Id of a call -> ids of what is linked to it, where nobody tells of that by itself.
        self._links: Mapping[str, Sequence[str]] = {}
        self._done = Latch(len(self._open), before=self._over)
        self._closings = app.closings

    def start(self) -> Run:
        """Send what starts it; once (`submit` and `rerun` do this).

        Raises
        ------
        NotRegistered
            When the workers of a cluster do not know one of its tasks.
        """
        if self.app.remote:
            for told in self.app.fleet.check(calls_of(self.root)):
                log.warning("%s", told)
            self._mind_celerys()
        if len(self._open) >= _MANY:
            self._restore = collect_less()
        self.app.follow()
        stop = self.app.backend.watch(self._open, self._ended)
        try:
            if self.app.remote:  # kept before workers hear of it
                remember(self)
            self.app.publish(self._plan)
        except BaseException as error:
            self._restore()
            stop()
            if isinstance(error, Exception):  # of an interrupt nobody knows how far the sending came
                never_started(self)
            self.app.hub.close(self.id, self._events, self._all if self.app.remote else ())
            raise
        if not self.app.remote:
            remember(self)
        return self

    def _mind_celerys(self) -> None:
        """Where Celery's workers are, do not wait for calls whose result is ignored, and ask for what links become.

        Those workers never tell how the first ended; of the second they tell only who asks.
        """
        if self.app.fleet.all_ours():
            return
        self._links = linked_calls(self._state.tree)
        ignored = {call.id for call in calls_of(self.root) if self.app.ignores_result(call)}.intersection(self._open)
        if ignored:
            self._untold = ignored
            self._open = [call_id for call_id in self._open if call_id not in ignored]
            self._done = Latch(len(self._open), before=self._over)

    def run_here(self) -> Run:
        """Run it in the calling thread, once; the first exception of a task is raised here, as it is.

        What would have come after that task is revoked, so that the run has ended either way.
        """
        self.app.backend.watch(self._open, self._ended)
        remember(self)
        self.app.run_here(self._plan)
        return self

    def _over(self) -> None:
        if self.finished is None:
            self.finished = time()
        # Nobody waits for these any more; what a worker of ours tells of them counts for more.
        self._events.extend(Event(IGNORED, one, self.finished, 0, None) for one in self._untold)
        self.app.hub.ended(self._events)
        self._restore()

    def _ended(self, task_id: str, record: Record) -> None:
        mender = self._mender
        if mender is not None:  # workers are elsewhere
            self._results.append((task_id, record))
        self._done(task_id, record)
        if mender is not None:
            mender.hear(task_id, record)
            self._hear_links(task_id, record)
        if len(self._events) > _FOLD_AT and self._folding.acquire(blocking=False):
            # Folded while they are young, events never grow old enough to be the garbage collector's business.
            try:
                self._fold()
            finally:
                self._folding.release()
        if self._done.is_set():
            with self._ending:
                callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                try:
                    callback(self)
                except Exception:  # as in concurrent.futures: the other callbacks hear of the end all the same
                    log.exception("a callback of %r raised", self)

    def _hear_links(self, task_id: str, record: Record) -> None:
        """Hear how what is linked to a call ends, which begins now; nobody waits for that."""
        links = self._links.get(task_id) if record.state == states.SUCCESS else None
        if not links:
            return
        this = weakref.ref(self)

        def tell(link_id: str, ended: Record) -> None:
            run = this()
            if run is not None:
                run._results.append((link_id, ended))  # noqa: SLF001 - of this class
                run._hear_links(link_id, ended)  # noqa: SLF001

        weakref.finalize(self, self.app.backend.watch(links, tell)).atexit = False

    # -- what it is doing -------------------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """Return what every call is doing, as one immutable value."""
        with self._folding:
            self._fold()
            return self._state

    def _has_ended(self, call_id: str) -> bool:
        return self._state.state(self._state.index_of(call_id)) in states.READY_STATES

    def _fold(self) -> None:
        # An interrupt may come at any step: what was taken stays in `_fresh` until it is folded; twice does no harm.
        self._fresh.extend(map(deque.popleft, repeat(self._events, len(self._events))))
        if self._fresh:
            self._state = self._state.apply(self._fresh)
            self._fresh.clear()
        if self._results:
            known = list(self._results)
            self._state = self._state.apply([end_of(self._state, task_id, record) for task_id, record in known])
            for _ in known:
                self._results.popleft()

    @property
    def done(self) -> bool:
        """Whether every call of the canvas has ended."""
        return self._done.is_set()

    @property
    def state(self) -> str:
        """The run as one: PENDING, STARTED, then SUCCESS, FAILURE or REVOKED."""
        counts = self.counts
        if not self.done:
            return states.STARTED if set(counts) - {states.WAITING, states.SENT} else states.PENDING
        own = self.result.state
        return own if own in states.READY_STATES else states.SUCCESS

    @property
    def counts(self) -> Mapping[str, int]:
        """How many calls are in which state."""
        return self.snapshot().counts

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return f"<Run {self.name or self.id[:8]}: {counts or 'empty'}>"

    def __len__(self) -> int:
        return len(self._all)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None, propagate: bool = True, **kwargs: Any) -> Any:
        """Wait for the value of the canvas and return it.

        Parameters
        ----------
        timeout
            Seconds to wait at most.
        propagate
            Raise the exception of a failed task; with False return it.
        **kwargs
            As for `AsyncResult.get`.

        Raises
        ------
        TimeoutError
            After `timeout` seconds; the run goes on.
        ResultExpired
            When the run has ended, but its value is not kept (any more).
        NBCanvasError
            When its app is closed meanwhile.
        """
        heard = self._heard_since(self.app.closings)
        with waiting(self):
            try:
                value = self.result.get(timeout=timeout, propagate=propagate, **{"on_interval": heard, **kwargs})
            except Exception as error:
                if not isinstance(error, TimeoutError) or self._failed_with(error):
                    self._catch_up()
                    note(self, error)
                    raise
            else:
                self._catch_up()
                return value
        self.still_there()
        raise self._ran_out(timeout)

    def _catch_up(self) -> None:
        """Hear what the value tells: it may have been read before the news of what it was made of had come."""
        if not self.done and self.app.remote:
            # Ends are told in a thread that no interrupt reaches; and the value is there, whatever the server does now.
            look = threading.Thread(target=self._look, name="nbcanvas-catch-up", daemon=True)
            look.start()
            look.join(_CATCH_UP)

    def _look(self) -> None:
        try:
            self.app.backend.catch_up(self._open)
        except Exception as error:  # noqa: BLE001 - they are told in the usual way, later
            log.debug("the run %s: what has ended is not looked for now: %s", self.id, error)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until every call has ended, however it ended; returns self.

        Raises
        ------
        TimeoutError
            After `timeout` seconds; the run goes on.
        NBCanvasError
            When its app was closed before.
        """
        with waiting(self):
            ended = self._done.wait(timeout, on_interval=self._heard_since(self._closings))
        if not ended:
            raise self._ran_out(timeout)
        return self

    @property
    def deaf(self) -> bool:
        """Whether its app was closed before it ended: what workers elsewhere do for it is not heard here any more."""
        return self.app.remote and not self.done and self.app.closings != self._closings

    def _heard_since(self, closings: int) -> Callable[[], None]:
        """Return what raises when waiting makes no sense any more, or its app was closed once more than that often."""

        def check() -> None:
            if self.app.closings != closings and self.deaf:
                msg = (
                    f"{self.name or 'the run'}: its app was closed before it ended, and it is not heard of here any "
                    f"more; {self._found_by_id} follows it again"
                )
                raise NBCanvasError(msg)
            self.still_there()

        return check

    @property
    def lost(self) -> str | None:
        """Why it will not go on by itself, though it has not ended; None as long as it will."""
        return None

    def still_there(self) -> None:
        """Raise when waiting makes no sense (any more): a run of this kernel goes on, until all has ended.

        Raises
        ------
        ResultExpired
            When all has ended, and the value is forgotten or has expired.
        """
        if self.done and is_wanting(self.result):
            msg = f"the run {self.id} has ended, but its value was forgotten or has expired; rerun() makes it again"
            raise ResultExpired(msg)

    def _failed_with(self, error: BaseException) -> bool:
        """Whether an exception is how one of the tasks ended."""
        return any(record.exc is error for record in self.app.backend.get_many(self._all).values())

    def _ran_out(self, timeout: float | None) -> TimeoutError:
        """Return what to raise when the run has not ended in time."""
        total, name = len(self), self.name or "the run"
        left = sum(count for state, count in self.counts.items() if state not in states.READY_STATES)
        tasks, have = ("task", "has") if total == 1 else ("tasks", "has" if left == 1 else "have")
        error = TimeoutError(
            f"{name}: {left} of {total} {tasks} {have} not ended within {timeout} seconds; the run goes on, "
            f"{self.handle}.wait() waits again, {self.handle}.cancel() stops it"
        )
        hears = audience()
        if hears is not None:
            hears.wait_ran_out(self, error)
        return error

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the value without holding up the event loop; any loop will do."""
        return self._value().__await__()

    async def _value(self) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def told(_: Run) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        self.add_done_callback(told)
        with waiting(self):
            still_heard = self._heard_since(self._closings)
            while not self.done:
                still_heard()
                # A loop that only waits hears of an interrupt when it wakes up (ipykernel), so it wakes up often.
                try:
                    await asyncio.wait_for(ended.wait(), _TICK)
                except builtins.TimeoutError:
                    continue
        return self.get(timeout=0)

    def add_done_callback(self, callback: Callable[[Run], Any]) -> None:
        """Call `callback` with the run when every call has ended, from a worker's thread; at once when they have."""
        with self._ending:
            ended = self.done
            if not ended:
                self._callbacks.append(callback)
        if ended:
            callback(self)

    def cancel(self, terminate: bool = False) -> None:
        """Revoke every call that has not ended; what runs already ends by itself, and nothing follows it.

        Parameters
        ----------
        terminate
            End what runs, too.
        """
        known = self.app.backend.get_many(self._open)
        over = {task_id for task_id, record in known.items() if record.state in states.READY_STATES}
        self.app.control.revoke([task_id for task_id in self._open if task_id not in over], terminate=terminate)

    def arguments_of(self, call: Call) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments a call was given when it last ran: what came before it, then its own."""
        return received(self.app, call)

    def rerun(self) -> Run:
        """Start a new run of what failed or never ran, and of what depends on that; returns it.

        What succeeded keeps its value, and in the new run its id, times and worker; what runs again does so with the
        newest code of its task.

        Raises
        ------
        StillRunning
            When this run has not ended.
        """
        from .again import rerun

        return rerun(self)

    def value_of(self, call: Call) -> Any:
        """Return the value of a call that succeeded; None when it is not kept."""
        record = self.app.backend.get(call.id)
        return None if record is None else unpack(record.payload)

    def kept_value_of(self, call: Call) -> Any:
        """Return the value of a call that succeeded; None when its task ignores it.

        Raises
        ------
        ResultExpired
            When it is not kept any more.
        """
        record = self.app.backend.get(call.id)
        if record is not None and record.state in states.READY_STATES:
            return unpack(record.payload)
        if self.app.ignores_result(call):
            return None
        msg = f"the value of {call.task} ({call.id}) was forgotten or has expired; rerun() makes it again"
        raise ResultExpired(msg)

    def describe(self, call: Call) -> Description:
        """Return a call's own arguments, its queue, and the id of what started it."""
        args, kwargs = unpack_args(call.payload)
        record = self.app.backend.get(call.id)
        return Description(args, kwargs, self.app.queue_of(call), record.parent_id if record is not None else None)


def items_of(call: Call) -> int:
    """Return how many items a ``celery.map`` or ``celery.starmap`` goes over."""
    try:
        return len(unpack_args(call.payload)[1]["it"])
    except (KeyError, TypeError):
        return 1  # called by hand, in a way of its own


def prepare(
    sig: Any,
    *,
    app: App | None = None,
    options: Mapping[str, Any] | None = None,
    stamps: Mapping[str, Any] | None = None,
    visitor: StampingVisitor | None = None,
    name: str | None = None,
) -> Run:
    """Return the Run of a canvas that is still to be started; parameters and errors are those of `submit`."""
    if not isinstance(sig, Signature):
        hint = "; call .s(...) on the task to make a signature" if hasattr(sig, "apply_async") else ""
        msg = f"a canvas is a signature, but this is {type(sig).__name__}: {sig!r:.80}{hint}"
        raise NotASignature(msg)
    app = app if app is not None else cast("App", sig.app)
    if stamps or visitor is not None:
        sig = sig.clone()
        sig.stamp(visitor, **(stamps or {}))
    options = {k: v for k, v in (options or {}).items() if v is not None}
    # A delay is for what starts first, as with apply_async; the rest is for every call.
    plan = app.plan(sig, options={k: options.pop(k) for k in ("countdown", "eta") if k in options})
    if options:
        for call in calls_of(plan.node):
            call.options = {**options, **call.options}
    return Run(app, plan, name, repr(sig))


def submit(
    sig: Any,
    *,
    app: App | None = None,
    options: Mapping[str, Any] | None = None,
    stamps: Mapping[str, Any] | None = None,
    visitor: StampingVisitor | None = None,
    name: str | None = None,
) -> Run:
    """Start a canvas and return its Run.

    Parameters
    ----------
    sig
        Any signature; it is not changed.
    app
        The app; that of the signature by default, else the current one.
    options
        Execution options for every call of the canvas, where it has none of its own; ``countdown`` and ``eta`` delay
        what starts first.
    stamps, visitor
        Stamp every task with these values, or by this visitor.
    name
        What to call the run.

    Raises
    ------
    NotASignature
        When `sig` is something else.
    """
    with collecting_less():
        return prepare(sig, app=app, options=options, stamps=stamps, visitor=visitor, name=name).start()


def explain(sig: Signature) -> Any:
    """Put a canvas into words: what ``sig.explain()`` gives."""
    from nbcanvas.picture.explain import in_words

    app = cast("App", sig.app)
    return in_words(app.look(sig), sig, app)
