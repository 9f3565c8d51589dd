"""What is remembered of a run's tasks: columns with a row for each, and small dictionaries for what few have."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Mapping
from math import nan
from typing import Any, Final, NamedTuple

from nbcanvas import states

from .attempts import End, Past, Start
from .event import Event
from .tree import Tree

__all__ = ["CODES", "NAMES", "Columns", "Known", "Progress"]

#: State name -> the byte that stands for it in `Columns.code`; a higher one overrules a lower one.
CODES: Final[Mapping[str, int]] = states.RANK
#: The byte -> state name (place 0 is no state).
NAMES: Final = ("", *sorted(states.RANK, key=states.RANK.__getitem__))

#: In these a task has something to say about why.
WITH_ERROR: Final = frozenset(CODES[name] for name in (*states.EXCEPTION_STATES, states.REJECTED))


class Columns(NamedTuple):
    """A row a task, in the order of `State.calls`.  To be read, not written.

    Attributes
    ----------
    code
        The state (see `NAMES`).
    sent, received, started, finished
        Seconds since the epoch, NaN when unknown.  What has no `received` of its own was received when it started.
    worker
        Place of the worker's name in `State.worker_names`; 0 for none.
    """

    code: bytearray
    sent: array[float]
    received: array[float]
    started: array[float]
    finished: array[float]
    worker: array[int]

    @classmethod
    def blank(cls, count: int) -> Columns:
        """Return the columns of `count` tasks of which nothing was heard."""
        unknown = array("d", (nan,)) * count
        waiting = bytearray((CODES[states.WAITING],)) * count
        return cls(waiting, unknown, unknown[:], unknown[:], unknown[:], array("I", (0,)) * count)

    def copy(self) -> Columns:
        """Return columns that can be written to."""
        code, sent, received, started, finished, worker = self
        return Columns(code[:], sent[:], received[:], started[:], finished[:], worker[:])

    def take(self, rows: Iterable[int]) -> Columns:
        """Return the columns of `rows`, in that order; of -1, blank ones."""
        source = self.copy()
        source.extend(1)  # which is the last one, so that -1 finds it
        rows = tuple(rows)
        code, sent, received, started, finished, worker = source
        return Columns(
            bytearray(code[i] for i in rows),
            array("d", (sent[i] for i in rows)),
            array("d", (received[i] for i in rows)),
            array("d", (started[i] for i in rows)),
            array("d", (finished[i] for i in rows)),
            array("I", (worker[i] for i in rows)),
        )

    def extend(self, count: int) -> None:
        """Add the rows of `count` tasks of which nothing was heard."""
        code, sent, received, started, finished, worker = Columns.blank(count)
        self.code.extend(code)
        self.sent.extend(sent)
        self.received.extend(received)
        self.started.extend(started)
        self.finished.extend(finished)
        self.worker.extend(worker)


class Progress(NamedTuple):
    """What a task said about itself with ``update_state``.

    Attributes
    ----------
    time
        When, in seconds since the epoch.
    state
        The state name it gave, ``"PROGRESS"`` as a rule.
    meta
        What it gave with it.
    """

    time: float
    state: str
    meta: Any

    @property
    def current(self) -> float | None:
        """How far it is, when `meta` has numbers ``current`` and ``total``; between 0 and `total`."""
        found = self._numbers()
        return None if found is None else found[0]

    @property
    def total(self) -> float | None:
        """How far it has to go, when `meta` says so."""
        found = self._numbers()
        return None if found is None else found[1]

    @property
    def fraction(self) -> float:
        """How far it is, from 0 to 1; 0 when it does not say."""
        found = self._numbers()
        return 0.0 if found is None else found[0] / found[1]

    def _numbers(self) -> tuple[float, float] | None:
        meta = self.meta
        if not isinstance(meta, Mapping):
            return None
        current, total = meta.get("current"), meta.get("total")
        if not isinstance(current, int | float) or not isinstance(total, int | float) or not 0 < total < float("inf"):
            return None
        return (min(max(current, 0), total) if current == current else 0), total  # noqa: PLR0124 - NaN


class Known(NamedTuple):
    """Everything a State knows.

    Attributes
    ----------
    tree
        The calls.
    columns
        What each of them has.
    names
        The names of worker slots.
    attempts, due, ends, progress
        What few of them have, by row.
    starts
        Row -> every start of the present attempt, when there are several.
    history
        Row -> what is known of earlier attempts, oldest first.
    heard
        The parts of the tree (links, errbacks) that something was heard of.
    pending
        Events of ids without a row, by what tells them apart.
    """

    tree: Tree
    columns: Columns
    names: tuple[str, ...]
    attempts: Mapping[int, int]
    due: Mapping[int, float]
    ends: Mapping[int, End]
    progress: Mapping[int, Progress]
    starts: Mapping[int, tuple[Start, ...]]
    history: Mapping[int, tuple[Past, ...]]
    heard: frozenset[str]
    pending: Mapping[Hashable, Event]

    @classmethod
    def nothing(cls, tree: Tree) -> Known:
        """Return what is known before anything was heard."""
        return cls(tree, Columns.blank(len(tree.calls)), ("",), {}, {}, {}, {}, {}, {}, frozenset(), {})
