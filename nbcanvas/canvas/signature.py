"""The signature: one call of one task, as a value."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from types import FunctionType, GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nbcanvas.errors import CanvasError, NotRegistered

from .algebra import as_list, compose
from .checks import not_a_signature
from .copying import deep_copy, flatten, replica, unflatten
from .host import current_host, explainer, previewer
from .shape import TYPES, assemble, raw
from .stamping import StampingVisitor
from .stamping import stamp as stamp_canvas
from .stamping import stamp_links as stamp_canvas_links
from .text import call_text, canvas_text
from .trampoline import Walk, drive, same

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Signature", "make", "maybe_signature", "signature"]

S = TypeVar("S", bound="type[Signature]")

#: Changing these in a call would keep a chord from ever being completed, or lose stamps.
_FIXED_OPTIONS = frozenset({"group_id", "stamped_headers"})

#: Options that hold signatures.
_LINKED = ("link", "link_error", "chain", "chord")

#: What stands in ``task`` when ``subtask_type`` is null but the class is one of ours.
_BY_NAME = {"celery.map": "xmap", "celery.starmap": "xstarmap", "celery.chunks": "chunks"}


class Signature(dict[str, Any]):
    """The arguments and execution options of one call of a task.

    It is a dictionary with the keys of Celery's signatures (``task``, ``args``, ``kwargs``, ``options``,
    ``subtask_type``, ``immutable``), each of which is an attribute too. Usually made with ``task.s(...)``,
    ``task.si(...)`` or :func:`signature`.

    Parameters
    ----------
    task
        A task, the name of one, or a signature as a dictionary (the other parameters are then ignored).
    args, kwargs
        Arguments of the call. Those given later come before, and over, these.
    options
        Execution options, as for ``apply_async``.
    type
        The task object, if it is known and `task` is a name.
    subtask_type
        The registered name of a kind of signature.
    immutable
        Take no arguments later on.
    app
        The app that runs it; without one, the task's or the current one.
    **ex
        More options.
    """

    __slots__ = ("_app", "_held", "_type")

    #: Celery's name for the registry; the same dict for all classes.
    TYPES: ClassVar[dict[str, type[Signature]]] = TYPES
    #: How the algebra treats this class: task, chain, group or chord.
    KIND: ClassVar[str] = "task"
    #: The keys of ``kwargs`` that hold signatures.
    MEMBERS: ClassVar[tuple[str, ...]] = ()

    _app: Any
    _type: Any
    _held: int

    def __init__(
        self,
        task: Any = None,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **ex: Any,
    ) -> None:
        self._app = app
        self._type = type
        if isinstance(task, Mapping):
            if "task" not in task:
                raise not_a_signature(task, "what was given")
            dict.update(self, _six(task))
            return
        name = getattr(task, "name", task)
        if name is not task:
            self._type = task
        dict.update(
            self,
            {
                "task": name,
                "args": tuple(args or ()),
                "kwargs": kwargs or {},
                "options": {**(options or {}), **ex},
                "subtask_type": subtask_type,
                "immutable": immutable,
            },
        )

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    # -- the registry --------------------------------------------------------------------------------------------------

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[S], S]:
        """Return a class decorator that makes :meth:`from_dict` know a class under `name` (or its own name)."""

        def register(subclass: S) -> S:
            TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """Return the signature that a dictionary describes, with the right class, whatever its depth.

        Parameters
        ----------
        d
            A signature as a dictionary, for instance from JSON. It is not changed.
        app
            The app to bind the signature and its members to.
        """
        return drive(_built(d, app, None if cls is Signature else cls))

    # -- calling -------------------------------------------------------------------------------------------------------

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> Any:
        """Call the task in this process and return its value."""
        args, kwargs, _ = self.merged(partial_args, partial_kwargs)
        return self.type(*args, **kwargs)

    def delay(self, *partial_args: Any, **partial_kwargs: Any) -> Any:
        """Run it on a worker: :meth:`apply_async` with star arguments."""
        return self.apply_async(partial_args, partial_kwargs)

    def explain(self) -> Any:
        """Say in words what will happen when this runs, with nothing sent.

        Returns
        -------
        nbcanvas.picture.explain.Explanation
            Prints as text: which group becomes a chord, what is unrolled, which argument comes from where, how many
            messages of about what size go to which queue.
        """
        return explainer()(self)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Run it on a worker.

        Parameters
        ----------
        args
            Arguments to put before those of the signature.
        kwargs
            Keyword arguments to merge over those of the signature.
        route_name
            The name to route by, if not the task's.
        **options
            Execution options to merge over those of the signature; None means "as if not given".

        Returns
        -------
        AsyncResult or GroupResult
        """
        given = {key: value for key, value in options.items() if value is not None}
        if route_name is not None:
            given["route_name"] = route_name
        return self.app.submit(self, tuple(args or ()), dict(kwargs or {}), given)

    def apply(self, args: Iterable[Any] | None = None, kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Run it in this thread, as a worker would; parameters as for :meth:`apply_async`."""
        given = {key: value for key, value in options.items() if value is not None}
        return self.app.apply(self, tuple(args or ()), dict(kwargs or {}), given)

    def __invert__(self) -> Any:
        """Run it and wait: ``~sig`` is ``sig.apply_async().get()``."""
        return self.apply_async().get()

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Signature | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Pin the ids, in place, and return the result handle; running it later uses these ids.

        Parameters
        ----------
        _id
            The id, if it has none yet; a new one otherwise.
        group_id, chord, group_index
            What it counts for.
        root_id, parent_id
            Where it comes from.
        """
        return self.app.freeze(
            self,
            task_id=_id,
            group_id=group_id,
            chord=chord,
            root_id=root_id,
            parent_id=parent_id,
            group_index=group_index,
        )

    _freeze = freeze

    # -- partials ------------------------------------------------------------------------------------------------------

    def merged(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Return the args, kwargs and options of a call with these partials; nothing is changed.

        Parameters
        ----------
        args, kwargs
            Come before, and over, those of the signature, unless it is immutable.
        options
            Come over those of the signature, except its group and its stamps.
        force
            Merge arguments into an immutable signature too.
        """
        own_options: dict[str, Any] = raw(self, "options")
        if options:
            stamped = own_options.get("stamped_headers") or ()
            own_options = {
                **own_options,
                **{
                    key: value
                    for key, value in options.items()
                    if key not in own_options or (key not in _FIXED_OPTIONS and key not in stamped)
                },
            }
        own_args, own_kwargs = tuple(raw(self, "args")), raw(self, "kwargs")
        if raw(self, "immutable") and not force:
            return own_args, own_kwargs, own_options
        return (
            (*args, *own_args) if args else own_args,
            {**own_kwargs, **kwargs} if kwargs else own_kwargs,
            own_options,
        )

    def clone(self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **opts: Any) -> Any:
        """Return an independent copy, with these partials merged in (``partial`` is the same).

        Parameters
        ----------
        args, kwargs
            Come before, and over, those of the signature, unless it is immutable.
        **opts
            Execution options, merged over its own; also `immutable`.
        """
        copy = replica(self)
        immutable = opts.pop("immutable", None)
        if args or kwargs or opts:
            copy["args"], merged, copy["options"] = copy.merged(args, kwargs, opts)
            dict.__setitem__(copy, "kwargs", dict(merged))
        if immutable is not None:
            copy.set_immutable(immutable)
        return copy

    partial = clone

    def replace(
        self,
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Any:
        """Return a copy with other args, kwargs or options in place of its own (None keeps them)."""
        copy = self.clone()
        if args is not None:
            copy["args"] = args
        if kwargs is not None:
            copy["kwargs"] = kwargs
        if options is not None:
            copy["options"] = options
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Any:
        """Set execution options, in place, and return the signature itself.

        Parameters
        ----------
        immutable
            Whether it takes arguments later on.
        **options
            As for ``apply_async``.
        """
        if immutable is not None:
            self.set_immutable(immutable)
        raw(self, "options").update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether it takes arguments later on."""
        self["immutable"] = immutable

    # -- links ---------------------------------------------------------------------------------------------------------

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Append `value` to the option `key`, which becomes a list, unless it is in it; return `value`."""
        items = self._list_option(key)
        if not any(same(value, item) for item in items):
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Extend the option `key`, which becomes a list, by `value`, one thing or several."""
        self._list_option(key).extend(as_list(value))

    def _list_option(self, key: str) -> MutableSequence[Any]:
        options = raw(self, "options")
        items: Any = options.setdefault(key, [])
        if not isinstance(items, MutableSequence):
            options[key] = as_list(items)
        found: MutableSequence[Any] = options[key]
        return found

    def link(self, callback: Any) -> Any:
        """Add a signature that runs, with the result, when this one succeeds; return it."""
        return self.append_to_list_option("link", as_signature(callback, "the callback", keep_dict=True))

    def link_error(self, errback: Any) -> Any:
        """Add a signature that runs when this one fails; return it."""
        return self.append_to_list_option("link_error", as_signature(errback, "the errback", keep_dict=True))

    def on_error(self, errback: Any) -> Any:
        """:meth:`link_error` that returns this signature, not the errback."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Any]:
        """Return this signature and everything linked to it, and to that, in order."""
        found, pending = [], [self]
        while pending:
            sig = pending.pop()
            found.append(sig)
            linked = Signature.signatures(as_list(raw(sig, "options").get("link")), "link")
            pending.extend(reversed(linked))
        return found

    @staticmethod
    def signatures(items: Iterable[Any], where: str, app: Any = None) -> list[Any]:
        """Return `items` as signatures (dictionaries become some).

        Raises
        ------
        NotASignature
            With the position of the first item that is none.
        """
        found = list(items)
        if all(issubclass(kind, Signature) for kind in set(map(type, found))):
            return found
        return [as_signature(item, f"member {place} of a {where}", app) for place, item in enumerate(found)]

    # -- stamps --------------------------------------------------------------------------------------------------------

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Label every task of this canvas, links included, in place, and return it.

        Parameters
        ----------
        visitor
            Decides further stamps for each part.
        append_stamps
            Keep all of several stamps of one name, in a list; else the new one stays.
        **headers
            Stamps for all.
        """
        stamp_canvas(self, visitor, append_stamps, headers)
        return self

    def stamp_links(self, visitor: StampingVisitor | None, append_stamps: bool = False, **headers: Any) -> None:
        """Label the callbacks and errbacks only; parameters as for :meth:`stamp`."""
        stamp_canvas_links(self, visitor, append_stamps, headers)

    def stamp_preview(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Return what `stamp` would stamp, as a table, with nothing changed.

        Parameters
        ----------
        visitor, append_stamps, **headers
            As for :meth:`stamp`.  The visitor is copied, if it can be: one that counts starts anew when it stamps.

        Returns
        -------
        pandas.DataFrame
            A row for each task, links and errbacks included, in canvas order: ``path``, ``name``, ``role`` (an empty
            text, ``"link"`` or ``"errback"``), then a column for each stamp, as in a run's frame.
        """
        return previewer()(self, visitor, append_stamps, headers)

    # -- the algebra ---------------------------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        """Return both, one after the other: see :mod:`nbcanvas.canvas.algebra`."""
        if not isinstance(other, Signature):
            # Only a class that was written to stand after | has its own say; numbers, sets and dicts have not.
            if any(isinstance(vars(cls).get("__ror__"), FunctionType) for cls in type(other).__mro__):
                return NotImplemented
            raise not_a_signature(other, "what follows |")
        return compose(self, other)

    def __ror__(self, other: Any) -> Any:
        """Say what is wrong with what stands before ``|``."""
        raise not_a_signature(other, "what stands before |")

    def __ior__(self, other: Any) -> Any:
        """Return ``self | other``; a dictionary would be updated."""
        return self.__or__(other)

    # -- as data -------------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return same(self, other) if isinstance(other, Mapping) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not same(self, other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None

    def __copy__(self) -> Any:
        return replica(self)

    copy = __copy__

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy = memo[id(self)] = deep_copy(self, memo)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return unflatten, (flatten(self),)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def __json__(self) -> dict[str, Any]:
        """Return the plain dictionary (kombu's JSON asks for it)."""
        return dict(self)

    def __repr__(self) -> str:
        return canvas_text(self)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return its text as a call, with these arguments merged in."""
        return call_text(self, args, kwargs)

    # -- fields --------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the task."""
        name: str = raw(self, "task")
        return name

    @property
    def type(self) -> Any:
        """The task object.

        Raises
        ------
        NotRegistered
            When nobody knows a task of that name.
        """
        if self._type is not None:
            return self._type
        task = self.app.lookup(raw(self, "task"))
        if task is None:
            raise NotRegistered(raw(self, "task"))
        return task

    @property
    def app(self) -> Host:
        """The app that runs it."""
        return bound_app(self) or current_host()

    @property
    def AsyncResult(self) -> Any:  # noqa: N802 - Celery's name
        """The class of result handles of its app."""
        return self.app.AsyncResult

    @property
    def id(self) -> str | None:
        """The pinned id, None when there is none."""
        task_id: str | None = raw(self, "options").get("task_id")
        return task_id

    @id.setter  # noqa: A003 - Celery's name
    def id(self, value: str | None) -> None:
        raw(self, "options")["task_id"] = value

    @property
    def parent_id(self) -> str | None:
        """The pinned id of the task that sends it."""
        parent_id: str | None = raw(self, "options").get("parent_id")
        return parent_id

    @parent_id.setter
    def parent_id(self, value: str | None) -> None:
        raw(self, "options")["parent_id"] = value

    @property
    def root_id(self) -> str | None:
        """The pinned id of the first task of everything."""
        root_id: str | None = raw(self, "options").get("root_id")
        return root_id

    @root_id.setter
    def root_id(self, value: str | None) -> None:
        raw(self, "options")["root_id"] = value

    @property
    def task(self) -> Any:
        """The name of the task."""
        return self["task"]

    @task.setter
    def task(self, value: Any) -> None:
        self["task"] = value

    @property
    def args(self) -> Any:
        """Positional arguments."""
        return self["args"]

    @args.setter
    def args(self, value: Any) -> None:
        self["args"] = value

    @property
    def kwargs(self) -> Any:
        """Keyword arguments; of a chain, group or chord: its members."""
        return self["kwargs"]

    @kwargs.setter
    def kwargs(self, value: Any) -> None:
        self["kwargs"] = value

    @property
    def options(self) -> Any:
        """Execution options."""
        return self["options"]

    @options.setter
    def options(self, value: Any) -> None:
        self["options"] = value

    @property
    def subtask_type(self) -> Any:
        """The kind of signature, None for a plain one."""
        return self["subtask_type"]

    @subtask_type.setter
    def subtask_type(self, value: Any) -> None:
        self["subtask_type"] = value

    @property
    def immutable(self) -> Any:
        """Whether it takes no more arguments."""
        return self["immutable"]

    @immutable.setter
    def immutable(self, value: Any) -> None:
        self["immutable"] = value


def _six(d: Mapping[str, Any]) -> dict[str, Any]:
    """Return the six keys of a signature, in containers of its own."""
    get = dict(d).get
    return {
        "task": get("task"),
        "args": tuple(get("args") or ()),
        "kwargs": dict(get("kwargs") or {}),
        "options": dict(get("options") or {}),
        "subtask_type": get("subtask_type"),
        "immutable": bool(get("immutable")),
    }


def _class_for(d: Mapping[str, Any]) -> type[Signature]:
    if isinstance(d, Signature):
        return type(d)
    kind = d.get("subtask_type")
    if not kind:
        by_name = _BY_NAME.get(str(d["task"]))
        return TYPES[by_name] if by_name and "it" in (d.get("kwargs") or ()) else Signature
    if kind not in TYPES:
        raise CanvasError(
            f"unknown subtask_type {kind!r} of the signature of {d.get('task')!r}; known: "
            f"{', '.join(sorted(TYPES))}; a class of your own needs @Signature.register_type()"
        )
    return TYPES[kind]


def _built(d: Any, app: Any, cls: type[Signature] | None = None, where: str = "what was given") -> Walk:
    """Build the signature that `d` describes; signatures among the members are taken as they are."""
    if not isinstance(d, Mapping) or "task" not in d:
        raise not_a_signature(d, where)
    cls = cls or _class_for(d)
    made_by = cls.from_dict.__func__  # type: ignore[attr-defined]
    if made_by is not Signature.from_dict.__func__:  # type: ignore[attr-defined]
        return cls.from_dict(d, app=app)
    six = _six(d)
    for key in cls.MEMBERS:
        value = six["kwargs"].get(key)
        if value is not None:
            six["kwargs"][key] = yield _built_members(value, app, f"{key!r} of {six['task']}")
        elif key in ("tasks", "header"):
            six["kwargs"][key] = []
    for key in _LINKED:
        if six["options"].get(key) is not None:
            six["options"][key] = yield _built_members(six["options"][key], app, f"{key!r} of {six['task']}")
    return assemble(
        cls, six["task"], six["args"], six["kwargs"], six["options"], six["subtask_type"], six["immutable"], app
    )


def _built_members(value: Any, app: Any, where: str) -> Walk:
    """Build one signature, or a list of them."""
    if isinstance(value, Signature):
        return value
    if isinstance(value, Mapping):
        return (yield _built(value, app, where=where))
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise not_a_signature(value, where)
    members = []
    for place, item in enumerate(value):
        ready = isinstance(item, Signature)
        members.append(item if ready else (yield _built(item, app, where=f"member {place} of {where}")))
    return members


def bound_app(sig: Signature) -> Any:
    """Return the app that a signature, or the first of its members that has one, is bound to; None without."""
    pending: list[Any] = [sig]
    # Members are asked in order, a few of them: a canvas of ten thousand by-name tasks has no app in any.
    for _ in range(64):
        if not pending:
            return None
        node = pending.pop()
        if node._app is not None:
            return node._app
        if node._type is not None:
            app = getattr(node._type, "app", None)
            if app is not None:
                return app
        if node.MEMBERS:
            from_members: list[Any] = []
            for key in node.MEMBERS:
                value = raw(node, "kwargs").get(key)
                from_members += [value] if isinstance(value, Signature) else itertools.islice(value or (), 3)
            pending.extend(reversed([m for m in from_members if isinstance(m, Signature)]))
    return None


def as_signature(value: Any, where: str, app: Any = None, keep_dict: bool = False) -> Any:
    """Return `value` as a signature, or say what is wrong with it.

    Parameters
    ----------
    value
        A signature, or one as a dictionary.
    where
        Where it stands, for the error.
    app
        The app to bind what is built.
    keep_dict
        Leave a dictionary as it is.
    """
    if isinstance(value, Signature):
        return value
    if isinstance(value, Mapping) and "task" in value:
        return value if keep_dict else Signature.from_dict(value, app=app)
    raise not_a_signature(value, where)


_new = dict.__new__
_update = dict.update


def make(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], immutable: bool = False) -> Signature:
    """Return the signature of one call of a task object; this is ``task.s``, which is to be fast.

    Parameters
    ----------
    task
        The task; it has a ``name``.
    args, kwargs
        The arguments; both containers are taken as they are.
    immutable
        Take no arguments later on.
    """
    sig = _new(Signature)
    _update(
        sig,
        {
            "task": task.name,
            "args": args,
            "kwargs": kwargs,
            "options": {},
            "subtask_type": None,
            "immutable": immutable,
        },
    )
    sig._app = None
    sig._type = task
    return sig


def signature(varies: Any, *args: Any, **kwargs: Any) -> Any:
    """Make a signature.

    Parameters
    ----------
    varies
        A task or the name of one; a signature (which is cloned); or one as a dictionary.
    *args, **kwargs
        As for :class:`Signature`.

    Examples
    --------
    >>> signature("tasks.add", args=(2, 2), countdown=10)
    tasks.add(2, 2)
    """
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies, app=kwargs.get("app"))
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """Return `d` as a signature, None if it is None.

    Parameters
    ----------
    d
        A signature, one as a dictionary, or None.
    app
        The app to bind it to.
    clone
        Return a copy if it is a signature already.
    """
    if d is None:
        return None
    if isinstance(d, Signature):
        d = d.clone() if clone else d
    elif isinstance(d, Mapping):
        d = Signature.from_dict(d, app=app)
    if app is not None:
        d._app = app
    return d
