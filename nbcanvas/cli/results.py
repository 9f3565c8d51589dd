"""``nbcanvas result`` and ``nbcanvas call``."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from nbcanvas import states
from nbcanvas.errors import TimeoutError as WaitedTooLong
from nbcanvas.plan import Call
from nbcanvas.protocol.saferepr import shown

from .common import Given, app_of, common_options
from .saying import Say, as_json, told

__all__ = ["call", "result"]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic since click 8.5
    _ParamType = click.ParamType

_NOT_YET = 75  # EX_TEMPFAIL


class _NotYet(click.ClickException):
    """A task that has not ended."""

    exit_code = _NOT_YET


@click.command()
@click.argument("task_id")
@click.option("-t", "--task", help="Name of task (accepted for compatibility).")
@click.option("--traceback", is_flag=True, help="Show traceback instead.")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait for the end; by default one looks only.")
@click.option("-j", "--json", "json_", is_flag=True, help="Use json as output format.")
@common_options
def result(given: Given, task_id: str, task: str | None, traceback: bool, timeout: float | None, json_: bool) -> None:
    """Print the return value for a given task id.

    The exit code is 1 for a task that failed or was revoked, in whatever form, and 75 for one that has not ended.
    """
    app = app_of(given)
    if not (app.remote or app.conf.result_backend):
        msg = "where are results kept? Give --result-backend or -b with a URL, or an app with -A"
        raise click.UsageError(msg)
    with told():
        found = app.AsyncResult(task_id)
        if timeout:
            with suppress(WaitedTooLong):
                found.get(timeout=timeout, propagate=False)
        state = found.state
        ready = state in states.READY_STATES  # asked once: it may end between two looks
        value = found.result if ready else None
        text = found.traceback
    if json_:
        about = {"task_id": task_id, "status": state, "result": value, "traceback": text}
        click.echo(as_json(about))
    elif traceback:
        click.echo(text or "")
    elif ready and state == "SUCCESS":
        click.echo(value if isinstance(value, str) else shown(value))
    if not ready:
        known = "nothing is known of it" if state == "PENDING" else f"it is {state}"
        msg = f"{task_id} has not ended: {known}. --timeout SECONDS waits for it"
        raise _NotYet(msg)
    if state != "SUCCESS":
        if json_ or traceback:  # it is said
            raise click.exceptions.Exit(1)
        msg = f"{task_id} ended as {state}: {type(value).__name__}: {value}"
        raise click.ClickException(msg)


class _JSON(_ParamType):
    """A text of JSON, of one type."""

    def __init__(self, kind: type, name: str) -> None:
        self.kind = kind
        self.name = f"json {name}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, self.kind):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not valid JSON: {error}", param, ctx)
        if not isinstance(found, self.kind):
            self.fail(f"{value!r} is no {self.name}", param, ctx)
        return found


class _Moment(_ParamType):
    """A time: ISO 8601, or (`number`) seconds from now."""

    name = "time"

    def __init__(self, *, number: bool = False) -> None:
        self.number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, datetime | float):
            return value
        if self.number:
            try:
                return float(value)
            except ValueError:
                pass
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-11-21T12:30:00+00:00", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


@click.command()
@click.argument("name")
@click.option("-a", "--args", type=_JSON(list, "array"), default="[]", help="Positional arguments.")
@click.option("-k", "--kwargs", type=_JSON(dict, "object"), default="{}", help="Keyword arguments.")
@click.option("--eta", type=_Moment(), help="When it is to run: 2026-12-24T18:00 (UTC unless it says).")
@click.option("--countdown", metavar="SECONDS", type=float, help="Run it in so many seconds.")
@click.option("--expires", type=_Moment(number=True), help="Do not run it after that time, or in so many seconds.")
@click.option("--serializer", metavar="NAME", help="How its arguments travel: json, pickle …")
@click.option("--queue", metavar="NAME", help="The queue to send it to.")
@click.option("--exchange", metavar="NAME", help="The exchange to send it to.")
@click.option("--routing-key", metavar="KEY", help="With that routing key.")
@click.option("--no-check", is_flag=True, help="Do not ask the workers whether they know the task.")
@common_options
def call(given: Given, name: str, args: list[Any], kwargs: dict[str, Any], no_check: bool, **options: Any) -> None:
    """Call a task by name, and print its id.

    A task that no worker of its queue knows is not sent; where no worker is, it waits.
    """
    from .remote import remote_app

    app = remote_app(given)
    with told():
        if not no_check and not options["exchange"]:
            say = Say(given)
            queue = {"queue": options["queue"]} if options["queue"] else {}
            for note in app.fleet.check([Call("", name, None, options=queue)]):
                say.aside(f"warning: {note}")
        sent = app.send_task(name, args, kwargs, **{key: one for key, one in options.items() if one is not None})
    click.echo(sent.id)
