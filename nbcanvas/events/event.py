"""What can be heard of a task: small immutable values.

An event says what happened to one attempt of one task id.  It may come late, twice, or before the event that
explains it; `nbcanvas.events.state.State` makes sense of any order.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = [
    "FAILED",
    "GRAFTED",
    "IGNORED",
    "KINDS",
    "PROGRESS",
    "RECEIVED",
    "REJECTED",
    "REPLACED",
    "RETRIED",
    "REVOKED",
    "SENT",
    "STARTED",
    "SUCCEEDED",
    "Event",
]

SENT: Final = "sent"
RECEIVED: Final = "received"
STARTED: Final = "started"
PROGRESS: Final = "progress"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
RETRIED: Final = "retried"
REVOKED: Final = "revoked"
REJECTED: Final = "rejected"
IGNORED: Final = "ignored"
REPLACED: Final = "replaced"
GRAFTED: Final = "grafted"

KINDS: Final = (
    SENT,
    RECEIVED,
    STARTED,
    PROGRESS,
    SUCCEEDED,
    FAILED,
    RETRIED,
    REVOKED,
    REJECTED,
    IGNORED,
    REPLACED,
    GRAFTED,
)


class Event(NamedTuple):
    """One thing that happened to one attempt of a task.

    Attributes
    ----------
    kind
        One of `KINDS`.
    id
        The task id.
    time
        Seconds since the epoch.
    attempt
        The message's attempt (see `nbcanvas.plan.model.Message`); later attempts overrule earlier ones.
    data
        What the kind carries:

        ========== ======================================================================================
        sent       ``{"due": float | None}`` or None
        received   ``{"due": float | None}`` or None: a worker took the message and did not start it at once, or not
                   at all; what starts when it is taken is not told apart
        started    the worker slot's name, a str such as ``"embedded/1"``
        progress   the state name and meta given to ``update_state``: ``(str, Any)``
        succeeded  None (the value stays in the backend)
        failed     ``(exception, traceback text | None)``; the task may never have run (a skipped step)
        retried    ``(exception, due: float | None)``; a text may stand for the exception, here and above
        revoked    the reason, a str
        rejected   the reason, a str
        ignored    None
        replaced   None (a ``grafted`` event follows or precedes)
        grafted    ``(node, role)``: a frozen canvas this task put in its place (role ``"replacement"``) or
                   started by itself with ``delay`` (role ``"child"``)
        ========== ======================================================================================
    """

    kind: str
    id: str
    time: float
    attempt: int = 0
    data: Any = None
