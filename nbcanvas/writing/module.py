"""A canvas as a module that stock Celery runs: its tasks, the app, and the canvas itself."""

from __future__ import annotations

import keyword
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from nbcanvas.app import App
from nbcanvas.canvas import Signature, raw
from nbcanvas.canvas.code import source_of
from nbcanvas.errors import NotWritable

from .sources import Sources

__all__ = ["is_written", "module_source"]

#: What the first line of a written module says behind its title: by this it is known again.
_SIGN: Final = ", written from a notebook by nbcanvas."

_HEAD: Final = '''\
"""{title}{sign} It needs Celery, and nothing of nbcanvas.

    python {name}.py                  runs the canvas in this process, with no broker and no worker

    export CELERY_BROKER_URL=redis://localhost:6379/0
    celery -A {name} worker           runs its tasks, from now on
    python {name}.py                  sends the canvas to the workers, and prints its value

CELERY_RESULT_BACKEND says where results are kept; without it they are kept where the broker is, if that is Redis.
Arguments and results travel as JSON; see task_serializer and accept_content in Celery's guide for other values.
"""
'''
_APP: Final = """\
BROKER = os.environ.get("CELERY_BROKER_URL", "memory://")
BACKEND = os.environ.get("CELERY_RESULT_BACKEND") or (BROKER if BROKER.startswith("redis") else "cache+memory://")

app = Celery("{name}", broker=BROKER, backend=BACKEND{more})
app.conf.task_always_eager = BROKER == "memory://"
"""
_TRACKING: Final = '''\
class Task(CeleryTask):
    """Celery's task, and a loop that says how far it is."""

    def track(self, items, total=None):
        """Iterate, reporting how far the loop is as the state PROGRESS, ten times a second at most."""
        if total is None:
            total = len(items) if hasattr(items, "__len__") else None
        told = 0.0
        for count, item in enumerate(items, 1):
            yield item
            if self.request.id and _monotonic() - told > 0.1:
                told = _monotonic()
                self.update_state(state="PROGRESS", meta={"current": count, "total": total})
'''
_FOOT: Final = """\
if __name__ == "__main__":
    print(canvas().apply_async({options}).get())
"""


def module_source(
    sig: Signature,
    app: App,
    name: str,
    *,
    title: str = "A canvas",
    options: Mapping[str, Any] | None = None,
) -> str:
    """Return the source of a module that runs a canvas under Celery.

    Parameters
    ----------
    sig
        The canvas.
    app
        The app that has its tasks.
    name
        The module's name.
    title
        What its docstring begins with.
    options
        What ``apply_async`` is given.

    Raises
    ------
    NotWritable
        Naming the task and the variable that cannot be written.
    NotRegistered
        When the canvas has a task that `app` has not.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise NotWritable(f"a module cannot be called {name!r}; choose a name that a variable could have")
    sources = Sources(app)
    variables = {task: sources.task(app.tasks[task]) for task in _tasks(sig) if not task.startswith("celery.")}
    written = source_of(sig, variables.get, indent=4, unfold=True)
    called = source_of(Signature("x", (), dict(options or {})), {"x": "x"}.get).text[len("x.s(") : -1]
    celerys = {"Celery", *(word for word in written.words if re.search(rf"\b{word}\(", written.text))}
    imports = {"import os", *written.imports}
    if sources.tracks:
        celerys.add("Task as CeleryTask")
        imports.add("from time import monotonic as _monotonic")
        sources.imports.discard("from celery import Task")
    for line in sources.imports:
        found = re.fullmatch(r"from celery import (.+)", line)
        if found:
            celerys.add(found[1])
        else:
            imports.add(line)
    plain, others = _sorted(imports)
    parts = [
        _HEAD.format(title=title, sign=_SIGN, name=name),
        "\n".join(plain) + "\n",
        "\n".join([f"from celery import {', '.join(sorted(celerys))}", *others]) + "\n",
        *([f"\n{_TRACKING}\n"] if sources.tracks else []),
        _APP.format(name=name, more=", task_cls=Task" if sources.tracks else ""),
        *_spaced(sources.pieces.values()),
        f'\ndef canvas():\n    """Return the canvas."""\n    return {written.text}\n\n',
        _FOOT.format(options=called),
    ]
    text = "\n".join(parts)
    compile(text, f"{name}.py", "exec", dont_inherit=True)
    return text


def is_written(first: str) -> bool:
    """Whether a module with this first line is one that `module_source` made."""
    return first.startswith('"""') and _SIGN in first


def _sorted(imports: set[str]) -> tuple[list[str], list[str]]:
    """Return imports of the standard library, and others."""
    plain: list[str] = []
    others: list[str] = []
    imports = {line for line in imports if not any(other.startswith(f"{line}.") for other in imports)}
    for line in sorted(imports, key=lambda line: (line.startswith("from"), line)):
        root = line.split()[1].partition(".")[0]
        (plain if root in sys.stdlib_module_names else others).append(line)
    return plain, others


def _spaced(pieces: Iterable[str]) -> Iterator[str]:
    """Yield definitions with the blank lines around them that they are used to."""
    before = False
    for text in pieces:
        alone = text.startswith(("def ", "class ", "@"))
        yield f"\n{text}\n" if alone or before else f"{text}\n"
        before = alone


def _tasks(sig: Signature) -> list[str]:
    """Return the names of the tasks of a canvas, those in links, maps and arguments too, in their order."""
    found: dict[str, None] = {}
    todo: deque[Any] = deque((sig,))
    while todo:
        one = todo.popleft()
        if isinstance(one, Signature):
            if not one.MEMBERS:
                found[str(raw(one, "task"))] = None
            todo += [*raw(one, "args"), *raw(one, "kwargs").values(), *raw(one, "options").values()]
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one
    return list(found)
