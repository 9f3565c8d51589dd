"""The result of a task that ran in the calling thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from nbcanvas import states
from nbcanvas.backend.port import Record

from .joining import refuse_to_block
from .single import AsyncResult, Callback

__all__ = ["EagerResult"]


class EagerResult(AsyncResult):
    """The result of a task that ran in the calling thread (``apply``).

    Parameters
    ----------
    id
        The task id.
    ret_value
        The value, or the exception.
    state, traceback, name
        How it ended.
    parent
        The result of what came before it.
    children
        Gives the results of what the task started.
    done
        When it ended, in seconds since the epoch; now by default.
    """

    __slots__ = ("_children", "_done", "_name", "_state", "_traceback")

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        parent: Any = None,
        children: Callable[[], Sequence[Any]] = lambda: (),
        done: float | None = None,
    ) -> None:
        super().__init__(id, parent=parent)
        self._done = time.time() if done is None else done
        self._value = (ret_value,)
        self._state = state
        self._traceback = traceback
        self._name = name
        self._children = children

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"

    def _facts(self) -> tuple[Any, ...]:
        """Return what makes it, but for its parent; what its task started stays behind when it travels."""
        assert self._value is not None  # noqa: S101 - set by __init__
        return self.id, self._value[0], self._state, self._traceback, self._name, None, tuple, self._done

    def _record(self) -> Record:
        assert self._value is not None  # noqa: S101 - set by __init__
        value = self._value[0]
        exc = value if self._state in states.EXCEPTION_STATES and isinstance(value, BaseException) else None
        return Record(self._state, None if exc is not None else value, exc, self._traceback, done=self._done)

    def _load(self, record: Record) -> Any:
        return record.payload

    @property
    def name(self) -> str | None:
        """The task's name."""
        return self._name

    @property
    def children(self) -> list[Any]:
        """What the task started."""
        return list(self._children())

    def get(  # type: ignore[override] # Celery's order
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        callback: Callback | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the value, or raise the exception; there is nothing to wait for.

        Parameters
        ----------
        timeout, **kwargs
            Accepted for compatibility.
        propagate, disable_sync_subtasks, callback
            As for `AsyncResult.get`.
        """
        if disable_sync_subtasks:
            refuse_to_block()
        return self.maybe_throw(propagate, callback)

    wait = get  # type: ignore[assignment]

    def then(
        self,
        callback: Callable[[AsyncResult], Any],
        on_error: Callable[[AsyncResult], Any] | None = None,
        weak: bool = False,
    ) -> AsyncResult:
        """Call `callback` (or `on_error`) with this result, at once; returns self."""
        (on_error if on_error is not None and self._state in states.PROPAGATE_STATES else callback)(self)
        return self

    def forget(self) -> None:
        """Nothing is kept anywhere."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Mark it as revoked; it has run already."""
        self._state = states.REVOKED
