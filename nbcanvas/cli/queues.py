"""``nbcanvas purge`` and ``nbcanvas list``."""

from __future__ import annotations

from typing import Any, Final

import click

from nbcanvas.app import App
from nbcanvas.servers.queues import Queues
from nbcanvas.servers.wire import Wire

from .common import Given, common_options
from .remote import _names, remote_app
from .saying import as_json, table, told

__all__ = ["list_", "purge"]

_BINDING: Final = "_kombu.binding."
_SEPARATOR: Final = "\x06\x16"


@click.command()
@click.option("-f", "--force", is_flag=True, help="Don't prompt for verification.")
@click.option("-Q", "--queues", callback=_names, metavar="A,B", help="Queues to purge; all known ones by default.")
@click.option("-X", "--exclude-queues", callback=_names, metavar="A,B", help="Queues not to purge.")
@common_options
def purge(given: Given, force: bool, queues: list[str] | None, exclude_queues: list[str] | None) -> None:
    """Erase all messages from all known task queues. There is no way back."""
    app = remote_app(given)
    names = sorted(set(queues or Queues.of(app.conf).consumed) - set(exclude_queues or ()))
    if not names:
        click.echo("No queue is left to purge.")
        return
    word = "queue" if len(names) == 1 else "queues"
    if not force:
        listed = ", ".join(names)
        click.confirm(
            f"WARNING: this will remove all tasks from {word}: {listed}.\n"
            f"         There is no undo for this operation! (-f asks no questions)\n"
            f"Are you sure you want to delete all tasks?",
            abort=True,
        )
    with told():
        count = app.broker.purge(names)
    if count:
        messages = "message" if count == 1 else "messages"
        click.echo(f"Purged {count} {messages} from {len(names)} known task {word}.")
    else:
        click.echo(f"No messages purged from {len(names)} {word}.")


@click.group(name="list")
def list_() -> None:
    """Get info from broker."""


@list_.command()
@click.option("-j", "--json", "json_", is_flag=True, help="Use json as output format.")
@common_options
def bindings(given: Given, json_: bool) -> None:
    """Inspect queue bindings (RabbitMQ needs its management plugin)."""
    app = remote_app(given)
    with told():
        found = sorted(_bindings(app))
    if json_:
        keys = ("queue", "exchange", "routing_key")
        click.echo(as_json([dict(zip(keys, one, strict=True)) for one in found]))
    else:
        click.echo(table(found, ("Queue", "Exchange", "Routing Key")))


def _bindings(app: App) -> list[tuple[str, str, str]]:
    server = app.redis
    if server is None:
        try:
            with Wire(app.kombu) as wire:
                return wire.bindings()
        except (NotImplementedError, ImportError, AttributeError) as error:
            msg = "Your transport cannot list bindings."
            raise click.UsageError(msg) from error
    found = []
    names: list[Any] = server.call("KEYS", f"{_BINDING}*")
    for name in names:
        exchange = name.decode().removeprefix(_BINDING)
        for member in server.call("SMEMBERS", name):
            key, _, rest = member.decode("utf-8", "replace").partition(_SEPARATOR)
            found.append((rest.rpartition(_SEPARATOR)[2], exchange, key))
    return found
