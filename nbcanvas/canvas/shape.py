"""How a signature lies in memory: six keys, the class they make, and who has seen a composite's members.

Everything here works on the raw dictionary. A composite is in one of three conditions, which is what makes ``|``
cheap without ever letting two canvases change each other:

``EXPOSED``
    Somebody may hold a member object (it was passed in, or read from ``.tasks``): a copy copies the members.
``FRESH``
    The members were made here and nobody has seen them.
``SHARED``
    Unseen too, and other composites hold the very same members: they are copied before anyone sees or changes them.
``FLAT``
    Like ``SHARED``; moreover this is a chain without chains among its steps, so they need no look to be taken over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .signature import Signature

__all__ = ["EXPOSED", "FLAT", "FRESH", "SHARED", "TYPES", "assemble", "children", "kind_of", "raw"]

EXPOSED: Final = 0
FRESH: Final = 1
SHARED: Final = 2
FLAT: Final = 3

#: The classes of signatures by ``subtask_type`` (Celery's names); ``Signature.register_type`` adds to it.
TYPES: Final[dict[str, type[Signature]]] = {}

#: Reads a key without running anything: the value is for looking at, never for changing.
raw = dict.__getitem__

_new = dict.__new__
_update = dict.update


def assemble(
    cls: type[Any],
    task: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any],
    subtask_type: str | None = None,
    immutable: bool = False,
    app: Any = None,
    type_: Any = None,
    held: int = EXPOSED,
) -> Any:
    """Put a signature together from its six values, taking the containers as they are."""
    sig = _new(cls)
    _update(
        sig,
        {
            "task": task,
            "args": args,
            "kwargs": kwargs,
            "options": options,
            "subtask_type": subtask_type,
            "immutable": immutable,
        },
    )
    sig._app = app
    sig._type = type_
    if cls.MEMBERS:
        sig._held = held
    return sig


def kind_of(sig: Signature) -> str:
    """Return ``"chain"``, ``"group"``, ``"chord"``, or ``"task"`` for everything that is one message."""
    return sig.KIND


def children(sig: Signature) -> Iterator[Any]:
    """Iterate over the direct members of a composite, read-only and without copying (none for a plain signature).

    The header of a chord comes before its body; a header that is a group is one member.
    """
    if sig.MEMBERS:
        kwargs = raw(sig, "kwargs")
        for key in sig.MEMBERS:
            value = kwargs.get(key)
            if isinstance(value, dict):
                yield value
            elif value is not None:
                yield from value
