"""``nbcanvas events``: what a broker's workers tell, as it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

import click

from nbcanvas.protocol.saferepr import shown
from nbcanvas.remote.mailbox import Events
from nbcanvas.remote.receiver import Receiver
from nbcanvas.servers.wire import Wire

from .common import Given, common_options
from .remote import remote_app
from .saying import Say, as_json, told

__all__ = ["events"]

#: What every event has, and what is told in another way.
_USUAL: Final = frozenset({"type", "hostname", "timestamp", "utcoffset", "pid", "clock", "uuid", "traceback"})
_LONGEST: Final = 300


@click.command()
@click.option("-d", "--dump", is_flag=True, help="Dump events as they come (this is what happens anyway).")
@click.option("-j", "--json", "json_", is_flag=True, help="One JSON object for each event.")
@click.option("--type", "prefix", default="", help="Only events whose type begins so, such as task or worker-online.")
@click.option("--limit", type=click.IntRange(1), help="End after so many events.")
@click.option("--timeout", type=click.FloatRange(0), help="End after so many seconds.")
@common_options
def events(given: Given, dump: bool, json_: bool, prefix: str, limit: int | None, timeout: float | None) -> None:
    """Print events as they come, until Ctrl-C.

    Events of tasks are told by workers that were started with -E, or after `control enable_events`.
    """
    app = remote_app(given)
    say = Say(given)
    heard: SimpleQueue[Sequence[Mapping[str, Any]]] = SimpleQueue()

    def ready() -> None:
        app.control.heartbeat()  # workers say that they are there

    receiver = Receiver(app.kombu, Events.of(app.conf), heard.put, ready=ready)
    with told():
        Wire(app.kombu).close()  # the receiver would wait for a broker that is not there
    receiver.start()
    say.aside("-> events: listening, Ctrl-C ends")
    count, until = 0, None if timeout is None else monotonic() + timeout
    with contextlib.suppress(KeyboardInterrupt):
        while (limit is None or count < limit) and (until is None or monotonic() < until):
            try:
                found = heard.get(timeout=0.2)
            except Empty:
                continue
            for event in found:
                if str(event["type"]).startswith(prefix) and (limit is None or count < limit):
                    count += 1
                    say.line(as_json(event) if json_ else _line(event))
    receiver.stop()


def _line(event: Mapping[str, Any]) -> str:
    at = event.get("timestamp")
    when = ""
    if isinstance(at, int | float) and 0 < at < 1 << 40:
        when = f"{datetime.fromtimestamp(at):%H:%M:%S.%f}"[:-3]  # noqa: DTZ006 - the reader's own time
    about = f"{event.get('name', '')}({event['uuid']}) " if "uuid" in event else ""
    more = " ".join(f"{key}={_short(value)}" for key, value in event.items() if key not in _USUAL | {"name"})
    text = f"{when} {event.get('hostname')} {event['type']} {about}{more}".rstrip()
    return "".join(one if one.isprintable() else "�" for one in text)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else shown(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
