"""What the parts of one worker share: whose it is, where its messages come from, which it has, and who listens."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from nbcanvas.app import App
from nbcanvas.ledger.port import Delivery, Ledger
from nbcanvas.plan import Message
from nbcanvas.remote.revokes import Revokes

from .job import Job
from .patience import Patience
from .telling import Listener

__all__ = ["Shared"]

log = logging.getLogger("nbcanvas.worker")


class Shared:
    """See above.

    Parameters
    ----------
    app, hostname, ledger
        As for `ClusterWorker`.

    Attributes
    ----------
    jobs
        The messages in its hands, by tag; whoever takes one out sees to its end.
    patience
        With servers that are away.
    listener
        Who hears of its tasks, or None.
    revokes
        What was revoked, so far as it is known here.
    received
        How many messages came, by the name of their task, of those tasks that are known here.
    unreadable
        How many could not be read.
    finished
        How many tasks have ended.
    """

    def __init__(self, app: App, hostname: str, ledger: Ledger) -> None:
        self.app = app
        self.hostname = hostname
        self.ledger = ledger
        self.jobs: dict[str, Job] = {}
        self.patience = Patience()
        self.listener: Listener | None = None
        self.revokes: Revokes = app.control.revokes
        self.received: dict[str, int] = {}
        self.unreadable = 0
        self.finished = 0

    def say(self, what: str, message: Message, *more: Any) -> None:
        """Tell whoever listens, who must not cost a message."""
        if self.listener is not None:
            try:
                getattr(self.listener, what)(message, *more)
            except Exception:
                log.exception("nobody was told of %s: %s", message, what)

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Put a message where a person can look at it."""
        self.unreadable += 1
        log.error("a message from queue %r goes to the dead letters: %s", delivery.queue, reason)
        self.patience.insist(partial(self.ledger.reject, delivery, reason))

    def give_back(self, jobs: list[Job]) -> None:
        """Give messages back to the heads of their queues."""
        jobs = [job for job in jobs if self.jobs.pop(job.delivery.tag, None) is not None]
        if jobs:
            self.patience.insist(partial(self.ledger.requeue, [job.delivery for job in jobs]))
