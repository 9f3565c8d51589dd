"""The request of a task whose message came from a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbcanvas.plan import Call
from nbcanvas.protocol.letter import Letter
from nbcanvas.request import Context

from .job import Job

__all__ = ["DeliveredContext", "delivery_info"]


class DeliveredContext(Context):
    """One execution of a task, with what its message's envelope says.

    Parameters
    ----------
    job
        What is worked on.
    hostname
        The worker's name.
    queue
        Says which queue a call goes to.
    """

    __slots__ = ("_job",)

    def __init__(self, job: Job, hostname: str, queue: Callable[[Call], str]) -> None:
        super().__init__(job.message, job.message.call.task, hostname=hostname, queue=queue)
        self._job = job

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where the message came from."""
        return {**delivery_info(self._job), "is_eager": False}

    @property
    def properties(self) -> dict[str, Any]:
        """The message's properties."""
        letter = self._job.delivery.letter
        return {"correlation_id": self.id, **(letter.properties if letter is not None else {})}

    @property
    def reply_to(self) -> str | None:
        """The client that sent it."""
        found: str | None = self.properties.get("reply_to")
        return found

    @property
    def origin(self) -> str | None:
        """The sender's name."""
        found: str | None = self._headers.get("origin")
        return found

    @property
    def argsrepr(self) -> str:
        """The positional arguments as text."""
        return str(self._headers.get("argsrepr") or repr(self.args))

    @property
    def kwargsrepr(self) -> str:
        """The keyword arguments as text."""
        return str(self._headers.get("kwargsrepr") or repr(self.kwargs))

    @property
    def _headers(self) -> Mapping[str, Any]:
        letter: Letter | None = self._job.delivery.letter
        return letter.headers if letter is not None else {}


def delivery_info(job: Job) -> dict[str, Any]:
    """Return where a message came from, under Celery's names."""
    letter = job.delivery.letter
    return {
        "exchange": letter.exchange if letter is not None else "",
        "routing_key": letter.routing_key if letter is not None else job.delivery.queue,
        "priority": letter.priority if letter is not None else 0,
        "redelivered": job.delivery.redelivered > 0,
    }
