"""``nbcanvas``: the command line's entry point; each command stands in a module of its own, loaded when it is used."""

from __future__ import annotations

import difflib
import importlib
from typing import Any, Final

import click

from .common import Given, global_options

__all__ = ["main"]

#: Command -> module and name of what runs it, and what it does in a few words: help loads nothing.
COMMANDS: Final = {
    "call": ("nbcanvas.cli.results:call", "Call a task by its name."),
    "control": ("nbcanvas.cli.remote:control", "Tell workers something: revoke, pool_grow, rate_limit, shutdown …"),
    "dead": ("nbcanvas.cli.dead:dead", "Messages no worker could work on: list, show, requeue, drop."),
    "events": ("nbcanvas.cli.events:events", "Print events as they come."),
    "inspect": ("nbcanvas.cli.remote:inspect", "Ask workers something: active, reserved, registered, stats …"),
    "list": ("nbcanvas.cli.queues:list_", "Which queues are bound where."),
    "purge": ("nbcanvas.cli.queues:purge", "Throw away all messages that wait."),
    "report": ("nbcanvas.cli.report:report", "Versions and settings, for a report of a bug."),
    "result": ("nbcanvas.cli.results:result", "Print what a task returned, or how it failed."),
    "status": ("nbcanvas.cli.remote:status", "Which workers are online."),
    "worker": ("nbcanvas.cli.worker:worker", "Run a worker."),
}
_EXAMPLES: Final = """\b
Examples:
  nbcanvas worker -A proj -c 4 -Q hipri,default
  nbcanvas -b redis://localhost:6379/0 status
  nbcanvas -A proj inspect active -d w1@host --json
  nbcanvas -A proj call proj.add -a '[1, 2]'
"""


class _Commands(click.Group):
    """Commands that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 2)
            did = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}. {did}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXAMPLES)
@click.version_option(package_name="nbcanvas", prog_name="nbcanvas")
@global_options
@click.pass_context
def main(ctx: click.Context, /, **given: Any) -> None:
    """Celery's canvas in a notebook, and its cluster.

    The options may stand before the command or behind it. `nbcanvas COMMAND --help` tells more.
    """
    ctx.obj = Given(**given)
