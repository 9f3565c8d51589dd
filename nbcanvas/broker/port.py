"""The broker port: few verbs over plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from nbcanvas.plan.model import Message
from nbcanvas.protocol.letter import Letter

__all__ = ["Broker", "Publishes", "Route", "Writes"]

#: Says which queue a message belongs to, and its priority (0 to 9, 0 is served first, as on Redis).
Route = Callable[[Message], tuple[str, int]]


class Writes(Protocol):
    """What writes messages as letters, and reads them: `nbcanvas.broker.post.Post`."""

    def write(self, message: Message, reply_to: str | None = None) -> Letter:
        """Return a message as a letter; `reply_to` is whose it is, by default this client's."""

    def read(self, letter: Letter) -> Message:
        """Return the message of a letter."""


class Publishes(Protocol):
    """What messages are handed to."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Make `messages` available, each not before it is due."""


class Broker(Publishes, Protocol):
    """Where messages wait for a worker."""

    def get(self, timeout: float | None = None) -> Message | None:
        """Return the next message that is due; None when `timeout` seconds have passed, or after `close`."""

    def withdraw(self, matches: Callable[[Message], bool]) -> list[Message]:
        """Take back and return every waiting message that `matches`."""

    def purge(self, queues: Iterable[str] | None = None) -> int:
        """Drop every waiting message (of `queues`) and return how many there were."""

    def notice(self, queues: Iterable[str]) -> None:
        """Hear of queues that `depth` and `waiting` are to tell of, too."""

    def depth(self) -> dict[str, int]:
        """Return how many messages wait in each queue, those not yet due included."""

    def waiting(self) -> list[Message]:
        """Return what waits, those not yet due included; for questions, not for work."""

    def wake(self) -> None:
        """Let every `get` that waits now return None."""

    def close(self) -> None:
        """Let every `get` return None."""
