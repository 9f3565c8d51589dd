"""Events of sending (``task_send_sent_event``): monitors hear of a task before a worker has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nbcanvas.plan import Message
from nbcanvas.protocol.payload import unpack, unpack_args
from nbcanvas.protocol.saferepr import saferepr
from nbcanvas.remote.dispatcher import Dispatcher
from nbcanvas.remote.mailbox import Events

if TYPE_CHECKING:
    from .app import App

__all__ = ["SentEvents"]


class SentEvents:
    """Tells ``task-sent`` of what this process sends.

    Parameters
    ----------
    app
        The app.
    origin
        The name of this process.
    """

    def __init__(self, app: App, origin: str) -> None:
        self._app = app
        self._origin = origin
        self._dispatcher: Dispatcher | None = None

    def __call__(self, messages: Sequence[Message]) -> None:
        """Tell that messages were sent."""
        dispatcher = self._dispatcher
        if dispatcher is None:
            app = self._app
            dispatcher = self._dispatcher = Dispatcher(app.kombu, Events.of(app.conf), app.control.clock, self._origin)
        for message in messages:
            dispatcher.send("task-sent", self._fields(message))

    def _fields(self, message: Message) -> dict[str, Any]:
        call, address = message.call, self._app.router.of(message)
        payload = call.payload if message.payload is None else message.payload
        args, kwargs = (payload, {}) if type(payload) is tuple else unpack_args(payload)
        given = () if call.immutable else tuple(unpack(one) for one in message.given)
        return {
            "uuid": call.id,
            "root_id": message.root_id,
            "parent_id": message.parent_id,
            "name": call.task,
            "args": saferepr((*given, *args)),
            "kwargs": saferepr(dict(kwargs)),
            "retries": message.retries,
            "eta": _iso(message.due),
            "expires": _iso(message.expires),
            "queue": address.queue,
            "exchange": address.exchange,
            "routing_key": address.queue if address.routing_key is None else address.routing_key,
        }

    def close(self) -> None:
        """Tell what waits, and let go of the broker."""
        if self._dispatcher is not None:
            self._dispatcher.close()


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
