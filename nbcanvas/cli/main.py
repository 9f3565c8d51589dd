"""``nbcanvas``: the command line's entry point; each command stands in a module of its own, loaded when it is used."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from .common import Given, global_options

__all__ = ["main"]

#: Command -> module and name of what runs it.
COMMANDS: Final = {
    "call": "nbcanvas.cli.results:call",
    "control": "nbcanvas.cli.remote:control",
    "dead": "nbcanvas.cli.dead:dead",
    "events": "nbcanvas.cli.events:events",
    "inspect": "nbcanvas.cli.remote:inspect",
    "list": "nbcanvas.cli.queues:list_",
    "purge": "nbcanvas.cli.queues:purge",
    "report": "nbcanvas.cli.report:report",
    "result": "nbcanvas.cli.results:result",
    "status": "nbcanvas.cli.remote:status",
    "worker": "nbcanvas.cli.worker:worker",
}


class _Commands(click.Group):
    """Commands that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, _, name = where.partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nbcanvas", prog_name="nbcanvas")
@global_options
@click.pass_context
def main(ctx: click.Context, /, **given: Any) -> None:
    """Celery's canvas in a notebook, and its cluster."""
    ctx.obj = Given(**given)
