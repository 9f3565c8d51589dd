"""What a task in a child may ask of the kernel while it runs, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbcanvas.app import App, Plan
from nbcanvas.backend.port import Record
from nbcanvas.protocol.payload import pack, unpack
from nbcanvas.request import Context
from nbcanvas.task import Task

from .child import Child
from .shipping import Shipment
from .wire import exception_to, record_to_data

__all__ = ["Desk"]

#: Questions that are the backend's own.
_OF_BACKEND = frozenset(
    {"cleanup", "delete_group", "flush", "forget", "restore_group", "save_group", "settle", "update"}
)


class Desk:
    """Answers the questions of one execution, in the slot's thread.

    Parameters
    ----------
    app
        The app.
    child
        Who asks.
    context
        The request of the task that runs.
    shipment
        Gives the shipment of a task.
    """

    def __init__(self, app: App, child: Child, context: Context, shipment: Callable[[Task], Shipment]) -> None:
        self._app = app
        self._child = child
        self._context = context
        self._shipment = shipment
        self._watches: dict[int, Callable[[], None]] = {}

    def answer(self, number: int | None, what: str, packed: Any) -> None:
        """Do what is asked, and reply when somebody waits for it."""
        try:
            args = unpack(packed)
            ask = getattr(self._app.backend, what) if what in _OF_BACKEND else getattr(self, f"_{what}")
            reply, well = pack(ask(*args)), True
        except Exception as error:  # noqa: BLE001 - it belongs to the task that asked
            reply, well = exception_to(error), False
        if number is not None:
            self._child.send(("reply", number, well, reply))

    def close(self) -> None:
        """The execution has ended: nobody listens any more."""
        while self._watches:
            self._watches.popitem()[1]()

    # -- questions --------------------------------------------------------------------------------------------------

    def _submit(self, sig: Any, args: Any, kwargs: Any, options: Any) -> Any:
        return self._app.submit(sig, args, kwargs, options)

    def _publish(self, plan: Plan) -> None:
        self._app.publish(plan)

    def _grow_chord(self, more: int) -> None:
        self._app.grow_chord(more)

    def _unlock(self, *chord: Any) -> bool:
        return self._app.unlock(*chord)

    def _report(self, task_id: str, own: bool, state: str, meta: Any) -> None:
        own = own and task_id == self._context.id  # a thread a task left behind may speak too late
        self._app.report(task_id, self._context if own else None, state, meta)

    def _task(self, name: str, version: str) -> tuple[str, bytes | None] | None:
        task = self._app.tasks.find(name, version)
        if task is None:
            return None
        return task.version, self._child.news((name, task.version), self._shipment(task))

    def _main(self, name: str) -> bytes | None:
        return self._child.main_name(name)

    def _request(self, name: str) -> Any:
        return getattr(self._context, name)

    def _control(self, name: str, args: Any, kwargs: Any) -> Any:
        return getattr(self._app.control, name)(*args, **kwargs)

    def _inspect(self, name: str, args: Any, kwargs: Any) -> Any:
        return getattr(self._app.control.inspect(), name)(*args, **kwargs)

    def _record(self, task_id: str) -> Any:
        return record_to_data(self._app.backend.get(task_id))

    def _watch(self, number: int, task_ids: Sequence[str]) -> None:
        def ended(task_id: str, record: Record) -> None:
            try:
                self._child.send(("ended", number, task_id, record_to_data(record)))
            except OSError:
                self._watches.pop(number, None)  # it has died; nobody waits

        self._watches[number] = lambda: None
        self._watches[number] = self._app.backend.watch(task_ids, ended)

    def _unwatch(self, number: int) -> None:
        stop = self._watches.pop(number, None)
        if stop is not None:
            stop()
