"""What workers can be told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbcanvas.plan import Message
from nbcanvas.remote.clock import Clock
from nbcanvas.remote.question import Answer, Answers, Question
from nbcanvas.remote.revokes import Revokes

from .here import Here
from .inspect import Inspect

if TYPE_CHECKING:
    from nbcanvas.remote.client import Remote

__all__ = ["Control", "DuplicateNodenameWarning"]

#: With ``timeout=None`` one still waits no longer than this for the next answer.
_LONG = 60.0

Callback = Callable[[Mapping[str, Any]], Any]


class DuplicateNodenameWarning(UserWarning):
    """Two workers have one name."""


class Control:
    """Commands to the workers of an app: those of its broker, or the embedded one.

    Every command takes `broadcast`'s options: ``destination``, ``reply``, ``timeout``, ``limit``, ``callback``,
    ``pattern`` and ``matcher``; with ``reply=True`` it returns one ``{worker name: answer}`` for each worker.

    Parameters
    ----------
    app
        The app.

    Attributes
    ----------
    clock
        The app's logical clock.
    revokes
        What this process knows to be revoked; its workers ask it before each start.  On Redis it is also kept there.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.clock = Clock()
        self._revokes = Revokes()
        self._here = Here(app, self._revokes)
        self._remote: tuple[Any, Remote] | None = None

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def remote(self) -> Remote | None:
        """The way to workers of a broker; None when the app has the embedded worker."""
        if not self.app.remote:
            return None
        from nbcanvas.remote.client import Remote
        from nbcanvas.remote.mailbox import Mailbox

        server = self.app.kombu
        if self._remote is None or self._remote[0] is not server:
            conf = self.app.conf
            remote = Remote(
                server, Mailbox.of(conf), self.clock, accept=conf.accept_content, serializer=conf.task_serializer
            )
            self.close()
            self._remote = server, remote
        return self._remote[1]

    def close(self) -> None:
        """Let go of connections."""
        made, self._remote = self._remote, None
        if made is not None:
            made[1].close()

    def ask(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | str | None = None,
        *,
        timeout: float | None = 1.0,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Answers:
        """Send a command, and return the answers one by one, as they come.

        Returns
        -------
        Answers
            An iterator over `Answer` (worker, reply); its ``missing`` are those who have not answered.
        """
        question = _question(command, arguments, destination, pattern, matcher)
        wait = _seconds(timeout)
        remote = self.remote
        if remote is None:
            return self._ask_here(question)
        return remote.ask(question, timeout=_LONG if wait is None else wait, limit=limit)

    def _ask_here(self, question: Question) -> Answers:
        name = self._here.name
        expected = set(question.destination or ())
        if name is None or not question.means(name):
            return Answers(iter(()), expected)
        try:
            reply = self._here.perform(question.method, question.arguments)
        except Exception as error:  # noqa: BLE001 - as a worker would answer
            reply = {"error": repr(error)}
        return Answers(iter([Answer(name, reply)]), expected - {name})

    @staticmethod
    def collect(answers: Answers, callback: Callback | None = None) -> list[dict[str, Any]]:
        """Wait for all answers; `callback` hears each of them as it comes."""
        found: list[dict[str, Any]] = []
        for worker, reply in answers:
            found.append({worker: reply})
            if callback is not None:
                callback(found[-1])
        names = [name for one in found for name in one]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            msg = f"several workers have the name {', '.join(doubles)}: give each its own with `worker -n`"
            warnings.warn(msg, DuplicateNodenameWarning, stacklevel=3)
        return found

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | str | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callback | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra: Any,
    ) -> list[dict[str, Any]] | None:
        """Send a command to workers.

        Parameters
        ----------
        command
            Its name.
        arguments, extra
            What goes with it.
        destination
            Names of workers; all by default.
        reply
            Wait for answers.
        timeout
            How long; each answer renews the wait.
        limit
            So many answers are enough.
        callback
            Called with each answer as it comes.
        pattern, matcher
            Only workers whose names match; `matcher` is ``"glob"`` or ``"pcre"``.
        connection, channel
            Accepted for compatibility.

        Returns
        -------
        list of dict, or None
            With `reply`, ``{worker name: answer}`` of each.
        """
        given = {**(arguments or {}), **extra}
        if reply:
            answers = self.ask(
                command, given, destination, timeout=timeout, limit=limit, pattern=pattern, matcher=matcher
            )
            return self.collect(answers, callback)
        question = _question(command, given, destination, pattern, matcher)
        wait = _seconds(timeout)
        remote = self.remote
        if remote is not None:
            remote.tell(question, timeout=wait)
        elif question.means(self._here.name or ""):
            self._here.perform(command, given)
        return None

    def inspect(
        self,
        destination: Sequence[str] | str | None = None,
        timeout: float | None = 1.0,
        callback: Callback | None = None,
        connection: Any = None,
        app: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Inspect:
        """Return what can be asked of workers (see `Inspect` for the parameters)."""
        control = self if app is None else app.control
        return Inspect(control, destination, timeout, callback, limit, pattern, matcher)

    # -- revoking -----------------------------------------------------------------------------------------------------

    @property
    def revokes(self) -> Revokes:
        """See above."""
        found = self._revokes
        if found.store is None and self.app.remote and (server := self.app.redis) is not None:
            from nbcanvas.broker.names import Names
            from nbcanvas.remote.kept import RedisRevokes

            found.store = RedisRevokes(server, Names.of(self.app.conf))
        return found

    @property
    def revoked(self) -> dict[str, float]:
        """Revoked ids, oldest first, and since when."""
        return self._revokes.ids

    @property
    def revoked_stamps(self) -> dict[str, set[Any]]:
        """Revoked stamps: stamp name -> values."""
        return self._revokes.stamps

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Any = None,
        terminate: bool = False,
        signal: str | None = "SIGTERM",
        **kwargs: Any,
    ) -> Any:
        """Do not run tasks; whatever waits for one of them ends as REVOKED too.

        Parameters
        ----------
        task_id
            One id, or several.
        terminate
            Also end those that run: kills the process of a process pool, raises in the thread of a thread pool.
        signal
            The signal for a process pool.
        """
        ids = task_id if isinstance(task_id, str) else [str(one) for one in task_id]
        arguments = {"task_id": ids, "terminate": terminate, "signal": signal}
        if self.app.remote and destination is None:
            self.revokes.add(several := [ids] if isinstance(ids, str) else ids)
            self.revokes.keep(several)
        return self.broadcast("revoke", arguments, destination, **kwargs)

    def terminate(
        self, task_id: str | Iterable[str], destination: Any = None, signal: str | None = "SIGTERM", **kwargs: Any
    ) -> Any:
        """Revoke tasks, those that run included."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **kwargs)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Any = None,
        terminate: bool = False,
        signal: str | None = "SIGTERM",
        **kwargs: Any,
    ) -> Any:
        """Do not run tasks that bear one of these stamps, now and from now on.

        Parameters
        ----------
        headers
            Stamp name -> a value, or several.
        terminate, signal
            As for `revoke`.
        """
        stamps = {name: list(value) if isinstance(value, set | frozenset) else value for name, value in headers.items()}
        if self.app.remote and destination is None:
            self.revokes.add_stamps(stamps)
            self.revokes.keep((), stamps)
        arguments = {"headers": stamps, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **kwargs)

    def is_stamped_revoked(self, message: Message) -> bool:
        """Say whether a message bears a revoked stamp."""
        return self._here.is_hit_by_stamp(message)

    def waits_again(self, message: Message) -> None:
        """Hear that a message was put back to wait: it may have been revoked just before, when it was in no queue."""
        call_id = message.call.id
        if self._revokes.hits(call_id, message.call.stamps):
            self._here.end_waiting(lambda one: one.call.id == call_id)

    def purge(self, connection: Any = None) -> int:
        """Drop every message that waits in a known queue, and return how many there were.

        In the embedded worker, what waited for them ends as REVOKED; on a broker nobody hears of it, as with Celery.
        """
        return int(self.app.broker.purge()) if self.app.remote else self._here.purge()

    discard_all = purge

    # -- the others ---------------------------------------------------------------------------------------------------

    def election(self, id: str, topic: str, action: Any = None, connection: Any = None) -> None:
        """Hold an election among workers."""
        self.broadcast("election", {"id": id, "topic": topic, "action": action})

    def ping(self, destination: Any = None, timeout: float | None = 1.0, **kwargs: Any) -> list[dict[str, Any]]:
        """Return one answer for each worker."""
        return self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **kwargs) or []

    def rate_limit(self, task_name: str, rate_limit: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Change how often a task may start; None or 0 takes the limit away."""
        return self.broadcast("rate_limit", {"task_name": task_name, "rate_limit": rate_limit}, destination, **kwargs)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Change a task's time limits, for executions that start from now on."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **kwargs)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Take messages from one more queue."""
        arguments = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            **(options or {}),
        }
        return self.broadcast("add_consumer", arguments, destination, **kwargs)

    def cancel_consumer(self, queue: str, destination: Any = None, **kwargs: Any) -> Any:
        """Take messages from a queue no more."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **kwargs)

    def enable_events(self, destination: Any = None, **kwargs: Any) -> Any:
        """Tell events of tasks from now on."""
        return self.broadcast("enable_events", {}, destination, **kwargs)

    def disable_events(self, destination: Any = None, **kwargs: Any) -> Any:
        """Tell events of tasks no more."""
        return self.broadcast("disable_events", {}, destination, **kwargs)

    def pool_grow(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        """Run `n` tasks more at a time."""
        return self.broadcast("pool_grow", {"n": n}, destination, **kwargs)

    def pool_shrink(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        """Run `n` tasks fewer at a time."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **kwargs)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Restart pools, and import modules or reload them (``worker_pool_restarts`` allows it)."""
        arguments = {"modules": modules, "reload": reload, "reloader": reloader}
        return self.broadcast("pool_restart", arguments, destination, **kwargs)

    def autoscale(self, max: int, min: int, destination: Any = None, **kwargs: Any) -> Any:
        """Change the bounds of pools that scale by themselves."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **kwargs)

    def shutdown(self, destination: Any = None, **kwargs: Any) -> Any:
        """End workers, once what they run has ended."""
        return self.broadcast("shutdown", {}, destination, **kwargs)

    def heartbeat(self, destination: Any = None, **kwargs: Any) -> Any:
        """Tell a heartbeat now."""
        return self.broadcast("heartbeat", {}, destination, **kwargs)


def _question(
    command: str,
    arguments: Mapping[str, Any] | None,
    destination: Sequence[str] | str | None,
    pattern: Any,
    matcher: str | None,
) -> Question:
    """Check what is asked, and of whom."""
    if destination is not None and not isinstance(destination, str | list | tuple | set | frozenset):
        msg = f"destination has to be names of workers, such as ['celery@host'], not {destination!r}"
        raise ValueError(msg)
    names = [destination] if isinstance(destination, str) else None if destination is None else list(destination)
    if any(not isinstance(name, str) for name in names or ()):
        msg = f"destination has to be names of workers, such as ['celery@host'], not {destination!r}"
        raise ValueError(msg)
    if matcher is not None and matcher not in {"glob", "pcre"}:
        msg = f"matcher has to be 'glob' or 'pcre', not {matcher!r}"
        raise ValueError(msg)
    if pattern is not None and not isinstance(pattern, str):
        msg = f"pattern has to be a text, not {pattern!r}"
        raise ValueError(msg)
    return Question(command, arguments or {}, names or None, pattern, matcher or ("glob" if pattern else None))


def _seconds(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < 1 << 31:
        msg = f"timeout has to be a number of seconds, not {timeout!r}"
        raise ValueError(msg)
    return float(timeout)
