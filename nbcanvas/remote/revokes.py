"""What has been revoked: ids and stamps, bounded and for a while, merged with what others know."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple, Protocol

__all__ = ["News", "RevokeStore", "Revokes", "stamp_values"]

log = logging.getLogger("nbcanvas.remote")

#: As Celery's workers: so many ids are remembered, the oldest go first, and none longer than so many seconds.
MOST: Final = 50_000
SECONDS: Final = 10_800.0


class News(NamedTuple):
    """What has been revoked since the last look.

    Attributes
    ----------
    ids
        Task ids.
    stamps
        ``(stamp name, value)``.
    cursor
        What to say the next time.
    """

    ids: Iterable[str]
    stamps: Iterable[tuple[str, Any]]
    cursor: float


class RevokeStore(Protocol):
    """Keeps revokes on the broker's server, for workers that are not there yet."""

    def add(self, ids: Iterable[str], stamps: Iterable[tuple[str, Any]]) -> None:
        """Keep them."""

    def since(self, cursor: float) -> News:
        """Return what was added at that time or later."""


class Revokes:
    """The revoked ids and stamps that one process knows.  Thread-safe.

    Parameters
    ----------
    store
        Where they survive this process; None keeps them here alone.

    Attributes
    ----------
    ids
        Revoked ids, oldest first, and since when; to be read without asking.
    stamps
        Stamp name -> revoked values.
    """

    def __init__(self, store: RevokeStore | None = None) -> None:
        self.store = store
        self.ids: dict[str, float] = {}
        self.stamps: dict[str, set[Any]] = {}
        self._cursor = 0.0
        self._lock = threading.Lock()

    def add(self, ids: Iterable[str]) -> None:
        """Revoke ids."""
        now = time()
        with self._lock:
            self.ids.update(dict.fromkeys(ids, now))
            while len(self.ids) > MOST:
                del self.ids[next(iter(self.ids))]

    def add_stamps(self, headers: Mapping[str, Any]) -> None:
        """Revoke stamps: stamp name -> a value, or several."""
        with self._lock:
            for name, values in headers.items():
                self.stamps.setdefault(name, set()).update(stamp_values(values))

    def keep(self, ids: Iterable[str] = (), headers: Mapping[str, Any] | None = None) -> None:
        """Put what was revoked where it survives this process."""
        if self.store is not None:
            self.store.add(
                ids, [(name, one) for name, values in (headers or {}).items() for one in stamp_values(values)]
            )

    def refresh(self) -> bool:
        """Read what others have put there since the last look; whether there was anything new."""
        if self.store is None:
            return False
        news = self.store.since(self._cursor)
        self._cursor = news.cursor
        fresh = [one for one in news.ids if one not in self.ids]
        stamps = [(name, value) for name, value in news.stamps if value not in self.stamps.get(name, ())]
        self.add(fresh)
        for name, value in stamps:
            self.add_stamps({name: [value]})
        return bool(fresh or stamps)

    def purge(self) -> None:
        """Forget what was revoked long ago."""
        before = time() - SECONDS
        with self._lock:
            while self.ids and next(iter(self.ids.values())) < before:
                del self.ids[next(iter(self.ids))]

    def hits(self, task_id: str, stamps: Mapping[str, Any] | None = None) -> bool:
        """Say whether a task is not to run."""
        if task_id in self.ids:
            return True
        return bool(stamps and self.stamps) and any(
            self.stamps[name].intersection(stamp_values(value))
            for name, value in (stamps or {}).items()
            if name in self.stamps
        )

    # -- a file (``--statedb``) ---------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write them to a file."""
        with self._lock:
            state = {"revoked": self.ids, "stamps": [[name, [*values]] for name, values in self.stamps.items()]}
            text = json.dumps(state, default=str)
        file = Path(path)
        new = file.with_name(f"{file.name}.new")
        new.write_text(text, "utf-8")
        new.replace(file)

    def load(self, path: str | Path) -> None:
        """Read them from a file that `save` wrote; one that is not there, or of something else, says nothing."""
        file = Path(path)
        if not file.exists():
            return
        try:
            state = json.loads(file.read_text("utf-8"))
            ids = {str(one): float(since) for one, since in state["revoked"].items()}
            stamps = {str(name): [*values] for name, values in state["stamps"]}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s is no file of revokes, and is left alone: %s", file, type(error).__name__)
            return
        with self._lock:
            self.ids.update(ids)
        self.add_stamps(stamps)
        self.purge()


def stamp_values(values: Any) -> Iterable[Hashable]:
    """Return one value, or several, as values that a set can have."""
    several = values if isinstance(values, list | tuple | set | frozenset) else (values,)
    return [one if isinstance(one, Hashable) else repr(one) for one in several]
