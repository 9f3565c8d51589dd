"""Workflow authoring inside Jupyter notebooks: Celery's Canvas, run by a worker in the kernel.

>>> from nbcanvas import task, group
>>> @task
... def add(x, y):
...     return x + y
>>> group(add.s(i, i) for i in range(3))().get(timeout=5)
[0, 2, 4]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from nbcanvas.canvas.host import set_explainer, set_previewer
from nbcanvas.result import (
    AsyncResult,
    EagerResult,
    GroupResult,
    ResultSet,
    allow_join_result,
    result_from_tuple,
)
from nbcanvas.task import Task

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbcanvas.app.connecting import connect, disconnect
    from nbcanvas.run import Cluster, Recording, Run, cluster, frame, submit
    from nbcanvas.run.attach import attach

__version__ = "0.1.0"

#: Celery's older names.
subtask, maybe_subtask = signature, maybe_signature

__all__ = [
    "App",
    "AsyncResult",
    "Cluster",
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
    "cluster",
    "connect",
    "current_app",
    "current_task",
    "disconnect",
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

#: Loaded with their first use: who only sends a task, or runs one, does not pay for all that shows a run.
_LATER = {
    **dict.fromkeys(("connect", "disconnect"), "nbcanvas.app.connecting"),
    **dict.fromkeys(("Cluster", "Recording", "Run", "attach", "cluster", "frame", "submit"), "nbcanvas.run"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return globals().setdefault(name, getattr(import_module(_LATER[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


def _explain(sig: Signature) -> Any:
    from nbcanvas.run import explain

    return explain(sig)


def _preview(*args: Any) -> Any:
    from nbcanvas.tables import preview

    return preview(*args)


set_explainer(_explain)
set_previewer(_preview)


def load_ipython_extension(ip: InteractiveShell) -> None:
    """``%load_ext nbcanvas``: register the magics and the displays."""
    from nbcanvas.notebook import load

    load(ip)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """``%unload_ext nbcanvas``: take everything back, and stop the embedded worker."""
    from nbcanvas.notebook import unload

    unload(ip)
