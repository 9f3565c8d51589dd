"""What failed in a run: each node with what it was given, what it raised, and a way to run it here."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nbcanvas import states
from nbcanvas.errors import RecordingError, Replacement, Retry
from nbcanvas.events.state import State
from nbcanvas.ids import new_id
from nbcanvas.picture.faults import failed_rows
from nbcanvas.picture.markup import call_text, error_text, escape, short
from nbcanvas.plan import Call, Message
from nbcanvas.request import Context, running
from nbcanvas.task import Task
from nbcanvas.worker.execute import arguments

from .audience import tells_clocks

if TYPE_CHECKING:
    from nbcanvas.app import App

    from .views import Views

__all__ = [
    "PLAIN",
    "Failure",
    "Failures",
    "Style",
    "comes_from",
    "explain_failure",
    "failures_of",
    "is_ours",
    "note",
    "received",
    "user_frames",
]

_OURS: Final = str(Path(__file__).parents[1])
_STDLIB: Final = (sysconfig.get_path("stdlib") + "/concurrent", sysconfig.get_path("stdlib") + "/threading.py")
_FRAME: Final = re.compile(r'  File "(?P<file>[^"]*)", line (?P<line>\d+)(?:, in (?P<where>.*))?')
#: What stands before each line of an exception group's traceback.
_MARGIN: Final = re.compile(r"^ *\| ", re.MULTILINE)
#: Frames of one failure that are shown, the innermost ones.
_FRAMES: Final = 6
#: Failures that the repr of all of them shows.
_LISTED: Final = 20
#: Seconds in which the news of a failure arrives, at the latest.
_LATE: Final = 0.2


# -- one node that failed -------------------------------------------------------------------------------------------


class Failure:
    """One node that failed by itself.

    Attributes
    ----------
    path
        Where it stands, ``chord.header[17]``; an empty string for a canvas that is one call.
    name, task_id
        Of the task.
    args, kwargs
        As the task was given them: what came before, then its own.
    error
        The exception.
    traceback
        The text of its traceback, or None.
    worker
        The worker slot it ran in, or None.
    retries
        How many times it was retried before.
    stamps
        Its stamps.
    version
        Which version of the task's code ran; an empty string when that is not known.
    """

    def __init__(self, view: Views, state: State, row: int) -> None:
        call = state.call(row)
        self._view = view
        self._call = call
        self.path = state.calls[row].path
        self.name = call.task
        self.task_id = call.id
        self.error = state.error(row)
        self.traceback = state.traceback(row)
        self.worker = state.worker(row)
        self.retries = state.retries(row)
        self.stamps: Mapping[str, Any] = call.stamps or {}
        self.version = call.version

    @cached_property
    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = self._view.arguments_of(self._call)
        return tuple(args), dict(kwargs)

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments, as the task was given them."""
        return self._arguments[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        return self._arguments[1]

    @property
    def call(self) -> str:
        """The call as a person would write it."""
        try:
            args, kwargs = self._arguments
        except Exception:  # noqa: BLE001 - what does not unpickle any more must not hide what failed
            return f"{short(self.name)}(…)"
        return call_text(short(self.name), args, kwargs)

    @property
    def where(self) -> str:
        """The path and the call: ``chord.header[17] → add(17, None)``."""
        return f"{self.path} → {self.call}" if self.path else self.call

    def __repr__(self) -> str:
        return f"{self.where}: {error_text(self.error)}"

    def rerun(self) -> Any:
        """Run the task's present code here, in this thread, with the same arguments; return its value.

        What it raises arrives with its real frames, so that ``%debug`` shows them.  Nothing is recorded, and nothing
        that follows the node is started: that is for ``rerun()`` of the run.  When the task asks to be retried, the
        error it does that for is raised; when it puts a canvas in its place, that runs here, too.

        Raises
        ------
        NotRegistered
            When no task of that name is known here.
        RecordingError
            When this is of a recording: it has no tasks.
        """
        __tracebackhide__ = True
        app = self._view.app
        if app is None:
            msg = f"a recording cannot run {self.name}; call the function with these args and kwargs"
            raise RecordingError(msg)
        task = app.tasks[self.name]
        sent = _message_of(app, self._call)
        message = Message(
            sent.call,
            sent.given,
            sent.then,
            new_id(),  # no run's: what it reports is not for the one that failed
            sent.parent_id,
            time(),
            None,
            None,
            sent.retries,
            sent.payload,
        )
        args, kwargs = arguments(message)
        context = Context(message, task.name, args, kwargs, hostname="here", is_eager=True, queue=app.queue_of)
        stack = running.stack
        depth = len(stack)
        stack.append((task, context))
        try:
            work = task.run if type(task).__call__ is Task.__call__ else task
            return work(*args, **kwargs)
        except Retry as again:
            if again.exc is None or again.exc is again:
                raise
            error: BaseException = again.exc
        except Replacement as instead:
            del stack[depth:]
            return instead.sig.apply(throw=True).get()
        finally:
            del stack[depth:]
        raise error


def _message_of(app: App, call: Call) -> Message:
    """Return the message whose failure ended a call, or one that stands for it."""
    record = app.backend.get(call.id)
    if record is not None and record.message is not None:
        return record.message
    given = record.given if record is not None else ()
    return Message(call, given, None, call.id, None, time(), retries=record.retries if record is not None else 0)


def received(app: App, call: Call) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments a call was given when it last ran: what came before it, then its own."""
    return arguments(_message_of(app, call))


# -- all of them ----------------------------------------------------------------------------------------------------


class Failures(tuple[Failure, ...]):
    """What failed, in canvas order; shows itself as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self:
            return "nothing failed"
        lines = [repr(one) for one in self[:_LISTED]]
        if len(self) > _LISTED:
            lines.append(f"… and {len(self) - _LISTED} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>nothing failed</p>"
        clocks = tells_clocks()
        heads = ["", "node", "call", "error", "retries", *(["worker"] if clocks else [])]
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in heads)
        rows = []
        for place, one in enumerate(self[:_LISTED]):
            cells = [str(place), one.path, one.call, error_text(one.error), str(one.retries)]
            if clocks:
                cells.append(one.worker or "")
            rows.append("".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells))
        more = f"<p>… and {len(self) - _LISTED} more</p>" if len(self) > _LISTED else ""
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def failures_of(view: Views) -> Failures:
    """Return what failed of a run, or of a recording."""
    state = view.snapshot()
    return Failures(Failure(view, state, row) for row in failed_rows(state))


# -- what a wait that failed says -----------------------------------------------------------------------------------


class Style(NamedTuple):
    """How the parts of an explanation look, and what files are called.

    Attributes
    ----------
    error, node, dim
        What stands before and behind the name of an error, a node, and source lines.
    file
        Gives what a file is called.
    """

    error: tuple[str, str] = ("", "")
    node: tuple[str, str] = ("", "")
    dim: tuple[str, str] = ("", "")
    file: Callable[[str], str] = 'File "{}"'.format


PLAIN: Final = Style()


def _styled(text: str, marks: tuple[str, str]) -> str:
    return f"{marks[0]}{text}{marks[1]}"


def explain_failure(
    view: Views, error: BaseException, most: int = 4, *, workers: bool = True, style: Style = PLAIN
) -> Iterator[str]:
    """Yield the lines that say what `error`, which waiting for a run raised, is about.

    Parameters
    ----------
    view
        The run.
    error
        What its `get` raises.
    most
        How many failures to show.
    workers
        Whether to name the workers they happened on.
    style
        How it looks.
    """
    failed = failures_of(view)
    alike = [_alike(one.error, error) for one in failed]
    order = sorted(range(len(failed)), key=lambda place: not alike[place])
    for place in order[: max(most, 1)]:
        one = failed[place]
        yield from _one(one, workers=workers, style=style)
        if not alike[place]:
            yield f"  {error_text(one.error)}"
        yield ""
    if len(failed) > most:
        yield f"… and {len(failed) - most} more"
        yield ""
    if failed:
        yield from _what_to_do(view, order)


def _one(failure: Failure, *, workers: bool, style: Style) -> Iterator[str]:
    facts = []
    if failure.worker and workers:
        facts.append(f"on {failure.worker}")
    if failure.retries:
        facts.append(f"after {failure.retries} retr{'y' if failure.retries == 1 else 'ies'}")
    yield f"{_styled(failure.where, style.node)} failed{' ' + ', '.join(facts) if facts else ''}"
    yield from user_frames(failure.traceback or "", style)


def _what_to_do(view: Views, order: Sequence[int]) -> Iterator[str]:
    name = view.handle
    if view.app is not None:
        one = f"{name}.failed[{order[0]}].rerun() runs {'it' if len(order) == 1 else 'the first'} here, for %debug"
        yield f"{one}; {name}.rerun() runs again only what is missing"
    good = view.snapshot().counts.get(states.SUCCESS, 0)
    if good:
        yield f"the {f'{good} good results stay' if good > 1 else 'good result stays'} in {name}.frame()"


def user_frames(text: str, style: Style = PLAIN) -> list[str]:
    """Return the frames of a traceback's text that are the user's, the outermost first, without ours.

    Parameters
    ----------
    text
        As `traceback.format_exception` makes it.
    style
        How they look.
    """
    if "+ Exception Group Traceback (" in text:
        text = _MARGIN.sub("", text)
    frames: list[list[str]] = []
    taking = False
    for line in text.splitlines():
        found = _FRAME.match(line)
        if found:
            taking = not is_ours(found["file"])
            if taking:
                frames.append([f"  {style.file(found['file'])}, line {found['line']}, in {found['where'] or '?'}"])
        elif taking and line.startswith("    "):
            frames[-1].append(f"  {_styled(line, style.dim)}")
        else:
            taking = False
    left_out = len(frames) - _FRAMES
    shown: Sequence[Iterable[str]] = frames[-_FRAMES:]
    above = ["  " + _styled(f"… {left_out} frames above", style.dim)] if left_out > 0 else []
    return above + [line for frame in shown for line in frame]


def is_ours(file: str) -> bool:
    """Whether a frame of this file says nothing to a user."""
    return file.startswith((_OURS, *_STDLIB, "<frozen"))


def comes_from(view: Views, error: BaseException) -> bool:
    """Whether an exception is how a task of this run ended (the news of it may be a moment late)."""
    until = monotonic() + _LATE
    while True:
        state = view.snapshot()
        if any(_alike(state.error(row), error) for row in state.errors()):
            return True
        if view.done or monotonic() > until:
            return False
        sleep(0.005)


def _alike(one: BaseException | str | None, other: BaseException) -> bool:
    return one is other or (type(one) is type(other) and _said(one) == _said(other))


def _said(error: object) -> str | None:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - two errors whose texts cannot be had are not told apart
        return None


class _Note(str):
    """A note of ours in an exception."""

    __slots__ = ()


def note(view: Views, error: BaseException) -> None:
    """Note in an exception which nodes of a run failed, and where; what was noted of that before is replaced.

    It is raised far away from there, and may be raised more than once.
    """
    if not comes_from(view, error):
        return
    lines = list(explain_failure(view, error, workers=tells_clocks()))
    if not lines:
        return
    state = view.snapshot()
    told = {text for row in failed_rows(state) if (text := state.traceback(row))}
    try:
        before: list[str] = list(getattr(error, "__notes__", ()))
        error.__notes__ = [one for one in before if not isinstance(one, _Note) and not any(t in one for t in told)]
        error.add_note(_Note("\n".join(["", *lines])))
    except (AttributeError, TypeError):  # a class may refuse attributes
        return
