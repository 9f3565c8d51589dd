"""The threads beside the slots: one says that the worker lives, one sees to what no slot has time for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from nbcanvas.errors import ServerLost
from nbcanvas.ledger.port import Ledger

__all__ = ["Heartbeat", "Keeper"]

log = logging.getLogger("nbcanvas.worker")

#: Seconds between two beats; after how long a silence others take a worker for dead (`nbcanvas.ledger`).
_BEAT = 1.0
_DEAD = 5.0
#: Seconds between two looks of the keeper, while there is something to look at.
_LOOK = 0.005


class Heartbeat:
    """Beats, whatever the slots do.

    Parameters
    ----------
    ledger
        Whom to tell.
    also
        Called after each beat.
    """

    def __init__(self, ledger: Ledger, also: Callable[[], None]) -> None:
        self._ledger = ledger
        self._also = also
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Beat once, here, and go on in a thread; a server that is away again is waited for there."""
        lost = False
        try:
            self._ledger.beat()
        except ServerLost as error:
            log.warning("no heartbeat: %s", error)
            lost = True
        self._thread = threading.Thread(target=self._beat, args=(lost,), name="nbcanvas-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self, lost: bool) -> None:
        last = monotonic()
        while not self._stopped.wait(_BEAT):
            try:
                self._ledger.beat()
                silent, last = monotonic() - last, monotonic()
                if silent > _DEAD:
                    log.warning(
                        "nothing was heard of this worker for %.0f s: others may have taken its tasks for lost; "
                        "what they have taken is not written down here",
                        silent,
                    )
                if lost:
                    log.warning("the heart beats again")
                lost = False
                self._also()
            except ServerLost as error:
                if not lost:
                    log.warning("no heartbeat: %s", error)
                lost = True
            except Exception:  # the heart goes on
                log.exception("a heartbeat failed")

    def stop(self) -> None:
        """Beat no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_BEAT)


class Keeper:
    """Looks after what slots left behind, while there is any of it.

    Parameters
    ----------
    look
        Does that; says whether there is more.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._wanted = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._keep, name="nbcanvas-keeper", daemon=True)
        #: Whether it looks already.
        self.looks = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def want(self) -> None:
        """Have it look, soon."""
        self.looks = True
        self._wanted.set()

    def _keep(self) -> None:
        pause = threading.Event()
        while not self._stopped:
            self._wanted.wait()
            while not self._stopped:
                pause.wait(_LOOK)
                self.looks = False
                self._wanted.clear()
                try:
                    if not self._look():
                        break
                except Exception:  # the keeper goes on
                    log.exception("what slots left behind could not be seen to")

    def stop(self) -> None:
        """End."""
        self._stopped = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()
