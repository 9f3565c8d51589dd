"""Which queue a task goes to (Celery's guide, "Routing Tasks")."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["route_of"]


def route_of(name: str, routes: Any, options: Mapping[str, Any] | None = None, args: Any = (),
             kwargs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the routing options that the setting ``task_routes`` gives a task.

    Parameters
    ----------
    name
        The task's name.
    routes
        A mapping of names, globs (``feeds.*``) or compiled patterns to a queue name or options; a function
        ``(name, args, kwargs, options, task=None)``; or a list of those, the first answer wins.
    options, args, kwargs
        Handed to functions.
    """
    if not routes:
        return {}
    for router in routes if isinstance(routes, list | tuple) else [routes]:
        found = _ask(router, name, options or {}, args, kwargs or {})
        if found:
            return {"queue": found} if isinstance(found, str) else dict(found)
    return {}


def _ask(router: Any, name: str, options: Mapping[str, Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
    if isinstance(router, Mapping):
        return _look_up(router, name)
    if isinstance(router, tuple | list) and len(router) == 2:  # noqa: PLR2004 - (pattern, route)
        return _look_up({router[0]: router[1]}, name)
    route: Callable[..., Any] = getattr(router, "route_for_task", router)
    return route(name, args, kwargs, options, task=None)


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
