"""Broadcasts, answers and events on a broker: one connection of kombu, for one thread, with plain values in and out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from queue import Empty
from typing import Any, Final, NamedTuple, Protocol, Self

from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.messaging import Consumer, Producer

from nbcanvas.errors import ServerLost

__all__ = ["Enough", "Heard", "Inbox", "Server", "Topic", "Wire", "about"]

log = logging.getLogger("nbcanvas.servers")

#: Called with the decoded body of a message, and its headers.
Heard = Callable[[Any, Mapping[str, Any]], None]

#: Brokers on which an exchange of topics is a broadcast; its routing keys are matched all the same.
_BROADCASTING: Final = frozenset({"redis", "gcpubsub"})
#: What kombu raises over an envelope that is none; so many of them in a row are the connection's fault.
_GARBAGE: Final = (LookupError, TypeError, ValueError, AttributeError)
_TRIPS: Final = 1000
#: How long a connection that ends waits for its own last word.
_LAST_WORD: Final = 0.2


class Enough(Exception):
    """Raised by what hears messages: read no more now."""


class _Garbage(Exception):
    """A message that cannot be understood."""


class Server(Protocol):
    """What makes connections to one broker (`nbcanvas.servers.kombu`)."""

    @property
    def name(self) -> str:
        """Its URL, without the password."""

    def connection(self) -> Any:
        """Return a new `kombu.Connection`, not yet connected."""

    def unreachable(self, error: BaseException) -> ServerLost:
        """Return what to raise for an error of such a connection; no password is in it."""


class Topic(NamedTuple):
    """An exchange.

    Attributes
    ----------
    name
        Its name.
    type
        ``"fanout"``, ``"direct"`` or ``"topic"``.
    durable
        Whether it outlives the broker's process.
    """

    name: str
    type: str = "direct"
    durable: bool = False


class Inbox(NamedTuple):
    """A queue bound to an exchange, for as long as somebody listens.

    Attributes
    ----------
    name, topic, routing_key
        The queue, the exchange, and which of its messages the queue gets.
    expires, message_ttl
        Seconds after which an unused queue, or a message in it, is dropped.
    durable, exclusive
        As in AMQP.
    """

    name: str
    topic: Topic
    routing_key: str = ""
    expires: float | None = None
    message_ttl: float | None = None
    durable: bool = False
    exclusive: bool = False


class Wire:
    """One connection, connected when it is made.

    Parameters
    ----------
    server
        The broker.
    accept
        Content types that are decoded; what comes in another one is counted and dropped.
    serializer
        For what is sent.

    Attributes
    ----------
    refused
        How many messages could not be understood.

    Raises
    ------
    ServerLost
        Here and in every method, when the broker does not answer.
    """

    def __init__(self, server: Server, *, accept: Collection[str] = ("json",), serializer: str = "json") -> None:
        self._server = server
        self._accept = [*accept]
        self._serializer = serializer
        self._consumers: list[Any] = []
        self.refused = 0
        self._trips = 0
        #: Whether something may have been read from the broker that was not handed out.
        self._behind = False
        self._connection = server.connection()
        self._lost: tuple[type[BaseException], ...] = (
            *self._connection.connection_errors,
            *self._connection.channel_errors,
            OperationalError,
            OSError,
        )
        with self._named():
            # Once, at once: whoever calls decides about waiting.
            self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, interval_max=0)
            self._channel = self._connection.default_channel

    @contextlib.contextmanager
    def _named(self) -> Any:
        """Name the server in whatever its client raises."""
        try:
            yield
        except TimeoutError:
            raise
        except self._lost as error:
            raise self._server.unreachable(error) from None  # its own text may hold the URL

    @property
    def driver(self) -> str:
        """Which kind of broker it is, such as ``redis`` or ``amqp``."""
        return str(self._connection.transport.driver_type)

    def publish(
        self,
        body: Any,
        topic: Topic,
        routing_key: str = "",
        headers: Mapping[str, Any] | None = None,
        *,
        delivery_mode: int = 1,
    ) -> None:
        """Send one message."""
        with self._named():
            exchange = self._exchange(topic)
            Producer(self._channel, auto_declare=False).publish(
                body,
                exchange=exchange.name,
                routing_key=routing_key,
                headers=dict(headers or {}),
                declare=[exchange],
                serializer=self._serializer,
                delivery_mode=delivery_mode,
            )

    def listen(self, inbox: Inbox, heard: Heard) -> None:
        """Call `heard` with whatever `drain` finds in an inbox from now on; nothing is acknowledged."""

        def refused(message: Any, error: BaseException) -> None:
            self._refuse(error)

        with self._named():
            consumer = Consumer(
                self._channel,
                [self._queue(inbox)],
                no_ack=True,
                accept=self._accept,
                callbacks=[lambda body, message: heard(body, message.headers or {})],
                on_decode_error=refused,
            )
            consumer.consume()
            self._consumers.append(consumer)

    def drain(self, timeout: float) -> bool:
        """Wait for one message at most `timeout` seconds; False when none came."""
        try:
            with self._named():
                try:
                    if not (self._behind and self._read_on()):
                        self._connection.drain_events(timeout=timeout)
                except _GARBAGE as error:  # some transports count these among the errors of a connection
                    raise _Garbage from error
        except TimeoutError:
            self._behind = True
            return False
        except Enough:
            return True
        except ServerLost:
            raise
        except Exception as error:  # noqa: BLE001 - an envelope kombu trips over; it is gone from the queue
            self._refuse(error.__cause__ or error)
            self._behind = True
            self._trips += 1
            if self._trips > _TRIPS:  # it is not the messages
                msg = f"the broker {self._server.name} cannot be understood: {type(error.__cause__ or error).__name__}"
                raise ServerLost(msg) from None
        else:
            self._trips = 0
        return True

    def _read_on(self) -> bool:
        """Hand out what was read from Redis and is still here; False when nothing is.

        Where kombu trips over a message it leaves what it has read behind that, and looks for it when more comes.
        """
        channel: Any = self._channel
        hears = self.driver == "redis" and channel.active_fanout_queues
        broadcasts: Any = channel.subclient.connection if hears else None
        sock: Any = getattr(broadcasts, "_sock", None)
        self._behind = bool(sock) and broadcasts.can_read(timeout=0)
        if self._behind:
            with contextlib.suppress(Empty):
                self._connection.transport.on_readable(sock.fileno())
        return self._behind

    def _refuse(self, error: BaseException) -> None:
        self.refused += 1
        if self.refused == 1 or self.refused % 1000 == 0:
            name, kind = self._server.name, type(error).__name__
            log.warning("a message from %s cannot be understood (%s; %d so far)", name, kind, self.refused)

    def bound(self, topic: Topic) -> set[str] | None:
        """Return the queues bound to an exchange; None where the broker does not say."""
        table = getattr(self._channel, "get_table", None)
        if table is None:
            return None
        with self._named():
            return {str(row[-1]) for row in table(topic.name)}

    def bindings(self, queues: Sequence[Inbox] = ()) -> list[tuple[str, str, str]]:
        """Return every binding the broker tells: queue, exchange, routing key.

        Raises
        ------
        NotImplementedError
            When it tells none.
        """
        with self._named():
            for inbox in queues:
                self._queue(inbox)(self._channel).declare()
            found = self._connection.manager.get_bindings()
            return [(str(one["destination"]), str(one["source"]), str(one["routing_key"])) for one in found]

    def close(self) -> None:
        """Let go of the connection, and of the queues only this one listens to."""
        with contextlib.suppress(Exception):  # whatever it is, there is nothing more to lose
            self._wake()
            for consumer in self._consumers:
                consumer.cancel()
                for queue in consumer.queues:
                    queue.delete()
        with contextlib.suppress(Exception):
            self._connection.release()

    def _wake(self) -> None:
        """End a blocking read on Redis: kombu would wait a second for it to end by itself."""
        for consumer in self._consumers:
            for queue in consumer.queues:
                if queue.exchange.type == "direct" and self.driver == "redis":
                    consumer.callbacks.clear()
                    consumer.on_message = lambda message: None
                    topic = Topic(queue.exchange.name, "direct", bool(queue.exchange.durable))
                    self.publish({}, topic, queue.routing_key)
                    self.drain(_LAST_WORD)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _exchange(self, topic: Topic) -> Any:
        kind = "fanout" if topic.type == "topic" and self.driver in _BROADCASTING else topic.type
        return Exchange(topic.name, type=kind, durable=topic.durable, delivery_mode="transient")

    def _queue(self, inbox: Inbox) -> Any:
        return Queue(
            inbox.name,
            self._exchange(inbox.topic),
            inbox.routing_key,
            durable=inbox.durable,
            exclusive=inbox.exclusive,
            auto_delete=not inbox.durable,
            expires=inbox.expires,
            message_ttl=inbox.message_ttl,
        )


def about(server: Server) -> dict[str, Any]:
    """Describe a broker, with the keys of Celery's ``inspect stats`` and without anything secret."""
    info = dict(server.connection().info())
    info.pop("password", None)
    options = info.get("transport_options") or {}
    plain = int | float | bool | None
    info["transport_options"] = {name: one if isinstance(one, plain) else _MASK for name, one in options.items()}
    info["alternates"] = [_MASK] * len(info.get("alternates") or ())
    info["ssl"] = bool(info.get("ssl"))
    return {name: one if isinstance(one, str | plain | dict | list) else _MASK for name, one in info.items()}


_MASK: Final = "********"
