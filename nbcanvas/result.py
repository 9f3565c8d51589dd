"""Result handles: ask for a state, wait for a value (Celery's guide: "Result API", "Group Results", "Graphs").

A handle holds an id and where to ask; it can be made from the id alone, at any time.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from typing import IO, Any, ClassVar, NoReturn, TypeVar

from nbcanvas import states
from nbcanvas.backend.port import Backend, Record, Tree
from nbcanvas.canvas.host import current_host
from nbcanvas.errors import IncompleteStream, TimeoutError  # noqa: A004 - Celery's name
from nbcanvas.plan.model import Call, Chain, Fan, Node
from nbcanvas.protocol.payload import unpack, unpack_args
from nbcanvas.request import running

__all__ = [
    "AsyncResult",
    "DependencyGraph",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "allow_join_result",
    "bound_to",
    "result_from_tuple",
    "result_of",
]

Callback = Callable[[str, Any], None]


class _Joining(threading.local):
    allowed = False


_joining = _Joining()


@contextmanager
def allow_join_result() -> Generator[None]:
    """Allow waiting for results inside a task, in this block (it may take a worker slot that the result needs)."""
    before, _joining.allowed = _joining.allowed, True
    try:
        yield
    finally:
        _joining.allowed = before


def _refuse_to_block() -> None:
    if _joining.allowed or not running.stack:
        return
    _, context = running.stack[-1]
    if not context.called_directly and not context.is_eager:
        msg = (
            "Never call result.get() within a task! It can wait for ever for a worker slot that this task holds. "
            "Chain the tasks instead, or use allow_join_result() if you must."
        )
        raise RuntimeError(msg)


class Latch:
    """Waits until a number of tasks have ended; set from any thread, interruptible in the main one.

    Parameters
    ----------
    count
        How many ends to wait for.
    stops
        Set the latch at once when this says so of a record (a failure, when it is to be raised at once).
    """

    def __init__(self, count: int, stops: Callable[[Record], bool] | None = None) -> None:
        # Counting by an iterator is atomic, and cheaper than a lock: ten thousand ends count here.
        self._next = itertools.count(1).__next__
        self._count = count
        self._stops = stops
        self._gate = threading.Lock()
        self._gate.acquire()
        self._open = False
        self._setting = threading.Lock()
        if not count:
            self._set()

    def __call__(self, task_id: str, record: Record) -> None:
        """Count one end (what `Backend.watch` calls)."""
        if self._next() >= self._count or (self._stops is not None and self._stops(record)):
            self._set()

    def is_set(self) -> bool:
        """Say whether it is set."""
        return self._open

    def _set(self) -> None:
        with self._setting:
            if self._open:
                return
            self._open = True
        self._gate.release()

    def wait(
        self, timeout: float | None = None, interval: float = 0.5, on_interval: Callable[[], Any] | None = None
    ) -> bool:
        """Return True once set, False after `timeout` seconds; calls `on_interval` each `interval` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._open:
            left = -1.0 if until is None else until - time.monotonic()
            if until is not None and left <= 0:
                return False
            step = left if on_interval is None else (interval if left < 0 else min(interval, left))
            if self._gate.acquire(timeout=step):
                self._gate.release()
                return True
            if on_interval is not None:
                on_interval()
        return True


class AsyncResult:
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

    __slots__ = ("__weakref__", "_app", "_backend", "_value", "id", "parent")

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

    def __reduce__(self) -> Any:
        return _from_rows, (_rows(self),)

    def as_tuple(self) -> Tree:
        """Return it as plain data: ``((id, parent), None)``."""
        return _tree(self)

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
        return [_child(child, self._app) for child in record.children]

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
        return bool(self._of_call(lambda r: r.call.options.get("ignore_result") if r.call else None))

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
            _refuse_to_block()
        record = self._record()
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
        if propagate and record.state in PROPAGATE_STATES:
            _throw(record, callback, self.id, self.name)
        value = self.result
        if callback is not None:
            callback(self.id, value)
        return value

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Callback | None = None) -> Any:
        """Raise the exception of a failed task; return the value of any other."""
        record = self._record()
        if record is not None and propagate and record.state in states.PROPAGATE_STATES:
            _throw(record, callback, self.id, self.name)
        value = self.result
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

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

    # -- the graph --------------------------------------------------------------------------------------------

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield ``(parent, result)`` for this result and everything its task started.

        Raises
        ------
        IncompleteStream
            At a task that has not ended, unless `intermediate`.
        """
        todo: deque[tuple[Any, Any]] = deque(((None, self),))
        while todo:
            parent, node = todo.popleft()
            yield parent, node
            if node.ready():
                todo.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream(f"{node.id} has not ended; pass intermediate=True to see what there is")

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Yield ``(result, value)`` for this result and everything its task started, waiting for each."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def get_leaf(self) -> Any:
        """Return the value of the last task that `collect` finds."""
        value = None
        for _, found in self.collect():
            value = found
        return value

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph:
        """Return the graph of this result and everything its task started."""
        graph = DependencyGraph(formatter=formatter)
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """The graph of this result and everything its task started.

        Raises
        ------
        IncompleteStream
            While some of it has not ended.
        """
        return self.build_graph()


def _throw(record: Record, callback: Callback | None, task_id: str, name: str | None) -> None:
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
            _refuse_to_block()
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


class ResultSet:
    """Some results, taken together.

    Parameters
    ----------
    results
        AsyncResults and GroupResults.
    app
        The app; the current one by default.
    """

    #: Nothing comes before a set; a group may have a parent.
    parent: Any = None
    #: The app of sets that are made without one; see `bound_to`.
    _home: ClassVar[Any] = None

    def __init__(self, results: Iterable[Any] = (), app: Any = None, **kwargs: Any) -> None:
        self._app = app if app is not None else self._home
        self._results: list[Any] | None = list(results)

    @property
    def results(self) -> list[Any]:
        """The results, in call order."""
        assert self._results is not None  # noqa: S101 - GroupResult overrides this
        return self._results

    @property
    def app(self) -> Any:
        """The app."""
        return self._app if self._app is not None else current_host()

    @property
    def backend(self) -> Backend:
        """Where the results ask."""
        found: Backend = self.results[0].backend if self.results else self.app.backend
        return found

    # -- the collection ---------------------------------------------------------------------------------------

    def add(self, result: Any) -> None:
        """Add a result, unless it is there."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Any) -> None:
        """Remove a result, given as such or by id; KeyError when it is not there."""
        try:
            self.results.remove(self.app.AsyncResult(result) if isinstance(result, str) else result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Remove a result if it is there."""
        with suppress(KeyError):
            self.remove(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add several results."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        """Remove all."""
        self.results.clear()

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(r.id for r in self.results[:_SHOWN])
        more = f", … {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return f"<{type(self).__name__}: [{shown}{more}]>"

    @property
    def supports_native_join(self) -> bool:
        """Whether `join` waits for all at once, rather than one after the other."""
        return True

    # -- states -----------------------------------------------------------------------------------------------

    def successful(self) -> bool:
        """Say whether every task has ended with a value."""
        return all(leaf.successful() for leaf in _leaves(self))

    def failed(self) -> bool:
        """Say whether any task has failed."""
        return any(leaf.failed() for leaf in _leaves(self))

    def waiting(self) -> bool:
        """Say whether any task has not ended."""
        return any(not leaf.ready() for leaf in _leaves(self))

    def ready(self) -> bool:
        """Say whether every task has ended."""
        return all(leaf.ready() for leaf in _leaves(self))

    def completed_count(self) -> int:
        """Return how many tasks ended with a value."""
        return sum(result.successful() for result in self.results)

    def maybe_throw(self, callback: Callback | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first failed task, in call order."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # -- waiting ----------------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callback | None = None,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Wait for all, and return their values in call order (see `join`)."""
        return self.join(timeout, propagate, interval, callback, no_ack, on_message, disable_sync_subtasks, on_interval)

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callback | None = None,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Wait for all, and return their values in call order.

        Parameters
        ----------
        timeout
            Seconds to wait at most, for all of them together.
        propagate
            Raise the exception of a failed task, as soon as one has failed; with False it stands in the list.
        interval, on_interval
            Call `on_interval` every `interval` seconds while waiting.
        callback
            Called with ``(id, value)`` for each, in call order.
        no_ack, on_message, disable_sync_subtasks
            As for `AsyncResult.get`.

        Raises
        ------
        TimeoutError
            After `timeout` seconds; the tasks go on.
        """
        if disable_sync_subtasks:
            _refuse_to_block()
        self._await_all(timeout, propagate, interval, on_interval)
        return self._values(propagate, callback)

    def _values(self, propagate: bool, callback: Callback | None) -> list[Any]:
        values: list[Any] = []
        for result in self.results:
            value = result.get(timeout=0.0, propagate=propagate, disable_sync_subtasks=False)
            if callback is not None:
                callback(result.id, value)
            values.append(value)
        return values

    join_native = join

    def _await_all(
        self, timeout: float | None, propagate: bool, interval: float, on_interval: Callable[[], Any] | None
    ) -> None:
        backend, ids = self._waited_for()
        if not ids:
            return
        latch = Latch(len(ids), _is_failure if propagate else None)
        stop = backend.watch(ids, latch)
        try:
            if not latch.wait(timeout, interval, on_interval):
                waiting = sum((r := backend.get(i)) is None or r.state not in states.READY_STATES for i in ids)
                msg = f"{waiting} of {len(ids)} tasks have not ended within {timeout} seconds; they go on"
                raise TimeoutError(msg)
        finally:
            stop()
        if propagate:
            for task_id in ids:
                record = backend.get(task_id)
                if record is not None and record.state in states.PROPAGATE_STATES:
                    _throw(record, None, task_id, record.call.task if record.call is not None else None)

    def _waited_for(self) -> tuple[Backend, list[str]]:
        """Return the ids of the tasks that have to end, and where to ask for them."""
        leaves = [leaf for leaf in _leaves(self) if not isinstance(leaf, EagerResult)]
        return (leaves[0].backend if leaves else self.backend), [leaf.id for leaf in leaves]

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Any = None,
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield ``(id, result document)`` of each task as it ends."""
        ends: deque[str] = deque()
        ready = threading.Semaphore(0)

        def told(task_id: str, _: Record) -> None:
            ends.append(task_id)
            ready.release()

        leaves = {leaf.id: leaf for leaf in _leaves(self)}
        backend, ids = self._waited_for()
        for leaf in leaves.values():
            if isinstance(leaf, EagerResult):
                told(leaf.id, leaf._record())  # noqa: SLF001 - of this module
        stop = backend.watch(ids, told)
        try:
            for _ in leaves:
                if not ready.acquire(timeout=timeout):
                    msg = f"no task ended within {timeout} seconds; they go on"
                    raise TimeoutError(msg)
                task_id = ends.popleft()
                yield task_id, leaves[task_id]._get_task_meta()  # noqa: SLF001 - Celery's name for it
        finally:
            stop()

    def then(self, callback: Callable[[Any], Any], on_error: Any = None, weak: bool = False) -> None:
        """Call `callback` with this set when every task has ended."""
        backend, ids = self._waited_for()
        latch = Latch(len(ids))

        def told(task_id: str, record: Record) -> None:
            latch(task_id, record)
            if latch.is_set():
                callback(self)

        if ids:
            backend.watch(ids, told)
        else:
            callback(self)

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Revoke every task (see `AsyncResult.revoke`)."""
        self.app.control.revoke([leaf.id for leaf in _leaves(self)], terminate=terminate, signal=signal)

    def forget(self) -> None:
        """Forget every result."""
        for result in self.results:
            result.forget()


_SHOWN = 10


def _is_failure(record: Record) -> bool:
    return record.state in states.PROPAGATE_STATES


def _leaves(result: Any) -> Iterator[AsyncResult]:
    todo = [result]
    while todo:
        node = todo.pop()
        if isinstance(node, ResultSet):
            todo.extend(reversed(node.results))
        else:
            yield node


class GroupResult(ResultSet):
    """The results of a group.

    Parameters
    ----------
    id
        The group id.
    results
        The members' results, in call order.
    parent
        The result of what came before the group.
    app
        The app; the current one by default.
    """

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = None,
        parent: Any = None,
        app: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__((), app)
        self.id = id
        self.parent = parent
        self._fan: Fan | None = None
        if results is not None:
            self._results = list(results)

    @classmethod
    def of(cls, fan: Fan, app: Any, parent: Any) -> GroupResult:
        """Return the handle of a frozen group; its members' handles are made when somebody asks for them."""
        group = cls(fan.id, None, parent, app)
        group._results, group._fan = None, fan
        return group

    @property
    def results(self) -> list[Any]:
        """The members' results, in call order."""
        if self._results is None:
            assert self._fan is not None  # noqa: S101 - set together
            self._results = [result_of(member, self._app) for member in self._fan.members]
        return self._results

    @results.setter
    def results(self, results: Iterable[Any]) -> None:
        self._results = list(results)

    def _plain(self) -> list[str] | None:
        """Return the members' ids while nobody has asked for their handles, if every member is one call."""
        if self._results is not None or self._fan is None:
            return None
        ids = [member.id for member in self._fan.members if type(member) is Call]
        return ids if len(ids) == len(self._fan.members) else None

    def _waited_for(self) -> tuple[Backend, list[str]]:
        ids = self._plain()
        return super()._waited_for() if ids is None else (self.app.backend, ids)

    def _values(self, propagate: bool, callback: Callback | None) -> list[Any]:
        ids = self._plain() if callback is None else None
        if ids is None:
            return super()._values(propagate, callback)
        # Ten thousand values need no ten thousand handles.
        records = map(self.app.backend.get, ids)
        return [None if r is None else r.exc if r.exc is not None else unpack(r.payload) for r in records]

    def __len__(self) -> int:
        return len(self._fan.members) if self._results is None and self._fan is not None else len(self.results)

    @property
    def children(self) -> list[Any]:
        """The members' results."""
        return self.results

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return other.id == self.id and other.results == self.results and other.parent == self.parent
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.id)

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        shown = ", ".join(str(r.id) for r in self.results[:_SHOWN])
        more = f", … {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return f"<{type(self).__name__}: {self.id} [{shown}{more}]>"

    def __reduce__(self) -> Any:
        return _from_rows, (_rows(self),)

    def as_tuple(self) -> Tree:
        """Return it as plain data: ``((id, parent), [members])``."""
        return _tree(self)

    @property
    def state(self) -> str:
        """The group as one: FAILURE or REVOKED once a member is, SUCCESS when all are, else STARTED or PENDING."""
        found = {leaf.state for leaf in _leaves(self)}
        if not found <= states.READY_STATES:
            return states.STARTED if found - {states.PENDING} else states.PENDING
        return next((s for s in (states.FAILURE, states.REVOKED) if s in found), states.SUCCESS)

    def save(self, backend: Backend | None = None) -> None:
        """Keep the group's ids under its own id, for `restore`."""
        (backend or self.app.backend).save_group(str(self.id), self.as_tuple())

    def delete(self, backend: Backend | None = None) -> None:
        """Forget what `save` kept."""
        (backend or self.app.backend).delete_group(str(self.id))

    @classmethod
    def restore(cls, id: str, backend: Backend | None = None, app: Any = None) -> GroupResult | None:
        """Return a saved group, or None."""
        app = app if app is not None else cls._home if cls._home is not None else current_host()
        tree = (backend or app.backend).restore_group(id)
        found = result_from_tuple(tree, app) if tree is not None else None
        return found if isinstance(found, GroupResult) else None

    def _forget(self) -> None:
        super().forget()

    def forget(self) -> None:
        """Forget every member's result, and those of the parents."""
        node: Any = self
        while node is not None:
            node._forget()  # noqa: SLF001 - a result like this one
            node = node.parent

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield ``(parent, result)`` for this group and everything below it."""
        return AsyncResult.iterdeps(self, intermediate)  # type: ignore[arg-type]

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph:
        """Return the graph of this group and everything below it."""
        return AsyncResult.build_graph(self, intermediate, formatter)  # type: ignore[arg-type]

    graph = property(build_graph)

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Yield ``(result, value)`` for this group and everything below it."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)


Handle = TypeVar("Handle", AsyncResult, GroupResult, ResultSet)


def bound_to(app: Any, kind: type[Handle]) -> type[Handle]:
    """Return a class of handles that ask `app` (what ``app.AsyncResult`` is, and its two siblings)."""
    return type(kind.__name__, (kind,), {"__slots__": (), "__module__": kind.__module__, "_home": app})


# -- from plans and tuples --------------------------------------------------------------------------------------


def result_of(node: Node, app: Any, parent: Any = None) -> AsyncResult | GroupResult:
    """Return the handle of a frozen canvas: of its last step, with ``parent`` leading back through the others."""
    if isinstance(node, Call):
        return AsyncResult(node.id, None, None, app, parent)
    if isinstance(node, Fan):
        return GroupResult.of(node, app, parent)
    for step in node.steps:
        parent = result_of(step, app, parent)
    return parent  # type: ignore[no-any-return]


def _child(child: Any, app: Any) -> Any:
    return (
        result_of(child, app)
        if isinstance(child, Call | Chain | Fan)
        else (child if isinstance(child, AsyncResult | ResultSet) else result_from_tuple(child, app))
    )


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """Return the handle that `as_tuple` was called on.

    Parameters
    ----------
    r
        A tuple, or the same as nested lists (as JSON brings it back); a handle is returned as it is.
    app
        The app; the current one by default.
    """
    order: list[tuple[Any, str, Any, Any]] = []
    todo = [r]
    while todo:  # in a loop: a chain of 10 000 has as many parents
        tree = todo.pop()
        if tree is None or isinstance(tree, AsyncResult | ResultSet):
            continue
        head, members = tree if len(tree) == 2 else (tree, None)
        task_id, above = head if isinstance(head, list | tuple) else (head, None)
        order.append((tree, task_id, above, members))
        todo.append(above)
        todo.extend(members or ())
    made: dict[int, Any] = {}

    def handle(tree: Any) -> Any:
        return made.get(id(tree), tree)

    for tree, task_id, above, members in reversed(order):
        made[id(tree)] = (
            AsyncResult(task_id, app=app, parent=handle(above))
            if members is None
            else GroupResult(task_id, [handle(member) for member in members], handle(above), app)
        )
    return handle(r)


#: One handle: its id (or its facts, if it keeps its value itself), the row of its parent, those of its members.
_Row = tuple[Any, int | None, list[int] | None]


def _rows(top: Any) -> list[_Row]:
    """Return a handle, its parents and its members as a flat list, `top` last; however deep, without recursion."""
    order: list[Any] = []
    todo = [top]
    while todo:
        node = todo.pop()
        order.append(node)
        if node.parent is not None:
            todo.append(node.parent)
        if isinstance(node, ResultSet):
            todo.extend(node.results)
    rows: list[_Row] = []
    places: dict[int, int] = {}
    for node in reversed(order):
        if id(node) in places:
            continue
        members = [places[id(member)] for member in node.results] if isinstance(node, ResultSet) else None
        parent = None if node.parent is None else places[id(node.parent)]
        places[id(node)] = len(rows)
        rows.append((node._facts() if isinstance(node, EagerResult) else node.id, parent, members))  # noqa: SLF001 - of this module
    return rows


def _from_rows(rows: Sequence[_Row]) -> Any:
    """Return the handle that `_rows` was called with."""
    made: list[Any] = []
    for what, parent, members in rows:
        above = None if parent is None else made[parent]
        if members is not None:
            made.append(GroupResult(what, [made[member] for member in members], above))
        else:
            found = EagerResult(*what) if isinstance(what, tuple) else AsyncResult(what)
            found.parent = above
            made.append(found)
    return made[-1]


def _tree(top: Any) -> Tree:
    made: list[Tree] = []
    for what, parent, members in _rows(top):
        task_id = what[0] if isinstance(what, tuple) else what
        made.append(
            (
                (task_id, None if parent is None else made[parent]),
                None if members is None else [made[member] for member in members],
            )
        )
    return made[-1]


class DependencyGraph:
    """Which result led to which (Celery's guide, "Graphs").

    Parameters
    ----------
    formatter
        Accepted for compatibility.
    """

    def __init__(self, it: Iterable[tuple[Any, Iterable[Any]]] | None = None, formatter: Any = None) -> None:
        self.formatter = formatter
        self.adjacent: dict[Any, list[Any]] = {node: list(edges) for node, edges in it or ()}

    def add_arc(self, obj: Any) -> None:
        """Add a node."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: Any, B: Any) -> None:
        """Add an edge from `A` to `B`."""
        self.adjacent[A].append(B)

    def valency_of(self, obj: Any) -> int:
        """Return how many nodes can be reached from `obj`, itself included."""
        seen = {obj}
        todo = [obj]
        while todo:
            for node in self.adjacent.get(todo.pop(), ()):
                if node not in seen:
                    seen.add(node)
                    todo.append(node)
        return len(seen)

    def topsort(self) -> list[Any]:
        """Return the nodes, each before what leads to it.

        Raises
        ------
        ValueError
            When the graph has a cycle.
        """
        try:
            return list(TopologicalSorter(self.adjacent).static_order())
        except CycleError as error:
            msg = f"the result graph has a cycle: {error.args[1]}"
            raise ValueError(msg) from None

    def edges(self) -> list[Any]:
        """Return the nodes that lead to others."""
        return [node for node, below in self.adjacent.items() if below]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: object) -> bool:
        return obj in self.adjacent

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        """Return the nodes, each with those it leads to."""
        return self.adjacent.items()

    def to_dot(self, fh: IO[str], formatter: Any = None) -> None:
        """Write the graph in Graphviz' language to an open text file."""
        names = {node: f'"{_quoted(node)}"' for node in self.adjacent}
        fh.write("digraph dependencies {\n    node [shape=box, style=rounded];\n")
        for node, name in names.items():
            fh.write(f"    {name};\n")
            for below in self.adjacent[node]:
                fh.write(f"    {name} -> {names.get(below) or _quoted(below)};\n")
        fh.write("}\n")

    def __repr__(self) -> str:
        lines: list[str] = []
        for top in self.adjacent:
            todo = [(top, 0)]
            seen: set[Any] = set()
            while todo:
                node, level = todo.pop()
                lines.append(f"{'     ' * level}{node}({self.valency_of(node) - 1})")
                if node not in seen:
                    seen.add(node)
                    todo.extend((below, level + 1) for below in reversed(self.adjacent.get(node, [])))
        return "\n".join(lines)


def _quoted(node: Any) -> str:
    return str(node).replace("\\", "\\\\").replace('"', '\\"')
