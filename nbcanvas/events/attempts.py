"""The attempts of one task: most have one, which is a row of columns; the few others are small values.

What is remembered of an attempt is a maximum, as everything in a State is: so it does not matter in which order
attempts are heard of, nor how often.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from nbcanvas import states

__all__ = [
    "ENDS",
    "MOST",
    "NESTING",
    "Attempt",
    "End",
    "Past",
    "Start",
    "better",
    "latest",
    "running",
    "shown",
    "taken",
]

#: `Message.attempt` is ``retries + (nesting << 20)``.
NESTING: Final = 20
#: Of each task so many earlier attempts, and so many deliveries of each attempt, are remembered: the latest.
MOST: Final = 100

_RETRY, _REPLACED = states.RANK[states.RETRY], states.RANK[states.REPLACED]
#: The states an attempt can end in, as bytes.
ENDS: Final = frozenset(states.RANK[name] for name in states.READY_STATES)


class Attempt(NamedTuple):
    """One attempt of a task, as `State.attempts_of` tells it.

    A task that was replaced, or retried, has a later attempt; so has one whose message was delivered again: that is
    an attempt of the same number.

    Attributes
    ----------
    attempt
        Its number (see `nbcanvas.plan.Message`).
    sent, received, started, finished
        Seconds since the epoch, or None.
    worker
        The worker slot that started it, or None.
    state
        The state it is in, or ended in: RETRY when it asked for another attempt, REPLACED when it put a canvas in
        its place, STARTED when it is not known how it ended.
    error
        Why it failed or was retried (an exception), was revoked or rejected (a text), or None.
    """

    attempt: int
    sent: float | None
    received: float | None
    started: float | None
    finished: float | None
    worker: str | None
    state: str
    error: BaseException | str | None

    @property
    def retries(self) -> int:
        """How many times the task had been retried before."""
        return self.attempt & ((1 << NESTING) - 1)


class End(NamedTuple):
    """How an attempt ended, or why it is in a state."""

    code: int
    time: float
    reason: BaseException | str
    traceback: str | None


def better(new: End, old: End | None) -> bool:
    """Whether `new` overrules `old`: the higher state, then the earlier news, then the first by its text."""
    if old is None or (new.code, -new.time) > (old.code, -old.time):
        return True
    return (new.code, new.time) == (old.code, old.time) and _text(new) < _text(old)


def _text(end: End) -> str:
    return f"{shown(end.reason)} {end.traceback}"


def shown(value: object) -> str:
    """Return the repr of anything: only to tell things apart."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a broken repr in what a task says must not end the fold of all others
        return f"<{type(value).__qualname__}>"


class Start(NamedTuple):
    """That a worker slot started a task."""

    time: float
    worker: str


class Past(NamedTuple):
    """What is remembered of an attempt that is not the present one."""

    attempt: int
    sent: float | None = None
    received: float | None = None
    starts: tuple[Start, ...] = ()
    end: End | None = None

    def merged(self, other: Past) -> Past:
        """Return what both say; self when `other` says nothing new."""
        sent, received, starts, end = self.sent, self.received, self.starts, self.end
        if other.sent is not None and (sent is None or other.sent < sent):
            sent = other.sent
        if other.received is not None and (received is None or other.received > received):
            received = other.received
        if not set(other.starts) <= set(starts):
            starts = latest((*starts, *other.starts))
        if other.end is not None and _overrules(other.end, end):
            end = other.end
        if sent is self.sent and received is self.received and starts == self.starts and end is self.end:
            return self
        return Past(self.attempt, sent, received, starts, end)

    def attempts(self) -> Iterable[Attempt]:
        """Yield it as attempts: one for each delivery."""
        finished = self.end.time if self.end is not None else None
        at = running(self.starts, finished)
        for start in self.starts[: max(at, 0)]:
            yield Attempt(self.attempt, self.sent, None, start.time, None, start.worker or None, states.STARTED, None)
        start = self.starts[at] if self.starts else Start(0.0, "")
        started = start.time if self.starts else None
        if self.end is not None:
            state = _NAMES[self.end.code]
        elif self.starts:
            state = states.STARTED
        else:
            state = states.RECEIVED if self.received is not None else states.SENT
        received = taken(self.received, started)
        error = (self.end.reason or None) if self.end is not None else None
        yield Attempt(self.attempt, self.sent, received, started, finished, start.worker or None, state, error)


_NAMES: Final = {rank: name for name, rank in states.RANK.items()}


def _overrules(new: End, old: End | None) -> bool:
    """Whether `new` is how an earlier attempt ended: that there was a later one says more than any other end."""
    if old is None:
        return True
    mine, other = _later(new), _later(old)
    return mine > other if mine != other else better(new, old)


def _later(end: End) -> int:
    return (_RETRY, _REPLACED).index(end.code) + 1 if end.code in (_RETRY, _REPLACED) else 0


def running(starts: tuple[Start, ...], finished: float | None) -> int:
    """Return the place of the start that came to the end: the last one before it (one behind it came too late)."""
    if finished is None:
        return len(starts) - 1
    return max(sum(start.time <= finished for start in starts) - 1, 0)


def taken(received: float | None, started: float | None) -> float | None:
    """Return when a worker took the message: when it started it, unless something is known of before."""
    if received is None or (started is not None and received > started):
        return started
    return received


def latest(starts: Iterable[Start]) -> tuple[Start, ...]:
    """Return the last `MOST` of different starts, in order."""
    return tuple(sorted(set(starts))[-MOST:])
