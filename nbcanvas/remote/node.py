"""The worker's side of remote control: a thread that hears commands, has them done, and answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from nbcanvas.errors import ServerLost
from nbcanvas.protocol.saferepr import shown
from nbcanvas.servers.wire import Server, Topic, Wire

from .clock import Clock
from .consumer import ConsumerThread
from .mailbox import Mailbox, Request, reads_request

__all__ = ["Node"]

log = logging.getLogger("nbcanvas.remote")


class Node(ConsumerThread):
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
        super().__init__(
            f"nbcanvas-remote-{hostname}",
            lambda: Wire(server, accept=accept, serializer=serializer),
            f"{hostname} hears no commands",
        )

    def _subscribe(self, wire: Wire) -> None:
        wire.listen(self._mailbox.inbox(self.hostname), lambda body, headers: self._hear(wire, body, headers))

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
