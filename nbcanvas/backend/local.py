"""The backend inside the process: records in a dict, barriers as lists of slots."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from time import time
from typing import TypeAlias

from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Exit, Join, Message, Node
from nbcanvas.states import READY_STATES

from .port import Record, Tree

__all__ = ["LocalBackend"]

#: Hears of a task's end: ``(task id, record)``.
OnEnd: TypeAlias = Callable[[str, Record], None]

_SWEEP_EVERY = 4096


def _several(watching: OnEnd | tuple[OnEnd, ...]) -> tuple[OnEnd, ...]:
    return watching if isinstance(watching, tuple) else (watching,)


class LocalBackend:
    """Results in memory, gone with the process.

    Parameters
    ----------
    expires
        Seconds after which a finished task's record may be dropped (Celery's ``result_expires``); None keeps all.
    """

    #: Runs are gone with the process, too.
    runs = None

    def __init__(self, expires: Callable[[], float | None] = lambda: None) -> None:
        self._expires = expires
        self._records: dict[str, Record] = {}
        # One callable, or a tuple of several: most tasks are watched once, and a tuple each would be work for the
        # garbage collector.
        self._watchers: dict[str, OnEnd | tuple[OnEnd, ...]] = {}
        # By identity: a frozen canvas that is run twice has two barriers of one id.
        self._slots: dict[int, tuple[Join, list[tuple[Exit, str] | None], list[int]]] = {}
        self._groups: dict[str, Tree] = {}
        # A finalizer may stop watching in the middle of anything here, in this very thread.
        self._lock = threading.RLock()
        self._stored = 0

    def settle(self, task_id: str, record: Record) -> bool:
        """Store how an attempt ended; False (and nothing stored) when that attempt, or a later one, was settled."""
        # setdefault is atomic: of two deliveries of one message, one finds the other's record here.
        if self._records.setdefault(task_id, record) is not record:
            with self._lock:
                old = self._records.get(task_id)
                if old is not None and old.settled >= record.settled:
                    return False
                self._records[task_id] = record
        self._stored += 1
        if not self._stored % _SWEEP_EVERY:
            self._sweep()
        return True

    def announce(self, task_id: str, record: Record) -> None:
        """Tell those who watch a task that it has ended."""
        if self._watchers:
            self._tell(task_id, record)

    def update(self, task_id: str, record: Record) -> bool:
        """Store a state on the way; False (and nothing stored) when the task has ended."""
        stored = self.keep(task_id, record)
        if stored and record.state in READY_STATES:
            self._tell(task_id, record)
        return stored

    def keep(self, task_id: str, record: Record) -> bool:
        """Do as `update` does, and tell nobody."""
        with self._lock:
            old = self._records.get(task_id)
            if old is not None:
                if old.state in READY_STATES:
                    return False
                record.settled = max(record.settled, old.settled)
            self._records[task_id] = record
        return True

    def _tell(self, task_id: str, record: Record) -> None:
        with self._lock:
            watching = self._watchers.pop(task_id, ())
        for on_end in _several(watching):
            on_end(task_id, record)

    def refuse(self, node: Node) -> None:
        """Do nothing: any canvas can run here."""

    def expect(self, task_ids: Iterable[str]) -> None:
        """Do nothing: there is no other process."""

    def tells(self, task_id: str) -> bool:
        """Never: asking costs nothing that matters."""
        return False

    def watches(self, task_id: str) -> bool:
        """Whether somebody watches a task."""
        return task_id in self._watchers

    def watched(self) -> Sequence[str]:
        """Return the ids somebody watches."""
        with self._lock:
            return list(self._watchers)

    def get(self, task_id: str) -> Record | None:
        """Return what is known of a task, or None."""
        return self._records.get(task_id)

    def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Record]:
        """Return what is known of several tasks; what nothing is known of is not in it."""
        find = self._records.get
        return {task_id: record for task_id in task_ids if (record := find(task_id)) is not None}

    def records(self) -> Mapping[str, Record]:
        """Return every record, by id."""
        return dict(self._records)

    def forget(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""
        for task_id in task_ids:
            self._records.pop(task_id, None)

    def open(self, joins: Sequence[Join]) -> Sequence[Message]:
        """Do nothing: a barrier knows its slots."""
        return ()

    def arrive(self, arrival: Arrival) -> list[tuple[Exit, str]] | None:
        """Fill a slot; the call that fills the last one, and no other, gets every slot's exit and filler."""
        slot, exit_, by = arrival
        join = slot.join
        with self._lock:
            entry = self._slots.get(id(join))
            if entry is None:
                entry = self._slots[id(join)] = (join, [None] * join.size, [join.size])
            _, slots, left = entry
            if slots[slot.index] is not None:
                return None
            slots[slot.index] = (exit_, by)
            left[0] -= 1
            if left[0]:
                return None
            del self._slots[id(join)]
        return [filled for filled in slots if filled is not None]

    def dispatched(self, join: Join) -> None:
        """Do nothing: whoever filled the last slot had them all."""

    def catch_up(self, task_ids: Iterable[str]) -> None:
        """Do nothing: they hear of every end as it is stored."""

    def watch(self, task_ids: Iterable[str], on_end: OnEnd, later: Container[str] = ()) -> Callable[[], None]:
        """Call `on_end` once for each of the tasks when it ends, or at once when it has; returns the way to stop.

        Those whose ends are announced `later` are not told at once.
        """
        records = self._records
        wanted = list(task_ids)
        with self._lock:
            watchers = self._watchers
            if watchers.keys().isdisjoint(wanted):
                watchers.update(dict.fromkeys(wanted, on_end))
            else:
                for task_id in wanted:
                    watchers[task_id] = (*_several(watchers.get(task_id, ())), on_end)
        if not records.keys().isdisjoint(wanted):  # some are known already, perhaps since a moment ago
            for task_id in wanted:
                record = records.get(task_id)
                if record is not None and record.state in READY_STATES and task_id not in later:
                    self._tell(task_id, record)

        def stop() -> None:
            with self._lock:
                if watchers.keys().isdisjoint(wanted):
                    return
                for task_id in wanted:
                    left = tuple(w for w in _several(watchers.get(task_id, ())) if w is not on_end)
                    if left:
                        watchers[task_id] = left
                    else:
                        watchers.pop(task_id, None)

        return stop

    def save_group(self, group_id: str, tree: Tree) -> None:
        """Keep a group's result tree under its id."""
        self._groups[group_id] = tree

    def restore_group(self, group_id: str) -> Tree | None:
        """Return a saved tree."""
        return self._groups.get(group_id)

    def delete_group(self, group_id: str) -> None:
        """Forget a saved tree."""
        self._groups.pop(group_id, None)

    def joins(self) -> Mapping[str, tuple[Join, int]]:
        """Return the barriers that wait, each with how many of its slots are filled."""
        with self._lock:
            return {join.id: (join, join.size - left[0]) for join, _, left in self._slots.values()}

    def cleanup(self) -> None:
        """Drop what has expired."""
        self._sweep(len(self._records))

    def flush(self, timeout: float | None = None) -> bool:
        """Nothing is on its way anywhere."""
        return True

    def _sweep(self, at_most: int = _SWEEP_EVERY * 2) -> None:
        """Drop records that have expired; they stand in the order of their storing, so only the first are looked at."""
        expires = self._expires()
        if not expires:
            return
        before = time() - expires
        with self._lock:
            for _ in range(at_most):
                try:
                    task_id = next(iter(self._records))
                except (StopIteration, RuntimeError):  # empty, or somebody stored meanwhile
                    return
                record = self._records[task_id]
                if record.done is not None and record.done > before:
                    return
                del self._records[task_id]
                if record.done is None:  # has not ended: to the back of the line
                    self._records[task_id] = record
                    return
