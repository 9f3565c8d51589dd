"""The result of one task, by id (Celery's guide, "Result API")."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from nbcanvas import states
from nbcanvas.backend.port import Backend, Record
from nbcanvas.canvas.host import current_host
from nbcanvas.errors import TimeoutError  # noqa: A004 - Celery's name
from nbcanvas.protocol.payload import unpack, unpack_args

from .joining import refuse_to_block
from .latch import Latch
from .lineage import Lineage
from .trees import child

if TYPE_CHECKING:
    from .several import GroupResult

__all__ = ["AsyncResult", "Callback", "throw"]

Callback = Callable[[str, Any], None]


class AsyncResult(Lineage):
    """The result of one task, by id.

    Parameters
    ----------
    id
        The task id.
    backend
        Where to ask; the app's backend by default.
    task_name
        Accepted for compatibility.
    app
        The app; the current one by default.
    parent
        The result of what came before it in a chain or a chord.
    """

    __slots__ = ("__weakref__", "_app", "_backend", "_value", "id", "parent", "sent_to_be_ignored")

    TimeoutError = TimeoutError
    #: The app of handles that are made without one; see `bound_to`.
    _home: ClassVar[Any] = None

    def __init__(
        self,
        id: Any,
        backend: Backend | None = None,
        task_name: str | None = None,
        app: Any = None,
        parent: AsyncResult | GroupResult | None = None,
    ) -> None:
        if id is None:
            msg = f"AsyncResult requires a valid id, not {type(id).__name__}"
            raise ValueError(msg)
        self.id: str = id
        self._app = app if app is not None else self._home
        self._backend = backend
        self.parent = parent
        self._value: tuple[Any] | None = None
        #: Whether it was sent with ``ignore_result``: workers elsewhere may never tell how it ended.
        self.sent_to_be_ignored = False

    # -- what it is -------------------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The app."""
        return self._app if self._app is not None else current_host()

    @property
    def backend(self) -> Backend:
        """Where it asks."""
        backend: Backend = self._backend if self._backend is not None else self.app.backend
        return backend

    @property
    def task_id(self) -> str:
        """The id (Celery's other name for it)."""
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __str__(self) -> str:
        return str(self.id)

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return other.id == self.id
        return other == self.id if isinstance(other, str) else NotImplemented

    def as_list(self) -> list[str]:
        """Return the ids from this result up to the first parent."""
        found: list[str] = []
        node: Any = self
        while node is not None:
            found.append(node.id)
            node = node.parent
        return found

    # -- states -----------------------------------------------------------------------------------------------

    def _record(self) -> Record | None:
        return self.backend.get(self.id)

    @property
    def state(self) -> str:
        """PENDING (or unknown), STARTED, RETRY, FAILURE, SUCCESS, REVOKED ... (the guide, "Task States")."""
        record = self._record()
        return record.state if record is not None else states.PENDING

    status = state

    def ready(self) -> bool:
        """Say whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Say whether the task has ended with a value."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Say whether the task has failed."""
        return self.state == states.FAILURE

    def exists(self) -> bool:
        """Say whether anything is known of the id."""
        return self._record() is not None

    @property
    def result(self) -> Any:
        """The value; the exception when it failed; the meta of a custom state; None when nothing is known yet."""
        record = self._record()
        if record is None:
            return None
        if record.exc is not None:
            return record.exc
        return self._load(record)

    info = result

    def _load(self, record: Record) -> Any:
        if record.state != states.SUCCESS:
            return unpack(record.payload)
        if self._value is None:
            self._value = (unpack(record.payload),)
        return self._value[0]

    @property
    def traceback(self) -> str | None:
        """The text of the traceback of a failed task."""
        record = self._record()
        return record.traceback if record is not None else None

    @property
    def children(self) -> list[AsyncResult | GroupResult] | None:
        """The results of what the task started (callbacks, the next step, what it delayed); None before it ended."""
        record = self._record()
        if record is None or record.done is None:
            return None
        return [child(one, self._app) for one in record.children]

    @property
    def date_done(self) -> datetime | None:
        """When it ended, in UTC."""
        record = self._record()
        return None if record is None or record.done is None else datetime.fromtimestamp(record.done, UTC)

    def _of_call(self, read: Callable[[Record], Any]) -> Any:
        record = self._record()
        return None if record is None or record.call is None else read(record)

    @property
    def name(self) -> str | None:
        """The task's name (as with ``result_extended``, which is always on here)."""
        found: str | None = self._of_call(lambda r: r.call.task if r.call else None)
        return found

    @property
    def args(self) -> Any:
        """The call's own positional arguments."""
        return self._of_call(lambda r: unpack_args(r.call.payload)[0] if r.call else None)

    @property
    def kwargs(self) -> Any:
        """The call's keyword arguments."""
        return self._of_call(lambda r: unpack_args(r.call.payload)[1] if r.call else None)

    @property
    def worker(self) -> str | None:
        """The worker slot that ran it."""
        record = self._record()
        return None if record is None else record.worker

    @property
    def retries(self) -> int | None:
        """How often it was retried."""
        record = self._record()
        return None if record is None else record.retries

    @property
    def queue(self) -> str | None:
        """The queue it was sent to."""
        found: str | None = self._of_call(lambda r: self.app.queue_of(r.call))
        return found

    @property
    def ignored(self) -> bool:
        """Whether it was sent with ``ignore_result``, so that its value is not kept."""
        return self.sent_to_be_ignored or bool(
            self._of_call(lambda r: r.call.options.get("ignore_result") if r.call else None)
        )

    @property
    def supports_native_join(self) -> bool:
        """Whether a group of such results waits for all at once, rather than one after the other."""
        return True

    def _get_task_meta(self) -> Mapping[str, Any]:
        """Return the result document with Celery's keys, stamps included."""
        record = self._record()
        if record is None:
            return {"status": states.PENDING, "result": None}
        meta: dict[str, Any] = {
            "task_id": self.id,
            "status": record.state,
            "result": self.result,
            "traceback": record.traceback,
            "children": self.children or [],
            "date_done": self.date_done,
            "parent_id": record.parent_id,
            "name": self.name,
            "args": self.args,
            "kwargs": self.kwargs,
            "worker": record.worker,
            "retries": record.retries,
            "queue": self.queue,
        }
        if record.call is not None:
            meta["group_id"] = record.call.group_id
            if record.call.stamps:
                meta["stamped_headers"] = list(record.call.stamps)
                meta |= {
                    k: list(v) if isinstance(v, list | tuple | set | frozenset) else [v]
                    for k, v in record.call.stamps.items()
                }
        return meta

    # -- waiting ----------------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callback | None = None,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
        EXCEPTION_STATES: frozenset[str] = states.EXCEPTION_STATES,
        PROPAGATE_STATES: frozenset[str] = states.PROPAGATE_STATES,
    ) -> Any:
        """Wait until the task has ended, and return its value.

        Parameters
        ----------
        timeout
            Seconds to wait at most.
        propagate
            Raise the task's exception; with False return it.
        interval, on_interval
            Call `on_interval` every `interval` seconds while waiting.
        callback
            Called with ``(id, value)``.
        disable_sync_subtasks
            Refuse to wait inside a task.
        no_ack, follow_parents, on_message, EXCEPTION_STATES, PROPAGATE_STATES
            As in Celery; what a failed parent does to its successors is recorded there when it happens.

        Raises
        ------
        TimeoutError
            After `timeout` seconds; the task goes on.
        """
        if disable_sync_subtasks:
            refuse_to_block()
        record = None if timeout != 0 and self.backend.tells(self.id) else self._record()  # who does not wait asks
        if record is None and self.sent_to_be_ignored and self.app.remote:
            return None  # as in Celery: nothing is kept to wait for
        if record is None or record.state not in states.READY_STATES:
            latch = Latch(1)
            stop = self.backend.watch((self.id,), latch)
            try:
                if not latch.wait(timeout, interval, on_interval):
                    msg = f"the task {self.id} has not ended within {timeout} seconds; it goes on"
                    raise TimeoutError(msg)
            finally:
                stop()
            record = self._record()
        if record is None:  # forgotten while waiting
            return None
        return self._outcome(record, PROPAGATE_STATES if propagate else frozenset(), callback)

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Callback | None = None) -> Any:
        """Raise the exception of a failed task; return the value of any other."""
        return self._outcome(self._record(), states.PROPAGATE_STATES if propagate else frozenset(), callback)

    maybe_reraise = maybe_throw

    def _outcome(self, record: Record | None, raises: frozenset[str], callback: Callback | None) -> Any:
        """Raise how the task ended, when that is in one of the states `raises`; else return its value."""
        if record is not None and record.state in raises:
            throw(record, callback, self.id, self.name)
        value = self.result
        if callback is not None:
            callback(self.id, value)
        return value

    def throw(self, exc: BaseException | None = None, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise an exception here: `exc`, or the one that is being handled (Celery's name for it)."""
        found = exc if exc is not None else sys.exception()
        raise found if found is not None else RuntimeError("there is no exception to throw")

    def then(
        self,
        callback: Callable[[AsyncResult], Any],
        on_error: Callable[[AsyncResult], Any] | None = None,
        weak: bool = False,
    ) -> AsyncResult:
        """Call `callback` (or `on_error`) with this result when the task has ended; returns self."""

        def told(_: str, record: Record) -> None:
            if record.state in states.PROPAGATE_STATES and on_error is not None:
                on_error(self)
            else:
                callback(self)

        self.backend.watch((self.id,), told)
        return self

    def forget(self) -> None:
        """Forget the result, and those of its parents."""
        node: Any = self
        while node is not None:
            node._forget()  # noqa: SLF001 - a result like this one
            node = node.parent

    def _forget(self) -> None:
        self._value = None
        self.backend.forget((self.id,))

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Do not run the task; what waits for it ends as REVOKED too.

        Parameters
        ----------
        terminate
            Also end it when it is running.
        connection, signal, wait, timeout
            As in Celery.
        """
        self.app.control.revoke(self.id, terminate=terminate, signal=signal)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Do not run tasks that bear one of these stamps (see `Control.revoke_by_stamped_headers`)."""
        self.app.control.revoke_by_stamped_headers(headers, terminate=terminate, signal=signal)

    def get_leaf(self) -> Any:
        """Return the value of the last task that `collect` finds."""
        value = None
        for _, found in self.collect():
            value = found
        return value


def throw(record: Record, callback: Callback | None, task_id: str, name: str | None) -> None:
    """Raise how a task ended, with a note of where that was."""
    exc = record.exc
    if callback is not None:
        callback(task_id, exc)
    assert exc is not None  # noqa: S101 - every such state has one
    _say_where(exc, record, task_id, name)
    raise exc.with_traceback(None)


def _say_where(exc: BaseException, record: Record, task_id: str, name: str | None) -> None:
    """Note once in an exception where its task failed: it is raised far away from there."""
    text = record.traceback
    if not text:
        return
    how = f"failed on {record.worker}" if record.worker else "failed, or what it waited for did"
    with suppress(Exception):  # a class may refuse attributes
        if not any(text in note for note in getattr(exc, "__notes__", ())):
            exc.add_note(f"\n{name or 'task'}[{task_id}] {how}:\n\n{text}")
