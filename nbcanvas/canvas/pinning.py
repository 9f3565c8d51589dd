"""Ids: an explicit ``freeze()`` writes them into the canvas, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .copying import replica
from .shape import TYPES, kind_of
from .trampoline import Walk, drive

if TYPE_CHECKING:
    from .signature import Signature

__all__ = ["pin"]


def pin(
    sig: Signature,
    new_id: Callable[[], str],
    *,
    task_id: str | None = None,
    group_id: str | None = None,
    chord: Signature | None = None,
    root_id: str | None = None,
    parent_id: str | None = None,
    group_index: int | None = None,
) -> str:
    """Give an id to every task and group of a canvas that has none, in place.

    Parameters
    ----------
    sig
        The canvas. A member object that occurs in two places is replaced by a copy in the second.
    new_id
        Gives a fresh id.
    task_id
        The id that stands for the whole, if it has none: of the last step of a chain, the body of a chord, a group.
    group_id, chord, group_index
        Written where the whole ends: what it counts for.
    root_id, parent_id
        Written on every task, and where the whole begins.

    Returns
    -------
    str
        The id of the whole.
    """
    drive(_apart(sig, set()))
    ending = {"group_id": group_id, "chord": chord, "group_index": group_index}
    pinned: str = drive(_pin(sig, new_id, task_id, ending, root_id, parent_id))
    return pinned


def _apart(sig: Any, seen: set[int]) -> Walk:
    """Make every place of the canvas an object of its own."""
    seen.add(id(sig))
    for key in sig.MEMBERS if kind_of(sig) != "task" else ():
        value = sig.kwargs.get(key)
        if isinstance(value, dict):
            if id(value) in seen:
                value = sig.kwargs[key] = replica(value)  # type: ignore[arg-type]
            yield _apart(value, seen)
        elif value is not None:
            value = sig.kwargs[key] = sig.signatures(value, kind_of(sig), sig._app)
            for place, given in enumerate(value):
                member = given
                if id(given) in seen:
                    member = value[place] = replica(given)
                if member.MEMBERS:
                    yield _apart(member, seen)
                else:
                    seen.add(id(member))


_NOTHING: dict[str, Any] = {}


def _pin(
    sig: Any,
    new_id: Callable[[], str],
    task_id: str | None,
    ending: dict[str, Any],
    root_id: str | None,
    parent_id: str | None,
) -> Walk:
    kind = kind_of(sig)
    if kind == "chain":
        return (yield _pin_chain(sig, new_id, task_id, ending, root_id, parent_id))
    if kind == "chord":
        return (yield _pin_chord(sig, new_id, task_id, ending, root_id, parent_id))
    options = sig.options
    if "task_id" not in options:
        options["task_id"] = task_id or new_id()
    if ending.get("group_id"):
        options.setdefault("group_id", ending["group_id"])
    more = {
        "root_id": root_id or None,
        "parent_id": parent_id or None,
        "chord": ending.get("chord") or None,
        "group_index": ending.get("group_index"),
    }
    options.update((key, value) for key, value in more.items() if value is not None)
    if kind == "group":
        for member in sig.tasks:
            yield _pin(member, new_id, None, _NOTHING, root_id, parent_id)
    return options["task_id"]


def _pin_chain(
    sig: Any,
    new_id: Callable[[], str],
    task_id: str | None,
    ending: dict[str, Any],
    root_id: str | None,
    parent_id: str | None,
) -> Walk:
    options, steps = sig.options, sig.tasks
    pinned = given = task_id or options.get("task_id")
    for place, step in enumerate(steps):
        last = place == len(steps) - 1
        pinned = yield _pin(
            step,
            new_id,
            given if last else None,
            ending if last else _NOTHING,
            root_id,
            parent_id if place == 0 else None,
        )
    options["task_id"] = pinned or new_id()
    return options["task_id"]


def _pin_chord(
    sig: Any,
    new_id: Callable[[], str],
    task_id: str | None,
    ending: dict[str, Any],
    root_id: str | None,
    parent_id: str | None,
) -> Walk:
    options = sig.options
    if not isinstance(sig.tasks, TYPES["group"]):
        sig.tasks = TYPES["group"](sig.tasks)
    # The options of a chord name its header; its id for everybody else is that of its body.
    options["task_id"] = yield _pin(sig.tasks, new_id, options.get("task_id"), _NOTHING, root_id, parent_id)
    if sig.body is None:
        return options["task_id"]
    return (yield _pin(sig.body, new_id, task_id, ending, root_id, None))
