"""The running task's context: what ``self.request`` shows (Celery's guide, "Task Request")."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from nbcanvas.plan.model import Call, Message, Next, Slot

__all__ = ["Context", "current", "running"]


class Context:
    """One execution of a task, as the task sees it.

    Parameters
    ----------
    message
        The message that is worked on; None for a task that was called like a function.
    args, kwargs
        The arguments of this execution.
    hostname
        The worker slot's name.
    is_eager
        Whether ``apply`` runs it.
    queue
        Says which queue a call goes to.
    """

    __slots__ = ("__dict__", "_queue", "args", "children", "hostname", "is_eager", "kwargs", "message", "task")

    #: Celery's names for what is not known here.
    loglevel: int | None = None
    logfile: str | None = None
    taskset: str | None = None

    def __init__(
        self,
        message: Message | None = None,
        task: str = "",
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        hostname: str | None = None,
        *,
        is_eager: bool = False,
        queue: Callable[[Call], str] | None = None,
    ) -> None:
        self.message = message
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.hostname = hostname
        self.is_eager = is_eager
        self.children: list[Any] = []
        self._queue = queue

    def __repr__(self) -> str:
        return f"<Context: {self.task}[{self.id}]>"

    def __getattr__(self, name: str) -> Any:
        """Return a custom header (the ``headers`` option), as Celery's request has them."""
        if not name.startswith("_") and name not in Context.__slots__:
            headers = self.headers
            if headers is not None and name in headers:
                return headers[name]
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(msg)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set attributes, given as to ``dict.update``; what the message says cannot be changed."""
        for name, value in dict(*args, **kwargs).items():
            setattr(self, name, value)

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute, or `default`."""
        return getattr(self, key, default)

    @property
    def called_directly(self) -> bool:
        """Whether the task was called like a function, with no message."""
        return self.message is None

    @property
    def _call(self) -> Call | None:
        return None if self.message is None else self.message.call

    @property
    def id(self) -> str | None:
        """The task id."""
        return None if self.message is None else self.message.call.id

    @property
    def task_id(self) -> str | None:
        """The task id."""
        return self.id

    @property
    def correlation_id(self) -> str | None:
        """The task id, under the message's own name for it."""
        return self.id

    @property
    def root_id(self) -> str | None:
        """The id of the run's first task."""
        return None if self.message is None else self.message.root_id

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sent this one."""
        return None if self.message is None else self.message.parent_id

    @property
    def retries(self) -> int:
        """How many times it was retried before."""
        return 0 if self.message is None else self.message.retries

    @property
    def group(self) -> str | None:
        """The id of the group or chord it counts for."""
        return None if self.message is None else self.message.call.group_id

    @property
    def group_index(self) -> int | None:
        """Its place in that group."""
        return None if self.message is None else self.message.call.index

    @property
    def options(self) -> Mapping[str, Any]:
        """The execution options it was sent with."""
        return {} if self.message is None else self.message.call.options

    @property
    def stamps(self) -> Mapping[str, Any]:
        """Its stamps, each a list of values as Celery shows them."""
        stamps = None if self.message is None else self.message.call.stamps
        return {
            name: value if isinstance(value, list | tuple | set) else [value] for name, value in (stamps or {}).items()
        }

    @property
    def stamped_headers(self) -> list[str]:
        """The names of its stamps."""
        return list(self.stamps)

    @property
    def headers(self) -> Mapping[str, Any] | None:
        """Custom headers (the ``headers`` option)."""
        return self.options.get("headers")

    @property
    def shadow(self) -> str | None:
        """Another name to show (the ``shadow`` option)."""
        return self.options.get("shadow")

    @property
    def argsrepr(self) -> str:
        """The positional arguments as text."""
        return str(self.options.get("argsrepr") or repr(self.args))

    @property
    def kwargsrepr(self) -> str:
        """The keyword arguments as text."""
        return str(self.options.get("kwargsrepr") or repr(self.kwargs))

    @property
    def lang(self) -> str:
        """The language of the task (protocol 2, header ``lang``)."""
        return "py"

    @property
    def properties(self) -> dict[str, Any]:
        """The message's properties."""
        return {"correlation_id": self.id, "reply_to": None, "priority": self.options.get("priority")}

    @property
    def replaced_task_nesting(self) -> int:
        """How many times the task was replaced before."""
        return 0 if self.message is None else self.message.call.nesting

    @property
    def eta(self) -> str | None:
        """Not before this time, ISO 8601 in UTC."""
        return _iso(None if self.message is None else self.message.due)

    @property
    def expires(self) -> str | None:
        """Not after this time, ISO 8601 in UTC."""
        return _iso(None if self.message is None else self.message.expires)

    @property
    def timelimit(self) -> list[Any]:
        """The hard and the soft time limit in seconds, hard first (protocol 2, header ``timelimit``)."""
        return [self.options.get("time_limit"), self.options.get("soft_time_limit")]

    @property
    def time_limit(self) -> float | None:
        """The hard time limit it was sent with, in seconds."""
        found: float | None = self.options.get("time_limit")
        return found

    @property
    def soft_time_limit(self) -> float | None:
        """The soft time limit it was sent with, in seconds."""
        found: float | None = self.options.get("soft_time_limit")
        return found

    @property
    def ignore_result(self) -> bool:
        """Whether the result is not to be kept."""
        return bool(self.options.get("ignore_result"))

    @property
    def callbacks(self) -> list[Any] | None:
        """What is linked to the task, frozen."""
        return (list(self.message.call.links) or None) if self.message is not None else None

    @property
    def errbacks(self) -> list[Any] | None:
        """The errbacks linked to the task, frozen."""
        return (list(self.message.call.errbacks) or None) if self.message is not None else None

    @property
    def chain(self) -> list[Any] | None:
        """The steps that follow, last one first as on the wire; None when there are none."""
        then = None if self.message is None else self.message.then
        return then.rest()[0][::-1] if isinstance(then, Next) else None

    @property
    def chord(self) -> Any:
        """What waits for the group this task counts for; None when nothing does."""
        then = None if self.message is None else self.message.then
        return then.join.then if isinstance(then, Slot) else None

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where the message came from."""
        queue = self._queue(self._call) if self._queue is not None and self._call is not None else ""
        return {
            "exchange": "",
            "routing_key": queue,
            "priority": self.options.get("priority") or 0,
            "redelivered": False,
            "is_eager": self.is_eager,
        }

    @property
    def reply_to(self) -> str | None:
        """Nobody: in one process no reply queue is needed."""
        return None

    @property
    def origin(self) -> str | None:
        """The sender's name."""
        return self.hostname

    @property
    def utc(self) -> bool:
        """Times are UTC."""
        return True


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


class _Running(threading.local):
    """Per thread: the executions under way, innermost last, each with its task."""

    def __init__(self) -> None:
        self.stack: list[tuple[Any, Context]] = []


#: The executions under way in this thread.
running = _Running()


def current() -> tuple[Any, Context] | None:
    """Return the innermost running (task, context) of this thread, or None."""
    stack = running.stack
    return stack[-1] if stack else None
