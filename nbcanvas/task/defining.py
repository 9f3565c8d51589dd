"""From a function, or a class, to a task that is ready to be called."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from nbcanvas.canvas.signature import make
from nbcanvas.validation import validated

from .parameters import signature_of
from .retries import retrying
from .task import Task

__all__ = ["from_function", "prepare", "version_of"]


def from_function(
    fun: Callable[..., Any],
    name: str,
    base: type[Task],
    *,
    bind: bool = False,
    pydantic: bool = False,
    pydantic_strict: bool = False,
    pydantic_context: Any = None,
    pydantic_dump_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Task:
    """Make a task of a function.

    Parameters
    ----------
    fun
        The function.
    name
        The task's name.
    base
        Its class.
    bind
        Whether the function's first parameter is the task itself.
    pydantic, pydantic_strict, pydantic_context, pydantic_dump_kwargs
        Validate arguments annotated with pydantic models, and dump a returned model (the guide, "Pydantic").
    **options
        Class attributes.

    Raises
    ------
    TypeError
        For an option that looks like a misspelt one, or that would take a method away; and for a coroutine function.
    """
    _refuse_coroutine(fun, name)
    for option, value in options.items():
        _check_option(base, option, value)
    cls = type(
        fun.__name__,
        (base,),
        {
            "__module__": fun.__module__,
            "__doc__": fun.__doc__,
            "__qualname__": fun.__qualname__,
            "name": name,
            **options,
        },
    )
    task: Task = cls()
    work = fun
    if pydantic:
        work = validated(fun, strict=pydantic_strict, context=pydantic_context, dump_kwargs=pydantic_dump_kwargs or {})
    task.run = MethodType(work, task) if bind else work  # type: ignore[method-assign]
    task._unbound = not bind  # noqa: SLF001 - made here
    task.__wrapped__ = MethodType(fun, task) if bind else fun  # type: ignore[attr-defined]
    cls.__signature__ = signature_of(task.run)  # type: ignore[attr-defined] # on the class, where help() looks
    task.__name__ = fun.__name__  # type: ignore[attr-defined]
    task.__defaults__ = getattr(fun, "__defaults__", None)  # type: ignore[attr-defined]
    task.__annotations__ = getattr(fun, "__annotations__", {})
    task.version = version_of(fun)
    prepare(task)
    return task


_HOOKS = frozenset({"before_start", "on_success", "on_failure", "on_retry", "after_return", "on_bound", "on_replace"})
#: How much a name that no task has must look like one that tasks have to be taken for a mistake.
_ALIKE = 0.75
_MISSING = object()


def _check_option(base: type[Task], option: str, value: Any) -> None:
    """Refuse an option that is a mistake; any other one that no task has becomes an attribute, as in Celery."""
    if not hasattr(base, option):
        near = difflib.get_close_matches(option, [n for n in dir(Task) if not n.startswith("_")], 1, _ALIKE)
        if near:
            msg = f"unknown task option {option!r}; did you mean {near[0]!r}?"
            raise TypeError(msg)
        return
    own = vars(Task).get(option, _MISSING)
    is_part = own is not _MISSING and (option.startswith("_") or hasattr(own, "__get__"))
    if is_part and not (option in _HOOKS and callable(value)):
        msg = f"{option!r} is no task option but a part of every task; choose another name, or give a class with base="
        raise TypeError(msg)


def _refuse_coroutine(fun: Any, name: Any) -> None:
    if inspect.iscoroutinefunction(fun) or inspect.isasyncgenfunction(fun):
        msg = f"task {name}: an async function cannot be a task; write a plain one that calls asyncio.run(...)"
        raise TypeError(msg)


def prepare(task: Task) -> None:
    """Make a task of a class ready: automatic retries, and a version."""
    _refuse_coroutine(task.run, task.name)
    if not task.version:
        task.version = version_of(type(task))
    if task.autoretry_for:
        task.run = retrying(task, task.run)  # type: ignore[method-assign]
    for method in ("s", "si", "delay"):
        if getattr(type(task), method) is getattr(Task, method):
            task.__dict__[method] = _showing(task, getattr(task, method))


def _showing(task: Task, method: MethodType) -> Callable[..., Any]:
    """Return the method as a function that shows the parameters of the task's own function (completion, ``?``)."""
    if method.__name__ == "s":  # the busiest one: as quick as the method

        def shown(*args: Any, **kwargs: Any) -> Any:
            return make(task, args, kwargs)
    else:

        def shown(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

    functools.update_wrapper(shown, method)
    shown.__wrapped__ = task.run  # type: ignore[attr-defined]
    return shown


def version_of(source: Any) -> str:
    """Return a short hash of the source of a function or class; of its bytecode when there is no source."""
    try:
        text = inspect.getsource(source)
    except (OSError, TypeError):
        code = getattr(source, "__code__", None)
        text = repr((code.co_code, code.co_consts, code.co_names)) if code is not None else repr(source)
    import hashlib  # loads OpenSSL: only where tasks are defined

    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
