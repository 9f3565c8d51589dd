"""Chain, group and chord."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from nbcanvas.errors import CanvasError
from nbcanvas.garbage import collecting_less

from .algebra import as_list, fold, steps_of
from .checks import NO_BODY, not_a_signature
from .copying import replica, replicate_members
from .host import default_host
from .shape import EXPOSED, FRESH, raw
from .signature import Signature, as_signature, bound_app
from .trampoline import Walk, drive

__all__ = ["chain", "chord", "group", "is_composite"]


class Composite(Signature):
    """A signature made of signatures, in ``kwargs`` (a map and its like are, too, though they are one step)."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        # Whoever reads the members may change them, so they stop being shared: see nbcanvas.canvas.shape.
        if key == "kwargs" and self._held != EXPOSED:
            self._expose()
        return dict.__getitem__(self, key)

    def _expose(self) -> None:
        if self._held != FRESH:
            replicate_members(raw(self, "kwargs"), self.MEMBERS)
        self._held = EXPOSED

    def _place(self, kwargs: dict[str, Any], app: Any, options: dict[str, Any]) -> None:
        """Fill this new object."""
        immutable = bool(options.pop("immutable", False))
        args = tuple(options.pop("args", None) or ())
        self._app, self._type, self._held = app, options.pop("type", None), EXPOSED
        given = options.pop("options", None) or {}
        options.pop("subtask_type", None)
        dict.update(
            self,
            {
                "task": f"celery.{self.KIND}",
                "args": args,
                "kwargs": kwargs,
                "options": {**given, **options},
                "subtask_type": self.KIND,
                "immutable": immutable,
            },
        )


def is_composite(sig: Any) -> bool:
    """Say whether `sig` is a chain, a group or a chord: something made of several messages."""
    return isinstance(sig, Composite) and sig.KIND != "task"


def _members(tasks: tuple[Any, ...], where: str, app: Any) -> list[Any]:
    """Return the members that a constructor was given: several arguments, or one iterable of them."""
    if len(tasks) == 1 and not isinstance(tasks[0], Mapping):
        only = tasks[0]
        if isinstance(only, str | bytes) or not isinstance(only, Iterable):
            raise not_a_signature(only, f"member 0 of a {where}")
        return Signature.signatures(only, where, app)
    return Signature.signatures(tasks, where, app)


@Signature.register_type()
class chain(Composite):
    """One step after the other, each given the result of the one before.

    ``chain(a, b, c)`` is ``a | b | c``, so it is a chord when `a` and `b` are a group and a task. With options, or
    with one signature alone, it is a chain of just these steps.

    Parameters
    ----------
    *tasks
        The steps, or one iterable of them.
    app
        The app that runs it.
    **options
        Execution options.
    """

    __slots__ = ()
    KIND: ClassVar[str] = "chain"
    MEMBERS: ClassVar[tuple[str, ...]] = ("tasks",)

    def __new__(cls, *tasks: Any, **options: Any) -> Any:  # noqa: D102
        alone = len(tasks) == 1 and isinstance(tasks[0], Mapping)
        if tasks and not options and not alone:
            return fold(_members(tasks, "chain", None), cls)
        return dict.__new__(cls)

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        if dict.__len__(self):
            return  # folded by __new__
        self._place({"tasks": _members(tasks, "chain", app)}, app, options)

    @property
    def tasks(self) -> Any:
        """The steps."""
        return self["kwargs"]["tasks"]

    @tasks.setter
    def tasks(self, value: Any) -> None:
        self["kwargs"]["tasks"] = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it on workers; an empty chain called so gives None, as in Celery (sent otherwise, an empty group)."""
        return self.apply_async(args, kwargs) if raw(self, "kwargs")["tasks"] else None

    def unchain_tasks(self) -> list[Any]:
        """Return copies of the steps that can stand alone: the last has the chain's callbacks, each its errbacks."""
        return [replica(step) for step in steps_of(self)]


@Signature.register_type()
class group(Composite):
    """Tasks to run in parallel; the result is the list of theirs, in order.

    Parameters
    ----------
    *tasks
        The members, or one iterable of them (a generator is read at once).
    app
        The app that runs it.
    **options
        Execution options for all members.
    """

    __slots__ = ()
    KIND: ClassVar[str] = "group"
    MEMBERS: ClassVar[tuple[str, ...]] = ("tasks",)

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        if len(tasks) == 1 and isinstance(tasks[0], Mapping):
            only = as_signature(tasks[0], "member 0 of a group", app)
            tasks = (list(only.tasks) if isinstance(only, group) else [only.clone()],)
        with collecting_less():
            members = _members(tasks, "group", app)
        self._place({"tasks": members}, app, options)

    @property
    def tasks(self) -> Any:
        """The members."""
        return self["kwargs"]["tasks"]

    @tasks.setter
    def tasks(self, value: Any) -> None:
        self["kwargs"]["tasks"] = value

    def __len__(self) -> int:
        return len(raw(self, "kwargs")["tasks"])

    def __bool__(self) -> bool:
        return len(raw(self, "kwargs")["tasks"]) > 0

    def __call__(self, *partial_args: Any, **options: Any) -> Any:
        """Run it on workers, these arguments given to every member."""
        return self.apply_async(partial_args, **options)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Run it on workers; parameters as for :meth:`Signature.apply_async`."""
        for key, instead in (("link", "use a chord"), ("link_error", "do that on individual tasks")):
            if options.get(key) is not None:
                raise TypeError(f"Cannot add link to group: {instead}")  # Celery's words, for both
        return super().apply_async(args, kwargs, route_name, **options)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Any:
        """Set the countdown of the members to `start`, `start` + `step`, … in place, and return the group.

        Parameters
        ----------
        start, step
            Seconds.
        stop
            From here on the last value is repeated.
        """
        for task, countdown in zip(self.tasks, _steps(start, stop, step), strict=False):
            task.set(countdown=countdown)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether the members take arguments later on."""
        _set_immutable(self, immutable)

    def link(self, callback: Any) -> Any:
        """Link a callback to the first member, immutable; return that link. A chord waits for all members."""
        return drive(_linked(self, as_signature(callback, "the callback")))

    def link_error(self, errback: Any) -> Any:
        """Link an errback to every member; return the links."""
        return drive(_error_linked(self, as_signature(errback, "the errback")))


def _steps(start: float, stop: float | None, step: float) -> Iterator[float]:
    value = start
    while True:
        yield value
        if stop is None or value + step <= stop:
            value += step


@Signature.register_type()
class chord(Composite):
    """A group, and a body that runs once with the list of its results.

    Parameters
    ----------
    header
        The group, or an iterable of signatures; they are copied.
    body
        What runs at the end.
    task, args, kwargs, app, **options
        As Celery's.
    """

    __slots__ = ("_small",)
    KIND: ClassVar[str] = "chord"
    MEMBERS: ClassVar[tuple[str, ...]] = ("header", "body")

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        app: Any = None,
        **options: Any,
    ) -> None:
        if body is not None:
            body = as_signature(body, "the body of a chord", app)
        self._place(
            {**(kwargs or {"kwargs": {}}), "header": _header(header, app), "body": body}, app, {**options, "args": args}
        )
        dict.__setitem__(self, "task", task)

    @property
    def tasks(self) -> Any:
        """The header: a list, or the group that it has become."""
        return self["kwargs"]["header"]

    @tasks.setter
    def tasks(self, value: Any) -> None:
        self["kwargs"]["header"] = value

    @property
    def body(self) -> Any:
        """What runs at the end."""
        return self["kwargs"]["body"]

    @body.setter
    def body(self, value: Any) -> None:
        self["kwargs"]["body"] = value

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Run it on workers, with `body` as its body if one is given."""
        return self.apply_async((), {"body": body} if body is not None else {}, **options)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Run it on workers; a `body` among `kwargs` replaces its own. Other parameters: Signature.apply_async."""
        kwargs = dict(kwargs or {})
        whole = self._with_body(kwargs.pop("body", None))
        return super(chord, whole).apply_async(args, kwargs, route_name, **options)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        **options: Any,
    ) -> Any:
        """Run it in this thread; `body` replaces its own, `propagate` lets errors of the header out."""
        whole = self._with_body(body)
        if not propagate:
            options["propagate"] = False
        return super(chord, whole).apply(args, kwargs, **options)

    def _with_body(self, body: Any) -> chord:
        if body is None:
            if raw(self, "kwargs").get("body") is None:
                raise CanvasError(NO_BODY)
            return self
        whole: chord = replica(self)
        whole.body = as_signature(body, "the body of a chord").clone()
        return whole

    def link(self, callback: Any) -> Any:
        """Link a callback to the body; return it."""
        callback = as_signature(callback, "the callback")
        drive(_linked(self, callback))
        return callback

    def link_error(self, errback: Any) -> Any:
        """Link an errback to the body, with ``task_allow_error_cb_on_chord_header`` to the header too; return it."""
        errback = as_signature(errback, "the errback")
        drive(_error_linked(self, errback))
        return errback

    def set_immutable(self, immutable: bool) -> None:
        """Say whether the tasks of the header take arguments later on."""
        _set_immutable(self, immutable)

    def __length_hint__(self) -> int:
        """Return how many results the body waits for."""
        header = raw(self, "kwargs")["header"]
        count: int = drive(_counted(list(raw(header, "kwargs")["tasks"] if isinstance(header, dict) else header)))
        return count


def _header(header: Any, app: Any) -> Any:
    """Return the header of a chord as a list of copies (as a group, if it has options of its own)."""
    if isinstance(header, Mapping):
        sig = as_signature(header, "the header of a chord", app)
        if isinstance(sig, group):
            copy = replica(sig)
            return copy if raw(copy, "options") or raw(copy, "args") else copy.tasks
        return [replica(sig)]
    return [replica(task) for task in _members((header,), "chord's header", app)]


# -- what reaches the members ------------------------------------------------------------------------------------------


def _linked(sig: Any, callback: Any) -> Walk:
    """Link `callback` where a result comes out: the body of a chord; of a group, for want of better, its first task."""
    if isinstance(sig, chord):
        if sig.body is None:
            raise CanvasError("this chord has no body to link to")
        return (yield _linked(sig.body, callback))
    if isinstance(sig, group):
        if not sig.tasks:
            raise CanvasError("an empty group has no task to link to")
        return (yield _linked(sig.tasks[0], callback.clone().set(immutable=True)))
    return sig.link(callback)


def _error_linked(sig: Any, errback: Any) -> Walk:
    """Link `errback` to whatever may fail; return the link, of a group the tuple of its members' links."""
    if isinstance(sig, group):
        links = []
        for task in sig.tasks:
            links.append((yield _error_linked(task, errback.clone())))  # noqa: PERF401 - it yields
        return tuple(links)
    if isinstance(sig, chord):
        tasks = as_list(sig.tasks) if isinstance(sig.tasks, list | tuple) else list(sig.tasks.tasks)
        everywhere = _error_callbacks_on_header(sig)
        for task in tasks:
            if everywhere:
                yield _error_linked(task, errback.clone().set(immutable=True))
            elif isinstance(task, chord):
                yield _error_linked(task, errback)
        if sig.body is not None:
            yield _error_linked(sig.body, errback)
        return errback
    return sig.link_error(errback)


def _error_callbacks_on_header(sig: Signature) -> bool:
    host = bound_app(sig) or default_host()
    return bool(host is not None and getattr(host.conf, "task_allow_error_cb_on_chord_header", False))


def _set_immutable(sig: Any, immutable: bool) -> None:
    pending = [sig]
    while pending:
        node = pending.pop()
        if isinstance(node, chord):
            header = node.tasks
            pending.extend(header.tasks if isinstance(header, group) else header)
        elif isinstance(node, group):
            pending.extend(node.tasks)
        else:
            node.set_immutable(immutable)


def _counted(tasks: list[Any]) -> Walk:
    total = 0
    for task in tasks:
        if not is_composite(task):
            total += 1
            continue
        kwargs = raw(task, "kwargs")
        if isinstance(task, group):
            total += yield _counted(kwargs["tasks"])
        elif isinstance(task, chord):
            total += yield _counted([kwargs["body"]] if kwargs.get("body") is not None else [])
        else:
            # The last step that counts for anything.
            for step in reversed(kwargs["tasks"]):
                size = yield _counted([step])
                if size:
                    total += size
                    break
    return total
