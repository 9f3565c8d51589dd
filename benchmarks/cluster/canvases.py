"""The cases on a client that spells canvases as Celery does: Celery's own, and ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from benchmarks import work
from benchmarks.meters import Figures, Once

from . import asks
from .server import client
from .workers import Workers

__all__ = ["Adapter"]


class Adapter:
    """The cases.

    Parameters
    ----------
    package
        Where `chain`, `group` and `chord` are.
    app
        The app of that package.
    commands
        What starts the workers.
    submit
        Sends a signature, and returns its handle.
    value
        Waits for the value of a handle.
    """

    def __init__(
        self,
        package: Any,
        app: Any,
        commands: Sequence[Sequence[str]],
        submit: Callable[[Any], Any],
        value: Callable[[Any], Any],
    ) -> None:
        self._package = package
        self._commands = commands
        self._submit = submit
        self._value = value
        self._add, self._total, self._pid = (app.task(function) for function in (work.add, work.total, work.pid))
        self.workers = cache(self._workers)

    def _workers(self) -> Workers:
        def ask() -> Any:
            return self._value(self._submit(self._package.group([self._pid.s() for _ in range(20)])))

        return Workers(self._commands, ask)

    def _running(self, make: Callable[[], Any], expected: Any) -> Once:
        self.workers()

        def once() -> None:
            assert self._value(self._submit(make())) == expected

        return once

    def _adding(self, size: int) -> list[Any]:
        return [self._add.s(i, i) for i in range(size)]

    def group(self, size: int) -> Once:
        return self._running(lambda: self._package.group(self._adding(size)), [i + i for i in range(size)])

    def submit(self, size: int) -> tuple[Once, Once]:
        return lambda: self._submit(self._package.group(self._adding(size))), client().flushall

    def roundtrip(self, _size: int) -> Once:
        self.workers()

        def once() -> None:
            assert self._value(self._add.delay(1, 1)) == 2

        return once

    def chain(self, size: int) -> Once:
        def steps() -> list[Any]:
            return [self._add.s(0, 1), *(self._add.s(1) for _ in range(size - 1))]

        return self._running(lambda: self._package.chain(*steps()), size)

    def chord(self, size: int) -> Once:
        return self._running(lambda: self._package.chord(self._adding(size), self._total.s()), size * (size - 1))

    def stages(self, size: int) -> Figures:
        def make(stages: int, width: int) -> Once:
            chain, group = self._package.chain, self._package.group
            return self._running(
                lambda: asks.stages(chain, group, self._add, self._total, stages, width), asks.staged(stages, width)
            )

        return asks.sizes(make, size)

    def kept(self, size: int) -> Figures:
        return asks.kept(self.group(size), size)

    def memory(self, size: int) -> Figures:
        return asks.growth(self.workers(), self.group, size)

    def cases(self) -> dict[str, Any]:
        """Return the cases by name."""
        return {f"cluster-{name}": getattr(self, name) for name in asks.CASES} | {
            "cluster-stock": self.group,
            "cluster-small": self.group,
        }
