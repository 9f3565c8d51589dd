"""Where a task's messages go, and how they are sent (Celery's guide, "Routing Tasks")."""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.plan.model import Call, Message
from nbcanvas.protocol.letter import Address
from nbcanvas.protocol.payload import unpack_args
from nbcanvas.request import current
from nbcanvas.servers.queues import Queues
from nbcanvas.task import Task

from .registry import TaskRegistry
from .settings import Settings

__all__ = ["Router", "asks_functions", "route_of"]

#: Attributes of a task that say where its messages go.
_ROUTING: Final = (
    "queue",
    "exchange",
    "exchange_type",
    "routing_key",
    "priority",
    "serializer",
    "delivery_mode",
    "compression",
)
#: So many decisions are remembered.
_MOST: Final = 1000
#: Attributes of a task that its messages' headers tell, where the call does not say otherwise.
_TOLD: Final = ("time_limit", "soft_time_limit", "expires")
_MODES: Final[Mapping[Any, int]] = {"transient": 1, "persistent": 2}


class Router:
    """Decides where messages go: options of the call come first, then the task's, then ``task_routes``, then the rest.

    Parameters
    ----------
    conf
        The settings.
    tasks
        The tasks there are.
    """

    def __init__(self, conf: Settings, tasks: TaskRegistry) -> None:
        self._conf = conf
        self._tasks = tasks
        self.changed()

    def changed(self) -> None:
        """Look at the settings and the tasks anew."""
        self._known: dict[tuple[Any, ...], Address] = {}
        self._queues: Queues | None = None
        self._routes = self._conf.task_routes
        self._asks = asks_functions(self._routes)
        self._inherits = bool(self._conf.task_inherit_parent_priority)

    @property
    def queues(self) -> Queues:
        """The queues there are."""
        if self._queues is None:
            self._queues = Queues.of(self._conf)
        return self._queues

    def of(self, message: Message) -> Address:
        """Return where a message goes.

        Raises
        ------
        ImproperlyConfigured
            When its queue is not in ``task_queues`` and ``task_create_missing_queues`` is off, or a route is none.
        """
        found = self.of_call(message.call)
        above = current()
        client = above[1].reply_to if above is not None else None  # what a task sends is for the client that sent it
        return found if client is None else found._replace(reply_to=client)

    def of_call(self, call: Call) -> Address:
        """Return where a call goes; see `of`."""
        if self._asks or self._inherits:
            return self._decided(call)
        key: tuple[Any, ...] = (call.task, call.version)
        if call.options:
            key += tuple(map(call.options.get, _ROUTING))
        try:
            found = self._known.get(key)
        except TypeError:  # an option that is no plain value: kombu's own objects may stand there
            return self._decided(call)
        if found is None:
            if len(self._known) > _MOST:
                self._known.clear()
            found = self._known[key] = self._decided(call)
        return found

    def _decided(self, call: Call) -> Address:
        task = self._tasks.find(call.task, call.version)
        said = {name: value for name in _ROUTING if (value := getattr(task, name, None)) is not None}
        said |= {name: value for name, value in call.options.items() if value is not None}
        args, kwargs = unpack_args(call.payload) if self._asks else ((), {})
        routed = route_of(call.task, self._routes, said, args, kwargs, task)
        merged = {**routed, **said}
        queue, exchange, key = (_name(merged.get(name)) for name in ("queue", "exchange", "routing_key"))
        if queue is None and (exchange is None or not routed):
            queue = self.queues.default
        spec = None if queue is None else self.queues[queue]
        kind = merged.get("exchange_type") or (spec.exchange_type if spec is not None else "direct")
        mode: Any = merged.get("delivery_mode") or (spec.delivery_mode if spec is not None else None)
        mode = mode or self._conf.task_default_delivery_mode
        if spec is not None and kind == "direct" and not (exchange and key):  # straight to the queue
            exchange, key = "", spec.name
        else:
            exchange = exchange or (spec.exchange if spec is not None else None) or self._default("exchange")
            key = key or (spec.routing_key if spec is not None else None) or self._default("routing_key")
        return Address(
            spec.name if spec is not None else "",
            exchange,
            key,
            self._priority(merged.get("priority")),
            _MODES.get(mode, mode),
            merged.get("serializer"),
            merged.get("compression"),
            self._told(task),
        )

    def _default(self, what: str) -> str:
        return str(self._conf[f"task_default_{what}"] or self.queues.default)

    def _priority(self, said: Any) -> int:
        if said is None and self._inherits:
            above = current()
            message = above[1].message if above is not None else None
            said = message.call.options.get("priority") if message is not None else None
        return int((self._conf.task_default_priority if said is None else said) or 0)

    def _told(self, task: Task | None) -> Mapping[str, Any]:
        if task is None:
            return {}
        ignored = task.ignore_result if task.ignore_result is not None else self._conf.task_ignore_result
        return {
            **{name: value for name in _TOLD if (value := getattr(task, name, None)) is not None},
            "ignore_result": bool(ignored),
        }


def _name(value: Any) -> str | None:
    """Return the name of a queue or an exchange; it may be one of kombu's objects."""
    found = getattr(value, "name", value)
    return str(found) if found else None


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
