"""Celery's events of tasks (protocol, section 8) as events of ours.

Only ``task-received`` and ``task-sent`` say which run a task belongs to; later ones are about an id.  So the ids of
runs that somebody follows here are remembered, and no others: whoever floods a broker with events of his own costs
nothing but the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from .event import FAILED, RECEIVED, REJECTED, RETRIED, REVOKED, SENT, STARTED, SUCCEEDED
from .hub import Feed, Heard

__all__ = ["Foreign"]

#: So many tasks are remembered, the oldest go first.
MOST: Final = 200_000
#: Longer texts are cut.
LONGEST: Final = 10_000


class _Seen(NamedTuple):
    root_id: str
    attempt: int
    started: bool = False


class Foreign:
    """Tells the runs of an app what others' events say of their tasks.

    Parameters
    ----------
    feed
        Finds the feed of a run by its root id (`Hub.feed`).
    ends
        Also tell how tasks ended.  Anybody who can write to the broker can say so; results say it better, where they
        are kept.

    Attributes
    ----------
    told
        How many events were handed on.
    ignored
        How many were about tasks of nobody here, or made no sense.
    """

    def __init__(self, feed: Callable[[str], Feed | None], *, ends: bool = False) -> None:
        self._feed = feed
        self._ends = ends
        self._seen: dict[str, _Seen] = {}
        self.told = 0
        self.ignored = 0

    def hear(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Hear some events."""
        for event in events:
            try:
                told = self._tell(event)
            except (TypeError, ValueError, KeyError, OverflowError):
                told = False
            if told:
                self.told += 1
            else:
                self.ignored += 1

    def _tell(self, event: Mapping[str, Any]) -> bool:
        kind = event["type"]
        read = _READ.get(kind)
        if read is None or (kind in _ENDS and not self._ends):
            return False
        task_id = event["uuid"]
        if not isinstance(task_id, str):
            return False
        if kind in _FIRST:
            self._remember(task_id, event)
        seen = self._seen.get(task_id)
        feed = self._feed(seen.root_id) if seen is not None else None
        if seen is None or feed is None:
            return False
        ours, data = read(event)
        attempt = seen.attempt
        if ours == STARTED:
            self._seen[task_id] = seen._replace(started=True)
        elif ours == RETRIED and attempt and not seen.started:
            attempt -= 1  # the next attempt was received before this was told
        told: Heard = (ours, task_id, float(event["timestamp"]), attempt, data)
        feed(told)
        return True

    def _remember(self, task_id: str, event: Mapping[str, Any]) -> None:
        root_id, attempt = event.get("root_id"), event.get("retries") or 0
        if not isinstance(root_id, str) or type(attempt) is not int or attempt < 0 or self._feed(root_id) is None:
            return
        known = self._seen.pop(task_id, None)
        self._seen[task_id] = _Seen(root_id, attempt) if known is None or known.attempt < attempt else known
        if len(self._seen) > MOST:
            del self._seen[next(iter(self._seen))]


def _due(event: Mapping[str, Any]) -> dict[str, float] | None:
    eta = event.get("eta")
    return {"due": datetime.fromisoformat(eta).timestamp()} if isinstance(eta, str) and eta else None


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event.get(key)
    return value[:LONGEST] if isinstance(value, str) else ""


def _revoked(event: Mapping[str, Any]) -> tuple[str, str]:
    return REVOKED, "expired" if event.get("expired") else "terminated" if event.get("terminated") else "revoked"


_FIRST: Final = frozenset({"task-sent", "task-received"})
_ENDS: Final = frozenset({"task-succeeded", "task-failed", "task-revoked", "task-rejected"})
#: Celery's kind -> our kind, and what it carries.
_READ: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[str, Any]]]] = {
    "task-sent": lambda event: (SENT, _due(event)),
    "task-received": lambda event: (RECEIVED, _due(event)),
    "task-started": lambda event: (STARTED, _text(event, "hostname")),
    "task-retried": lambda event: (RETRIED, (_text(event, "exception"), None)),
    "task-succeeded": lambda event: (SUCCEEDED, None),
    "task-failed": lambda event: (FAILED, (_text(event, "exception"), _text(event, "traceback") or None)),
    "task-revoked": _revoked,
    "task-rejected": lambda event: (REJECTED, ""),
}
