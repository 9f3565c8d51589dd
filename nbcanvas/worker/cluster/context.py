"""The request of a task whose message came from a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbcanvas.plan import Call, Message
from nbcanvas.plan.model import Payload
from nbcanvas.protocol.letter import Letter
from nbcanvas.protocol.payload import Held, unpack_args
from nbcanvas.protocol.saferepr import saferepr
from nbcanvas.protocol.signatures import Writer
from nbcanvas.request import Context
from nbcanvas.worker.execute import arguments

from .job import Job

__all__ = ["DeliveredContext", "delivery_info", "shown_arguments"]


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
    def correlation_id(self) -> str | None:
        """The task id, unless the sender named another one."""
        return self.properties.get("correlation_id") or self.id

    @property
    def callbacks(self) -> Any:
        """The signatures linked to the task, as its message has them."""
        return self._embedded("callbacks")

    @property
    def errbacks(self) -> Any:
        """The errbacks linked to the task, as its message has them."""
        return self._embedded("errbacks")

    @property
    def chain(self) -> Any:
        """The signatures of the steps that follow, last one first; None when there are none."""
        return self._embedded("chain")

    @property
    def chord(self) -> Any:
        """The signature of the body that waits for the group this task counts for; None when none does."""
        return self._embedded("chord")

    def _embedded(self, name: str) -> Any:
        message = self._job.message
        writer = Writer(_arguments, lambda args, kwargs: Held((args, kwargs)), self.reply_to)
        return writer.embed(message.call, message.then)[name]

    @property
    def stamps(self) -> dict[str, Any]:
        """Its stamps, as they were sent: Celery's workers show a single value as itself."""
        return dict(self._job.message.call.stamps or {})

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


def _arguments(payload: Payload) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = unpack_args(payload)
    return list(args), dict(kwargs)


def shown_arguments(message: Message, headers: Mapping[str, Any]) -> tuple[str, str]:
    """Return the arguments of a message as texts: those its sender gave, or what they look like here."""
    args, kwargs = headers.get("argsrepr"), headers.get("kwargsrepr")
    if headers.get("task") != message.call.task:
        args = kwargs = None  # a reference: they say what it refers to
    if isinstance(args, str) and isinstance(kwargs, str):
        return args, kwargs
    found = arguments(message)
    return (
        args if isinstance(args, str) else saferepr(found[0]),
        kwargs if isinstance(kwargs, str) else saferepr(found[1]),
    )


def delivery_info(job: Job) -> dict[str, Any]:
    """Return where a message came from, under Celery's names."""
    letter = job.delivery.letter
    return {
        "exchange": letter.exchange if letter is not None else "",
        "routing_key": letter.routing_key if letter is not None else job.delivery.queue,
        "priority": letter.priority if letter is not None else 0,
        "redelivered": job.delivery.redelivered > 0,
    }
