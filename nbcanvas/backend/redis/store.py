"""The Redis backend: Celery's documents and keys; who waits is told by those who worked."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import time
from typing import Any, Final

from nbcanvas import states
from nbcanvas.backend.documents import Documents
from nbcanvas.backend.encoding import Encoding
from nbcanvas.backend.local import OnEnd
from nbcanvas.backend.port import Record, Tree
from nbcanvas.errors import ServerLost
from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Call, Exit, Join, Message, Node
from nbcanvas.servers.redis import RedisServer, Refused, load_script

from .keys import Keys
from .listener import Listener
from .news import News, read_news
from .plans import Plans
from .runs import Runs
from .steps import Committer, Expiry, Written

__all__ = ["RedisBackend"]

log = logging.getLogger("nbcanvas.backend")

_LOOK, _ALIVE = (load_script(__package__, name) for name in ("look", "alive"))
#: Ids in one question.
_CHUNK: Final = 1000
#: Records that are kept here, so that whoever was told of an end need not ask for it; and bytes of their documents.
_KEPT: Final = 200_000
_KEPT_BYTES: Final = 64_000_000
#: Tasks that are expected to be told of: of one sending, and in all.  One whose end nobody has asked for yet.
_FEW: Final = 16
_EXPECTED: Final = 1000
_UNASKED: Final = 0
#: Barriers that `joins` tells of.
_JOINS: Final = 1000
#: Seconds after which somebody would have told of an end.
_TOLD: Final = 1.0
#: Seconds that who catches up waits, at most, until another thread has told what it is telling.
_TELLING: Final = 2.0
#: Seconds without a beat after which a worker is none.
_SILENT: Final = 10


class RedisBackend:
    """Results on a Redis server, for Celery's clients and workers as well.

    Parameters
    ----------
    server
        The server.
    encoding
        How values look.
    client_id
        Who this client is: its messages' ``reply_to``.  Our workers tell it what becomes of them.
    prefix
        ``global_keyprefix`` of Celery's ``result_backend_transport_options``.
    expiry
        How long results are kept.
    extended, ordered
        Celery's ``result_extended``, and ``result_chord_ordered`` of ``result_backend_transport_options``.
    queue_of, tree_of
        The queue of a call; what a task started, as plain data.
    workers
        The key under which our workers say that they live, when they do so on this server.

    Attributes
    ----------
    server, keys, documents, committer
        What a ledger on the same server shares with this backend.
    plans
        Plans that messages refer to.
    on_news
        Is told, in the listening thread, what happens to watched tasks on their way, and of their ends: once for each
        piece of news that our workers sent, and for each state that Celery's publish.  It must not block.
    others
        Says whether workers besides ours are known to be there; it asks nobody.
    """

    def __init__(
        self,
        server: RedisServer,
        encoding: Encoding | None = None,
        *,
        client_id: str = "",
        prefix: str = "",
        expiry: Expiry = Expiry(),  # noqa: B008 - a tuple
        extended: bool = False,
        ordered: bool = True,
        queue_of: Callable[[Call], str] = lambda _: "celery",
        tree_of: Callable[[Any], Tree] = lambda child: child,
        workers: str = "nbcanvas:workers",
    ) -> None:
        self.server = server
        self.client_id = client_id
        self.keys = keys = Keys(prefix)
        self.documents = Documents(encoding or Encoding(), extended=extended, queue_of=queue_of, tree_of=tree_of)
        self.committer = Committer(server, keys, self.documents, expiry, ordered=ordered)
        self.plans = Plans(server, keys.plan, expiry.results)
        self._runs = Runs(server, keys, expiry.results, self.results)
        self._workers = workers
        self.on_news: Callable[[News], None] | None = None
        self.others: Callable[[], bool] = lambda: False
        self._lock = threading.RLock()  # a finalizer may stop watching while this thread holds it
        self._watchers: dict[str, OnEnd | tuple[OnEnd, ...]] = {}
        #: Tasks whose end another thread is telling, and how many wait until it has.
        self._telling: set[str] = set()
        self._told = threading.Condition(self._lock)
        self._awaiting = 0
        self._kept: OrderedDict[str, Record] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._size = 0
        #: Tasks that were sent a moment ago: by which session of the listener their end will be heard.
        self._expected: dict[str, int] = {}
        self._joins: OrderedDict[str, Join] = OrderedDict()
        self._listener = Listener(
            server,
            keys.news + client_id,
            keys.task,
            ours=self._ours,
            others=lambda: self.others(),  # noqa: PLW0108 - it is set later
            epoch=self._epoch,
            lost=self._lost,
            watched=self._watched,
            lock=self._lock,
            look=self._look,
            on_news=self._hear,
            on_document=self._heard,
        )

    def __repr__(self) -> str:
        return f"<RedisBackend {self.server.name}>"

    @property
    def epoch_key(self) -> str:
        """Where the token is that is lost with the data of the server."""
        return self.keys.epoch

    # -- tasks --------------------------------------------------------------------------------------------------------

    def refuse(self, node: Node) -> None:
        """Do nothing: any canvas can run here."""

    def expect(self, task_ids: Iterable[str]) -> None:
        """Hear that these tasks are about to be sent: of a few of them, who works on them tells while we listen."""
        session = self._listener.session
        few = list(islice(task_ids, _FEW + 1)) if session else ()
        if not few or len(few) > _FEW:
            return
        with self._lock:
            expected = self._expected
            expected.update(dict.fromkeys(few, session))
            while len(expected) > _EXPECTED:
                oldest = next(iter(expected))
                if expected.pop(oldest) == _UNASKED:
                    self._drop(oldest)

    def tells(self, task_id: str) -> bool:
        """Whether it was sent from here, while we listened and as we do still, and has not ended."""
        session = self._expected.get(task_id)
        return bool(session) and session == self._listener.session

    def settle(self, task_id: str, record: Record) -> bool:
        """Store how an attempt ended; False (and nothing stored) when that attempt, or a later one, was settled."""
        step = Written(task_id=task_id, record=record, attempt=record.settled, latch=True)
        return self.committer.perform((step,))[0].performed

    def announce(self, task_id: str, record: Record) -> None:
        """Tell those in this process who watch a task that it has ended; others are told by its document."""
        self._ended(task_id, record)

    def update(self, task_id: str, record: Record) -> bool:
        """Store a state on the way; False (and nothing stored) when the task has ended."""
        step = Written(task_id=task_id, record=record, attempt=record.settled, update=True)
        stored = self.committer.perform((step,))[0].performed
        if stored and record.state in states.READY_STATES:
            self._ended(task_id, record)
        return stored

    def get(self, task_id: str) -> Record | None:
        """Return what is known of a task, or None; of a watched one that has ended, without asking the server."""
        record = self._kept.get(task_id)
        return record if record is not None else self._read((task_id,)).get(task_id)

    def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Record]:
        """Return what is known of several tasks; what nothing is known of is not in it."""
        kept = self._kept
        found = {one: record for one in task_ids if (record := kept.get(one)) is not None}
        return {**found, **self._read([one for one in task_ids if one not in found])}

    def results(self, calls: Sequence[Call]) -> Mapping[str, Record]:
        """Return the records of those of the calls that ended, all at once, with what the calls themselves know."""
        by_id = {call.id: call for call in calls}
        found = {}
        for task_id, record in self.get_many(list(by_id)).items():
            if record.state in states.READY_STATES:
                record.call = by_id[task_id]
                found[task_id] = record
        return found

    def forget(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""
        ids = list(task_ids)
        with self._lock:
            for task_id in ids:
                self._drop(task_id)
                self._expected.pop(task_id, None)
        for start in range(0, len(ids), _CHUNK):
            some = ids[start : start + _CHUNK]
            self.server.call("DEL", *[self.keys.task + one for one in some], *[self.keys.mark + one for one in some])

    def _read(self, task_ids: Sequence[str]) -> dict[str, Record]:
        """Return the records there are at the server."""
        read = self.documents.read
        return {task_id: read(task_id, document) for task_id, document in self._documents(task_ids)}

    def _documents(self, task_ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for start in range(0, len(task_ids), _CHUNK):
            some = task_ids[start : start + _CHUNK]
            flat = self.server.run(_LOOK, (self.keys.task,), some)
            for place, document in zip(flat[::2], flat[1::2], strict=True):
                yield some[place - 1], document

    # -- waiting ------------------------------------------------------------------------------------------------------

    def watch(self, task_ids: Iterable[str], on_end: OnEnd) -> Callable[[], None]:
        """Call `on_end` once for each of the tasks when it ends, or at once when it has; returns the way to stop."""
        wanted = list(task_ids)
        watchers, kept = self._watchers, self._kept
        known: list[tuple[str, Record]] = []
        with self._lock:
            if kept and not kept.keys().isdisjoint(wanted):
                known = [(one, record) for one in wanted if (record := kept.get(one)) is not None]
                done = {one for one, _ in known}
                fresh = [one for one in wanted if one not in done]
            else:
                fresh = wanted
            if watchers.keys().isdisjoint(fresh):
                watchers.update(dict.fromkeys(fresh, on_end))
                new = fresh
            else:
                told = bool(self._listener.session)  # then what is watched already need not be looked for again
                new = [one for one in fresh if one not in watchers] if told else fresh
                for one in fresh:
                    watchers[one] = (*_several(watchers.get(one, ())), on_end)
            self._listener.comes(new)
        for task_id, record in known:
            self._expected.pop(task_id, None)  # it is kept as any other that is watched
            on_end(task_id, record)
        if fresh:
            self._listener.follow(new)

        def stop() -> None:
            with self._lock:
                if watchers.keys().isdisjoint(fresh):
                    return
                for one in fresh:
                    left = tuple(w for w in _several(watchers.get(one, ())) if w is not on_end)
                    if left:
                        watchers[one] = left
                    else:
                        watchers.pop(one, None)

        return stop

    def catch_up(self, task_ids: Iterable[str]) -> None:
        """Tell those who watch these tasks of the ends that are stored, and of which they have not heard yet."""
        ids = list(task_ids)
        self._look([one for one in ids if one in self._watchers])
        with self._lock:  # not the condition: an interrupt inside its `__enter__` would keep the lock
            self._awaiting += 1
            try:
                self._told.wait_for(lambda: self._telling.isdisjoint(ids), _TELLING)
            finally:
                self._awaiting -= 1

    def _watched(self) -> dict[str, Any]:
        return self._watchers

    def _ours(self) -> bool:
        """Whether workers of ours live."""
        try:
            return bool(self.server.run(_ALIVE, (self._workers,), (_SILENT,)))
        except Refused:
            return False

    def _epoch(self) -> bytes | None:
        """Return what was put beside the data when they began, and goes with them; None when it cannot be put there."""
        found: bytes | None = self.server.call("GET", self.keys.epoch)
        if found is None:
            try:
                self.server.call("SET", self.keys.epoch, os.urandom(8).hex(), "NX")
            except ServerLost:  # out of memory
                return None
            found = self.server.call("GET", self.keys.epoch)
        return found

    def sent(self, task_ids: Sequence[str], epoch: bytes) -> None:
        """Hear that the messages of tasks were sent to this server, and put beside this token."""
        self._listener.sent(task_ids, epoch)

    def _lost(self, task_ids: Sequence[str]) -> None:
        msg = (
            f"{self.server.name} has lost its data: it was flushed, or restarted without keeping them; so is this task"
        )
        for task_id in task_ids:
            self._ended(task_id, Record(states.FAILURE, exc=ServerLost(msg), done=time()))

    def _look(self, task_ids: Sequence[str]) -> int:
        count = 0
        for task_id, document in self._documents(task_ids):
            record = self.documents.read(task_id, document)
            if record.state in states.READY_STATES:
                self._ended(task_id, record, len(document))
                count += record.done is None or time() - record.done > _TOLD
        return count

    def _hear(self, message: bytes) -> None:
        """Take what our workers say."""
        on_news, missing = self.on_news, []
        told = list(read_news(message, self.documents))
        for news in told:
            if on_news is not None:
                on_news(news)
            if news.record is None:
                if news.kind in _ENDS:
                    missing.append(news.id)
            elif news.record.state in states.READY_STATES:
                self._ended(news.id, news.record, len(message) // len(told))
        if missing:
            self._look(missing)

    def _heard(self, task_id: str, document: bytes) -> None:
        """Take a document that was published."""
        if task_id not in self._watchers:
            return
        record = self.documents.read(task_id, document)
        if record.state in states.READY_STATES:
            self._ended(task_id, record, len(document))
        elif self.on_news is not None:
            kind = {"STARTED": "started", "RETRY": "retried"}.get(record.state, "progress")
            self.on_news(News(kind, task_id, record.retries, time(), "", None, record))

    def _ended(self, task_id: str, record: Record, size: int = 0) -> None:
        with self._lock:
            watching = self._watchers.pop(task_id, None)
            if watching is not None:
                self._telling.add(task_id)
            if self._expected.pop(task_id, None) is not None and watching is None:
                self._expected[task_id] = _UNASKED
                self._keep(task_id, record, size)
            elif watching is not None or task_id in self._kept:
                self._keep(task_id, record, size)
        if watching is None:
            return
        try:
            for on_end in _several(watching):
                try:
                    on_end(task_id, record)
                except Exception:
                    log.exception("who waits for task %s cannot be told", task_id)
        finally:
            self._telling.discard(task_id)
            if self._awaiting:
                with self._lock:
                    self._told.notify_all()

    def _keep(self, task_id: str, record: Record, size: int) -> None:
        self._drop(task_id)
        self._kept[task_id] = record
        self._sizes[task_id] = size
        self._size += size
        while len(self._kept) > _KEPT or self._size > _KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, task_id: str) -> None:
        if self._kept.pop(task_id, None) is not None:
            self._size -= self._sizes.pop(task_id)

    # -- barriers -----------------------------------------------------------------------------------------------------

    def open(self, joins: Sequence[Join]) -> Sequence[Message]:
        """Hear that barriers start to wait, before the first message of theirs is sent: keep their sizes."""
        for start in range(0, len(joins), _CHUNK):
            self.committer.perform((Written(opens=joins[start : start + _CHUNK]),))
        self._remember(joins[-_JOINS:])
        return ()

    def grow(self, join: Join, more: int) -> None:
        """Let a barrier wait for more slots than it said it has; Celery's workers count them, too."""
        key, expires = f"{self.keys.group}{join.id}.t", self.committer.expiry.chords
        self.server.pipeline([("INCRBY", key, more), *([("EXPIRE", key, expires)] if expires else [])])

    def arrive(self, arrival: Arrival) -> list[tuple[Exit, str]] | None:
        """Fill a slot; the call that fills the last one, and no other, gets every slot's exit and filler.

        Until `dispatched` is called, the same arrival gets them again.
        """
        self._remember((arrival.slot.join,))
        filled = self.committer.perform((Written(arrivals=(arrival,)),))[0].filled
        return None if filled is None or filled[0] is not arrival.slot.join else filled[1]

    def dispatched(self, join: Join) -> None:
        """Hear that what a full barrier causes has been sent: its slots are needed no more."""
        self.committer.perform((Written(dispatches=join),))
        self._joins.pop(join.id, None)

    def joins(self) -> Mapping[str, tuple[Join, int]]:
        """Return the barriers of this process that wait, each with how many of its slots are filled."""
        joins = dict(self._joins)
        group = self.keys.group
        asked = [command for one in joins for command in (("ZCARD", f"{group}{one}.j"), ("GET", f"{group}{one}.c"))]
        replies = self.server.pipeline(asked) if asked else []
        found: dict[str, tuple[Join, int]] = {}
        for (join_id, join), count, claim in zip(joins.items(), replies[::2], replies[1::2], strict=True):
            if claim == b"done":
                self._joins.pop(join_id, None)
            else:
                found[join_id] = join, count
        return found

    def _remember(self, joins: Sequence[Join]) -> None:
        kept = self._joins
        for join in joins:
            kept[join.id] = join
        while len(kept) > _JOINS:
            kept.popitem(last=False)

    # -- groups -------------------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, tree: Tree) -> None:
        """Keep a group's result tree under its id."""
        expires = self.committer.expiry.results
        more = ("EX", expires) if expires else ()
        key, document = self.keys.group + group_id, self.documents.write_group(tree)
        self.server.pipeline([("SET", key, document, *more), ("PUBLISH", key, document)])

    def restore_group(self, group_id: str) -> Tree | None:
        """Return a saved tree."""
        found = self.server.ask("GET", self.keys.group + group_id)
        return None if found is None else self.documents.read_group(found)

    def delete_group(self, group_id: str) -> None:
        """Forget a saved tree."""
        self.server.call("DEL", self.keys.group + group_id)

    # -- the rest -----------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> Runs:
        """Where runs are kept: beside the results."""
        return self._runs

    def cleanup(self) -> None:
        """Drop what has expired: Redis does that by itself, but for the list of runs."""
        self._runs.cleanup()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is where it is kept; False when it is not there in time."""
        return self._runs.flush(timeout)

    def close(self) -> None:
        """Listen no more, and let go of the server."""
        self._runs.close(5.0)
        self._listener.close()
        self.server.close()


_ENDS: Final = frozenset({"succeeded", "failed", "revoked", "rejected", "ignored"})


def _several(watching: OnEnd | tuple[OnEnd, ...]) -> tuple[OnEnd, ...]:
    return watching if isinstance(watching, tuple) else (watching,)
