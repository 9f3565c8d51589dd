"""The options of ``%%canvas``: one table, from which help, parsing and completion follow."""

from __future__ import annotations

import argparse
import ast
import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument

from .errors import CellError, UnknownOption

__all__ = ["ARGUMENTS", "VIEWS", "CellOptions", "key_value", "name_of_variable", "parse", "stamps_of", "with_arguments"]

#: What ``--view`` can show.
VIEWS: Final = ("bars", "graph", "timeline", "table", "none")


@dataclass(frozen=True)
class CellOptions:
    """How to run one canvas, as given on the line ``%%canvas …``; None where the defaults decide.

    Attributes
    ----------
    out, frame, save
        Names to bind the Run, the DataFrame, and the canvas to.
    wait
        Wait and give the value; at most so many seconds, when it is a number.
    dry_run, eager
        Do not run it; run it in the calling thread.
    stamps, visitor
        Stamps for every task, and the name of a visitor that decides more.
    queue, priority, countdown, expires, timeout
        Execution options; `timeout` is the hard time limit of each task, in seconds.
    app
        The name of the app.
    view
        What to show.
    record, replay, write
        Files: of the recording to make, of the one to show in place of a run, and of the module to write.
    """

    out: str | None = None
    wait: bool | float | None = None
    dry_run: bool = False
    eager: bool | None = None
    stamps: Mapping[str, Any] = field(default_factory=dict)
    visitor: str | None = None
    frame: str | None = None
    queue: str | None = None
    priority: int | None = None
    countdown: float | None = None
    expires: Any = None
    timeout: float | None = None
    app: str | None = None
    view: str | None = None
    save: str | None = None
    record: str | None = None
    replay: str | None = None
    write: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises
        ------
        CellError
            For a name that is none, a view that does not exist.
        """
        for option, name in (("-o/--out", self.out), ("-f/--frame", self.frame), ("--save", self.save)):
            if name is not None:
                name_of_variable(option, name)
        if self.view is not None and self.view not in VIEWS:
            raise UnknownOption.of("view", self.view, VIEWS, f"there are {', '.join(VIEWS)}")
        if self.write is not None and not self.write.endswith(".py"):
            raise CellError(f"--write {self.write}: a module's file ends in .py")
        if self.replay is not None:
            self._refuse_with_replay()
        elif self.dry_run:
            self._refuse_with_dry_run()

    def _refuse_with_dry_run(self) -> None:
        for option, given, what in (
            ("-o", self.out, "bind"),
            ("-f", self.frame, "bind"),
            ("-w", self.wait not in (None, False) or type(self.wait) is float, "wait for"),
            ("--record", self.record, "record"),
        ):
            if given:
                raise CellError(f"-n runs nothing, so {option} has nothing to {what}")

    def _refuse_with_replay(self) -> None:
        given = {
            "-n": self.dry_run or None,
            "-e": self.eager,
            "-s": self.stamps or None,
            "-V": self.visitor,
            "--app": self.app,
            "--save": self.save,
            "--record": self.record,
            "--write": self.write,
            **{f"--{name.replace('time_limit', 'timeout')}": value for name, value in self.execution().items()},
        }
        named = [option for option, value in given.items() if value is not None]
        if named:
            raise CellError(f"--replay runs nothing, so {', '.join(named)} would mean nothing; -o, -w, -f, --view do")

    def refuse_with_eager(self) -> None:
        """Refuse what means nothing for a canvas that runs in the thread of the cell.

        Raises
        ------
        CellError
            Naming the options.
        """
        given = {
            "-w SECONDS": None if isinstance(self.wait, bool) else self.wait,
            "--priority": self.priority,
            "--countdown": self.countdown,
            "--expires": self.expires,
            "--timeout": self.timeout,
        }
        named = [option for option, value in given.items() if value is not None]
        if named:
            raise CellError(
                f"an eager canvas (-e) runs in the thread of the cell, with no messages to send, so "
                f"{', '.join(named)} would mean nothing"
            )

    def execution(self) -> dict[str, Any]:
        """Return the execution options under the names ``apply_async`` has for them."""
        given = {
            "queue": self.queue,
            "priority": self.priority,
            "countdown": self.countdown,
            "expires": self.expires,
            "time_limit": self.timeout,
        }
        return {name: value for name, value in given.items() if value is not None}


def name_of_variable(option: str, name: str) -> str:
    """Return `name`, which must be one a variable can have."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise CellError(f"{option} takes the name of a variable, and {name!r} cannot be one")
    return name


def key_value(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE``: a Python literal (``42``, ``'a b'``, ``[1, 2]``), else text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def stamps_of(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return stamps as a mapping; what is given several times becomes a list of all its values."""
    found: dict[str, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def seconds(text: str) -> float:
    """Read a number of seconds."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} seconds cannot be waited for")
    return value


def moment(text: str) -> Any:
    """Read a number of seconds from now, or a date and time (ISO 8601)."""
    from datetime import datetime

    try:
        return seconds(text)
    except argparse.ArgumentTypeError:
        try:
            return datetime.fromisoformat(text).astimezone()
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither seconds nor a date and time") from None


#: Flags and what argparse is told of them, in the order of the help.
ARGUMENTS: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (("-o", "--out"), {"metavar": "NAME", "help": "Bind the Run to this name."}),
    (
        ("-w", "--wait"),
        {
            "metavar": "SECONDS",
            "nargs": "?",
            "const": True,
            "type": seconds,
            "help": "Wait, at most so long, and show the value. Interrupting stops the waiting, not the run.",
        },
    ),
    (("-n", "--dry-run"), {"action": "store_true", "help": "Run nothing: check, draw and explain the canvas."}),
    (
        ("-e", "--eager"),
        {
            "action": "store_true",
            "default": None,
            "help": "Run in this thread, so that %%debug, breakpoints and prints work.",
        },
    ),
    (
        ("-s", "--stamp"),
        {
            "metavar": "KEY=VALUE",
            "action": "append",
            "type": key_value,
            "default": [],
            "help": "Stamp every task (can be repeated; the same KEY again makes a list).",
        },
    ),
    (("-V", "--visitor"), {"metavar": "NAME", "help": "Stamp with this StampingVisitor: a class or an object."}),
    (("-f", "--frame"), {"metavar": "NAME", "help": "Wait, and bind the DataFrame of all tasks to this name."}),
    (("-q", "--queue"), {"metavar": "NAME", "help": "Send to this queue."}),
    (("--priority",), {"metavar": "N", "type": int, "help": "Priority of the messages."}),
    (("--countdown",), {"metavar": "SECONDS", "type": seconds, "help": "Start so much later."}),
    (("--expires",), {"metavar": "SECONDS|TIME", "type": moment, "help": "Revoke what has not started by then."}),
    (("--timeout",), {"metavar": "SECONDS", "type": seconds, "help": "Hard time limit of each task."}),
    (("--app",), {"metavar": "NAME", "help": "Use the app in this variable instead of the current one."}),
    (("--view",), {"metavar": "|".join(VIEWS), "help": "What to show."}),
    (("--save",), {"metavar": "NAME", "help": "Keep the canvas under this name: a variable, and in %%canvas list."}),
    (
        ("--write",),
        {
            "metavar": "FILE.py",
            "help": "Write a module with the canvas and its tasks that stock Celery runs, and run the canvas here; "
            "with -n only write it.",
        },
    ),
    (
        ("--record",),
        {"metavar": "FILE", "help": "Record the run, when it has ended: plan, events and results, as JSON."},
    ),
    (
        ("--replay",),
        {"metavar": "FILE", "help": "Show a recorded run, and run nothing: not even the cell, which may be empty."},
    ),
)


def with_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a magic the options of the table (a decorator, below ``@magic_arguments()``)."""
    for flags, settings in reversed(ARGUMENTS):
        function = argument(*flags, **settings)(function)  # type: ignore[no-untyped-call]
    return function


def parse(parser: argparse.ArgumentParser, words: list[str]) -> CellOptions:
    """Read the words of the line.

    Raises
    ------
    UnknownOption
        With the nearest option that exists.
    CellError
        When an option's value cannot be read.
    """
    try:
        found, extra = parser.parse_known_args(words)
    except UsageError as error:
        refuse(error)
    if extra:
        flags = [flag for names, _ in ARGUMENTS for flag in names]
        word = extra[0]
        if word.startswith("-"):
            raise UnknownOption.of("option", word, flags, "%%canvas? lists them")
        raise CellError(
            f"{word!r} belongs to no option; the canvas stands below this line, and -o {word} would bind "
            f"its run to that name"
        )
    values = vars(found)
    stamps = stamps_of(values.pop("stamp"))
    return CellOptions(stamps=stamps, **values)


def refuse(error: UsageError) -> NoReturn:
    """Raise what argparse complains about as an error that test runners see."""
    raise CellError(str(error).removeprefix("argument ")) from None
