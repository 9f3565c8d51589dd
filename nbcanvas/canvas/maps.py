"""Map, starmap and chunks: one task called for many arguments in few messages."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .composites import Composite, group
from .shape import raw
from .signature import Signature, as_signature, make

__all__ = ["chunks", "xmap", "xstarmap"]


def _task(task: Any, where: str, app: Any) -> Any:
    """Return the task to call as a signature; a task object will do."""
    if not isinstance(task, Mapping) and callable(getattr(task, "si", None)) and hasattr(task, "name"):
        return make(task, (), {})
    return as_signature(task, where, app)


def _items(it: Iterable[Any]) -> list[Any]:
    return it if isinstance(it, list) else list(it)


class _Mapped(Composite):
    """What the three have in common: they are one step, immutable, and name a task and its arguments."""

    __slots__ = ()
    NAME: ClassVar[str]
    STARS: ClassVar[str]
    MEMBERS: ClassVar[tuple[str, ...]] = ("task",)

    def _fill(self, kwargs: dict[str, Any], app: Any, options: dict[str, Any]) -> None:
        self._place(kwargs, app, {**options, "immutable": True})
        self["task"], self["subtask_type"] = self.NAME, None

    def members_text(self) -> str:
        """Return its text, as a comprehension."""
        kwargs = raw(self, "kwargs")
        call = f"{raw(kwargs['task'], 'task')}({self.STARS}x)"
        text = f"[{call} for x in {_shown.repr(kwargs['it'])}]"
        return f"chunks({text}, {kwargs['n']})" if "n" in kwargs else text


_shown = reprlib.Repr()
_shown.maxlist = _shown.maxtuple = 10


@Signature.register_type()
class xmap(_Mapped):
    """Call a task for every item, one after the other, in one message.

    Parameters
    ----------
    task
        A signature (or task); its name is what counts.
    it
        The items.
    app
        The app that runs it.
    **options
        Execution options.
    """

    __slots__ = ()
    NAME: ClassVar[str] = "celery.map"
    STARS: ClassVar[str] = ""

    def __init__(self, task: Any, it: Iterable[Any], *, app: Any = None, **options: Any) -> None:
        self._fill({"task": _task(task, "the task of a map", app), "it": _items(it)}, app, options)


@Signature.register_type()
class xstarmap(_Mapped):
    """Like :class:`xmap`, each item being the arguments of a call."""

    __slots__ = ()
    NAME: ClassVar[str] = "celery.starmap"
    STARS: ClassVar[str] = "*"

    def __init__(self, task: Any, it: Iterable[Any], *, app: Any = None, **options: Any) -> None:
        self._fill({"task": _task(task, "the task of a starmap", app), "it": _items(it)}, app, options)


@Signature.register_type()
class chunks(_Mapped):
    """Many calls as a group of starmaps of `n` calls each.

    Parameters
    ----------
    task
        A signature (or task); its name is what counts.
    it
        The arguments of each call.
    n
        Calls in one message.
    app
        The app that runs it.
    **options
        Execution options.
    """

    __slots__ = ()
    NAME: ClassVar[str] = "celery.chunks"
    STARS: ClassVar[str] = "*"

    def __init__(self, task: Any, it: Iterable[Any], n: int, *, app: Any = None, **options: Any) -> None:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"chunks of how many calls? n must be a whole number, not {n!r}")
        if n <= 0:
            raise ValueError(f"chunks need at least one call each, not {n}")
        self._fill({"task": _task(task, "the task of chunks", app), "it": _items(it), "n": n}, app, options)

    def __call__(self, **options: Any) -> Any:
        """Run it on workers."""
        return self.apply_async(**options)

    def group(self) -> Any:
        """Return the group of starmaps it stands for."""
        kwargs = raw(self, "kwargs")
        task, it, n = kwargs["task"], kwargs["it"], kwargs["n"]
        return group(
            [xstarmap(task.clone(), it[at : at + n], app=self._app) for at in range(0, len(it), n)], app=self._app
        )

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Any = None) -> Any:
        """Make the chunks and run them."""
        return cls(task, it, n, app=app)()
