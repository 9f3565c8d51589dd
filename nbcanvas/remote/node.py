"""The worker's side of remote control: a thread that hears commands, has them done, and answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from nbcanvas.errors import ServerLost
from nbcanvas.protocol.saferepr import shown
from nbcanvas.servers.wire import Server, Topic, Wire

from .clock import Clock
from .mailbox import Mailbox, Request, reads_request

__all__ = ["Node"]

log = logging.getLogger("nbcanvas.remote")

#: How often a thread looks whether it should end.
_TICK: Final = 0.5
#: Seconds between attempts to reach a broker that does not answer: the first, and the most.
_AGAIN: Final = (0.2, 5.0)


class Node:
    """Hears commands for one worker, in a thread of its own.

    Parameters
    ----------
    server, mailbox, clock
        The broker, the settings of remote control, and the app's clock.
    hostname
        The worker's name.
    perform
        Does what a command says, and returns the answer.  What it raises is answered as an error.
    """

    def __init__(
        self,
        server: Server,
        mailbox: Mailbox,
        clock: Clock,
        hostname: str,
        perform: Callable[[str, dict[str, Any]], Any],
        *,
        accept: Collection[str] = ("json",),
        serializer: str = "json",
    ) -> None:
        self.hostname = hostname
        self._mailbox = mailbox
        self._clock = clock
        self._perform = perform
        self._wire: Callable[[], Wire] = lambda: Wire(server, accept=accept, serializer=serializer)
        self._stop = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"nbcanvas-remote-{hostname}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def ready(self, timeout: float) -> bool:
        """Wait until commands are heard; False when they are not in time."""
        return self._listens.wait(timeout)

    def stop(self) -> None:
        """Listen no more."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_TICK * 4)

    def _run(self) -> None:
        wait = _AGAIN[0]
        while not self._stop.is_set():
            try:
                with self._wire() as wire:
                    wire.listen(
                        self._mailbox.inbox(self.hostname), lambda body, headers: self._hear(wire, body, headers)
                    )
                    self._listens.set()
                    wait = _AGAIN[0]
                    while not self._stop.is_set():
                        wire.drain(_TICK)
            except ServerLost as lost:
                self._listens.clear()
                log.warning("%s hears no commands: %s; trying again", self.hostname, lost)
                self._stop.wait(wait)
                wait = min(wait * 2, _AGAIN[1])
            except Exception:  # whatever it is, a worker that works is not to become deaf
                self._listens.clear()
                log.exception("%s: remote control starts again", self.hostname)
                self._stop.wait(wait)
                wait = min(wait * 2, _AGAIN[1])

    def _hear(self, wire: Wire, body: Any, headers: Mapping[str, Any]) -> None:
        self._clock.adjust(headers.get("clock"))
        try:
            request = reads_request(body, self.hostname)
        except ValueError as error:
            log.warning("a command that makes no sense is ignored: %s", error)
            return
        if request is not None:
            self._answer(wire, request, self.dispatch(request))

    def dispatch(self, request: Request) -> Any:
        """Do what a command says; returns the answer, which may be ``{"error": …}``."""
        try:
            return self._perform(request.method, request.arguments)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            log.warning("the command %.100r failed: %.500r", request.method, error)
            return {"error": repr(error)}

    def _answer(self, wire: Wire, request: Request, reply: Any) -> None:
        if request.reply_to is None:
            return
        exchange, routing_key = request.reply_to
        headers = {"ticket": request.ticket, "clock": self._clock.forward()}
        try:
            wire.publish({self.hostname: reply}, Topic(exchange), routing_key, headers)
        except ServerLost:
            raise
        except Exception as error:  # noqa: BLE001 - something in it that has no form on the wire
            log.info("the answer to %.100r is sent as text: %.500r", request.method, error)
            wire.publish({self.hostname: _as_text(reply)}, Topic(exchange), routing_key, headers)


def _as_text(value: Any, deep: int = 8) -> Any:
    """Return a value as JSON has it, and its repr where it has none."""
    if deep and isinstance(value, Mapping):
        return {str(key): _as_text(inner, deep - 1) for key, inner in value.items()}
    if deep and isinstance(value, list | tuple | set | frozenset):
        return [_as_text(inner, deep - 1) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else shown(value)
