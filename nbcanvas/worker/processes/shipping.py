"""Tasks on their way into a child: by reference when the child can import them, else by value.

A task of an importable module goes as its module's name; the child imports that, and refuses when it finds another
version of the task there than the kernel has.  A task of a notebook (or a refused one) goes by value, with the other
tasks it names, each as a blank that is filled in afterwards, because tasks may name each other.

A shipment remembers which global names its functions used, and what they meant: a cell that binds one of them again
makes it stale.
"""

from __future__ import annotations

import importlib
import io
import linecache
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any, Final

import cloudpickle

from nbcanvas.app import current_app
from nbcanvas.errors import NotSerializable
from nbcanvas.task import Task

__all__ = ["Refused", "Shipment", "by_value", "receive", "ship"]

_MISSING: Final = object()
#: What a task knows of the process it is in.
_LOCAL: Final = frozenset({"_app", "_hooks", "_arity", "__signature__", "s", "si", "delay"})


class Refused(Exception):
    """The child has no such task, or another version of it."""


class Shipment:
    """A task as bytes.

    Attributes
    ----------
    data
        The pickle: the task, and the source of the cells it was written in.
    """

    __slots__ = ("_task", "_used", "data")

    def __init__(self, task: Task, data: bytes, used: list[tuple[Mapping[str, Any], str, Any]]) -> None:
        self.data = data
        self._task = task
        self._used = used

    def is_fresh(self, task: Task) -> bool:
        """Say whether shipping `task` now would ship the same."""
        return self._task is task and all(names.get(name, _MISSING) is value for names, name, value in self._used)

    def globals(self) -> Iterator[tuple[str, Any]]:
        """Yield the names that the task's functions use of their modules, and what they mean there."""
        yield from ((name, value) for _, name, value in self._used if value is not _MISSING)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, *, values_only: bool) -> None:
        super().__init__(file, protocol=5)
        self._values_only = values_only
        self.used: dict[tuple[int, str], tuple[Mapping[str, Any], str, Any]] = {}
        self.files: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Task):
            if not self._values_only and _is_importable(type(obj).__module__):
                return _import_task, (type(obj).__module__, obj.name, obj.version)
            state = {name: value for name, value in obj.__dict__.items() if name not in _LOCAL}
            return _blank_task, (), (type(obj), state), None, None, _fill_task
        reduced = super().reducer_override(obj)
        if type(obj) is FunctionType and reduced is not NotImplemented:
            self._note(obj)
        return reduced

    def _note(self, fun: FunctionType) -> None:
        names = fun.__globals__
        self.files.add(fun.__code__.co_filename)
        for name in _names_in(fun.__code__):
            self.used[id(names), name] = (names, name, names.get(name, _MISSING))


def _names_in(code: CodeType) -> Iterator[str]:
    todo = [code]
    while todo:
        code = todo.pop()
        yield from code.co_names
        todo.extend(const for const in code.co_consts if isinstance(const, CodeType))


def _is_importable(module: str) -> bool:
    found = sys.modules.get(module)
    return module != "__main__" and getattr(found, "__spec__", None) is not None


def ship(task: Task, *, values_only: bool = False) -> Shipment:
    """Pickle a task for a child.

    Parameters
    ----------
    task
        The task.
    values_only
        Ship every task by value, importable or not.

    Raises
    ------
    NotSerializable
        When something the task uses cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, values_only=values_only)
    try:
        pickler.dump(task)
    except Exception as error:
        msg = (
            f"task {task.name} cannot be sent to a process: {type(error).__name__}: {error}; move the task into a "
            f"module, or use worker_pool='threads'"
        )
        raise NotSerializable(msg) from error
    cells = {
        name: linecache.cache[name] for name in pickler.files if name in linecache.cache and not os.path.exists(name)
    }
    return Shipment(task, pickle.dumps((file.getvalue(), cells), 5), list(pickler.used.values()))


def receive(data: bytes) -> Task:
    """Return the task of a shipment (in the child).

    Raises
    ------
    Refused
        When it went by reference, and what is here is something else.
    """
    code, cells = pickle.loads(data)  # noqa: S301 - from the kernel that started us
    linecache.cache.update(cells)
    task: Task = pickle.loads(code)  # noqa: S301 - as above
    return task


def by_value(value: Any) -> bytes:
    """Pickle something of ``__main__`` by value."""
    return bytes(cloudpickle.dumps(value, 5))


def _import_task(module: str, name: str, version: str) -> Task:
    try:
        importlib.import_module(module)
    except BaseException as error:
        raise Refused(f"{module}: {error!r}") from error
    task = current_app().tasks.here(name, version)
    if task is None:
        raise Refused(f"{name} {version} is not in {module}")
    return task


def _blank_task() -> Task:
    return object.__new__(Task)


def _fill_task(task: Task, state: tuple[type[Task], dict[str, Any]]) -> None:
    task.__class__, attributes = state
    task.__dict__.update(attributes)
    task.bind(current_app())
