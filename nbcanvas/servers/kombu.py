"""The door to kombu: connections as Celery's settings describe them, and links that carry letters over them.

What comes in and goes out are plain values; what kombu and its transports raise becomes `ServerLost`, which names the
server without its password.  A link belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
import ssl as tls
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic, time
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from kombu.connection import Connection
from kombu.entity import Exchange, Queue, binding
from kombu.exceptions import KombuError, OperationalError

from nbcanvas.errors import AccessRefused, ImproperlyConfigured, ServerLost
from nbcanvas.protocol.letter import Letter

from .queues import QueueSpec
from .ready import ready
from .refusals import is_refusal
from .urls import is_redis, masked

__all__ = ["Arrived", "KombuServer", "Link", "Lost"]

#: Unconfirmed messages on their way; more wait for confirmations first.
_WINDOW: Final = 512
#: How long a server may take to confirm what it was sent.
_CONFIRM: Final = 30.0
#: What AMQP knows of a message besides its headers.
_PROPERTIES: Final = (
    "correlation_id",
    "reply_to",
    "delivery_mode",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
)
_AMQP: Final = "amqp"
#: What kombu's transport for Redis has to be told, or it takes any certificate.
_VERIFIES: Final = {"ssl_cert_reqs": "CERT_REQUIRED"}
#: How long a Redis may be silent in a TLS handshake (a server without TLS is), and before an answer.
_HANDSHAKE: Final = 30.0


class Lost(ServerLost):
    """What was not delivered when a connection ended.

    Attributes
    ----------
    unsent
        The letters that may not have arrived.
    unsure
        Those of them that may have.
    """

    def __init__(self, message: str, unsent: Sequence[Letter] = (), unsure: Sequence[Letter] = ()) -> None:
        super().__init__(message)
        self.unsent = unsent
        self.unsure = unsure


class Arrived(NamedTuple):
    """A letter that came over a link.

    Attributes
    ----------
    tag
        The link's name for it.
    letter
        The letter.
    redelivered
        Whether the server says that somebody had it before.
    times
        How often, where the server counts (quorum queues).
    at
        When it came; seconds since the epoch.
    """

    tag: Any
    letter: Letter
    redelivered: bool
    times: int
    at: float = 0.0


def _verified(url: str) -> str:
    """Return the URL of a Redis with TLS so that its certificate is verified, if it does not say: kombu would not."""
    if not url.startswith("rediss:") or "ssl_" in url.partition("?")[2]:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(_VERIFIES)}"


class KombuServer:
    """One broker, or several that stand in for each other.

    Parameters
    ----------
    url
        Its URL; of several, a list, or one text with semicolons.
    ssl, options, user, password, vhost, port, transport, login_method, timeout, failover
        Celery's ``broker_use_ssl``, ``broker_transport_options``, ``broker_user``, ``broker_password``,
        ``broker_vhost``, ``broker_port``, ``broker_transport``, ``broker_login_method``, ``broker_connection_timeout``
        and ``broker_failover_strategy``.

    Attributes
    ----------
    name
        The URL without its password.
    driver
        Which kind of server it is: ``amqp``, ``redis``, ``memory`` …
    errors
        What kombu raises when the server does not answer, or refuses.

    Raises
    ------
    ImproperlyConfigured
        When kombu knows no such transport, or its package is missing.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        ssl: bool | Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        user: str | None = None,
        password: str | None = None,
        vhost: str | None = None,
        port: int | None = None,
        transport: str | None = None,
        login_method: str | None = None,
        timeout: float | None = 4.0,
        failover: Any = None,
    ) -> None:
        urls = url.split(";") if isinstance(url, str) else [*url]
        self._urls = [str.__str__(one) for one in urls]
        self._count = len(urls)
        self.name = ";".join(masked(one) for one in self._urls)
        if not isinstance(ssl, Mapping):
            self._urls = [_verified(one) for one in self._urls]
            if ssl and all(is_redis(one) for one in self._urls):
                ssl = dict(_VERIFIES)
        # Links confirm in batches; the transport's own option would wait for each message.
        given = {name: value for name, value in (options or {}).items() if name != "confirm_publish"}
        if any(one.startswith("rediss:") for one in self._urls):
            given.setdefault("socket_timeout", _HANDSHAKE)
        self._parameters: dict[str, Any] = {
            "userid": user,
            "password": password,
            "virtual_host": vhost,
            "port": port,
            "transport": transport,
            "ssl": dict(ssl) if isinstance(ssl, Mapping) else bool(ssl),
            "login_method": login_method,
            "connect_timeout": timeout,
            "transport_options": given,
            "failover_strategy": failover or "round-robin",
        }
        try:
            probe = self.connection()
            kind = probe.get_transport_cls()
            self.driver = str(kind.driver_type)
            self.errors: tuple[type[BaseException], ...] = tuple(
                {*probe.connection_errors, *probe.channel_errors, OperationalError, OSError}
            )
        except (ImportError, KeyError, ValueError, AttributeError, TypeError) as error:
            said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            msg = f"the broker {self.name} cannot be used: {masked(said) or type(error).__name__}"
            if said.startswith("No such transport"):
                msg += "; there are redis://, rediss:// (TLS), amqp://, amqps:// and the others of kombu"
            raise ImproperlyConfigured(msg) from None

    @classmethod
    def of(cls, conf: Mapping[str, Any], direction: str | None = None) -> KombuServer:
        """Return the broker of settings.

        Parameters
        ----------
        conf
            Celery's settings.
        direction
            ``"read"`` or ``"write"``, for those who have two brokers (``broker_read_url``, ``broker_write_url``).
        """
        url = (direction and conf[f"broker_{direction}_url"]) or conf["broker_url"]
        url = url or conf["broker_write_url"] or conf["broker_read_url"]
        if not url:
            msg = "there is no broker_url"
            raise ImproperlyConfigured(msg)
        return cls(
            url,
            ssl=conf["broker_use_ssl"],
            options=conf["broker_transport_options"],
            user=conf["broker_user"],
            password=conf["broker_password"],
            vhost=conf["broker_vhost"],
            port=conf["broker_port"],
            transport=conf["broker_transport"],
            login_method=conf["broker_login_method"],
            timeout=conf["broker_connection_timeout"],
            failover=conf["broker_failover_strategy"],
        )

    def __repr__(self) -> str:
        return f"<KombuServer {self.name}>"

    def connection(self, heartbeat: float = 0) -> Any:
        """Return a new connection of kombu's, not connected yet."""
        return Connection([*self._urls], heartbeat=heartbeat, **self._parameters)

    def link(self, heartbeat: float = 0) -> Link:
        """Connect.

        Raises
        ------
        ServerLost
            When nobody answers.
        """
        connection = self.connection(heartbeat)
        try:
            with self.guarded():
                # Once around those that stand in for each other; whoever calls decides about waiting.
                connection.ensure_connection(
                    max_retries=max(self._count, 1), interval_start=0, interval_step=0, interval_max=0
                )
                return Link(self, connection)
        except BaseException:
            with contextlib.suppress(Exception):
                connection.collect()
            raise

    def lost(self, error: BaseException, unsent: Sequence[Letter] = ()) -> Lost:
        """Return what to raise for an error of kombu's."""
        return Lost(self._away(error), unsent)

    def unreachable(self, error: BaseException) -> ServerLost:
        """Return what to raise for an error of kombu's: whether it lets us in, and why not, without a password."""
        if is_refusal(error):
            return AccessRefused(f"the broker {self.name} does not let us in: {self._said(error)}"[:500])
        return ServerLost(self._away(error))

    def _away(self, error: BaseException) -> str:
        return f"the broker {self.name} does not answer: {self._said(error)}"[:500]

    def _said(self, error: BaseException) -> str:
        said = masked(str(error)).strip().partition("\n")[0]
        for secret in self._secrets():
            said = said.replace(secret, "********")
        return f"{type(error).__name__}: {said}"

    def _secrets(self) -> Iterator[str]:
        from urllib.parse import unquote, urlsplit

        if self._parameters["password"]:
            yield str(self._parameters["password"])
        for url in self._urls:
            password = urlsplit(url).password
            if password:
                yield from {password, unquote(password)} - {"guest"}

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Make `ServerLost` of what kombu raises."""
        try:
            yield
        except ServerLost:
            raise
        except self.errors as error:
            raise self.unreachable(error) from None  # its own text, or its cause's, may hold the URL
        except KombuError as error:
            raise self.unreachable(error) from None


class Link:
    """An open connection and its channel, for one thread at a time.

    A method that is interrupted (Ctrl-C) in the middle leaves the link broken, not half a message on the wire: whoever
    has it opens another one.

    Parameters
    ----------
    server
        The server.
    connection
        A connection of kombu's that is connected.

    Attributes
    ----------
    broken
        Whether it cannot be used any more.
    """

    def __init__(self, server: KombuServer, connection: Any) -> None:
        self._server = server
        self._connection = connection
        self._pid = os.getpid()
        self._declared: set[str] = set()
        self._tag = 0
        self._unconfirmed: dict[int, Letter] = {}
        self._returned: list[Letter] = []
        self._nacked: list[Letter] = []
        self._confirming = False
        self._channel: Any = connection.channel()
        self.broken = False

    @property
    def usable(self) -> bool:
        """Whether it still serves this process."""
        return not self.broken and self._pid == os.getpid()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:  # nothing came in time; of a connection that does not answer, another error tells
            raise
        except self._server.errors as error:
            self.broken = True
            raise self._server.lost(error) from None
        except BaseException:
            self.broken = True
            raise

    # -- queues -------------------------------------------------------------------------------------------------------

    def declare(self, spec: QueueSpec) -> None:
        """Make a queue, its exchange and its bindings, unless this link did so before.

        Raises
        ------
        ImproperlyConfigured
            When there is one of that name that is something else.
        """
        if spec.name in self._declared:
            return
        queue = _queue(spec)
        with self._working():
            try:
                queue(self._channel).declare()
            except Exception as error:
                code = getattr(error, "reply_code", None) or getattr(error, "code", None)
                if code != 406:  # AMQP: precondition failed
                    raise
                self.broken = True
                said = getattr(error, "reply_text", "")
                msg = (
                    f"{self._server.name}: queue {spec.name!r} exists, and is not what the settings say: {said}; "
                    f"change task_queues, task_default_queue_type or task_queue_max_priority, or delete the queue"
                )
                raise ImproperlyConfigured(msg) from None
        self._declared.add(spec.name)

    def forget(self, queue: str) -> None:
        """Declare a queue again when it is used next."""
        self._declared.discard(queue)

    def size(self, queue: str) -> tuple[int, int | None] | None:
        """Return how many messages wait in a queue, and how many consumers it has if that is known; None without it."""
        with self._working():
            channel = self._connection.channel()  # asking for what does not exist closes the channel
            try:
                found = channel.queue_declare(queue, passive=True)
                channel.close()
            except self._connection.channel_errors as error:
                codes = (getattr(error, "reply_code", None), getattr(error, "code", None))
                if not {404, "404"}.intersection(codes):  # kombu's own transports say it in a text
                    raise
                return None
        known = self._server.driver == _AMQP
        return int(found.message_count), int(found.consumer_count) if known else None

    def locked(self, queue: str) -> bool:
        """Whether a queue exists that belongs to another connection alone (AMQP)."""
        with self._working():
            channel = self._connection.channel()
            try:
                channel.queue_declare(queue, passive=True)
                channel.close()
            except self._connection.channel_errors as error:
                if getattr(error, "reply_code", None) == 404:
                    return False
                if getattr(error, "reply_code", None) != 405:
                    raise
                return True
        return False

    def purge(self, queue: str) -> int:
        """Drop what waits in a queue; returns how much."""
        if self.size(queue) is None:
            return 0
        with self._working():
            return int(self._channel.queue_purge(queue) or 0)

    # -- sending ------------------------------------------------------------------------------------------------------

    def publish(self, letters: Sequence[Letter], spec_of: Callable[[str], QueueSpec | None] | None = None) -> None:
        """Send letters; returns when the server has them.

        Parameters
        ----------
        letters
            What to send.
        spec_of
            Describes the queue of a letter, to be declared first; None for a queue that others declare.

        Raises
        ------
        Lost
            With those that may not have arrived.
        ImproperlyConfigured
            When there is no queue for a letter.
        """
        if spec_of is not None:
            for name in {letter.queue for letter in letters if letter.queue} - self._declared:
                spec = spec_of(name)
                if spec is not None:
                    self.declare(spec)
        if self._server.driver == _AMQP:
            self._publish_confirmed(letters)
        else:
            self._publish_plain(letters)

    def _publish_plain(self, letters: Sequence[Letter]) -> None:
        sent = 0
        try:
            with self._working():
                for letter in letters:
                    self._channel.basic_publish(
                        self._message(letter), exchange=letter.exchange, routing_key=letter.routing_key
                    )
                    sent += 1
        except ServerLost as error:
            raise Lost(str(error), letters[sent:], letters[sent : sent + 1]) from None

    def _publish_confirmed(self, letters: Sequence[Letter]) -> None:
        begun = 0
        unconfirmed = self._unconfirmed
        try:
            with self._working():
                if not self._confirming:
                    self._confirm()
                publish = self._channel.basic_publish
                for letter in letters:
                    # Before the frame is written: an interrupt may come at any moment.
                    unconfirmed[self._tag + 1] = letter
                    self._tag += 1
                    begun += 1
                    # A queue without a name here is a client's, which may be gone, and its results with it.
                    mandatory = bool(letter.queue or letter.exchange)
                    publish(self._message(letter), letter.exchange, letter.routing_key, mandatory=mandatory)
                    if len(unconfirmed) >= _WINDOW:
                        self._confirmed(_WINDOW // 2)
                self._confirmed(0)
        except ServerLost as error:
            unsure = [*unconfirmed.values()]
            unconfirmed.clear()
            raise Lost(str(error), [*unsure, *self._nacked, *letters[begun:]], unsure) from None
        if self._nacked:
            nacked, self._nacked = self._nacked, []
            msg = (
                f"the broker {self._server.name} refused {len(nacked)} messages; is the queue {nacked[0].queue!r} full?"
            )
            raise Lost(msg, nacked)
        if self._returned:
            self._send_back()

    def _send_back(self) -> None:
        """Deal with letters no queue wanted: one that was deleted is made again."""
        returned, self._returned = self._returned, []
        declared = frozenset(self._declared)
        for letter in returned:
            if letter.exchange or letter.queue not in declared:
                msg = (
                    f"{self._server.name}: task {letter.headers.get('task')!r} went nowhere: no queue is bound to "
                    f"exchange {letter.exchange!r} for routing key {letter.routing_key!r}; see task_queues"
                )
                raise ImproperlyConfigured(msg)
            self.forget(letter.queue)
        msg = f"{self._server.name}: queue {returned[0].queue!r} was deleted, and is made again"
        raise Lost(msg, returned)

    def _confirm(self) -> None:
        channel = self._channel
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._confirming = True

    def _settled(self, tag: int, multiple: bool) -> list[Letter]:
        if not multiple:
            letter = self._unconfirmed.pop(tag, None)
            return [] if letter is None else [letter]
        return [self._unconfirmed.pop(one) for one in [one for one in self._unconfirmed if one <= tag]]

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._settled(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._nacked += self._settled(tag, multiple)

    def _on_return(self, _error: Any, exchange: str, routing_key: str, message: Any) -> None:
        task_id = message.properties.get("correlation_id")
        for letter in self._unconfirmed.values():
            same = (letter.exchange, letter.routing_key) == (exchange, routing_key)
            if same and letter.properties.get("correlation_id") == task_id:
                self._returned.append(letter)
                return

    def _confirmed(self, left: int) -> None:
        until = monotonic() + _CONFIRM
        while len(self._unconfirmed) > left:
            try:
                self._connection.drain_events(timeout=max(until - monotonic(), 0.01))
            except TimeoutError:
                if monotonic() < until:
                    continue
                msg = f"nothing was confirmed for {_CONFIRM:.0f} seconds"
                raise OSError(msg) from None

    def _message(self, letter: Letter) -> Any:
        given = letter.properties
        properties = {name: given[name] for name in _PROPERTIES if given.get(name) is not None}
        properties.setdefault("delivery_mode", 2)
        return self._channel.prepare_message(
            letter.body,
            priority=letter.priority,
            content_type=letter.content_type,
            content_encoding=letter.content_encoding,
            headers=dict(letter.headers),
            properties=properties,
        )

    # -- taking -------------------------------------------------------------------------------------------------------

    def prefetch(self, count: int, *, each: bool = False) -> None:
        """Have at most `count` unacknowledged messages on this link; `each`: for each consumer from now on."""
        with self._working():
            if self._server.driver == _AMQP:
                self._channel.basic_qos(0, count, not each)
            else:
                self._channel.basic_qos(0, count, False)

    def consume(
        self,
        queue: str,
        arrived: Callable[[Arrived], None],
        *,
        tag: str,
        no_ack: bool = False,
        arguments: Mapping[str, Any] | None = None,
        cancelled: Callable[[str], None] | None = None,
        exclusive: bool = False,
    ) -> None:
        """Have the messages of a queue; `cancelled` hears that the server takes none from it any more."""

        def on_message(raw: Any) -> None:
            message = self._channel.message_to_python(raw)
            info = message.delivery_info or {}
            arrived(
                Arrived(
                    message.delivery_tag,
                    _letter(queue, message),
                    bool(info.get("redelivered") or (message.headers or {}).get("redelivered")),
                    _count(message.headers),
                    time(),
                )
            )

        more: dict[str, Any] = {}
        if self._server.driver == _AMQP:
            more = {"on_cancel": cancelled, "arguments": dict(arguments or {}), "exclusive": exclusive}
        with self._working():
            self._channel.basic_consume(queue, no_ack=no_ack, callback=on_message, consumer_tag=tag, **more)

    def cancel(self, tag: str) -> None:
        """Take from a queue no more."""
        with self._working():
            self._channel.basic_cancel(tag)

    def ack(self, tag: Any) -> None:
        """Acknowledge a message."""
        with self._working():
            self._channel.basic_ack(tag)

    def reject(self, tag: Any, *, requeue: bool) -> None:
        """Give a message back to the head of its queue, or drop it."""
        with self._working():
            self._channel.basic_reject(tag, requeue)

    def drain(self, timeout: float) -> bool:
        """Handle what has come, waiting `timeout` seconds for the first; False when nothing came."""
        some = False
        while True:
            try:
                with self._working():
                    self._connection.drain_events(timeout=0 if some else timeout)
            except TimeoutError:
                return some
            some = True

    def wait(self, timeout: float, also: int) -> None:
        """Wait until something comes, or until `also` (a file descriptor) can be read; needs no lock."""
        sock = self.socket
        if sock is None or sock.fileno() < 0:
            return
        if isinstance(sock, tls.SSLSocket) and sock.pending():
            return
        with contextlib.suppress(ValueError):  # it was closed this moment
            ready([sock.fileno(), also], timeout)

    @property
    def socket(self) -> Any:
        """What `wait` waits for; None where there is no such thing, and only `drain` can tell."""
        return getattr(self._connection.connection, "sock", None) if self._server.driver == _AMQP else None

    def beat(self) -> None:
        """Say that this side lives, and look whether the other one does; to be called every second or so."""
        if self._connection.heartbeat and self._connection.supports_heartbeats:
            with self._working():
                self._connection.heartbeat_check()

    def close(self) -> None:
        """Close the connection; what was not acknowledged goes back to its queue."""
        usable, self.broken = self.usable, True
        with contextlib.suppress(Exception):  # there is nothing more to lose
            if usable:
                self._connection.release()
            else:
                self._connection.collect()


def _queue(spec: QueueSpec) -> Any:
    options = dict(spec.options)
    about = dict(spec.exchange_options)
    exchange = Exchange(spec.exchange, spec.exchange_type, **about)
    bindings = [
        binding(Exchange(one["exchange"], one["type"]), one["routing_key"], arguments=one.get("arguments"))
        for one in spec.bindings
    ]
    return Queue(
        spec.name,
        exchange,
        spec.routing_key,
        bindings=bindings,
        durable=spec.durable,
        exclusive=spec.exclusive,
        auto_delete=spec.auto_delete,
        queue_arguments=None if spec.queue_arguments is None else dict(spec.queue_arguments),
        **options,
    )


def _letter(queue: str, message: Any) -> Letter:
    info = message.delivery_info or {}
    properties = dict(message.properties or {})
    properties["delivery_info"] = {
        "exchange": info.get("exchange") or "",
        "routing_key": info.get("routing_key") or queue,
        "redelivered": info.get("redelivered"),
    }
    body = message.body
    if isinstance(body, str):
        body = body.encode(message.content_encoding if message.content_encoding not in {None, "binary"} else "utf-8")
    return Letter(
        queue,
        dict(message.headers or {}),
        bytes(body),
        properties,
        int(properties.get("priority") or 0),
        message.content_type or "application/data",
        message.content_encoding or "binary",
        info.get("exchange") or "",
        info.get("routing_key") or queue,
    )


def _count(headers: Mapping[str, Any] | None) -> int:
    try:
        return int((headers or {}).get("x-delivery-count") or 0)
    except (TypeError, ValueError):
        return 0
