"""A step as the script on Redis is given it, whichever ledger it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nbcanvas import states
from nbcanvas.backend.redis.steps import Written
from nbcanvas.plan import Arrival
from nbcanvas.protocol.letter import Letter

from .port import Step

__all__ = ["client_of", "written"]

#: States that are told, and not stored.
_NOT_STORED: Final = frozenset({states.IGNORED, states.REJECTED})


def client_of(letter: Letter | None) -> str:
    """Return which client a message is from; nothing when it says nothing that can be the name of a channel."""
    client = letter.properties.get("reply_to") if letter is not None else None
    return client if isinstance(client, str) and client.isascii() else ""


def written(step: Step, now: float, left: Sequence[Arrival], **more: Any) -> Written:
    """Return a step for the script.

    Parameters
    ----------
    step
        The step.
    now
        Seconds since the epoch.
    left
        Arrivals of the same delivery that an earlier script left to do.
    **more
        What only one of the ledgers has the script do: `tag`, `sends`, `dispatches`, `keeps`.
    """
    message, record, delivery = step.message, step.record, step.delivery
    return Written(
        task_id=step.task_id or "",
        record=record,
        attempt=message.attempt if message is not None else 0 if record is None else max(record.settled, 0),
        client=client_of(delivery.letter) if delivery is not None else "",
        root_id=message.root_id if message is not None else step.task_id or "",
        time=now,
        skips=step.skips,
        opens=step.opens,
        arrivals=[*step.arrivals, *left] if left else step.arrivals,
        latch=step.task_id is not None and step.dispatches is None,
        quiet=step.quiet or (record is not None and record.state in _NOT_STORED),
        data=step.sends[0].due if step.sends and record is not None and record.state == states.RETRY else None,
        **more,
    )
