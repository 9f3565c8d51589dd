"""Which URLs mean a database, as Celery writes them, and which file or server they mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.servers.urls import masked

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_database", "is_file", "masked", "needs_cluster", "resolved"]

_PREFIX: Final = re.compile(r"^(db|database)\+", re.IGNORECASE)
_DATABASES: Final = frozenset({"cockroachdb", "mariadb", "mssql", "mysql", "oracle", "postgresql", "sqlite"})
_SQLITE: Final = re.compile(r"^(sqlite(?:\+\w+)?)://(.*)$", re.IGNORECASE | re.DOTALL)


def is_database(url: str) -> bool:
    """Whether a ``result_backend`` means a database: ``db``, ``db+sqlite:///…``, or the URL alone."""
    scheme = url.partition("://")[0].lower()
    return scheme in {"db", "database"} or bool(_PREFIX.match(url)) or scheme.partition("+")[0] in _DATABASES


def is_file(url: str) -> bool:
    """Whether a ``result_backend`` means an SQLite database."""
    return _SQLITE.match(_PREFIX.sub("", url)) is not None


def needs_cluster(url: str) -> bool:
    """Whether a URL means something outside of this process."""
    return not url.startswith(("local://", "memory://", "cache+memory://"))


def resolved(url: str, database_url: str | None, folder: Path | None = None) -> str:
    """Return the URL for SQLAlchemy; the file of an SQLite database is an absolute path from now on.

    Parameters
    ----------
    url
        The ``result_backend``.
    database_url
        The setting of that name, which is meant when `url` is ``db`` alone.
    folder
        What a relative path starts from; the working directory by default.

    Raises
    ------
    ImproperlyConfigured
        When the URL names no database that could keep anything.
    """
    found = _PREFIX.sub("", url)
    if found.lower().partition("://")[0] in {"db", "database"}:
        if not database_url:
            msg = 'result_backend "db" needs database_url, such as "sqlite:///results.sqlite"; or say both in one: '
            raise ImproperlyConfigured(msg + '"db+sqlite:///results.sqlite"')
        found = _PREFIX.sub("", database_url)
    sqlite = _SQLITE.match(found)
    if sqlite is None:
        return found
    scheme, rest = sqlite.groups()
    path, mark, query = rest.partition("?")
    if path.startswith("/file:") or "uri=true" in query.lower():
        return found  # SQLite's own URI, taken as it is
    name = path.removeprefix("/")
    if not path.startswith("/") or name in {"", ":memory:"}:
        msg = (
            f"result_backend {masked(url)!r} names no file: results in memory end with this process, as they do "
            f"without result_backend. A file is named after three slashes, as in db+sqlite:///results.sqlite, or after "
            f"four when its path is absolute"
        )
        raise ImproperlyConfigured(msg)
    from pathlib import Path

    file = (folder or Path.cwd()) / Path(name).expanduser()
    return f"{scheme}:///{file.absolute().as_posix()}{mark}{query}"
