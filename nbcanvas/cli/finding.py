"""Finds the app that ``-A`` means, as Celery does (its guide, "Application")."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Final

from nbcanvas.app import App

__all__ = ["AppNotFound", "find_app", "module_of"]


class AppNotFound(Exception):
    """No app where one was looked for; the text says where that was."""


def find_app(name: str) -> App:
    """Return the app of a name.

    Parameters
    ----------
    name
        ``module:attribute``, ``module.attribute``, or a module or package.  In a module ``app`` counts, then
        ``celery``; of a package also its module ``celery``; then any app in it.

    Raises
    ------
    AppNotFound
        Naming what was tried.
    """
    module_name, colon, attribute = name.partition(":")
    if colon:
        found = _imported(module_name)
        for part in attribute.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                msg = f"-A {name}: module {module_name!r} has no {attribute!r}"
                raise AppNotFound(msg) from None
        return _checked(found, name)
    if _exists(name):
        return _in_module(name)
    parent, _, last = name.rpartition(".")
    if parent and _exists(parent):
        found = getattr(_imported(parent), last, None)
        if isinstance(found, ModuleType):
            return _in_module(name)
        if found is not None:
            return _checked(found, name)
        msg = f"-A {name}: there is no module {name!r}, and module {parent!r} has no {last!r}"
        raise AppNotFound(msg)
    msg = (
        f"-A {name}: there is no module {name!r} in the working directory or on the import path; "
        f"go to the directory it is in, or give that with --workdir"
    )
    raise AppNotFound(msg)


def module_of(name: str) -> str:
    """Return the module that ``-A`` names."""
    module = name.partition(":")[0]
    return module if _exists(module) else module.rpartition(".")[0]


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _imported(name: str) -> Any:
    if not _exists(name):
        msg = f"-A {name}: there is no module {name!r} in the working directory or on the import path"
        raise AppNotFound(msg)
    return importlib.import_module(name)  # what goes wrong inside is the module's own affair, and shown as it is


def _in_module(name: str) -> App:
    module = _imported(name)
    tried = []
    for attribute in ("app", "celery"):
        found = getattr(module, attribute, None)
        tried.append(f"{name}:{attribute}")
        if found is not None and not isinstance(found, ModuleType):
            return _checked(found, f"{name}:{attribute}")
    for inner in (f"{name}.celery", f"{name}.app") if hasattr(module, "__path__") else ():
        tried.append(inner)
        if _exists(inner):
            return _in_module(inner)
    own = [value for value in vars(module).values() if isinstance(value, App)]
    if own:
        return own[0]
    for value in vars(module).values():
        if _is_celerys(value):
            return _checked(value, name)
    msg = f"-A {name}: there is no app in it; tried {', '.join(tried)}, and any App in module {name!r}"
    raise AppNotFound(msg)


#: What of a Celery app's settings says where its servers are, and how to speak with its workers.
_TAKEN: Final = (
    "accept_content",
    *("broker_read_url", "broker_transport_options", "broker_url", "broker_use_ssl", "broker_write_url"),
    *("control_exchange", "event_exchange", "event_queue_prefix", "event_serializer"),
    *("redis_backend_use_ssl", "result_backend", "result_backend_transport_options"),
    *("result_accept_content", "result_serializer", "task_default_queue", "task_serializer"),
)


class Celerys(AppNotFound):
    """An app of Celery's own was found.

    Attributes
    ----------
    settings
        Those that are needed to ask its workers.
    """

    def __init__(self, message: str, found: Any) -> None:
        super().__init__(message)
        values = {name: getattr(found.conf, name, None) for name in _TAKEN}
        self.settings = {name: value for name, value in values.items() if value is not None}


def _checked(found: Any, name: str) -> App:
    if isinstance(found, App):
        return found
    if _is_celerys(found):
        msg = (
            f"-A {name} is an app of Celery's own. Run it with `celery -A {name} worker`; or, for a worker of ours, "
            f"make the app with `from nbcanvas import App` in the place of `from celery import Celery`"
        )
        raise Celerys(msg, found)
    msg = f"-A {name} is no app, but of type {type(found).__qualname__}"
    raise AppNotFound(msg)


def _is_celerys(value: Any) -> bool:
    return any(one.__name__ == "Celery" and one.__module__.startswith("celery.") for one in type(value).__mro__)
