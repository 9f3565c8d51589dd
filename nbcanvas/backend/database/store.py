"""The database backend: what happens, happens in memory; what is to be kept, is written behind it."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from time import monotonic, time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nbcanvas import states
from nbcanvas.backend.encoding import Encoding
from nbcanvas.backend.local import LocalBackend, OnEnd
from nbcanvas.backend.port import Record, RunStore, Tree, flush_all
from nbcanvas.backend.unlock import unlocks
from nbcanvas.backend.urls import masked
from nbcanvas.errors import ServerLost
from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Call, Exit, Failed, Join, Message, Node, Value

from .claims import claimed
from .follower import Follower
from .rows import Rows, moment, now
from .runs import Runs, put
from .tables import Tables, explained, open_engine, prepare
from .writer import Op, Writer

__all__ = ["DatabaseBackend"]

#: Ids in one question; every database takes so many parameters.
_CHUNK: Final = 900
#: How long an id that was not found is not looked for again.
_ABSENT_FOR: Final = 0.5
_ABSENT_AT_MOST: Final = 10_000
#: How long the end of the process waits for what is not written yet.
_LAST_WORDS: Final = 10.0
#: States that end a task, or an attempt of it, as Celery stores them.
_STORED: Final = states.READY_STATES | {states.RETRY}
_SETTLED: Final = _STORED - {states.REVOKED}
#: How long a fork waits for a transaction to end.
_FORK: Final = 2.0
#: How long `forget` and its like wait for the database.
_ANSWER: Final = 30.0


class DatabaseBackend:
    """Results in a database's tables, Celery's, which Celery reads and writes as well.

    The worker inside this process works with the backend in memory: barriers and watches live there, and a result is
    there at once.  A thread writes behind it, many results in a transaction; who waits for a result is told when it is
    written.  A task that another process works on is looked for twice a second while somebody waits for it.

    Whoever may write to the database can have code run by those who read from it (results and plans may be pickles,
    as Celery's are): a database is shared with those one trusts.

    Parameters
    ----------
    url
        The database, as SQLAlchemy wants it.
    local
        The backend in memory.
    encoding
        How values look.
    queue_of, tree_of
        The queue of a call; what a task started, as plain data.
    expires
        Seconds after which `cleanup` drops results (Celery's ``result_expires``); None keeps all.
    shared
        Workers are other processes: their results count as much as this one's, and nobody counts the slots of a
        barrier, so a task does (`nbcanvas.backend.unlock`).
    names, schemas, options, short_lived, callback, create, extended
        Celery's settings ``database_table_names``, ``database_table_schemas``, ``database_engine_options``,
        ``database_short_lived_sessions``, ``database_engine_callback``, ``database_create_tables_at_setup`` and
        ``result_extended``.

    Raises
    ------
    ImproperlyConfigured
        When the database cannot be used.
    """

    def __init__(
        self,
        url: str,
        local: LocalBackend | None = None,
        encoding: Encoding | None = None,
        *,
        queue_of: Callable[[Call], str] = lambda _: "celery",
        tree_of: Callable[[Any], Tree] = lambda child: child,
        expires: Callable[[], float | None] = lambda: None,
        shared: bool = False,
        names: Mapping[str, str] | None = None,
        schemas: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        short_lived: bool = False,
        callback: Callable[[Any], Any] | None = None,
        create: bool = True,
        extended: bool = True,
    ) -> None:
        self._local = local if local is not None else LocalBackend(expires)
        self._encoding = (encoding or Encoding()).trusting()
        self._expires = expires
        self._shared = shared
        self._rows = Rows(self._encoding, queue_of, tree_of)
        self._engine = open_engine(url, options or {}, short_lived=short_lived, callback=callback)
        self._where = masked(self._engine.url.render_as_string(hide_password=True))
        self._tables = Tables(names or {}, schemas or {}, extended=extended)
        self._prepared = False
        self._held: list[threading.Lock] = []
        self._reset()
        if create:
            self._prepare()
        _open.add(self)

    def _reset(self) -> None:
        """Begin with nothing to write, and nobody who writes: a new backend, or one in a child that was forked."""
        self._writer = Writer(self._begin, self._store, self._unprepared, self._where)
        self._runs = Runs(self._tables.runs, self._writer, self._reading, self.results, self._where)
        self._follower = Follower(self._foreign, self._look)
        self._own: set[str] = set()
        self._absent: dict[str, float] = {}
        self._unwritten: dict[str, Record] = {}
        self._preparing = threading.Lock()
        self._readers = threading.Lock()

    def _locks(self) -> tuple[threading.Lock, threading.Lock]:
        return self._writer.writing, self._readers

    def _before_fork(self) -> None:
        """Wait until nobody is in the middle of something: a child would wait for that for ever."""
        self._held = [lock for lock in self._locks() if lock.acquire(timeout=_FORK)]

    def _after_fork(self, *, child: bool) -> None:
        for lock in self._held:
            lock.release()
        if child:
            self._engine.dispose(close=False)  # its connections are the parent's
            self._reset()

    def __repr__(self) -> str:
        return f"<DatabaseBackend {self._where}>"

    def _prepare(self) -> None:
        with self._preparing:
            if not self._prepared:
                prepare(self._engine, self._tables)
                self._prepared = True

    def _unprepared(self) -> None:
        """Look again whether the tables are there."""
        self._prepared = False

    def _begin(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction."""
        if not self._prepared:
            self._prepare()
        return self._engine.begin()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Open a connection to read from."""
        if not self._prepared:
            self._prepare()
        try:
            with self._readers, self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise OSError(explained(self._engine.url, error)) from error

    # -- tasks --------------------------------------------------------------------------------------------------------

    def refuse(self, node: Node) -> None:
        """Do nothing: any canvas can run here."""

    def expect(self, task_ids: Iterable[str]) -> None:
        """Hear that these tasks will be worked on in this process: the database has nothing to say of them."""
        if not self._shared:
            self._own.update(one for one in task_ids if self._local.get(one) is None)

    def tells(self, task_id: str) -> bool:
        """Whether it is a task of this process that may have ended, and not be written: who waits does not ask."""
        return task_id in self._untold()

    def _untold(self) -> Collection[str]:
        """Return the ids whose ends are told once they are written; none in the thread that writes, which tells."""
        return () if self._writer.is_this_thread else self._own

    def settle(self, task_id: str, record: Record) -> bool:
        """Store how an attempt ended; False (and nothing stored) when that attempt, or a later one, was settled."""
        if self._shared:
            return self._settle_shared(task_id, record)
        if not self._local.settle(task_id, record):
            return False
        if record.state != states.PENDING:  # of a task that was replaced; Celery's tables do not know it either
            self._writer.put(Op(task_id, record))
        return True

    def _settle_shared(self, task_id: str, record: Record) -> bool:
        old = self._now((task_id,)).get(task_id)
        # A REVOKED may be the word of who revoked it, while its message waits: its end has not been performed then.
        if old is not None and old.state in _SETTLED and old.settled >= record.settled:
            return False
        if record.state in _STORED:
            self._keep_until_written(task_id, record)
        return True

    def _keep_until_written(self, task_id: str, record: Record) -> None:
        """Write a record; until that is done, it is what this process knows."""
        self._unwritten[task_id] = record

        def written() -> None:
            if self._unwritten.get(task_id) is record:
                del self._unwritten[task_id]

        self._writer.put(Op(task_id, record, then=written))

    def _now(self, task_ids: Sequence[str]) -> dict[str, Record]:
        """Return what is known of tasks that any process may work on, just now."""
        unwritten = self._unwritten
        found = {one: record for one in task_ids if (record := unwritten.get(one)) is not None}
        return found | self._read([one for one in task_ids if one not in found])

    def announce(self, task_id: str, record: Record) -> None:
        """Tell those who watch a settled task that it has ended, once that is written."""
        if self._shared and not self._local.watches(task_id):
            return
        self._writer.put(Op(then=partial(self._written, task_id, record)))

    def _written(self, task_id: str, record: Record) -> None:
        self._own.discard(task_id)
        self._local.announce(task_id, record)

    def update(self, task_id: str, record: Record) -> bool:
        """Store a state on the way; False (and nothing stored) when the task has ended."""
        if self._shared:
            old = self._now((task_id,)).get(task_id)
            if old is not None and old.state in states.READY_STATES:
                return False
            self._keep_until_written(task_id, record)
            if record.state in states.READY_STATES:
                self.announce(task_id, record)
            return True
        if not self._local.keep(task_id, record):
            return False
        self._writer.put(Op(task_id, record))
        if record.state in states.READY_STATES:
            self.announce(task_id, record)
        return True

    def claim(self, claims: Sequence[tuple[str, Record, Callable[[Record], bool]]]) -> list[Record | None]:
        """Store that tasks begin, each unless it has ended, or another process has stored that it begins.

        Parameters
        ----------
        claims
            The task, its record, and whether another one's record gives way to that.

        Returns
        -------
        list of Record
            For each, None when it is stored, or what stands in the way.

        Raises
        ------
        ServerLost
            When the database has not answered in time; they may be stored later.
        """
        found: list[Record | None] = []

        def act(connection: sa.Connection) -> None:
            found[:] = claimed(connection, self._tables, self._rows, claims)

        done = threading.Event()
        self._writer.put(Op(act=act, then=done.set))
        self._writer.hurry()
        if not done.wait(_ANSWER):
            msg = f"{self._where} has not answered for {_ANSWER:.0f} seconds"
            raise ServerLost(msg)
        return found

    def get(self, task_id: str) -> Record | None:
        """Return what is known of a task, or None."""
        record = self._local.get(task_id) or self._unwritten.get(task_id)
        if record is not None or task_id in self._own:
            return record
        absent = self._absent.get(task_id)
        if absent is not None and monotonic() - absent < _ABSENT_FOR:
            return None
        record = self._read((task_id,)).get(task_id)
        if record is None:
            if len(self._absent) > _ABSENT_AT_MOST:
                self._absent.clear()
            self._absent[task_id] = monotonic()
        elif record.state == states.SUCCESS:  # which does not change any more
            self._local.settle(task_id, record)
        return record

    def forget(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""
        ids = list(task_ids)
        self._local.forget(ids)
        for one in ids:
            self._unwritten.pop(one, None)
        table = self._tables.tasks

        def act(connection: sa.Connection) -> None:
            for chunk in _chunks(ids):
                connection.execute(sa.delete(table).where(table.c.task_id.in_(chunk)))

        self._do(act)

    def dispatched(self, join: Join) -> None:
        """Do nothing: whoever filled the last slot had them all."""

    def watch(self, task_ids: Iterable[str], on_end: OnEnd) -> Callable[[], None]:
        """Call `on_end` once for each of the tasks when it ends, or at once when it has; returns the way to stop."""
        ids = list(task_ids)
        later = self._untold()
        stop = self._local.watch(ids, on_end, later)
        if later:
            for one in ids:
                record = self._local.get(one) if one in later else None
                if record is not None and record.state in states.READY_STATES:
                    self.announce(one, record)
        if self._foreign():
            self._follower.wake()
        return stop

    def catch_up(self, task_ids: Iterable[str]) -> None:
        """Tell those who watch these tasks of the ends that are stored, and of which they have not heard yet."""
        open_ = set(self._foreign())
        self._look([one for one in task_ids if one in open_])

    def _foreign(self) -> Collection[str]:
        """Return the ids that are watched, and that this process does not work on."""
        return [one for one in self._local.watched() if one not in self._own]

    def _look(self, task_ids: Collection[str]) -> bool:
        some = False
        found = self._read(task_ids)
        for task_id in task_ids:  # in this order: what comes first in a canvas is heard of first
            record = found.get(task_id)
            if record is not None and record.state in states.READY_STATES:
                self._local.settle(task_id, record)
                self._local.announce(task_id, record)
                some = True
        return some

    # -- barriers live in this process --------------------------------------------------------------------------------

    def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Record]:
        """Return what is known of several tasks; what nothing is known of is not in it."""
        local, unwritten = self._local.get, self._unwritten.get
        found = {one: record for one in task_ids if (record := local(one) or unwritten(one)) is not None}
        return found | self._read([one for one in task_ids if one not in found and one not in self._own])

    def open(self, joins: Sequence[Join]) -> Sequence[Message]:
        """Return the tasks that look after barriers of several processes; others wait in the memory of this one."""
        return unlocks(joins) if self._shared else ()

    def arrive(self, arrival: Arrival) -> list[tuple[Exit, str]] | None:
        """Fill a slot; the call that fills the last one, and no other, gets every slot's exit and filler."""
        if not self._shared:
            return self._local.arrive(arrival)
        # A task looks whether the results are there; what a group hands on is one, under the group's own id.
        if not self._now((arrival.by,)):
            self._keep_until_written(arrival.by, _record_of(arrival.exit))
        return None

    def joins(self) -> Mapping[str, tuple[Join, int]]:
        """Return the barriers that wait, each with how many of its slots are filled."""
        return self._local.joins()

    # -- groups -------------------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, tree: Tree) -> None:
        """Keep a group's result tree under its id."""
        table = self._tables.groups
        row = {"result": self._encoding.dump(tree), "date_done": now()}

        def act(connection: sa.Connection) -> None:
            put(connection, table.c.taskset_id, group_id, row)

        self._do(act)

    def restore_group(self, group_id: str) -> Tree | None:
        """Return a saved tree."""
        table = self._tables.groups
        with self._reading() as connection:
            found = connection.execute(sa.select(table.c.result).where(table.c.taskset_id == group_id)).scalar()
        tree: Tree | None = None if found is None else self._encoding.load(found)
        return tree

    def delete_group(self, group_id: str) -> None:
        """Forget a saved tree."""
        table = self._tables.groups
        self._do(lambda connection: connection.execute(sa.delete(table).where(table.c.taskset_id == group_id)))

    # -- runs ---------------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> RunStore:
        """Where runs are kept: beside the results."""
        return self._runs

    # -- the database -------------------------------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Drop what has expired: results as Celery does (``celery.backend_cleanup``), and runs beside them."""
        self._local.cleanup()
        expires = self._expires()
        if not expires:
            return
        tables, before = self._tables, time() - expires

        def act(connection: sa.Connection) -> None:
            for table in (tables.tasks, tables.groups):
                connection.execute(sa.delete(table).where(table.c.date_done < moment(before)))
            connection.execute(sa.delete(tables.runs).where(tables.runs.c.seen < before))

        self._do(act)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is written; False when it is not in time."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Write what is not written, and let go of the database."""
        self._follower.stop()
        self._writer.close(_LAST_WORDS)
        self._engine.dispose()

    def _do(self, act: Callable[[sa.Connection], Any]) -> None:
        """Do something in the order of everything else, and wait for it."""
        self._absent.clear()
        done = threading.Event()
        self._writer.put(Op(act=act, then=done.set))
        if not done.wait(_ANSWER):
            msg = f"{self._where} has not answered for {_ANSWER:.0f} seconds; it is tried again"
            raise OSError(msg)

    def results(self, calls: Sequence[Call]) -> Mapping[str, Record]:
        """Return the records of those of the calls that ended, all at once; they are in memory from now on."""
        found = {call.id: record for call in calls if (record := self._local.get(call.id)) is not None}
        for task_id, record in self._read({call.id: call for call in calls if call.id not in found}).items():
            if record.state in states.READY_STATES:
                self._local.settle(task_id, record)
                found[task_id] = record
        return {task_id: record for task_id, record in found.items() if record.state in states.READY_STATES}

    def _read(self, tasks: Iterable[str] | Mapping[str, Call]) -> dict[str, Record]:
        """Return the records of the rows there are; of calls that are known, only what the row alone knows is read."""
        task_ids = list(tasks)
        if not task_ids:
            return {}
        table, make = self._tables.tasks, self._rows.record
        calls = tasks if isinstance(tasks, Mapping) else None
        unread = {"name", "kwargs", "queue", "stamps"} if calls is not None else set()
        columns = [table.c[name] for name in self._tables.columns if name not in unread]
        found: dict[str, Record] = {}
        with self._reading() as connection:
            for chunk in _chunks(task_ids):
                rows = connection.execute(sa.select(*columns).where(table.c.task_id.in_(chunk))).mappings().all()
                for row in rows:
                    found[row["task_id"]] = make(dict(row), None if calls is None else calls[row["task_id"]])
        return found

    def _store(self, connection: sa.Connection, records: dict[str, Record]) -> None:
        """Write records; a SUCCESS of another process is left alone, as Celery does."""
        table, columns = self._tables.tasks, set(self._tables.columns)
        there: dict[str, str] = {}
        for chunk in _chunks(list(records)):
            rows = connection.execute(sa.select(table.c.task_id, table.c.status).where(table.c.task_id.in_(chunk)))
            there.update((task_id, status) for task_id, status in rows)
        new: list[dict[str, Any]] = []
        old: list[dict[str, Any]] = []
        for task_id, record in records.items():
            if there.get(task_id) == states.SUCCESS and task_id not in self._own:
                continue
            row = {name: value for name, value in self._rows.row(task_id, record).items() if name in columns}
            if task_id in there:
                old.append({("key" if name == "task_id" else name): value for name, value in row.items()})
            else:
                new.append(row)
        if new:
            connection.execute(sa.insert(table), new)
        if old:
            changing: dict[str, Any] = {name: sa.bindparam(name) for name in old[0] if name != "key"}
            connection.execute(sa.update(table).where(table.c.task_id == sa.bindparam("key")).values(changing), old)


def _record_of(exit_: Exit) -> Record:
    if isinstance(exit_, Value):
        return Record(states.SUCCESS, exit_.payload, done=time())
    state = states.FAILURE if isinstance(exit_, Failed) else states.REVOKED
    return Record(state, None, exit_.exc, exit_.traceback, done=time())


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


_open: weakref.WeakSet[DatabaseBackend] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    flush_all(list(_open), _LAST_WORDS)


def _before_fork() -> None:
    for backend in list(_open):
        backend._before_fork()  # noqa: SLF001 - of this module


def _after_fork(*, child: bool = False) -> None:
    for backend in list(_open):
        backend._after_fork(child=child)  # noqa: SLF001 - of this module


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=partial(_after_fork, child=True))
