"""The door to Redis: connections, commands, scripts; the only module that imports redis-py.

A `RedisServer` keeps idle connections, and lends one for each exchange of commands and replies.  A connection whose
exchange did not come to its end, whatever the reason, an interrupted cell among them, is dropped and never used again:
the reply to one question can not be taken for the reply to another.

Nothing is repeated here, but for `ask`: after `ServerLost` a command may have been performed, or not.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl as tls
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from time import monotonic
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from hiredis import pack_command
from redis import exceptions

from nbcanvas.errors import AccessRefused, ImproperlyConfigured, NBCanvasError, ServerLost

from .ready import ready
from .refusals import is_refusal
from .urls import canonical_host, masked

__all__ = ["Command", "Link", "RedisServer", "Refused", "Script", "load_script"]

#: One command with its arguments.
Command: TypeAlias = Sequence[str | bytes | int | float]

#: The commands used here: BLMOVE, LPOP with a count, and so on.
_OLDEST: Final = (6, 2)
#: Idle connections that are kept.
_IDLE: Final = 16
_CONNECT: Final = 4.0
_VERIFY: Final = {
    "none": tls.CERT_NONE,
    "optional": tls.CERT_OPTIONAL,
    "required": tls.CERT_REQUIRED,
}
_SOCKETS: Final = frozenset({"socket", "redis+socket", "unix"})
#: What means that the server is not there, or cannot work now.
_LOST: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    OSError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
)
#: The same, by the word a refusal begins with; before Redis 7 it stands inside the error of a script.
_FOR_NOW: Final = re.compile(
    r"(?:^|: -)(?:MISCONF|NOREPLICAS|BUSY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|LOADING|READONLY|OOM)\b"
)


class Refused(NBCanvasError):
    """The server answered with an error: the command does not fit what is there."""


class Script:
    """A Lua script.

    Attributes
    ----------
    text, sha
        The script, and what it is called by.
    """

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str | bytes], args: Sequence[str | bytes | int | float]) -> Command:
        """Return the command that calls it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def load_script(package: str, *names: str) -> Script:
    """Return the script that files in the directory ``scripts`` of a package make together."""
    folder = resources.files(package) / "scripts"
    return Script("\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names))


class _Connection(Protocol):
    """What is used of redis-py's connections."""

    _sock: Any
    _parser: Any

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def send_packed_command(self, command: Any, check_health: bool = True) -> None: ...
    def read_response(self) -> Any: ...


class Link:
    """One connection, used by one thread at a time.

    Parameters
    ----------
    connection
        redis-py's.
    server
        Whose it is.
    """

    def __init__(self, connection: _Connection, server: RedisServer) -> None:
        self._connection = connection
        self._server = server
        #: Replies that have not been read.
        self.owed = 0

    def send(self, *commands: Command) -> None:
        """Send commands; each has one reply to `read` (each channel of a (un)subscription has one)."""
        self.owed += len(commands)
        try:
            self._connection.send_packed_command(_packed(commands), check_health=False)
        except _LOST as error:
            raise self._server.lost(error) from error

    def read(self) -> Any:
        """Return the next reply; a refusal is returned and not raised."""
        try:
            reply = self._connection.read_response()
        except _LOST as error:
            raise self._server.lost(error) from error
        except exceptions.ResponseError as error:
            reply = error
        self.owed -= 1
        return reply

    def readable(self, timeout: float = 0.0) -> bool:
        """Whether something has come, or the connection is gone, within `timeout` seconds."""
        try:
            return self._connection.can_read(timeout)
        except _LOST as error:
            raise self._server.lost(error) from error

    def fileno(self) -> int:
        """Return the number of the socket, for `select`; what was read `ahead` is not to be seen there."""
        sock = self._connection._sock  # noqa: SLF001 - as kombu and Celery do; there is no other way
        if sock is None:
            raise ServerLost(f"{self._server.name} has closed the connection")
        return int(sock.fileno())

    @property
    def ahead(self) -> bool:
        """Whether more has been read than was asked for."""
        reader = self._connection._parser._reader  # noqa: SLF001 - as above
        return reader is not None and bool(reader.has_data())

    @property
    def stale(self) -> bool:
        """Whether an idle connection has something to say: its end, mostly."""
        sock = self._connection._sock  # noqa: SLF001 - as above
        return sock is None or sock.fileno() < 0 or bool(ready([sock.fileno()], 0))

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


class _Secure(redis.SSLConnection):
    """TLS with a handshake that takes no longer than a connection may: a server without TLS does not answer to it."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        sock.settimeout(self.socket_connect_timeout)
        secure: Any = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        secure.settimeout(self.socket_timeout)
        return secure


class RedisServer:
    """One Redis server, 6.2 or newer.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` (TLS), ``unix://`` (also ``redis+socket://``, ``socket://``); Celery's query
        parameters are understood.
    ssl
        Celery's ``broker_use_ssl`` or ``redis_backend_use_ssl``: true, or a mapping.
    options
        More of redis-py's connection parameters (``socket_timeout``, ``username``, ``client_name`` …); what is None
        is left out, what the URL says comes first.

    Attributes
    ----------
    name
        The URL without its password.

    Raises
    ------
    ImproperlyConfigured
        When the URL does not mean a Redis server.
    """

    def __init__(
        self, url: str, *, ssl: bool | Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        self.name = masked(url)
        self._made, self._settings = _parameters(url, ssl, options or {})
        self._idle: list[Link] = []
        self._pid = os.getpid()
        self._checked = False
        self._mute: Link | None = None
        self._telling = threading.Lock()

    def __repr__(self) -> str:
        return f"<RedisServer {self.name}>"

    def same_as(self, other: RedisServer) -> bool:
        """Whether the other is the same database of the same server."""
        return self._address() == other._address()

    def _address(self) -> tuple[Any, ...]:
        said = self._settings
        place = canonical_host(said.get("host") or ""), int(said.get("port") or 6379)
        socket = said.get("path")
        return (*((os.path.realpath(socket),) if socket else place), int(said.get("db") or 0))

    # -- connections --------------------------------------------------------------------------------------------------

    def connect(self, *, patient: bool = False) -> Link:
        """Return a connection of one's own, connected; `patient` ones wait for replies as long as it takes."""
        settings = {**self._settings, "socket_timeout": None} if patient else self._settings
        if patient:
            settings = {**settings, "socket_connect_timeout": self._settings.get("socket_connect_timeout") or _CONNECT}
        try:
            connection = self._made(**settings)
            connection.connect()
        except _LOST as error:
            raise self.lost(error) from error
        except exceptions.ResponseError as error:
            raise self._refused(error) from error
        link = Link(connection, self)
        if not self._checked:
            self._check(link)
        return link

    def _check(self, link: Link) -> None:
        """Refuse a server that is too old, and a cluster: one script touches keys of several slots."""
        link.send(("INFO", "server"))
        found = link.read()
        if isinstance(found, bytes):
            facts = dict(line.split(":", 1) for line in found.decode("utf-8", "replace").splitlines() if ":" in line)
            version = facts.get("redis_version", "")
            numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
            if numbers and numbers < _OLDEST:
                link.close()
                msg = f"{self.name} is Redis {version}, and nbcanvas needs 6.2 or newer"
                raise ImproperlyConfigured(msg)
            if facts.get("redis_mode", "").strip() == "cluster":
                link.close()
                msg = f"{self.name} is a node of a Redis Cluster; nbcanvas, as Celery, needs a Redis server of its own"
                raise ImproperlyConfigured(msg)
        self._checked = True

    def _take(self) -> Link:
        if self._pid != os.getpid():  # a child: the connections are the parent's
            self._idle, self._pid = [], os.getpid()
            self._mute, self._telling = None, threading.Lock()
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self.connect()
            if not link.stale:
                return link
            link.close()

    def _give(self, link: Link) -> None:
        if link.owed or len(self._idle) >= _IDLE:
            link.close()
        else:
            self._idle.append(link)

    def lost(self, error: BaseException) -> ServerLost:
        """Return what is raised for an error that means that the server is not there."""
        kind = AccessRefused if is_refusal(error) else ServerLost
        return kind(f"{self.name} {_said(error)}")

    # -- commands -----------------------------------------------------------------------------------------------------

    def call(self, *command: str | bytes | float) -> Any:
        """Return the reply to one command.

        Raises
        ------
        ServerLost
            When the server is not there; the command was performed, or not.
        Refused
            When it does not want to.
        """
        return self.pipeline((command,))[0]

    def ask(self, *command: str | bytes | float) -> Any:
        """Return the reply to a command that changes nothing, if need be over a new connection."""
        try:
            return self.call(*command)
        except ServerLost:
            return self.call(*command)

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to several commands, sent at once; raises as `call` does, when all are read."""
        replies = self.replies(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._refused(reply)
        return replies

    def replies(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to several commands; a refusal stands among them as an exception."""
        link = self._take()
        try:
            link.send(*commands)
            return [link.read() for _ in commands]
        finally:
            self._give(link)

    def run(self, script: Script, keys: Sequence[str | bytes], args: Sequence[str | bytes | int | float] = ()) -> Any:
        """Return what a script returns; the server is given the script when it does not have it."""
        return self.ran(self.replies((script.call(keys, args),))[0], script, keys, args)

    def begin(
        self, script: Script, keys: Sequence[str | bytes], args: Sequence[str | bytes | int | float] = ()
    ) -> Callable[[], Any]:
        """Send the call of a script; returns what waits for its reply, and returns that."""
        link = self._take()
        try:
            link.send(script.call(keys, args))
        except BaseException:
            link.close()
            raise

        def finish() -> Any:
            try:
                reply = link.read()
            finally:
                self._give(link)
            return self.ran(reply, script, keys, args)

        return finish

    def ran(self, reply: Any, script: Script, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Return what a script returned, by the reply to its call; one that the server did not have is run now."""
        if isinstance(reply, exceptions.NoScriptError):  # nothing was done
            reply = self.replies((("EVAL", script.text, len(keys), *keys, *args),))[0]
        if isinstance(reply, Exception):
            raise self._refused(reply)
        return reply

    def _refused(self, error: Exception) -> NBCanvasError:
        msg = f"{self.name} refuses: {error}"
        return ServerLost(msg) if isinstance(error, _LOST) or _FOR_NOW.search(str(error)) else Refused(msg)

    def tell(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish ``(channel, message)`` without waiting for anything; what nobody hears is lost, and that is fine."""
        with self._telling:
            link = self._mute
            try:
                if link is None or link.stale:
                    link = self._mute = self.connect()
                    link.send(("CLIENT", "REPLY", "OFF"))
                link.send(*[("PUBLISH", channel, message) for channel, message in messages])
                link.owed = 0
            except BaseException:
                self._mute = None
                raise

    def close(self) -> None:
        """Close what is idle."""
        idle, self._idle = self._idle, []
        mute, self._mute = self._mute, None
        for link in (*idle, *([mute] if mute is not None else [])):
            link.close()

    def wait(self, seconds: float) -> bool:
        """Wait until the server answers; False when it does not in time."""
        until = monotonic() + seconds
        while True:
            try:
                self.call("PING")
            except ServerLost:
                if monotonic() > until:
                    return False
                threading.Event().wait(0.05)
            else:
                return True


def _packed(commands: Sequence[Command]) -> list[bytes]:
    """Return commands as they are sent; what is large is not copied."""
    packed: list[bytes] = [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
    return packed if len(packed) == 1 else [b"".join(packed)]


def _said(error: BaseException) -> str:
    """Return what became of the server, in words; redis-py's own say host and port, never a password."""
    if isinstance(error, exceptions.AuthenticationError):
        return f"does not accept the user name and the password ({error})"
    if isinstance(error, exceptions.OutOfMemoryError):
        return f"is out of memory: {error}"
    if isinstance(error, exceptions.BusyLoadingError):
        return "is starting: it still loads its data"
    if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
        return f"does not answer in time ({error})"
    return f"is not there ({error})" if str(error) else f"is not there ({type(error).__name__})"


def _parameters(
    url: str, ssl: bool | Mapping[str, Any] | None, options: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the class of the connections, and what they are made with."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    query = dict(parse_qsl(parts.query))
    kind = "unix" if scheme in _SOCKETS else scheme
    if kind not in {"redis", "rediss", "unix"}:
        msg = f"{masked(url)!r} does not mean one Redis server; that is redis://, rediss:// (TLS) or unix://"
        raise ImproperlyConfigured(msg)
    if "virtual_host" in query:
        query["db"] = query.pop("virtual_host").strip("/")
    secure = {name: unquote(query.pop(name)) for name in tuple(query) if name.startswith("ssl_")}
    if secure and kind != "rediss":
        msg = f"{masked(url)!r} has TLS parameters, but TLS is rediss://"
        raise ImproperlyConfigured(msg)
    database = "" if kind == "unix" else query.get("db", parts.path.strip("/"))
    if database and not database.isdecimal():  # redis-py would take the first one
        msg = f"{masked(url)!r} names database {database!r:.40}: those of a Redis are numbers, such as /0"
        raise ImproperlyConfigured(msg)
    plain = f"{kind}://{parts.netloc}{parts.path}"
    try:
        pool = redis.ConnectionPool.from_url(f"{plain}?{urlencode(query)}" if query else plain, protocol=2)
    except (ValueError, TypeError) as error:
        msg = f"{masked(url)!r} is no URL of a Redis server: {error}"
        raise ImproperlyConfigured(msg) from None
    settings: dict[str, Any] = {"socket_connect_timeout": _CONNECT, "socket_timeout": 120.0, "socket_keepalive": True}
    settings |= {name: value for name, value in options.items() if value is not None}
    settings |= {**pool.connection_kwargs, "decode_responses": False}
    if kind == "unix":
        settings.pop("socket_keepalive", None)
        if settings.get("path") in {None, "", "/"}:
            raise ImproperlyConfigured(f"{masked(url)!r} names no socket")
    elif ssl or kind == "rediss":
        return _Secure, {
            **settings,
            **_secure(url, {**(ssl if isinstance(ssl, Mapping) else {}), **secure}),
        }
    return pool.connection_class, settings


def _secure(url: str, told: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of TLS; a certificate is verified if nothing else is said."""
    verify: Any = told.get("ssl_cert_reqs", tls.CERT_REQUIRED)
    if isinstance(verify, str):
        verify = _VERIFY.get(verify.lower().removeprefix("cert_"))
    if verify not in _VERIFY.values():
        msg = f"ssl_cert_reqs of {masked(url)!r} is CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE"
        raise ImproperlyConfigured(msg)
    if verify == tls.CERT_NONE:
        told = {"ssl_check_hostname": False, **told}
    return {**told, "ssl_cert_reqs": verify}
