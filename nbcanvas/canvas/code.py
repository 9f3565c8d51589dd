"""A canvas as Python source: what somebody would type to get it.

The source means the same under nbcanvas and under Celery; it names tasks by variables, uses ``chain``, ``group``,
``chord``, ``signature`` and the methods of tasks and signatures, and for values other than Python's literals what
`Source.imports` lists.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from math import isfinite
from typing import Any, Final, NamedTuple, TypeAlias

from nbcanvas.errors import NotWritable

from .composites import chain, chord, group
from .maps import chunks, xmap, xstarmap
from .shape import assemble, kind_of, raw
from .signature import Signature
from .trampoline import same

__all__ = ["Source", "source_of", "to_code", "value_source"]

#: Python's parser takes about two hundred brackets in each other; readers fewer.
_DEEPEST: Final = 60
#: More steps than this are not piped; fewer members than this are not counted.
_MANY: Final = 4
#: Characters of a comprehension.
_LONGEST: Final = 88
_INDENT: Final = 4


class Source(NamedTuple):
    """Source, and what it needs.

    Attributes
    ----------
    text
        An expression.
    imports
        Import statements it needs for values, sorted.
    words
        What it needs of the language (``chain``, ``group`` …), sorted: nbcanvas and Celery have it under these names.
    tasks
        Task name -> the variable that stands for it.
    """

    text: str
    imports: tuple[str, ...]
    words: tuple[str, ...]
    tasks: Mapping[str, str]


def to_code(sig: Signature, width: int = 100) -> str:
    """Return a canvas as a Python expression that makes an equal one, under nbcanvas and under Celery.

    Parameters
    ----------
    sig
        Any signature.
    width
        Columns to stay within.

    Raises
    ------
    NotWritable
        Naming the task and the argument that cannot be written.
    """
    return source_of(sig, width=width).text


def source_of(
    sig: Signature,
    names: Callable[[str], str | None] | None = None,
    *,
    width: int = 100,
    indent: int = 0,
    unfold: bool = False,
) -> Source:
    """Return a canvas as a Python expression, and what that needs.

    Parameters
    ----------
    sig
        Any signature.
    names
        Task name -> the variable that stands for it, or None: it is then named in a text.  By default the last part of
        its name, when that can be a variable.
    width
        Columns to stay within.
    indent
        Of the line it begins in, at the seventh column behind that: ``return`` stands there.
    unfold
        Write chunks that stand inside something as the group they mean; Celery would take them for one task.

    Raises
    ------
    NotWritable
        Naming the task and the argument that cannot be written.
    """
    writer = _Writer(names or _last_part, unfold=unfold)
    return writer.source(writer.signature(sig), indent, width)


def value_source(value: Any, width: int = 100, *, indent: int = 0) -> Source:
    """Return a value as a Python expression; `width` and `indent` as for `source_of`.

    Raises
    ------
    NotWritable
        When it, or something in it, cannot be written.
    """
    writer = _Writer(_last_part)
    return writer.source(writer.value(value, 0), indent, width)


def _last_part(task: str) -> str | None:
    name = task.rpartition(".")[2]
    return name if _is_name(name) and not task.startswith("celery.") else None


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)


# -- expressions -------------------------------------------------------------------------------------------------------


class Bracket(NamedTuple):
    """Items between brackets: on one line when they fit, else one a line."""

    open: str
    items: Sequence[Expression]
    close: str
    #: Whether one item alone has a comma behind it (a tuple).
    comma: bool = False


class Choice(NamedTuple):
    """Two ways to write the same: the first when it fits on the line."""

    short: Expression
    long: Expression


#: Pieces that stand one after the other.
Expression: TypeAlias = tuple["str | Bracket | Choice", ...]


def _flat(expression: Expression) -> str:
    found: list[str] = []
    for part in expression:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, Choice):
            found.append(_flat(part.short))
        else:
            comma = "," if part.comma and len(part.items) == 1 else ""
            found += [part.open, ", ".join(map(_flat, part.items)), comma, part.close]
    return "".join(found)


def _render(expression: Expression, column: int, indent: int, width: int) -> str:
    """Return an expression that begins in `column` of a line indented by `indent`; a comma has room behind it."""
    flat = _flat(expression)
    if column + len(flat) < width:
        return flat
    parts = [one for part in expression for one in (part.long if isinstance(part, Choice) else (part,))]
    sizes = [len(_flat((part,))) if isinstance(part, Bracket) and part.items else 0 for part in parts]
    if not any(sizes):
        return flat
    # The largest brackets are opened; what stands before them stays on this line, what is behind follows the closing.
    largest = sizes.index(max(sizes))
    bracket = parts[largest]
    assert isinstance(bracket, Bracket)  # noqa: S101 - others have no size
    inner = indent + _INDENT
    lines = [" " * inner + _render(item, inner, inner, width) + "," for item in bracket.items]
    rest = _render(tuple(parts[largest + 1 :]), indent + 1, indent, width)
    return "\n".join([_flat(tuple(parts[:largest])) + bracket.open, *lines, " " * indent + bracket.close + rest])


# -- signatures --------------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, names: Callable[[str], str | None], *, unfold: bool = False) -> None:
        self.names = names
        self.unfold = unfold
        self.imports: set[str] = set()
        self.tasks: dict[str, str] = {}
        self.words: set[str] = set()
        self.where = ""

    def source(self, expression: Expression, indent: int, width: int) -> Source:
        text = _render(expression, indent + (7 if indent else 0), indent, width)
        return Source(text, tuple(sorted(self.imports)), tuple(sorted(self.words)), self.tasks)

    def signature(self, sig: Any, depth: int = 0) -> Expression:
        if depth > _DEEPEST:
            raise NotWritable(f"a canvas of more than {_DEEPEST} parts inside each other cannot be written as source")
        if not isinstance(sig, Signature):
            sig = Signature.from_dict(sig)
        writers: dict[type, Callable[[Any, int], Expression]] = {
            Signature: self._call,
            chain: self._chain,
            group: self._group,
            chord: self._chord,
            xmap: self._map,
            xstarmap: self._map,
            chunks: self._map,
        }
        write = writers.get(type(sig))
        if write is None:
            raise NotWritable(f"a {type(sig).__name__} cannot be written as source: Celery does not know the class")
        return write(sig, depth)

    def _call(self, sig: Any, depth: int) -> Expression:
        name, immutable = raw(sig, "task"), bool(raw(sig, "immutable"))
        args, kwargs, options = raw(sig, "args"), raw(sig, "kwargs"), raw(sig, "options")
        variable = self._variable(name)
        self.where = f"{name}, "
        plain = variable is not None and isinstance(args, tuple | list) and raw(sig, "subtask_type") is None
        if plain and all(_is_name(key) for key in kwargs):
            made: Expression = (
                f"{variable}.{'si' if immutable else 's'}",
                Bracket("(", [*self._arguments(args, depth), *self._keywords(kwargs, depth)], ")"),
            )
            return (*made, *self._set(options, depth))
        items: list[Expression] = [(_quoted(str(name)),)]
        if args:
            items.append(("args=", *self.value(tuple(args), depth)))
        if kwargs:
            items.append(("kwargs=", *self.value(dict(kwargs), depth)))
        if immutable:
            items.append(("immutable=True",))
        self.words.add("signature")
        return ("signature", Bracket("(", items, ")"), *self._set(options, depth))

    def _variable(self, name: Any) -> str | None:
        variable = self.names(str(name))
        if variable is not None:
            self.tasks[str(name)] = variable
        return variable

    def _arguments(self, args: Iterable[Any], depth: int) -> list[Expression]:
        where, found = self.where, []
        for place, arg in enumerate(args, 1):
            self.where = f"{where}argument {place}: " if where.endswith(", ") else where
            found.append(self.value(arg, depth))
        self.where = where
        return found

    def _keywords(self, kwargs: Mapping[str, Any], depth: int) -> list[Expression]:
        where, found = self.where, []
        for key, value in kwargs.items():
            self.where = f"{where}argument {key}: " if where.endswith(", ") else where
            found.append((f"{key}=", *self.value(value, depth)))
        self.where = where
        return found

    def _set(self, options: Mapping[str, Any], depth: int, **more: Any) -> Expression:
        """Return the options of a signature as methods called on it."""
        options = {**more, **options}
        made: Expression = ()
        where = self.where
        errbacks = options.get("link_error")
        if isinstance(errbacks, list) and len(errbacks) == 1 and not more and len(options) == 1:
            return (".on_error", Bracket("(", [self.signature(errbacks[0], depth + 1)], ")"))
        if options:
            self.where = f"{where}option " if where.endswith(", ") else where
            named = {key: value for key, value in options.items() if _is_name(key)}
            items = []
            for key, value in named.items():
                linked = key in {"link", "link_error"}
                items.append((f"{key}=", *(self._linked(value, depth) if linked else self.value(value, depth))))
            if len(named) < len(options):
                others = {key: value for key, value in options.items() if key not in named}
                items.append(("**", *self.value(others, depth)))
            made = (".set", Bracket("(", items, ")"))
        self.where = where
        return made

    def _linked(self, value: Any, depth: int) -> Expression:
        if isinstance(value, list | tuple):
            items = [self.signature(one, depth + 1) for one in value]
            return (Bracket("[", items, "]") if isinstance(value, list) else _tuple(items),)
        return self.signature(value, depth + 1) if value else self.value(value, depth)

    # -- composites ---------------------------------------------------------------------------------------------------

    def _outer(self, sig: Any, depth: int) -> tuple[list[Expression], Expression]:
        """Return what a composite has besides its members: arguments of its constructor, and methods called on it."""
        self.where = f"{sig.KIND}, "
        inside: list[Expression] = [("immutable=True",)] if raw(sig, "immutable") else []
        methods: Expression = ()
        if raw(sig, "args"):
            methods = (".replace", Bracket("(", [("args=", *self.value(tuple(raw(sig, "args")), depth))], ")"))
        return inside, (*methods, *self._set(raw(sig, "options"), depth))

    def _chain(self, sig: Any, depth: int) -> Expression:
        kwargs = raw(sig, "kwargs")
        steps = list(kwargs["tasks"])
        inside, methods = self._outer(sig, depth)
        partials = {key: value for key, value in kwargs.items() if key != "tasks"}
        folds = not inside and _folds(steps)
        written = [self.signature(step, depth + 1) for step in steps]
        if len(steps) == 1 and not inside:
            made: Expression = ("chain", Bracket("(", written, ")"))
        else:
            # An option, even one that says nothing, keeps `chain` from making something else of these steps.
            literal: list[Expression] = [] if folds else inside or [("app=None",)]
            made = ("chain", Bracket("(", [*written, *literal], ")"))
            if folds and len(steps) <= _MANY and not methods and not partials:
                made = (Choice(_piped(written), made),)
        self.words.add("chain")
        if inside and (partials or raw(sig, "args")):  # Celery's replace and clone of a chain forget that it is
            methods = (*methods, ".set", Bracket("(", inside, ")"))
        return (*made, *self._partials(partials, depth), *methods)

    def _partials(self, partials: Mapping[str, Any], depth: int) -> Expression:
        if not partials:
            return ()
        return (".clone", Bracket("(", [("kwargs=", *self.value(dict(partials), depth))], ")"))

    def _group(self, sig: Any, depth: int) -> Expression:
        kwargs = raw(sig, "kwargs")
        inside, methods = self._outer(sig, depth)
        partials = {key: value for key, value in kwargs.items() if key != "tasks"}
        self.words.add("group")
        members = self._members(list(kwargs["tasks"]), depth)
        if isinstance(members, str) or len(members) < 2:  # a group of a group alone would be that group
            members = [_listed(members)]
        made = ("group", Bracket("(", [*members, *inside], ")"))
        return (*made, *self._partials(partials, depth), *methods)

    def _members(self, members: list[Any], depth: int) -> str | list[Expression]:
        """Return the members, or a comprehension where one says the same."""
        return self._comprehension(members) or [self.signature(member, depth + 1) for member in members]

    def _comprehension(self, members: list[Any]) -> str | None:
        """Return ``[add.s(i, i) for i in range(100)]`` for calls that differ in numbers that go up together."""
        numbers = _counted(members)
        if numbers is None:
            return None
        first, (places, counted) = members[0], numbers
        taken = {*self.tasks.values(), self.names(str(raw(first, "task")))}
        variable = next((name for name in "inkm" if name not in taken), "_i")
        args = [_Variable(variable) if place in places else arg for place, arg in enumerate(raw(first, "args"))]
        one = assemble(Signature, raw(first, "task"), tuple(args), raw(first, "kwargs"), raw(first, "options"))
        one["immutable"] = raw(first, "immutable")
        text = f"[{_flat(self.signature(one))} for {variable} in {counted}]"
        return text if len(text) <= _LONGEST else None

    def _chord(self, sig: Any, depth: int) -> Expression:
        kwargs = raw(sig, "kwargs")
        inside, methods = self._outer(sig, depth)
        header, body = kwargs["header"], kwargs.get("body")
        items = [
            self.signature(header, depth + 1)
            if isinstance(header, dict)
            else _listed(self._members(list(header), depth + 1))
        ]
        if body is not None:
            items.append(self.signature(body, depth + 1))
        partials = {key: value for key, value in kwargs.items() if key not in {"header", "body"}}
        if partials != {"kwargs": {}}:
            items.append(("kwargs=", *self.value(partials, depth)))
        self.words.add("chord")
        return ("chord", Bracket("(", [*items, *inside], ")"), *methods)

    def _map(self, sig: Any, depth: int) -> Expression:
        kwargs, kind = raw(sig, "kwargs"), type(sig)
        task = kwargs["task"]
        inner = task if isinstance(task, Signature) else Signature.from_dict(task)
        variable = self._variable(raw(inner, "task"))
        _, methods = self._outer(sig, depth)
        if not raw(sig, "immutable"):
            methods = (".set", Bracket("(", [("immutable=False",)], ")"), *methods)
        self.where = f"{raw(inner, 'task')}, "
        rest = [self._items_of(kwargs["it"], depth), *([(repr(kwargs["n"]),)] if kind is chunks else [])]
        bare = variable is not None and same(inner, Signature(raw(inner, "task")))
        if bare:
            made: Expression = (f"{variable}.{kind.__name__.removeprefix('x')}", Bracket("(", rest, ")"))
        else:
            self.words.add(kind.__name__)
            made = (kind.__name__, Bracket("(", [self.signature(inner, depth + 1), *rest], ")"))
        if self.unfold and kind is chunks and depth:
            made = (*made, ".group()")
        return (*made, *methods)

    def _items_of(self, items: Any, depth: int) -> Expression:
        self.where += "items: "
        return self.value(list(items), depth)

    # -- values -------------------------------------------------------------------------------------------------------

    def value(self, value: Any, depth: int) -> Expression:  # noqa: C901, PLR0911, PLR0912 - a line or two a type
        if depth > _DEEPEST:
            raise NotWritable(f"{self.where}values of more than {_DEEPEST} inside each other cannot be written")
        kind, inner = type(value), depth + 1
        if kind in {str, bytes}:
            return (_quoted(value),)
        if value is None or kind in {bool, int, complex, range}:
            return (repr(value),)
        if kind is _Variable:
            return (value.name,)
        if kind is float:
            return (repr(value) if isfinite(value) else f'float("{value!r}")',)
        if isinstance(value, Signature):
            return self.signature(value, inner)
        if kind is list:
            return (Bracket("[", [self.value(item, inner) for item in value], "]"),)
        if kind is tuple:
            return (_tuple([self.value(item, inner) for item in value]),)
        if kind is dict:
            pairs = [(*self.value(key, inner), ": ", *self.value(item, inner)) for key, item in dict.items(value)]
            return (Bracket("{", pairs, "}"),)
        if kind in {set, frozenset}:
            items = (Bracket("{", [self.value(item, inner) for item in sorted(value, key=repr)], "}"),)
            made: Expression = items if value else ("set()",)
            return made if kind is set else ("frozenset", Bracket("(", [made] if value else [], ")"))
        if kind in {datetime, date, time, timedelta} and _plain_zone(value):
            self.imports.add("import datetime")
            return (repr(value),)
        if kind is Decimal:
            self.imports.add("from decimal import Decimal")
            return (repr(value),)
        if (kind.__module__, kind.__qualname__) == ("uuid", "UUID"):
            self.imports.add("from uuid import UUID")
            return (repr(value),)
        of = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise NotWritable(f"{self.where}a {of} cannot be written as source; load it inside the task, or give its path")


def _quoted(value: str | bytes) -> str:
    """Return a text in double quotes, unless there are some in it."""
    text = repr(value)
    if text[-1] == "'" and '"' not in text:
        at = text.index("'")
        return f'{text[:at]}"{text[at + 1 : -1]}"'
    return text


def _plain_zone(value: Any) -> bool:
    zone = getattr(value, "tzinfo", None)
    return zone is None or type(zone) is timezone


def _tuple(items: list[Expression]) -> Bracket:
    return Bracket("(", items, ")", comma=True)


def _listed(members: str | list[Expression]) -> Expression:
    return (members,) if isinstance(members, str) else (Bracket("[", members, "]"),)


class _Variable(NamedTuple):
    """Stands for the variable of a comprehension."""

    name: str


def _piped(steps: list[Expression]) -> Expression:
    return tuple(part for place, step in enumerate(steps) for part in ((" | ", *step) if place else step))


def _folds(steps: list[Any]) -> bool:
    """Say whether ``chain(*steps)`` is the chain of just these steps."""
    kinds = [kind_of(step) for step in steps]
    return (
        len(steps) > 1
        and all(kind == "task" for kind in kinds[:-1])
        and (kinds[-1] in {"task", "chord"} or (kinds[-1] == "group" and len(raw(steps[-1], "kwargs")["tasks"]) > 1))
    )


def _counted(members: list[Any]) -> tuple[set[int], str] | None:
    """Return which arguments of calls count up together, and over which range; None when more than that differs."""
    if len(members) < _MANY or any(type(member) is not Signature for member in members):
        return None
    first, alike = _facts(members[0]), [_facts(member) for member in members]
    if raw(members[0], "options").keys() & {"link", "link_error"} or any(one != first for one in alike):
        return None
    columns = list(zip(*(raw(member, "args") for member in members), strict=True))
    places = {place for place, column in enumerate(columns) if column[1] != column[0] and type(column[0]) is int}
    ranges = {_range(columns[place]) for place in places}
    constant = all(
        type(value) is type(column[0]) and same(value, column[0]) and repr(value) == repr(column[0])
        for place, column in enumerate(columns)
        if place not in places
        for value in column
    )
    if len(ranges) != 1 or None in ranges or not constant:
        return None
    return places, str(ranges.pop())


def _facts(call: Any) -> tuple[Any, ...]:
    kwargs, options = raw(call, "kwargs"), raw(call, "options")
    told = repr(kwargs) + repr(options) if kwargs or options else ""
    return raw(call, "task"), len(raw(call, "args")), raw(call, "immutable"), raw(call, "subtask_type"), told


def _range(column: Sequence[Any]) -> str | None:
    if any(type(value) is not int for value in column):
        return None
    begin, step = column[0], column[1] - column[0]
    numbers = range(begin, begin + step * len(column), step)
    if list(column) != list(numbers):
        return None
    if step != 1:
        return repr(numbers)
    return f"range({numbers.stop})" if begin == 0 else f"range({begin}, {numbers.stop})"
