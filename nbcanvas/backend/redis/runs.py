"""Runs beside their results: a hash for each, and a list of them in the order of their beginning."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time
from typing import Any, Final

from nbcanvas.backend.port import Record, RunLine, StoredRun
from nbcanvas.errors import CorruptResult, ServerLost
from nbcanvas.plan.model import Call
from nbcanvas.servers.redis import Command, RedisServer, Refused

from .keys import Keys

__all__ = ["Runs"]

log = logging.getLogger("nbcanvas.backend")

#: Seconds between two tries to write.
_AGAIN: Final = 1.0

Job = Callable[[], Sequence[Command]]


class Runs:
    """Keeps runs in Redis; a thread writes them, and ends when there is nothing to write.

    What is kept are bytes that may come from anybody who can write to the server: they are never unpickled.

    Parameters
    ----------
    server, keys
        The server, and its names.
    expires
        Seconds a run is kept since it was last heard of; 0 is for ever.
    results
        Returns the records of those of some calls that ended.

    Attributes
    ----------
    trusted
        Whether pickles may be kept: no.
    """

    trusted = False

    def __init__(
        self,
        server: RedisServer,
        keys: Keys,
        expires: int,
        results: Callable[[Sequence[Call]], Mapping[str, Record]],
    ) -> None:
        self._server = server
        self._keys = keys
        self._expires = expires
        self.results = results
        self._jobs: deque[Job] = deque()
        self._closing = threading.Event()
        # Entered by itself: an interrupt inside the condition's own methods, which are Python, could leave it locked.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    def put(self, run_id: str, describe: Callable[[], StoredRun], *, at_once: bool = False) -> None:
        """Keep a run: in a moment, `describe` being called in another thread; or before this returns (`at_once`)."""
        key = self._keys.run + run_id

        def job() -> Sequence[Command]:
            run = describe()
            fields = {name: value for name, value in run._asdict().items() if value is not None and name != "id"}
            flat = [part for pair in fields.items() for part in pair]
            commands: list[Command] = [("DEL", key), ("HSET", key, *flat), *self._expire(key)]
            return [*commands, ("ZADD", self._keys.runs, run.started, run_id)]

        if at_once:
            self._server.pipeline(job())
        else:
            self._add(job)

    def drop(self, run_id: str) -> None:
        """Keep a run no longer."""
        self._add(lambda: [("DEL", self._keys.run + run_id), ("ZREM", self._keys.runs, run_id)])

    def update(self, run_id: str, news: Callable[[], Mapping[str, Any]]) -> None:
        """Keep what is new of a run, in a moment, if the run is still kept; `news` is called as `describe` is."""
        key = self._keys.run + run_id

        def job() -> Sequence[Command]:
            if not self._server.ask("EXISTS", key):
                return ()
            found = news()
            flat = [part for pair in found.items() if pair[1] is not None for part in pair]
            gone = [name for name, value in found.items() if value is None]
            commands: list[Command] = [("HSET", key, *flat)] if flat else []
            return [*commands, *([("HDEL", key, *gone)] if gone else []), *self._expire(key)]

        self._add(job)

    def look(self, run_id: str) -> StoredRun | None:
        """Return a run, or None."""
        flat = self._server.ask("HGETALL", self._keys.run + run_id)
        if not flat:
            return None
        found = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        try:
            return StoredRun(
                run_id,
                found["name"].decode() if "name" in found else None,
                float(found["started"]),
                float(found["finished"]) if "finished" in found else None,
                float(found["seen"]),
                found["kernel"].decode(),
                int(found["version"]),
                found["plan"],
                found.get("state", b""),
            )
        except (KeyError, ValueError) as error:
            msg = (
                f"what {self.where()} keeps of the run {run_id} cannot be understood ({type(error).__name__}: {error})"
            )
            raise CorruptResult(msg) from error

    def lines(self, limit: int | None = None) -> Sequence[RunLine]:
        """Return the runs there are, the latest first; those that have expired leave the list."""
        ids = self._server.ask("ZRANGE", self._keys.runs, 0, -1 if limit is None else limit - 1, "REV")
        if not ids:
            return []
        wanted = [("HMGET", self._keys.run.encode() + one, "name", "started") for one in ids]
        found = self._server.pipeline(wanted)
        gone = [one for one, (_, started) in zip(ids, found, strict=True) if started is None]
        if gone:
            self._server.call("ZREM", self._keys.runs, *gone)
        return [
            RunLine(one.decode(), None if name is None else name.decode(), float(started))
            for one, (name, started) in zip(ids, found, strict=True)
            if started is not None
        ]

    def where(self) -> str:
        """Say where that is, without a password."""
        return self._server.name

    def cleanup(self) -> None:
        """Drop from the list what has expired."""
        if self._expires:
            self._server.call("ZREMRANGEBYSCORE", self._keys.runs, "-inf", time() - 10 * self._expires)
        self.lines()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is written; False when it is not in time."""
        until = None if timeout is None else monotonic() + timeout
        with self._lock:
            while self._jobs or self._thread is not None:
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def close(self, timeout: float) -> None:
        """Write what is left, if the server is there, and leave it at that."""
        self._closing.set()
        self.flush(timeout)

    def _expire(self, key: str) -> list[Command]:
        return [("EXPIRE", key, self._expires)] if self._expires else []

    def _add(self, job: Job) -> None:
        with self._lock:
            self._jobs.append(job)
            if self._thread is None or not self._thread.is_alive():  # none, or that of the parent of a child
                self._thread = threading.Thread(target=self._write, name="nbcanvas-runs-writer", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._do(job)
            except ServerLost as error:  # and nobody waits any more
                log.warning("what is new of runs is not kept: %s", error)
                with self._lock:
                    self._jobs.clear()
                continue
            except (Refused, Exception):
                log.exception("a run cannot be kept at %s", self._server.name)
            with self._lock:
                self._jobs.popleft()

    def _next(self) -> Job | None:
        """Return what is to be written; None when the thread ends."""
        with self._lock:
            if self._jobs:
                return self._jobs[0]
            self._thread = None
            self._changed.notify_all()
            return None

    def _do(self, job: Job) -> None:
        """Write something, as soon as the server is there.

        Raises
        ------
        ServerLost
            When it is away, and nobody waits any more.
        """
        commands: Sequence[Command] | None = None
        warned = False
        while True:
            try:
                if commands is None:
                    commands = job()  # what it says, it says once
                if commands:
                    self._server.pipeline(commands)
            except ServerLost as error:
                if self._closing.is_set():
                    raise
                if not warned:
                    log.warning("runs cannot be kept, and are written later: %s", error)
                warned = True
                self._closing.wait(_AGAIN)
            else:
                return
