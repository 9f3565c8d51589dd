"""The base class of tasks: their options, how they are called, and what a running one can do."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from nbcanvas.canvas import Signature, chain, chunks, xmap, xstarmap
from nbcanvas.canvas.host import current_host
from nbcanvas.canvas.signature import make
from nbcanvas.errors import (
    ImproperlyConfigured,
    InvalidTaskError,
    MaxRetriesExceededError,
    Replacement,
    Retry,
    SoftTimeLimitExceeded,
)
from nbcanvas.request import Context, running

from .parameters import arity, signature_of

__all__ = ["Task", "TaskApp"]

Item = TypeVar("Item")
_PROGRESS_EVERY = 0.1


class TaskApp(Protocol):
    """What a task asks of its app."""

    conf: Any
    tasks: Any

    def submit(self, sig: Any, args: Any, kwargs: Any, options: Any) -> Any:
        """Run a signature on workers."""

    def apply(self, sig: Any, args: Any, kwargs: Any, options: Any) -> Any:
        """Run a signature in the calling thread."""

    def report(self, task_id: str, context: Context | None, state: str, meta: Any) -> None:
        """Store a custom state."""

    def grow_chord(self, more: int = 1) -> None:
        """Let what the running task counts for wait for more parts."""

    @property
    def AsyncResult(self) -> Any:
        """The class of result handles."""


class Task:
    """Base class of every task.

    The class attributes are Celery's task options; ``None`` means the app's setting decides.

    Attributes
    ----------
    name
        The name in the registry and on the wire.
    max_retries, default_retry_delay
        How often ``retry`` may be called, and after how many seconds it runs again.
    autoretry_for, dont_autoretry_for, retry_kwargs, retry_backoff, retry_backoff_max, retry_jitter
        Retry by itself on these exceptions (the guide, "Automatic retry for known exceptions").
    rate_limit
        At most so many starts, ``"10/s"``, ``"100/m"``, ``"1/h"`` or a number a second.
    time_limit, soft_time_limit
        Seconds.  A thread cannot be killed: there the hard limit gives the task up and its slot is replaced.
    ignore_result, track_started, acks_late, reject_on_worker_lost, priority, queue, expires, serializer
        As in Celery.
    version
        A hash of the source, to tell an old definition from a new one.
    """

    name: ClassVar[Any] = None
    abstract: ClassVar[bool] = False
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] | None = None
    retry_backoff: bool | int = False
    retry_backoff_max: int = 600
    retry_jitter: bool = True
    rate_limit: str | float | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    track_started: bool | None = None
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None
    priority: int | None = None
    queue: str | None = None
    routing_key: str | None = None
    expires: Any = None
    serializer: str | None = None
    compression: str | None = None
    throws: tuple[type[BaseException], ...] = ()
    typing: bool = True
    trail: bool = True
    send_events: bool = True
    resultrepr_maxsize: int = 1024
    MaxRetriesExceededError = MaxRetriesExceededError

    version: str = ""
    _app: TaskApp | None = None
    #: Whether it was made of a function that is not given the task.
    _unbound: bool = False

    # -- identity ---------------------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The app the task belongs to."""
        return self._app

    def bind(self, app: TaskApp) -> Task:
        """Belong to `app`; returns self."""
        self._app = app
        self.on_bound(app)
        return self

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)

    # -- calling ----------------------------------------------------------------------------------------------

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work; every task defines it (a decorated function becomes it)."""
        msg = f"task {self.name} does not define run()"
        raise NotImplementedError(msg)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, like the function it is."""
        stack = running.stack
        stack.append((self, Context(None, self.name, args, kwargs)))
        try:
            return self.run(*args, **kwargs)
        finally:
            stack.pop()

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task to be run, with these arguments; returns its AsyncResult."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the task to be run (the guide, "Calling Tasks").

        Parameters
        ----------
        args, kwargs
            The arguments.
        task_id
            The id; a new one by default.
        producer
            Accepted for compatibility, not used.
        link, link_error
            Signatures to run when the task succeeds, or fails.
        shadow
            Another name to show.
        **options
            ``countdown``, ``eta``, ``expires``, ``priority``, ``queue``, ``retry``, ``time_limit``,
            ``soft_time_limit``, ``ignore_result``, ``headers`` ...

        Returns
        -------
        AsyncResult

        Raises
        ------
        InvalidTaskError
            When the arguments do not fit the task's parameters (also a TypeError).
        """
        args = () if args is None else args
        if not isinstance(args, (list, tuple)):
            msg = f"task args must be a list or tuple, not {type(args).__name__}"
            raise TypeError(msg)
        if kwargs is not None and not isinstance(kwargs, Mapping):
            msg = f"task keyword arguments must be a mapping, not {type(kwargs).__name__}"
            raise TypeError(msg)
        given = {"task_id": task_id, "link": link, "link_error": link_error, "shadow": shadow}
        options.update((k, v) for k, v in given.items() if v is not None)
        return self._hosted().submit(make(self, tuple(args), dict(kwargs or {})), (), {}, options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int = 0,
        throw: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run the task in the calling thread; returns an EagerResult.

        Parameters
        ----------
        args, kwargs, link, link_error, task_id, retries
            As for `apply_async`.
        throw
            Raise the task's exception at once (the setting ``task_eager_propagates`` by default).
        **options
            As for `apply_async`.
        """
        given = {"task_id": task_id, "link": link, "link_error": link_error, "retries": retries or None, "throw": throw}
        options.update((k, v) for k, v in given.items() if v is not None)
        return self._hosted().apply(make(self, tuple(args or ()), dict(kwargs or {})), (), {}, options)

    def _hosted(self) -> TaskApp:
        if self._app is None:
            msg = f"task {self.name} belongs to no app: register it with app.register_task()"
            raise ImproperlyConfigured(msg)
        return self._app

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise InvalidTaskError when the arguments do not fit the task's parameters."""
        low, high = self._arity
        if not kwargs and low <= len(args) <= high:
            return
        try:
            self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            msg = f"{self.name}{self.__signature__}: {error}"
            raise InvalidTaskError(msg) from None

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        return signature_of(self.run)

    @functools.cached_property
    def _arity(self) -> tuple[int, float]:
        """How many positional arguments alone make a valid call: at least, at most."""
        return arity(self.__signature__)

    def takes_error(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> bool:
        """Say whether the task, as an errback, is called with ``(request, exc, traceback)`` (the guide, "Chains").

        A task that is bound, or a class, or that has room for one argument only, is sent with the failed task's id.

        Parameters
        ----------
        args, kwargs
            The errback's own arguments; they leave less room.
        """
        taken = len(args)
        for name in kwargs or ():
            found = self.__signature__.parameters.get(name)
            taken += found is not None and found.kind is found.POSITIONAL_OR_KEYWORD
        return self._unbound and self._arity[1] - taken > 1

    # -- signatures -------------------------------------------------------------------------------------------

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with these arguments."""
        return make(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return an immutable signature with these arguments: results are not put before them."""
        return make(self, args, kwargs, True)

    def signature(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *starargs: Any,
        **starkwargs: Any,
    ) -> Signature:
        """Return a signature; takes what `apply_async` takes, and ``immutable``."""
        starkwargs.setdefault("app", self._app)
        return Signature(self, args, dict(kwargs or {}), *starargs, **starkwargs)

    subtask = signature

    def map(self, it: Iterable[Any], **options: Any) -> Signature:
        """Return a signature of one call that runs the task for each item, one after the other."""
        return xmap(self.s(), it, app=self._app, **options)

    def starmap(self, it: Iterable[Any], **options: Any) -> Signature:
        """Return a signature of one call that runs the task for each item, spread as arguments."""
        return xstarmap(self.s(), it, app=self._app, **options)

    def chunks(self, it: Iterable[Any], n: int) -> Signature:
        """Return a signature that runs the task for each item, `n` items a message."""
        return chunks(self.s(), it, n, app=self._app)

    # -- the running task -------------------------------------------------------------------------------------

    @property
    def request(self) -> Context:
        """The context of the execution under way in this thread."""
        stack = running.stack
        for task, context in reversed(stack):
            if task is self or task.name == self.name:
                found: Context = context
                return found
        return _NOT_RUNNING

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Any:
        """Return the result handle of a task id."""
        return self._hosted().AsyncResult(task_id, **kwargs)

    @property
    def backend(self) -> Any:
        """The app's result backend."""
        return self.app.backend

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Set the state of the running task, for others to see (the guide, "Custom states")."""
        context = self.request
        target = task_id or context.id
        if target is None:
            return  # called like a function: nobody to tell
        self._hosted().report(target, context if target == context.id else None, state or "PROGRESS", meta)

    def track(self, items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
        """Iterate, reporting how far the loop is: to tasks what ``tqdm`` is to loops.

        Parameters
        ----------
        items
            What to loop over.
        total
            How many there are; found out by ``len`` when it can be.

        Yields
        ------
        The items.
        """
        if total is None:
            try:
                total = len(items)  # type: ignore[arg-type]
            except TypeError:
                total = None
        count, reported = 0, 0.0
        self.update_state(state="PROGRESS", meta={"current": 0, "total": total})
        for item in items:
            yield item
            count += 1
            now = time.monotonic()
            if now - reported >= _PROGRESS_EVERY:
                reported = now
                self.update_state(state="PROGRESS", meta={"current": count, "total": total})
        self.update_state(state="PROGRESS", meta={"current": count, "total": total if total is not None else count})

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Run the task again later (the guide, "Retrying").

        Parameters
        ----------
        args, kwargs
            Other arguments for the next attempt; the same by default.
        exc
            The exception to fail with when there are no retries left.
        throw
            Raise at once (write ``raise self.retry()``); with False the task goes on, and is retried when it returns.
        eta, countdown
            When: an aware datetime, or seconds from now; ``default_retry_delay`` by default.
        max_retries
            Overrides the task's own limit for this call.
        **options
            Execution options for the next attempt.

        Raises
        ------
        Retry
            Always, with `throw`, while retries are left.
        MaxRetriesExceededError
            When none are left and no `exc` was given; else `exc` itself.
        """
        context = self.request
        if context.called_directly:
            raise exc or sys.exception() or Retry("Task can be retried", None)
        limit = self.max_retries if max_retries is None else max_retries
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        if limit is not None and context.retries >= limit:
            cause = sys.exception()
            if exc is not None:
                raise exc from (cause if cause is not exc else None)
            msg = f"Can't retry {self.name}[{context.id}] args:{context.args} kwargs:{context.kwargs}"
            raise self.MaxRetriesExceededError(msg, task_args=context.args, task_kwargs=context.kwargs)
        changed = None
        if args is not None or kwargs is not None:
            changed = self._retry_arguments(context, args, kwargs)
        again = Retry(
            exc=exc or sys.exception(),
            when=eta if eta is not None else countdown,
            is_eager=context.is_eager,
            sig=changed,
        )
        again.options = options  # type: ignore[attr-defined]
        if throw:
            raise again
        context.__dict__["retry"] = again
        return again

    def _retry_arguments(
        self, context: Context, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Merge explicit arguments with those of the present attempt; an explicit one wins over a kept one."""
        if args is not None and kwargs is not None:
            return tuple(args), dict(kwargs)
        if args is not None:
            names = list(self.__signature__.parameters)[: len(args)]
            return tuple(args), {k: v for k, v in context.kwargs.items() if k not in names}
        try:
            bound = self.__signature__.bind_partial(*context.args)
        except TypeError:
            return tuple(context.args), dict(kwargs or {})
        more = dict(kwargs or {})
        for name in [n for n in more if n in bound.arguments]:
            bound.arguments[name] = more.pop(name)
        return bound.args, {**bound.kwargs, **more}

    def replace(self, sig: Signature) -> Any:
        """Put `sig` in the task's place; it takes over the task's id and what waits for it.

        Write ``return self.replace(sig)``.  Links and errbacks of the task move to the end of `sig`; of one that ends
        in a group a last call hands on the list of its results (as in Celery).

        Raises
        ------
        ImproperlyConfigured
            When `sig` is part of a chord already, or an empty chain.
        Replacement
            Always, in a worker.
        """
        if "chord" in sig.options:
            msg = "A signature replacing a task must not be part of a chord"
            raise ImproperlyConfigured(msg)
        if isinstance(sig, chain) and not sig.tasks:
            msg = "Cannot replace with an empty chain"
            raise ImproperlyConfigured(msg)
        return self.on_replace(sig)

    def on_replace(self, sig: Signature) -> Any:
        """Start a replacement; override it to stamp or change `sig` first, and call this one."""
        if self.request.called_directly:
            return sig.apply().get()
        raise Replacement(sig)

    def add_to_chord(self, sig: Signature, lazy: bool = False) -> Any:
        """Let `sig` count for the chord that the running task is a header's member of.

        A task that runs again adds again.

        Parameters
        ----------
        sig
            What is to be counted; its value stands beside that of the task in what the body is given.
        lazy
            Do not send it: this task does, with ``sig.delay()``, before it ends.

        Returns
        -------
        AsyncResult
            Its result; when `lazy`, the signature itself.

        Raises
        ------
        ValueError
            When the task counts for nothing.
        NotImplementedError
            Where headers cannot grow, with the way out: anywhere but on a cluster whose results are in Redis.
        """
        request = self.request
        if not request.group:  # of a task that is called like a function, too
            msg = "Current task is not member of any chord"
            raise ValueError(msg)
        sig.set(
            group_id=request.group,
            group_index=request.group_index,
            chord=request.chord,
            root_id=request.root_id,
        )
        sig.freeze()
        self.app.grow_chord()
        if lazy:
            return sig
        try:
            return sig.delay()
        except (OSError, SoftTimeLimitExceeded):  # it may have been sent: a body too late is better than one too early
            raise
        except Exception:
            self.app.grow_chord(-1)
            raise

    def add_trail(self, result: Any) -> Any:
        """Record `result` as a child of the running task."""
        if self.trail:
            self.request.children.append(result)
        return result

    # -- hooks ------------------------------------------------------------------------------------------------

    def on_bound(self, app: TaskApp) -> None:
        """Run when the task is bound to its app."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Run before the task, in the worker."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Run after the task succeeded, in the worker."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Run after the task failed, in the worker."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Run when the task is to be retried, in the worker."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Run after the task returned, whatever came of it, in the worker."""


_NOT_RUNNING = Context()


def _by_name(name: str) -> Any:
    """Unpickle a task: by name, in the default app."""
    task = current_host().lookup(name)
    if task is None:
        msg = f"no task named {name!r} is registered here"
        raise ImproperlyConfigured(msg)
    return task
