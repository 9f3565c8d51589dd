"""Which broker and which result backend the settings mean.

Nothing connects before it is used.  What a change of the settings does not concern stays, connections included.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nbcanvas.backend.port import Backend
from nbcanvas.backend.urls import is_database, needs_cluster
from nbcanvas.broker.local import LocalBroker
from nbcanvas.broker.port import Broker
from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.ids import new_id
from nbcanvas.protocol.payload import EMBEDDED, WIRE, Packing
from nbcanvas.request import current
from nbcanvas.servers.urls import is_redis

from .backends import Backends, encoding_of, seconds
from .hearing import tell
from .secret import Hidden

if TYPE_CHECKING:  # what only apps with servers load
    from nbcanvas.backend.documents import Documents
    from nbcanvas.backend.redis import RedisBackend
    from nbcanvas.backend.redis.plans import Plans
    from nbcanvas.broker.kombu import KombuBroker
    from nbcanvas.broker.post import Post
    from nbcanvas.ledger.port import Ledger
    from nbcanvas.plan import Message
    from nbcanvas.remote.receiver import Receiver
    from nbcanvas.servers.kombu import KombuServer
    from nbcanvas.servers.redis import RedisServer

    from .app import App
    from .references import References

__all__ = ["Connections"]

log = logging.getLogger("nbcanvas.worker")

Made = TypeVar("Made")

#: The settings a broker is made of.
_BROKER: Final = (
    "broker_connection_timeout",
    "broker_heartbeat",
    "broker_login_method",
    "broker_password",
    "broker_port",
    "broker_read_url",
    "broker_transport",
    "broker_transport_options",
    "broker_url",
    "broker_use_ssl",
    "broker_user",
    "broker_vhost",
    "broker_write_url",
)
_EVENTS: Final = ("accept_content", "event_exchange", "event_queue_prefix", "event_serializer")
_RESULTS: Final = (
    "accept_content",
    "result_accept_content",
    "result_backend_transport_options",
    "result_chord_expires",
    "result_expires",
    "result_extended",
    "result_failure_expires",
    "result_persistent",
    "result_serializer",
)
_REDIS_SETTINGS: Final = (
    "redis_backend_use_ssl",
    "redis_password",
    "redis_socket_connect_timeout",
    "redis_socket_keepalive",
    "redis_socket_timeout",
    "redis_username",
    "result_backend_transport_options",
)
#: Seconds that a first run waits for events to be heard, at most.
_PATIENCE: Final = 0.5
#: Transport options that mean something here.
_TRANSPORT: Final = ("client_name", "socket_timeout")

#: Servers that Celery lets one name by their kind alone.
_KINDS: Final = {
    "amqp": "amqp://guest:guest@localhost:5672//",
    "cache+memory": "cache+memory://",
    "db": "db",
    "database": "database",
    "memory": "memory://",
    "redis": "redis://localhost:6379/0",
    "rpc": "rpc://",
}


def _url(setting: str, given: str, example: str) -> str:
    """Return a setting's URL.

    Raises
    ------
    ImproperlyConfigured
        When it is none; what it is is not shown: it may be a password.
    """
    found = _KINDS.get(given.lower(), given)
    if "://" not in found and found not in _KINDS:
        msg = f"{setting} is no URL; write it as in {example}"
        raise ImproperlyConfigured(msg)
    return Hidden(found)  # what keeps it prints it without its password


class Connections:
    """The broker and the result backend of one app.

    Parameters
    ----------
    app
        The app.

    Attributes
    ----------
    remote
        Whether the broker is a server.
    packing
        In which form values travel there.
    broker, backend
        What the settings mean.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._local = LocalBroker(app.route)
        self._backends = Backends(app)
        self._made: dict[str, tuple[list[Any], Any]] = {}
        self.remote = False
        self.packing: Packing = EMBEDDED
        self.broker: Broker = self._local
        self.backend: Backend = self._backends.local

    def choose(self) -> None:
        """Look at the settings, which have changed.

        Raises
        ------
        ImproperlyConfigured
            When they cannot be used.
        """
        # What cannot be used does not stay in the settings: the app goes on as it was.
        with self._taken_out("broker_url", "broker_read_url", "broker_write_url"):
            url = self.broker_url
            self.broker = self._local if url is None else self._remote_broker(url)
        self.remote = url is not None
        # A pickle keeps what JSON would change: a tuple stays a tuple.
        self.packing = WIRE if self.remote and self._app.conf.task_serializer != "pickle" else EMBEDDED
        with self._taken_out("result_backend"):
            self.backend = self._chosen_backend()

    @contextmanager
    def _taken_out(self, *names: str) -> Iterator[None]:
        try:
            yield
        except ImproperlyConfigured:
            for name in names:
                if name in self._app.conf.given:
                    del self._app.conf[name]
            raise

    @functools.cached_property
    def client_id(self) -> str:
        """What workers call this process."""
        return new_id()

    @functools.cached_property
    def origin(self) -> str:
        """The name of this process as a sender of messages (protocol 2, header ``origin``)."""
        return f"gen{os.getpid()}@{socket.gethostname()}"

    @property
    def broker_url(self) -> str | None:
        """The URL of the server that is the broker; None for the broker inside this process."""
        conf = self._app.conf
        for name in ("broker_write_url", "broker_url", "broker_read_url"):
            value = conf[name]
            first = value[0] if isinstance(value, list | tuple) and value else value
            if first and needs_cluster(str(first)):
                return _url(name, str(first), "redis://localhost:6379/0")
        return None

    @property
    def backend_url(self) -> str | None:
        """The URL of the result backend: what the settings say, else the broker's own when it can keep results."""
        found = self._app.conf.result_backend
        if found:
            return _url("result_backend", str(found), "redis://localhost:6379/1")
        broker = self.broker_url
        if broker is None:
            return None
        return broker if is_redis(broker) else "rpc://"

    def close(self) -> None:
        """Let go of every server."""
        made, self._made = self._made, {}
        with ExitStack() as stack:  # all of them, whatever one says; what was made last goes first
            stack.callback(self._backends.close)
            for _, one in made.values():
                stack.callback(_let_go, one)

    def _kept(self, name: str, settings: Sequence[str], make: Callable[[], Made], *more: Any) -> Made:
        """Return what was made before, or make it anew when one of the settings it is made of has changed."""
        wanted = [*more, *[self._app.conf[one] for one in settings]]
        known = self._made.get(name)
        if known is not None and known[0] == wanted:
            found: Made = known[1]
            return found
        made = make()
        self._made[name] = wanted, made
        if known is not None:
            _let_go(known[1])
        return made

    # -- servers ----------------------------------------------------------------------------------------------------

    @property
    def kombu(self) -> KombuServer:
        """The broker, as kombu sees it."""
        return self._broker_server("write")

    def _broker_server(self, direction: str) -> KombuServer:
        from nbcanvas.servers.kombu import KombuServer

        conf = self._app.conf
        return self._kept(f"kombu to {direction}", _BROKER, lambda: KombuServer.of(conf, direction))

    @property
    def redis(self) -> RedisServer | None:
        """The broker, when it is a Redis."""
        url = self.broker_url
        return None if url is None or not is_redis(url) else self._redis(url)

    def _redis(self, url: str, *, results: bool = False) -> RedisServer:
        from nbcanvas.servers.redis import RedisServer

        conf = self._app.conf
        ssl = conf.redis_backend_use_ssl if results else conf.broker_use_ssl
        transport = conf.result_backend_transport_options if results else conf.broker_transport_options
        options = {
            "socket_timeout": conf.redis_socket_timeout,
            "socket_connect_timeout": conf.redis_socket_connect_timeout or conf.broker_connection_timeout,
            "socket_keepalive": conf.redis_socket_keepalive or None,
            "username": conf.redis_username if results else conf.broker_user,
            "password": conf.redis_password if results else conf.broker_password,
            **{name: transport[name] for name in _TRANSPORT if name in (transport or {})},
        }
        name = "redis of results" if results else "redis"
        return self._kept(name, (*_BROKER, *_REDIS_SETTINGS), lambda: RedisServer(url, ssl=ssl, options=options), url)

    @functools.cached_property
    def references(self) -> References:
        """Plans that messages refer to."""
        from .references import References

        def plans() -> Plans | None:
            from nbcanvas.backend.redis import RedisBackend

            return self.backend.plans if isinstance(self.backend, RedisBackend) else None

        def understood() -> bool:
            # A task that sends does not stop to ask around.
            return current() is None and self._app.fleet.all_ours()

        return References(plans, understood)

    @property
    def post(self) -> Post:
        """Writes and reads the messages of the cluster."""
        from nbcanvas.broker.post import Post

        app, conf = self._app, self._app.conf

        def referred(message: Message) -> str | None:
            # What is signed says all itself: nobody signs plans.
            signed = app.shipping is not None and app.shipping.codes_of(message.root_id) is not None
            return None if signed else self.references.of(message)

        def make() -> Post:
            post = Post(
                origin=self.origin,
                route=app.router.of,
                reply_to=self.client_id,
                serializer=conf.task_serializer,
                accept=conf.accept_content,
                compression=conf.task_compression,
                versions=app.tasks.versions,
                levels=conf.task_repr_maxlevels,
                plans=self.references,
                by_reference=referred,
            )
            post.seal = None if app.shipping is None else app.shipping.seal
            return post

        settings = ("task_serializer", "accept_content", "task_compression", "task_repr_maxlevels")
        return self._kept("post", settings, make)

    def _remote_broker(self, url: str) -> Broker:
        if is_redis(url):
            from nbcanvas.broker.names import Names
            from nbcanvas.broker.redis import Lists, RedisBroker

            server, post, conf = self._redis(url), self.post, self._app.conf
            transport = conf.broker_transport_options or {}
            names = {"global_keyprefix": "prefix", "priority_steps": "steps", "sep": "separator"}
            lists = Lists(server, **{names[one]: transport[one] for one in names if one in transport})
            return self._kept(
                "broker",
                (*_BROKER, "task_publish_retry", "task_publish_retry_policy"),
                lambda: RedisBroker(
                    server,
                    post,
                    lists,
                    queues=lambda: self._app.router.queues.consumed,
                    retry=conf.task_publish_retry_policy if conf.task_publish_retry else {},
                    workers=Names.of(conf).workers,
                    witness=lambda: self._witness(server),
                ),
                server,
                post,
            )
        return self._kombu_broker()

    def _witness(self, server: RedisServer) -> RedisBackend | None:
        """Return the backend, when it is on the same server: what was sent there goes with the results."""
        from nbcanvas.backend.redis import RedisBackend

        found = self.backend
        return found if isinstance(found, RedisBackend) and found.server is server else None

    def _kombu_broker(self) -> KombuBroker:
        from nbcanvas.broker.kombu import KombuBroker

        conf = self._app.conf
        return self._kept(
            "broker of kombu",
            (*_BROKER, "task_publish_retry", "task_publish_retry_policy", "task_queues"),
            lambda: KombuBroker(
                self._broker_server("write"),
                self.post,
                self._app.router.queues,
                retry=conf.task_publish_retry,
                policy=conf.task_publish_retry_policy,
            ),
        )

    def _chosen_backend(self) -> Backend:
        url = self.backend_url
        if url is not None and is_redis(url):
            return self._redis_backend(url)
        if url is not None and url.startswith("rpc://"):
            return self._rpc_backend()
        if url is not None and not is_database(url) and needs_cluster(url):
            kind = url.partition("://")[0]
            msg = f"result_backend: there is no backend for {kind}://; results go to redis://, db+…:// or rpc://"
            raise ImproperlyConfigured(msg)
        return self._backends.chosen(shared=self.remote)

    def _redis_backend(self, url: str) -> Backend:
        from nbcanvas.backend.redis import RedisBackend
        from nbcanvas.backend.redis.steps import Expiry
        from nbcanvas.broker.names import Names
        from nbcanvas.result.trees import child

        app, conf = self._app, self._app.conf
        broker = self.broker_url
        same = self._redis(broker) if broker is not None and is_redis(broker) else None
        server = self._redis(url, results=True)
        server = same if same is not None and same.same_as(server) else server
        transport = conf.result_backend_transport_options or {}

        def make() -> Backend:
            backend = RedisBackend(
                server,
                encoding_of(app.conf),
                client_id=self.client_id,
                prefix=transport.get("global_keyprefix", ""),
                expiry=Expiry.of(
                    *map(seconds, (conf.result_expires, conf.result_failure_expires, conf.result_chord_expires))
                ),
                extended=bool(conf.given.get("result_extended", False)),
                ordered=bool(transport.get("result_chord_ordered", True)),
                queue_of=app.queue_of,
                tree_of=lambda started: child(started, app).as_tuple(),
                workers=Names.of(conf).workers,
            )
            backend.on_news = functools.partial(tell, app.hub)
            backend.others = app.fleet.others
            return backend

        return self._kept("backend", _RESULTS, make, server)

    def _rpc_backend(self) -> Backend:
        from nbcanvas.backend.rpc import RPCBackend

        conf = self._app.conf
        broker = self.broker
        from nbcanvas.broker.kombu import KombuBroker

        if not isinstance(broker, KombuBroker):
            msg = "result_backend rpc:// needs an AMQP broker; on Redis leave it out: results then go where messages go"
            raise ImproperlyConfigured(msg)

        def make() -> Backend:
            backend = RPCBackend(
                self._broker_server("read"),
                broker,
                self._documents(),
                self.client_id,
                expires=lambda: seconds(conf.result_expires),
                persistent=bool(conf.result_persistent),
            )
            broker.prepare = backend.listen
            return backend

        return self._kept("backend", _RESULTS, make, broker)

    def follow(self) -> None:
        """Hear the events of workers elsewhere, from now on."""
        from nbcanvas.events.foreign import Foreign
        from nbcanvas.remote.mailbox import Events
        from nbcanvas.remote.receiver import Receiver

        app, server = self._app, self.kombu

        def make() -> Receiver:
            hub = app.hub
            receiver = Receiver(
                server,
                Events.of(app.conf),
                Foreign(hub.feed).hear,
                accept=app.conf.accept_content,
                needed=lambda: hub.waits,
            )
            receiver.start()
            weakref.finalize(app, receiver.end).atexit = False  # an app that nobody has any more
            receiver.listening(_PATIENCE)  # so that the first events are heard
            return receiver

        if not self._kept("events", _EVENTS, make, server).stays():
            del self._made["events"]
            self._kept("events", _EVENTS, make, server)

    def leave(self) -> None:
        """Hear those events only as long as a run waits for them, until `follow` is called again."""
        known = self._made.get("events")
        if known is not None:
            known[1].leave()

    @property
    def sent(self) -> Callable[[Sequence[Message]], None] | None:
        """What tells monitors of what is sent (``task_send_sent_event``)."""
        if not (self.remote and self._app.conf.task_send_sent_event):
            return None
        from .sent import SentEvents

        server = self.kombu
        return self._kept("sent", _EVENTS, lambda: SentEvents(self._app, self.origin), server)

    def _documents(self) -> Documents:
        from nbcanvas.backend.documents import Documents
        from nbcanvas.result.trees import child

        app = self._app
        return Documents(
            encoding_of(app.conf),
            extended=bool(app.conf.given.get("result_extended", False)),
            queue_of=app.queue_of,
            tree_of=lambda started: child(started, app).as_tuple(),
        )

    def ledger(self, hostname: str, queues: Sequence[str]) -> Ledger:
        """Return what the worker of that name works on."""
        table = self._app.router.queues
        names = list(queues) or list(table.consumed)
        broker, backend = self.broker, self.backend
        from nbcanvas.broker.redis import RedisBroker

        if isinstance(broker, RedisBroker):
            from nbcanvas.backend.redis import RedisBackend

            if isinstance(backend, RedisBackend) and backend.server.same_as(broker.server):
                from nbcanvas.ledger.redis import RedisLedger

                options = self._app.conf.broker_transport_options or {}
                silence = float(options.get("worker_silence", 5.0))
                return RedisLedger(backend, self.post, broker.lists, table, names, hostname, silence=silence)
            if isinstance(backend, RedisBackend):
                log.info("messages at %s, results at %s: a step is several", broker.server.name, backend.server.name)
        from nbcanvas.ledger.split import SplitLedger

        return SplitLedger(
            self._broker_server("read"),
            self._kombu_broker(),
            backend,
            self.post,
            table,
            names,
            hostname,
            heartbeat=self._app.conf.broker_heartbeat,
        )


def _let_go(one: Any) -> None:
    end = getattr(one, "close", None) or getattr(one, "stop", None)
    if end is not None:
        end()
