"""A frozen canvas as JSON: what is kept of a plan that messages refer to.

The nodes stand in a list, each behind those it is made of, so that reading and writing need no recursion.  A call is
``["c", id, task, arguments, keyword arguments, more]``: both as JSON texts in texts, so that whoever sends the call
needs not parse them; a chain ``["s", steps]``; a fan ``["f", id, members]``.  Numbers are places in the list, and
``[first, last]`` is all from one place to another.

Members of a fan that are alike stand for as many nodes at once, ``["m", task, ids, kind, arguments, more]``.  Their ids
are a list, or the first one alone when the others count on from it, as those of one plan do (`ids.random_source`).
Their arguments are a list of plain values for each (kind ``"v"``), or both texts for each (``"t"``); the index that is
told is that of the first one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from nbcanvas.errors import InvalidTaskError, NotSerializable
from nbcanvas.plan.model import NO_OPTIONS, Call, Chain, Fan, Node, Payload

from .columns import read_runs, write_runs
from .jsonable import dumps, loads
from .payload import TextArgs, unpack_args

__all__ = ["dump", "load"]

VERSION: Final = 1

#: Members that are written at once, at least; and in one piece, at most.
_SOME: Final = 4
_MANY: Final = 10_000
#: What ids begin with that can be counted.
_COUNTS: Final = re.compile("[0-9a-f]{8}")
#: Types whose values are arguments as they are.
_ATOMS: Final = frozenset({int, float, bool, str, type(None)})


def dump(root: Node) -> str:
    """Return a frozen canvas as text.

    Raises
    ------
    NotSerializable
        When an argument, an option or a stamp has no form in JSON.
    """
    written: list[str] = []
    count = 0
    places: dict[int, int] = {}
    todo: list[tuple[Node, bool]] = [(root, False)]
    while todo:
        node, ready = todo.pop()
        inside = _inside(node)
        if not ready and inside:
            todo.append((node, True))
            if type(node) is Fan:
                for alike in _alike(node.members):
                    places.update(zip(map(id, alike), range(count, count + len(alike)), strict=True))
                    count += len(alike)
                    written.append(_many(alike))
            todo += [(one, False) for one in reversed(inside) if id(one) not in places]
            continue
        written.append(_written(node, places))
        places[id(node)] = count
        count += 1
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
            if one[0] == "m":
                nodes += _members(one)
            else:
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
        return dumps(["f", node.id, write_runs([places[id(member)] for member in node.members])])
    args, kwargs = _texts_of(node)
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


def _texts_of(call: Call) -> tuple[str, str]:
    try:
        return _texts(call.payload)
    except NotSerializable as error:
        raise NotSerializable(f"{call.task}: {error}") from error.__cause__


def _is_plain(call: Call) -> bool:
    return call.index is not None and not (
        call.options or call.links or call.errbacks or call.stamps or call.immutable or call.nesting
    )


def _alike(members: Sequence[Node]) -> Iterator[Sequence[Call]]:
    """Yield members that differ in their ids, arguments and indices alone, as far as they stand side by side."""
    alike: list[Call] = []
    about: Any = None
    for one in members:
        if isinstance(one, Call) and _is_plain(one):
            said = one.task, one.group_id, one.version
            if said == about and one.index == alike[0].index + len(alike) and len(alike) < _MANY:  # type: ignore[operator]
                alike.append(one)
                continue
        else:
            said = None
        if len(alike) >= _SOME:
            yield alike
        alike, about = [], said
        if isinstance(one, Call) and said is not None:
            alike.append(one)
    if len(alike) >= _SOME:
        yield alike


def _many(calls: Sequence[Call]) -> str:
    ids = [call.id for call in calls]
    named = quoted(ids[0]) if ids == _counted(ids[0], len(ids)) else dumps(ids)
    payloads = [call.payload for call in calls]
    kind = "v" if set(map(type, payloads)) == {tuple} else "t"
    try:
        arguments = dumps(payloads if kind == "v" else list(map(_texts_of, calls)))
    except NotSerializable:
        for call in calls:
            _texts_of(call)  # says which one
        raise
    return f'["m",{quoted(calls[0].task)},{named},"{kind}",{arguments}{_more(calls[0], {})}]'


def _members(one: Sequence[Any]) -> list[Call]:
    """Return the calls that `_many` wrote."""
    _, task, named, kind, arguments, *more = one
    said: Mapping[str, Any] = more[0] if more else {}
    group, version, first = said.get("group"), said.get("version") or "", said.get("index")
    if isinstance(named, str):
        named = _counted(named, len(arguments))
    payloads: list[Payload]
    if kind == "v":
        payloads = [
            tuple(args) if _ATOMS.issuperset(map(type, args)) else TextArgs(dumps(list(args)), "{}")
            for args in arguments
        ]
    else:
        payloads = [TextArgs(_text(args), _text(kwargs)) for args, kwargs in arguments]
    if type(first) is not int:
        raise TypeError("an index is a number")
    return [
        Call(
            _text(call_id),
            _text(task),
            payload,
            False,
            NO_OPTIONS,
            (),
            (),
            None,
            group,
            first + place,
            version,
        )
        for place, (call_id, payload) in enumerate(zip(named, payloads, strict=True))
    ]


def _counted(first: str, count: int) -> list[str]:
    """Return the ids that count on from one, as far as that can be."""
    start = int(first[:8], 16) if _COUNTS.match(first) else 0
    return [f"{number & 0xFFFFFFFF:08x}{first[8:]}" for number in range(start, start + count)]


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
        return Fan(_text(rest[0]), [_member(nodes, place) for place in read_runs(rest[1], len(nodes), "a fan")])
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
