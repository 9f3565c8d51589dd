"""The algebra of ``|``: what two canvases make together.

One table says what happens where the last step of the left side meets the first step of the right side:

====================  ===============================================================================================
last step is          whatever follows
====================  ===============================================================================================
a task (or a map)     becomes the next step
a group               becomes the body of a chord whose header is that group
a chord               follows the chord's body, by these same rules
====================  ===============================================================================================

A chain on the right is taken step by step, so ``|`` is associative. An empty chain is its neutral element.

A group of one that follows something, or stands in ``chain(...)``, is unrolled to its member, and an empty one to
nothing (the guide, "Group Unrolling"). At the very left of ``|`` it is a group like any other, and what follows it is
the body of a chord; if that chord is put behind something later, its header is unrolled after all, so that
``a | (group(b) | c)`` means what ``(a | group(b)) | c`` means.

The result shares nothing with the operands that either could change: see :mod:`.shape` for how that stays cheap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .copying import replica
from .shape import EXPOSED, FLAT, SHARED, TYPES, assemble, kind_of, raw

if TYPE_CHECKING:
    from .signature import Signature

__all__ = ["JOIN", "compose", "fold", "steps_of"]

#: Options that say something of a chain as a whole; all others belong to its first step, as when a chain is run.
OF_THE_WHOLE = frozenset({"chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"})


def _shared_steps(sig: Any) -> list[Any]:
    """Return the steps of a chain, to be put elsewhere and not to be changed."""
    steps = raw(sig, "kwargs")["tasks"]
    if sig._held == EXPOSED:
        return [replica(step) for step in steps]
    if sig._held != FLAT:
        sig._held = SHARED
    return list(steps)


def steps_of(sig: Signature) -> list[Any]:
    """Return `sig` as a list of steps that stand alone (Celery's ``unchain_tasks``).

    Callbacks of a chain go to its last step, its errbacks to every step, its other options and its partial
    arguments to the first. Chains within chains are spliced in. The steps are for reading, and for putting into a
    composite that counts as shared: other canvases may hold them.
    """
    if kind_of(sig) != "chain":
        return [replica(sig)]
    if sig._held == FLAT and not _has_own(sig):
        return list(raw(sig, "kwargs")["tasks"])
    steps: list[Any] = []
    pending = deque([sig])
    while pending:
        item = pending.popleft()
        if kind_of(item) == "chain":
            own = _shared_steps(item)
            if own and _has_own(item):
                own = _with_options_of(item, own)
            pending.extendleft(reversed(own))
        else:
            steps.append(item)
    return steps


def _has_own(sig: Signature) -> bool:
    """Say whether a composite has more to it than its members."""
    return bool(raw(sig, "options") or raw(sig, "args") or raw(sig, "immutable"))


def _with_options_of(chain: Any, steps: list[Any]) -> list[Any]:
    options = raw(replica(chain), "options")
    links, errbacks = as_list(options.get("link")), as_list(options.get("link_error"))
    if errbacks:
        steps = [replica(step) for step in steps]
        for step in steps:
            for errback in errbacks:
                step.link_error(replica(errback) if hasattr(errback, "MEMBERS") else errback)
    # What holds no task is no step of a chain: the last one is before it.
    steps = [step for step in steps if not _is_void(step)] or steps[:1]
    pinned = "task_id" in options and kind_of(chain) == "chain"
    if links or pinned:
        last = steps[-1] = replica(steps[-1])
        for callback in [] if _is_void(last) else links:
            last.link(callback)
        if pinned:
            last.options.setdefault("task_id", options["task_id"])
    own = {key: value for key, value in options.items() if key not in OF_THE_WHOLE}
    if own or raw(chain, "args") or raw(chain, "immutable"):
        first = steps[0] = steps[0].clone(raw(chain, "args"), **own)
        if raw(chain, "immutable"):
            first.set_immutable(True)
    return steps


def _is_void(sig: Any) -> bool:
    pending = [sig]
    while pending:
        item = pending.pop()
        if kind_of(item) not in {"chain", "group"}:
            return False
        pending += raw(item, "kwargs")["tasks"]
    return True


def as_list(value: Any) -> list[Any]:
    """Return an option that holds one thing or a list of them (or nothing) as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


class Composition:
    """A canvas that grows at its end.

    ``levels[0]`` are the steps; while their last one is a chord that is still growing, ``levels[1]`` are the steps
    of its body, and so on. Adding a step touches the innermost level only.
    """

    def __init__(self, steps: list[Any], unrolls: bool) -> None:
        self.levels: list[list[Any]] = [steps]
        #: Whether even a first step is unrolled.
        self.unrolls = unrolls

    def extend(self, steps: Iterable[Any]) -> None:
        pending = deque(steps)
        while pending:
            step = pending.popleft()
            inner = _unrolled(step) if self.unrolls or self.levels[0] else None
            if inner is None:
                self._add(step)
            else:
                pending.extendleft(reversed(inner))

    def _add(self, step: Any) -> None:
        steps = self.levels[-1]
        while steps:
            grow = JOIN[kind_of(steps[-1])]
            if grow is None:
                break
            body = grow(steps)
            self.levels.append(body)
            steps = body
        steps.append(step)

    def close(self) -> list[Any]:
        while len(self.levels) > 1:
            body = self.levels.pop()
            raw(self.levels[-1][-1], "kwargs")["body"] = body[0] if len(body) == 1 else chain_of(body)
        return self.levels[0]


def _upgrade(steps: list[Any]) -> list[Any]:
    """Make the last step, a group, the header of a chord; return the steps of its body (none yet)."""
    group = steps[-1]
    # A group with options or arguments of its own stays whole: they belong to the header, not to the chord.
    header = replica(group)
    steps[-1] = assemble(
        TYPES["chord"],
        "celery.chord",
        (),
        {"kwargs": {}, "header": header if _has_own(group) else raw(header, "kwargs")["tasks"], "body": None},
        {},
        "chord",
        app=group._app,
        held=SHARED,
    )
    steps[-1]._small = len(raw(header, "kwargs")["tasks"]) < 2
    return []


def _unrolled(step: Any) -> list[Any] | None:
    """Return what stands for a group of one or of none, or a chord made of one; None if `step` is something else."""
    kind = kind_of(step)
    if kind == "group":
        members = raw(step, "kwargs")["tasks"]
        if len(members) > 1:
            return None
        inner = [inside for member in members for inside in steps_of(member)]
        return _with_options_of(step, inner) if inner and _has_own(step) else inner
    if kind == "chord" and getattr(step, "_small", False) and not _has_own(step):
        header, body = raw(step, "kwargs")["header"], raw(step, "kwargs")["body"]
        small = header if isinstance(header, dict) else TYPES["group"](header)
        unrolled = _unrolled(small)
        return None if unrolled is None or body is None else [*unrolled, *steps_of(body)]
    return None


def _reopen(steps: list[Any]) -> list[Any]:
    """Replace the last step, a chord, by a copy; return the steps of its body."""
    chord = steps[-1] = replica(steps[-1])
    chord._held = SHARED
    body = raw(chord, "kwargs").get("body")
    return [] if body is None else steps_of(body)


#: What a last step of each kind does when something follows it: None, it stays; else it gives the list to go on in.
JOIN: dict[str, Callable[[list[Any]], list[Any]] | None] = {"task": None, "group": _upgrade, "chord": _reopen}


def chain_of(steps: list[Any], cls: type[Any] | None = None, app: Any = None, held: int = FLAT) -> Any:
    """Return the chain of these steps as they are."""
    return assemble(cls or TYPES["chain"], "celery.chain", (), {"tasks": steps}, {}, "chain", app=app, held=held)


def compose(left: Signature, right: Signature) -> Any:
    """Return ``left | right``."""
    steps = steps_of(left)
    is_chain = kind_of(left) == "chain" and bool(steps)
    if is_chain and left._held != FLAT:
        whole = Composition([], unrolls=True)
        whole.extend(steps)
    else:
        # Behind an empty chain stands what stands alone; in a chain that was not folded a group of one still waits to
        # be unrolled.
        whole = Composition(steps, unrolls=not steps and kind_of(right) == "chain" and right._held != FLAT)
    whole.extend(steps_of(right))
    return _result(whole.close(), type(left) if kind_of(left) == "chain" else None, left._app, is_chain)


def fold(members: Iterable[Signature], cls: type[Any]) -> Any:
    """Return ``a | b | c | …``, which is what ``chain(a, b, c, …)`` makes."""
    whole = Composition([], unrolls=True)
    for member in members:
        whole.extend(steps_of(member))
    return _result(whole.close(), cls, None, False)


def _result(steps: list[Any], cls: type[Any] | None, app: Any, is_chain: bool) -> Any:
    if len(steps) == 1 and not is_chain and kind_of(steps[0]) != "task":
        return replica(steps[0])
    return chain_of(steps, cls, app)
