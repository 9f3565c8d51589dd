"""Says in words where what became of a canvas differs from what should have.

Where nbcanvas differs from Celery 5.7 on purpose is in the text of tests/differential/test_against_celery.py; here that
comes down to this: what Celery leaves PENDING for ever has to end on our side, a chord's failure may be told in the
name of another failed member (Celery's is the first in time, ours the first in call order), errbacks of failed
chords, which Celery forgets or tells twice, are compared with `Meaning` where our worker tells them, and where Celery
drops a value on its way (`drops_a_value`), or loses count of a chord (`counts_apart`), `Meaning` is the yardstick.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from tests.cluster.drawn import Drawn
from tests.cluster.seen import READY, Seen
from tests.plan.reference import Group, Meaning, steps_of

__all__ = [
    "assert_none",
    "counts_apart",
    "counts_for_nobody",
    "differences_to_celery",
    "differences_to_meaning",
    "drops_a_value",
]

#: The second is Celery's, where groups stand in the header.
CHORD_ERROR = re.compile(r"Dependency (.+?) raised (.*)|Join error: .*", re.DOTALL)


def assert_none(found: Iterable[tuple[Drawn, Sequence[str]]]) -> None:
    """Fail with the smallest of the canvases that differ."""
    wrong = sorted(((drawn, said) for drawn, said in found if said), key=lambda pair: len(repr(pair[0].recipe)))
    if wrong:
        shown = "\n\n".join(
            f"{drawn.run}: {drawn.recipe!r} stamps={drawn.stamps}\n    " + "\n    ".join(said)
            for drawn, said in wrong[:3]
        )
        pytest.fail(f"{len(wrong)} canvases differ; the smallest:\n{shown}", pytrace=False)


def differences_to_meaning(drawn: Drawn, got: Seen, *, celerys: bool, client: bool = True) -> list[str]:
    """Compare with the reference.

    Parameters
    ----------
    drawn, got
        A canvas, and what became of it.
    celerys
        Workers of Celery took part.
    client
        The client is ours: values, errors and stamps are looked at, too, not only what ran and how it ended.
    """
    if not client and counts_for_nobody(drawn.canvas):
        return []
    meaning = drawn.meaning
    said = []
    want = meaning.end
    if not client:
        said += ["the end: asking waits for ever"] if got.end == ("waits",) else []
    elif want.kind == "value":
        if tuple(got.end) != ("value", want.what):
            said.append(f"the end: {got.end}, not the value {want.what!r}")
    elif want.kind == "failed" and (got.end[0] != "failed" or not _is_error(got.end[1:], want.what, celerys)):
        said.append(f"the end: {got.end}, not {want.what}")
    elif want.kind == "revoked" and got.end[:2] != ("failed", "TaskRevokedError"):
        said.append(f"the end: {got.end}, not a revocation")
    runs = Counter({k: n for k, n in meaning.runs.items() if not k[0].startswith("celery.")})
    # Celery's client may number the members of groups in groups in another order.
    said += _counts("runs", got.runs, runs) if client else _counts("runs", _by_tag(got.runs), _by_tag(runs))
    for tag, (state, result) in ((tag, end) for tag, end in meaning.stored.items() if tag in got.known):
        meta = got.metas.get(tag)
        if meta is None or meta["status"] != state:
            said.append(f"{tag}: {meta and meta['status']}, not {state}")
        elif client and not _is_result(meta, result, celerys):
            said.append(f"{tag}: {meta['result']!r}, not {result}")
    own = {tag for tag, _ in meaning.runs}
    said += _errbacks(got, meaning, own, celerys=celerys)
    if drawn.stamps and client:
        # Celery's worker sends a replacement without the stamps of what it replaces.
        without = meaning.brought if celerys else set()
        want_stamps = {tag: drawn.stamps for tag in own - without if not tag.startswith("celery.")}
        said += [
            f"{tag}: stamps {got.stamps.get(tag)}, not {stamps}"
            for tag, stamps in want_stamps.items()
            if not _stamped(got.stamps.get(tag), stamps)
        ]
    return said


def differences_to_celery(drawn: Drawn, got: Seen, yardstick: Seen) -> list[str]:
    """Compare with what became of the canvas between Celery's client and Celery's worker.

    Chunks within a canvas of Celery's are a task whose value is the ids of others: no value behind them is the same
    twice, and where Celery cannot write it down ours may.  Where Celery drops a value, or loses count of a chord, what
    is behind has another one, or none: there it is not the yardstick, but `Meaning`.
    """
    said: list[str] = []
    if counts_for_nobody(drawn.canvas):
        return said
    astray = drops_a_value(drawn.canvas) or counts_apart(drawn.canvas)
    if "celery.chunks" in json.dumps(drawn.canvas):
        said += ["the end: asking waits for ever"] if got.end == ("waits",) else []
        missing = _by_tag(yardstick.runs) - _by_tag(got.runs)
        return [*said, f"did not run, but on Celery's worker: {dict(missing)}"] if missing and not astray else said
    if astray:
        return differences_to_meaning(drawn, got, celerys=False, client=False)
    behind = behind_groups(steps_of(drawn.canvas))
    if yardstick.end != ("waits",):
        if got.end[0] != yardstick.end[0]:
            said.append(f"the end: {got.end}, Celery's {yardstick.end}")
        elif got.end[0] == "value" and got.end != yardstick.end:
            said.append(f"the value: {got.end}, Celery's {yardstick.end}")
        elif got.end[0] == "failed" and not _same_error(got.end[1:], yardstick.end[1:]):
            said.append(f"the error: {got.end}, Celery's {yardstick.end}")
    elif got.end == ("waits",):
        said.append("the end: asking waits for ever")
    for tag, theirs in yardstick.metas.items():
        ours = got.metas.get(tag)
        if theirs["status"] not in READY:
            if ours is not None and ours["status"] not in READY:
                said.append(f"{tag}: {ours['status']} in the end")
            continue
        if ours is None:
            said.append(f"{tag}: nothing is stored, Celery's {theirs}")
            continue
        names = ["status", "done"]
        # The parent of what is behind a group is whichever member finished last, and of what is retried it is itself.
        names += ["parent"] if tag not in behind and theirs["parent"] != tag else []
        said += [
            f"{tag}: {name} {ours[name]!r}, Celery's {theirs[name]!r}" for name in names if ours[name] != theirs[name]
        ]
        if theirs["status"] == ours["status"] == "FAILURE":
            if not _same_error(_error(ours["result"]), _error(theirs["result"])):
                said.append(f"{tag}: {ours['result']}, Celery's {theirs['result']}")
        elif ours["result"] != theirs["result"]:
            said.append(f"{tag}: {ours['result']!r}, Celery's {theirs['result']!r}")
        if theirs["status"] == "SUCCESS" and _ids(ours["children"]) != _ids(theirs["children"]):
            said.append(f"{tag}: children {ours['children']}, Celery's {theirs['children']}")
    missing = yardstick.runs - got.runs
    if missing:
        said.append(f"did not run, but on Celery's worker: {dict(missing)}")
    said += [
        f"{tag}: stamps {got.stamps.get(tag)}, Celery's {stamps}"
        for tag, stamps in yardstick.stamps.items()
        if tag in got.stamps and not _stamped(got.stamps[tag], stamps)
    ]
    return said


def drops_a_value(sig: Any, given: bool = False) -> bool:
    """Say whether Celery drops a value that a canvas, which is `given` one or not, hands on.

    A chain of nothing but a group, as the body of a chord, a member of a group, or a link, drops what it is given:
    ``chain.run`` makes it the group's own ``args``, which ``group.apply_async`` never looks at (celery 5.7). Ours gives
    it to the group's members, as the guide has it, and as Celery does for the group alone.
    """
    kind, kwargs, options = sig["subtask_type"], sig["kwargs"], sig["options"]
    links = options.get("link") or []
    if any(drops_a_value(link, True) for link in (links if isinstance(links, list) else [links])):
        return True
    if kind == "group":
        return any(drops_a_value(member, given) for member in kwargs["tasks"])
    if kind == "chord":
        header = kwargs["header"]
        members = header["kwargs"]["tasks"] if isinstance(header, dict) else header
        return any(drops_a_value(member, given) for member in members) or drops_a_value(kwargs["body"], True)
    if kind != "chain":
        return False
    steps = _spliced(sig)
    if given and len(steps) == 1 and steps[0]["subtask_type"] == "group":
        return True
    return any(drops_a_value(step, given or place > 0) for place, step in enumerate(steps))


def counts_apart(canvas: Any) -> bool:
    """Say whether Celery loses count of a chord: a member of its header ends in a group, and in that is a chord.

    The body of the inner chord is told the inner group's id for the header's (celery 5.7: what `chord.freeze` is given
    loses to what its body was frozen with before). So in Celery the outer chord waits for ever, or goes on with a part
    of its values, without one that is late, or fails. Our worker knows better, but where `counts_for_nobody`.
    """
    return any(any(map(_is_chord, _members(_last(member)))) for member in _headers(canvas))


def counts_for_nobody(canvas: Any) -> bool:
    """Say whether that is so of a member that is nothing but such a group, in a chain.

    Then Celery's client has sent the wrong id itself, and no worker can know for what the body is to count.
    """
    return any(
        any(map(_is_chord, _members(_last(member))))
        for member in _headers(canvas)
        if member["subtask_type"] == "chain" and len(_spliced(member)) == 1 and not _is_chord(_spliced(member)[0])
    )


def _headers(sig: Any, waited: bool = False) -> Iterator[Any]:
    """Yield the members of all headers in a canvas, and, where it is `waited` for, of the group that it ends in."""
    kind, kwargs = sig["subtask_type"], sig["kwargs"]
    if kind == "group":
        for member in _members(sig):
            yield from [member] if waited else []
            yield from _headers(member, waited)
    elif kind == "chord":
        header = kwargs["header"]
        yield from _headers(header if isinstance(header, dict) else _group(header), waited=True)
        yield from _headers(kwargs["body"], waited)
    elif kind == "chain":
        steps = _spliced(sig)
        for place, step in enumerate(steps):
            yield from _headers(step, waited or place + 1 < len(steps))


def _group(members: Any) -> dict[str, Any]:
    return {"subtask_type": "group", "kwargs": {"tasks": members}}


def _members(sig: Any) -> list[Any]:
    """Return the members of a group, of groups in it, too; none of anything else."""
    if sig["subtask_type"] != "group":
        return []
    return [each for one in sig["kwargs"]["tasks"] for each in _members(one) or [one]]


def _last(sig: Any) -> Any:
    """Return what a signature ends in: a task or a group."""
    while sig["subtask_type"] in {"chain", "chord"}:
        sig = _spliced(sig)[-1] if sig["subtask_type"] == "chain" else sig["kwargs"]["body"]
    return sig


def _is_chord(sig: Any) -> bool:
    return bool(sig["subtask_type"] == "chord")


def _spliced(sig: Any) -> list[Any]:
    """Return the steps of a chain, those of chains in it and of groups of one included."""
    if sig["subtask_type"] == "chain" or (sig["subtask_type"] == "group" and len(sig["kwargs"]["tasks"]) == 1):
        return [step for member in sig["kwargs"]["tasks"] for step in _spliced(member)]
    return [sig]


def _ids(tree: Any) -> list[str]:
    """Return the tags in a tree of children: Celery sends several links as a group."""
    found = [each for one in tree for each in (_ids(one) if isinstance(one, list) else [one])]
    return sorted(each for each in found if not each.startswith("<id>"))


def behind_groups(steps: Sequence[Any]) -> set[str]:
    """Return the tags of the tasks that start when a group is complete."""
    found: set[str] = set()
    for place, step in enumerate(steps):
        if isinstance(step, Group):
            for member in step.members:
                found |= behind_groups(member)
            if place + 1 < len(steps):
                found |= _first(steps[place + 1])
    return found


def _first(step: Any) -> set[str]:
    return set().union(*(_first(member[0]) for member in step.members)) if isinstance(step, Group) else {step.tag}


def _counts(what: str, got: Counter[Any], want: Counter[Any]) -> list[str]:
    return [f"{what}: too many {dict(got - want)}, missing {dict(want - got)}"] if got != want else []


def _by_tag(runs: Counter[Any]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for (tag, _), count in runs.items():
        found[tag] += count
    return found


def _error(result: Any) -> tuple[str, str]:
    """Return the class and the message of a stored exception."""
    if not isinstance(result, dict) or "exc_type" not in result:
        return "not an exception", repr(result)
    message = result["exc_message"]
    return result["exc_type"], ", ".join(map(str, message)) if isinstance(message, list) else str(message)


def _same_error(one: Sequence[str], two: Sequence[str]) -> bool:
    """Whether two errors are the same.

    A chord may fail in the name of another member; and where its body is in a chain, Celery may hand on the member's
    own exception instead of a ChordError. Where its body is a group both do; of a header with groups Celery has none.
    """
    chords = one[0] == "ChordError" and CHORD_ERROR.fullmatch(one[1]) is not None
    joined = one[0] == "Boom" and two[0] == "ChordError" and two[1].startswith("Join error: ")
    return tuple(one) == tuple(two) or joined or (chords and two[0] in {"ChordError", "Boom"})


def _is_result(meta: Any, want: str, celerys: bool) -> bool:
    if meta["status"] == "SUCCESS":
        return str(meta["result"]) == want
    return meta["status"] != "FAILURE" or _is_error(_error(meta["result"]), want, celerys)


def _is_error(got: Sequence[str], want: str, celerys: bool) -> bool:
    """Whether an error is the one that `Meaning` has; its texts of chords' failures may be shortened to a hash."""
    name, text = got
    if celerys and name == "Boom" and want.startswith("ChordError"):
        return True  # Celery's worker hands the first exception on to what is behind the chord in a chain
    if want.startswith("ChordError"):
        return name == "ChordError" and CHORD_ERROR.fullmatch(text) is not None
    return f"{name}({text})" == want or (celerys and name == "ChordError")


def _errbacks(got: Seen, meaning: Meaning, own: set[str], *, celerys: bool) -> list[str]:
    """Compare what errbacks were told by tasks that failed themselves; ours are told of failed chords, too."""
    want = Counter({(h, tag): n for (h, tag), n in meaning.told.items() if tag in own or not celerys})
    told: Counter[Any] = Counter()
    for (h, tag, _, _), n in got.heard.items():
        if tag in own or not celerys:
            told[h, tag] += n
    return _counts("errbacks", told, want)


def _stamped(got: Any, want: dict[str, Any]) -> bool:
    """Whether stamps are there; a single value may travel as a list of one (Celery does that to chords' members)."""

    def listed(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    return got is not None and all(listed(got.get(key)) == listed(value) for key, value in want.items())
