"""Stamps: headers that label the tasks of a canvas.

The rules where two stamps of one name meet: with ``append_stamps`` both are kept, in a list; without it the stamp
that comes from further outside stays, and two lists become one without repetitions. ``stamped_headers`` lists the
names in the order in which they were first seen.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from nbcanvas.errors import NotAVisitor, NotSerializable

from .algebra import as_list
from .checks import bad_visitor
from .shape import TYPES, kind_of, raw
from .trampoline import Walk, drive

if TYPE_CHECKING:
    from .composites import chain, chord, group
    from .signature import Signature

__all__ = ["StampingVisitor", "merged_stamps", "stamp", "stamp_links"]


class StampingVisitor(metaclass=ABCMeta):
    """Decides the stamps of each part of a canvas.

    Every method is given the part and the headers that reach it from outside, and returns a dict of headers to add.
    If that dict has the key ``stamped_headers`` only the names listed there are stamps; otherwise all keys are.
    """

    def on_group_start(self, group: group, **headers: Any) -> dict[str, Any]:
        """Return headers for all members of `group`."""
        return {}

    def on_group_end(self, group: group, **headers: Any) -> None:  # noqa: B027
        """Come after the members of `group`."""

    def on_chain_start(self, chain: chain, **headers: Any) -> dict[str, Any]:
        """Return headers for all steps of `chain`."""
        return {}

    def on_chain_end(self, chain: chain, **headers: Any) -> None:  # noqa: B027
        """Come after the steps of `chain`."""

    @abstractmethod
    def on_signature(self, sig: Signature, **headers: Any) -> dict[str, Any]:
        """Return headers for one task."""

    def on_chord_header_start(self, sig: chord, **header: Any) -> dict[str, Any]:
        """Return headers for all tasks of the header of the chord `sig`; unless overridden, as for a group."""
        if not isinstance(sig.tasks, TYPES["group"]):
            sig.tasks = TYPES["group"](sig.tasks)
        members: Any = sig.tasks
        return self.on_group_start(members, **header)

    def on_chord_header_end(self, sig: chord, **header: Any) -> None:
        """Come after the header of the chord `sig`; unless overridden, as for a group."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: chord, **header: Any) -> dict[str, Any]:
        """Return headers for the body of the chord `sig`."""
        return {}

    def on_callback(self, callback: Signature, **header: Any) -> dict[str, Any]:
        """Return headers for a callback (it is visited as a signature too)."""
        return {}

    def on_errback(self, errback: Signature, **header: Any) -> dict[str, Any]:
        """Return headers for an errback (it is visited as a signature too)."""
        return {}


def _joined(outer: Any, inner: Any, append: bool) -> Any:
    if isinstance(outer, dict) and isinstance(inner, dict):
        return _merged(outer, inner, append)
    if append:
        ahead = [] if outer is None else list(outer) if isinstance(outer, list | tuple | set) else [outer]
        return ahead + (list(inner) if isinstance(inner, list) and isinstance(outer, list) else [inner])
    if isinstance(outer, list) and isinstance(inner, list):
        return outer + [item for item in inner if item not in outer]
    return outer


def _merged(outer: dict[str, Any], inner: dict[str, Any], append: bool) -> dict[str, Any]:
    both = dict(outer)
    for key, value in inner.items():
        both[key] = _joined(both[key], value, append) if key in both else value
    return both


def merged_stamps(
    sig: Signature,
    headers: dict[str, Any],
    visited: dict[str, Any] | None = None,
    append_stamps: bool = False,
    self_headers: bool = True,
) -> dict[str, Any]:
    """Return the headers that `sig` gets.

    Parameters
    ----------
    sig
        The signature; its own stamps count unless `self_headers` is false.
    headers
        What reaches it from outside.
    visited
        What a visitor said of it.
    append_stamps
        Keep both of two stamps of one name.
    self_headers
        Let the stamps that `sig` has already take part.
    """
    names = list(headers.get("stamped_headers", headers))
    merged = {key: value for key, value in headers.items() if key != "stamped_headers"}
    if visited is not None:
        names += visited.get("stamped_headers", visited)
        merged = _merged(merged, {k: v for k, v in visited.items() if k != "stamped_headers"}, append_stamps)
    if self_headers:
        options = raw(sig, "options")
        names += options.get("stamped_headers") or ()
        merged = _merged(
            merged, {k: v for k, v in options.items() if k in names and k != "stamped_headers"}, append_stamps
        )
    merged["stamped_headers"] = list(dict.fromkeys(names))
    return merged


def stamp(sig: Signature, visitor: StampingVisitor | None, append_stamps: bool, headers: dict[str, Any]) -> None:
    """Stamp a whole canvas in place, links included."""
    _check(visitor)
    drive(_stamp(sig, visitor, append_stamps, headers))


def stamp_links(sig: Signature, visitor: StampingVisitor | None, append_stamps: bool, headers: dict[str, Any]) -> None:
    """Stamp the callbacks and errbacks of `sig` in place."""
    _check(visitor)
    drive(_links(sig, visitor, append_stamps, headers))


def _check(visitor: Any) -> None:
    error = bad_visitor(visitor) if visitor is not None else None
    if error is not None:
        raise error


def _said(visitor: StampingVisitor | None, hook: str, sig: Any, headers: dict[str, Any]) -> dict[str, Any] | None:
    """Return the headers a hook of the visitor adds; None without a visitor."""
    if visitor is None:
        return None
    found = getattr(visitor, hook)(sig, **headers)
    if found is None:
        return {}
    if not isinstance(found, dict):
        msg = (
            f"{type(visitor).__name__}.{hook} must return a dict of headers, not {type(found).__name__}: {found!r:.80}"
        )
        raise NotAVisitor(msg)
    return found


def _own(stamps: dict[str, Any]) -> dict[str, Any]:
    """Return stamps that no other task has."""
    return {name: v if isinstance(v, str | int | float | None) else _copied(name, v) for name, v in stamps.items()}


def _copied(name: str, value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception as error:
        kind = type(value).__qualname__
        msg = f"the stamp {name!r:.80} is {kind} {value!r:.80}, which does not travel with a task ({error})"
        raise NotSerializable(msg) from error


def _stamp(sig: Any, visitor: StampingVisitor | None, append: bool, headers: dict[str, Any]) -> Walk:
    kind = kind_of(sig)
    if kind == "task":
        if "link" in raw(sig, "options") or "link_error" in raw(sig, "options"):
            yield _links(sig, visitor, append, headers)
        visited = _said(visitor, "on_signature", sig, headers)
        # Each task has stamps of its own: a list in them must not be one object in all of them.
        stamps = merged_stamps(sig, headers, visited, append)
        raw(sig, "options").update(_own(stamps))
        return
    if kind == "chord":
        yield _chord(sig, visitor, append, headers)
        return
    visited = _said(visitor, "on_chain_start" if kind == "chain" else "on_group_start", sig, headers)
    headers = merged_stamps(sig, headers, visited, append)
    yield _links(sig, visitor, append, headers)
    sig.tasks = sig.signatures(sig.tasks, kind, sig._app)
    for member in sig.tasks:
        yield _stamp(member, visitor, append, headers)
    if visitor is not None:
        end = visitor.on_chain_end if kind == "chain" else visitor.on_group_end
        end(sig, **headers)


def _chord(sig: Any, visitor: StampingVisitor | None, append: bool, headers: dict[str, Any]) -> Walk:
    visited = _said(visitor, "on_chord_header_start", sig, headers)
    headers = merged_stamps(sig, headers, visited, append)
    yield _links(sig, visitor, append, headers)
    header: Any = sig.tasks
    header = header if isinstance(header, dict) else sig
    if header is not sig:  # a group has links of its own
        yield _links(header, visitor, append, headers)
    header.tasks = sig.signatures(header.tasks, "chord's header", sig._app)
    for member in header.tasks:
        yield _stamp(member, visitor, append, headers)
    if visitor is not None:
        visitor.on_chord_header_end(sig, **headers)
    if sig.body is not None:
        if visitor is not None:
            headers = merged_stamps(sig, headers, _said(visitor, "on_chord_body", sig, headers), append)
        yield _stamp(sig.body, visitor, append, headers)


def _links(sig: Any, visitor: StampingVisitor | None, append: bool, headers: dict[str, Any]) -> Walk:
    options = raw(sig, "options")
    for key, hook in (("link", "on_callback"), ("link_error", "on_errback")):
        if options.get(key) is None:
            continue
        linked = options[key] = sig.signatures(as_list(options[key]), key)
        for link in linked:
            visited = None if visitor is None else _said(visitor, hook, link, _own(headers))
            yield _stamp(link, visitor, append, merged_stamps(sig, headers, visited, append, self_headers=False))
