"""What a frozen canvas is made of, and what travels: plain values, no behaviour.

A canvas of any shape comes down to three kinds of node:

``Call``
    one call of one task, with its id;
``Chain``
    steps, one after the other; no step is itself a chain;
``Fan``
    members side by side; no member is itself a fan.

There is no chord here, because none is needed: a chord is a fan with a step behind it.  The fan then is a
*barrier*: it collects its members' values by slot, and what is behind it starts with the list.  A fan with
nothing behind it is a plain group.

What is to happen after a call is its *continuation* (`Then`): the next step of a chain (`Next`), a slot of a
barrier (`Slot`), or nothing (None); behind a fan, its members may fill a barrier one by one (`Spread`).  Continuations
point into the frozen nodes, so a message costs the same whether ten or ten thousand steps are behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

__all__ = [
    "Call",
    "Chain",
    "Exit",
    "Fan",
    "Failed",
    "Gathered",
    "Ignored",
    "Join",
    "Message",
    "Next",
    "Node",
    "Outcome",
    "Payload",
    "Rejected",
    "Replaced",
    "Retried",
    "Revoked",
    "Slot",
    "Spread",
    "Then",
    "Value",
]

#: A value in the form it is kept in while it travels.  The plan never looks inside: the embedded engine uses
#: pickled bytes (or the value itself, when it cannot be changed), the wire will use JSON.
Payload: TypeAlias = Any

NO_OPTIONS: Final[Mapping[str, Any]] = {}


class Gathered(tuple[Payload, ...]):
    """Payloads that are delivered together, as one list: what a barrier collected."""

    __slots__ = ()


class Call:
    """One call of one task, frozen.

    Attributes
    ----------
    id
        The task id (protocol 2, header ``id``).
    task
        The task's name.
    payload
        The call's own arguments.
    immutable
        Whether values of what came before are *not* prepended to them.
    options
        Execution options under Celery's client names (``queue``, ``countdown``, ``priority`` ...).
    links, errbacks
        Frozen canvases that start when the call succeeds, or that are told when it fails.
    stamps
        Stamp names and values (protocol 2, headers ``stamped_headers`` and ``stamps``), or None.
    group_id, index
        The fan this call counts for, and its place in it (protocol 2, headers ``group`` and ``group_index``).
    version
        Which version of the task's code the call was planned with; an empty string when that is not known.
    nesting
        How many times the task of this id was replaced before (protocol 2, header ``replaced_task_nesting``).
    """

    __slots__ = (
        "errbacks",
        "group_id",
        "id",
        "immutable",
        "index",
        "links",
        "nesting",
        "options",
        "payload",
        "stamps",
        "task",
        "version",
    )

    def __init__(
        self,
        id: str,
        task: str,
        payload: Payload,
        immutable: bool = False,
        options: Mapping[str, Any] = NO_OPTIONS,
        links: tuple[Node, ...] = (),
        errbacks: tuple[Node, ...] = (),
        stamps: Mapping[str, Any] | None = None,
        group_id: str | None = None,
        index: int | None = None,
        version: str = "",
        nesting: int = 0,
    ) -> None:
        self.id = id
        self.task = task
        self.payload = payload
        self.immutable = immutable
        self.options = options
        self.links = links
        self.errbacks = errbacks
        self.stamps = stamps
        self.group_id = group_id
        self.index = index
        self.version = version
        self.nesting = nesting

    def __repr__(self) -> str:
        return f"Call({self.task!r}, {self.id!r})"

    def with_options(self, more: Mapping[str, Any]) -> Call:
        """Return the same call with further options, which come before its own."""
        return Call(
            self.id,
            self.task,
            self.payload,
            self.immutable,
            {**self.options, **more},
            self.links,
            self.errbacks,
            self.stamps,
            self.group_id,
            self.index,
            self.version,
            self.nesting,
        )


class Chain:
    """Steps that run one after the other, each given the value of the one before; at least two."""

    __slots__ = ("steps",)

    def __init__(self, steps: Sequence[Call | Fan]) -> None:
        self.steps = tuple(steps)

    def __repr__(self) -> str:
        return f"Chain({len(self.steps)} steps)"


class Fan:
    """Members that run side by side.

    Attributes
    ----------
    id
        The group id.
    members
        In call order.
    """

    __slots__ = ("id", "members")

    def __init__(self, id: str, members: Sequence[Call | Chain]) -> None:
        self.id = id
        self.members = tuple(members)

    def __repr__(self) -> str:
        return f"Fan({self.id!r}, {len(self.members)} members)"


Node: TypeAlias = Call | Chain | Fan


class Next:
    """Go on with a chain at step `position`; behind its end go on with `after`.

    `after` is the next step of another chain when this one replaced a step of it.
    """

    __slots__ = ("after", "chain", "position")

    def __init__(self, chain: Chain, position: int, after: Then) -> None:
        self.chain = chain
        self.position = position
        self.after = after

    @property
    def step(self) -> Call | Fan:
        """The step to start now."""
        return self.chain.steps[self.position]

    @property
    def behind(self) -> Then:
        """What is behind that step."""
        if self.position + 1 < len(self.chain.steps):
            return Next(self.chain, self.position + 1, self.after)
        return self.after

    def rest(self) -> tuple[list[Call | Fan], Slot | Spread | None]:
        """Return every step from here on, and what is behind the last of them."""
        steps: list[Call | Fan] = []
        then: Then = self
        while isinstance(then, Next):
            steps += then.chain.steps[then.position :]
            then = then.after
        return steps, then


class Join:
    """A barrier: `size` slots to fill, then `then` goes on with the list of their values."""

    __slots__ = ("fan", "id", "then")

    def __init__(self, fan: Fan, then: Next | Slot) -> None:
        self.id = fan.id
        self.fan = fan
        self.then = then

    @property
    def size(self) -> int:
        """How many slots there are."""
        return len(self.fan.members)


class Slot:
    """Put the value into one slot of a barrier."""

    __slots__ = ("index", "join")

    def __init__(self, join: Join, index: int) -> None:
        self.join = join
        self.index = index


class Spread:
    """Put the value of each member of the fan in front into a slot of its own, in place of their list into one.

    Celery's clients count so: a group at the end of a chain in a chord's header counts there task by task.  What takes
    the slots' values knows how they are nested.
    """

    __slots__ = ("join",)

    def __init__(self, join: Join) -> None:
        self.join = join

    def behind(self, fan: Fan) -> list[Slot | Spread]:
        """Return what is behind each member of the fan in front."""
        return [
            self if isinstance(member, Chain) and isinstance(member.steps[-1], Fan) else Slot(self.join, place)
            for place, member in enumerate(fan.members)
        ]

    def slots(self, fan: Fan) -> list[tuple[Slot, str]]:
        """Return the slots that the fan in front fills, each with the id of the call that does."""
        found: list[tuple[Slot, str]] = []
        todo = [(fan, place) for place in reversed(range(len(fan.members)))]
        while todo:
            inside, place = todo.pop()
            member = inside.members[place]
            last = member.steps[-1] if isinstance(member, Chain) else member
            if isinstance(last, Fan):
                todo.extend((last, place) for place in reversed(range(len(last.members))))
            else:
                found.append((Slot(self.join, place), last.id))
        return found


Then: TypeAlias = Next | Slot | Spread | None


class Message:
    """One call on its way to a worker.

    Attributes
    ----------
    call
        What to call.
    given
        Payloads put before the call's own arguments (not when the call is immutable).
    then
        What is to happen afterwards.
    root_id, parent_id
        Protocol 2's headers of those names.
    retries
        How many times the call has been retried before.
    attempt
        Counts what became of this id: every retry and every replacement adds one.  Two messages of one id with
        the same attempt are the same message delivered twice.
    due, expires
        Not before, not after: seconds since the epoch, or None.
    payload
        Replaces the call's own arguments (a retry may change them); None keeps them.
    sent
        When it was sent, in seconds since the epoch.
    """

    __slots__ = (
        "attempt",
        "call",
        "due",
        "expires",
        "given",
        "parent_id",
        "payload",
        "retries",
        "root_id",
        "sent",
        "then",
    )

    def __init__(
        self,
        call: Call,
        given: tuple[Payload, ...],
        then: Then,
        root_id: str,
        parent_id: str | None,
        sent: float,
        due: float | None = None,
        expires: float | None = None,
        retries: int = 0,
        payload: Payload = None,
    ) -> None:
        self.call = call
        self.given = given
        self.then = then
        self.root_id = root_id
        self.parent_id = parent_id
        self.sent = sent
        self.due = due
        self.expires = expires
        self.retries = retries
        self.attempt = retries + (call.nesting << 20)
        self.payload = payload

    def __repr__(self) -> str:
        return f"Message({self.call!r}, attempt={self.attempt})"


# How a call can end.  A closed union: `advance` handles each.


class Value:
    """It returned."""

    __slots__ = ("payload",)

    def __init__(self, payload: Payload) -> None:
        self.payload = payload


class Failed:
    """It raised.

    Attributes
    ----------
    exc
        The exception.
    traceback
        Its text, or None when the call itself never ran.
    """

    __slots__ = ("exc", "traceback")

    def __init__(self, exc: BaseException, traceback: str | None = None) -> None:
        self.exc = exc
        self.traceback = traceback


class Revoked:
    """It was revoked, or expired, or waited for something that was."""

    __slots__ = ("exc", "expired", "terminated", "traceback")

    def __init__(self, exc: BaseException, *, expired: bool = False, terminated: bool = False) -> None:
        self.exc = exc
        self.traceback: str | None = None
        self.expired = expired
        self.terminated = terminated


class Retried:
    """It asked to be run again: not before `due`, with `payload` as its own arguments (None: the same)."""

    __slots__ = ("due", "exc", "options", "payload", "traceback")

    def __init__(
        self,
        exc: BaseException,
        traceback: str | None,
        due: float | None,
        payload: Payload = None,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> None:
        self.exc = exc
        self.traceback = traceback
        self.due = due
        self.payload = payload
        self.options = options


class Replaced:
    """It put another canvas in its place; that canvas is frozen so that it ends in the call's own id."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node


class Ignored:
    """It wants nothing recorded about how it ended."""

    __slots__ = ("reason",)

    def __init__(self, reason: str = "") -> None:
        self.reason = reason


class Rejected:
    """It gave its message back, to be dropped or (`requeue`) put on its queue again."""

    __slots__ = ("reason", "requeue")

    def __init__(self, reason: str = "", *, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue


Outcome: TypeAlias = Value | Failed | Revoked | Retried | Replaced | Ignored | Rejected
#: The outcomes a slot of a barrier can hold, and a call that never ran can have.
Exit: TypeAlias = Value | Failed | Revoked
