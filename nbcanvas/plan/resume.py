"""Running again only what is missing: a canvas is renewed, then begun in the middle.

Theory of operation
-------------------
`renew` looks at a frozen canvas, at what its tasks added while it ran, and at what is still *had* of each call
(`Have`).  It answers with a `Renewal`: the canvas in which each call that has to run got a new id, and the newest
version of its task's code; whatever did run, and is still good, is kept as it is.  `resume` turns that into the
`Transition` it begins with, as `start` does for a whole canvas.

What has to run:

* what gave no value: it failed, was revoked, ignored, rejected, or never ran;
* what gave one that is gone (never kept, forgotten, expired) and that something needs which has to run: what follows
  and takes it, a link that has to start with it;
* everything that depends on a call that has to run: what follows it, and its links.

A task that put a canvas in its own place has done its work once any of that canvas has: then that canvas goes on, and
the task does not run again.  A canvas that a task started by itself (``delay``) goes on as long as that task need not
run again; else that will start it anew.  Errbacks belong to the attempt that failed.  What hangs on a call (a link, a
canvas it started) and is still under way is left out: it belongs to the run that started it.

Nothing here recurses: generators run on an explicit stack.  Every pass is linear in the calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Any, Final, NamedTuple

from nbcanvas.canvas.trampoline import Walk, drive
from nbcanvas.ids import IdSource

from .engine import Arrival, Transition, start
from .graph import calls_of
from .model import NO_OPTIONS, Call, Chain, Fan, Gathered, Join, Message, Next, Node, Payload, Slot, Then, Value

__all__ = ["Added", "Begin", "Have", "Renewal", "renew", "resume"]


class Have(IntEnum):
    """What is still had of a call, least first."""

    #: It has not ended.
    UNDER_WAY = 0
    #: It ended without a value.
    MISSING = 1
    #: It succeeded, and nothing else is known of it any more.
    DONE = 2
    #: It succeeded, and is recorded so, but its value was not kept.
    RECORDED = 3
    #: It succeeded, and its value is there.
    VALUE = 4


class Added(NamedTuple):
    """A canvas that a task added to its run.

    Attributes
    ----------
    owner, nesting
        The id of the task, and how many times it had been replaced before.
    replaces
        Whether it put the canvas in its own place; else it started it besides.
    node
        The frozen canvas.
    mark
        Whatever the caller knows it by; handed through.
    """

    owner: str
    nesting: int
    replaces: bool
    node: Node
    mark: Any = None


class Begin(NamedTuple):
    """A canvas of its own that has to go on, too: a link, or what a task started; `owner` is that task."""

    node: Node
    owner: Call
    given: bool


class Renewal(NamedTuple):
    """A canvas that is ready to go on.

    Attributes
    ----------
    root
        The canvas; what is kept of it is shared with the one it was made from.
    added
        What tasks added to it that stands, with the owners' new ids.
    new
        For each call and link that has to run, or may: its old id -> its new one.
    besides
        What goes on beside the canvas.
    begins
        Where to begin, for the nodes that have to run (by identity): the place of the first step of a chain.
    """

    root: Node
    added: Sequence[Added]
    new: Mapping[str, str]
    besides: Sequence[Begin]
    begins: Mapping[int, int]


_BROKEN: Final = 1  # has a call that has to run
_SOME: Final = 2  # has one that succeeded
_LEFT: Final = 4  # has one that is under way


class _Renewer:
    """Makes one Renewal.  Three walks: `_look` finds what has to run, `_want` what that needs, `_build` writes it."""

    def __init__(
        self,
        have: Callable[[Call], Have],
        new_id: IdSource,
        versions: Mapping[str, str],
        added: Iterable[Added],
    ) -> None:
        self._have = have
        self._new_id = new_id
        self._versions = versions
        self._replacements: dict[tuple[str, int], Added] = {}
        self._children: dict[tuple[str, int], list[Added]] = {}
        for one in added:
            if one.replaces:
                self._replacements[one.owner, one.nesting] = one
            else:
                self._children.setdefault((one.owner, one.nesting), []).append(one)
        # What the walks find out, by identity of nodes.
        self._first: dict[int, int] = {}  # of chains: the first step that has to run
        self._broken: set[int] = set()  # calls
        self._resumed: set[int] = set()  # calls whose replacement stands
        self._left: set[str] = set()  # what hangs on a call, and is under way; by name, as below
        self._busy: dict[int, int] = {}  # what has to run; of chains, from which step on
        # What became of what hangs on calls. By name: what hangs on a call that was replaced hangs on the replacement,
        # too, and the two were kept apart when they were kept.
        self._hung: dict[str, Node] = {}
        # What is made.
        self.new: dict[str, str] = {}
        self.added: list[Added] = []
        self.besides: list[Begin] = []
        self.begins: dict[int, int] = {}

    def renew(self, root: Node) -> Renewal:
        drive(self._decide(root, Have.RECORDED))
        node = drive(self._build(root))
        return Renewal(node, self.added, self.new, self.besides, self.begins)

    # -- what has to run --------------------------------------------------------------------------------------------

    def _decide(self, node: Node, wanted: Have) -> Walk:
        """Decide about a canvas; whether it will take what it is given."""
        yield self._look(node)
        return (yield self._want(node, wanted))

    def _decide_hanging(self, node: Node) -> Walk:
        """Decide about what hangs on a call that is kept; whether it will take that one's value."""
        if (yield self._look(node)) & _LEFT:
            self._left.add(_name(node))
            return False
        return (yield self._want(node, Have.DONE))

    def _look(self, node: Node) -> Walk:
        """Return what there is below a node, and note where chains are broken."""
        found = 0
        if isinstance(node, Call):
            found = yield self._look_at(node)
        elif isinstance(node, Chain):
            first = len(node.steps)
            for place in range(first - 1, -1, -1):
                below = yield self._look(node.steps[place])
                found |= below
                if below & _BROKEN:
                    first = place
            self._first[id(node)] = first
        else:
            for member in node.members:
                found |= yield self._look(member)
        return found

    def _look_at(self, call: Call) -> Walk:
        have = self._have(call)
        found = _SOME if have >= Have.DONE else _BROKEN if have else _BROKEN | _LEFT
        place = (call.id, call.nesting)
        instead = self._replacements.get(place)
        if instead is not None:
            inside = yield self._look(instead.node)
            if inside & _SOME:  # else the task chooses anew what stands in its place
                self._resumed.add(id(call))
                found = inside
        stands = id(call) in self._resumed
        if stands or not found & _BROKEN:
            for child in self._children.get(place, ()):
                yield self._decide_hanging(child.node)
        if not stands and not found & _BROKEN:  # the links of one that was replaced hang on the replacement, too
            for link in call.links:
                if (yield self._decide_hanging(link)) and have < Have.VALUE:
                    found |= _BROKEN
        if found & _BROKEN:
            self._broken.add(id(call))
        return found

    def _want(self, node: Node, wanted: Have) -> Walk:
        """Find what has to run when `wanted` is to be had of a node; whether it will take what it is given."""
        if isinstance(node, Call):
            if id(node) in self._resumed:
                instead = self._replacements[node.id, node.nesting].node
                yield self._want(instead, wanted)
                if id(instead) in self._busy:
                    self._busy[id(node)] = 0
                return False
            if id(node) in self._broken or self._have(node) < wanted:
                self._busy[id(node)] = 0
                return not node.immutable
            return False
        if isinstance(node, Chain):
            return (yield self._want_chain(node, wanted))
        takes = False
        for member in node.members:
            takes |= yield self._want(member, wanted)
            if id(member) in self._busy:
                self._busy[id(node)] = 0
        return takes

    def _want_chain(self, chain: Chain, wanted: Have) -> Walk:
        """Walk back from the first broken step as far as values are needed; from there on everything runs."""
        place, last = self._first[id(chain)], len(chain.steps) - 1
        if place < last:
            wanted = Have.VALUE if _takes(chain.steps[place + 1]) else Have.DONE
        place = min(place, last)
        while True:
            takes = yield self._want(chain.steps[place], wanted)
            if id(chain.steps[place]) not in self._busy:
                return False
            self._busy[id(chain)] = place
            if not takes or not place:
                return takes and not place
            place, wanted = place - 1, Have.VALUE

    # -- writing it -------------------------------------------------------------------------------------------------

    def _build(self, node: Node, *, fresh: bool = False, counts: tuple[str, int] | None = None) -> Walk:
        """Return a node as it has to be now; `fresh` for one that runs as a whole.

        `counts` is the fan it counts for and its place in that, when they are others than before.
        """
        if isinstance(node, Call):
            return (yield self._build_call(node, fresh, counts))
        busy = self._busy.get(id(node))
        made: Node
        if isinstance(node, Chain):
            begin = len(node.steps) if busy is None else busy
            last = len(node.steps) - 1
            steps = yield _each(
                self._build(step, fresh=fresh or place > begin, counts=counts if place == last else None)
                for place, step in enumerate(node.steps)
            )
            for old, (fan, body) in zip(node.steps, pairwise(steps), strict=False):
                if isinstance(old, Fan) and fan.id != old.id and isinstance(body, Call) and body.group_id == old.id:
                    body.group_id = fan.id  # (a new one: what is behind a new barrier is new)
            made = node if _same(steps, node.steps) else Chain(steps)
        else:
            anew = fresh or busy is not None
            group_id = self._new_id() if anew else node.id
            members = yield _each(
                self._build(member, fresh=fresh, counts=(group_id, index) if anew else None)
                for index, member in enumerate(node.members)
            )
            made = Fan(group_id, members) if anew or not _same(members, node.members) else node
        if busy is not None and not fresh:
            self.begins[id(made)] = busy
        return made

    def _build_call(self, call: Call, fresh: bool, counts: tuple[str, int] | None) -> Walk:
        if not fresh and id(call) in self._resumed:
            return (yield self._build_resumed(call, counts))
        if fresh or id(call) in self._busy:
            return (yield self._again(call, fresh, counts))
        links = []
        for link in call.links:
            if _name(link) in self._left:
                continue
            made = self._hung[_name(link)] = yield self._build(link)
            links.append(made)
            if id(made) in self.begins:
                self.besides.append(Begin(made, call, given=True))
        yield self._build_children(call, call)
        changes: dict[str, Any] = {}
        if not _same(links, call.links):
            changes["links"] = tuple(links)
        if counts is not None:
            changes["group_id"], changes["index"] = counts
        return _changed(call, **changes) if changes else call

    def _build_resumed(self, call: Call, counts: tuple[str, int] | None) -> Walk:
        """Build a call whose replacement stands, and that."""
        one = self._replacements[call.id, call.nesting]
        instead = yield self._build(one.node, counts=counts)
        made = _changed(
            call,
            id=self.new.get(call.id, call.id),  # which is that of the replacement's last call
            links=tuple(self._hung.get(_name(link), link) for link in call.links if _name(link) not in self._left),
            errbacks=tuple(self._hung.get(_name(errback), errback) for errback in call.errbacks),
        )
        if counts is not None:
            made.group_id, made.index = counts
        self.added.append(one._replace(owner=made.id, node=instead))
        if id(instead) in self.begins:
            self.begins[id(made)] = 0
        yield self._build_children(call, made)
        return made

    def _build_children(self, call: Call, made: Call) -> Walk:
        for child in self._children.get((call.id, call.nesting), ()):
            if _name(child.node) in self._left:
                continue
            node = yield self._build(child.node)
            self.added.append(child._replace(owner=made.id, node=node))
            if id(node) in self.begins:
                self.besides.append(Begin(node, made, given=False))

    def _again(self, call: Call, fresh: bool, counts: tuple[str, int] | None) -> Walk:
        """Return a call that runs again, and all that hangs on it."""
        links = yield _each(map(self._hang, call.links))
        errbacks = yield _each(map(self._hang, call.errbacks))
        made = _changed(
            call,
            id=self._id(call.id),
            links=tuple(links),
            errbacks=tuple(errbacks),
            version=self._versions.get(call.task, call.version),
        )
        if counts is not None:
            made.group_id, made.index = counts
        if not fresh:
            self.begins[id(made)] = 0
        return made

    def _hang(self, node: Node) -> Walk:
        """Return what hangs on a call, to start from its beginning; one that hangs in two places stays one."""
        made = self._hung.get(_name(node))
        if made is None:
            made = self._hung[_name(node)] = yield self._build(node, fresh=True)
        return made

    def _id(self, old: str) -> str:
        found = self.new.get(old)
        if found is None:
            found = self.new[old] = self._new_id()
        return found


def _each(walks: Iterable[Walk]) -> Walk:
    """Return the values of several walks."""
    found = []
    for walk in walks:
        found.append((yield walk))  # noqa: PERF401 - no comprehension can yield
    return found


def _name(node: Node) -> str:
    """Return the id that tells what hangs on calls apart: that of its first step."""
    return (node.steps[0] if isinstance(node, Chain) else node).id


def _same(made: Sequence[Node], old: Sequence[Node]) -> bool:
    return len(made) == len(old) and all(one is other for one, other in zip(made, old, strict=True))


def _changed(call: Call, **changes: Any) -> Call:
    """Return a copy of a call."""
    made = Call.__new__(Call)
    for name in Call.__slots__:
        setattr(made, name, changes[name] if name in changes else getattr(call, name))
    return made


def _takes(node: Node) -> bool:
    """Whether a canvas that starts as a whole takes what it is given."""
    todo = [node]
    while todo:
        found = todo.pop()
        if isinstance(found, Call):
            if not found.immutable:
                return True
        elif isinstance(found, Chain):
            todo.append(found.steps[0])
        else:
            todo += found.members
    return False


def renew(
    root: Node,
    have: Callable[[Call], Have],
    new_id: IdSource,
    versions: Mapping[str, str] = NO_OPTIONS,
    added: Iterable[Added] = (),
) -> Renewal:
    """Say what of a canvas has to run again, and give that new ids.

    Parameters
    ----------
    root
        The frozen canvas; every call of it has ended.  It is not changed.
    have
        What is still had of a call.
    new_id
        Gives ids.
    versions
        Task name -> version of its code, for what has to run.
    added
        What tasks added to the canvas while it ran.

    Returns
    -------
    Renewal
        With no `begins` when nothing is missing.
    """
    return _Renewer(have, new_id, versions, added).renew(root)


# -- beginning in the middle ----------------------------------------------------------------------------------------


def resume(renewal: Renewal, payload_of: Callable[[Call], Payload], root_id: str, now: float) -> Transition:
    """Begin a renewed canvas: the generalisation of `start`.

    Parameters
    ----------
    renewal
        The canvas.
    payload_of
        Gives the value of a call that is kept (None when it is gone, which is then needed by nobody).
    root_id
        For the messages' headers.
    now
        Seconds since the epoch; countdowns count from here.

    Returns
    -------
    Transition
        Messages of what can run now, and the values that are known already, for the slots that wait for them.
    """
    begins = renewal.begins
    instead = {(one.owner, one.nesting): one.node for one in renewal.added if one.replaces}
    send: list[Message] = []
    arrivals: list[Arrival] = []
    opens: list[Join] = []
    todo: deque[tuple[Node, tuple[Payload, ...], Then, str | None]] = deque()
    if id(renewal.root) in begins:
        todo.append((renewal.root, (), None, None))
    todo.extend(
        (begin.node, (payload_of(begin.owner),) if begin.given else (), None, begin.owner.id)
        for begin in renewal.besides
    )
    while todo:
        node, given, then, parent_id = todo.popleft()
        if isinstance(node, Call):
            other = instead.get((node.id, node.nesting))
            if other is not None:
                todo.appendleft((other, (), then, node.id))
            else:
                send += start(node, given, then, root_id, parent_id, now).send  # one message: it is one call
        elif isinstance(node, Chain):
            place = begins[id(node)]
            if place:
                before = node.steps[place - 1]
                given, parent_id = (_value(before, payload_of),), _end(before)
            todo.appendleft((node.steps[place], given, Next(node, place, then).behind, parent_id))
        else:
            join = Join(node, then) if isinstance(then, Next | Slot) else None
            opens += [join] if join is not None else []
            more: list[tuple[Node, tuple[Payload, ...], Then, str | None]] = []
            for index, member in enumerate(node.members):
                slot = Slot(join, index) if join is not None else None
                if id(member) in begins:
                    more.append((member, given, slot, parent_id))
                elif slot is not None:
                    arrivals.append(Arrival(slot, Value(_value(member, payload_of)), _end(member) or node.id))
            todo.extendleft(reversed(more))
    return Transition(send, arrivals, opens=opens)


def _value(node: Node, payload_of: Callable[[Call], Payload]) -> Payload:
    """Return the value of what is kept."""
    if isinstance(node, Call):
        return payload_of(node)

    def walk(node: Node) -> Generator[Any, Any, Payload]:
        if isinstance(node, Call):
            return payload_of(node)
        if isinstance(node, Chain):
            return (yield walk(node.steps[-1]))
        return Gathered((yield _each(map(walk, node.members))))

    return drive(walk(node))


def _end(node: Node) -> str | None:
    """Return the id of the last call of a node, or None when it has none."""
    if isinstance(node, Call):
        return node.id
    last = deque(calls_of(node.steps[-1] if isinstance(node, Chain) else node), 1)
    return last[0].id if last else None
