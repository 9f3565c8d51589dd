"""What a canvas asks of an app, as a small protocol: the upper layer registers itself here.

A canvas is plain data. Whatever needs a task registry, settings or a broker goes through a :class:`Host`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from nbcanvas.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from .signature import Signature
    from .stamping import StampingVisitor

__all__ = [
    "Host",
    "Previewer",
    "current_host",
    "explainer",
    "previewer",
    "set_default_host",
    "set_explainer",
    "set_previewer",
]

#: Makes the table of what will be stamped: of a signature, with a visitor, ``append_stamps`` and further stamps.
Previewer = Callable[["Signature", "StampingVisitor | None", bool, Mapping[str, Any]], Any]


class Host(Protocol):
    """The app, as seen from a signature."""

    def lookup(self, name: str) -> Any | None:
        """Return the task registered under `name`, or None."""

    def submit(self, sig: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> Any:
        """Run `sig` on workers; the three others are the call's own partials, not yet merged."""

    def apply(self, sig: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> Any:
        """Run `sig` in the calling thread; partials as for :meth:`submit`."""

    def freeze(
        self,
        sig: Signature,
        *,
        task_id: str | None = None,
        group_id: str | None = None,
        chord: Signature | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Pin the ids of `sig` and return its result handle."""

    @property
    def conf(self) -> Any:
        """Return the settings, by attribute."""

    @property
    def AsyncResult(self) -> Any:  # noqa: N802 - Celery's name
        """Return the class of result handles."""


class _Default:
    factory: Callable[[], Host] | None = None
    explainer: Callable[[Signature], Any] | None = None
    previewer: Previewer | None = None


def set_explainer(explain: Callable[[Signature], Any]) -> None:
    """Say who puts a canvas into words (the room above the pictures does this once)."""
    _Default.explainer = explain


def explainer() -> Callable[[Signature], Any]:
    """Return who puts a canvas into words.

    Raises
    ------
    ImproperlyConfigured
        When nobody does.
    """
    if _Default.explainer is None:
        raise ImproperlyConfigured("nobody here explains canvases: import nbcanvas, not one of its rooms alone")
    return _Default.explainer


def set_previewer(preview: Previewer) -> None:
    """Say who makes the table of what will be stamped (the room of tables does this once)."""
    _Default.previewer = preview


def previewer() -> Previewer:
    """Return who makes the table of what will be stamped.

    Raises
    ------
    ImproperlyConfigured
        When nobody does.
    """
    if _Default.previewer is None:
        raise ImproperlyConfigured("nobody here makes tables: import nbcanvas, not one of its rooms alone")
    return _Default.previewer


def set_default_host(factory: Callable[[], Host] | None) -> None:
    """Say who answers for signatures that carry no app (the app room does this once, with its ``current_app``).

    Parameters
    ----------
    factory
        Called each time a host is needed; None takes the default away.
    """
    _Default.factory = factory


def default_host() -> Host | None:
    """Return the default host, None when nobody registered one."""
    return _Default.factory() if _Default.factory is not None else None


def current_host() -> Host:
    """Return the default host.

    Raises
    ------
    ImproperlyConfigured
        When there is none.
    """
    host = default_host()
    if host is None:
        raise ImproperlyConfigured(
            "no app: this signature carries none and there is no current one; import nbcanvas, "
            "or pass app= where the signature is made"
        )
    return host
