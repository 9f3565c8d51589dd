"""The source of what was defined in cells, with all that it needs, in an order in which Python can run it.

A function needs what its free names mean where it was defined: functions and classes of cells are copied, what a
module has is imported, constants are written as literals.  What is none of these cannot be written, and is named.
"""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import linecache
import logging
import pathlib
import re
import symtable
import sys
import textwrap
from collections.abc import Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from nbcanvas import errors, states
from nbcanvas import result as results
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
from nbcanvas.canvas.code import value_source
from nbcanvas.errors import NotWritable
from nbcanvas.task import Task

__all__ = ["Sources"]

#: What nbcanvas has under the same name as Celery, and where Celery has it.
_CELERYS: Final[Mapping[int, tuple[str, str]]] = {
    id(value): (module, name)
    for module, values in (
        (
            "celery",
            {
                "chain": chain,
                "chord": chord,
                "chunks": chunks,
                "current_task": current_task,
                "group": group,
                "maybe_signature": maybe_signature,
                "signature": signature,
                "states": states,
                "uuid": uuid,
                "xmap": xmap,
                "xstarmap": xstarmap,
            },
        ),
        ("celery.canvas", {"Signature": Signature, "StampingVisitor": StampingVisitor}),
        (
            "celery.result",
            {
                n: getattr(results, n)
                for n in ("AsyncResult", "EagerResult", "GroupResult", "ResultSet", "allow_join_result")
            },
        ),
        (
            "celery.exceptions",
            {
                name: getattr(errors, name)
                for name in (
                    "ChordError",
                    "Ignore",
                    "ImproperlyConfigured",
                    "IncompleteStream",
                    "InvalidTaskError",
                    "MaxRetriesExceededError",
                    "NotRegistered",
                    "Reject",
                    "Retry",
                    "SoftTimeLimitExceeded",
                    "TaskError",
                    "TaskPredicate",
                    "TaskRevokedError",
                    "Terminated",
                    "TimeLimitExceeded",
                    "TimeoutError",
                    "WorkerLostError",
                )
            },
        ),
    )
    for name, value in values.items()
}
_MISSING: Final = object()
#: Names the module has for itself.
RESERVED: Final = ("app", "canvas", "Celery", "BROKER", "BACKEND")


class Sources:
    """Definitions for a module, collected from what needs them.

    Attributes
    ----------
    imports
        Import statements.
    pieces
        Definitions by name, in an order in which they can be run.
    tracks
        Whether a task uses ``self.track``, which Celery's tasks have not.

    Parameters
    ----------
    app
        Whose tasks these are.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.imports: set[str] = set()
        self.pieces: dict[str, str] = {}
        self.tracks = False
        self._bound: dict[str, Any] = {}

    # -- tasks --------------------------------------------------------------------------------------------------------

    def task(self, found: Task) -> str:
        """Add a task; return the variable that stands for it.

        Raises
        ------
        NotWritable
            Naming the task, and the variable it uses, that cannot be written.
        """
        fun = getattr(found, "__wrapped__", None)
        if isinstance(fun, MethodType):
            fun = fun.__func__
        if not isinstance(fun, FunctionType | BuiltinFunctionType):
            raise NotWritable(f"task {found.name} is made of a class, which cannot be written; write it as a function")
        variable = fun.__name__
        if self._claims(variable, found, f"task {found.name}"):
            return variable
        whose = f"task {found.name}"
        if _importable(fun):
            self.imports.add(f"from {fun.__module__} import {variable} as _{variable}")
            options = [f"name={found.name!r}".replace("'", '"'), *self._options(found, whose)]
            self.pieces[variable] = f"{variable} = app.task({', '.join(options)})(_{variable})"
            return variable
        text = self._of_function(fun, whose)
        self._define(variable, self._decorated(found, text, _globals(fun)), _scope(fun, whose), whose)
        return variable

    def _options(self, found: Task, whose: str) -> Iterable[str]:
        """Yield the options of a task that was made by calling ``task(...)``."""
        if not found._unbound:  # noqa: SLF001 - what bind= was
            yield "bind=True"
        for name, value in vars(type(found)).items():
            if name == "name" or name.startswith("__"):
                continue
            yield f"{name}={self._value(value, whose, name)}"

    def _value(self, value: Any, whose: str, name: str) -> str:
        if isinstance(value, type):
            self.need(value.__name__, {value.__name__: value}, whose)
            return value.__name__
        if isinstance(value, tuple) and any(isinstance(one, type) for one in value):
            return f"({''.join(f'{self._value(one, whose, name)}, ' for one in value).rstrip()})"
        return self._literal(value, whose, name)

    def _decorated(self, found: Task, text: str, namespace: Mapping[str, Any]) -> str:
        """Return a function with the decorator of the module's app in the place of its own."""
        node = ast.parse(text).body[0]
        if not isinstance(node, ast.FunctionDef):
            raise NotWritable(f"task {found.name} is no function with a name; write it with def")
        lines = [f'name="{found.name}"']
        above = []
        for decorator in node.decorator_list:
            if lines and _makes_tasks(decorator, namespace):
                given = decorator.keywords if isinstance(decorator, ast.Call) else []
                for keyword in given:
                    value = ast.get_source_segment(text, keyword.value)
                    if keyword.arg != "name":
                        lines.append(f"**{value}" if keyword.arg is None else f"{keyword.arg}={value}")
                above.append(f"@app.task({', '.join(lines)})")
                lines = []
            else:
                above.append(f"@{ast.get_source_segment(text, decorator)}")
        if lines:
            above.insert(0, f"@app.task({', '.join([*lines, *self._options(found, f'task {found.name}')])})")
        first = node.args.args[0].arg if node.args.args else None
        self.tracks |= any(
            isinstance(part, ast.Attribute) and part.attr == "track" and _root(part) == first for part in ast.walk(node)
        )
        return "\n".join([*above, *text.splitlines()[node.lineno - 1 :]])

    # -- names --------------------------------------------------------------------------------------------------------

    def need(self, name: str, namespace: Mapping[str, Any], whose: str) -> None:
        """Add what a name means.

        Parameters
        ----------
        name
            The name.
        namespace
            Where it means something.
        whose
            Who needs it, for errors.

        Raises
        ------
        NotWritable
            When what it means cannot be written.
        """
        value = namespace.get(name, _MISSING)
        if value is _MISSING or value is getattr(builtins, name, _MISSING):
            return  # Python's own; or nothing, and then it means nothing in the notebook, too
        if name == "app" and isinstance(value, App):
            return
        if isinstance(value, Task):
            variable = self.task(value)
            if variable != name and not self._claims(name, value, whose):
                self.pieces[name] = f"{name} = {variable}"
        elif not self._claims(name, value, whose):
            self._add(name, value, whose)

    def _claims(self, name: str, value: Any, whose: str) -> bool:
        """Say whether a name stands for a value already; else it does from now on."""
        if name in RESERVED:
            raise NotWritable(f"{whose} uses the name {name}, which the module needs for itself; choose another")
        if name in self._bound:
            if self._bound[name] is not value:
                raise NotWritable(f"{whose} uses another {name} than the rest; a module has one of each name")
            return True
        self._bound[name] = value
        return False

    def _add(self, name: str, value: Any, whose: str) -> None:
        whose = f"{whose} uses {name}, which"
        known = _CELERYS.get(id(value))
        if known is not None:
            self._import_from(*known, name)
        elif value is Task:
            self.imports.add("from celery import Task")
        elif value is task or value is shared_task:
            self.pieces[name] = f"{name} = app.task"
        elif value is current_app or isinstance(value, App):
            self.pieces[name] = f"{name} = app" if isinstance(value, App) else f"def {name}():\n    return app"
        elif isinstance(value, ModuleType):
            self._module(name, value, whose)
        elif isinstance(value, type | FunctionType) and value.__module__.partition(".")[0] == "nbcanvas":
            raise NotWritable(f"{whose} Celery does not have: {value.__module__}.{value.__qualname__}")
        elif isinstance(value, type | FunctionType | BuiltinFunctionType) and _importable(value):
            self._import_from(value.__module__, value.__qualname__, name)
        elif isinstance(value, type):
            self._define(name, _class_text(value, whose), _module_of(value), whose)
        elif isinstance(value, FunctionType):
            self._function(name, value, whose)
        else:
            self._constant(name, value, whose)

    def _import_from(self, module: str, name: str, as_: str) -> None:
        self.imports.add(f"from {module} import {name}" + (f" as {as_}" if as_ != name else ""))

    def _module(self, name: str, module: ModuleType, whose: str) -> None:
        full = module.__name__
        if full.partition(".")[0] == "nbcanvas":
            raise NotWritable(
                f"{whose} is the module {full}; import what you need by its name: from nbcanvas import group"
            )
        if getattr(module, "__spec__", None) is None:
            raise NotWritable(f"{whose} is a module that cannot be imported elsewhere")
        if full == name:
            self.imports.add(f"import {full}")
        else:
            parent, _, last = full.rpartition(".")
            self.imports.add(f"from {parent} import {last}" if parent and last == name else f"import {full} as {name}")

    def _function(self, name: str, fun: FunctionType, whose: str) -> None:
        text = self._of_function(fun, whose)
        node = ast.parse(text).body[0]
        defined = getattr(node, "name", None) or _assigned(node)
        self._define(name, text, _scope(fun, whose), whose)
        if defined != name and defined is not None:
            self.pieces[name] = f"{text}\n\n\n{name} = {defined}"
            self._claims(defined, fun, whose)

    def _constant(self, name: str, value: Any, whose: str) -> None:
        text: str | None = None
        if isinstance(value, re.Pattern):
            self.imports.add("import re")
            text = f"re.compile({value.pattern!r}, {int(value.flags)})"
        elif isinstance(value, logging.Logger):
            self.imports.add("import logging")
            text = f"logging.getLogger({value.name!r})"
        elif isinstance(value, pathlib.PurePath):
            self.imports.add("import pathlib")
            text = f"pathlib.Path({str(value)!r})"
        elif isinstance(value, enum.Enum):
            self.need(type(value).__name__, {type(value).__name__: type(value)}, whose)
            text = f"{type(value).__name__}.{value.name}"
        elif (module := _found_in_a_module(name, value)) is not None:
            self._import_from(module, name, name)
            return
        self.pieces[name] = f"{name} = {self._literal(value, whose, '') if text is None else text}"

    def _literal(self, value: Any, whose: str, name: str) -> str:
        try:
            source = value_source(value)
        except NotWritable as error:
            about = f"{whose} is" if not name else f"{whose}: option {name}:"
            raise NotWritable(f"{about} {error}") from None
        self.imports.update(source.imports)
        for word in source.words:
            self._import_from("celery", word, word)
        for found in source.tasks:
            self.task(self.app.tasks[found])
        return source.text

    # -- definitions --------------------------------------------------------------------------------------------------

    def _define(self, name: str, text: str, namespace: Mapping[str, Any], whose: str) -> None:
        """Add a definition behind all that it needs."""
        self._submodules(text, namespace)
        for needed in _free_names(text):
            if needed not in {name, "app"} or (needed == "app" and not isinstance(namespace.get("app"), App | None)):
                self.need(needed, namespace, whose)
        self.pieces[name] = text

    def _submodules(self, text: str, namespace: Mapping[str, Any]) -> None:
        """Import the modules that stand behind dots: ``xml.etree`` needs more than ``import xml``."""
        for part in ast.walk(ast.parse(text)):
            if isinstance(part, ast.Attribute):
                path = _path(part)
                found = namespace.get(path[0]) if path else None
                for at, attribute in enumerate(path[1:], 2):
                    found = getattr(found, attribute, None) if isinstance(found, ModuleType) else None
                    full = ".".join(path[:at])
                    if isinstance(found, ModuleType) and found.__name__ == full and full in sys.modules:
                        self.imports.add(f"import {full}")

    @staticmethod
    def _of_function(fun: Any, whose: str) -> str:
        """Return the text of a function's definition."""
        try:
            text = textwrap.dedent(inspect.getsource(inspect.unwrap(fun)))
        except (OSError, TypeError):
            raise NotWritable(f"{whose} has no source that could be found; define it in a cell, with def") from None
        try:
            body = ast.parse(text).body
        except SyntaxError:
            body = []
        named = [n for n in body if isinstance(n, ast.FunctionDef) or _is_lambda(n)]
        if len(body) != 1 or not named:
            raise NotWritable(f"{whose} is a function in the middle of something else; define it alone, with def")
        return text.rstrip()


def _is_lambda(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and _assigned(node) is not None


def _assigned(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _globals(fun: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(inspect.unwrap(fun), "__globals__", {})
    return found


def _scope(fun: Any, whose: str) -> Mapping[str, Any]:
    """Return what the names in a function mean: those of its module, and what it closes over."""
    inner = inspect.unwrap(fun)
    try:
        closed = inspect.getclosurevars(inner).nonlocals if inner.__closure__ else {}
    except ValueError:
        raise NotWritable(f"{whose} closes over something that is not there yet") from None
    return {**_globals(fun), **closed}


def _module_of(value: Any) -> Mapping[str, Any]:
    return vars(sys.modules[value.__module__]) if value.__module__ in sys.modules else {}


def _importable(value: Any) -> bool:
    """Say whether a module has this very object under its name, and can be imported where Celery runs."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or getattr(module, "__spec__", None) is None:
        return False
    if "." in value.__qualname__ or getattr(module, value.__qualname__, None) is not value:
        return False
    # What imports nbcanvas would bring it along.
    return not any(str(getattr(one, "__module__", "")).startswith("nbcanvas") for one in vars(module).values())


def _found_in_a_module(name: str, value: Any) -> str | None:
    """Return a module that has a value under its name: of things that do not know where they are from."""
    if value is None or isinstance(value, str | int | float | bytes | tuple | frozenset | list | dict | set):
        return None
    found = [
        full
        for full, module in list(sys.modules.items())
        if not full.startswith(("__main__", "nbcanvas", "IPython", "_"))
        and isinstance(module, ModuleType)
        and getattr(module, "__spec__", None) is not None
        and vars(module).get(name) is value
    ]
    return min(found, key=lambda full: (full.count("."), full), default=None)


def _makes_tasks(decorator: ast.expr, namespace: Mapping[str, Any]) -> bool:
    """Say whether a decorator is ``task``, ``shared_task``, or the ``task`` of an app; called or not."""
    callee = decorator.func if isinstance(decorator, ast.Call) else decorator
    path = _path(callee)
    if not path:
        return False
    found = namespace.get(path[0])
    for attribute in path[1:]:
        found = getattr(found, attribute, None)
    own = getattr(found, "__func__", None)
    return found is task or found is shared_task or own is App.task


def _path(node: ast.expr) -> list[str]:
    """Return the names of ``a.b.c``; none for anything else."""
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    return [node.id, *reversed(path)] if isinstance(node, ast.Name) else []


def _root(node: ast.expr) -> str | None:
    path = _path(node)
    return path[0] if path else None


def _free_names(text: str) -> list[str]:
    """Return the names that a piece of source takes from around it, in a fixed order."""
    top = symtable.symtable(text, "<source>", "exec")
    own = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    found: dict[str, None] = {}
    todo = [top]
    while todo:
        table = todo.pop(0)
        for symbol in table.get_symbols():
            outside = symbol.is_global() or table is top
            if outside and symbol.get_name() not in own:
                found[symbol.get_name()] = None
        todo += table.get_children()
    return sorted(found)


def _class_text(cls: type, whose: str) -> str:
    """Return the text of a class of a cell; Python itself finds it only from 3.13 on."""
    files = [
        fun.__code__.co_filename
        for fun in map(inspect.unwrap, (v for v in vars(cls).values() if callable(v)))
        if isinstance(fun, FunctionType) and fun.__module__ == cls.__module__
    ]
    module_file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    cells = [name for name in reversed(list(linecache.cache)) if name.startswith("<") or "ipykernel" in name]
    for name in dict.fromkeys([*files, *([module_file] if module_file else []), *cells]):
        text = "".join(linecache.getlines(name))
        try:
            body = ast.parse(text).body
        except SyntaxError:
            continue  # a cell with magics in it
        for node in reversed(body):
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    raise NotWritable(f"{whose} is a class whose source cannot be found; define it in a cell, at its top")
