"""The algebra of ``|``: what two canvases make together.

One table says what happens where the last step of the left side meets the first step of the right side:

====================  ===============================================================================================
last step is          whatever follows
====================  ===============================================================================================
a task (or a map)     becomes the next step
a group               becomes the body of a chord whose header is that group
a chord               follows the chord's body, by these same rules
====================  ===============================================================================================

A chain on the right is taken step by step, so ``|`` is associative. An empty chain is its neutral element. A group
gives a list, of none, of one or of many: what follows it is a chord's body in each case.

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
    if links or "task_id" in options:
        last = steps[-1] = replica(steps[-1])
        for callback in links:
            last.link(callback)
        if "task_id" in options:
            last.options.setdefault("task_id", options["task_id"])
    own = {key: value for key, value in options.items() if key not in OF_THE_WHOLE}
    if own or raw(chain, "args") or raw(chain, "immutable"):
        first = steps[0] = steps[0].clone(raw(chain, "args"), **own)
        if raw(chain, "immutable"):
            first.set_immutable(True)
    return steps


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

    def __init__(self) -> None:
        self.levels: list[list[Any]] = [[]]

    def extend(self, steps: Iterable[Any]) -> None:
        for step in steps:
            self.add(step)

    def add(self, step: Any) -> None:
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
    steps[-1] = assemble(TYPES["chord"], "celery.chord", (),
                         {"kwargs": {}, "header": header if _has_own(group) else raw(header, "kwargs")["tasks"],
                          "body": None}, {}, "chord", app=group._app, held=SHARED)
    return []


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
    whole = Composition()
    whole.levels[0] = steps_of(left)
    is_chain = kind_of(left) == "chain" and bool(whole.levels[0])
    whole.extend(steps_of(right))
    return _result(whole.close(), type(left) if kind_of(left) == "chain" else None, left._app, is_chain)


def fold(members: Iterable[Signature], cls: type[Any]) -> Any:
    """Return ``a | b | c | …``, which is what ``chain(a, b, c, …)`` makes."""
    whole = Composition()
    for member in members:
        whole.extend(steps_of(member))
    return _result(whole.close(), cls, None, False)


def _result(steps: list[Any], cls: type[Any] | None, app: Any, is_chain: bool) -> Any:
    if len(steps) == 1 and not is_chain and kind_of(steps[0]) != "task":
        return replica(steps[0])
    return chain_of(steps, cls, app)
