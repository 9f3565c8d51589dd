"""What became of canvases on a cluster, in words that two libraries can be compared by."""

from __future__ import annotations

import gc
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import kombu

from tests.cluster.drawn import Drawn
from tests.cluster.fleet import Fleet
from tests.plan.simulate import name_of

__all__ = ["Seen", "ours", "theirs"]

READY = {"SUCCESS", "FAILURE", "REVOKED"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Seen(NamedTuple):
    """What became of one canvas.

    Attributes
    ----------
    end
        ``("value", it)``, ``("failed", class, message)``, or ``("waits",)`` when asking for it did not end.
    metas
        Tag -> what is stored: status, result, children, parent, whether it is done and has a traceback.
    runs
        (tag, value) -> how often a task ran with these arguments.
    heard
        (errback, failed task, class, message) -> how often it was told.
    stamps
        Tag -> what it was stamped with.
    workers
        Whose workers ran it.
    known
        The tags of the tasks that could be looked up: of a replacement only what ends it, as what was replaced.
    """

    end: tuple[Any, ...]
    metas: Mapping[str, Mapping[str, Any]]
    runs: Counter[Any]
    heard: Counter[Any]
    stamps: Mapping[str, Any]
    workers: frozenset[str]
    known: frozenset[str]

    @property
    def states(self) -> dict[str, str]:
        return {tag: meta["status"] for tag, meta in self.metas.items()}


class Reading:
    """Reads what became of the canvases of a batch that were sent.

    Parameters
    ----------
    app
        The client that sent them, of either library.
    store
        The Redis of results and notes.
    names
        For each canvas: task id -> tag, of every call that is known by id.
    """

    def __init__(self, app: Any, store: Any, canvases: Sequence[Drawn], names: Sequence[Mapping[str, str]]) -> None:
        self.app = app
        self.store = store
        self.canvases = canvases
        self.names = names

    def await_rest(self, seconds: float = 240.0, still: float = 3.0) -> None:
        """Wait until everything that should end has, or nothing has happened for a while and nothing is left to do."""
        wanted = [
            f"celery-task-meta-{task_id}"
            for drawn, names in zip(self.canvases, self.names, strict=True)
            for tags in [drawn.meaning.stored.keys()]
            for task_id, tag in names.items()
            if tag in tags
        ]
        told = sum(sum(drawn.meaning.heard.values()) for drawn in self.canvases)
        last, since, end = None, time.monotonic(), time.monotonic() + seconds
        while time.monotonic() < end:
            pipe = self.store.pipeline(transaction=False)
            pipe.mget(wanted)
            for drawn in self.canvases:
                pipe.lrange(f"notes:{drawn.run}", 0, -1)
            first, *notes = pipe.execute()
            metas = [json.loads(meta)["status"] for meta in first if meta]
            ended = sum(status in READY for status in metas)
            count = sum(map(len, notes))
            heard = sum(note.startswith(b'["heard"') for each in notes for note in each)
            if ended == len(wanted) and heard >= told:
                break
            now = (ended, count, len(metas))
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > still and _idle(self.app):
                break
            time.sleep(0.1)
        time.sleep(0.2)  # what is too much comes late

    def _notes(self, run: str) -> list[Any]:
        return [json.loads(note) for note in self.store.lrange(f"notes:{run}", 0, -1)]

    def seen(self, place: int, end: tuple[Any, ...]) -> Seen:
        """Return what became of one of the canvases."""
        drawn, names = self.canvases[place], self.names[place]
        stored = self.store.mget([f"celery-task-meta-{task_id}" for task_id in names]) if names else []
        metas = {
            tag: self._meta(json.loads(meta), names, drawn.run)
            for (_, tag), meta in zip(names.items(), stored, strict=True)
            if meta
        }
        notes = self._notes(drawn.run)
        run = [what for kind, *what in notes if kind == "run"]
        heard = [what for kind, *what in notes if kind == "heard"]
        plain = self._plain
        return Seen(
            plain(end, names, drawn.run),
            metas,
            Counter((tag, value) for tag, value, *_ in run),
            Counter(tuple(plain(what, names, drawn.run)) for what in heard),
            {tag: stamps for tag, _, _, _, stamps in run},
            frozenset(re.sub(r"\d*@.*", "", worker) for _, _, _, worker, _ in run),
            frozenset(names.values()),
        )

    def _meta(self, meta: Any, names: Mapping[str, str], run: str) -> dict[str, Any]:
        return {
            "status": meta["status"],
            "result": self._plain(meta["result"], names, run),
            "children": self._plain(_tree(meta.get("children")), names, run),
            "parent": self._plain(meta.get("parent_id"), names, run),
            "done": meta.get("date_done") is not None,
            "traceback": bool(meta.get("traceback")),
        }

    def _plain(self, value: Any, names: Mapping[str, str], run: str) -> Any:
        """Return a value with tags instead of ids, and one word for ids of groups."""
        if isinstance(value, str):
            if value.startswith(f"{run}."):
                return value.removeprefix(f"{run}.")
            return UUID.sub(lambda found: names.get(found[0], "<id>"), value).replace(f"{run}.", "")
        if isinstance(value, (list, tuple)):
            return type(value)(self._plain(each, names, run) for each in value)
        if isinstance(value, dict):
            return {key: self._plain(each, names, run) for key, each in value.items()}
        return value


def _tree(found: Any) -> Any:
    """Return result tuples as ids: ``[id]``, or ``[id, [members]]`` for a group."""
    if not found:
        return []
    return [[first[0]] if members is None else [first[0], _tree(members)] for first, members in found]


def _idle(app: Any) -> bool:
    """Whether nothing is queued, and every worker says that it has nothing: one that is slow does not wait for ever."""

    def queued() -> int:
        with kombu.Connection(str(app.conf.broker_url)) as connection:
            try:
                declared = connection.default_channel.queue_declare(app.conf.task_default_queue, passive=True)
            except connection.channel_errors:  # on Redis an empty queue is none
                return 0
            return int(declared.message_count)

    if queued():
        return False
    names = Fleet.workers_of(app)
    inspect = app.control.inspect(names, timeout=5)
    for question in (inspect.active, inspect.reserved, inspect.scheduled):
        found = question() or {}
        if set(found) != set(names) or any(found.values()):
            return False
    return not queued()


def ours(app: Any, store: Any, canvases: Sequence[Drawn], *, links: bool = True) -> tuple[list[Seen], list[Any]]:
    """Send canvases by our client, all at once; returns what became of each, and the Runs.

    Without `links` nothing is said of what hangs on tasks: a Run does not wait for it.
    """
    from nbcanvas.plan import places
    from nbcanvas.run import submit

    runs = [submit(app.signature(drawn.canvas), app=app, stamps=drawn.stamps) for drawn in canvases]
    names = [
        {place.call.id: name_of(place.call) for place in places(run.root) if links or not place.role} for run in runs
    ]
    _await(app, runs)
    ends = []
    for run in runs:
        try:
            run.wait(timeout=0.01)
        except Exception as error:
            ends.append(("waits", str(error)))
            continue
        ends.append(_asked(run, 60))
    reading = Reading(app, store, canvases, names)
    reading.await_rest()
    return [reading.seen(place, end) for place, end in enumerate(ends)], runs


def _await(app: Any, runs: Sequence[Any], still: float = 20.0) -> None:
    """Wait until every run has ended, or nothing has happened for a while and nothing is left to do."""
    last, since = None, time.monotonic()
    while not all(run.done for run in runs):
        now = [dict(run.counts) for run in runs]
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > still and _idle(app):
            break
        time.sleep(0.1)


def theirs(app: Any, store: Any, canvases: Sequence[Drawn]) -> list[Seen]:
    """Send canvases by Celery's client, all at once; returns what became of each."""
    results = []
    for drawn in canvases:
        sig = app.signature(json.loads(json.dumps(drawn.canvas)))
        if drawn.stamps:
            sig.stamp(**drawn.stamps)
        results.append(sig.apply_async())
    names = [{f"{drawn.run}.{tag}": tag for tag in drawn.meaning.stored} for drawn in canvases]
    reading = Reading(app, store, canvases, names)
    reading.await_rest()
    ends = [("waits",) if _hangs(result) else _asked(_Patient(result), 60.0) for result in results]
    results.clear()
    gc.collect()  # Celery's results unsubscribe as they go, which takes a server that is still there
    return [reading.seen(place, end) for place, end in enumerate(ends)]


class _Patient:
    """Asks Celery's result, a group's members one by one: its `join_native` waits in whole seconds."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def get(self, timeout: float) -> Any:
        members = getattr(self._result, "results", None)
        if members is None:
            return self._result.get(timeout=timeout)
        return [_Patient(member).get(timeout) for member in members]


def _hangs(result: Any) -> bool:
    """Whether asking would wait for ever now that nothing happens any more; finding out costs Celery a second each."""
    members = getattr(result, "results", None)
    if members is not None:
        return any(_hangs(member) for member in members)
    above = result.parent
    while above is not None:
        if above.ready() and above.failed():
            return False
        above = above.parent
    return not result.ready()


def _asked(handle: Any, timeout: float) -> tuple[Any, ...]:
    try:
        return "value", handle.get(timeout=timeout)
    except Exception as error:
        if type(error).__name__ == "TimeoutError":
            return ("waits",)
        return "failed", type(error).__name__, str(error)
