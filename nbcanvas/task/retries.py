"""Retries that a task makes by itself (the guide, "Automatic retry for known exceptions")."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

from nbcanvas.errors import Ignore, Reject, Retry

from .task import Task

__all__ = ["exponential_backoff", "retrying"]


def retrying(task: Task, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a task runs with its automatic retries."""

    @functools.wraps(work)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return work(*args, **kwargs)
        except (Ignore, Retry, Reject):
            raise
        except task.dont_autoretry_for:
            raise
        except task.autoretry_for as exc:
            settings = dict(task.retry_kwargs or {})
            if task.retry_backoff:
                settings["countdown"] = exponential_backoff(
                    int(max(1, task.retry_backoff)),
                    task.request.retries,
                    task.retry_backoff_max,
                    full_jitter=task.retry_jitter,
                )
            raise task.retry(exc=exc, **settings) from exc

    return run


def exponential_backoff(factor: int, retries: int, maximum: int, *, full_jitter: bool = False) -> int:
    """Return the seconds to wait before the next retry: ``factor * 2**retries``, at most `maximum`.

    With `full_jitter` a random number of seconds up to that (the guide, ``Task.retry_jitter``).
    """
    countdown = min(maximum, factor * 2 ** min(retries, 32))
    return random.randrange(countdown + 1) if full_jitter else max(0, countdown)
