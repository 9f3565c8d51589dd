"""What follows a call, as Celery's signature dictionaries (PROTOCOL: "Chains on the wire", "Groups and chords").

A fan with something behind it is a chord; a fan at the end of a member of another barrier is a chord whose body,
``celery.accumulate``, hands on the list under the fan's own id.  Steps are written in loops; what recurs is only what
the protocol itself nests: a chord's body in each message of its header.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nbcanvas.canvas import Signature
from nbcanvas.errors import CanvasError
from nbcanvas.ids import IdSource
from nbcanvas.plan.freezing import Packer, freeze
from nbcanvas.plan.model import Call, Chain, Fan, Join, Next, Node, Payload, Slot, Then

__all__ = ["Reader", "SignatureDict", "Writer"]

SignatureDict = dict[str, Any]
#: Gives a call's own arguments.
Arguments = Callable[[Payload], tuple[Sequence[Any], Mapping[str, Any]]]

ACCUMULATE: Final = "celery.accumulate"


class Writer:
    """Writes nodes and continuations as signature dictionaries.

    Parameters
    ----------
    arguments
        Unpacks a call's arguments.
    pack
        Packs arguments, for the calls that the protocol needs beside those of the canvas.
    reply_to
        The client's id, which Celery puts into every signature of a message; None leaves it out.
    """

    def __init__(self, arguments: Arguments, pack: Packer, reply_to: str | None = None) -> None:
        self._arguments = arguments
        self._pack = pack
        self._reply_to = reply_to

    def embed(self, call: Call, then: Then) -> dict[str, Any]:
        """Return the third part of a task message's body: what hangs on a call, and what follows it."""
        steps, slot = then.rest() if isinstance(then, Next) else ([], then)
        return {
            "callbacks": [self.node(link) for link in call.links] or None,
            "errbacks": [self.node(errback) for errback in call.errbacks] or None,
            "chain": self._steps(steps, slot)[::-1] or None,
            "chord": self.body(slot.join) if slot is not None and not steps else None,
        }

    def node(self, node: Node) -> SignatureDict:
        """Return a whole node as one signature."""
        steps = self._steps(node.steps if isinstance(node, Chain) else (node,), None)
        return steps[0] if len(steps) == 1 else _signature("celery.chain", [], {"tasks": steps}, {}, "chain")

    def body(self, join: Join) -> SignatureDict:
        """Return what a barrier goes on with: its first step, with all that follows in the option ``chain``."""
        steps, slot = join.then.rest() if isinstance(join.then, Next) else ([self._accumulate(join.fan)], join.then)
        first, *rest = self._steps(steps, slot)
        if rest:
            first["options"]["chain"] = rest[::-1]
        first["options"].setdefault("group_id", join.id)
        return first

    def _steps(self, steps: Sequence[Call | Fan], slot: Slot | None) -> list[SignatureDict]:
        """Return steps that follow each other, the last of them counting for `slot`."""
        found: list[SignatureDict] = []
        todo = list(reversed(steps))
        while todo:
            step = todo.pop()
            if isinstance(step, Call):
                found.append(self._call(step))
            elif todo and isinstance(todo[-1], Fan):  # a group behind a group: all that follows is the body
                body, *rest = self._steps(todo[::-1], slot)
                if rest:
                    body["options"]["chain"] = rest[::-1]
                return [*found, self._chord(step, body)]
            elif todo or slot is not None:
                behind = todo.pop() if todo else self._accumulate(step)
                found.append(self._chord(step, self._call(behind)))  # type: ignore[arg-type] # no fan: see above
            else:
                found.append(self._group(step))
        if slot is not None and found:
            last = found[-1]
            while last["subtask_type"] == "chord":  # a chord counts when its body does
                last = last["kwargs"]["body"]
            last["options"] |= {"group_id": slot.join.id, "group_index": slot.index, "chord": self.body(slot.join)}
        return found

    # -- one signature ----------------------------------------------------------------------------------------------

    def _call(self, call: Call) -> SignatureDict:
        args, kwargs = self._arguments(call.payload)
        options: dict[str, Any] = {**call.options, "task_id": call.id}
        if self._reply_to is not None:
            options["reply_to"] = self._reply_to
        if call.stamps:
            options |= {"stamped_headers": list(call.stamps), **call.stamps}
        if call.links:
            options["link"] = [self.node(link) for link in call.links]
        if call.errbacks:
            options["link_error"] = [self.node(errback) for errback in call.errbacks]
        if call.nesting:
            options["replaced_task_nesting"] = call.nesting
        return _signature(call.task, list(args), dict(kwargs), options, None, immutable=call.immutable)

    def _accumulate(self, fan: Fan) -> Call:
        return Call(fan.id, ACCUMULATE, self._pack((), {"index": 0}))

    def _group(self, fan: Fan) -> SignatureDict:
        members = [self.node(member) for member in fan.members]
        for index, member in enumerate(members):
            member["options"]["group_index"] = index
        return _signature("celery.group", [], {"tasks": members}, {"task_id": fan.id}, "group")

    def _chord(self, fan: Fan, body: SignatureDict) -> SignatureDict:
        parts = {"header": self._group(fan), "body": body, "kwargs": {}}
        return _signature("celery.chord", [], parts, {"task_id": fan.id}, "chord")


def _signature(
    task: str,
    args: list[Any],
    kwargs: dict[str, Any],
    options: dict[str, Any],
    subtask_type: str | None,
    *,
    immutable: bool = False,
) -> SignatureDict:
    return {
        "task": task,
        "args": args,
        "kwargs": kwargs,
        "options": options,
        "subtask_type": subtask_type,
        "immutable": immutable,
    }


class Reader:
    """Reads continuations out of signature dictionaries.

    Parameters
    ----------
    new_id
        Gives ids to what has none: links, mostly.
    pack
        Packs a call's arguments.
    versions
        Task name -> version of its code.
    """

    def __init__(self, new_id: IdSource, pack: Packer, versions: Mapping[str, str]) -> None:
        self._new_id = new_id
        self._pack = pack
        self._versions = versions

    def node(self, sig: Any) -> Node:
        """Return a signature as a frozen node.

        Raises
        ------
        CanvasError
            When it is none.
        """
        if not isinstance(sig, dict) or not isinstance(sig.get("task"), str):
            msg = f"a signature is an object with a task, but here is {sig!r:.80}"
            raise CanvasError(msg)
        return freeze(Signature.from_dict(sig), self._new_id, self._pack, versions=self._versions)

    def nodes(self, sigs: Any) -> tuple[Node, ...]:
        """Return a list of signatures (or None) as frozen nodes."""
        return tuple(self.node(sig) for sig in sigs or ())

    def then(self, chain: Sequence[SignatureDict] | None, chord: Any, group_id: str | None, index: Any) -> Then:
        """Return what follows a call.

        Parameters
        ----------
        chain
            The steps to come, the last one first, as ``embed.chain`` has them.
        chord
            The body that waits for the group that the call counts for, or None.
        group_id, index
            That group, and the call's place in it.
        """
        if not chain:
            return self._slot(chord, group_id, index)
        return self._next(list(reversed(chain)), "", self._after(chain[0]))

    def _next(self, sigs: Sequence[SignatureDict], behind: str, after: Then) -> Then:
        """Return steps that follow each other, behind a group of the id `behind`, and what is after them."""
        steps: list[Call | Fan] = []
        for sig in sigs:
            node = self.node(sig)
            steps += node.steps if isinstance(node, Chain) else (node,)
            # What only hands on a list is not needed here: see `Writer`.
            if _hands_on(steps[-1], steps[-2].id if len(steps) > 1 else behind):
                steps.pop()
        return Next(Chain(steps), 0, after) if steps else after

    def _after(self, sig: SignatureDict) -> Then:
        """Return what is behind the last step of a chain: the options of its signature say it."""
        options = sig.get("options") or {}
        while sig.get("subtask_type") == "chord" and not options.get("chain"):
            sig = sig["kwargs"]["body"]
            options = sig.get("options") or {}
        place = options.get("group_id"), options.get("group_index")
        return self.then(options.get("chain"), options.get("chord"), *place)

    def _slot(self, body: Any, group_id: str | None, index: Any) -> Slot | None:
        if body is None or group_id is None:
            return None
        then = self._next([body], group_id, self._after(body))
        return None if then is None else Slot(Join(Fan(group_id, ()), then), int(index or 0))


def _hands_on(node: Node, group_id: str) -> bool:
    """Whether a call only hands on the list of a group that ends a member of another barrier (see `Writer`)."""
    return isinstance(node, Call) and node.task == ACCUMULATE and node.id == group_id
