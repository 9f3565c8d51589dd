"""The tasks of an app, by name; every definition of a name is remembered: runs may still use it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, MutableMapping

from nbcanvas.errors import NotRegistered
from nbcanvas.task import Task

__all__ = ["TaskRegistry"]


class TaskRegistry(MutableMapping[str, Task]):
    """Name -> task; the latest definition of a name counts, and a planned call finds the one it was planned with."""

    def __init__(self) -> None:
        self._latest: dict[str, Task] = {}
        self._by_version: dict[tuple[str, str], Task] = {}
        self._shipped: set[tuple[str, str]] = set()
        #: Task name -> version of its latest definition.
        self.versions: dict[str, str] = {}

    def register(self, task: Task) -> None:
        """Register a task; one of the same name is replaced for what is planned from now on."""
        name = task.name
        self._latest[name] = task
        self._by_version[name, task.version] = task
        self.versions[name] = task.version

    def admit(self, task: Task) -> None:
        """Keep a task that came with a message: who does not ask for its version does not find it."""
        self._shipped.add((task.name, task.version))
        self._by_version[task.name, task.version] = task

    def dismiss(self, task: Task) -> None:
        """Forget a task that came with a message."""
        self._shipped.discard((task.name, task.version))
        self._by_version.pop((task.name, task.version), None)

    def came(self, name: str, version: str) -> bool:
        """Whether a task came with a message."""
        return (name, version) in self._shipped

    def find(self, name: str, version: str = "") -> Task | None:
        """Return the task of that name and version; the latest of that name when the version is not known."""
        return self._by_version.get((name, version)) or self._latest.get(name)

    def here(self, name: str, version: str) -> Task | None:
        """Return the task of exactly that name and version, if it was defined here."""
        return self._by_version.get((name, version))

    def missing(self, name: str) -> NotRegistered:
        """Return the error for a name nobody registered, with the nearest one that is."""
        near = difflib.get_close_matches(name, self._latest, 1)
        hint = f"did you mean {near[0]!r}?" if near else "define it with @task, or import the module that does"
        return NotRegistered(name, hint)

    def __getitem__(self, name: str) -> Task:
        try:
            return self._latest[name]
        except KeyError:
            raise self.missing(name) from None

    def __setitem__(self, name: str, task: Task) -> None:
        task.name = name  # type: ignore[misc]
        self.register(task)

    def __delitem__(self, name: str) -> None:
        if name not in self._latest:
            raise self.missing(name)
        del self._latest[name]
        self.versions.pop(name, None)

    unregister = __delitem__

    def __contains__(self, name: object) -> bool:
        return name in self._latest

    def __iter__(self) -> Iterator[str]:
        return iter(self._latest)

    def __len__(self) -> int:
        return len(self._latest)
