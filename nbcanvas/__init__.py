"""Workflow authoring inside Jupyter notebooks: Celery's Canvas, run by a worker in the kernel.

>>> from nbcanvas import task, group
>>> @task
... def add(x, y):
...     return x + y
>>> group(add.s(i, i) for i in range(3))().get(timeout=5)
[0, 2, 4]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbcanvas.worker  # noqa: F401 - registers what runs tasks
from nbcanvas import errors, states
from nbcanvas.app import App, current_app, current_task, shared_task, task, uuid
from nbcanvas.canvas import (
    Signature,
    StampingVisitor,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    xmap,
    xstarmap,
)
from nbcanvas.result import (
    AsyncResult,
    EagerResult,
    GroupResult,
    ResultSet,
    allow_join_result,
    result_from_tuple,
)
from nbcanvas.run import Recording, Run, attach, frame, submit
from nbcanvas.task import Task

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"

#: Celery's older names.
subtask, maybe_subtask = signature, maybe_signature

__all__ = [
    "App",
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "Recording",
    "ResultSet",
    "Run",
    "Signature",
    "StampingVisitor",
    "Task",
    "allow_join_result",
    "attach",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "errors",
    "frame",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "result_from_tuple",
    "shared_task",
    "signature",
    "states",
    "submit",
    "subtask",
    "task",
    "uuid",
    "xmap",
    "xstarmap",
]


def load_ipython_extension(ip: InteractiveShell) -> None:
    """``%load_ext nbcanvas``: register the magics and the displays."""
    from nbcanvas.notebook import load

    load(ip)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """``%unload_ext nbcanvas``: take everything back, and stop the embedded worker."""
    from nbcanvas.notebook import unload

    unload(ip)
