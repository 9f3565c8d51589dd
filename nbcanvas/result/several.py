"""Several results as one: sets, and groups (Celery's guide, "Group Results")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

from nbcanvas import states
from nbcanvas.backend.port import Backend, Record
from nbcanvas.canvas.host import current_host
from nbcanvas.errors import TimeoutError  # noqa: A004 - Celery's name
from nbcanvas.plan.model import Call, Fan
from nbcanvas.protocol.payload import unpack

from .eager import EagerResult
from .joining import refuse_to_block
from .latch import Latch
from .lineage import Lineage
from .single import AsyncResult, Callback, throw
from .trees import Kinds, result_from_tuple, result_of

__all__ = ["GroupResult", "ResultSet", "is_wanting"]


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
            refuse_to_block()
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
                if waiting:
                    msg = f"{waiting} of {len(ids)} tasks have not ended within {timeout} seconds; they go on"
                    raise TimeoutError(msg)
        finally:
            stop()
        if propagate:
            for task_id in ids:
                record = backend.get(task_id)
                if record is not None and record.state in states.PROPAGATE_STATES:
                    throw(record, None, task_id, record.call.task if record.call is not None else None)

    def _waited_for(self) -> tuple[Backend, list[str]]:
        """Return the ids of the tasks that have to end, and where to ask for them."""
        leaves = [leaf for leaf in _leaves(self) if not isinstance(leaf, EagerResult)]
        ids = [leaf.id for leaf in leaves if not (leaf.sent_to_be_ignored and _never_told(leaf.app))]
        return (leaves[0].backend if leaves else self.backend), ids

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Any = None,
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield ``(id, result document)`` of each task as it ends."""
        ends: SimpleQueue[str] = SimpleQueue()  # no semaphore: an interrupt in it could keep its lock from who tells

        def told(task_id: str, _: Record) -> None:
            ends.put(task_id)

        leaves = {leaf.id: leaf for leaf in _leaves(self)}
        backend, ids = self._waited_for()
        for leaf in leaves.values():
            if isinstance(leaf, EagerResult):
                told(leaf.id, leaf._record())  # noqa: SLF001 - of this module
        stop = backend.watch(ids, told)
        try:
            for _ in leaves:
                try:
                    task_id = ends.get(timeout=timeout if timeout is None else max(timeout, 0))
                except Empty:
                    msg = f"no task ended within {timeout} seconds; they go on"
                    raise TimeoutError(msg) from None
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


def _never_told(app: Any) -> bool:
    """Whether nobody may tell that a task whose result is ignored has ended: Celery's workers do not."""
    return bool(app.remote and not app.fleet.all_ours())


def is_wanting(result: Any) -> bool:
    """Whether a result has no end, or lacks that of a member; of those that are ignored nobody need know."""
    return any(not (leaf.sent_to_be_ignored or leaf.ready()) for leaf in _leaves(result))


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


def _ignores(app: Any, calls: Sequence[Call]) -> bool:
    """Whether the result of any call is ignored; those of one task with equal options are asked about once."""
    alike = {(call.task, call.version, id(call.options)): call for call in calls}
    return any(map(app.ignores_result, alike.values()))


class GroupResult(ResultSet, Lineage):
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
        calls = [member for member in self._fan.members if type(member) is Call]
        if len(calls) != len(self._fan.members) or (self.app.remote and _ignores(self.app, calls)):
            return None
        return [call.id for call in calls]

    def _waited_for(self) -> tuple[Backend, list[str]]:
        ids = self._plain()
        return super()._waited_for() if ids is None else (self.app.backend, ids)

    def _values(self, propagate: bool, callback: Callback | None) -> list[Any]:
        ids = self._plain() if callback is None else None
        if ids is None:
            return super()._values(propagate, callback)
        # Ten thousand values need no ten thousand handles.
        known = self.app.backend.get_many(ids)
        records = map(known.get, ids)
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


Kinds.single, Kinds.eager, Kinds.several, Kinds.group = AsyncResult, EagerResult, ResultSet, GroupResult
Kinds.handles = (AsyncResult, ResultSet)
