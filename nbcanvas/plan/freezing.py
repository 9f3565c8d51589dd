"""From the language to the plan: read a canvas, write frozen nodes.

Reading never changes the canvas.  What the guide does with shapes happens here, once:

* a chain in a chain is spliced, an empty group in a chain is dropped, a group of one in a chain is unrolled;
* a group in a group is unrolled into it;
* a group with a step behind it becomes a barrier, and so does a chord: ``chord(header, body)`` and
  ``group(header) | body`` freeze to the same nodes;
* partial arguments go to the first calls, a chain's callbacks to its last call, its errbacks to each of its
  steps, a chord's to its body, a group's to each member; a group that is followed within a chain is the header of a
  chord, so that chain's errbacks pass its members by;
* chunks become a group of starmaps, of any number: they give a list even when they are one or none;
* what replaces a task takes its id; when it ends in a group, a last call hands on the list under that id.

Costs time and memory linear in the signatures, and no recursion: generators run on an explicit stack.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from nbcanvas.canvas import Signature, chain, chord, chunks, group, maybe_signature, raw
from nbcanvas.canvas.checks import NO_BODY
from nbcanvas.canvas.trampoline import drive
from nbcanvas.errors import CanvasError, DuplicateId, InvalidTaskError, NotASignature, NotSerializable
from nbcanvas.ids import IdSource

from .graph import places
from .model import NO_OPTIONS, Call, Chain, Fan, Node, Payload
from .times import check_times

__all__ = ["Freezer", "freeze", "inherit", "join_in"]

#: Options that say where a signature stands, not how to run it.
_STRUCTURAL: Final = frozenset(
    {
        "task_id",
        "link",
        "link_error",
        "root_id",
        "parent_id",
        "group_id",
        "group_index",
        "chord",
        "chain",
        "reply_to",
        "stamped_headers",
        "replaced_task_nesting",
    }
)

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
    inner
        Those of them that reach the members of a group standing here: a chain's errbacks pass by a group that is
        followed by a step of that chain, because the two are a chord, and that one's body hears.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = NO_OPTIONS
    options: Mapping[str, Any] = NO_OPTIONS
    last_id: str | None = None
    links: tuple[Any, ...] = ()
    errbacks: tuple[Any, ...] = ()
    inner: tuple[Any, ...] = ()


ALONE: Final = Around()
_Steps = list[Call | Fan]
#: A recursion on the explicit stack of `drive`: what it yields is run first, and its value sent back.
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
    body_only
        Errbacks that go to no header in any case: those a chord is called with (the guide, "Chords", since 5.7).
    unfold
        Chunks become the group they mean; False leaves them one task, ``celery.chunks``, as Celery's messages mean it.
    """

    def __init__(
        self,
        new_id: IdSource,
        pack: Packer,
        versions: Mapping[str, str] = NO_OPTIONS,
        *,
        header_errbacks: bool = False,
        nesting: int = 0,
        body_only: Sequence[Any] = (),
        unfold: bool = True,
    ) -> None:
        self._new_id = new_id
        self._pack = pack
        self._versions = versions
        self._header_errbacks = header_errbacks
        self._nesting = nesting
        self._body_only = body_only
        self._unfold = unfold
        self._pinned: set[str] = set()
        #: Whether composites hold no task, by identity (and the composite, so that its identity stays its own).
        self._void: dict[int, tuple[Signature, bool]] = {}

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
            steps = [Fan(self._new_id(), ())]
        if self._nesting and isinstance(steps[-1], Fan):
            steps.append(self._accumulate(steps[-1]))
        return _node(steps)

    def _accumulate(self, fan: Fan) -> Call:
        """Return the call that ends a replacement ending in a group: it takes the id, and hands on the list."""
        call_id, fan.id = fan.id, self._new_id()
        _number(fan)
        task = "celery.accumulate"
        return Call(
            call_id, task, self._pack((), {"index": 0}), version=self._versions.get(task, ""), nesting=self._nesting
        )

    # Each of these returns the steps a signature comes down to; a caller splices them into its own.

    def _steps(self, sig: Any, around: Around) -> _Work:
        sig = _signature(sig)
        steps: _Steps
        if isinstance(sig, chain):
            steps = yield self._chain(sig, around)
        elif isinstance(sig, chord):
            steps = yield self._chord(sig, around)
        elif isinstance(sig, chunks) and self._unfold:
            steps = yield self._group(_starmaps(sig), around)
        elif isinstance(sig, group):
            steps = yield self._group(sig, around)
        else:
            links: tuple[Node, ...] = ()
            errbacks: tuple[Node, ...] = ()
            own = raw(sig, "options")
            if own.get("link") or own.get("link_error") or around.links or around.errbacks:
                links = yield self._nodes((*_listed(own.get("link")), *around.links))
                errbacks = yield self._nodes((*_listed(own.get("link_error")), *around.errbacks))
            steps = [self._call(sig, around, links, errbacks)]
        return steps

    def _call(
        self, sig: Signature, around: Around, links: tuple[Node, ...] = (), errbacks: tuple[Node, ...] = ()
    ) -> Call:
        own, immutable = raw(sig, "options"), raw(sig, "immutable")
        args, kwargs = tuple(raw(sig, "args")), raw(sig, "kwargs")
        if not immutable:
            if around.args:
                args = around.args + args
            if around.kwargs:
                kwargs = {**kwargs, **around.kwargs}
        task = raw(sig, "task")
        try:
            payload = self._pack(args, kwargs)
        except NotSerializable as error:
            msg = f"{task}: {error}"
            raise NotSerializable(msg) from error.__cause__
        call_id = self._id(around.last_id or own.get("task_id"))
        if not own and around.options is NO_OPTIONS:
            return Call(
                call_id,
                task,
                payload,
                immutable,
                NO_OPTIONS,
                links,
                errbacks,
                None,
                None,
                None,
                self._versions.get(task, ""),
                self._nesting,
            )
        given = {**own, **around.options} if around.options else own
        stamped = (*(own.get("stamped_headers") or ()), *(around.options.get("stamped_headers") or ()))
        stamps = {name: given[name] for name in stamped if name in given} if stamped else None
        merged = {k: v for k, v in given.items() if k not in _STRUCTURAL and (stamps is None or k not in stamps)}
        try:
            check_times(merged)
        except InvalidTaskError as error:
            msg = f"{task}: {error}"
            raise InvalidTaskError(msg) from None
        return Call(
            call_id,
            task,
            payload,
            immutable,
            merged or NO_OPTIONS,
            links,
            errbacks,
            stamps,
            None,
            None,
            self._versions.get(task, ""),
            int(own.get("replaced_task_nesting") or self._nesting),
        )

    def _id(self, pinned: Any) -> str:
        """Return the id that was decided, once, or a new one."""
        if pinned is None:
            return self._new_id()
        if not isinstance(pinned, str):
            msg = f"a task's id is a text, but task_id is {pinned!r:.80}; was a stamp or an option called task_id?"
            raise CanvasError(msg)
        if pinned in self._pinned:
            msg = (
                f"the id {pinned} appears twice in this canvas: a frozen signature can stand in one place only; "
                f"put clone() and set a new id, or freeze later"
            )
            raise DuplicateId(msg)
        self._pinned.add(pinned)
        return pinned

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
        first = _into(sig, around)
        members = yield self._filled(_signatures(raw(sig, "kwargs")["tasks"]))
        end = len(members) - 1
        steps: _Steps = []
        for place, member in enumerate(members):
            stands = (first if place == 0 else ALONE)._replace(
                errbacks=first.errbacks,
                inner=first.inner if place == end else self._header(first),
                links=first.links if place == end else (),
                last_id=around.last_id or raw(sig, "options").get("task_id") if place == end else None,
            )
            while isinstance(member, group) and len(member) == 1:  # the guide, "Group Unrolling"
                stands = _into(member, stands)
                member = _signature(raw(member, "kwargs")["tasks"][0])  # noqa: PLW2901 - the one inside stands for it
            steps += yield self._steps(member, stands)
        return steps

    def _chord(self, sig: chord, around: Around) -> _Work:
        inside = _into(sig, around)
        header, body = raw(sig, "kwargs")["header"], raw(sig, "kwargs").get("body")
        if body is None:
            raise CanvasError(NO_BODY)
        before = inside._replace(links=(), last_id=None, errbacks=self._header(inside), inner=self._header(inside))
        steps: _Steps
        if isinstance(header, dict):
            steps = yield self._group(_signature(header), before)
        else:
            steps = [(yield self._fan(_signatures(header), None, before))]
        own_id = raw(sig, "options").get("task_id")
        # The options of a chord that was frozen name its header (see `canvas.pin`).
        last_id = around.last_id or (own_id if own_id != steps[0].id else None)
        options = {k: v for k, v in inside.options.items() if k not in ("countdown", "eta")} or NO_OPTIONS
        steps += yield self._steps(
            body, Around((), NO_OPTIONS, options, last_id, inside.links, inside.errbacks, inside.inner)
        )
        return steps

    def _header(self, around: Around) -> tuple[Any, ...]:
        """Return the errbacks that the header of a chord gets from around it."""
        if not self._header_errbacks:
            return ()
        return tuple(errback for errback in around.errbacks if not any(errback is one for one in self._body_only))

    def _group(self, sig: group, around: Around) -> _Work:
        gid = around.last_id or raw(sig, "options").get("task_id")
        inside = _into(sig, around._replace(errbacks=around.inner, last_id=None))
        return [(yield self._fan(_signatures(raw(sig, "kwargs")["tasks"]), gid, inside))]

    def _fan(self, sigs: Sequence[Any], gid: str | None, around: Around) -> Generator[Any, Any, Fan]:
        gid = gid or self._new_id()
        members: list[Call | Chain] = []
        yield self._gather(sigs, around, members)
        fan = Fan(gid, members)
        _number(fan)
        return fan

    def _gather(self, sigs: Sequence[Any], around: Around, members: list[Call | Chain]) -> Generator[Any, Any, None]:
        """Add what `sigs` come down to to the `members` of a fan; groups among them unroll into it."""
        # A group's callback is its first member's, which cannot give it the other members' values (the guide,
        # "Group Callbacks and Error Handling").
        links = tuple(_signature(link).clone().set(immutable=True) for link in around.links)
        around = around._replace(links=())
        plain = around.options is NO_OPTIONS and not around.errbacks
        for sig in sigs:
            if plain and not links and type(sig) is Signature and not raw(sig, "options"):
                members.append(self._call(sig, around))
                continue
            before, inside = len(members), around._replace(links=links)
            whole = _starmaps(sig) if isinstance(sig, chunks) and self._unfold else sig
            if isinstance(whole, group):
                yield self._gather(_signatures(raw(whole, "kwargs")["tasks"]), _into(whole, inside), members)
            else:
                steps = yield self._steps(whole, inside)
                members += [_chained(steps)] if len(steps) > 1 else _members(steps)
            if len(members) > before:
                links = ()

    def _filled(self, members: Sequence[Signature]) -> Generator[Any, Any, Sequence[Signature]]:
        """Return a chain's steps without those that hold no task; one of them, when there are no others."""
        filled = []
        for member in members:
            void = isinstance(member, group | chain) and (yield self._is_void(member))
            filled += [] if void else [member]
        return filled or members[:1]

    def _is_void(self, sig: Signature) -> Generator[Any, Any, bool]:
        known = self._void.get(id(sig))
        if known is not None:
            return known[1]
        void = True
        for member in raw(sig, "kwargs")["tasks"]:
            inner = _signature(member)
            if not isinstance(inner, group | chain) or not (yield self._is_void(inner)):
                void = False
                break
        self._void[id(sig)] = (sig, void)
        return void


def _starmaps(sig: chunks) -> group:
    """Return the group that chunks stand for; where their id is pinned, theirs follow from it."""
    options = raw(sig, "options")
    made: group = sig.group().set(**options)
    if options.get("task_id") is not None:
        for place, member in enumerate(made.tasks):
            member.set(task_id=f"{options['task_id']}-{place}")
    return made


def _into(sig: Signature, around: Around) -> Around:
    """Return what a composite hands inside: its own partials, options and links, and those it is called with."""
    own, kwargs = raw(sig, "options"), raw(sig, "kwargs")
    if len(kwargs) == len(sig.MEMBERS) and not own and not raw(sig, "args") and not raw(sig, "immutable"):
        return around
    partials = {k: v for k, v in kwargs.items() if k not in sig.MEMBERS}
    if isinstance(sig, chord):
        partials = {**(partials.pop("kwargs", None) or {}), **partials}
    if raw(sig, "immutable"):
        around = around._replace(args=(), kwargs=NO_OPTIONS)
    errbacks = _listed(own.get("link_error"))
    return around._replace(
        args=(*around.args, *raw(sig, "args")),
        kwargs={**partials, **around.kwargs} or NO_OPTIONS,
        options=_passed_on(own, around),
        links=(*_listed(own.get("link")), *around.links),
        errbacks=(*errbacks, *around.errbacks),
        inner=(*errbacks, *around.inner),
    )


def _members(steps: _Steps) -> Sequence[Call | Chain]:
    """Return what a step (or none) adds to a fan: itself, or the members of a fan."""
    return [member for step in steps for member in ((step,) if isinstance(step, Call) else step.members)]


def _number(fan: Fan) -> None:
    """Tell the calls at the ends of a fan's members what they count for."""
    for index, member in enumerate(fan.members):
        last = member.steps[-1] if isinstance(member, Chain) else member
        if isinstance(last, Call):
            last.group_id, last.index = fan.id, index


def _node(steps: _Steps) -> Node:
    return steps[0] if len(steps) == 1 else _chained(steps)


def _chained(steps: _Steps) -> Chain:
    for fan, body in pairwise(steps):
        if isinstance(fan, Fan) and isinstance(body, Call):
            body.group_id = fan.id  # as Celery tells a chord's body
    return Chain(steps)


def _signature(sig: Any) -> Any:
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


def freeze(
    sig: Signature,
    new_id: IdSource,
    pack: Packer,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] = NO_OPTIONS,
    options: Mapping[str, Any] = NO_OPTIONS,
    versions: Mapping[str, str] = NO_OPTIONS,
    *,
    header_errbacks: bool = False,
    nesting: int = 0,
    unfold: bool = True,
) -> Node:
    """Freeze a canvas that is called with `args`, `kwargs` and `options` (see `Freezer`).

    Parameters
    ----------
    sig
        Any signature; it is not changed.
    new_id, pack, versions, header_errbacks, nesting, unfold
        See `Freezer`.
    args, kwargs, options
        The partials of the call, in the sense of the guide's section "Partials".

    Returns
    -------
    Node
    """
    link, link_error = _listed(options.get("link")), _listed(options.get("link_error"))
    # The names of stamps travel with their values, down to the first calls.
    rest = {k: v for k, v in options.items() if (k not in _STRUCTURAL or k == "stamped_headers") and v is not None}
    around = Around(
        tuple(args), kwargs or NO_OPTIONS, rest or NO_OPTIONS, options.get("task_id"), link, link_error, link_error
    )
    return Freezer(
        new_id,
        pack,
        versions,
        header_errbacks=header_errbacks,
        nesting=nesting,
        body_only=link_error if isinstance(sig, chord) else (),
        unfold=unfold,
    ).freeze(sig, around)


def join_in(node: Node, call: Call) -> None:
    """Say of a fresh canvas that it counts for the same group as a call, at the same place (``add_to_chord``).

    Parameters
    ----------
    node
        The frozen canvas; nobody else knows it yet, so it is changed in place.
    call
        A member of that group.
    """
    last = node.steps[-1] if isinstance(node, Chain) else node
    if isinstance(last, Call):
        last.group_id, last.index = call.group_id, call.index


def inherit(node: Node, call: Call) -> None:
    """Make a fresh replacement carry on for the call it replaces.

    Its last call gets the links, the group and the place; each of its steps gets the errbacks; every call, those in
    links and errbacks of its own included, gets the stamps it does not have itself.

    Parameters
    ----------
    node
        The frozen replacement; nobody else knows it yet, so it is changed in place.
    call
        The call that is replaced.
    """
    if call.stamps:
        for place in places(node):
            place.call.stamps = {**call.stamps, **(place.call.stamps or {})}
    steps = node.steps if isinstance(node, Chain) else (node,)
    for step in steps:
        if isinstance(step, Call):
            step.errbacks += call.errbacks
    last = steps[-1]
    if isinstance(last, Call):
        last.links += call.links
    join_in(node, call)
