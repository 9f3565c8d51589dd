"""What the worker room offers the app below it: an embedded worker, eager runs, and tasks as bytes."""

from __future__ import annotations

from typing import Any

from nbcanvas.app import App, Plan, set_engine
from nbcanvas.task import Task

__all__ = ["register"]


class _Engine:
    def start(self, app: App) -> Any:
        from .embedded import EmbeddedWorker

        return EmbeddedWorker(app).start()

    def apply(self, app: App, plan: Plan, *, throw: bool, keep: bool = False) -> Any:
        from .eager import run_eagerly

        return run_eagerly(app, plan, throw=throw, keep=keep)

    def pack(self, task: Task) -> Any:
        from .processes.shipping import ship

        return ship(task)

    def unpack(self, data: bytes) -> Task:
        from .processes.shipping import receive

        return receive(data)

    def adopt(self, app: App) -> None:
        """Nothing to do: here an app is its own."""


def register() -> None:
    """Tell the app room who runs its tasks."""
    set_engine(_Engine())
