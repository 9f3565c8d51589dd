"""The thread that reads: it looks for the ends of tasks that other processes work on, all of them at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any, Final

__all__ = ["Follower"]

log = logging.getLogger("nbcanvas.backend")

#: Seconds between looks: while results come, and at most; a look that takes long is followed by a longer rest.
_SOON: Final = 0.05
_EVERY: Final = 0.5
_SHARE: Final = 5.0
_AT_MOST: Final = 30.0


class Follower:
    """Looks while there is something to look for, often while something is found, and ends when there is nothing.

    Parameters
    ----------
    wanted
        The ids of tasks somebody waits for, and this process does not work on.
    look
        Reads what has become of tasks, and tells those who wait; says whether any has ended.
    """

    def __init__(self, wanted: Callable[[], Collection[str]], look: Callable[[Collection[str]], Any]) -> None:
        self._wanted = wanted
        self._look = look
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._more = threading.Event()
        self._over = False

    def wake(self) -> None:
        """Look now, and from now on."""
        self._over = False
        self._more.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="nbcanvas-follower", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Look no more, until somebody wakes it again."""
        self._over = True

    def _loop(self) -> None:
        pause = _SOON
        while True:
            if self._more.is_set():
                pause = _SOON
            self._more.clear()
            wanted = () if self._over else self._wanted()
            if not wanted:
                with self._lock:  # whoever wakes now finds either this thread, before it has decided, or none
                    if not self._more.is_set():
                        self._thread = None
                        return
                continue
            begun = monotonic()
            try:
                some = self._look(wanted)
                pause = max(_SOON if some else min(pause * 2, _EVERY), (monotonic() - begun) * _SHARE)
            except Exception as error:  # noqa: BLE001 - the database is away: it may come back
                log.warning("results of other processes cannot be read, and are looked for again: %s", error)
                pause = min(pause * 2, _AT_MOST)
            threading.Event().wait(
                pause
            )  # on purpose not `_more`: a thousand watches are no reason for a thousand looks
