"""What a canvas means: a reference that is meant to be obviously right, and nothing else.

It reads the plain JSON of a canvas and evaluates it by recursion, in canvas order, as if there were no messages. It
imports nothing of nbcanvas. What a task does is symbolic: its value names the task and the arguments it was given.

The rules, in one place
-----------------------
* A chain's first step is given what the chain is given, each other one the value before it. Chains in chains are
  spliced; in a chain a group of one is its member, and what holds no task is left out.
* A group's members are all given what the group is given. A group in a group is unrolled. With a step behind it, or
  inside a chord's header, a group gives the list of its members' values; chunks are a group of starmaps.
* A chord is its header, a group, with its body behind it. An empty header gives ``[]``.
* An immutable task is given nothing; an immutable composite passes nothing on but its own partial arguments.
* When a step gives no value the later steps never run and end the same way: FAILURE with the same exception, or
  REVOKED. (A task that is ignored or rejected gives no value either: REVOKED for what is behind it.)
* When a member of a group that is waited for fails, what waits ends as FAILURE with a ChordError that names the first
  failed member in call order (of a chain: its last task) and its exception; all other members still run. A
  revocation ends it as REVOKED; failure beats revocation. When all that waits is a group that nothing waits for, its
  members end with the failed member's own exception.
* Callbacks start with the value. A chain's are its last step's, a group's its first task's (immutable, for it is not
  the group's value), a chord's its body's.
* A failed task's errbacks are told once each. A chain's errbacks are those of each of its steps, a group's of each
  member, a chord's of its body. A group with a step behind it in a chain is a chord: the chain's errbacks are not for
  its members. When a chord fails, the first task behind its header hears (or, if only a group is there, its members).
* A retried task runs again with the same arguments.
* A task that replaces itself by another canvas ends as that canvas ends: its links, and what is behind it, wait for
  that, its errbacks are those of each step. If the canvas ends in a group, its value is the list.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, NamedTuple

ACCUMULATE = "celery.accumulate"


class Task(NamedTuple):
    """One call: its name in the test (`tag`), what it does, and what hangs on it.

    `known` is the tag of the task whose id it has, where that is not its own: what ends a replacement has the id of
    what it replaced; "<id>" is an id that nobody knows before.
    """

    tag: str
    task: str
    args: tuple
    kwargs: dict
    immutable: bool
    links: tuple = ()
    errbacks: tuple = ()
    known: str = ""


class Group(NamedTuple):
    """Members, each a list of steps."""

    members: tuple


class End(NamedTuple):
    """How something ended: ``kind`` is value, failed or revoked; `by` is the task that it ended in."""

    kind: str
    what: Any
    by: str


def symbol(tag: str, args: Any, more: Any = None) -> str:
    """Return the value of a task: short, and different whenever anything it depends on is."""
    text = f"{tag}({', '.join(map(str, args))}{'' if more is None else f', more={more}'})"
    return text if len(text) < 48 else f"{tag}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def tag_of(task: str, kwargs: dict) -> str:
    """Return the name under which a test knows a call."""
    if task in {"celery.map", "celery.starmap"}:
        return f"{task}:{kwargs['it'][0]}"
    return kwargs.get("tag", task)


def item_value(*item: Any) -> str:
    """Return the value of one item of a map or a starmap, as the task ``item`` gives it."""
    return symbol("item", item)


def chord_error(by: str, what: str) -> str:
    """Return the text for a chord's failure."""
    return symbol("ChordError", (by, what))


# -- reading the shape ---------------------------------------------------------------------------------------------


def listed(value: Any) -> list:
    return [] if not value else value if isinstance(value, list) else [value]


def kind(sig: dict) -> str:
    return sig["subtask_type"] or {"celery.chunks": "chunks"}.get(sig["task"], "task")


def is_void(sig: dict) -> bool:
    return kind(sig) in {"chain", "group"} and all(is_void(member) for member in sig["kwargs"]["tasks"])


def steps_of(
    sig: dict,
    args: tuple = (),
    kwargs: dict | None = None,
    links: list | None = None,
    errbacks: list | None = None,
    inner: list | None = None,
) -> list:
    """Return a canvas as a list of steps, each a `Task` or a `Group`.

    It is given partial `args` and `kwargs` for its first tasks, `links` for its last one, `errbacks` for each of its
    steps; `inner` are those errbacks that are also for the members of a group that stands here.
    """
    kwargs, links, errbacks, inner = kwargs or {}, links or [], errbacks or [], inner or []
    what, options = kind(sig), sig["options"]
    if what == "task":
        own = sig["kwargs"] if sig["immutable"] else {**sig["kwargs"], **kwargs}
        return [
            Task(
                tag_of(sig["task"], own),
                sig["task"],
                tuple(sig["args"]) if sig["immutable"] else (*args, *sig["args"]),
                own,
                sig["immutable"],
                tuple(steps_of(link) for link in listed(options.get("link")) + links),
                tuple(steps_of(errback) for errback in listed(options.get("link_error")) + errbacks),
            )
        ]
    if what == "chunks":
        it, n = sig["kwargs"]["it"], sig["kwargs"]["n"]
        maps = [
            {
                "task": "celery.starmap",
                "args": [],
                "kwargs": {"task": sig["kwargs"]["task"], "it": it[i : i + n]},
                "options": {},
                "subtask_type": None,
                "immutable": True,
            }
            for i in range(0, len(it), n)
        ]
        sig = {**sig, "task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": maps}, "immutable": False}
        what = "group"
    if sig["immutable"]:
        args, kwargs = (), {}
    args = (*args, *sig["args"])
    links = listed(options.get("link")) + links
    errbacks, inner = listed(options.get("link_error")) + errbacks, listed(options.get("link_error")) + inner
    if what == "group":
        return [group_of(sig["kwargs"]["tasks"], args, kwargs, links, inner)]
    if what == "chord":
        header, body = sig["kwargs"]["header"], sig["kwargs"]["body"]
        first = steps_of(header, args, kwargs) if isinstance(header, dict) else [group_of(header, args, kwargs, [], [])]
        return [*first, *steps_of(body, (), {}, links, errbacks, inner)]
    members = [m for m in sig["kwargs"]["tasks"] if not is_void(m)] or sig["kwargs"]["tasks"][:1]
    steps = []
    for place, member in enumerate(members):
        is_last = place == len(members) - 1
        steps += step_of(
            member,
            args if place == 0 else (),
            kwargs if place == 0 else {},
            links if is_last else [],
            errbacks,
            inner if is_last else [],
        )
    return steps


def step_of(member: dict, args: tuple, kwargs: dict, links: list, errbacks: list, inner: list) -> list:
    """Return the steps of a chain's member: a group of one is what is in it, with all that the group has."""
    if kind(member) != "group" or len(member["kwargs"]["tasks"]) != 1:
        return steps_of(member, args, kwargs, links, errbacks, inner)
    if member["immutable"]:
        args, kwargs = (), {}
    own = listed(member["options"].get("link_error"))
    return step_of(
        member["kwargs"]["tasks"][0],
        (*args, *member["args"]),
        kwargs,
        listed(member["options"].get("link")) + links,
        own + errbacks,
        own + inner,
    )


def group_of(tasks: list, args: tuple, kwargs: dict, links: list, errbacks: list) -> Group:
    members = []
    links = [immutable(link) for link in links]
    for task in tasks:
        steps = steps_of(task, args, kwargs, links, errbacks, errbacks)
        found = steps[0].members if len(steps) == 1 and isinstance(steps[0], Group) else [steps] if steps else []
        members += found
        links = [] if found else links
    return Group(tuple(members))


def immutable(sig: dict) -> dict:
    """Return a canvas of which the first tasks take no arguments (what ``set_immutable`` does to groups and chords)."""
    what = kind(sig)
    if what == "group":
        return {**sig, "kwargs": {**sig["kwargs"], "tasks": [immutable(task) for task in sig["kwargs"]["tasks"]]}}
    if what == "chord":
        header = sig["kwargs"]["header"]
        header = immutable(header) if isinstance(header, dict) else [immutable(task) for task in header]
        return {**sig, "kwargs": {**sig["kwargs"], "header": header}}
    return {**sig, "immutable": True}


def tasks_of(steps: Any) -> list[Task]:
    """Return every task in some steps, in canvas order."""
    found = []
    for step in steps:
        found += [step] if isinstance(step, Task) else [t for member in step.members for t in tasks_of(member)]
    return found


def hearers(steps: Any) -> list[Task]:
    """Return the tasks that hear that the chord in front of these steps failed."""
    first = next((step for step in steps if isinstance(step, Task)), None)
    return [first] if first else [task for member in steps[-1].members for task in hearers(member)]


def brought_in(steps: Any) -> list:
    """Return the steps of a replacement: nobody knew their ids before."""
    return [
        step._replace(
            known="<id>", links=tuple(map(brought_in, step.links)), errbacks=tuple(map(brought_in, step.errbacks))
        )
        if isinstance(step, Task)
        else Group(tuple(map(brought_in, step.members)))
        for step in steps
    ]


# -- evaluating it -------------------------------------------------------------------------------------------------


class Meaning:
    """What happens when a canvas is run.

    Attributes
    ----------
    runs
        (tag, arguments): how often each call's task was executed.
    ends
        (tag, state, result): how each call ended, those that never ran included.
    heard
        (errback's tag, failed task's tag, exception): what errbacks were told that take the exception itself.
    told
        (errback's tag, the tag whose id it was told): the same, as one sees it who has only ids to go by.
    stored
        Tag -> (state, result): what is stored under the id of that task; for a replaced one, its replacement's end.
    brought
        The tags of those that stand in a replacement.
    end
        How the whole ended; a group that nothing waits for gives the list of its values all the same.
    """

    def __init__(self, canvas: dict, *partials: Any) -> None:
        self.runs: Counter = Counter()
        self.ends: Counter = Counter()
        self.heard: Counter = Counter()
        self.told: Counter = Counter()
        self.stored: dict[str, tuple] = {}
        self.brought: set[str] = set()
        self.end = self.steps(steps_of(canvas, *partials), [])

    def steps(self, steps: Any, given: list, *, waited: bool = False) -> End:
        end = End("value", [], "")
        for place, step in enumerate(steps):
            end = (
                self.task(step, given)
                if isinstance(step, Task)
                else self.group(step, given, waited=waited or place + 1 < len(steps))
            )
            rest = steps[place + 1 :]
            if end.kind != "value" and rest:
                if end.kind == "failed" and isinstance(step, Group):
                    if waited or len(rest) > 1 or isinstance(rest[0], Task):
                        end = end._replace(what=chord_error(end.by, end.what))
                    for task in hearers(rest):
                        self.tell(task, end.what)
                for task in tasks_of(rest):
                    self.ended(task, end)
                return end._replace(by=([end.by] + [task.tag for task in tasks_of(rest)])[-1])
            given = [end.what]
        return end

    def group(self, group: Group, given: list, *, waited: bool) -> End:
        ends = [self.steps(member, given, waited=waited) for member in group.members]
        for kind in ("failed", "revoked"):
            for end in ends:
                if end.kind == kind:
                    return end
        return End("value", [end.what for end in ends], "")

    def task(self, task: Task, given: list) -> End:
        if task.known:
            self.brought.add(task.tag)
        args = list(task.args) if task.immutable else [*given, *task.args]
        if task.task in {"celery.map", "celery.starmap"}:
            return self.mapped(task)
        if task.task == ACCUMULATE:
            return self.succeeded(task, args[0])
        what, *details = task.kwargs["do"]
        value = symbol(task.tag, args, task.kwargs.get("more"))
        if what == "revoke":
            return self.ended(task, End("revoked", None, task.tag))
        self.runs[task.tag, value] += 1
        if what == "retry":
            again, what = details
            self.runs[task.tag, value] += again
        if what == "fail":
            return self.failed(task, f"Boom({task.tag})")
        if what == "replace":
            return self.replaced(task, details[0])
        if what in {"ignore", "reject"}:
            self.ends[task.tag, {"ignore": "IGNORED", "reject": "REJECTED"}[what], None] += 1
            return End("revoked", None, task.tag)
        return self.succeeded(task, value)

    def mapped(self, task: Task) -> End:
        items = task.kwargs["it"]
        self.runs[task.tag, ""] += 1
        if any("boom" in str(item) for item in items):
            return self.failed(task, "Boom(item)")
        return self.succeeded(task, [item_value(*([i] if task.task == "celery.map" else i)) for i in items])

    def replaced(self, task: Task, canvas: dict) -> End:
        steps = brought_in(steps_of(canvas))
        if not steps or isinstance(steps[-1], Group):
            steps += [Task(ACCUMULATE, ACCUMULATE, (), {}, immutable=False)]
        steps = [s._replace(errbacks=s.errbacks + task.errbacks) if isinstance(s, Task) else s for s in steps]
        steps[-1] = steps[-1]._replace(links=steps[-1].links + task.links, known=task.known or task.tag)
        return self.steps(steps, [])

    def succeeded(self, task: Task, value: Any) -> End:
        end = self.ended(task, End("value", value, task.tag))
        for link in task.links:
            self.steps(link, [value])
        return end

    def failed(self, task: Task, exc: str) -> End:
        end = self.ended(task, End("failed", exc, task.tag))
        self.tell(task, exc)
        return end

    def ended(self, task: Task, end: End) -> End:
        state = {"value": "SUCCESS", "failed": "FAILURE", "revoked": "REVOKED"}[end.kind]
        self.ends[task.tag, state, str(end.what)] += 1
        if task.known != "<id>":
            self.stored[task.known or task.tag] = (state, str(end.what))
        return end

    def tell(self, task: Task, exc: str) -> None:
        for errback in task.errbacks:
            if errback and isinstance(errback[0], Task) and errback[0].task == "heard":
                self.heard[errback[0].tag, task.tag, exc] += 1
                self.told[errback[0].tag, task.known or task.tag] += 1
            else:
                self.steps(errback, [task.tag])
