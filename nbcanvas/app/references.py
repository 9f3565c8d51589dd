"""Plans that messages refer to, where they would otherwise carry all that follows.

Celery writes what follows a task into its message, into that of the next one what follows then, and so on: a chain
of a thousand steps is a hundred megabytes of messages.  Between workers of ours the plan is kept once, beside the
results, and a message says where in it to go on (`nbcanvas.plan.pointing`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Final

from nbcanvas.errors import InvalidTaskError
from nbcanvas.ids import new_id
from nbcanvas.plan import Call, Chain, Fan, Message, Next, Node, Slot, Then
from nbcanvas.plan.pointing import Pointing
from nbcanvas.protocol.plans import dump, load

if TYPE_CHECKING:  # what only apps with servers load
    from nbcanvas.backend.redis.plans import Plans

__all__ = ["References", "worth_keeping"]

log = logging.getLogger("nbcanvas.app")

#: Chains of fewer steps are carried: a reference is no shorter.
_STEPS: Final = 4
#: Plans whose places are known.
_KNOWN: Final = 64


class References:
    """What an app's messages refer to.

    Parameters
    ----------
    plans
        Where plans are kept; None when they cannot be.
    understood
        Whether every worker there is understands references.
    """

    def __init__(self, plans: Callable[[], Plans | None], understood: Callable[[], bool]) -> None:
        self._plans = plans
        self._understood = understood
        self._known: OrderedDict[str, Pointing] = OrderedDict()
        #: Chain or fan, by identity -> the plan it belongs to; as long as the plan is known, the identity is taken.
        self._owners: dict[int, str] = {}
        self._lock = Lock()

    def keep(self, node: Node) -> None:
        """Keep a plan whose messages are about to be sent, if that is worth it."""
        if not worth_keeping(node):
            return
        plans = self._plans()
        if plans is None or not self._understood():
            return
        plan_id, pointing = new_id(), Pointing(node)
        plans.put(plan_id, dump(node).encode())
        self._remember(plan_id, pointing)

    def find(self, plan_id: str) -> Pointing | None:
        """Return a plan; None when it is not kept, or no longer."""
        known = self._known.get(plan_id)
        if known is not None:
            return known
        plans = self._plans()
        if plans is None:
            return None
        try:
            pointing = Pointing(load(plans.get(plan_id)))
        except InvalidTaskError as error:
            log.error("plan %s: %s", plan_id, error)  # noqa: TRY400 - the message's end says it, too
            return None
        return self._remember(plan_id, pointing)

    def of(self, message: Message) -> str | None:
        """Return the plan that what follows a message belongs to, at least from some step on; None for none."""
        then: Then = message.then
        while isinstance(then, Next):
            found = self._owners.get(id(then.chain))
            if found is not None:
                return found
            then = then.after
        return self._owners.get(id(then.join.fan)) if isinstance(then, Slot) else None

    def _remember(self, plan_id: str, pointing: Pointing) -> Pointing:
        with self._lock:
            known = self._known.setdefault(plan_id, pointing)
            if known is pointing:
                self._owners.update((id(node), plan_id) for node in pointing.nodes())
            while len(self._known) > _KNOWN:
                old_id, old = self._known.popitem(last=False)
                for node in old.nodes():
                    if self._owners.get(id(node)) == old_id:
                        del self._owners[id(node)]
            return known


def worth_keeping(root: Node) -> bool:
    """Say whether any message of a canvas would carry more than a reference is."""
    todo: list[Node] = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, Call):
            todo += (*node.links, *node.errbacks)
        elif isinstance(node, Fan):
            # Members are mostly alike, and mostly calls; those that are not are looked into.
            todo += [member for member in node.members if not isinstance(member, Call) or member.links]
        elif isinstance(node, Chain):
            if len(node.steps) >= _STEPS or any(isinstance(step, Fan) for step in node.steps[1:]):
                return True
            todo += node.steps
    return False
