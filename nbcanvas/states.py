"""State names and their precedence (the Celery guide's "Task states", plus what only nbcanvas shows).

``SENT`` and ``WAITING`` exist in views alone: a backend that knows nothing of a task says ``PENDING``.  ``REPLACED`` is
what views say of an earlier attempt that put another canvas in its place; no task stays in it.
"""

from __future__ import annotations

from typing import Final

PENDING: Final = "PENDING"
RECEIVED: Final = "RECEIVED"
STARTED: Final = "STARTED"
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"
REJECTED: Final = "REJECTED"
RETRY: Final = "RETRY"
IGNORED: Final = "IGNORED"
PROGRESS: Final = "PROGRESS"
WAITING: Final = "WAITING"
SENT: Final = "SENT"
REPLACED: Final = "REPLACED"

#: A task in one of these will not change any more (Celery's three, plus the two ends that Celery never stores).
READY_STATES: Final = frozenset({SUCCESS, FAILURE, REVOKED, IGNORED, REJECTED})
UNREADY_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
#: ``get`` raises for these.
PROPAGATE_STATES: Final = frozenset({FAILURE, REVOKED})
#: The stored result is an exception.
EXCEPTION_STATES: Final = frozenset({RETRY, FAILURE, REVOKED})

#: Highest first; a view that hears two states of one attempt keeps the higher.
PRECEDENCE: Final = (
    SUCCESS,
    FAILURE,
    REVOKED,
    REJECTED,
    IGNORED,
    PROGRESS,
    STARTED,
    RETRY,
    REPLACED,
    RECEIVED,
    SENT,
    WAITING,
    PENDING,
)
RANK: Final = {name: len(PRECEDENCE) - place for place, name in enumerate(PRECEDENCE)}
