"""Which queue a task goes to (Celery's guide, "Routing Tasks")."""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbcanvas.errors import ImproperlyConfigured

__all__ = ["asks_functions", "route_of"]


def route_of(
    name: str,
    routes: Any,
    options: Mapping[str, Any] | None = None,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    task: Any = None,
) -> dict[str, Any]:
    """Return the routing options that the setting ``task_routes`` gives a task.

    Parameters
    ----------
    name
        The task's name.
    routes
        A router, or a list of routers, of which the first answer counts.  A router is a mapping (or a list of pairs)
        of names, globs (``feeds.*``) or compiled patterns to a queue's name or options; a function
        ``(name, args, kwargs, options, task=None)``; or the name of such a function (``"package.module.function"``).
    options, args, kwargs, task
        Handed to functions.

    Raises
    ------
    ImproperlyConfigured
        When something else stands in `routes`.
    """
    for router in _routers(routes):
        found = _ask(router, name, options or {}, args, kwargs or {}, task)
        if found:
            return {"queue": found} if isinstance(found, str) else dict(found)
    return {}


def asks_functions(routes: Any) -> bool:
    """Say whether the answers may depend on more than the task's name."""
    return any(not isinstance(router, Mapping) and _table(router) is None for router in _routers(routes))


def _routers(routes: Any) -> Iterable[Any]:
    if not routes:
        return ()
    return routes if isinstance(routes, list | tuple) else (routes,)


def _table(router: Any) -> Mapping[Any, Any] | None:
    """Return a pair, or a list of pairs, as the mapping it stands for; None for anything else."""
    if _is_pair(router):
        return {router[0]: router[1]}
    if isinstance(router, list | tuple) and all(map(_is_pair, router)):
        return dict(router)
    return None


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str | re.Pattern)
        and isinstance(value[1], str | Mapping)
    )


def _ask(router: Any, name: str, options: Mapping[str, Any], args: Any, kwargs: Mapping[str, Any], task: Any) -> Any:
    table = router if isinstance(router, Mapping) else _table(router)
    if table is not None:
        return _look_up(table, name)
    if isinstance(router, str):
        router = _named(router)
    if hasattr(router, "route_for_task"):  # the form of Celery 3
        return router.route_for_task(name, args, kwargs)
    if not callable(router):
        msg = (
            f"task_routes: {router!r:.80} is no router; use a mapping, a list of pairs, a function, or the name of one"
        )
        raise ImproperlyConfigured(msg)
    route: Callable[..., Any] = router
    return route(name, args, kwargs, options, task=task)


def _named(path: str) -> Any:
    module, _, function = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"task_routes: there is no function {path!r}: {error}"
        raise ImproperlyConfigured(msg) from error
    return found() if isinstance(found, type) else found


def _look_up(table: Mapping[Any, Any], name: str) -> Any:
    if name in table:
        return table[name]
    for pattern, route in table.items():
        if isinstance(pattern, re.Pattern):
            if pattern.match(name):
                return route
        elif "*" in str(pattern) and fnmatch.fnmatchcase(name, str(pattern)):
            return route
    return None
