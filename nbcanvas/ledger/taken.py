"""What came to a split ledger: what tells messages apart, whether somebody may have had one, and whose claim counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.protocol.letter import AGAIN, Letter
from nbcanvas.servers.kombu import Arrived

from .port import Delivery
from .storing import said

__all__ = [
    "Key",
    "Taken",
    "came_before",
    "client_of",
    "addressed",
    "concerns",
    "gives_way",
    "is_later",
    "is_other",
    "key_of",
    "runs",
    "was_had",
    "was_lost",
    "whole",
]

#: A task's id, and which attempt it is: retries, and replacements.
Key: TypeAlias = tuple[Any, int, int]


class Taken:
    """A message of this worker: which link it came over, and its tag there; and which claim gives way to its own."""

    __slots__ = ("arrived", "delivery", "generation", "key", "marked", "over", "tag")

    def __init__(
        self, delivery: Delivery, generation: int, arrived: Arrived, key: Key, over: Mapping[str, Any] | None = None
    ) -> None:
        self.delivery = delivery
        self.generation = generation
        self.arrived = arrived
        self.tag = arrived.tag
        self.key = key
        self.over = over
        self.marked = False


def came_before(one: Arrived) -> bool:
    """Whether somebody may have, or have had, this message or another one of the same call."""
    return was_had(one) or bool(one.letter.headers.get(AGAIN))


def was_had(one: Arrived) -> bool:
    """Whether somebody had this very message before."""
    return one.redelivered or one.times > 0


def is_other(claim: Mapping[str, Any], key: Key) -> bool:
    """Whether a claim is about another attempt."""
    attempt = claim.get("attempt")
    return isinstance(attempt, list | tuple) and [*attempt] != [*key[1:]]


def gives_way(taken: Taken, record: Record) -> bool:
    """Whether the claim that is there gives way to this message's."""
    claim = said(record)
    if claim == taken.over or is_other(claim, taken.key):
        return True
    # Celery's STARTED, or what a lost acknowledgement left behind, concerns no message that comes for the first time.
    return not came_before(taken.arrived) and ("attempt" not in claim or bool(claim.get("done")))


def concerns(record: Record, one: Arrived) -> bool:
    """Whether what stands in the way is about this message, and not about an earlier use of its task's id."""
    if record.state not in states.READY_STATES or came_before(one):
        return True
    return record.done is not None and record.done >= one.at


def runs(delivery: Delivery) -> bool:
    """Whether a task is run for this delivery now, so far as can be told."""
    return delivery.ended is None and not is_later(delivery.letter)


def key_of(letter: Letter) -> Key:
    """Return what tells messages apart: the task's id, and which attempt it is."""
    headers = letter.headers
    task_id = headers.get("id")
    return (
        task_id if isinstance(task_id, str) else None,
        whole(headers.get("retries")),
        whole(headers.get("replaced_task_nesting")),
    )


def whole(value: Any) -> int:
    """Return a number out of a message or a result, where anything may stand."""
    return value if isinstance(value, int) else 0


def client_of(delivery: Delivery | None) -> str | None:
    """Return who sent a message, and wants to hear of it."""
    found = delivery.letter.properties.get("reply_to") if delivery is not None and delivery.letter is not None else None
    return found if isinstance(found, str) else None


def was_lost(delivery: Delivery | None) -> bool:
    """Whether somebody may have worked on a message before, and sent what follows it."""
    return delivery is not None and delivery.redelivered > 0


def addressed(came: Delivery | None, letters: list[Letter], *, again: bool) -> list[Letter]:
    """Have what follows a message tell the client that sent that one; and say so, if it may have been sent before."""
    client = client_of(came)
    for letter in letters:
        if client:
            letter.properties = {**letter.properties, "reply_to": client}
        if again or was_lost(came):
            letter.headers[AGAIN] = True
    return letters


def is_later(letter: Letter | None) -> bool:
    """Whether a message waits for its time."""
    return letter is not None and bool(letter.headers.get("eta"))
