"""A message in a worker's hands."""

from __future__ import annotations

from nbcanvas.ledger.port import Delivery
from nbcanvas.plan import Message

__all__ = ["Job"]


class Job:
    """One delivery, decoded.

    Attributes
    ----------
    delivery, message
        What was taken, and what it says.
    due
        Not before this time (seconds since the epoch): its ETA, or what a rate limit makes of it; None for now.
    began
        Whether the ledger knows that its task begins.
    late
        Whether it is acknowledged when its task has ended; known when it starts.
    since
        When its task began to run; None before.
    told
        Whether its client has heard of that.
    """

    __slots__ = ("began", "delivery", "due", "late", "message", "since", "told")

    def __init__(self, delivery: Delivery, message: Message, *, began: bool = False) -> None:
        self.delivery = delivery
        self.message = message
        self.due = message.due
        self.began = began
        self.late = False
        self.since: float | None = None
        self.told = False

    @property
    def name(self) -> str:
        """What a person calls it: the task, and its id."""
        call = self.message.call
        return f"{call.task}[{call.id}]"

    def __repr__(self) -> str:
        return f"Job({self.message!r})"
