"""A frozen canvas as JSON: what is kept of a plan that messages refer to.

The nodes stand in a list, each behind those it is made of, so that reading and writing need no recursion.  A call is
``["c", id, task, arguments, keyword arguments, more]``: both as JSON texts in texts, so that whoever sends the call
needs not parse them; a chain ``["s", steps]``; a fan ``["f", id, members]``.  Numbers are places in the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from nbcanvas.errors import InvalidTaskError, NotSerializable
from nbcanvas.plan.model import NO_OPTIONS, Call, Chain, Fan, Node, Payload

from .jsonable import dumps, loads
from .payload import TextArgs, unpack_args

__all__ = ["dump", "load"]

VERSION: Final = 1


def dump(root: Node) -> str:
    """Return a frozen canvas as text.

    Raises
    ------
    NotSerializable
        When an argument, an option or a stamp has no form in JSON.
    """
    written: list[str] = []
    places: dict[int, int] = {}
    todo: list[tuple[Node, bool]] = [(root, False)]
    while todo:
        node, ready = todo.pop()
        inside = _inside(node)
        if not ready and inside:
            todo.append((node, True))
            todo += [(one, False) for one in reversed(inside)]
            continue
        written.append(_written(node, places))
        places[id(node)] = len(written) - 1
    return f'{{"version":{VERSION},"nodes":[{",".join(written)}]}}'


def load(text: str | bytes | Mapping[str, Any]) -> Node:
    """Return the canvas in a text.

    Parameters
    ----------
    text
        What `dump` gave, or the object that it is the text of.

    Raises
    ------
    InvalidTaskError
        When it is no such text.
    """
    try:
        found = text if isinstance(text, Mapping) else loads(text)
        version, listed = found["version"], found["nodes"]
        nodes: list[Node] = []
        for one in listed if version == VERSION else ():
            nodes.append(_read(one, nodes))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise InvalidTaskError(f"a plan that cannot be understood ({type(error).__name__}: {error})") from None
    if not nodes:
        raise InvalidTaskError(
            f"a plan of version {version!r:.20}; read here is version {VERSION}, with a node or more"
        )
    return nodes[-1]


def _inside(node: Node) -> Sequence[Node]:
    if isinstance(node, Call):
        return (*node.links, *node.errbacks) if node.links or node.errbacks else ()
    return node.steps if isinstance(node, Chain) else node.members


def _written(node: Node, places: Mapping[int, int]) -> str:
    if isinstance(node, Chain):
        return dumps(["s", [places[id(step)] for step in node.steps]])
    if isinstance(node, Fan):
        return dumps(["f", node.id, [places[id(member)] for member in node.members]])
    try:
        args, kwargs = _texts(node.payload)
    except NotSerializable as error:
        raise NotSerializable(f"{node.task}: {error}") from error.__cause__
    more = _more(node, places)
    return f'["c",{quoted(node.id)},{quoted(node.task)},{quoted(args)},{quoted(kwargs)}{more}]'


def _more(node: Call, places: Mapping[int, int]) -> str:
    """Return what most calls have not, with the comma before it."""
    if not (node.options or node.links or node.errbacks or node.stamps or node.immutable or node.nesting):
        said = [
            *([f'"group":{quoted(node.group_id)}'] if node.group_id is not None else ()),
            *([f'"index":{node.index}'] if node.index is not None else ()),
            *([f'"version":{quoted(node.version)}'] if node.version else ()),
        ]
        return f",{{{','.join(said)}}}" if said else ""
    more = {
        "immutable": node.immutable or None,
        "options": dict(node.options) or None,
        "links": [places[id(link)] for link in node.links] or None,
        "errbacks": [places[id(errback)] for errback in node.errbacks] or None,
        "stamps": dict(node.stamps) if node.stamps else None,
        "group": node.group_id,
        "index": node.index,
        "version": node.version or None,
        "nesting": node.nesting or None,
    }
    return f",{dumps({name: value for name, value in more.items() if value is not None})}"


def _texts(payload: Payload) -> tuple[str, str]:
    if type(payload) is TextArgs:
        return payload.args, payload.kwargs
    if type(payload) is tuple:
        return dumps(payload), "{}"
    args, kwargs = unpack_args(payload)
    return dumps(list(args)), dumps(dict(kwargs))


def _read(one: Sequence[Any], nodes: Sequence[Node]) -> Node:
    kind, *rest = one
    if kind == "s":
        return Chain([_step(nodes, place) for place in rest[0]])
    if kind == "f":
        return Fan(_text(rest[0]), [_member(nodes, place) for place in rest[1]])
    if kind != "c":
        raise ValueError(f"no node is a {kind!r:.20}")
    call_id, task, args, kwargs, *more = rest
    said: Mapping[str, Any] = more[0] if more else {}
    return Call(
        _text(call_id),
        _text(task),
        TextArgs(_text(args), _text(kwargs)),
        bool(said.get("immutable")),
        said.get("options") or NO_OPTIONS,
        tuple(nodes[place] for place in said.get("links") or ()),
        tuple(nodes[place] for place in said.get("errbacks") or ()),
        said.get("stamps"),
        said.get("group"),
        said.get("index"),
        said.get("version") or "",
        said.get("nesting") or 0,
    )


def _step(nodes: Sequence[Node], place: int) -> Call | Fan:
    found = nodes[place]
    if isinstance(found, Chain):
        raise TypeError("a chain in a chain")
    return found


def _member(nodes: Sequence[Node], place: int) -> Call | Chain:
    found = nodes[place]
    if isinstance(found, Fan):
        raise TypeError("a fan in a fan")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
