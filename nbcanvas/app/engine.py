"""What runs tasks for an app, and what it is given to run: a room above registers itself here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.plan import Node, Then, Transition, start
from nbcanvas.task import Task

if TYPE_CHECKING:
    from .app import App

__all__ = ["Engine", "Plan", "adopt", "engine", "set_engine"]


class Engine(Protocol):
    """What runs tasks for an app; the worker room registers itself as this."""

    def start(self, app: App) -> Any:
        """Start an embedded worker as the settings say, and return it."""

    def apply(self, app: App, plan: Plan, *, throw: bool, keep: bool = False) -> Any:
        """Run a plan in the calling thread, and return its eager result; `keep` results where workers keep theirs."""

    def pack(self, task: Task) -> Any:
        """Return a task as bytes (``data``), with what it takes along."""

    def unpack(self, data: bytes) -> Task:
        """Return the task in some bytes; they are unpickled, and have to be trusted."""

    def adopt(self, app: App) -> None:
        """Hear of a new app; in a worker's child process it becomes the kernel's."""


class _Registered:
    engine: Engine | None = None


def set_engine(engine: Engine) -> None:
    """Say what runs tasks (the worker room does this once)."""
    _Registered.engine = engine


def engine() -> Engine:
    """Return what runs tasks.

    Raises
    ------
    ImproperlyConfigured
        When only a room below was imported.
    """
    if _Registered.engine is None:
        msg = "nothing here can run tasks: import nbcanvas, not one of its rooms alone"
        raise ImproperlyConfigured(msg)
    return _Registered.engine


def adopt(app: App) -> None:
    """Tell what runs tasks, if anything does, of a new app."""
    if _Registered.engine is not None:
        _Registered.engine.adopt(app)


class Plan:
    """A canvas that is ready to start.

    Attributes
    ----------
    node
        The frozen canvas.
    root_id, parent_id
        For its messages' headers.
    begin
        Says what starts, as a function of the time; by default all of it does.
    then
        What follows it.
    """

    __slots__ = ("begin", "node", "parent_id", "root_id", "then")

    def __init__(
        self,
        node: Node,
        root_id: str,
        parent_id: str | None,
        begin: Callable[[float], Transition] | None = None,
        then: Then = None,
    ) -> None:
        self.node = node
        self.root_id = root_id
        self.parent_id = parent_id
        self.begin = begin or self._all
        self.then = then

    def _all(self, now: float) -> Transition:
        return start(self.node, (), self.then, self.root_id, self.parent_id, now)
