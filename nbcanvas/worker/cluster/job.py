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
    """

    __slots__ = ("began", "delivery", "due", "late", "message")

    def __init__(self, delivery: Delivery, message: Message, *, began: bool = False) -> None:
        self.delivery = delivery
        self.message = message
        self.due = message.due
        self.began = began
        self.late = False

    def __repr__(self) -> str:
        return f"Job({self.message!r})"
