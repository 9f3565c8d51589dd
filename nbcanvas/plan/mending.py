"""What can never run any more, seen from outside: by one who knows the plan, and how some of its calls ended.

Workers of ours end everything behind a failed or revoked call in the same stroke.  Celery's leave some of it PENDING
for ever: what is behind something revoked, or behind a failed chord and more than one step away.  Whoever has the plan
can say what that is, and how it would have ended: `mend` asks `advance` and `release`, and takes over only the ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from nbcanvas.canvas.trampoline import Walk, drive

from .engine import Errback, Skip, Transition, advance, release
from .model import Call, Chain, Exit, Fan, Join, Message, Next, Node, Slot, Value

__all__ = ["mend"]

#: How the members of a barrier ended, in call order, each with the id of the call it ended in; None: one has not.
_Exits = Sequence[tuple[Exit, str]] | None

#: Stands behind what is asked for its end: the end arrives there.
_HERE: Final = Slot(Join(Fan("", ()), None), 0)  # type: ignore[arg-type] # nothing is behind it


def mend(root: Node, ends: Mapping[str, Exit]) -> Transition:
    """Say what of a plan will never run, because of how other parts of it ended.

    Parameters
    ----------
    root
        The frozen canvas.
    ends
        Task id -> how that call ended, of all that are known to have ended.

    Returns
    -------
    Transition
        Only its skips and errbacks are of interest: calls that have not ended and never will by themselves, and the
        errbacks of those among them that hear that a barrier in front of them failed.
    """
    skips: list[Skip] = []
    errbacks: list[Errback] = []

    def visit(node: Node, waited: bool) -> Walk:
        """Return, as `_Exits`, how a node that has something behind it ended."""
        if type(node) is Call:
            end = ends.get(node.id)
            return None if end is None else [(end, node.id)]
        if isinstance(node, Chain):
            return (yield chain(node, waited))
        found: list[_Exits] = []
        for member in node.members if isinstance(node, Fan) else ():
            found += [(yield visit(member, waited))]
        # Members of a group that nothing waits for end each by itself.
        return [exits[0] for exits in found if exits is not None] if waited and None not in found else None

    def chain(node: Chain, waited: bool) -> Walk:
        last = len(node.steps) - 1
        exits: _Exits = None
        end = _HERE if waited else None
        for place, step in enumerate(node.steps):
            behind = Next(node, place + 1, end) if place < last else end
            exits = yield visit(step, waited or place < last)
            if exits is None:
                return None
            if all(isinstance(exit_, Value) for exit_, _ in exits):
                continue
            caused = _caused(step, exits, behind)
            skips.extend(skip for skip in caused.skips if skip.call.id not in ends)
            errbacks.extend(errback for errback in caused.errbacks if errback.call.id not in ends)
            return [(arrival.exit, arrival.by) for arrival in caused.arrivals]
        return exits if exits is None or len(exits) == 1 else [(Value(None), node.steps[-1].id)]

    drive(visit(root, waited=False))
    return Transition(skips=skips, errbacks=errbacks)


def _caused(step: Call | Fan, exits: Sequence[tuple[Exit, str]], behind: Next | Slot | None) -> Transition:
    """Return what a step caused that gave no value."""
    if isinstance(step, Fan):  # with something behind it: the ends of others are not asked for
        return release(Join(step, behind), exits, "", None, 0.0)  # type: ignore[arg-type]
    told = advance(Message(step, (), behind, "", None, 0.0), exits[0][0], 0.0)
    return told._replace(errbacks=())  # the worker has told those
