"""The tables: Celery's two (5.7, with ``result_extended``), and ours for runs; making them, and what may go wrong.

Where a table is there already it is taken as it is: columns it lacks are added, as Celery does; where that is not
allowed they are left out of what is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from time import sleep
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from nbcanvas.backend.urls import masked
from nbcanvas.errors import ImproperlyConfigured

__all__ = ["Tables", "explained", "open_engine", "prepare"]

log = logging.getLogger("nbcanvas.backend")

#: How long SQLite waits for another process that writes, in milliseconds.
_BUSY: Final = 10_000
_ATTEMPTS: Final = 6
_NUMBER: Final = sa.Integer().with_variant(sa.BigInteger, "mssql")


class Tables:
    """The tables, as this database has them.

    Attributes
    ----------
    tasks, groups
        Celery's ``celery_taskmeta`` and ``celery_tasksetmeta``.
    runs
        ``nbcanvas_run``.

    Parameters
    ----------
    names, schemas
        Celery's ``database_table_names`` and ``database_table_schemas``, by ``"task"`` and ``"group"``, and ours by
        ``"run"``.
    extended
        Whether there are columns for a task's name, arguments and worker (``result_extended``).
    """

    def __init__(self, names: Mapping[str, str], schemas: Mapping[str, str], *, extended: bool = True) -> None:
        self._metadata = metadata = sa.MetaData()
        extra = [
            sa.Column("name", sa.String(155), nullable=True),
            sa.Column("args", sa.LargeBinary, nullable=True),
            sa.Column("kwargs", sa.LargeBinary, nullable=True),
            sa.Column("worker", sa.String(155), nullable=True),
            sa.Column("retries", sa.Integer, nullable=True),
            sa.Column("queue", sa.String(155), nullable=True),
            sa.Column("stamps", sa.LargeBinary, nullable=True),
        ]
        task, group, run = schemas.get("task"), schemas.get("group"), schemas.get("run") or schemas.get("task")
        self.tasks = sa.Table(
            names.get("task") or "celery_taskmeta",
            metadata,
            _key("task_id_sequence", task),
            sa.Column("task_id", sa.String(155), unique=True),
            sa.Column("status", sa.String(50)),
            sa.Column("result", sa.LargeBinary, nullable=True),
            sa.Column("date_done", sa.DateTime, nullable=True, index=True),
            sa.Column("traceback", sa.Text, nullable=True),
            sa.Column("children", sa.LargeBinary, nullable=True),
            *(extra if extended else ()),
            schema=task,
            sqlite_autoincrement=True,
        )
        self.groups = sa.Table(
            names.get("group") or "celery_tasksetmeta",
            metadata,
            _key("taskset_id_sequence", group),
            sa.Column("taskset_id", sa.String(155), unique=True),
            sa.Column("result", sa.LargeBinary, nullable=True),
            sa.Column("date_done", sa.DateTime, nullable=True, index=True),
            schema=group,
            sqlite_autoincrement=True,
        )
        self.runs = sa.Table(
            names.get("run") or "nbcanvas_run",
            metadata,
            sa.Column("id", sa.String(155), primary_key=True),
            sa.Column("name", sa.String(155), nullable=True),
            sa.Column("started", sa.Float(53), index=True),  # seconds since the epoch, as events have them
            sa.Column("finished", sa.Float(53), nullable=True),
            sa.Column("seen", sa.Float(53)),
            sa.Column("kernel", sa.String(255)),
            sa.Column("version", sa.Integer),
            sa.Column("plan", sa.LargeBinary().with_variant(sa.LargeBinary(2**31), "mysql", "mariadb")),
            sa.Column("state", sa.LargeBinary().with_variant(sa.LargeBinary(2**31), "mysql", "mariadb")),
            schema=run,
        )
        self.columns = tuple(column.name for column in self.tasks.columns)

    def create(self, engine: sa.Engine) -> None:
        """Make what is not there yet."""
        for attempt in range(_ATTEMPTS):
            try:
                self._metadata.create_all(engine)
                break
            except DBAPIError as error:
                made_meanwhile = any(word in str(error.orig).lower() for word in ("exist", "duplicate", "unique"))
                if not made_meanwhile or attempt + 1 == _ATTEMPTS:
                    raise
                sleep(0.02 * 2**attempt)  # another process makes the same tables just now
        self._complete(engine)

    def _complete(self, engine: sa.Engine) -> None:
        """Add the columns that an older Celery's table lacks; go on without those that cannot be added."""
        table = self.tasks
        preparer = engine.dialect.identifier_preparer
        there = {str(c["name"]) for c in sa.inspect(engine).get_columns(table.name, schema=table.schema)}
        for column in table.columns:
            if column.name in there:
                continue
            kind = column.type.compile(engine.dialect)
            adding = f"ALTER TABLE {preparer.format_table(table)} ADD COLUMN {preparer.quote(column.name)} {kind}"
            try:
                with engine.begin() as connection:
                    connection.execute(sa.text(adding))
                there.add(column.name)
            except DBAPIError as error:
                log.warning("%s is not kept: %s fails (%s)", column.name, adding, error.orig)
        self.columns = tuple(name for name in self.columns if name in there)


def _key(sequence: str, schema: str | None) -> sa.Column[int]:
    return sa.Column("id", _NUMBER, sa.Sequence(sequence, schema=schema), primary_key=True, autoincrement=True)


def open_engine(
    url: str,
    options: Mapping[str, Any],
    *,
    short_lived: bool = False,
    callback: Callable[[Any], Any] | None = None,
) -> sa.Engine:
    """Return an engine.

    Parameters
    ----------
    url
        The database.
    options
        Celery's ``database_engine_options``.
    short_lived
        Connect anew for each use (Celery's ``database_short_lived_sessions``).
    callback
        Is given the engine (Celery's ``database_engine_callback``).

    Raises
    ------
    ImproperlyConfigured
        When there is no driver for the URL, or an option does not exist.
    """
    options = {"hide_parameters": True, **options}  # values belong in no log
    if short_lived:
        options = {
            k: v for k, v in options.items() if not k.startswith("pool") and k not in {"max_overflow", "echo_pool"}
        }
        options["poolclass"] = NullPool
    try:
        engine = sa.create_engine(url, **options)
    except (ArgumentError, NoSuchModuleError, ImportError, TypeError) as error:
        hint = f"; install the driver, {error.name}" if isinstance(error, ImportError) and error.name else ""
        msg = f"result_backend {masked(url)}: {masked(_first_line(error))}{hint}"
        raise ImproperlyConfigured(msg) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite)
    if callback is not None:
        callback(engine)
    return engine


def _sqlite(connection: Any, _record: Any) -> None:
    """Let several processes use one file: readers do not wait for the writer, and writers wait for each other."""
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout={_BUSY}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
    finally:
        cursor.close()


def prepare(engine: sa.Engine, tables: Tables) -> None:
    """Make the tables, or say clearly why that cannot be.

    Raises
    ------
    ImproperlyConfigured
        When the database cannot be opened or written to.
    """
    try:
        tables.create(engine)
    except SQLAlchemyError as error:
        raise ImproperlyConfigured(explained(engine.url, error)) from None


#: What SQLite says -> what that means.
_MEANINGS: Final = {
    "unable to open database file": "it cannot be opened",
    "readonly": "it may not be written to",
    "locked": f"another process has held it locked for {_BUSY // 1000} seconds",
    "not a database": "the file is no SQLite database; name another one, or move this one away",
    "malformed": "the database is damaged; move it away, or repair it with sqlite3's .recover",
}


def explained(url: sa.URL, error: SQLAlchemyError) -> str:
    """Say what is wrong with a database, and what to do about it."""
    said = str(error.orig) if isinstance(error, DBAPIError) else _first_line(error)
    where = masked(url.render_as_string(hide_password=True))
    if url.get_backend_name() != "sqlite":
        return f"result_backend {where}: the database cannot be used: {masked(said.strip())}"
    file = Path((url.database or "").removeprefix("file:").partition("?")[0])
    why = next((meaning for sign, meaning in _MEANINGS.items() if sign in said.lower()), said)
    if not file.parent.is_dir():
        why = f"there is no folder {file.parent}: make it first"
    elif file.is_dir():
        why = "that is a folder: name a file in it"
    return f"result_backend sqlite: {file}: {why}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
