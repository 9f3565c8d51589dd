"""``nbcanvas result`` and ``nbcanvas call``."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from nbcanvas.errors import TimeoutError as WaitedTooLong
from nbcanvas.protocol.saferepr import shown

from .common import Given, app_of, common_options
from .saying import as_json, told

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

    The exit code is 1 for a task that failed or was revoked, and 75 for one that has not ended.
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
        state, ready = found.state, found.ready()
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
    if state != "SUCCESS" and not (json_ or traceback):
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
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
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
@click.option("--eta", type=_Moment(), help="scheduled time.")
@click.option("--countdown", type=float, help="eta in seconds from now.")
@click.option("--expires", type=_Moment(number=True), help="expiry time.")
@click.option("--serializer", default=None, help="task serializer.")
@click.option("--queue", help="custom queue name.")
@click.option("--exchange", help="custom exchange name.")
@click.option("--routing-key", help="custom routing key.")
@common_options
def call(given: Given, name: str, args: list[Any], kwargs: dict[str, Any], **options: Any) -> None:
    """Call a task by name, and print its id."""
    from .remote import remote_app

    app = remote_app(given)
    with told():
        sent = app.send_task(name, args, kwargs, **{key: one for key, one in options.items() if one is not None})
    click.echo(sent.id)
