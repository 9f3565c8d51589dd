"""The Run: one handle for a canvas that was started."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Mapping
from time import time
from typing import TYPE_CHECKING, Any

from nbcanvas import states
from nbcanvas.app import App, Plan, current_app
from nbcanvas.canvas import Signature, StampingVisitor
from nbcanvas.errors import NotASignature, TimeoutError
from nbcanvas.events.state import State
from nbcanvas.plan import Call, calls_of
from nbcanvas.protocol.payload import unpack_args
from nbcanvas.result import AsyncResult, GroupResult, Latch, result_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "submit"]

_TICK = 0.1


class Run:
    """A canvas that was started: its results, what every call of it is doing, and the ways to wait or cancel.

    Make one with `submit`, or with ``%%canvas -o name``.

    Attributes
    ----------
    id
        The run's id: the root id of its tasks.
    app
        The app that runs it.
    signature
        The canvas, as it was given.
    root
        The frozen canvas.
    result
        Its result handle: an AsyncResult, or a GroupResult.
    name
        What it was bound to, or None.
    started
        When, in seconds since the epoch.
    """

    def __init__(self, app: App, signature: Signature, plan: Plan, name: str | None = None) -> None:
        self.app = app
        self.signature = signature
        self.name = name
        self.root = plan.node
        self.id = plan.root_id
        self.result: AsyncResult | GroupResult = result_of(plan.node, app)
        self.started = time()
        self.finished: float | None = None
        self._plan = plan
        self._events = app.hub.open(plan.root_id)
        self._state = State.of(plan.node, self.started)
        self._folding = threading.Lock()
        self._callbacks: list[Callable[[Run], Any]] = []
        self._all = [call.id for call in calls_of(plan.node)]
        self._done = Latch(len(self._all))

    def _start(self) -> Run:
        self.app.publish(self._plan)
        self.app.backend.watch(self._all, self._ended)
        if not self._all:
            self.finished = self.started
        return self

    def _ended(self, task_id: str, record: Any) -> None:
        self._done(task_id, record)
        if self._done.is_set() and self.finished is None:
            self.finished = time()
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(self)

    # -- what it is doing -------------------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """Return what every call is doing, as one immutable value."""
        with self._folding:
            events = self._events
            fresh = [events.popleft() for _ in range(len(events))]
            if fresh:
                self._state = self._state.apply(fresh)
            return self._state

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
        """
        return self.result.get(timeout=timeout, propagate=propagate, **kwargs)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until every call has ended, however it ended; returns self.

        Raises
        ------
        TimeoutError
            After `timeout` seconds; the run goes on.
        """
        if not self._done.wait(timeout):
            left = sum(count for state, count in self.counts.items() if state not in states.READY_STATES)
            msg = f"{left} of {len(self)} tasks have not ended within {timeout} seconds; the run goes on"
            raise TimeoutError(msg)
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the value without holding up the event loop; any loop will do."""
        return self._value().__await__()

    async def _value(self) -> Any:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def told(_: Run) -> None:
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:
                pass  # the loop was closed: nobody waits any more

        self.add_done_callback(told)
        while not self.done:
            # A loop that only waits hears of an interrupt when it wakes up (ipykernel), so it wakes up often.
            try:
                await asyncio.wait_for(ended.wait(), _TICK)
            except asyncio.TimeoutError:
                continue
        return self.get(timeout=0)

    def add_done_callback(self, callback: Callable[[Run], Any]) -> None:
        """Call `callback` with the run when every call has ended, from a worker's thread; at once when they have."""
        self._callbacks.append(callback)
        if self.done and callback in self._callbacks:
            self._callbacks.remove(callback)
            callback(self)

    def cancel(self, terminate: bool = False) -> None:
        """Revoke every call that has not ended.

        Parameters
        ----------
        terminate
            Also end those that run.
        """
        backend = self.app.backend
        records = ((task_id, backend.get(task_id)) for task_id in self._all)
        self.app.control.revoke([task_id for task_id, record in records
                                 if record is None or record.state not in states.READY_STATES], terminate=terminate)

    # -- tables -----------------------------------------------------------------------------------------------------

    def frame(self, stamps: str = "columns") -> pd.DataFrame:
        """Return one row a task, in canvas order, also while it runs.

        Parameters
        ----------
        stamps
            ``"columns"`` for a column a stamp, ``"explode"`` for a row a value of list-valued stamps.
        """
        from nbcanvas.tables import frame  # noqa: PLC0415 - loads pandas

        return frame(self.snapshot(), value_of=self._value_of, describe=self._describe, stamps=stamps)

    def _value_of(self, call: Call) -> Any:
        record = self.app.backend.get(call.id)
        return None if record is None else record

    def _describe(self, call: Call) -> tuple[Any, Any, str, str | None]:
        args, kwargs = unpack_args(call.payload)
        record = self.app.backend.get(call.id)
        return args, kwargs, self.app.queue_of(call), record.parent_id if record is not None else None


def submit(sig: Signature, *, app: App | None = None, options: Mapping[str, Any] | None = None,
           stamps: Mapping[str, Any] | None = None, visitor: StampingVisitor | None = None,
           name: str | None = None) -> Run:
    """Start a canvas and return its Run.

    Parameters
    ----------
    sig
        Any signature; it is not changed.
    app
        The app; the signature's own, else the current one.
    options
        Execution options for every call of the canvas.
    stamps, visitor
        Stamp every task with these values, or by this visitor.
    name
        What to call the run.

    Raises
    ------
    NotASignature
        When `sig` is something else.
    """
    if not isinstance(sig, Signature):
        hint = "; call .s(...) on the task to make a signature" if hasattr(sig, "apply_async") else ""
        msg = f"a canvas is a signature, but this is {type(sig).__name__}: {sig!r:.80}{hint}"
        raise NotASignature(msg)
    app = app or current_app()
    shown = sig
    if stamps or visitor is not None:
        sig = sig.clone()
        sig.stamp(visitor, **(stamps or {}))
    plan = app.plan(sig)
    if options:
        _apply_options(plan, options)
    return Run(app, shown, plan, name)._start()  # noqa: SLF001 - made here


def _apply_options(plan: Plan, options: Mapping[str, Any]) -> None:
    """Give every call of a fresh plan these options; a signature's own options win."""
    first_only = {k: v for k, v in options.items() if k in ("countdown", "eta")}
    everywhere = {k: v for k, v in options.items() if k not in first_only and v is not None}
    for place, call in enumerate(calls_of(plan.node)):
        call.options = {**everywhere, **(first_only if place == 0 else {}), **call.options}
