"""A canvas and what is known of its run, in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from nbcanvas import states
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan, Node

from .folding import Bundle, Folding, More
from .markup import LOOKS, cut, names, number, plural

__all__ = ["ORDER", "alt", "arrived", "counted", "words"]

#: States by how much they say of many calls that ended, the most telling first.
ORDER: Final = (
    states.FAILURE,
    states.REVOKED,
    states.REJECTED,
    states.IGNORED,
    states.PROGRESS,
    states.STARTED,
    states.RETRY,
    states.RECEIVED,
    states.SENT,
    states.WAITING,
    states.SUCCESS,
)


def words(counts: Iterable[str] | Mapping[str, int]) -> dict[str, int]:
    """Return how many calls are in each state, by the state's word: what ended well first."""
    found: dict[str, int] = {}
    known = Counter(counts)
    for name in reversed(ORDER):
        if known[name]:
            found[LOOKS[name].word] = found.get(LOOKS[name].word, 0) + known[name]
    return found


def arrived(counts: Mapping[str, int], total: int) -> str:
    """Say how many calls came to a barrier, those apart that ended otherwise: ``5 of 6 arrived, 1 failed``."""
    lost = {name: counts.get(name, 0) for name in ORDER if name in states.READY_STATES and name != states.SUCCESS}
    said = [f"{number(counts.get(states.SUCCESS, 0))} of {number(total)} arrived"]
    return ", ".join(said + [f"{number(count)} {LOOKS[name].word}" for name, count in lost.items() if count])


def counted(state: State) -> str:
    """Say how many calls are in each state: ``37 succeeded, 64 waiting``."""
    return ", ".join(f"{number(count)} {word}" for word, count in words(state.counts).items())


def alt(folding: Folding, state: State | None) -> str:
    """Say what the picture of a canvas shows."""
    root = folding.grown.root
    calls = list(folding.grown.calls(root))
    said = f"Canvas of {plural(len(calls), 'task')}: " if len(calls) != 1 else "Canvas of one task: "
    shown = names(folding.grown.tasks())
    said += _say(folding, shown, [root], 24) if calls else "nothing to run"
    if state is not None and state.counts:
        said += ". " + counted(state)
    return cut(said + ".", 900)


def _say(folding: Folding, shown: dict[str, str], part: Bundle | More, budget: int) -> str:
    """Say what a part is; like a layout, no deeper than its budget allows."""
    if isinstance(part, More):
        return part.label
    first = part[0]
    if isinstance(first, Call):
        return _call(folding, shown, [node for node in part if isinstance(node, Call)], budget)
    if budget <= 1:
        return plural(folding.calls(part), "task")
    if isinstance(first, Chain):
        parts = folding.steps([node for node in part if isinstance(node, Chain)], budget)
        return ", then ".join(_say(folding, shown, one, budget // len(parts)) for one in parts)
    fans = [node for node in part if isinstance(node, Fan)]
    parts = folding.members(fans, min(budget, 8), apart=0)
    members = [_say(folding, shown, one, budget // len(parts)) for one in parts]
    if len(members) > 1:
        return f"side by side ({'; '.join(members)})"
    many = sum(len(fan.members) for fan in fans) > 1
    return "".join(members) + (" side by side" if many else "") or "an empty group"


_HANGING: Final = {"link": "on success", "errback": "on failure", "child": "started by it"}


def _call(folding: Folding, shown: dict[str, str], calls: list[Call], budget: int) -> str:
    said = shown[calls[0].task] + (f" ×{number(len(calls))}" if len(calls) > 1 else "")
    became: list[Node] = [node for call in calls if (node := folding.grown.became(call)) is not None]
    hanging = folding.hanging(calls)
    if budget <= 1:
        return said
    share = (budget - 1) // max(len(hanging) + bool(became), 1)
    more = [f"replaced by {_say(folding, shown, became, share)}"] if became else []
    more += [
        f"{_HANGING[role]} {_say(folding, shown, bundle, share)}" for role, bundle in hanging[: max(budget - 1, 1)]
    ]
    return f"{said} ({'; '.join(more)})" if more else said
