"""Why tasks have not succeeded: a pure function of what is known of them, of their queues and of their worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from nbcanvas import states
from nbcanvas.errors import NotRegistered, WorkerLostError
from nbcanvas.events.attempts import shown
from nbcanvas.events.state import State
from nbcanvas.picture.markup import cut, duration, error_text, names, number, plural
from nbcanvas.plan import Call, Fan

from .ahead import Ahead

__all__ = ["KINDS", "Because", "Busy", "Host", "Queued", "Reason", "Scene", "Teller", "reasons"]

#: The kinds of reasons, those first that somebody has to do something about.
KINDS: Final = (
    "failed",
    "worker lost",
    "no broker",
    "unknown task",
    "no worker",
    "no consumer",
    "no result",
    "expired",
    "revoked",
    "rejected",
    "ignored",
    "running",
    "retry",
    "rate limit",
    "eta",
    "starting",
    "prefetched",
    "queued",
    "barrier",
    "predecessor",
    "skipped",
)

#: What some errors are besides failures.
_ERRORS: Final = {NotRegistered: "unknown task", WorkerLostError: "worker lost"}

#: So many of the tasks that something waits for are named.
_NAMED: Final = 3


class Reason(NamedTuple):
    """Why one task has not succeeded.

    Attributes
    ----------
    path, task_id, name, state
        Which task, and the state it is in.
    kind
        One of `KINDS`.
    text
        The reason in words.
    waits_for
        What it waits for: paths of tasks of this run, ids of others.
    until
        When that ends, in seconds since the epoch, if that is known.
    words
        `text` without what only this one task has: its place, its time.
    place
        Its place among all messages that wait and could start, from 1.
    """

    path: str
    task_id: str
    name: str
    state: str
    kind: str
    text: str
    waits_for: tuple[str, ...] = ()
    until: float | None = None
    words: str = ""
    place: int | None = None


class Queued(NamedTuple):
    """A message that waits: the task's id and name, its queue, and since when it may start (None: at once)."""

    task_id: str
    name: str
    queue: str
    due: float | None = None


class Busy(NamedTuple):
    """A slot of a worker in which a task runs."""

    slot: str
    task_id: str
    name: str


class Host(NamedTuple):
    """A worker elsewhere, as it describes itself.

    Attributes
    ----------
    queues, tasks
        The queues it consumes and the tasks it knows; None when it did not say.
    slots
        How many tasks run there at once; None when it did not say.
    active
        What runs.
    reserved
        Ids of what it has taken and not started.
    scheduled
        Id -> when it may start, of what it has taken.
    limits
        Task name -> rate limit.
    results
        Where it keeps results, in words; an empty text when nobody asked.
    """

    queues: Collection[str] | None = None
    tasks: Collection[str] | None = None
    slots: int | None = None
    active: Sequence[Busy] = ()
    reserved: Collection[str] = ()
    scheduled: Mapping[str, float | None] = {}
    limits: Mapping[str, str] = {}
    results: str = ""


class Scene(NamedTuple):
    """What is known around a run, as plain values.

    Attributes
    ----------
    queued
        What waits, in the order of being served.
    worker
        The worker's name; None when there is none that takes messages.
    since
        When it started, in seconds since the epoch.
    slots, busy
        The names of its slots, and what runs in them.
    queues
        The queues it consumes; None for every queue.
    unknown
        Names of tasks that it does not know.
    held
        Task id -> the rate limit that holds it back.
    revoked_ids, revoked_stamps
        What was revoked.
    gone
        That the process which ran it all is gone, in words; an empty text when it is not, or this is it.
    hosts
        Workers elsewhere that answered, by name; None when the worker is in this process.
    silent
        Names of workers elsewhere that did not answer.
    unreachable
        Why the broker cannot be asked, in words; an empty text when it can.
    routes
        Task id -> queue, of calls that were sent.
    results
        Where this process looks for results, in words.
    hidden
        Queue -> how many messages wait there, of a broker that does not show which.
    """

    queued: Sequence[Queued] = ()
    worker: str | None = None
    since: float = 0.0
    slots: Collection[str] = ()
    busy: Sequence[Busy] = ()
    queues: Collection[str] | None = None
    unknown: Collection[str] = ()
    held: Mapping[str, str] = {}
    revoked_ids: Collection[str] = ()
    revoked_stamps: Mapping[str, Collection[Any]] = {}
    gone: str = ""
    hosts: Mapping[str, Host] | None = None
    silent: Sequence[str] = ()
    unreachable: str = ""
    routes: Mapping[str, str] = {}
    results: str = ""
    hidden: Mapping[str, int] = {}


def reasons(state: State, scene: Scene | None, now: float, *, clocks: bool = True) -> list[Reason]:
    """Return the reason of each task that has not succeeded, in canvas order.

    Links and errbacks have one once they started.

    Parameters
    ----------
    state
        What is known of the run.
    scene
        What is known around it; None for a run that is recorded: then there is only what its State says.
    now
        Seconds since the epoch.
    clocks
        Whether to say how long something takes, and the names of workers.
    """
    if scene is not None and scene.hosts is not None:
        from .afar import TellerOfClusters

        return list(TellerOfClusters(state, scene, now, clocks).tell())
    return list(Teller(state, scene, now, clocks).tell())


class Because(NamedTuple):
    """A reason in the making; see `Reason`.  `tail` are words that only this task has."""

    kind: str
    words: str
    waits_for: tuple[str, ...] = ()
    until: float | None = None
    place: int | None = None
    tail: str = ""


class Teller:
    """Tells of each task why it has not succeeded; parameters are those of `reasons`."""

    def __init__(self, state: State, scene: Scene | None, now: float, clocks: bool) -> None:
        self.state = state
        self.scene = scene or Scene()
        self.alone = scene is None
        self.now = now
        self.clocks = clocks
        self.ahead = Ahead(state)
        self.short = names({call.task for call in state.tree.calls})
        self.queued: dict[str, tuple[Queued, int]] = {}
        place = 0
        for one in self.scene.queued:
            if one.due is None or one.due <= now:
                place += 1
                self.queued[one.task_id] = one, place
            else:
                self.queued[one.task_id] = one, 0
        #: How many messages of other runs are served before the first one of this run.
        self.others = next((at for at, one in enumerate(self.scene.queued) if one.task_id in state), 0)
        self.running = frozenset(one.task_id for one in self.scene.busy)
        self.full, self.in_slots = self._slots()
        # By how they look: not every value of a stamp can be looked up.
        self.revoked_stamps = {name: set(map(shown, values)) for name, values in self.scene.revoked_stamps.items()}
        self._waiting: dict[int, Because] = {}
        self._skips: dict[int, str] = {}

    def tell(self) -> Iterator[Reason]:
        """Yield the reasons, in canvas order."""
        state, places = self.state, self.state.calls
        for row in state.order:
            now = state.state(row)
            if now == states.SUCCESS or not state.awake(row):
                continue
            place = places[row]
            because = self._why(row, place.call, now)
            until = because.until if self.clocks else None
            text = f"{because.words}{because.tail}"
            if because.place is not None:
                text += f", place {because.place}"
            elif until is not None:
                text += f", in {duration(max(until - self.now, 0.0))}"
            yield Reason(
                place.path,
                place.call.id,
                place.call.task,
                now,
                because.kind,
                text,
                because.waits_for,
                until,
                because.words,
                because.place,
            )

    def _why(self, row: int, call: Call, now: str) -> Because:
        if now in states.READY_STATES:
            return self._ended(row, call, now)
        if now in (states.STARTED, states.PROGRESS):
            return self._running(row, call)
        if now in (states.WAITING, states.PENDING):
            because = self._waits(row)
            if call.id in self.scene.revoked_ids:
                return because._replace(words=f"{because.words}; it is revoked, and will not run")
            return because
        return self._sent(row, call, now)

    # -- it has ended -----------------------------------------------------------------------------------------------

    def _ended(self, row: int, call: Call, now: str) -> Because:
        error = self.state.error(row)
        said = error_text(error, 200) if error is not None else now.lower()
        if self.state.skipped(row) and self.ahead.before(row) is not None:
            return Because("skipped", self._skipped(row))
        if now == states.REVOKED:
            return Because(*self._revoked(call, str(error or "")))
        if now == states.IGNORED:
            untold = ", or its result is ignored and its worker does not tell" if self.scene.hosts is not None else ""
            return Because("ignored", f"it raised Ignore{untold}: nothing is recorded")
        if now == states.REJECTED:
            return Because("rejected", f"rejected: {said}" if error else said)
        return Because(next((kind for cls, kind in _ERRORS.items() if isinstance(error, cls)), "failed"), said)

    def _revoked(self, call: Call, said: str) -> tuple[str, str]:
        if said == "expired":
            return "expired", "it expired before it was started"
        how = f": {cut(said)}" if said not in ("", "revoked") else ""
        stamps = call.stamps or {}
        for name, revoked in self.revoked_stamps.items():
            values = stamps.get(name)
            for value in values if isinstance(values, list | tuple | set | frozenset) else (values,):
                if name in stamps and shown(value) in revoked:
                    return "revoked", f"revoked by its stamp {cut(name, 40)}={cut(shown(value), 40)}{how}"
        return "revoked", f"revoked by its id{how}" if call.id in self.scene.revoked_ids else f"revoked{how}"

    def _skipped(self, row: int) -> str:
        found = self._skips.get(key := id(self.ahead.before(row)))
        if found is None:
            culprit, count = self.ahead.culprits(row)
            if culprit < 0:
                found = "it never ran: something before it did not succeed"
            else:
                ended = self.state.state(culprit)
                how = "failed" if ended == states.FAILURE else f"was {ended.lower()}"
                error = self.state.error(culprit)
                why = f" ({error_text(error, 100)})" if error is not None and ended == states.FAILURE else ""
                others = f", and {plural(count - 1, 'other')}" if count > 1 else ""
                found = f"it never ran: {self._path(culprit)} {how}{why}{others}"
            self._skips[key] = found
        return found

    # -- it runs ----------------------------------------------------------------------------------------------------

    def _running(self, row: int, call: Call) -> Because:
        slot, started = self.state.worker(row), self.state.started(row)
        if not self.alone and call.id not in self.running and self._is_gone(slot, started):
            by = f" {_host(slot)}" if slot and self.clocks else ""
            return Because("worker lost", self._gone() or f"the worker{by} that ran it is gone")
        progress = self.state.progress(row)
        tail = f" on {cut(slot, 80)}" if slot and self.clocks else ""
        tail += f" for {duration(self.now - started)}" if started is not None and self.clocks else ""
        if progress is not None and progress.total:
            tail += f", {progress.fraction:.0%} done"
        if call.id in self.scene.revoked_ids:
            tail += "; it is revoked, and goes on: cancel(terminate=True) ends it"
        return Because("running", "it runs", tail=tail)

    def _gone(self) -> str:
        gone = self.scene.gone
        return gone if self.clocks or not gone else "the process that ran it is gone"

    def _is_gone(self, slot: str | None, started: float | None) -> bool:
        scene = self.scene
        if scene.worker is None or (slot is not None and slot not in scene.slots):
            return True
        return started is not None and started < scene.since

    # -- it was sent ------------------------------------------------------------------------------------------------

    def _sent(self, row: int, call: Call, now: str) -> Because:
        message, place = self.queued.get(call.id, (None, 0))
        due = self.state.due(row) if message is None or message.due is None else message.due
        retry = ""
        if now == states.RETRY:
            error = self.state.error(row)
            after = f" after {error_text(error, 100)}" if error is not None else ""
            retry = f"retry {self.state.retries(row)}{after}"
        blocked = None if self.alone else self._blocked(call, message)
        if blocked is not None:
            return blocked._replace(words=f"{blocked.words}; it waits for its {retry}") if retry else blocked
        if due is not None and due > self.now:
            return self._later(call, now, due, retry)
        again = f" for its {retry}" if retry else ""
        if message is None:
            words = f"it was sent{again}, and no worker has said that it started it"
            return Because("retry" if retry else "starting", words)
        behind = f" behind {number(self.others)} of other runs" if self.others else ""
        words = f"queued in {cut(message.queue, 60)!r}{behind}{again}"
        if not self.full and place <= len(self.scene.slots) - len(self.scene.busy):
            return Because("retry" if retry else "starting", f"{words}: a slot is free")
        words += f": {self.full}" if self.full else ""
        return Because("retry" if retry else "queued", words, waits_for=self.in_slots, place=place)

    def _later(self, call: Call, now: str, due: float, retry: str) -> Because:
        """Return why it may not start yet."""
        limit = self.scene.held.get(call.id)
        if limit is not None or (now == states.RECEIVED and not retry):
            of = f" of {cut(limit, 40)}" if limit is not None else ""
            return Because("rate limit", f"its rate limit{of} holds it back", until=due)
        if retry:
            return Because("retry", f"it waits for its {retry}", until=due)
        return Because("eta", "it waits for its time", until=due)

    def _blocked(self, call: Call, message: Queued | None) -> Because | None:
        """Return why it would not start even if it were its turn."""
        scene = self.scene
        if scene.worker is None:
            return Because("no worker", self._gone() or "no worker runs: start one with %canvas worker start")
        worker = f"worker {_host(scene.worker)}" if self.clocks else "the worker"
        if message is not None and scene.queues is not None and message.queue not in scene.queues:
            takes = ", ".join(repr(cut(queue, 40)) for queue in sorted(scene.queues)) or "none"
            queue = cut(message.queue, 60)
            return Because("no consumer", f"nobody consumes queue {queue!r}: {worker} takes {takes}")
        if call.task in scene.unknown:
            return Because("unknown task", f"{worker} does not know {cut(call.task, 80)}")
        return None

    def _slots(self) -> tuple[str, tuple[str, ...]]:
        """Return what keeps all slots busy, in words, and which tasks that are; an empty text when some are free."""
        busy, slots = self.scene.busy, len(self.scene.slots)
        if not slots or len(busy) < slots:
            return "", ()
        counts = Counter(one.name for one in busy)
        short = names(set(counts))
        what = [
            cut(short[name], 60) + (f" ×{count}" if count > 1 else "") for name, count in counts.most_common(_NAMED)
        ]
        if len(counts) > _NAMED:
            what.append("…")
        all_ = "the only slot is" if slots == 1 else f"all {slots} slots are"
        if not self.clocks:  # how many there are is another thing on each machine
            all_ = "all slots are"
        return f"{all_} busy with {', '.join(what)}", tuple(self._name_of(one.task_id) for one in busy)

    # -- it was not sent --------------------------------------------------------------------------------------------

    def _waits(self, row: int) -> Because:
        before = self.ahead.before(row)
        if before is None:
            gone = self._gone()
            return Because("no worker", gone) if gone else Because("starting", "it was not sent yet")
        found = self._waiting.get(id(before))
        if found is None:
            found = self._waiting[id(before)] = self._wait(before)
        return found

    def _wait(self, before: Call | Fan) -> Because:
        if isinstance(before, Fan):
            rows, of = self.ahead.missing(before)
            if not rows:
                return Because("starting", f"all {of} it waited for have arrived: it is about to be sent")
            paths = tuple(map(self._path, rows))
            first = ", ".join(cut(path, 80) for path in paths[:_NAMED])
            more = f", and {plural(len(rows) - _NAMED, 'other')}" if len(rows) > _NAMED else ""
            arrived = f"{number(of - len(rows))} of {number(of)} arrived"
            return Because("barrier", f"{arrived}; it waits for {first}{more}", paths)
        row = self.state.index_of(before.id)
        now = self.state.state(row)
        if now == states.SUCCESS:
            return Because("starting", f"{self._path(row)} has ended: it is about to be sent")
        return Because("predecessor", f"it waits for {self._path(row)} ({now})", (self._path(row),))

    # -- words ------------------------------------------------------------------------------------------------------

    def _path(self, row: int) -> str:
        place = self.state.calls[row]
        return place.path or self.short[place.call.task]

    def _name_of(self, task_id: str) -> str:
        return self._path(self.state.index_of(task_id)) if task_id in self.state else task_id


def _host(worker: str) -> str:
    return cut(worker.rpartition("/")[0] or worker, 80)
