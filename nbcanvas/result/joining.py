"""Whether a running task may wait for results."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from nbcanvas.request import running

__all__ = ["allow_join_result", "refuse_to_block"]


class _Joining(threading.local):
    allowed = False


_joining = _Joining()


@contextmanager
def allow_join_result() -> Generator[None]:
    """Allow waiting for results inside a task, in this block (it may take a worker slot that the result needs)."""
    before, _joining.allowed = _joining.allowed, True
    try:
        yield
    finally:
        _joining.allowed = before


def refuse_to_block() -> None:
    """Raise RuntimeError inside a task, unless it may wait."""
    if _joining.allowed or not running.stack:
        return
    _, context = running.stack[-1]
    if not context.called_directly and not context.is_eager:
        msg = (
            "Never call result.get() within a task! It can wait for ever for a worker slot that this task holds. "
            "Chain the tasks instead, or use allow_join_result() if you must."
        )
        raise RuntimeError(msg)
