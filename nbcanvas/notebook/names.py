"""Variables named on the line: an app, a visitor, a run."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from nbcanvas.app import App
from nbcanvas.canvas import StampingVisitor
from nbcanvas.run import Run
from nbcanvas.task import Task

from .errors import CellError, UnknownOption

__all__ = ["app_named", "refuse_taken", "run_named", "variables", "visitor_named"]

Namespace = Mapping[str, Any]


def app_named(namespace: Namespace, name: str) -> App:
    """Return the app in a variable.

    Raises
    ------
    UnknownOption
        When there is no such variable.
    CellError
        When it holds something else.
    """
    app = _variable(namespace, "app", name, App)
    if not isinstance(app, App):
        raise CellError(f"--app {name}: it is {_described(app)}, not an App")
    return app


def visitor_named(namespace: Namespace, name: str) -> StampingVisitor:
    """Return the visitor in a variable: an object, or a class to make one of.

    Raises
    ------
    UnknownOption
        When there is no such variable.
    CellError
        When it holds something else, or a class that needs arguments.
    """
    found = _variable(namespace, "visitor", name, StampingVisitor)
    if inspect.isclass(found) and issubclass(found, StampingVisitor):
        try:
            return found()
        except TypeError as error:
            raise CellError(f"-V {name}: {error}; pass the name of an object instead") from None
    if not isinstance(found, StampingVisitor):
        raise CellError(f"-V {name}: it is {_described(found)}, not a StampingVisitor")
    return found


def run_named(namespace: Namespace, runs: Iterable[Run], name: str) -> Run:
    """Return a run by the name of its variable, or by the beginning of its id.

    Raises
    ------
    UnknownOption
        When there is none.
    CellError
        When there are several.
    """
    found = namespace.get(name)
    if isinstance(found, Run):
        return found
    by_id = [run for run in runs if run.id.startswith(name)]
    if len(by_id) > 1:
        raise CellError(f"{len(by_id)} runs have an id that begins with {name}")
    if not by_id:
        raise UnknownOption.of("run", name, variables(namespace, Run), "%canvas runs lists them")
    return by_id[0]


def refuse_taken(namespace: Namespace, option: str, name: str) -> None:
    """Refuse to bind a name whose loss would surprise: a task's, or one of Python's own.

    Raises
    ------
    CellError
        Saying what has the name.
    """
    if isinstance(namespace.get(name), Task):
        raise CellError(f"{option} {name}: {name} is a task; choose another name")
    if name not in namespace and hasattr(builtins, name):
        raise CellError(f"{option} {name}: {name} is Python's own; choose another name")


def variables(namespace: Namespace, kind: type) -> list[str]:
    """Return the names of variables that hold an object of a kind, or a class made from it."""

    def fits(value: Any) -> bool:
        return isinstance(value, kind) or (inspect.isclass(value) and issubclass(value, kind) and value is not kind)

    return sorted(name for name, value in namespace.items() if not name.startswith("_") and fits(value))


def _variable(namespace: Namespace, what: str, name: str, kind: type) -> Any:
    if name not in namespace:
        raise UnknownOption.of(what, name, variables(namespace, kind), "no variable of that name")
    return namespace[name]


def _described(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
