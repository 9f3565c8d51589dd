"""A canvas in words: what will happen when it runs, which argument comes from where, which messages go where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from nbcanvas.app import App
from nbcanvas.canvas import Signature, children, chunks, kind_of, maybe_signature
from nbcanvas.errors import ServerLost
from nbcanvas.events.tree import MAPS
from nbcanvas.plan import Call, Chain, Fan, Node, calls_of, start
from nbcanvas.protocol.payload import size_of, unpack_args

from .folding import Bundle, Folding, More
from .markup import cut, escape, names, number, plural, value_text

__all__ = ["Explanation", "explain", "explanation_html"]

#: About how many lines the steps take.
_BUDGET: Final = 24
#: A group of more members than this is told by what its members have in common.
_APART: Final = 6
#: Sizes are measured of so many calls of a task, and taken to be alike for the others.
_SAMPLE: Final = 64

ArgsOf = Callable[[Call], tuple[Sequence[Any], Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What will happen, in words; its str is the whole of it.

    Attributes
    ----------
    title
        How much there is to do.
    steps
        What runs, in order: pairs of an indentation and a line.
    shape
        What was flattened, unrolled or upgraded on the way from the signature to what runs.
    messages
        How many messages of about what size go to which queue.
    """

    title: str
    steps: tuple[tuple[int, str], ...]
    shape: tuple[str, ...]
    messages: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.title, *("  " * (indent + 1) + line for indent, line in self.steps)]
        for head, said in (("Shape", self.shape), ("Messages", self.messages)):
            if said:
                lines += [f"{head}:", *(f"  {line}" for line in said)]
        return "\n".join(lines)

    __repr__ = __str__


def explain(
    node: Node,
    sig: Signature | None = None,
    *,
    args_of: ArgsOf | None = None,
    size_of: Callable[[Call], int] | None = None,
    queue_of: Callable[[Call], str] | None = None,
    items: Callable[[Call], int] | None = None,
    known: Container[str] | None = None,
) -> Explanation:
    """Say what will happen when a frozen canvas runs.

    Parameters
    ----------
    node
        The canvas.
    sig
        The signature it was frozen from: what changed on the way is said as well.
    args_of
        Gives a call's own arguments.
    size_of
        Gives about how many bytes a call's message takes.
    queue_of
        Gives the queue a call goes to.
    items
        Gives how many items a ``celery.map`` or ``celery.starmap`` call goes over.
    known
        The names of tasks that are registered; others are marked.
    """
    calls = list(calls_of(node))
    told = Counter(call.task for call in calls)
    shown = names({call.task for call in _with_links(calls)})
    common = ", ".join(f"{shown[task]} ×{number(count)}" for task, count in told.most_common(6))
    more = f" and {plural(len(told) - 6, 'other')}" if len(told) > 6 else ""
    title = f"{plural(len(calls), 'task')}: {common}{more}." if calls else "Nothing to run."
    unknown = frozenset(() if known is None else (task for task in shown if task not in known))
    if unknown:
        listed = sorted(unknown)
        title += f" Not registered: {', '.join(listed[:6])}{' and others' if len(listed) > 6 else ''}."
    teller = _Teller(Folding(node), shown, args_of, items, unknown)
    return Explanation(
        title,
        tuple(teller.tell([node], _BUDGET, "", 0)) if calls else (),
        tuple(_shape(sig)) if sig is not None else (),
        tuple(_messages(node, calls, size_of, queue_of)) if calls else (),
    )


def explanation_html(explanation: Explanation) -> str:
    """Return an explanation as html: paragraphs and lists, no styles but indentation."""
    steps = "".join(
        f'<li style="list-style:none;margin-left:{indent * 18}px">{escape(line, 600)}</li>'
        for indent, line in explanation.steps
    )
    lists = "".join(
        f"<p><b>{head}</b></p><ul>{''.join(f'<li>{escape(line, 600)}</li>' for line in said)}</ul>"
        for head, said in (("Shape", explanation.shape), ("Messages", explanation.messages))
        if said
    )
    return f"<div><p><b>{escape(explanation.title)}</b></p><ul>{steps}</ul>{lists}</div>"


class _Teller:
    """Tells the steps; no deeper than the budget of lines allows, like a layout."""

    def __init__(
        self,
        folding: Folding,
        shown: Mapping[str, str],
        args_of: ArgsOf | None,
        items: Callable[[Call], int] | None,
        unknown: frozenset[str],
    ) -> None:
        self.folding = folding
        self.shown = shown
        self.args_of = args_of
        self.items = items
        self.unknown = unknown

    def tell(self, part: Bundle | More, budget: int, given: str, indent: int) -> Iterator[tuple[int, str]]:
        """Yield lines for a part; `given` says what comes before its own arguments."""
        first = part.nodes[0] if isinstance(part, More) else part[0]
        if isinstance(part, More):
            yield indent, part.label + "."
        elif isinstance(first, Call):
            yield indent, self.call([node for node in part if isinstance(node, Call)], given)
        elif budget <= 1:
            yield indent, plural(self.folding.calls(part), "task") + (f", given {given}" if given else "") + "."
        elif isinstance(first, Chain):
            yield from self.chain([node for node in part if isinstance(node, Chain)], budget, given, indent)
        else:
            yield from self.fan([node for node in part if isinstance(node, Fan)], budget, given, indent)

    def chain(self, chains: Sequence[Chain], budget: int, given: str, indent: int) -> Iterator[tuple[int, str]]:
        if len(chains) > 1 or indent:
            yield indent, f"{plural(len(chains), 'chain')} side by side, each:" if len(chains) > 1 else "a chain:"
            indent += 1
        parts = self.folding.steps(chains, budget)
        for place, part in enumerate(parts):
            lines = self.tell(part, budget // len(parts), given, indent + (len(parts) > 1 and isinstance(part, More)))
            for at, (depth, line) in enumerate(lines):
                yield depth, (f"{place + 1}. " if at == 0 else "   ") + line
            given = self.value(part)

    def value(self, part: Bundle | More) -> str:
        """Say what the step behind a part is given."""
        if isinstance(part, More):
            return "the value of the last of these"
        node = part[0]
        if isinstance(node, Call):
            return f"the value of {self.shown[node.task]}"
        if isinstance(node, Fan):
            return f"the list of all {number(len(node.members))} values in call order, once they are there (a chord)"
        return "the value of the last step"

    def fan(self, fans: Sequence[Fan], budget: int, given: str, indent: int) -> Iterator[tuple[int, str]]:
        parts = self.folding.members(fans, max(min(budget, 12), 1), apart=_APART)
        members = sum(len(fan.members) for fan in fans)
        if not parts:
            yield indent, "an empty group: its value is an empty list."
        elif len(parts) == 1:
            yield from self.tell(parts[0], budget, given, indent)
        else:
            of = (
                f"{plural(len(fans), 'group')} with {number(members)} members"
                if len(fans) > 1
                else f"a group of {number(members)}"
            )
            yield indent, f"{of}, side by side:"
            for part in parts:
                for depth, line in self.tell(part, budget // len(parts), given, indent + 1):
                    yield depth, f"- {line}" if depth == indent + 1 else line

    def call(self, calls: Sequence[Call], given: str) -> str:
        call, count = calls[0], len(calls)
        name = self.shown[call.task]
        own = "" if self.args_of is None or count > 1 else _arguments(*self.args_of(call))
        if call.task in MAPS:
            said = self.map(calls)
        else:
            said = f"{name} ×{number(count)}, side by side" if count > 1 else f"{name}({own})" if self.args_of else name
        if call.task in self.unknown:
            said += " (not registered)"
        if given:
            deaf = sum(one.immutable for one in calls)
            if deaf == count:
                said += f", immutable: it is not given {given}" if count == 1 else f", immutable: not given {given}"
            else:
                before = " before its own arguments" if own else ""
                said += f", given {given}{before}" + (f" ({number(deaf)} are immutable and are not)" if deaf else "")
        for what, hanging in (("its value goes on to", call.links), ("if it fails, tell", call.errbacks)):
            if hanging:
                told = dict.fromkeys(self.shown[one.task] for node in hanging for one in calls_of(node))
                said += f"; {what} {', '.join(told)}"
        return cut(said, 400) + "."

    def map(self, calls: Sequence[Call]) -> str:
        """Say what a map or a chunk goes over, in items."""
        call, count = calls[0], len(calls)
        said = self.shown[call.task]
        if self.args_of is not None:
            task = self.args_of(call)[1].get("task")
            said += f" of {cut(str(task['task']), 60)}" if isinstance(task, Mapping) and "task" in task else ""
        said += f" ×{number(count)}, side by side" if count > 1 else ""
        return said + (f", over {plural(sum(map(self.items, calls)), 'item')}" if self.items is not None else "")


def _arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    return cut(
        ", ".join(
            [
                *(value_text(value, 40) for value in args[:8]),
                *(["…"] if len(args) > 8 else []),
                *(f"{name}={value_text(value, 40)}" for name, value in kwargs.items()),
            ]
        ),
        160,
    )


def _with_links(calls: Iterable[Call]) -> Iterator[Call]:
    todo = list(calls)
    while todo:
        call = todo.pop()
        yield call
        todo += [one for node in (*call.links, *call.errbacks) for one in calls_of(node)]


# -- what changed on the way ----------------------------------------------------------------------------------------

#: What freezing does to a shape, as (key, what stands there, what happens).
_CHANGES: Final = (
    ("chord", "a chord", "starts its body with the list of its header's values, once all of them are there"),
    ("barrier", "a group with a step behind it", "becomes the header of a chord: that step is its body"),
    ("chain", "a chain inside a chain", "is spliced into it"),
    ("group", "a group inside a group", "is unrolled into it"),
    ("one", "a group of one inside a chain", "is unrolled: its task stands there itself"),
    ("empty", "an empty group inside a chain", "is dropped"),
    ("chunks", "chunks", "become a group of starmaps, a message each"),
)


def _shape(sig: Signature) -> Iterator[str]:
    """Say what freezing makes of a signature's shape."""
    found: Counter[str] = Counter()
    todo: list[tuple[Any, str, bool]] = [(sig, "", False)]
    while todo:
        one, inside, followed = todo.pop()
        one = one if isinstance(one, Signature) else maybe_signature(one)
        if isinstance(one, chunks):
            found["chunks"] += 1
        elif one is not None and (kind := kind_of(one)) != "task":
            below = list(children(one))
            found[_change(kind, inside, len(below), followed=followed)] += 1
            # A chord's header is a group in its own right, its body a step.
            around = "" if kind == "chord" else kind
            todo += [(member, around, kind == "chain" and place < len(below) - 1) for place, member in enumerate(below)]
    for key, what, happens in _CHANGES:
        if found[key]:
            times = f" (×{number(found[key])}, each)" if found[key] > 1 else ""
            yield f"{what}{times} {happens}."


def _change(kind: str, inside: str, members: int, *, followed: bool) -> str:
    """Return what becomes of a composite there, or an empty string for nothing."""
    if kind == "chord":
        return "chord"
    if kind == "group" and inside == "chain" and members <= 1:
        return "one" if members else "empty"
    if kind == inside:
        return kind
    return "barrier" if kind == "group" and followed else ""


# -- messages -------------------------------------------------------------------------------------------------------


def _messages(
    node: Node, calls: Sequence[Call], size_of: Callable[[Call], int] | None, queue_of: Callable[[Call], str] | None
) -> Iterator[str]:
    now = len(start(node, (), None, "", None, 0.0).send)
    later = len(calls) - now
    said = f"{number(now)} at once" + (f", {number(later)} later" if later else "")
    yield f"{plural(len(calls), 'message')}: {said}."
    if size_of is None and queue_of is None:
        return
    queues: dict[str, dict[str, list[Call]]] = {}
    for call in calls:
        queues.setdefault(queue_of(call) if queue_of else "", {}).setdefault(call.task, []).append(call)
    for queue, tasks in queues.items():
        count = sum(map(len, tasks.values()))
        where = f"queue {queue}: {number(count)}" if queue else number(count)
        if size_of is None:
            yield f"{where}."
            continue
        total = sum(_size(alike, size_of) for alike in tasks.values())
        each = f" of about {_bytes(total / count)} each" if count > 1 else ""
        yield f"{where}{each}, about {_bytes(total)}{' together' if count > 1 else ''}, before what is given."


def _size(calls: Sequence[Call], size_of: Callable[[Call], int]) -> float:
    sample = calls[:: max(len(calls) // _SAMPLE, 1)]
    return sum(map(size_of, sample)) / len(sample) * len(calls)


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 9.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def in_words(root: Node, sig: Signature, app: App) -> Explanation:
    """Say what will happen when `app` runs a canvas.

    Parameters
    ----------
    root
        The canvas, frozen.
    sig
        The canvas, as it was written.
    app
        The app; it knows the queues.
    """

    def size(call: Call) -> int:
        return size_of(call.payload)

    def arguments(call: Call) -> tuple[Any, Any]:
        return unpack_args(call.payload)

    known = {*app.tasks}
    if app.remote:
        with suppress(ServerLost):
            known.update(*(one.tasks or () for one in app.fleet.workers().values()))
    return explain(root, sig, args_of=arguments, size_of=size, queue_of=app.queue_of, known=known)
