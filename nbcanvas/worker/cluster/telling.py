"""What a worker says about its tasks: log lines, as Celery's worker writes them, and news for the client."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import time
from typing import Any, Protocol

from nbcanvas.events.event import GRAFTED, RECEIVED
from nbcanvas.events.hub import Feed, Heard
from nbcanvas.ledger.port import Ledger
from nbcanvas.plan import Failed, Ignored, Message, Outcome, Rejected, Retried, Revoked, Value
from nbcanvas.protocol.payload import shown, unpack
from nbcanvas.protocol.plans import dump
from nbcanvas.request import current

from .job import Job

__all__ = ["Listener", "Telephone", "log_ended", "log_received"]

log = logging.getLogger("nbcanvas.worker")

_LONGEST = 1024


class Listener(Protocol):
    """Whoever wants to hear of a worker's tasks; called in the slots' threads, so it must not wait."""

    def received(self, message: Message, headers: Mapping[str, Any]) -> None:
        """A message with these headers was taken."""

    def started(self, message: Message) -> None:
        """Its task begins."""

    def ended(self, message: Message, outcome: Outcome, runtime: float | None) -> None:
        """It ended, after so many seconds of work (None: it never ran)."""


class Telephone:
    """Tells clients of ours what tasks do that is in no result: a task that starts or becomes another canvas.

    Parameters
    ----------
    ledger
        Who can reach clients.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def feed(self, root_id: str) -> Feed | None:
        """Return what reaches the client of the task that runs in this thread, if that is one of the run."""
        above = current()
        if above is None or above[1].root_id != root_id:
            return None
        client = above[1].reply_to
        if not client:
            return None

        def tell(event: Heard) -> None:
            kind, task_id, at, attempt, data = event
            if kind == GRAFTED:
                node, role = data
                self._ledger.tell(client, root_id, [(kind, task_id, at, attempt, {"plan": dump(node), "role": role})])

        return tell

    def runs(self, jobs: Sequence[Job]) -> None:
        """Tell the clients whose tasks run for a while now."""
        since = [(job.delivery, job.since) for job in jobs if job.since is not None]
        for job in jobs:
            job.told = True
        self._ledger.runs(since)

    def held(self, job: Job) -> None:
        """Tell the client whose message waits here, because of its ETA or a rate limit."""
        letter, message = job.delivery.letter, job.message
        client = letter.properties.get("reply_to") if letter is not None else None
        if not isinstance(client, str) or not client or not client.isascii():
            return
        event = (RECEIVED, message.call.id, time(), message.attempt, {"due": job.due})
        try:
            self._ledger.tell(client, message.root_id, [event])
        except Exception as error:  # noqa: BLE001 - it must not cost the messages that came with this one
            log.debug("nobody hears that %r waits: %s", job, error)


def log_received(message: Message) -> None:
    """Say that a message was taken."""
    if log.isEnabledFor(logging.INFO):
        log.info("Task %s[%s] received", message.call.task, message.call.id, extra=_extra(message))


def log_ended(message: Message, outcome: Outcome, runtime: float | None, expected: tuple[type, ...]) -> None:
    """Say how a task ended.

    Parameters
    ----------
    message, outcome, runtime
        As for `Listener.ended`.
    expected
        Exceptions that the task's author expects (``throws``): these are no errors of the worker.
    """
    call = message.call
    if type(outcome) is Value:
        if log.isEnabledFor(logging.INFO):
            value = shown(unpack(outcome.payload))
            text = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
            extra = {**_extra(message), "runtime": runtime}
            log.info("Task %s[%s] succeeded in %ss: %s", call.task, call.id, runtime, text, extra=extra)
        return
    kind, level, more = _words(outcome, expected)
    if log.isEnabledFor(level):
        log.log(level, "Task %s[%s] %s%s", call.task, call.id, kind, more, extra=_extra(message))


def _words(outcome: Outcome, expected: tuple[type, ...]) -> tuple[str, int, str]:
    if isinstance(outcome, Failed):
        if isinstance(outcome.exc, expected):
            return "raised expected: ", logging.INFO, shown(outcome.exc)
        text = shown(outcome.exc)
        return "raised unexpected: ", logging.ERROR, f"{text}\n{outcome.traceback}" if outcome.traceback else text
    if isinstance(outcome, Retried):
        return "retry: ", logging.INFO, shown(outcome.exc)
    if isinstance(outcome, Revoked):
        return "revoked: ", logging.INFO, str(outcome.exc)
    if isinstance(outcome, Rejected):
        return "rejected: ", logging.WARNING, f"{outcome.reason} (requeued)" if outcome.requeue else outcome.reason
    return "ignored" if isinstance(outcome, Ignored) else "replaced", logging.INFO, ""


def _extra(message: Message) -> dict[str, Any]:
    return {"task_id": message.call.id, "task_name": message.call.task, "root_id": message.root_id}
