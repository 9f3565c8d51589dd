"""Claims: of the processes that want to begin a task, one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from nbcanvas import states
from nbcanvas.backend.port import Record

from .rows import Rows
from .tables import Tables

__all__ = ["claimed"]

#: Ids in one question; every database takes so many parameters.
_CHUNK: Final = 900

Claim = tuple[str, Record, Callable[[Record], bool]]


def claimed(connection: sa.Connection, tables: Tables, rows: Rows, claims: Sequence[Claim]) -> list[Record | None]:
    """Store records that say that a task begins, where no other does and the task has not ended.

    A row is inserted, which works once, or changed as it was found; so whatever a database isolates, of two processes
    one finds that the other was there first, and looks again.

    Parameters
    ----------
    connection
        In a transaction, which is tried again when this raises.
    tables, rows
        The database's.
    claims
        The task, its record, and whether another process's record gives way to that.

    Returns
    -------
    list of Record
        For each claim, None, or what stands in the way.

    Raises
    ------
    OSError
        When a row changed meanwhile; so does SQLAlchemy, when one came.
    """
    table, there = tables.tasks, dict[str, dict[str, Any]]()
    ids = [task_id for task_id, _, _ in claims]
    for start in range(0, len(ids), _CHUNK):
        some = table.c.task_id.in_(ids[start : start + _CHUNK])
        columns = [table.c[name] for name in tables.columns]
        there.update(
            (row["task_id"], dict(row)) for row in connection.execute(sa.select(*columns).where(some)).mappings()
        )
    found: list[Record | None] = []
    new: dict[str, dict[str, Any]] = {}
    for task_id, record, over in claims:
        row = {name: value for name, value in rows.row(task_id, record).items() if name in tables.columns}
        old = there.get(task_id)
        if old is None:
            new[task_id] = row
        elif not _is_same(old, row):
            stands = rows.record(old)
            if _is_in_the_way(stands, over):
                found.append(stands)
                continue
            _change(connection, table, old, row)
            there[task_id] = row
        found.append(None)
    if new:
        connection.execute(sa.insert(table), [*new.values()])
    return found


def _is_same(old: dict[str, Any], row: dict[str, Any]) -> bool:
    return (old["status"], old["result"]) == (row["status"], row["result"])


def _is_in_the_way(stands: Record, over: Callable[[Record], bool]) -> bool:
    if stands.state == states.STARTED:
        return not over(stands)
    return stands.state in states.READY_STATES


def _change(connection: sa.Connection, table: sa.Table, old: dict[str, Any], row: dict[str, Any]) -> None:
    """Change a row, if it is as it was found."""
    same = (table.c.task_id == old["task_id"]) & (table.c.status == old["status"])
    same &= table.c.result.is_(None) if old["result"] is None else table.c.result == old["result"]
    if connection.execute(sa.update(table).where(same).values(row)).rowcount != 1:
        msg = f"task {old['task_id']} changed meanwhile"
        raise OSError(msg)
