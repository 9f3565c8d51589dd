"""Tasks shipped by value: code of a notebook's cells runs on workers that allow it, and is signed with a shared key.

Off unless asked for, on both sides: who can write to a worker's queue and has the key can run any code there; who has
not got the key cannot.

How it travels
--------------
The code of a task is pickled once for each version and kept beside the results, named after its SHA-256.  Every message
of a run that has such tasks bears a header ``shipped``::

    {"codes": {task name: SHA-256}, "at": seconds since the epoch, "mac": HMAC-SHA256}

The signature covers the content type and encoding, all other headers (``task``, ``id``, ``root_id``, ``group``,
``eta``, ``expires`` …; what a broker says of a redelivery is left out), the names of the codes, the time, and the
bytes of the body.  A worker verifies it, that it is not too old, and that the message was not seen before, and only
then fetches the code, compares it with its name, and unpickles it.  What the message causes the worker signs too.  A
task that came so is found by its SHA-256 alone, which only a verified message names.

What is not defended: who has the key; who can read the server sees code and arguments; a message may be delivered again
by the broker, so one that has not ended may be repeated by who can write to the server, up to a bound; and results are
not signed: who can change them changes what the tasks behind them are given.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

from nbcanvas import states
from nbcanvas.broker.names import Names
from nbcanvas.errors import ImproperlyConfigured, NotSerializable, UntrustedTask
from nbcanvas.plan import Call, Message, Node, calls_of
from nbcanvas.protocol.letter import Letter
from nbcanvas.task import Task

if TYPE_CHECKING:
    from nbcanvas.servers.redis import RedisServer

    from .app import App

__all__ = ["ENVIRONMENT", "Cargo", "Global", "Shipping", "signing_key"]

log = logging.getLogger("nbcanvas.app")

#: Holds the key; a file may, too, but a URL never does.
ENVIRONMENT: Final = "NBCANVAS_SIGNING_KEY"
#: Bytes of a key, at least.
SHORTEST: Final = 16
#: The header.
HEADER: Final = "shipped"
#: Bytes of a task's code, at most.
LARGEST: Final = 16 * 1024 * 1024
#: So long after it was signed, or after its eta, a message is taken.
WINDOW: Final = 24 * 60 * 60.0
#: So much a clock may be ahead.
_AHEAD: Final = 300.0
#: So many workers may be lost over a message, and so often it may be given back, before it counts as a replay.
_LOST: Final = 5
_GIVEN_BACK: Final = 1000
#: Codes named in one header, runs whose codes a client remembers, and tasks that are kept unpickled.
_CODES: Final = 1000
_ROOTS: Final = 10_000
_LOADED: Final = 1000
#: Tasks that are kept packed.
_PACKED: Final = 100
#: Seconds until a code that was stored is said to be needed still.
_AGAIN: Final = 600.0
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
#: What brokers add on the way.
_ADDED: Final = frozenset({HEADER, "redelivered", "x-death", "x-delivery-count", "x-first-death-exchange"})
_SECRET: Final = re.compile(r"pass|pwd|secret|token|credential|api_?key|private", re.IGNORECASE)


class Packed(Protocol):
    """A task as bytes, and what it took along."""

    data: bytes

    def is_fresh(self, task: Task) -> bool:
        """Say whether packing the task now would give the same."""

    def globals(self) -> Iterable[tuple[str, Any]]:
        """Yield the names that the task's functions use of their modules, and what they mean."""


class Global(NamedTuple):
    """Something a task takes along because its code names it: its name, its type, and its size when it is a value."""

    name: str
    kind: str
    size: int | None
    warning: str


class Cargo(NamedTuple):
    """What travels with a task.

    Attributes
    ----------
    task, version, digest
        Which.
    size
        In bytes.
    names
        What its code names of the notebook.
    """

    task: str
    version: str
    digest: str
    size: int
    names: tuple[Global, ...]


def signing_key(file: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> bytes:
    """Return the key that shipped tasks are signed with.

    Parameters
    ----------
    file
        Where it is; by default ``NBCANVAS_SIGNING_KEY`` holds it.
    environ
        The environment; the process's by default.

    Raises
    ------
    ImproperlyConfigured
        When there is none, or it is too short; the key is not in the text.
    """
    make = 'python -c "import secrets; print(secrets.token_hex(32))"'
    if file is not None:
        path = Path(file).expanduser()
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"the signing key {path} cannot be read: {error.strerror}") from None
        if os.name == "posix" and path.stat().st_mode & 0o077:
            log.warning("the signing key %s can be read by others: chmod 600", path)
        where = str(path)
    else:
        key = (os.environ if environ is None else environ).get(ENVIRONMENT, "").strip().encode()
        where = ENVIRONMENT
        if not key:
            msg = f"shipped tasks are signed: put a key, the same here and at the workers, into {ENVIRONMENT} or a file"
            raise ImproperlyConfigured(f"{msg} (signing_key_file, --signing-key); {make} makes one")
    if len(key) < SHORTEST:
        raise ImproperlyConfigured(f"the key in {where} has {len(key)} bytes, and needs {SHORTEST}; {make} makes one")
    return key


class SignedRun(str):
    """The id of a run whose message was verified; what that message causes bears it, and is signed for that.

    Parameters
    ----------
    root_id
        The id.
    codes
        Task name -> SHA-256, as they were signed.
    """

    __slots__ = ("codes",)

    def __new__(cls, root_id: str, codes: Mapping[str, str]) -> Self:
        """Return the id, with the codes."""
        made = super().__new__(cls, root_id)
        made.codes = codes
        return made

    def __reduce__(self) -> Any:
        """Take the codes along: child processes send canvases, too."""
        return SignedRun, (str(self), self.codes)

    codes: Mapping[str, str]


class Shipping:
    """Ships tasks of cells, and takes shipped tasks in.

    Parameters
    ----------
    app
        The app; its broker is a Redis.
    key
        What messages are signed with.
    accept
        Whether this is a worker that runs shipped tasks.
    largest
        Bytes of a task's code, at most.
    window
        Seconds after which a signed message is too old.
    """

    def __init__(
        self, app: App, key: bytes, *, accept: bool = False, largest: int = LARGEST, window: float = WINDOW
    ) -> None:
        if app.redis is None:
            msg = "tasks are shipped over Redis only: the broker has to be redis:// or rediss://"
            raise ImproperlyConfigured(msg)
        self._app = app
        self._key = key
        self._accept = accept
        self._largest = largest
        self._window = window
        self._lock = threading.Lock()
        self._codes: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._packed: dict[tuple[str, str], tuple[Packed, str]] = {}
        self._stored: dict[str, float] = {}
        self._loaded: OrderedDict[str, Task] = OrderedDict()
        app.post.seal = self.seal

    def __repr__(self) -> str:
        return f"<Shipping of {self._app!r}>"

    def __reduce__(self) -> Any:
        msg = "what signs does not travel: it holds the key"
        raise TypeError(msg)

    @property
    def _names(self) -> Names:
        return Names.of(self._app.conf)

    @property
    def _server(self) -> RedisServer:
        server = self._app.redis
        assert server is not None  # noqa: S101 - see __init__
        return server

    # -- what is shipped --------------------------------------------------------------------------------------------

    def ships(self, name: str, version: str = "") -> bool:
        """Whether the code of a task goes with its messages: one that was defined in a cell, or came so."""
        task = self._app.tasks.find(name, version)
        return task is not None and (self._app.tasks.came(name, version) if self._accept else _of_a_cell(task))

    def begin(self, root_id: str, node: Node) -> None:
        """Hear that a canvas is about to be sent: store the code of its tasks.

        Raises
        ------
        NotSerializable
            When a task's code cannot be pickled, or is too large.
        ServerLost
            When it cannot be stored.
        """
        wanted = {(call.task, call.version) for call in _calls(node)}
        codes = {name: self._store(name, version) for name, version in sorted(wanted) if self.ships(name, version)}
        if codes and isinstance(root_id, SignedRun):
            root_id.codes = {**root_id.codes, **codes}
        elif codes and not self._accept:  # a worker signs for the runs it was sent, and begins none
            with self._lock:
                known = self._codes[root_id] = {**self._codes.get(root_id, {}), **codes}
                self._codes.move_to_end(root_id)
                while len(self._codes) > _ROOTS:
                    self._codes.popitem(last=False)
            if len(known) > _CODES:
                raise NotSerializable(f"a canvas with {len(known)} shipped tasks; {_CODES} are the most")

    def _store(self, name: str, version: str) -> str:
        task = self._app.tasks.find(name, version)
        assert task is not None  # noqa: S101 - it ships
        if self._app.tasks.came(name, version):
            return version
        packed, digest = self._pack(task)
        if self._stored.get(digest, 0.0) < monotonic():
            key, server = self._names.code(digest), self._server
            seconds = max(int(2 * self._window), server.ask("TTL", key))  # another message may need it for longer
            server.call("SET", key, packed.data, "EX", str(seconds))
            self._stored[digest] = monotonic() + _AGAIN
        return digest

    def _pack(self, task: Task) -> tuple[Packed, str]:
        known = self._packed.get((task.name, task.version))
        if known is not None and known[0].is_fresh(task):
            return known
        packed = self._app.pack_task(task)
        if len(packed.data) > self._largest:
            large = sorted(_named(packed), key=lambda one: -(one.size or 0))[:3]
            what = ", ".join(f"{one.name} ({one.kind}, {one.size:,} bytes)" for one in large if one.size)
            raise NotSerializable(
                f"task {task.name} takes {len(packed.data):,} bytes along, and {self._largest:,} are the most: {what}; "
                f"give large values as arguments, or load them in the task"
            )
        made = self._packed[task.name, task.version] = packed, hashlib.sha256(packed.data).hexdigest()
        while len(self._packed) > _PACKED:  # a kernel lives long, and each edit of a cell is another version
            del self._packed[next(iter(self._packed))]
        return made

    def cargo(self) -> list[Cargo]:
        """Return what travels with each task that is shipped: its size, and what it takes along.

        Raises
        ------
        NotSerializable
            When a task's code cannot be pickled, or is too large.
        """
        found = []
        for name in sorted(self._app.tasks):
            task = self._app.tasks[name]
            if _of_a_cell(task):
                packed, digest = self._pack(task)
                found.append(Cargo(name, task.version, digest, len(packed.data), tuple(_named(packed))))
        return found

    # -- messages ---------------------------------------------------------------------------------------------------

    def codes_of(self, root_id: str) -> Mapping[str, str] | None:
        """Return what a run's messages are signed with; None when they are not signed.

        A worker takes the word of the verified message that it works on: to name a run is not enough.
        """
        return root_id.codes if isinstance(root_id, SignedRun) else self._codes.get(root_id)

    def seal(self, letter: Letter, root_id: str) -> None:
        """Sign a letter, if its run has shipped tasks.

        Raises
        ------
        UntrustedTask
            When its task is shipped, and its run is not known any more: unsigned it would be refused.
        """
        codes = self.codes_of(root_id)
        if codes is not None:
            at, headers = round(time(), 3), letter.headers
            headers[HEADER] = {"codes": codes, "at": at, "mac": self._mac(letter, codes, at)}
            name, eta = str(headers.get("task")), headers.get("eta")
            if name in codes and eta is not None and (latest := _latest(name, at, eta)) > at + self._window:
                self._keep(codes[name], latest - at + 2 * self._window)
        elif not self._accept and self.ships(name := str(letter.headers.get("task"))):
            raise _untrusted(name, f"run {root_id} was begun too long ago to be signed for; submit it again")

    def _keep(self, digest: str, seconds: float) -> None:
        """Keep a code for a message that is to run late."""
        key, server = self._names.code(digest), self._server
        if 0 < server.ask("TTL", key) < seconds:
            server.call("EXPIRE", key, str(int(seconds)))

    def _mac(self, letter: Letter, codes: Mapping[str, str], at: float) -> str:
        headers = {name: value for name, value in letter.headers.items() if name not in _ADDED}
        told = ["nbcanvas-shipped-1", letter.content_type, letter.content_encoding, headers, codes, at]
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
        signed = hmac.new(self._key, len(text).to_bytes(8, "big") + text, hashlib.sha256)
        signed.update(letter.body)
        return signed.hexdigest()

    def admit(self, letter: Letter, *, lost: bool = False) -> Mapping[str, str]:
        """Verify a letter, and take in the task that came with it; nothing is unpickled before.

        Parameters
        ----------
        letter
            The letter.
        lost
            Whether a worker was lost over it.

        Returns
        -------
        mapping
            The codes it was signed with.

        Raises
        ------
        UntrustedTask
            When it may not be run, and why.
        """
        name, task_id = str(letter.headers.get("task")), str(letter.headers.get("id"))
        if not self._accept:
            raise _untrusted(name, "this process accepts none: start a worker with --allow-shipped")
        codes, at, mac = self._header(name, letter.headers.get(HEADER))
        try:
            expected = self._mac(letter, codes, at)
        except (TypeError, ValueError, RecursionError) as error:
            raise _untrusted(name, f"its headers cannot be read ({error})") from None
        if not hmac.compare_digest(expected, mac):
            raise _untrusted(name, "its signature is wrong: another key, or somebody changed it")
        latest = self._timely(name, at, letter.headers.get("eta"))
        self._once(name, task_id, mac, str(letter.properties.get("delivery_tag", "")), latest, lost=lost)
        if name in codes:
            self._register(name, codes[name])
        return codes

    @staticmethod
    def mark(message: Message, codes: Mapping[str, str]) -> None:
        """Let a verified message run the code it was signed with, and let what it causes be signed."""
        message.call.version = codes.get(message.call.task, message.call.version)
        message.root_id = SignedRun(message.root_id, codes)

    @staticmethod
    def _header(name: str, header: Any) -> tuple[dict[str, str], float, str]:
        if not isinstance(header, Mapping):
            raise _untrusted(name, "it is not signed")
        codes, at, mac = header.get("codes"), header.get("at"), header.get("mac")
        if isinstance(codes, dict) and isinstance(mac, str) and isinstance(at, int | float) and len(codes) <= _CODES:
            texts = (*codes, *codes.values(), mac)
            if all(isinstance(one, str) for one in texts) and all(map(_DIGEST.fullmatch, (*codes.values(), mac))):
                return codes, at, mac
        raise _untrusted(name, "it is not signed in a way that is understood")

    def task_of(self, name: str, root_id: str) -> Task | None:
        """Return the task of that name which was shipped with the messages of a run; None when none was.

        Raises
        ------
        UntrustedTask
            When it may not be run, or is not there.
        ServerLost
            When its code cannot be fetched.
        """
        digest = root_id.codes.get(name) if isinstance(root_id, SignedRun) else None
        return None if digest is None else self._register(name, digest)

    def _timely(self, name: str, at: float, eta: Any) -> float:
        """Refuse what is too old; return when it is to run."""
        latest, now = _latest(name, at, eta), time()
        if not now - at >= -_AHEAD or now - latest > self._window:
            raise _untrusted(name, f"it was signed {abs(now - at):.0f} s {'ago' if now > at else 'in the future'}")
        return latest

    def _once(self, name: str, task_id: str, mac: str, tag: str, latest: float, *, lost: bool) -> None:
        """Refuse a message that was delivered before, unless that is how the broker gives it to another worker."""
        key, server = self._names.seen(mac), self._server
        ttl = str(int(latest - time() + self._window + 2 * _AHEAD))  # it outlives the message
        if server.call("SET", key, tag, "EX", ttl, "NX") is not None:
            return
        first = server.call("GET", key)
        again = first is not None and tag and first.decode("utf-8", "replace") == tag
        if again:
            count, most = (f"{key}-lost", _LOST) if lost else (f"{key}-back", _GIVEN_BACK)
            times, _ = server.pipeline((("INCR", count), ("EXPIRE", count, ttl)))
            record = None if lost else self._app.backend.get(task_id)  # what was lost, its worker looks for itself
            over = record is not None and record.state in states.READY_STATES
            again = not over and int(times) <= most
        if not again:
            raise _untrusted(name, "the same message came before")

    def _register(self, name: str, digest: str) -> Task:
        if name in self._app.tasks:
            raise _untrusted(name, "this worker has a task of its own by that name; give it another one")
        with self._lock:
            task = self._loaded.get(digest)
            if task is not None:
                self._loaded.move_to_end(digest)
        if task is None:
            task = self._load(name, digest)
            task.version = digest  # one source may mean different things: what it names travels with it
            with self._lock:
                self._loaded[digest] = task
                self._app.tasks.admit(task)
                while len(self._loaded) > _LOADED:
                    self._app.tasks.dismiss(self._loaded.popitem(last=False)[1])
        if task.name != name:
            raise _untrusted(name, f"its code is that of {task.name!r}")
        return task

    def _load(self, name: str, digest: str) -> Task:
        server = self._server
        size = server.ask("STRLEN", self._names.code(digest))
        if not size:
            raise _untrusted(name, "its code is not there (any more): send it again")
        if size > self._largest:
            raise _untrusted(name, f"its code has {size:,} bytes, and {self._largest:,} are the most")
        data = server.ask("GET", self._names.code(digest))
        if data is None or not hmac.compare_digest(hashlib.sha256(data).hexdigest(), digest):
            raise _untrusted(name, "its code is not the one that was signed")
        try:
            return self._app.unpack_task(data)
        except Exception as error:
            raise UntrustedTask(
                f"the shipped task {name!r} cannot be unpacked: {type(error).__name__}: {error}"
            ) from error


def _calls(root: Node) -> Iterator[Call]:
    """Yield the calls of a canvas, links and errbacks too."""
    todo = [root]
    while todo:
        for call in calls_of(todo.pop()):
            yield call
            todo += (*call.links, *call.errbacks)


def _latest(name: str, at: float, eta: Any) -> float:
    """Return when a message that was signed `at` that time is to run."""
    if not isinstance(eta, str):
        return at
    try:
        return max(at, datetime.fromisoformat(eta).timestamp())
    except (ValueError, OverflowError):
        raise _untrusted(name, "its eta is no time") from None


def _of_a_cell(task: Task) -> bool:
    return type(task).__module__ == "__main__"


def _untrusted(name: str, why: str) -> UntrustedTask:
    return UntrustedTask(f"the shipped task {name!r:.100} was refused: {why}")


def _named(packed: Packed) -> list[Global]:
    """Return what a task takes along, the largest first."""
    import pickle
    from types import FunctionType, ModuleType

    import cloudpickle

    found: dict[str, Global] = {}
    for name, value in packed.globals():
        if isinstance(value, ModuleType):
            continue  # imported there, by name
        size, warning = None, ""
        module = getattr(value, "__module__", None)
        by_name = isinstance(value, FunctionType | type) and module != "__main__"
        if not by_name and not isinstance(value, Task | FunctionType):  # what those name stands beside them
            try:
                size = len(cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL))
            except Exception as error:  # noqa: BLE001 - whatever it raises; the task itself says it better
                warning = f"it does not travel: {type(error).__name__}"
        if _SECRET.search(name) and not callable(value):
            warning = "it sounds like a secret, and goes along"
        found[name] = Global(name, type(value).__name__, size, warning)
    return sorted(found.values(), key=lambda one: -(one.size or 0))
