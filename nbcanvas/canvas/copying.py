"""Copies of signatures: clones, deep copies, and the flat table that is pickled. None of them recurses."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from .shape import EXPOSED, FLAT, FRESH, SHARED, assemble, raw
from .trampoline import Walk, drive

if TYPE_CHECKING:
    from .signature import Signature

__all__ = ["deep_copy", "flatten", "replica", "replicate_members", "unflatten"]

_SCALARS = (str, int, float, bool, type(None))


def _is_signature(value: Any) -> bool:
    return isinstance(value, dict) and hasattr(value, "MEMBERS")


def replica(sig: Signature) -> Any:
    """Return an independent copy: nothing done to one of the two shows in the other.

    Arguments are kept as they are (they may be large, or lazy); members that nobody has seen yet are shared until
    somebody looks.
    """
    if not sig.MEMBERS and not raw(sig, "options"):
        return assemble(
            type(sig),
            raw(sig, "task"),
            raw(sig, "args"),
            dict(raw(sig, "kwargs")),
            {},
            raw(sig, "subtask_type"),
            raw(sig, "immutable"),
            sig._app,
            sig._type,
        )
    return drive(_replicate(sig))


def _replicate(sig: Signature) -> Walk:
    kwargs = dict(raw(sig, "kwargs"))
    options = raw(sig, "options")
    held = FRESH
    if sig.MEMBERS:
        if sig._held == EXPOSED:
            for key in sig.MEMBERS:
                if key in kwargs:
                    kwargs[key] = yield _copied(kwargs[key])
        else:
            held = sig._held = FLAT if sig._held == FLAT else SHARED
    copy = assemble(
        type(sig),
        raw(sig, "task"),
        raw(sig, "args"),
        kwargs,
        (yield _copied_options(options)) if options else {},
        raw(sig, "subtask_type"),
        raw(sig, "immutable"),
        sig._app,
        sig._type,
        held,
    )
    if getattr(sig, "_small", False):
        copy._small = True  # a chord made of a group of one: see the algebra
    return copy


def _copied(value: Any) -> Walk:
    if isinstance(value, list | tuple):
        copies = []
        for item in value:
            if _is_signature(item):
                plain = not item.MEMBERS and not raw(item, "options")
                copies.append(replica(item) if plain else (yield _replicate(item)))
            else:
                copies.append((yield _copied(item)) if isinstance(item, list | tuple) else deepcopy(item))
        return copies if isinstance(value, list) else tuple(copies)
    if _is_signature(value):
        return (yield _replicate(value))
    return value if isinstance(value, _SCALARS) else deepcopy(value)


def _copied_options(options: dict[str, Any]) -> Walk:
    copy = {}
    for key, value in options.items():
        copy[key] = value if isinstance(value, _SCALARS) else (yield _copied(value))
    return copy


def replicate_members(kwargs: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Replace the members under `keys` by copies, in place."""
    for key in keys:
        if key in kwargs:
            kwargs[key] = drive(_copied(kwargs[key]))


# -- a canvas as one flat list -----------------------------------------------------------------------------------------


class Ref(int):
    """Stands for the row of that number."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[Ref], tuple[int]]:
        return Ref, (int(self),)


def flatten(sig: Signature, nodes: list[Signature] | None = None) -> list[tuple[Any, ...]]:
    """Return the canvas as rows, members before what holds them; :func:`unflatten` is the inverse.

    A signature that occurs in several places is one row, so identity survives.

    Parameters
    ----------
    sig
        The canvas.
    nodes
        Is given the signature of each row, when the caller wants them.
    """
    rows: list[tuple[Any, ...]] = []
    places: dict[int, Ref] = {}

    def row(node: Signature) -> Walk:
        kwargs = dict(raw(node, "kwargs"))
        for key in node.MEMBERS:
            if key in kwargs:
                kwargs[key] = yield replaced(kwargs[key])
        options = {}
        for name, value in raw(node, "options").items():
            options[name] = value if isinstance(value, _SCALARS) else (yield replaced(value))
        rows.append(
            (
                type(node),
                raw(node, "task"),
                raw(node, "args"),
                kwargs,
                options,
                raw(node, "subtask_type"),
                raw(node, "immutable"),
            )
        )
        if nodes is not None:
            nodes.append(node)
        places[id(node)] = Ref(len(rows) - 1)
        return places[id(node)]

    def replaced(value: Any) -> Walk:
        if _is_signature(value):
            return places[id(value)] if id(value) in places else (yield row(value))
        if isinstance(value, list | tuple):
            items = []
            for item in value:
                items.append((yield replaced(item)) if isinstance(item, dict | list | tuple) else item)  # noqa: PERF401
            return items if isinstance(value, list) else tuple(items)
        return value

    drive(row(sig))
    return rows


def unflatten(rows: list[tuple[Any, ...]], nodes: list[Signature] | None = None) -> Any:
    """Rebuild the canvas whose rows these are, bound to the apps of `nodes` if they are given."""
    made: list[Any] = []

    def restored(value: Any) -> Any:
        if isinstance(value, Ref):
            return made[value]
        if isinstance(value, list):
            return [restored(item) for item in value]
        if isinstance(value, tuple):
            return tuple(restored(item) for item in value)
        return value

    for cls, task, args, kwargs, options, subtask_type, immutable in rows:
        made.append(
            assemble(
                cls,
                task,
                args,
                {k: restored(v) if k in cls.MEMBERS else v for k, v in kwargs.items()},
                {k: restored(v) for k, v in options.items()},
                subtask_type,
                immutable,
            )
        )
        if nodes is not None:
            made[-1]._app, made[-1]._type = nodes[len(made) - 1]._app, nodes[len(made) - 1]._type
    return made[-1]


def deep_copy(sig: Signature, memo: dict[int, Any]) -> Any:
    """Return a copy that shares nothing with `sig`, its arguments included; it stays bound to the same app."""
    nodes: list[Signature] = []
    copies = []
    for cls, task, args, kwargs, options, subtask_type, immutable in flatten(sig, nodes):
        copies.append(
            (
                cls,
                task,
                deepcopy(args, memo),
                {k: v if k in cls.MEMBERS else deepcopy(v, memo) for k, v in kwargs.items()},
                {k: deepcopy(v, memo) for k, v in options.items()},
                subtask_type,
                immutable,
            )
        )
    return unflatten(copies, nodes)
