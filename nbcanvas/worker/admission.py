"""What is asked of a message before its task runs: whether it may, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbcanvas.app import App
from nbcanvas.app.settings import TaskDefaults
from nbcanvas.errors import TaskRevokedError, UntrustedTask
from nbcanvas.ledger.port import Delivery
from nbcanvas.plan import Failed, Message, Revoked
from nbcanvas.protocol.letter import Letter
from nbcanvas.task import Task

__all__ = ["acks_late", "admit", "limits_of", "refusal", "tracks_start"]


def admit(app: App, read: Callable[[Letter], Message], delivery: Delivery, letter: Letter) -> Message:
    """Read a message, and take in the task whose code came with it.

    Raises
    ------
    UntrustedTask
        When this worker accepts none, or not that one, and nothing was unpacked; or when the message wants a shipped
        task that is known here, and is not signed itself.
    """
    if "shipped" not in letter.headers:
        message = read(letter)
        if app.shipping is not None and app.tasks.came(message.call.task, message.call.version):
            msg = f"the shipped task {message.call.task!r:.100} was refused: its message is not signed"
            raise UntrustedTask(msg)
        return message
    if app.shipping is None:
        msg = (
            f"task {letter.headers.get('task')!r} was shipped with its message, and this worker does not accept "
            f"shipped tasks: start it with --allow-shipped"
        )
        raise UntrustedTask(msg)
    codes = app.shipping.admit(letter, lost=bool(delivery.began or delivery.redelivered))
    message = read(letter)
    app.shipping.mark(message, codes)
    return message


def refusal(app: App, task: Task | None, message: Message, now: float) -> Failed | Revoked | None:
    """Say how a message ends whose task may not run: it was revoked, is not known, or has expired; None when it may."""
    control, call = app.control, message.call
    if control.revoked and call.id in control.revoked:
        return Revoked(TaskRevokedError("revoked"))
    if control.revoked_stamps and call.stamps and control.is_stamped_revoked(message):
        return Revoked(TaskRevokedError("revoked"))
    if task is None:
        return Failed(app.tasks.missing(call.task))
    if message.expires is not None:
        if now > message.expires:
            return Revoked(TaskRevokedError("expired"), expired=True)
    elif task.expires is not None and isinstance(task.expires, int | float) and now > message.sent + task.expires:
        return Revoked(TaskRevokedError("expired"), expired=True)
    return None


def limits_of(
    task: Task, options: Mapping[str, Any], defaults: TaskDefaults
) -> tuple[float | None, float | None] | None:
    """Return the hard and the soft limit of one execution: its options, then its task, then the settings decide."""
    hard = options.get("time_limit") if options else None
    soft = options.get("soft_time_limit") if options else None
    if hard is None:
        hard = task.time_limit if task.time_limit is not None else defaults.time_limit
    if soft is None:
        soft = task.soft_time_limit if task.soft_time_limit is not None else defaults.soft_time_limit
    return None if hard is None and soft is None else (hard, soft)


def tracks_start(task: Task, defaults: TaskDefaults) -> bool:
    """Whether the state STARTED is kept."""
    return bool(defaults.track_started if task.track_started is None else task.track_started)


def acks_late(app: App, task: Task) -> bool:
    """Whether a task's message is acknowledged when it has ended, and run again when its worker dies."""
    return bool(app.conf.task_acks_late if task.acks_late is None else task.acks_late)
