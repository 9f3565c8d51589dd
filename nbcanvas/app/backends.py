"""Which result backend the settings mean."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from nbcanvas.backend.local import LocalBackend
from nbcanvas.backend.port import Backend
from nbcanvas.backend.urls import is_database, resolved
from nbcanvas.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from nbcanvas.backend.encoding import Encoding

    from .app import App
    from .settings import Settings

__all__ = ["Backends", "encoding_of", "seconds"]

#: The settings a database backend is made of; it is made anew when one of them changes.
_SETTINGS: Final = (
    "accept_content",
    "database_create_tables_at_setup",
    "database_engine_callback",
    "database_engine_options",
    "database_short_lived_sessions",
    "database_table_names",
    "database_table_schemas",
    "database_url",
    "result_accept_content",
    "result_backend",
    "result_extended",
    "result_serializer",
)


class Backends:
    """The result backends of one app: the one in memory, and a database's when the settings name one.

    Results that are in memory stay there whichever is chosen.

    Parameters
    ----------
    app
        The app.

    Attributes
    ----------
    local
        The backend in memory.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.local = LocalBackend(self._expires)
        self._made: tuple[Any, Any] = (None, None)

    def chosen(self, *, shared: bool = False) -> Backend:
        """Return the backend that the settings mean.

        Parameters
        ----------
        shared
            Whether workers elsewhere write to it as well.

        Raises
        ------
        ImproperlyConfigured
            When it cannot be used.
        """
        conf = self._app.conf
        url = str(conf.result_backend or "")
        if not is_database(url):
            self.close()
            return self.local
        wanted = [shared, *[conf[name] for name in _SETTINGS]]
        settings, backend = self._made
        if settings != wanted:
            self.close()
            backend = self._database(url, shared=shared)
            self._made = wanted, backend
        found: Backend = backend
        return found

    def close(self) -> None:
        """Let go of the database."""
        backend = self._made[1]
        self._made = None, None
        if backend is not None:
            backend.close()

    def _database(self, url: str, *, shared: bool) -> Backend:
        app, conf = self._app, self._app.conf
        found = resolved(url, conf.database_url)
        try:
            from nbcanvas.backend.database import DatabaseBackend
        except ModuleNotFoundError as error:
            if error.name != "sqlalchemy":
                raise
            msg = "a database as result_backend needs SQLAlchemy: pip install sqlalchemy"
            raise ImproperlyConfigured(msg) from None
        from nbcanvas.result.trees import child

        return DatabaseBackend(
            found,
            self.local,
            encoding_of(conf),
            queue_of=app.queue_of,
            tree_of=lambda started: child(started, app).as_tuple(),
            expires=self._expires,
            shared=shared,
            names=_texts("database_table_names", conf.database_table_names),
            schemas=_texts("database_table_schemas", conf.database_table_schemas),
            options=conf.database_engine_options or {},
            short_lived=bool(conf.database_short_lived_sessions),
            callback=_callback(conf.database_engine_callback),
            create=bool(conf.database_create_tables_at_setup),
            extended=bool(conf.result_extended),
        )

    def _expires(self) -> float | None:
        return seconds(self._app.conf.result_expires)


def encoding_of(conf: Settings) -> Encoding:
    """Return how the settings have results look."""
    from nbcanvas.backend.encoding import Encoding

    accept = conf.accept_content if conf.result_accept_content is None else conf.result_accept_content
    return Encoding(conf.result_serializer, accept)


def seconds(expires: Any) -> float | None:
    """Return a setting that is a number of seconds, a timedelta, or None."""
    return expires.total_seconds() if isinstance(expires, timedelta) else expires


def _texts(setting: str, value: Any) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not set(value) <= {"task", "group", "run"}:
        msg = f"{setting} is a mapping with the keys 'task', 'group' and 'run', not {value!r}"
        raise ImproperlyConfigured(msg)
    return value


def _callback(named: Any) -> Callable[[Any], Any] | None:
    """Return what is given the engine: a function, or its name."""
    found = named
    if isinstance(named, str):
        module, _, name = named.replace(":", ".").rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            msg = f"database_engine_callback {named!r} cannot be imported: {error}"
            raise ImproperlyConfigured(msg) from None
    if found is not None and not callable(found):
        msg = f"database_engine_callback must be a function or the name of one, not {named!r}"
        raise ImproperlyConfigured(msg)
    kept: Callable[[Any], Any] | None = found
    return kept
