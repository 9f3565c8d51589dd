"""Runs in a table of ours, beside Celery's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from nbcanvas.backend.port import Record, RunLine, StoredRun
from nbcanvas.plan.model import Call

from .writer import Op, Writer

__all__ = ["Runs", "put"]

#: Seconds that one who asks for it waits until a run is written.
_PATIENCE = 5.0


class Runs:
    """Keeps runs in a table.

    Parameters
    ----------
    table
        The table.
    writer
        The thread that writes.
    reading
        Opens a connection to read from.
    results
        Returns the records of those of some calls that ended.
    where
        The database, without a password.

    Attributes
    ----------
    trusted
        Whether pickles may be kept: as Celery's own tables do.
    """

    trusted = True

    def __init__(
        self,
        table: sa.Table,
        writer: Writer,
        reading: Callable[[], AbstractContextManager[sa.Connection]],
        results: Callable[[Sequence[Call]], Mapping[str, Record]],
        where: str,
    ) -> None:
        self._table = table
        self._writer = writer
        self._reading = reading
        self.results = results
        self._where = where

    def put(self, run_id: str, describe: Callable[[], StoredRun], *, at_once: bool = False) -> None:
        """Keep a run: in a moment, `describe` being called in another thread; or before this returns (`at_once`)."""

        def act(connection: sa.Connection) -> None:
            row = describe()._asdict()
            del row["id"]
            put(connection, self._table.c.id, run_id, row)

        self._writer.put(Op(task_id=run_id, act=act))
        if at_once:
            self._writer.flush(_PATIENCE)

    def drop(self, run_id: str) -> None:
        """Keep a run no longer."""
        table = self._table
        self._writer.put(Op(task_id=run_id, act=lambda one: one.execute(sa.delete(table).where(table.c.id == run_id))))

    def update(self, run_id: str, news: Callable[[], Mapping[str, Any]]) -> None:
        """Keep what is new of a run, in a moment, if the run is still kept; `news` is called as `describe` is."""
        table = self._table
        said: dict[str, Any] = {}

        def act(connection: sa.Connection) -> None:
            if not said:  # a transaction that is tried again says the same
                said.update(news())
            connection.execute(sa.update(table).where(table.c.id == run_id).values(said))

        self._writer.put(Op(task_id=run_id, act=act))

    def look(self, run_id: str) -> StoredRun | None:
        """Return a run, or None."""
        table = self._table
        with self._reading() as connection:
            found = connection.execute(sa.select(table).where(table.c.id == run_id)).one_or_none()
        return None if found is None else StoredRun(*found)

    def lines(self, limit: int | None = None) -> Sequence[RunLine]:
        """Return the runs there are, the latest first."""
        columns = self._table.c
        wanted = sa.select(columns.id, columns.name, columns.started).order_by(columns.started.desc()).limit(limit)
        with self._reading() as connection:
            return [RunLine(*row) for row in connection.execute(wanted)]

    def where(self) -> str:
        """Say where that is, without a password."""
        return self._where


def put(connection: sa.Connection, key: sa.Column[Any], value: str, row: dict[str, Any]) -> None:
    """Write a row: over the one with that key, or as a new one."""
    table: Any = key.table
    if not connection.execute(sa.update(table).where(key == value).values(row)).rowcount:
        connection.execute(sa.insert(table).values({key.name: value, **row}))
