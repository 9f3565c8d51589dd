"""How commands show what workers said: a line for each, tables where there is something to compare, or JSON."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import click

from nbcanvas.errors import NBCanvasError, ServerLost
from nbcanvas.protocol.saferepr import shown

from .common import Given

__all__ = ["Say", "Unavailable", "as_json", "below", "table", "told"]

_LONGEST: Final = 60
_NOBODY: Final = 69  # EX_UNAVAILABLE, as Celery
#: So many names are told, and then only how many more there are.
_NAMES: Final = 20


class Unavailable(click.ClickException):
    """Nobody answered, or the broker does not."""

    exit_code = _NOBODY


@contextmanager
def told() -> Iterator[None]:
    """End the command with one line for what went wrong, and the exit code for it."""
    try:
        yield
    except ServerLost as error:
        msg = f"Could not connect to the message broker or the result backend: {error}"
        raise Unavailable(msg) from error
    except (NBCanvasError, ValueError) as error:
        raise click.ClickException(str(error) or type(error).__name__) from error


class Say:
    """Prints for a person, unless JSON is wanted.

    Parameters
    ----------
    given
        The options of every command.
    """

    def __init__(self, given: Given) -> None:
        self._colours = not given.no_color
        self.quiet = given.quiet

    def style(self, text: str, **how: Any) -> str:
        """Return a text with colours, where they are wanted."""
        return click.style(text, **how) if self._colours else text

    def line(self, text: str = "") -> None:
        """Print a line."""
        click.echo(text, color=None if self._colours else False)

    def aside(self, text: str) -> None:
        """Print what is not the answer itself."""
        if not self.quiet:
            click.echo(text, err=True, color=None if self._colours else False)

    def answer(self, worker: str, reply: Any, body: Callable[[Any], str] | None) -> None:
        """Print what one worker answered; `body` writes the part below its name."""
        failed = isinstance(reply, Mapping) and "error" in reply
        word = self.style("ERROR", fg="red", bold=True) if failed else self.style("OK", fg="green", bold=True)
        arrow = "" if self.quiet else f"{self.style('->', bold=True)}  "
        self.line(f"{arrow}{self.style(f'{worker}:', fg='cyan', bold=True)} {word}")
        text = _pretty(reply) if failed or body is None else body(reply)
        for one in text.splitlines():
            self.line(f"    {one}")

    def count(self, answered: int, missing: Sequence[str]) -> None:
        """Print how many answered, and who did not."""
        if not self.quiet:
            self.line(f"\n{answered} {'node' if answered == 1 else 'nodes'} online.")
        if missing:
            more = f" and {len(missing) - _NAMES} more" if len(missing) > _NAMES else ""
            names = ", ".join(missing[:_NAMES])
            self.aside(self.style(f"No answer from {names}{more}.", fg="yellow"))


def as_json(value: Any) -> str:
    """Return a value as JSON; what has no form there as text."""
    return json.dumps(value, default=shown, ensure_ascii=False)


def table(rows: Sequence[Sequence[Any]], heads: Sequence[str], *, empty: str = "- empty -") -> str:
    """Return rows as aligned columns; long values are cut."""
    if not rows:
        return empty
    cells = [[_cell(one) for one in row] for row in rows]
    widths = [max(len(head), *(len(row[at]) for row in cells)) for at, head in enumerate(heads)]
    lines = [heads, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def below(text: str) -> str:
    """Return what is said of a line of a table below it: whole, and wrapped where the terminal ends."""
    width = max(shutil.get_terminal_size().columns - 1, _LONGEST)
    return textwrap.fill(_line(text), width, initial_indent="    ", subsequent_indent="    ")


def _cell(value: Any) -> str:
    text = _line("" if value is None else value if isinstance(value, str) else shown(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _line(text: str) -> str:
    return "".join(one if one.isprintable() else "�" for one in " ".join(text.split()))


def _pretty(reply: Any) -> str:
    """Return any answer as text."""
    if isinstance(reply, Mapping):
        for key in ("ok", "error"):
            if key in reply:
                return _pretty(reply[key])
        return json.dumps(reply, indent=4, sort_keys=True, default=shown, ensure_ascii=False)
    if isinstance(reply, list):
        return "\n".join(f"* {one if isinstance(one, str) else shown(one)}" for one in reply) or "- empty -"
    return "" if reply is None else reply if isinstance(reply, str) else shown(reply)


# -- answers that are tables ----------------------------------------------------------------------------------------


def _tasks(reply: Any) -> str:
    if not isinstance(reply, list) or not all(isinstance(one, Mapping) for one in reply):
        return _pretty(reply)
    rows = [
        (one.get("id"), one.get("name"), one.get("args"), one.get("kwargs"), _since(one.get("time_start")))
        for one in reply
    ]
    return table(rows, ("id", "task", "args", "kwargs", "since"))


def _since(at: Any) -> str:
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 < at < 1 << 40:
        return ""
    return f"{datetime.fromtimestamp(at):%H:%M:%S}"  # noqa: DTZ006 - the reader's own time


def _scheduled(reply: Any) -> str:
    if not isinstance(reply, list) or not all(isinstance(one, Mapping) for one in reply):
        return _pretty(reply)
    rows = []
    for one in reply:
        request = one.get("request")
        info: Mapping[str, Any] = request if isinstance(request, Mapping) else {}
        rows.append((one.get("eta"), info.get("id"), info.get("name"), info.get("args"), info.get("kwargs")))
    return table(rows, ("eta", "id", "task", "args", "kwargs"))


def _queues(reply: Any) -> str:
    if not isinstance(reply, list) or not all(isinstance(one, Mapping) for one in reply):
        return _pretty(reply)
    rows = []
    for one in reply:
        exchange = one.get("exchange")
        about: Mapping[str, Any] = exchange if isinstance(exchange, Mapping) else {}
        rows.append((one.get("name"), about.get("name"), about.get("type"), one.get("routing_key")))
    return table(rows, ("queue", "exchange", "type", "routing key"))


def _query(reply: Any) -> str:
    if not isinstance(reply, Mapping) or "error" in reply:
        return _pretty(reply)
    rows = []
    for task_id, found in reply.items():
        state, info = found if isinstance(found, list) and len(found) == 2 else (found, {})
        rows.append((task_id, state, info.get("name") if isinstance(info, Mapping) else None))
    return table(rows, ("id", "state", "task"), empty="- not here -")


#: Question -> how its answers are shown.
BODIES: Final[Mapping[str, Callable[[Any], str]]] = {
    "active": _tasks,
    "reserved": _tasks,
    "scheduled": _scheduled,
    "active_queues": _queues,
    "query_task": _query,
}


def body_of(command: str) -> Callable[[Any], str]:
    """Return what writes the answers to a question."""
    return BODIES.get(command, _pretty)
