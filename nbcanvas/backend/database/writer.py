"""The thread that writes: many results in one transaction, in the order they came in.

What cannot be written now is tried again until it can; meanwhile results are read from memory.  Those who wait for a
result are told when it is written; if that takes too long, they are told all the same, and the log says that what
they have is not kept yet.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, ProgrammingError, SQLAlchemyError, StatementError

from nbcanvas.backend.port import Record
from nbcanvas.errors import ImproperlyConfigured

__all__ = ["Writer"]

log = logging.getLogger("nbcanvas.backend")

#: So much at most goes into one transaction.
_BATCH: Final = 2000
#: Seconds between attempts: the first, and at most.
_PAUSE: Final = (0.05, 5.0)
#: After so many seconds of attempts those who wait are told.
_PATIENCE: Final = 5.0
#: Attempts after which what may be wrong with what is written is taken to be wrong.
_TRIES: Final = 3
#: An attempt that failed for so many seconds is said again.
_SAY_EVERY: Final = 60.0

Act = Callable[[sa.Connection], Any]


class Op(NamedTuple):
    """One thing to do: a record to store, something else to do in the transaction, something to do behind it."""

    task_id: str = ""
    record: Record | None = None
    act: Act | None = None
    then: Callable[[], Any] | None = None


class Writer:
    """Writes in a thread of its own, which starts with the first thing to write.

    Parameters
    ----------
    begin
        Opens a transaction.
    store
        Stores records in one.
    failed
        Hears that writing failed, before it is tried again.
    where
        The database, for the log.
    """

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[sa.Connection]],
        store: Callable[[sa.Connection, dict[str, Record]], None],
        failed: Callable[[], None],
        where: str,
    ) -> None:
        self._begin = begin
        self._store = store
        self._failed = failed
        self._where = where
        self._ops: deque[Op] = deque()
        self._awake = threading.Event()
        self._hurry = threading.Event()
        self._starting = threading.Lock()
        self._over = False
        #: Held during a transaction.
        self.writing = threading.Lock()
        self._thread: threading.Thread | None = None

    # -- any thread ---------------------------------------------------------------------------------------------------

    @property
    def is_this_thread(self) -> bool:
        """Whether it is the writer's thread that asks."""
        return threading.current_thread() is self._thread

    def put(self, op: Op) -> None:
        """Have something done, after everything that was put before."""
        self._ops.append(op)
        if not self._awake.is_set():
            self._awake.set()
        if self._thread is None or self._over:
            with self._starting:
                if self._thread is None:
                    self._over = False
                    self._thread = threading.Thread(target=self._loop, name="nbcanvas-database", daemon=True)
                    self._thread.start()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything put so far is written; False when it is not in time."""
        if self._thread is None or self.is_this_thread:
            return True
        written = threading.Event()
        self.put(Op(act=_nothing, then=written.set))
        self.hurry()
        return written.wait(timeout)

    def hurry(self) -> None:
        """End a pause between attempts."""
        self._hurry.set()

    def close(self, timeout: float) -> bool:
        """Wait as `flush` does, and have the thread end once everything is written; who puts more starts another."""
        written = self.flush(timeout)
        self._over = True
        self._awake.set()
        return written

    # -- the writer's thread ------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()
            while self._ops:
                self._keep_trying(self._take(_BATCH))  # in no variable, which would hold what was written long ago
            if self._over:
                with self._starting:
                    if not self._ops:
                        self._thread = None
                        return

    def _take(self, at_most: int) -> list[Op]:
        return [self._ops.popleft() for _ in range(min(len(self._ops), at_most))]

    def _keep_trying(self, batch: list[Op]) -> None:
        """Write a batch, however long it takes; then say so."""
        pause, since, said, told, tried = _PAUSE[0], monotonic(), 0.0, 0, 0
        while True:
            try:
                self._write(batch)
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live
                tried += 1
                if _hopeless(error, tried):
                    self._one_by_one(batch, error)
                    break
                self._failed()
                now = monotonic()
                if not said or now - said > _SAY_EVERY:
                    log.warning("%s: writing fails, and is tried again: %s", self._where, _short(error))
                    said = now
                if now - since > _PATIENCE:
                    if not told:
                        log.log(logging.ERROR, "%s: results are not kept: %s", self._where, _short(error))
                    batch += self._take(len(self._ops))
                    _tell(op for op in batch[told:] if op.act is None)
                    told = len(batch)
                self._hurry.clear()
                self._hurry.wait(pause)
                pause = min(pause * 2, _PAUSE[1])
        if said:
            log.warning("%s: writing works again", self._where)
        _tell(op for place, op in enumerate(batch) if place >= told or op.act is not None)

    def _write(self, batch: Sequence[Op]) -> None:
        with self.writing, self._begin() as connection:
            records: dict[str, Record] = {}
            for op in batch:
                if op.record is not None:
                    records.pop(op.task_id, None)  # the latest counts, in the place where it came
                    records[op.task_id] = op.record
                elif op.act is not None:
                    if records:
                        self._store(connection, records)
                        records = {}
                    op.act(connection)
            if records:
                self._store(connection, records)

    def _one_by_one(self, batch: list[Op], error: Exception) -> None:
        """Write what can be written of a batch with something in it that no database will ever take."""
        if len(batch) == 1:
            log.error("%s: %s is not kept: %s", self._where, batch[0].task_id or "a run", _short(error))
            return
        middle = len(batch) // 2
        for part in (batch[:middle], batch[middle:]):
            try:
                self._write(part)
            except Exception as again:  # noqa: BLE001 - as above
                if _hopeless(again, _TRIES):
                    self._one_by_one(part, again)
                else:
                    self._keep_trying(part)


def _nothing(_connection: sa.Connection) -> None:
    """Only wait for one's turn."""


def _tell(ops: Iterable[Op]) -> None:
    for op in ops:
        if op.then is not None:
            try:
                op.then()
            except Exception:  # those behind it are told all the same
                log.exception("somebody who watched for a result raised")


def _hopeless(error: Exception, tried: int) -> bool:
    """Whether trying again cannot help: what is written is wrong, not where it goes."""
    if isinstance(error, DataError):
        return True
    if isinstance(error, ProgrammingError | InterfaceError):  # a table that is gone is made again; a value stays wrong
        return tried >= _TRIES
    if isinstance(error, DBAPIError):  # among them an IntegrityError: somebody wrote the same row meanwhile
        return False
    return isinstance(error, StatementError) or not isinstance(error, SQLAlchemyError | ImproperlyConfigured | OSError)


def _short(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {cause}".strip().partition("\n")[0][:300]
