"""What a task sees in a child: an app like its own, whose every question and order goes to the kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, Protocol

from nbcanvas.app import App, Plan
from nbcanvas.app.registry import TaskRegistry
from nbcanvas.app.settings import TaskDefaults
from nbcanvas.backend.port import Record, Tree
from nbcanvas.errors import NotSerializable
from nbcanvas.plan import Message, Node
from nbcanvas.protocol.payload import EMBEDDED, Packing, pack
from nbcanvas.request import Context, current
from nbcanvas.task import Task

from .shipping import receive
from .wire import data_to_record

__all__ = ["ChildContext", "KernelMain", "Link", "adopt", "install_main", "set_packing"]


class Link(Protocol):
    """The child's end of the conversation."""

    def ask(self, what: str, *args: Any) -> Any:
        """Ask the kernel, and wait for its answer."""

    def tell(self, what: str, *args: Any) -> None:
        """Tell the kernel."""

    def watch(self, task_ids: Sequence[str], on_end: Callable[[str, Record], None]) -> Callable[[], None]:
        """Hear of the ends of tasks; returns the way to stop."""


class ShippedTasks(TaskRegistry):
    """The tasks that have come here; any other is asked for, so a name means what it means in the kernel now."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def take(self, name: str, version: str, data: bytes) -> Task:
        """Return the task of a shipment, and keep it."""
        task = receive(data)
        self._latest[name] = self._by_version[name, version] = task
        self.versions[name] = version
        return task

    def find(self, name: str, version: str = "") -> Task | None:
        """Return the task of that name and version; the kernel's latest of that name when it is not known."""
        if version and (task := self.here(name, version)) is not None:
            return task
        found = self._link.ask("task", name, version)
        if found is None:
            return None
        version, data = found
        return self.here(name, version) if data is None else self.take(name, version, data)

    def __getitem__(self, name: str) -> Task:
        task = self.find(name)
        if task is None:
            raise self.missing(name)
        return task


class _FarBackend:
    """The kernel's backend."""

    runs = None  # they are kept by the kernel

    def __init__(self, link: Link) -> None:
        self._link = link

    def get(self, task_id: str) -> Record | None:
        return data_to_record(self._link.ask("record", task_id))

    def watch(self, task_ids: Iterable[str], on_end: Callable[[str, Record], None]) -> Callable[[], None]:
        return self._link.watch(list(task_ids), on_end)

    def expect(self, task_ids: Iterable[str]) -> None:
        """The kernel hears of them when they are sent."""

    def tells(self, task_id: str) -> bool:
        """Never: asking costs nothing that matters."""
        return False

    def cleanup(self) -> None:
        self._link.ask("cleanup")

    def flush(self, timeout: float | None = None) -> bool:
        return bool(self._link.ask("flush", timeout))

    def forget(self, task_ids: Iterable[str]) -> None:
        self._link.ask("forget", list(task_ids))

    def settle(self, task_id: str, record: Record) -> bool:
        return bool(self._link.ask("settle", task_id, record))

    def update(self, task_id: str, record: Record) -> bool:
        return bool(self._link.ask("update", task_id, record))

    def save_group(self, group_id: str, tree: Tree) -> None:
        self._link.ask("save_group", group_id, tree)

    def restore_group(self, group_id: str) -> Tree | None:
        tree: Tree | None = self._link.ask("restore_group", group_id)
        return tree

    def delete_group(self, group_id: str) -> None:
        self._link.ask("delete_group", group_id)


class _FarControl:
    """The kernel's remote control: every method is an order to it."""

    def __init__(self, link: Link, what: str = "control") -> None:
        self._link = link
        self._what = what

    def inspect(self, *_args: Any, **_kwargs: Any) -> _FarControl:
        return _FarControl(self._link, "inspect")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self._link.ask(self._what, name, args, kwargs)


class _InChild(App):
    """An app in a child: it plans and sends nothing by itself."""

    _link: Link
    _packing: Packing = EMBEDDED

    def submit(
        self,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        result = self._link.ask("submit", sig, tuple(args), dict(kwargs or {}), dict(options or {}))
        above = current()
        if above is not None and isinstance(above[1], ChildContext) and (options or {}).get("add_to_parent", True):
            above[1].saw(result)
        return result

    def publish(self, plan: Plan) -> None:
        self._link.ask("publish", plan)

    def grow_chord(self, more: int = 1) -> None:
        above = current()
        if above is not None and above[1].is_eager:  # the kernel would take the task around it for this one
            msg = "a chord that runs eagerly, in one process, does not grow: return self.replace(group([...])) instead"
            raise NotImplementedError(msg)
        self._link.ask("grow_chord", more)

    def unlock(self, *chord: Any) -> bool:
        return bool(self._link.ask("unlock", *chord))

    def report(self, task_id: str, context: Context | None, state: str, meta: Any) -> None:
        self._link.tell("report", task_id, context is not None, state, meta)

    def replacement(self, _message: Message, sig: Any) -> Node:
        node: Node = sig  # the kernel freezes it; until then it stands for itself (see `wire.outcome_to_data`)
        return node

    def _reconsider(self) -> None:
        """Draw the consequences of changed settings; where messages and results go is the kernel's affair."""
        self.router.changed()
        self.defaults = TaskDefaults.of(self.conf)

    @property
    def packing(self) -> Packing:
        """In which form values travel."""
        return self._packing

    @property
    def remote(self) -> bool:
        """Whether workers are elsewhere: the kernel's is at hand."""
        return False

    def ensure_worker(self) -> None:
        """Nothing to start: the kernel's worker runs this."""

    def start_worker(self, *_args: Any, **_kwargs: Any) -> None:
        msg = "a task cannot start a worker: it runs in one"
        raise RuntimeError(msg)


def adopt(app: App, link: Link, tasks: ShippedTasks, settings: Mapping[str, Any]) -> None:
    """Make an app that was created here, by us or by a module of the user, the kernel's."""
    kind = type(app)
    app.__class__ = type(kind.__name__, (_InChild,) if kind is App else (_InChild, kind), {"__module__": __name__})
    app._link = link  # type: ignore[attr-defined]  # noqa: SLF001 - it is one of ours now
    for task in app.tasks.values():
        tasks.register(task)
    app.tasks = tasks
    app.conf.on_change(app._reconsider)  # noqa: SLF001 - its class's, from now on
    app.conf.update(settings)
    app.backend = _FarBackend(link)  # type: ignore[assignment]
    app.control = _FarControl(link)  # type: ignore[assignment]


def set_packing(app: App, packing: Packing) -> None:
    """Say in which form values travel from here."""
    app._packing = packing  # type: ignore[attr-defined]  # noqa: SLF001 - it is one of ours


def _asked(name: str) -> Any:
    """Return a property of the request that the kernel knows; see `Context` for what it is."""
    return property(lambda self: self._link.ask("request", name), doc=getattr(Context, name).__doc__)


class ChildContext(Context):
    """A task's request whose neighbours stayed in the kernel, and are asked for when somebody looks."""

    __slots__ = ("_known", "_link")

    def __init__(self, link: Link, message: Message, hostname: str) -> None:
        super().__init__(message, message.call.task, hostname=hostname)
        self._link = link
        self._known: set[int] = set()

    def saw(self, result: Any) -> None:
        """Show a child of the task that the kernel has noted already."""
        self.children.append(result)
        self._known.add(id(result))

    @property
    def own_children(self) -> list[Any]:
        """The children that the kernel does not know of: those the task noted by itself."""
        return [child for child in self.children if id(child) not in self._known]

    callbacks = _asked("callbacks")
    errbacks = _asked("errbacks")
    chain = _asked("chain")
    chord = _asked("chord")
    delivery_info = _asked("delivery_info")
    properties = _asked("properties")
    correlation_id = _asked("correlation_id")
    reply_to = _asked("reply_to")
    origin = _asked("origin")
    argsrepr = _asked("argsrepr")
    kwargsrepr = _asked("kwargsrepr")
    stamps = _asked("stamps")


class KernelMain(ModuleType):
    """``__main__`` here: names come from the kernel's ``__main__``, by value, when an argument's class needs them."""

    def __init__(self, link: Link) -> None:
        super().__init__("__main__")
        self._ask_kernel = link.ask

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        import pickle

        data = self._ask_kernel("main", name)
        if data is None:
            msg = f"module '__main__' of the kernel has no attribute {name!r}"
            raise AttributeError(msg)
        value = pickle.loads(data)  # noqa: S301 - from the kernel that started us
        setattr(self, name, value)
        return value


def install_main(link: Link) -> KernelMain:
    """Put the kernel's names in the place of this process's own ``__main__``."""
    main = KernelMain(link)
    sys.modules["__main__"] = main
    return main


_UNSENDABLE: Final = "what the task hands to {what} cannot travel: {error}"


def packed(what: str, args: tuple[Any, ...]) -> Any:
    """Pack the arguments of a question; says which question when that fails."""
    try:
        return pack(args)
    except NotSerializable as error:
        raise NotSerializable(_UNSENDABLE.format(what=what, error=error)) from error.__cause__
