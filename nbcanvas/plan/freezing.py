"""From the language to the plan: read a canvas, write frozen nodes.

Reading never changes the canvas.  What the guide does with shapes happens here, once:

* a chain in a chain is spliced, an empty group in a chain is dropped, a group of one in a chain is unrolled;
* a group in a group is unrolled into it;
* a group with a step behind it becomes a barrier, and so does a chord: ``chord(header, body)`` and
  ``group(header) | body`` freeze to the same nodes;
* partial arguments go to the first calls, a chain's callbacks to its last call, its errbacks to each of its
  steps, a chord's to its body;
* chunks become a group of starmaps.

Costs time and memory linear in the signatures, and no recursion: generators run on an explicit stack.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from nbcanvas.canvas import Signature, chain, chord, chunks, group, maybe_signature
from nbcanvas.canvas.trampoline import drive
from nbcanvas.errors import DuplicateId, NotASignature, NotSerializable
from nbcanvas.ids import IdSource

from .graph import calls_of
from .model import NO_OPTIONS, Call, Chain, Fan, Node, Payload

__all__ = ["Freezer", "freeze", "inherit"]

#: Options that say where a signature stands, not how to run it.
_STRUCTURAL: Final = frozenset({
    "task_id", "link", "link_error", "root_id", "parent_id", "group_id", "group_index", "chord", "chain", "reply_to",
    "stamped_headers", "replaced_task_nesting",
})

#: Packs a call's own arguments: (args, kwargs) -> Payload.
Packer = Callable[[tuple[Any, ...], Mapping[str, Any]], Payload]


class Around(NamedTuple):
    """What a signature is given by what stands around it.

    Attributes
    ----------
    args, kwargs, options
        Partials for its first calls.
    last_id
        The id of its last call, when that is decided outside.
    links
        Signatures to link to its last call.
    errbacks
        Signatures to link to each of its steps as errbacks.
    followed
        Whether a step comes behind, so that a group at its end is a barrier.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = NO_OPTIONS
    options: Mapping[str, Any] = NO_OPTIONS
    last_id: str | None = None
    links: tuple[Any, ...] = ()
    errbacks: tuple[Any, ...] = ()
    followed: bool = False


ALONE: Final = Around()
_Steps = list[Call | Fan]
_Work = Generator[Any, Any, _Steps]


class Freezer:
    """Freezes canvases.

    Parameters
    ----------
    new_id
        Gives ids for the calls and groups that have none pinned.
    pack
        Packs a call's arguments.
    versions
        Task name -> version of its code.
    header_errbacks
        Celery's setting ``task_allow_error_cb_on_chord_header``: errbacks of a chord go to its header, too.
    nesting
        How often the task being replaced was replaced before, plus one; 0 for a canvas that replaces nothing.
    """

    def __init__(self, new_id: IdSource, pack: Packer, versions: Mapping[str, str] = NO_OPTIONS, *,
                 header_errbacks: bool = False, nesting: int = 0) -> None:
        self._new_id = new_id
        self._pack = pack
        self._versions = versions
        self._header_errbacks = header_errbacks
        self._nesting = nesting
        self._pinned: set[str] = set()

    def freeze(self, sig: Signature, around: Around = ALONE) -> Node:
        """Freeze `sig`.

        Raises
        ------
        NotASignature
            When something else stands where a signature belongs.
        DuplicateId
            When one pinned id appears twice.
        """
        steps: _Steps = drive(self._steps(sig, around))
        if not steps:
            return Fan(self._new_id(), ())
        return _node(steps)

    # Each of these returns the steps a signature comes down to; a caller splices them into its own.

    def _steps(self, sig: Any, around: Around) -> _Work:
        sig = _signature(sig)
        if isinstance(sig, chain):
            return (yield self._chain(sig, around))
        if isinstance(sig, chord):
            return (yield self._chord(sig, around))
        if isinstance(sig, chunks):
            own = {k: v for k, v in sig["options"].items() if k not in around.options}
            return (yield self._group(sig.group(), around._replace(options={**own, **around.options})))
        if isinstance(sig, group):
            return (yield self._group(sig, around))
        return [self._call(sig, around) if not (sig["options"].get("link") or sig["options"].get("link_error")
                                                or around.links or around.errbacks)
                else (yield self._linked_call(sig, around))]

    def _call(self, sig: Signature, around: Around, links: tuple[Node, ...] = (),
              errbacks: tuple[Node, ...] = ()) -> Call:
        own = sig["options"]
        args, kwargs = tuple(sig["args"]), sig["kwargs"]
        immutable = sig["immutable"]
        if not immutable:
            if around.args:
                args = around.args + args
            if around.kwargs:
                kwargs = {**kwargs, **around.kwargs}
        task = sig["task"]
        try:
            payload = self._pack(args, kwargs)
        except NotSerializable as error:
            msg = f"{task}: {error}"
            raise NotSerializable(msg) from error.__cause__
        if not own and around.options is NO_OPTIONS:
            return Call(around.last_id or self._new_id(), task, payload, immutable, NO_OPTIONS, links, errbacks, None,
                        None, None, self._versions.get(task, ""), self._nesting)
        call_id = self._id(own, around)
        stamped = own.get("stamped_headers")
        stamps = {name: own[name] for name in stamped if name in own} if stamped else None
        merged = {k: v for k, v in (*own.items(), *around.options.items())
                  if k not in _STRUCTURAL and (stamps is None or k not in stamps)}
        return Call(call_id, task, payload, immutable, merged or NO_OPTIONS, links, errbacks, stamps,
                    None, None, self._versions.get(task, ""), int(own.get("replaced_task_nesting") or self._nesting))

    def _id(self, own: Mapping[str, Any], around: Around) -> str:
        pinned = own.get("task_id")
        if pinned is None:
            return around.last_id or self._new_id()
        if pinned in self._pinned:
            msg = (f"the id {pinned} appears twice in this canvas: a frozen signature can stand in one place only; "
                   f"put clone() and set a new id, or freeze later")
            raise DuplicateId(msg)
        self._pinned.add(pinned)
        return str(pinned)

    def _linked_call(self, sig: Signature, around: Around) -> _Work:
        own = sig["options"]
        links = yield self._nodes((*_listed(own.get("link")), *around.links))
        errbacks = yield self._nodes((*_listed(own.get("link_error")), *around.errbacks))
        return self._call(sig, around, links, errbacks)  # type: ignore[return-value]

    def _nodes(self, sigs: Sequence[Any]) -> Generator[Any, Any, tuple[Node, ...]]:
        found = []
        for sig in sigs:
            # One linked object may stand behind many calls: each place gets ids of its own.
            pinned, self._pinned = self._pinned, set()
            steps = yield self._steps(sig, ALONE)
            self._pinned = pinned
            found.append(_node(steps) if steps else Fan(self._new_id(), ()))
        return tuple(found)

    def _chain(self, sig: chain, around: Around) -> _Work:
        own = sig["options"]
        links = (*_listed(own.get("link")), *around.links)
        errbacks = (*_listed(own.get("link_error")), *around.errbacks)
        members = _filled(_signatures(sig["kwargs"]["tasks"]))
        end = len(members) - 1
        first = around._replace(options=_passed_on(own, around))
        if sig["immutable"]:
            first = first._replace(args=(), kwargs=NO_OPTIONS)
        steps: _Steps = []
        for place, member in enumerate(members):
            stands = (first if place == 0 else ALONE)._replace(errbacks=errbacks)
            if place == end:
                stands = stands._replace(links=links, last_id=around.last_id or own.get("task_id"),
                                         followed=around.followed)
            else:
                stands = stands._replace(links=(), last_id=None, followed=True)
            while type(member) is group and len(member["kwargs"]["tasks"]) == 1:  # the guide, "Group Unrolling"
                stands = stands._replace(options=_passed_on(member["options"], stands))
                member = _signature(member["kwargs"]["tasks"][0])  # noqa: PLW2901 - the one inside stands for it
            steps += yield self._steps(member, stands)
        return steps

    def _chord(self, sig: chord, around: Around) -> _Work:
        own = sig["options"]
        passed = _passed_on(own, around)
        errbacks = (*_listed(own.get("link_error")), *around.errbacks)
        header = sig["kwargs"]["header"]
        gid, to_header = None, passed
        if isinstance(header, dict):
            gid = header["options"].get("task_id")
            to_header = _passed_on(header["options"], around._replace(options=passed))
            header = header["kwargs"]["tasks"]
        fan = yield self._fan(_signatures(header), gid, Around(
            (*around.args, *sig["args"]) if not sig["immutable"] else tuple(sig["args"]),
            {**(sig["kwargs"].get("kwargs") or NO_OPTIONS), **around.kwargs}, to_header,
            errbacks=errbacks if self._header_errbacks else ()))
        if sig["kwargs"].get("body") is None:
            return [fan]
        body = yield self._steps(sig["kwargs"]["body"], Around(
            (), NO_OPTIONS, {k: v for k, v in passed.items() if k not in ("countdown", "eta")} or NO_OPTIONS,
            around.last_id or own.get("task_id"), (*_listed(own.get("link")), *around.links), errbacks,
            around.followed))
        return [fan, *body]

    def _group(self, sig: group, around: Around) -> _Work:
        own = sig["options"]
        if around.followed and not self._header_errbacks:
            errbacks: tuple[Any, ...] = ()
        else:
            errbacks = (*_listed(own.get("link_error")), *around.errbacks)
        inside = around._replace(options=_passed_on(own, around), errbacks=errbacks, last_id=None, followed=False,
                                 links=(*_listed(own.get("link")), *around.links))
        if sig["immutable"]:
            inside = inside._replace(args=(), kwargs=NO_OPTIONS)
        fan = yield self._fan(_signatures(sig["kwargs"]["tasks"]), own.get("task_id") or around.last_id, inside)
        return [fan]

    def _fan(self, sigs: Sequence[Any], gid: str | None, around: Around) -> Generator[Any, Any, Fan]:
        gid = gid or self._new_id()
        members: list[Call | Chain] = []
        if around.links:
            # A group's callback is its first member's, which cannot give it the other members' values (the guide,
            # "Group Callbacks and Error Handling").
            links = tuple(_signature(link).clone().set(immutable=True) for link in around.links)
            _adopt((yield self._steps(sigs[0], around._replace(links=links))) if sigs else [], gid, members)
            sigs, around = sigs[1:], around._replace(links=())
        plain = around.options is NO_OPTIONS and not around.errbacks
        for sig in sigs:
            if plain and type(sig) is Signature and not sig["options"]:
                call = self._call(sig, around)
                call.group_id, call.index = gid, len(members)
                members.append(call)
            else:
                _adopt((yield self._steps(sig, around)), gid, members)
        return Fan(gid, members)


def _adopt(steps: _Steps, gid: str, members: list[Call | Chain]) -> None:
    """Make `steps` a member of a fan; a group's members become members themselves (the guide: groups unroll)."""
    if not steps:
        return
    only = steps[0]
    if len(steps) > 1:
        found: Sequence[Call | Chain] = (Chain(steps),)
    else:
        found = (only,) if isinstance(only, Call) else only.members
    for member in found:
        last = member.steps[-1] if isinstance(member, Chain) else member
        if isinstance(last, Call):
            last.group_id, last.index = gid, len(members)
        members.append(member)


def _node(steps: _Steps) -> Node:
    return steps[0] if len(steps) == 1 else Chain(steps)


def _signature(sig: Any) -> Signature:
    if isinstance(sig, Signature):
        return sig
    found = maybe_signature(sig) if isinstance(sig, dict) else None
    if found is None:
        msg = f"a canvas is made of signatures, but here stands {type(sig).__name__}: {sig!r:.80}"
        raise NotASignature(msg)
    return found


def _signatures(tasks: Any) -> Sequence[Any]:
    return [_signature(t) for t in (tasks if isinstance(tasks, list | tuple) else list(tasks))]


def _listed(value: Any) -> tuple[Any, ...]:
    """Return an option that may be one signature, a list of them, or None, as a tuple."""
    if not value:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _passed_on(own: Mapping[str, Any], around: Around) -> Mapping[str, Any]:
    """Return the options a composite hands to its first calls: its own, overridden by what it is called with."""
    if not own:
        return around.options
    stamped = own.get("stamped_headers") or ()
    kept = {k: v for k, v in own.items() if k not in _STRUCTURAL and k not in stamped}
    return {**kept, **around.options} if kept else around.options


def _filled(members: Sequence[Signature]) -> Sequence[Signature]:
    """Return a chain's steps without those that hold no task; one of them, when there are no others."""
    return [m for m in members if not _is_void(m)] or members[:1]


def _is_void(sig: Signature) -> bool:
    todo: list[Any] = [sig]
    while todo:
        sig = todo.pop()
        if not isinstance(sig, group | chain):
            return False
        todo += sig["kwargs"]["tasks"]
    return True


def freeze(sig: Signature, new_id: IdSource, pack: Packer, args: Sequence[Any] = (),
           kwargs: Mapping[str, Any] = NO_OPTIONS, options: Mapping[str, Any] = NO_OPTIONS,
           versions: Mapping[str, str] = NO_OPTIONS, *, header_errbacks: bool = False, nesting: int = 0) -> Node:
    """Freeze a canvas that is called with `args`, `kwargs` and `options` (see `Freezer`).

    Parameters
    ----------
    sig
        Any signature; it is not changed.
    new_id, pack, versions, header_errbacks, nesting
        See `Freezer`.
    args, kwargs, options
        The partials of the call, in the sense of the guide's section "Partials".

    Returns
    -------
    Node
    """
    link, link_error = _listed(options.get("link")), _listed(options.get("link_error"))
    rest = {k: v for k, v in options.items() if k not in _STRUCTURAL and v is not None}
    around = Around(tuple(args), kwargs or NO_OPTIONS, rest or NO_OPTIONS, options.get("task_id"), link, link_error)
    return Freezer(new_id, pack, versions, header_errbacks=header_errbacks, nesting=nesting).freeze(sig, around)


def inherit(node: Node, call: Call) -> None:
    """Make a fresh replacement carry on for the call it replaces.

    Its last call gets the links, the group and the place; each of its steps gets the errbacks; every call gets the
    stamps it does not have itself.

    Parameters
    ----------
    node
        The frozen replacement; nobody else knows it yet, so it is changed in place.
    call
        The call that is replaced.
    """
    steps = node.steps if isinstance(node, Chain) else (node,)
    for step in steps:
        if isinstance(step, Call):
            step.errbacks += call.errbacks
    last = steps[-1]
    if isinstance(last, Call):
        last.links += call.links
        last.group_id, last.index = call.group_id, call.index
    if call.stamps:
        for inner in calls_of(node):
            inner.stamps = {**call.stamps, **(inner.stamps or {})}
