"""A run that was written down: everything it showed, without a worker and without its tasks."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Final, NoReturn

from nbcanvas import states
from nbcanvas.errors import RecordingError, RemoteError, TaskRevokedError
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan, Node, calls_of
from nbcanvas.protocol.payload import unpack, unpack_args
from nbcanvas.protocol.plain import Malformed

from .audience import tells_clocks
from .files import replace_file, why_not_writable
from .recorded import Recorded, read, write
from .views import Description, Views

__all__ = ["LIMIT", "Recording", "check_target", "record"]

#: Characters a recording has at most, but for the canvas itself and its events.
LIMIT: Final = 10_000_000

_MADE_BY: Final = "record it with %%canvas --record FILE, or run.record(FILE)"


class Recording(Views):
    """A recorded run: it shows what the run showed, and cannot do anything.

    Make one with `Recording.read`, ``run.record()``, or ``%%canvas --replay FILE -o name``.

    Attributes
    ----------
    id, name, canvas, root, started, finished
        As of the run.
    left_out
        How many ``results``, ``arguments`` and ``tracebacks`` were left out, to keep the file small.
    clocks
        Whether it says when, and by which worker, things were done.

    Parameters
    ----------
    recorded
        What the file says.
    """

    def __init__(self, recorded: Recorded) -> None:
        self.id = recorded.id
        self.name = recorded.name
        self.canvas = recorded.canvas
        self.root = recorded.root
        self.started = recorded.state.began
        self.finished = recorded.finished
        self.clocks = recorded.clocks
        self.left_out: Mapping[str, int] = recorded.left_out
        self._state = recorded.state
        self._results = recorded.results
        self._described = recorded.described

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        RecordingError
            When there is no such file, or something else in it: naming the file, what is wrong, and what to do.
        """
        try:
            document = Path(path).read_bytes()
        except OSError as error:
            why = error.strerror or error
            raise RecordingError(f"{path} cannot be read: {why}; {_MADE_BY}") from None
        try:
            return cls(read(document))
        except Malformed as error:
            raise RecordingError(f"{path} cannot be read as a recording: {error}; {_MADE_BY}") from None

    @property
    def _clocks(self) -> bool:
        return self.clocks and tells_clocks()

    @property
    def _now(self) -> float:
        """The last moment it knows of."""
        if self.finished is not None:
            return self.finished
        columns = self._state.columns
        known = [moment for column in (columns.sent, columns.started, columns.finished) for moment in column]
        return max((moment for moment in known if isfinite(moment)), default=self.started)

    # -- what it knows ------------------------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """Return what was known of every call."""
        return self._state

    def value_of(self, call: Call) -> Any:
        """Return the value of a call that succeeded."""
        return unpack(self._results.get(call.id))

    def describe(self, call: Call) -> Description:
        """Return a call's own arguments, its queue, and the id of what started it."""
        args, kwargs = unpack_args(call.payload)
        return Description(args, kwargs, *self._described.get(call.id, (None, None)))

    @property
    def done(self) -> bool:
        """Whether every call of the canvas had ended."""
        ready, state = states.READY_STATES, self._state
        return all(state.state(state.index_of(call.id)) in ready for call in calls_of(self.root))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many calls were in which state."""
        return self._state.counts

    @property
    def state(self) -> str:
        """The run as one: PENDING, STARTED, then SUCCESS, FAILURE or REVOKED."""
        if not self.done:
            return states.STARTED if set(self.counts) - {states.WAITING, states.SENT} else states.PENDING
        last = self.root.steps[-1] if isinstance(self.root, Chain) else self.root
        if isinstance(last, Call):
            return self._state.state(self._state.index_of(last.id))
        ends = {self._state.state(self._state.index_of(call.id)) for call in _last_calls(last)}
        return next((end for end in (states.FAILURE, states.REVOKED) if end in ends), states.SUCCESS)

    @property
    def notes(self) -> list[str]:
        """What whoever looks at it should know: what was left out, or had not ended."""
        notes = [
            f"{count} {name[:-1] if count == 1 else name} left out to keep the file small"
            for name, count in self.left_out.items()
            if count
        ]
        return notes if self.done else [*notes, "recorded while it ran"]

    def __len__(self) -> int:
        return sum(1 for _ in calls_of(self.root))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return "; ".join([f"<Recording {self.name or self.id[:8]}: {counts or 'empty'}", *self.notes]) + ">"

    # -- its value ----------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None, propagate: bool = True, **kwargs: Any) -> Any:
        """Return the value of the canvas; there is nothing to wait for.

        Parameters
        ----------
        timeout
            Not used.
        propagate
            Raise the exception of a failed task; with False return it.
        **kwargs
            Not used.

        Raises
        ------
        RecordingError
            When the run had not ended.
        """
        # As the run does: of several failures the first one in canvas order.
        return _value(self.root, lambda call: self._outcome(call, propagate=propagate))

    def _outcome(self, call: Call, *, propagate: bool) -> Any:
        row = self._state.index_of(call.id)
        how = self._state.state(row)
        if how == states.SUCCESS:
            return self.value_of(call)
        if how not in states.PROPAGATE_STATES:
            if how in states.READY_STATES:
                return None
            raise RecordingError(
                f"{self.name or 'the run'} had not ended when it was recorded: {call.task} was {how}; "
                f"its values cannot be known"
            )
        error = self._state.error(row)
        if not isinstance(error, BaseException):
            error = (TaskRevokedError if how == states.REVOKED else RemoteError)(error or "revoked")
        if propagate:
            raise error
        return error

    @property
    def result(self) -> NoReturn:
        """Refuse: there is no backend to ask."""
        raise _cannot("has no result handle", "get() gives the recorded value")

    def wait(self, timeout: float | None = None) -> Recording:
        """Return self, as there is nothing to wait for.

        Raises
        ------
        RecordingError
            When the run had not ended: it never will.
        """
        if not self.done:
            raise _cannot("does not go on, and the run had not ended when it was recorded", "look at bars() or frame()")
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the value."""
        return self._value().__await__()

    async def _value(self) -> Any:
        return self.get()

    # -- what only a run can do ---------------------------------------------------------------------------------------

    def rerun(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a recording has no tasks to run."""
        raise _cannot("cannot be run again: it has no tasks", "run the canvas again with %%canvas")

    def cancel(self, terminate: bool = False) -> NoReturn:
        """Refuse: nothing of a recording runs."""
        raise _cannot("cannot be cancelled: nothing of it runs", "cancel the run it was made of")

    def add_done_callback(self, callback: Any) -> NoReturn:
        """Refuse: nothing happens to a recording any more."""
        raise _cannot("has no end to wait for", "call the function yourself")


def _cannot(what: str, instead: str) -> RecordingError:
    return RecordingError(f"a recording {what}; {instead}")


def _value(root: Node, of_call: Any) -> Any:
    """Return the value of a canvas from those of its calls."""
    # Fans hold chains that may end in fans: as deep as they like, so without recursion.
    top: list[Any] = []
    todo: list[tuple[Node, list[Any]]] = [(root, top)]
    while todo:
        node, values = todo.pop()
        if isinstance(node, Chain):
            todo.append((node.steps[-1], values))
        elif isinstance(node, Fan):
            inner: list[Any] = []
            values.append(inner)
            todo += [(member, inner) for member in reversed(node.members)]
        else:
            values.append(of_call(node))
    return top[0]


def _last_calls(root: Node) -> list[Call]:
    found: list[Call] = []
    _value(root, found.append)
    return found


# -- writing -----------------------------------------------------------------------------------------------------------


def check_target(path: str | os.PathLike[str]) -> None:
    """Say whether a recording can be written there, before there is anything to write.

    Raises
    ------
    RecordingError
        When it cannot.
    """
    why = why_not_writable(Path(path))
    if why is not None:
        raise RecordingError(f"the run cannot be recorded: {why}")


def record(views: Views, path: str | os.PathLike[str] | None = None, limit: int = LIMIT) -> Recording:
    """Write down all that is known of a run; see `nbcanvas.run.views.Views.record`."""
    if path is not None:
        check_target(path)
    clocks = tells_clocks() and getattr(views, "clocks", True)
    try:
        document = write(views, limit=limit, clocks=clocks)
    except Malformed as error:
        raise RecordingError(f"{views!r} cannot be recorded: {error}") from None
    recording = Recording(read(document))
    if path is not None:
        try:
            replace_file(Path(path), document)
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror or error}") from error
    return recording
