"""``nbcanvas status``, ``inspect`` and ``control``: Celery's commands, options and exit codes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import click

from nbcanvas.app import App
from nbcanvas.servers.urls import masked

from .common import Given, app_of, common_options
from .saying import Say, Unavailable, as_json, body_of, told

__all__ = ["control", "inspect", "status"]


class Command(NamedTuple):
    """One command that workers understand.

    Attributes
    ----------
    help
        What it does.
    signature
        Its arguments, as they are written.
    arguments
        Name and type of each.
    variadic
        What the arguments behind those are called, if there may be any.
    timeout
        Seconds to wait, when nobody says.
    """

    help: str
    signature: str = ""
    arguments: Sequence[tuple[str, Callable[[str], Any]]] = ()
    variadic: str | None = None
    timeout: float = 1.0


#: An argument that has to be there, as signatures write it.
_NEEDED: Final = re.compile("<[^>]*>")


def _truth(text: str) -> bool:
    """Return what a word such as yes or 0 means."""
    found = click.BOOL.convert(text, None, None)
    return bool(found)


INSPECT: Final[Mapping[str, Command]] = {
    "active": Command("Tasks that run."),
    "active_queues": Command("Queues that are consumed."),
    "clock": Command("The logical clock."),
    "conf": Command("The settings.", "[with_defaults]", [("with_defaults", _truth)]),
    "memdump": Command("The latest samples of memory.", "[n_samples=10]", [("samples", int)]),
    "memsample": Command("How much memory is used."),
    "objgraph": Command(
        "A picture of objects in memory.",
        "[object_type=Request] [num=200 [max_depth=10]]",
        [("type", str), ("num", int), ("max_depth", int)],
        timeout=60.0,
    ),
    "ping": Command("Who is there."),
    "query_task": Command("What workers do with some ids.", "[id1 [id2 [… [idN]]]]", (), "ids"),
    "registered": Command("Tasks that are known.", "[attr1 [attr2 [… [attrN]]]]", (), "taskinfoitems"),
    "report": Command("What a report of a bug should say."),
    "reserved": Command("Tasks that wait in a worker."),
    "revoked": Command("Ids that are revoked."),
    "scheduled": Command("Tasks that wait for their time."),
    "stats": Command("Counts, the pool, the broker."),
}

CONTROL: Final[Mapping[str, Command]] = {
    "add_consumer": Command(
        "Consume one more queue.",
        "<queue> [exchange [type [routing_key]]]",
        [("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    ),
    "autoscale": Command("Change the bounds of a pool.", "[max [min]]", [("max", int), ("min", int)]),
    "cancel_consumer": Command("Consume a queue no more.", "<queue>", [("queue", str)]),
    "disable_events": Command("Tell events of tasks no more."),
    "election": Command("Hold an election.", "<id> <topic> [action]", [("id", str), ("topic", str), ("action", str)]),
    "enable_events": Command("Tell events of tasks."),
    "heartbeat": Command("Tell a heartbeat now."),
    "pool_grow": Command("Run more tasks at a time.", "[N=1]", [("n", int)]),
    "pool_restart": Command("Restart pools."),
    "pool_shrink": Command("Run fewer tasks at a time.", "[N=1]", [("n", int)]),
    "rate_limit": Command(
        "Change how often a task may start.",
        "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
        [("task_name", str), ("rate_limit", str)],
    ),
    "revoke": Command("Do not run tasks.", "<id1> [id2 [… [idN]]]", (), "task_id"),
    "revoke_by_stamped_headers": Command(
        "Do not run tasks that bear a stamp.", "<key1=value1> [key2=value2 [… [keyN=valueN]]]", (), "headers"
    ),
    "shutdown": Command("End workers."),
    "terminate": Command("End tasks that run.", "<signal> <id1> [id2 [… [idN]]]", [("signal", str)], "task_id"),
    "time_limit": Command(
        "Change a task's time limits.",
        "<task_name> <soft_secs> [hard_secs]",
        [("task_name", str), ("soft", float), ("hard", float)],
    ),
}


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [one.strip() for one in value.split(",") if one.strip()]


def remote_options(command: Any) -> Any:
    """Add the options of remote control."""
    for option in (
        click.option("-j", "--json", "json_", is_flag=True, help="Use json as output format."),
        click.option(
            "-d",
            "--destination",
            callback=_names,
            metavar="A,B",
            help="Names of workers, with commas between; all by default.",
        ),
        click.option("-t", "--timeout", type=click.FloatRange(0), help="Seconds to wait for an answer; 1 by default."),
    ):
        command = option(command)
    return command


def _list_of(commands: Mapping[str, Command], ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the commands there are (``--list``)."""
    if not value:
        return
    formatter = ctx.make_formatter()
    formatter.write_dl([(f"{name} {one.signature}".strip(), one.help) for name, one in commands.items()])
    click.echo(formatter.getvalue(), nl=False)
    ctx.exit()


def list_option(commands: Mapping[str, Command]) -> Callable[[Any], Any]:
    """Return the option that lists commands."""
    return click.option(
        "--list",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=partial(_list_of, commands),
        help="List available commands and exit.",
    )


def _arguments(name: str, command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Give the words of the command line their names and types."""
    found: dict[str, Any] = {}
    for (key, kind), word in zip(command.arguments, words, strict=False):
        try:
            found[key] = kind(word)
        except (ValueError, click.BadParameter) as error:
            msg = f"{name}: {key} is no {getattr(kind, '__name__', 'value').strip('_')}: {word!r}"
            raise click.UsageError(msg) from error
    needed = [one.strip("<>") for one in _NEEDED.findall(command.signature)]
    if len(words) < len(needed):
        msg = f"{name} needs {' and '.join(needed[len(words) :])}: {name} {command.signature}"
        raise click.UsageError(msg)
    rest = list(words[len(command.arguments) :])
    if command.variadic:
        found[command.variadic] = rest
    elif rest:
        takes = command.signature or "none"
        msg = f"Command {name!r} takes arguments: {takes}"
        raise click.UsageError(msg)
    return found


def remote_app(given: Given) -> App:
    """Return the app, which has to have a broker that workers are on."""
    app = app_of(given)
    if not app.remote:
        msg = "which broker? Give its URL with -b, or an app whose broker_url is a server with -A"
        raise click.UsageError(msg)
    if app.redis is not None:
        with told():
            app.redis.ask("PING")  # it says best what is wrong, and at once
    return app


class Asked(NamedTuple):
    """The options of remote control."""

    timeout: float | None
    destination: list[str] | None
    json_: bool


def _ask(
    given: Given,
    asked: Asked,
    name: str,
    arguments: Mapping[str, Any],
    timeout: float,
    body: Callable[[Any], str] | None,
) -> list[dict[str, Any]]:
    """Ask, and print the answers as they come; returns them."""
    say = Say(given)
    app = remote_app(given)
    found: list[dict[str, Any]] = []
    with told():
        answers = app.control.ask(
            name, arguments, asked.destination, timeout=timeout if asked.timeout is None else asked.timeout
        )
        for worker, reply in answers:
            found.append({worker: reply})
            if not asked.json_:
                say.answer(worker, reply, body)
        missing = answers.missing
    if asked.json_:
        if found and missing:
            say.aside(f"No answer from {', '.join(missing)}.")
    elif found:
        say.count(len(found), missing)
    if not found:
        if missing:
            why = f"; {', '.join(missing[:20])} did not answer"
        else:
            why = f": no worker listens on {masked(str(app.conf.broker_url))}"
        msg = f"No nodes replied within time constraint{why}"
        raise Unavailable(msg)
    return found


def _do(
    given: Given, asked: Asked, kind: str, name: str, words: Sequence[str], body: Callable[[Any], str] | None
) -> list[dict[str, Any]]:
    """Ask, or tell, what the command line says, see `_ask`."""
    known = INSPECT if kind == "inspect" else CONTROL
    if name not in known:
        near = difflib.get_close_matches(name, known, 2)
        did = f"Did you mean {' or '.join(near)}? " if near else ""
        msg = f"Command {name} not recognized. {did}Available {kind} commands: {', '.join(known)}"
        raise click.UsageError(msg)
    command = known[name]
    return _ask(given, asked, name, _arguments(name, command, words), command.timeout, body)


def _merged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: reply for one in found for name, reply in one.items()}


@click.command()
@remote_options
@common_options
def status(given: Given, **options: Any) -> None:
    """Show list of workers that are online."""
    asked = Asked(**options)
    found = _ask(given, asked, "ping", {}, 1.0, lambda reply: "")
    if asked.json_:
        click.echo(as_json(_merged(found)))


@click.command()
@click.argument("command")
@click.argument("arguments", nargs=-1)
@list_option(INSPECT)
@remote_options
@common_options
def inspect(given: Given, command: str, arguments: tuple[str, ...], **options: Any) -> None:
    """Ask workers something: COMMAND is one of those that --list shows."""
    asked = Asked(**options)
    found = _do(given, asked, "inspect", command, arguments, body_of(command))
    if asked.json_:
        click.echo(as_json(_merged(found)))


@click.command()
@click.argument("command")
@click.argument("arguments", nargs=-1)
@list_option(CONTROL)
@remote_options
@common_options
def control(given: Given, command: str, arguments: tuple[str, ...], **options: Any) -> None:
    """Tell workers something: COMMAND is one of those that --list shows."""
    asked = Asked(**options)
    nothing = (lambda reply: "") if command == "heartbeat" else None
    found = _do(given, asked, "control", command, arguments, nothing)
    if asked.json_:
        click.echo(as_json(found))
