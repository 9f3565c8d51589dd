"""What follows a call, as Celery's signature dictionaries (PROTOCOL: "Chains on the wire", "Groups and chords").

A fan with something behind it is a chord; a fan at the end of a member of another barrier, however deep it stands, is
a chord whose body, ``celery.accumulate``, hands on the list under the fan's own id: Celery's worker, which would count
the fan's tasks one by one, loses count of a chord among them.  Steps are written in loops; what recurs is only what the
protocol itself nests: a chord's body in each message of its header.

Where a plan is kept that whoever reads will find, what follows may be named in place of being written: a call of
``nbcanvas.continue`` with the plan's id and a place in it (see `nbcanvas.plan.pointing`) stands for all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from nbcanvas.canvas import Signature
from nbcanvas.errors import CanvasError, InvalidTaskError
from nbcanvas.ids import IdSource
from nbcanvas.plan.freezing import Packer, freeze
from nbcanvas.plan.model import Call, Chain, Fan, Join, Next, Node, Payload, Slot, Spread, Then
from nbcanvas.plan.pointing import Pointing

__all__ = ["CONTINUE", "CONTINUE_QUEUE", "Plans", "Reader", "Reference", "SignatureDict", "Writer"]

SignatureDict = dict[str, Any]
#: Gives a call's own arguments, as a list and an object or what stands for them.
Arguments = Callable[[Payload], tuple[Any, Any]]

ACCUMULATE: Final = "celery.accumulate"
#: Stands for all that follows from a place in a plan.
CONTINUE: Final = "nbcanvas.continue"
#: Where a Celery worker sends that call when it has done what comes before it: only workers of ours take from there.
CONTINUE_QUEUE: Final = "nbcanvas.continue"
_FOR_OURS: Final[Mapping[str, Any]] = {"queue": CONTINUE_QUEUE}
#: Ends the id of what counts for a barrier in the name of a fan (see `Writer._hands`).
_END: Final = "-end"
#: What follows is written, however a plan is at hand, when it is one call with arguments of no more characters than so.
_SHORT: Final = 200


class Plans(Protocol):
    """Where plans are kept that messages refer to."""

    def find(self, plan_id: str) -> Pointing | None:
        """Return a plan; None when it is not kept, or no longer."""


class Reference(NamedTuple):
    """A plan that may be referred to: under which id it is kept, and its places."""

    plan_id: str
    pointing: Pointing


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
    reference
        The plan that may be referred to in place of writing what follows.
    """

    def __init__(
        self,
        arguments: Arguments,
        pack: Packer,
        reply_to: str | None = None,
        reference: Reference | None = None,
    ) -> None:
        self._arguments = arguments
        self._pack = pack
        self._reply_to = reply_to
        self._reference = reference

    def embed(self, call: Call, then: Then) -> dict[str, Any]:
        """Return the third part of a task message's body: what hangs on a call, and what follows it."""
        steps, slot = self._rest(then)
        chain = self._steps(steps, slot, told=True)
        return {
            "callbacks": [self.node(link) for link in call.links] or None,
            "errbacks": [self.node(errback) for errback in call.errbacks] or None,
            "chain": chain[::-1] or None,
            "chord": self.body(slot.join) if isinstance(slot, Slot) and not steps else None,
        }

    def _rest(self, then: Then) -> tuple[list[Call | Fan], Slot | Spread | None]:
        """Return the steps of a continuation, and what is behind them; what can be referred to is one step."""
        steps: list[Call | Fan] = []
        while isinstance(then, Next):
            named = self._named(then)
            if named is not None:
                return [*steps, named], None
            steps += then.chain.steps[then.position :]
            then = then.after
        return steps, then

    def _named(self, then: Next) -> Call | None:
        """Return the call that stands for a continuation; None where it has to be written, or is as short."""
        spot = None if self._reference is None else self._reference.pointing.refer(then)
        if self._reference is None or spot is None or self._is_short(then):
            return None
        place = {"plan": self._reference.plan_id, "node": spot.number, "position": spot.position}
        return Call(then.step.id, CONTINUE, self._pack((), place), options=_FOR_OURS)

    def _is_short(self, then: Next) -> bool:
        """Whether a continuation is one plain call; then all that is behind it is nothing."""
        step = then.step
        if not isinstance(step, Call) or then.behind is not None:
            return False
        bare = not (step.links or step.errbacks or step.options or step.stamps)
        return bare and sum(len(str(part)) for part in self._arguments(step.payload)) <= _SHORT

    def node(self, node: Node, *, waited: bool = False) -> SignatureDict:
        """Return a whole node as one signature; where a barrier waits for it, it ends in a call."""
        return _whole(self._steps(node.steps if isinstance(node, Chain) else (node,), None, waited=waited))

    def body(self, join: Join) -> SignatureDict:
        """Return what a barrier goes on with: its first step, with all that follows in the option ``chain``."""
        named = self._named_barrier(join)
        steps, slot = self._rest(join.then) if named is None else ([named], None)
        steps = steps or [*self._hands(join.fan, slot)]
        first, *rest = self._steps(steps, slot, told=True)
        end = _end(first)
        if rest:
            end["options"]["chain"] = rest[::-1]
        for one in (end, *(end["kwargs"]["tasks"] if end["subtask_type"] == "group" else ())):
            one["options"].setdefault("group_id", join.id)
        return first

    def _named_barrier(self, join: Join) -> Call | None:
        """Return the call that stands for what is behind a barrier; see `_named`."""
        spot = None if self._reference is None else self._reference.pointing.refer(Slot(join, 0))
        if self._reference is None or spot is None or (isinstance(join.then, Next) and self._is_short(join.then)):
            return None
        goes_on = join.then.step.id if isinstance(join.then, Next) else join.id
        place = {"plan": self._reference.plan_id, "node": spot.number}
        return Call(goes_on, CONTINUE, self._pack((), place), options=_FOR_OURS)

    def _steps(
        self, steps: Sequence[Call | Fan], slot: Slot | Spread | None, *, told: bool = False, waited: bool = False
    ) -> list[SignatureDict]:
        """Return steps that follow each other, the last of them counting for `slot`.

        Where that is none, it is `told` the plain group whose member ends there, or `waited` for by a barrier that is
        not begun yet.
        """
        found: list[SignatureDict] = []
        todo = list(reversed(steps))
        while todo:
            step = todo.pop()
            if isinstance(step, Call):
                found.append(self._call(step))
            elif todo and isinstance(todo[-1], Fan):  # a group behind a group: all that follows is the body
                behind = self._steps(todo[::-1], slot, waited=waited or isinstance(slot, Slot))
                return [*found, self._chord(step, _whole(behind))]
            elif todo or waited or isinstance(slot, Slot) or not step.members:  # (an empty group would be dropped)
                body, *rest = [todo.pop()] if todo else self._hands(step, slot, waited=waited)
                found += [self._chord(step, self._call(body)), *map(self._call, rest)]  # type: ignore[arg-type] # no fan
            else:
                found.append(self._group(step))
        if isinstance(slot, Spread) and found:
            self._spread(found[-1], slot.join)
        elif isinstance(slot, Slot) and found:
            last = _end(found[-1])
            last["options"] |= {"group_id": slot.join.id, "group_index": slot.index, "chord": self.body(slot.join)}
        elif told and found and isinstance(steps[-1], Call) and steps[-1].group_id is not None:
            place = {} if steps[-1].index is None else {"group_index": steps[-1].index}
            _end(found[-1])["options"] |= {"group_id": steps[-1].group_id, **place}
        return found

    def _spread(self, group: SignatureDict, join: Join) -> None:
        """Let each task of a group count for a barrier by itself."""
        counts = {"group_id": join.id, "chord": self.body(join)}
        todo = [group]
        while todo:
            inside = todo.pop()
            inside["options"] |= counts
            for index, member in enumerate(inside["kwargs"]["tasks"]):
                end = _end(member)
                end["options"] |= {**counts, "group_index": index}
                todo += [end] if end["subtask_type"] == "group" else []

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
        return _signature(call.task, args, kwargs, options, None, immutable=call.immutable)

    def _hands(self, fan: Fan, slot: Slot | Spread | None, *, waited: bool = False) -> list[Call]:
        """Return what hands on the list of a fan that ends a member of a barrier.

        Of a chord's body that never runs Celery's worker tells no barrier, but of what follows it in a chain it does:
        where the barrier is begun, one more call counts.
        """
        hand = self._accumulate(fan)
        return [hand, self._accumulate(fan, _END)] if isinstance(slot, Slot) and not waited else [hand]

    def _accumulate(self, fan: Fan, suffix: str = "") -> Call:
        return Call(fan.id + suffix, ACCUMULATE, self._pack((), {"index": 0}))

    def _group(self, fan: Fan, *, waited: bool = False) -> SignatureDict:
        members = [self.node(member, waited=waited) for member in fan.members]
        for index, member in enumerate(members):
            _end(member)["options"]["group_index"] = index
        return _signature("celery.group", [], {"tasks": members}, {"task_id": fan.id}, "group")

    def _chord(self, fan: Fan, body: SignatureDict) -> SignatureDict:
        parts = {"header": self._group(fan, waited=True), "body": body, "kwargs": {}}
        return _signature("celery.chord", [], parts, {"task_id": fan.id}, "chord")


def _whole(steps: list[SignatureDict]) -> SignatureDict:
    """Return steps as one signature."""
    if len(steps) == 1:
        return steps[0]
    end = _end(steps[-1])
    own_id = {} if end["subtask_type"] == "group" else {"task_id": end["options"]["task_id"]}
    return _signature("celery.chain", [], {"tasks": steps}, own_id, "chain")


def _end(sig: SignatureDict) -> SignatureDict:
    """Return what a signature ends in: a chord counts, for what it stands in, when its body does."""
    while sig["subtask_type"] in {"chord", "chain"}:
        sig = sig["kwargs"]["body"] if sig["subtask_type"] == "chord" else sig["kwargs"]["tasks"][-1]
    return sig


def _signature(
    task: str,
    args: Any,
    kwargs: Any,
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
    plans
        Where to find what messages refer to.
    """

    def __init__(self, new_id: IdSource, pack: Packer, versions: Mapping[str, str], plans: Plans | None = None) -> None:
        self._new_id = new_id
        self.pack = pack
        self.versions = versions
        self._plans = plans
        #: What was read last behind a barrier: all messages of its members say the same of it.
        self._last: tuple[Any, str, Join] | None = None

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
        found = freeze(Signature.from_dict(sig), self._new_id, self.pack, versions=self.versions, unfold=False)
        _drop_hands(found)
        return found

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
        return self._next(list(reversed(chain)), "", chain[0])

    def _next(self, sigs: Sequence[SignatureDict], behind: str, last: SignatureDict) -> Then:
        """Return steps that follow each other, behind a group of the id `behind`, and what is after the `last`."""
        steps: list[Call | Fan] = []
        *_, end = sigs
        named = self.place(end["kwargs"]) if isinstance(end, dict) and end.get("task") == CONTINUE else None
        for sig in sigs[:-1] if named is not None else sigs:
            node = self.node(sig)
            steps += node.steps if isinstance(node, Chain) else (node,)
            # What only hands on a list is not needed here: see `Writer`.
            if _hands_on(steps[-1], steps[-2].id if len(steps) > 1 else behind):
                steps.pop()
        if named is None and steps and isinstance(steps[-1], Call):
            steps[-1].group_id, steps[-1].index = _place(last)
        after = self._after(last) if named is None else named
        if isinstance(after, Spread) and not (steps and isinstance(steps[-1], Fan)):  # a group of one is its member
            after = Slot(after.join, 0)
        return Next(Chain(steps), 0, after) if steps else after

    def _after(self, sig: SignatureDict) -> Then:
        """Return what is behind the last step of a chain: the options of its signature say it."""
        options = whole = sig.get("options") or {}
        while sig.get("subtask_type") in {"chord", "chain"} and not options.get("chain"):
            sig = sig["kwargs"]["body"] if sig["subtask_type"] == "chord" else sig["kwargs"]["tasks"][-1]
            options = sig.get("options") or {}
        group_id = options.get("group_id")
        place = group_id, options.get("group_index")
        if sig.get("subtask_type") != "group":
            # Of a header that was a generator Celery's client tells the chain as a whole what it counts for.
            body = options.get("chord") or (whole.get("chord") if whole.get("group_id") == group_id else None)
            return self.then(options.get("chain"), body, *place)
        # A group's tasks count one by one, as Celery's clients write it; for what, they say themselves: as a body the
        # group has the id of its header.
        counted = _counted(sig)
        then = self.then(options.get("chain"), counted.get("chord") or options.get("chord"), counted.get("group_id"), 0)
        return Spread(then.join) if isinstance(then, Slot) else then

    def _slot(self, body: Any, group_id: str | None, index: Any) -> Slot | None:
        if body is None or group_id is None:
            return None
        place = int(index or 0)
        if isinstance(body, dict) and body.get("task") == CONTINUE:
            found = self.place(body["kwargs"])
            return Slot(found.join, place) if isinstance(found, Slot) else Slot(Join(Fan(group_id, ()), found), place)
        last = self._last
        if last is not None and last[1] == group_id and last[0] == body:
            return Slot(last[2], place)
        then = self._next([body], group_id, body)
        if not isinstance(then, Next | Slot):
            return None
        join = Join(Fan(group_id, ()), then)
        self._last = body, group_id, join
        return Slot(join, place)

    def place(self, named: Mapping[str, Any]) -> Next | Slot:
        """Return what ``nbcanvas.continue`` stands for: of a fan without a position, the first of its slots.

        Raises
        ------
        InvalidTaskError
            When the plan is not kept any more, or has no such place.
        """
        plan_id, number, position = named["plan"], named["node"], named.get("position")
        pointing = self._plans.find(plan_id) if self._plans is not None and isinstance(plan_id, str) else None
        if pointing is None:
            msg = f"what follows stands in the plan {plan_id!r:.80}, which is not kept here, or no longer"
            raise InvalidTaskError(msg)
        if position is None:
            return Slot(pointing.join(number), 0)
        return pointing.resolve(number, position)


def _place(sig: SignatureDict) -> tuple[str | None, int | None]:
    """Return what a signature's last call says it counts for: a group's id, and its place there."""
    while sig.get("subtask_type") in {"chord", "chain"}:
        sig = sig["kwargs"]["body"] if sig["subtask_type"] == "chord" else sig["kwargs"]["tasks"][-1]
    options = sig.get("options") or {}
    group_id, index = options.get("group_id"), options.get("group_index")
    return (group_id, None if index is None else int(index)) if isinstance(group_id, str) else (None, None)


def _counted(sig: SignatureDict) -> Mapping[str, Any]:
    """Return the options of the first task in a group that may count for what the group stands in."""
    while sig.get("subtask_type"):
        kwargs = sig["kwargs"]
        if sig["subtask_type"] == "chord":
            sig = kwargs["body"]
        elif kwargs.get("tasks"):
            sig = kwargs["tasks"][-1 if sig["subtask_type"] == "chain" else 0]
        else:
            break
    found: Mapping[str, Any] = sig.get("options") or {}
    return found


def _drop_hands(root: Node) -> None:
    """Drop, in a node just read, what only hands on the lists of groups that members end in (see `Writer`)."""
    todo = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, Call):
            todo += (*node.links, *node.errbacks)
        elif isinstance(node, Chain):
            todo += node.steps
        else:
            for member in node.members:
                steps = member.steps if isinstance(member, Chain) else ()
                while len(steps) > 2 and _hands_on(steps[-1], steps[-2].id):
                    member.steps = steps = steps[:-1]  # type: ignore[union-attr] # it is a chain
            todo += node.members


def _hands_on(node: Node, group_id: str) -> bool:
    """Whether a call only hands on the list of a group that ends a member of another barrier (see `Writer`)."""
    return isinstance(node, Call) and node.task == ACCUMULATE and (node.id == group_id or node.id.endswith(_END))
