"""Every exception nbcanvas raises on purpose, in one tree.

::

    NBCanvasError
    ├── CanvasError                 a canvas that cannot mean anything (also TypeError or ValueError where that fits)
    │   ├── NotASignature           something else stands where a signature belongs (TypeError)
    │   └── DuplicateId             one pinned id appears twice in a canvas
    ├── NotRegistered               no task of that name (KeyError)
    ├── UnknownSetting              no setting of that name (AttributeError)
    ├── ImproperlyConfigured        settings or a task that contradict each other
    ├── NotSerializable             a value that would not travel (TypeError)
    ├── InvalidTaskError            a call that does not fit its task, or a message that is none (TypeError)
    │   └── ContentDisallowed       a message in a form that is not accepted; it was not decoded
    ├── TaskError                   how a task ended
    │   ├── TaskRevokedError        it was revoked, or what it waited for was
    │   ├── ChordError              a header task failed, so the body never ran
    │   ├── MaxRetriesExceededError it was retried as often as allowed
    │   ├── WorkerLostError         the process that ran it died
    │   ├── TimeLimitExceeded       it ran into its hard time limit
    │   ├── Terminated              it was terminated on request
    │   ├── UntrustedTask           its code came with it, and is not to be trusted
    │   └── RemoteError             its exception could not travel, or its class is not known here
    ├── StillRunning                a run that has not ended was asked to run again
    ├── IncompleteStream            a result graph was asked for before it was complete
    ├── CorruptResult               a stored result, or run, that cannot be understood
    ├── ResultExpired               a result that was not kept so long (LookupError)
    ├── UnknownRun                  no run, or more than one, is meant by that (LookupError)
    ├── ServerLost                  a broker or a result backend that does not answer (ConnectionError)
    ├── RecordingError              a recording that cannot be read or written, or what it cannot do (ValueError)
    └── NotWritable                 a canvas, or a task, that cannot be written as Python source

    TaskPredicate                   how a running task says what should happen next; not an error
    ├── Retry                       run me again
    ├── Ignore                      forget how I ended
    │   └── Replacement             another canvas stands in my place now
    └── Reject                      give my message back

    SoftTimeLimitExceeded           raised inside a task that ran into its soft limit
    TimeoutError                    waiting took longer than asked (also the builtin TimeoutError)

Names are Celery's where Celery has the same error.
"""

from __future__ import annotations

import builtins
import functools
from typing import Any, Final

__all__ = [
    "AccessRefused",
    "CanvasError",
    "ChordError",
    "ContentDisallowed",
    "CorruptResult",
    "DuplicateId",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NBCanvasError",
    "NotASignature",
    "NotRegistered",
    "NotSerializable",
    "NotWritable",
    "RecordingError",
    "Reject",
    "RemoteError",
    "Replacement",
    "ResultExpired",
    "Retry",
    "ServerLost",
    "SoftTimeLimitExceeded",
    "StillRunning",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "UnknownRun",
    "UnknownSetting",
    "UntrustedTask",
    "WorkerLostError",
    "stand_in",
]


class NBCanvasError(Exception):
    """Root of every error of nbcanvas."""


class CanvasError(NBCanvasError):
    """A canvas that cannot mean anything."""


class NotASignature(CanvasError, TypeError):
    """Something else stands where a signature belongs."""


class NotAVisitor(CanvasError, TypeError):
    """Something that cannot stamp a canvas, or a hook of it that returned no headers."""


class DuplicateId(CanvasError, ValueError):
    """One pinned task id appears twice in a canvas."""


class NotRegistered(NBCanvasError, KeyError):
    """No task of that name is registered.

    Parameters
    ----------
    name
        The task name that was looked up.
    hint
        What to do about it, one sentence.
    """

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(name, *([hint] if hint else []))
        self.name = name
        self.hint = hint

    def __str__(self) -> str:
        return f"no task named {self.name!r} is registered" + (f"; {self.hint}" if self.hint else "")


class UnknownSetting(NBCanvasError, AttributeError):
    """No setting of that name."""


class ImproperlyConfigured(NBCanvasError):
    """Settings, or a task, that contradict each other."""


class NotSerializable(NBCanvasError, TypeError):
    """A value that would not travel to a worker, or back."""


class InvalidTaskError(NBCanvasError, TypeError):
    """A call that does not fit the task's parameters, or a message that cannot be understood."""


class ContentDisallowed(InvalidTaskError):
    """A message whose content type is not accepted; it was not decoded."""


class TaskError(NBCanvasError):
    """How a task ended, when it did not end with a value."""


class TaskRevokedError(TaskError):
    """The task was revoked, or something it waited for was."""


class ChordError(TaskError):
    """A task of a chord's header failed, so the chord's body never ran."""


class MaxRetriesExceededError(TaskError):
    """The task asked for one retry more than it is allowed.

    Attributes
    ----------
    task_args, task_kwargs
        The arguments of the call.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_args = kwargs.pop("task_args", ())
        self.task_kwargs = kwargs.pop("task_kwargs", {})
        super().__init__(*args)


class WorkerLostError(TaskError):
    """The process that ran the task died."""


class TimeLimitExceeded(TaskError):
    """The task ran into its hard time limit.

    Parameters
    ----------
    *args
        The limit in seconds, as Celery has it.
    """

    def __str__(self) -> str:
        if len(self.args) == 1 and isinstance(self.args[0], int | float):
            return f"it ran longer than its hard time limit of {self.args[0]} seconds"
        return super().__str__()


class Terminated(TaskError):
    """The task was terminated on request."""


class UntrustedTask(TaskError):
    """A task whose code came with its message, and that a worker refuses; nothing of it was unpacked."""


class RemoteError(TaskError):
    """Stands for an exception that could not travel, or whose class is not known here (see `stand_in`).

    Attributes
    ----------
    exc_type
        Qualified name of the original class.
    exc_args
        The original arguments as text.
    """

    exc_type: str

    def __init__(self, exc_type: str = "Exception", *exc_args: Any) -> None:
        super().__init__(exc_type, *exc_args)
        self.exc_type = exc_type
        self.exc_args = exc_args

    def __str__(self) -> str:
        return f"{self.exc_type}({', '.join(map(str, self.exc_args))})"


def stand_in(exc_type: str, *exc_args: Any) -> RemoteError:
    """Return what stands for an exception of a class that is not known here: it looks like the original.

    Its class is a `RemoteError` that bears the name of that class, and it has its arguments; so ``type(exc).__name__``,
    ``exc.args``, ``str(exc)`` and ``repr(exc)`` are the original's, as in Celery.

    Parameters
    ----------
    exc_type
        Qualified name of the original class; what cannot be the name of one gives a plain `RemoteError`.
    *exc_args
        The original arguments.
    """
    if len(exc_type) > _LONGEST_NAME or not all(part.isidentifier() for part in exc_type.split(".")):
        return RemoteError(exc_type, *exc_args)
    return _class_named(exc_type)(*exc_args)


_LONGEST_NAME: Final = 300


@functools.lru_cache(maxsize=1000)
def _class_named(exc_type: str) -> type[RemoteError]:
    module, _, name = exc_type.rpartition(".")
    return type(name, (_StandIn,), {"__module__": module or __name__, "exc_type": exc_type})


class _StandIn(RemoteError):
    exc_type = "Exception"

    def __init__(self, *exc_args: Any) -> None:
        Exception.__init__(self, *exc_args)
        self.exc_args = exc_args

    __str__ = Exception.__str__

    def __reduce__(self) -> tuple[Any, ...]:
        return stand_in, (self.exc_type, *self.exc_args)


class StillRunning(NBCanvasError):
    """A run that has not ended was asked to run again."""


class IncompleteStream(NBCanvasError):
    """The result graph is not complete yet."""


class CorruptResult(NBCanvasError):
    """A stored result that cannot be understood."""


class ResultExpired(NBCanvasError, LookupError):
    """A result that was not kept so long."""


class UnknownRun(NBCanvasError, LookupError):
    """No run, or more than one, is meant by an id or a name."""


class ServerLost(NBCanvasError, ConnectionError):
    """A broker or a result backend does not answer; the text names the server, without its password."""


class AccessRefused(ServerLost):
    """A server is there, and lets nobody in who comes like this: a wrong password, a certificate, a virtual host."""


class RecordingError(NBCanvasError, ValueError):
    """A recording that cannot be read or written, or that is asked for what only a run can do."""


class NotWritable(NBCanvasError):
    """A canvas, or a task, that cannot be written as Python source."""


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task that runs into its soft time limit; the task may catch it to clean up."""


class TimeoutError(NBCanvasError, builtins.TimeoutError):
    """Waiting took longer than asked; the task goes on."""


class TaskPredicate(Exception):
    """How a running task says what should happen next."""


class Retry(TaskPredicate):
    """Run the task again (raised by :meth:`Task.retry`).

    Attributes
    ----------
    message
        Why, one line.
    exc
        The exception that made the task retry, if any.
    when
        Seconds from now, or an aware datetime, or None.
    sig
        The signature that will run (same id).
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: Any = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.when = when
        self.is_eager = is_eager
        self.sig = sig

    def __str__(self) -> str:
        if self.message:
            return self.message
        when = f" in {self.when}s" if isinstance(self.when, int | float) else f" at {self.when}" if self.when else ""
        return f"Retry{when}" + (f": {self.exc!r}" if self.exc is not None else "")


class Ignore(TaskPredicate):
    """The task keeps whatever state it set itself; no result is stored for it."""


class Replacement(Ignore):
    """Another canvas stands in the task's place now (raised by :meth:`Task.replace`).

    Attributes
    ----------
    sig
        The signature that replaces the task.
    """

    def __init__(self, sig: Any) -> None:
        super().__init__("Replaced by new task")
        self.sig = sig


class Reject(TaskPredicate):
    """Give the message back.

    Parameters
    ----------
    reason
        Why.
    requeue
        Put the message back on its queue instead of dropping it.
    """

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue
