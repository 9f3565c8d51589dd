"""A thread that consumes what comes over a broker, and connects again whenever the broker was away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from nbcanvas.errors import ServerLost
from nbcanvas.servers.wire import Wire

__all__ = ["ConsumerThread"]

log = logging.getLogger("nbcanvas.remote")

#: How often the thread looks whether it should end.
_TICK: Final = 0.5
#: On Redis one listens from the first look on.
_FIRST_LOOK: Final = 0.01
#: Seconds between attempts to reach a broker that does not answer: the first, and the most.
_AGAIN: Final = (0.2, 5.0)


class ConsumerThread:
    """Consumes until it is stopped; what it listens to is said by `_subscribe`.

    Parameters
    ----------
    name
        What the thread is called.
    connect
        Makes a connection.
    about
        What is not heard while there is none, for the log.
    """

    def __init__(self, name: str, connect: Callable[[], Wire], about: str) -> None:
        self._connect = connect
        self._about = about
        self._stop = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def listening(self, timeout: float) -> bool:
        """Wait until it listens; False when it does not in time."""
        return self._listens.wait(timeout)

    def end(self) -> None:
        """Listen no more, soon."""
        self._stop.set()

    def stop(self) -> None:
        """Listen no more."""
        self.end()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_TICK * 4)

    def _subscribe(self, wire: Wire) -> None:
        """Listen, on a new connection, to what this is for."""
        raise NotImplementedError

    def _began(self) -> None:
        """Hear that it listens now, for the first time or again."""

    def _drain(self, wire: Wire) -> None:
        """Wait a moment for what comes."""
        wire.drain(_TICK)

    def _connects_again(self) -> bool:
        """Whether anybody still needs what is heard, now that the broker was away."""
        return True

    def _run(self) -> None:
        wait, told = _AGAIN[0], False
        while not self._stop.is_set():
            try:
                with self._connect() as wire:
                    self._subscribe(wire)
                    wire.drain(_FIRST_LOOK)
                    self._listens.set()
                    if told:
                        log.warning("%s: that is over, the broker is there again", self._about)
                    wait, told = _AGAIN[0], False
                    self._began()
                    while not self._stop.is_set():
                        self._drain(wire)
            except ServerLost as lost:
                if self._stop.is_set() or not self._connects_again():
                    return
                log.log(logging.DEBUG if told else logging.WARNING, "%s: %s; trying again", self._about, lost)
                told = True
            except Exception:  # whatever it is, nobody is to become deaf because of it
                log.exception("%s for a moment", self._about)
            self._listens.clear()
            self._stop.wait(wait)
            wait = min(wait * 2, _AGAIN[1])
