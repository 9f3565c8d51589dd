"""Where commands, answers and events travel: names and forms of Celery's pidbox and events (protocol, 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nbcanvas.servers.wire import Inbox, Topic

from .question import matches

__all__ = ["Events", "Mailbox", "Request", "reads_request"]


class Mailbox(NamedTuple):
    """The settings ``control_*``: where workers listen, and clients wait for answers.

    Attributes
    ----------
    namespace
        The first word of the exchange's name.
    expires, ttl
        Seconds a queue, or a message in it, is kept unused.
    durable, exclusive
        As in AMQP.
    """

    namespace: str = "celery"
    expires: float | None = 10.0
    ttl: float | None = 300.0
    durable: bool = False
    exclusive: bool = False

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> Mailbox:
        """Read the settings."""
        return cls(
            conf["control_exchange"],
            conf["control_queue_expires"],
            conf["control_queue_ttl"],
            bool(conf["control_queue_durable"]),
            bool(conf["control_queue_exclusive"]),
        )

    @property
    def topic(self) -> Topic:
        """Where commands are sent to."""
        return Topic(f"{self.namespace}.pidbox", "fanout")

    @property
    def answers(self) -> Topic:
        """Where answers are sent to."""
        return Topic(f"reply.{self.namespace}.pidbox")

    def inbox(self, hostname: str) -> Inbox:
        """Return the queue in which a worker gets its commands."""
        name = f"{hostname}.{self.topic.name}"
        return Inbox(name, self.topic, "", self.expires, self.ttl, self.durable, self.exclusive)

    def answer_inbox(self, client: str) -> Inbox:
        """Return the queue in which a client gets answers."""
        name = f"{client}.{self.answers.name}"
        return Inbox(name, self.answers, client, self.expires, self.ttl, self.durable, self.exclusive)

    def worker_of(self, queue: str) -> str | None:
        """Return the name of the worker whose commands come into `queue`."""
        name = queue.removesuffix(f".{self.topic.name}")
        return name if name != queue else None


class Events(NamedTuple):
    """The settings ``event_*``: where events are told and heard."""

    exchange: str = "celeryev"
    prefix: str = "celeryev"
    expires: float | None = 60.0
    ttl: float | None = 5.0
    durable: bool = False
    exclusive: bool = False
    serializer: str = "json"

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> Events:
        """Read the settings."""
        return cls(
            conf["event_exchange"],
            conf["event_queue_prefix"],
            conf["event_queue_expires"],
            conf["event_queue_ttl"],
            bool(conf["event_queue_durable"]),
            bool(conf["event_queue_exclusive"]),
            conf["event_serializer"],
        )

    @property
    def topic(self) -> Topic:
        """Where events are sent to."""
        return Topic(self.exchange, "topic", durable=True)

    def inbox(self, listener: str) -> Inbox:
        """Return the queue in which one listener hears every event."""
        name = f"{self.prefix}.{listener}"
        return Inbox(name, self.topic, "#", self.expires, self.ttl, self.durable, self.exclusive)


class Request(NamedTuple):
    """A command as it came.

    Attributes
    ----------
    method, arguments
        What to do.
    reply_to, ticket
        Exchange and routing key of whoever waits for an answer, and the name of the question; None when nobody waits.
    """

    method: str
    arguments: dict[str, Any]
    reply_to: tuple[str, str] | None
    ticket: Any


def reads_request(body: Any, hostname: str) -> Request | None:
    """Read a command; None when it is for others.

    Raises
    ------
    ValueError
        When it is no command.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("method"), str):
        msg = "a command is an object with a method"
        raise ValueError(msg)  # noqa: TRY004 - whatever is wrong with a command
    destination, pattern, matcher = body.get("destination"), body.get("pattern"), body.get("matcher")
    if destination:
        names: Sequence[Any] = destination if isinstance(destination, list | tuple) else [destination]
        if hostname not in names:
            return None
    elif pattern and matcher and not matches(hostname, pattern, matcher):
        return None
    arguments = body.get("arguments") or {}
    if not isinstance(arguments, dict):
        msg = "the arguments of a command are an object"
        raise ValueError(msg)  # noqa: TRY004
    reply_to = body.get("reply_to")
    answers = None
    if isinstance(reply_to, Mapping) and all(isinstance(reply_to.get(key), str) for key in ("exchange", "routing_key")):
        answers = (reply_to["exchange"], reply_to["routing_key"])
    return Request(body["method"], arguments, answers, body.get("ticket"))
