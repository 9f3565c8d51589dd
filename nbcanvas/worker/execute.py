"""From a message to an outcome: the task's code runs here, and whatever it does, an outcome comes of it."""

from __future__ import annotations

import logging
import pickle
import traceback as tracebacks
from time import time
from typing import Any, Final, NamedTuple

from nbcanvas.app import App
from nbcanvas.errors import (
    Ignore,
    MaxRetriesExceededError,
    NotSerializable,
    Reject,
    RemoteError,
    Replacement,
    Retry,
    TaskError,
    TaskRevokedError,
)
from nbcanvas.plan import Failed, Ignored, Message, Outcome, Rejected, Replaced, Retried, Revoked, Value
from nbcanvas.plan.times import moment
from nbcanvas.protocol.payload import pack, shown, unpack, unpack_args
from nbcanvas.request import Context, running
from nbcanvas.task import Task

__all__ = ["ExceptionInfo", "TerminateTask", "arguments", "execute", "failure", "portable"]

log = logging.getLogger("nbcanvas.worker")

#: What an exception's arguments may be to travel as they are.
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


class TerminateTask(BaseException):
    """Raised in the thread of a task that is to end now; no ``except Exception`` of the task holds it up."""


class ExceptionInfo(NamedTuple):
    """How an attempt went wrong, as hooks are given it (``einfo``); its text is the traceback's.

    Attributes
    ----------
    type, exception
        The exception.
    traceback
        The text of its traceback.
    """

    type: type[BaseException]
    exception: BaseException
    traceback: str

    def __str__(self) -> str:
        return self.traceback


def arguments(message: Message) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return fresh arguments for one execution: what was given, then the call's own."""
    call = message.call
    payload = call.payload if message.payload is None else message.payload
    if type(payload) is tuple:
        args: tuple[Any, ...] = payload
        kwargs: dict[str, Any] = {}
    else:
        args, kwargs = unpack_args(payload)
    given = message.given
    if given and not call.immutable:
        args = (*[unpack(value) for value in given], *args)
    return args, kwargs


def execute(app: App, task: Task, message: Message, context: Context) -> Outcome:
    """Run a task and say how it ended.

    Parameters
    ----------
    app
        The app.
    task
        The task to run.
    message
        What to run it for.
    context
        What the task will see as its request; its ``args`` and ``kwargs`` are set here.

    Returns
    -------
    Outcome
        Also for tasks that exit, recurse without end, run out of memory, or raise KeyboardInterrupt.
    """
    hooks = _hooks(task)
    stack = running.stack
    depth = len(stack)
    stack.append((task, context))
    try:
        args, kwargs = context.args, context.kwargs = arguments(message)
        if hooks:
            return _with_hooks(app, task, message, context, args, kwargs)
        try:
            value = task.run(*args, **kwargs)
            outcome: Outcome = Value(app.packing.pack(value))
        except BaseException as exc:  # noqa: BLE001 - every end of a task becomes an outcome
            outcome = _ended(app, task, message, exc, frames=context.is_eager)
        again = context.get("retry")
        if again is not None:
            outcome = _retried(app, again, None)
        return outcome  # noqa: TRY300 - the outer try is for arguments alone
    except BaseException as exc:  # noqa: BLE001 - as above
        return _ended(app, task, message, exc, frames=context.is_eager)
    finally:
        del stack[depth:]


_HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return", "__call__")


def _hooks(task: Task) -> frozenset[str]:
    """Return which hooks a task overrides; most override none, and pay nothing."""
    found: frozenset[str] | None = task.__dict__.get("_hooks")
    if found is None:
        found = frozenset(name for name in _HOOKS if getattr(type(task), name) is not getattr(Task, name))
        task.__dict__["_hooks"] = found
    return found


def _with_hooks(
    app: App, task: Task, message: Message, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Outcome:
    call_id = message.call.id
    value: Any = None
    try:
        task.before_start(call_id, args, kwargs)
        work = task if "__call__" in _hooks(task) else task.run
        value = work(*args, **kwargs)
        outcome: Outcome = Value(app.packing.pack(value))
    except BaseException as exc:  # noqa: BLE001 - every end of a task becomes an outcome
        outcome = _ended(app, task, message, exc, frames=context.is_eager)
    again = context.get("retry")
    if again is not None:
        outcome = _retried(app, again, None)
    if isinstance(outcome, Value):
        _tell(task, "on_success", value, call_id, args, kwargs)
        _tell(task, "after_return", "SUCCESS", value, call_id, args, kwargs, None)
    elif isinstance(outcome, Failed | Retried):
        error = outcome.exc
        einfo = ExceptionInfo(type(error), error, outcome.traceback or "")
        if isinstance(outcome, Failed):
            _tell(task, "on_failure", error, call_id, args, kwargs, einfo)
            _tell(task, "after_return", "FAILURE", error, call_id, args, kwargs, einfo)
        else:
            _tell(task, "on_retry", error, call_id, args, kwargs, einfo)
    return outcome


def _tell(task: Task, hook: str, *args: Any) -> None:
    """Call a hook of a task that has ended; how it ended stands, whatever the hook does (as in Celery)."""
    try:
        getattr(task, hook)(*args)
    except TerminateTask:
        raise
    except BaseException as exc:  # a hook may do what a task may do
        log.exception("%s of %s raised", hook, task.name)
        _drop_frames(exc)


def _ended(  # noqa: PLR0911 - one for each way to end
    app: App,
    task: Task,
    message: Message,
    exc: BaseException,
    *,
    frames: bool = False,
) -> Outcome:
    """Return the outcome of a task that raised; an eager run keeps the frames, for a debugger."""
    try:
        if isinstance(exc, Replacement):
            return Replaced(app.replacement(message, exc.sig))
        if isinstance(exc, Ignore):
            return Ignored(str(exc))
        if isinstance(exc, Retry):
            limit = task.max_retries
            if hasattr(exc, "options") or limit is None or message.retries < limit:
                return _retried(app, exc, _text(exc))
            # Raised without `Task.retry`, which counts: it would go on for ever.
            exc = exc.exc or MaxRetriesExceededError(f"Can't retry {task.name}[{message.call.id}]: {exc}")
        if isinstance(exc, Reject):
            return Rejected(str(exc.reason), requeue=bool(exc.requeue))
        if isinstance(exc, TerminateTask):
            return Revoked(TaskRevokedError("terminated"), terminated=True)
        if isinstance(exc, NotSerializable) and exc.__traceback__ is not None and _is_return(exc):
            exc = NotSerializable(f"{task.name} returned what cannot travel: {exc}").with_traceback(exc.__traceback__)
        return failure(exc, frames=frames)
    except BaseException as inner:  # noqa: BLE001 - a replacement that cannot be frozen, a repr that raises
        return failure(inner)


def _is_return(exc: BaseException) -> bool:
    """Say whether an exception comes from packing the value, not from the task's own code."""
    return (
        exc.__traceback__ is not None
        and exc.__traceback__.tb_next is not None
        and exc.__traceback__.tb_next.tb_frame.f_code is pack.__code__
    )


def _retried(app: App, exc: Retry, text: str | None) -> Retried:
    when = exc.when
    due = time() + when if isinstance(when, int | float) else moment("eta", when)
    payload = None if exc.sig is None else app.packing.pack_args(*exc.sig)
    cause = exc.exc if exc.exc is not None else exc
    _drop_frames(cause)
    return Retried(cause, text, due, payload, exc.__dict__.get("options") or {})


def failure(exc: BaseException, *, frames: bool = False) -> Failed:
    """Return the outcome of an exception: its text with the task's own frames, and the exception without `frames`."""
    text = _text(exc)
    if not frames:
        _drop_frames(exc)
    if not isinstance(exc, Exception):
        exc = _tamed(exc)
    elif not _has_text(exc):
        exc = RemoteError(type(exc).__qualname__, "its text cannot be shown")
    return Failed(exc, text)


def _has_text(exc: BaseException) -> bool:
    try:
        return isinstance(repr(exc), str) and isinstance(str(exc), str)
    except BaseException:  # noqa: BLE001 - whoever waits for it would be hurt by this
        return False


def _tamed(exc: BaseException) -> Exception:
    """Return an exception that is safe to raise where the result is asked for."""
    if isinstance(exc, SystemExit):
        return TaskError(f"the task called sys.exit({exc.code!r})")
    if isinstance(exc, KeyboardInterrupt):
        return TaskError("the task raised KeyboardInterrupt")
    return RemoteError(type(exc).__qualname__, *map(str, exc.args))


def _text(exc: BaseException) -> str:
    """Format the traceback, without the frames of this module on top of it."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    try:
        return "".join(tracebacks.format_exception(type(exc), exc, tb))
    except BaseException:  # noqa: BLE001 - an exception whose own text raises still is a failure
        return f"{type(exc).__qualname__}: <its text cannot be shown>\n"


def _drop_frames(exc: BaseException | None) -> None:
    """Let go of the frames an exception holds, or they would live as long as the result."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        BaseException.with_traceback(exc, None)  # a class may refuse to have attributes set
        exc = exc.__cause__ or exc.__context__


def portable(exc: BaseException) -> BaseException:
    """Return an exception that survives being pickled: itself, or a `RemoteError` that stands for it."""
    try:
        found = pickle.loads(pickle.dumps(exc))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - constructors and reducers may raise anything
        found = None
    if type(found) is type(exc):
        return exc
    args = [arg if type(arg) in _PLAIN else shown(arg)[:200] for arg in exc.args]
    return RemoteError(type(exc).__qualname__, *args)
