"""Steps as the arguments of the script that performs them (``scripts/commit.lua``), and its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nbcanvas import states
from nbcanvas.backend.documents import Documents
from nbcanvas.backend.port import Record
from nbcanvas.plan.engine import Arrival
from nbcanvas.plan.model import Exit, Join, Next, Slot, Spread
from nbcanvas.servers.redis import RedisServer, Script, load_script

from .keys import Keys
from .news import KINDS, headline

__all__ = ["Answered", "Committer", "Expiry", "Written"]

_SCRIPT: Final = load_script(__package__, "commit")
#: Has a script run, with keys and arguments.
Run = Callable[[Script, Sequence[str], Sequence[Any]], Any]

#: Seconds a claim on a full barrier holds off Celery's workers, and a dispatched barrier is known as that.
_CLAIM: Final = 30
_DONE: Final = 300
#: States of documents that say of themselves that nothing comes after them.
_TELLING: Final = frozenset({states.SUCCESS, states.FAILURE})
_LOST, _SETTLED, _DISPATCHED = 0, 2, 3


class Expiry(NamedTuple):
    """How long results are kept, in seconds; 0 is for ever.

    Attributes
    ----------
    results, failures, chords
        Celery's ``result_expires``, ``result_failure_expires`` and ``result_chord_expires``.
    """

    results: int = 86400
    failures: int = 86400
    chords: int = 86400

    @classmethod
    def of(cls, results: float | None, failures: float | None = None, chords: float | None = None) -> Expiry:
        """Return what the settings mean: None of the last two is the first."""
        kept = int(results or 0)
        return cls(kept, kept if failures is None else int(failures), kept if chords is None else int(chords))


class Written(NamedTuple):
    """A step, its messages sealed.

    Attributes
    ----------
    tag
        Of the delivery; empty for none.
    task_id, record
        What is stored; None for nothing.
    attempt
        Of the message.
    client, root_id
        Who is told, and of which run; an empty client for nobody.
    time
        Of what is told.
    skips, opens, sends, arrivals, dispatches, keeps
        See `nbcanvas.ledger.port.Step`; of messages, the key of the list and the envelope.
    latch
        Whether the step is performed only if the task is not settled.
    quiet
        Tell of the record, and do not store it.
    update
        The record is a state on the way.
    data
        What is told with the record.
    began
        When the task began, and the worker's name, to be told with the record; None when that is told otherwise.
    over
        The record says that the task begins, and is stored only if none does that another process stored, but for this
        document (empty: for none); None for any other record.
    """

    tag: str = ""
    task_id: str = ""
    record: Record | None = None
    attempt: int = 0
    client: str = ""
    root_id: str = ""
    time: float = 0.0
    skips: Sequence[tuple[str, Record]] = ()
    opens: Sequence[Join] = ()
    sends: Sequence[tuple[str, bytes]] = ()
    arrivals: Sequence[Arrival] = ()
    dispatches: Join | None = None
    keeps: bool = False
    latch: bool = False
    quiet: bool = False
    update: bool = False
    data: Any = None
    began: tuple[float, str] | None = None
    over: bytes | None = None


class Answered(NamedTuple):
    """What became of a step.

    Attributes
    ----------
    held
        Whether its delivery was this worker's.
    performed
        See `nbcanvas.ledger.port.Answer`.
    filled
        The barrier it filled, and what is in the slots.
    left
        Arrivals behind the one that filled the barrier: they are for the next step of the delivery.
    stands
        The document of a task that may not begin: somebody has begun it, or it has ended.
    """

    held: bool
    performed: bool
    filled: tuple[Join, list[tuple[Exit, str]]] | None = None
    left: Sequence[Arrival] = ()
    stands: bytes | None = None


class Committer:
    """Has steps performed by a Redis server.

    Parameters
    ----------
    server
        The server.
    keys, documents, expiry
        How results are named and look, and how long they are kept.
    ordered
        Whether slots are kept in order (Celery's ``result_chord_ordered``).
    """

    def __init__(
        self, server: RedisServer, keys: Keys, documents: Documents, expiry: Expiry, *, ordered: bool = True
    ) -> None:
        self._server = server
        self._documents = documents
        self.expiry = expiry
        self._head: tuple[Any, ...] = (
            keys.task,
            keys.group,
            keys.mark,
            keys.news,
            "1" if ordered else "0",
            expiry.chords,
            _CLAIM,
            _DONE,
        )

    def perform(
        self, steps: Sequence[Written], unacked: str = "", begun: str = "", run: Run | None = None
    ) -> list[Answered]:
        """Perform steps, all in one script.

        Parameters
        ----------
        steps
            What to perform.
        unacked, begun
            The keys of the deliveries of the worker, and of the tags of those that begun.
        run
            Has the script run; the server by default.

        Raises
        ------
        ServerLost
            When the server is not there: the steps were performed, or not; performed again, those of a delivery
            change nothing.
        """
        args: list[Any] = [*self._head, len(steps)]
        for step in steps:
            self._write(args, step)
        answers = (run or self._server.run)(_SCRIPT, (unacked, begun), args)
        return [self._answered(step, answer) for step, answer in zip(steps, answers, strict=True)]

    def seconds(self, state: str) -> int:
        """Return how long the document of a state is kept."""
        return self.expiry.failures if state == states.FAILURE else self.expiry.results

    def _write(self, args: list[Any], step: Written) -> None:
        documents = self._documents
        state, document, head = self._ending(step)
        args += (
            step.tag,
            self._flags(step, state),
            step.task_id,
            step.attempt,
            state,
            self.seconds(state),
            document,
            step.client,
            head,
            "" if step.dispatches is None else step.dispatches.id,
            len(step.skips),
        )
        if step.over is not None:
            args.append(step.over)
        for task_id, skipped in step.skips:
            line = headline(KINDS[skipped.state], task_id, 0, step.time, step.root_id) if step.client else ""
            args += (task_id, self.seconds(skipped.state), documents.write(task_id, skipped), line)
        args.append(len(step.opens))
        for join in step.opens:
            args += (join.id, join.size)
        args.append(len(step.sends))
        for send in step.sends:
            args += send
        args.append(len(step.arrivals))
        for slot, exit_, by in step.arrivals:
            join = slot.join
            around = [one.id for one in _around(join)]
            args += (join.id, by, slot.index, documents.write_part(exit_, by), join.size, len(around), *around)

    def _ending(self, step: Written) -> tuple[str, bytes, str]:
        """Return the state of a step's record, its document, and the first line of what is told of it."""
        record = step.record
        if record is None:
            return "", b"", ""
        state, document, head = record.state, b"", ""
        if state != states.PENDING:  # of a task that was replaced: Celery stores nothing, either
            document = self._documents.write(step.task_id, record)
        if step.client:
            kind = KINDS.get(state, "progress")
            data = str(record.exc) if state == states.REVOKED else step.data
            head = headline(kind, step.task_id, step.attempt, step.time, step.root_id, data, step.began)
        return state, document, head

    def _flags(self, step: Written, state: str) -> str:
        """Return what the script is to do, a letter for each."""
        flags = "k" if step.keeps else ""
        flags += "c" if step.over is not None else "l" if step.latch else "u" if step.update else ""
        stored = step.record is not None and not step.quiet
        if stored and state != states.PENDING:
            flags += "s"
        # Where no document will say that the task is settled, a mark does; a task that nothing follows needs none.
        if step.latch and (state not in _TELLING if stored else bool(step.sends)):
            flags += "m"
        return flags + "dD" if self._documents.plain else flags

    def _answered(self, step: Written, answer: Any) -> Answered:
        if isinstance(answer, int):
            return Answered(answer != _LOST, answer not in {_LOST, _SETTLED, _DISPATCHED})
        if isinstance(answer, bytes):
            return Answered(True, False, stands=answer)
        outcome, place, probe, trouble, group, *parts = answer
        join = step.arrivals[place - 1].slot.join
        if probe:
            join = _around(join)[probe - 1]
        if trouble:
            exits = self._documents.broken(trouble.decode("utf-8", "replace"))
        else:
            exits = self._documents.read_parts(group, parts)
        return Answered(True, outcome not in {_SETTLED, _DISPATCHED}, (join, exits), step.arrivals[place:])


def _around(join: Join) -> list[Join]:
    """Return the barriers that a full one may fill by itself, when what it causes ends without running."""
    found: list[Join] = []
    then: Any = join.then
    while then is not None:
        if isinstance(then, Next):
            then = then.rest()[1]
        if isinstance(then, Slot | Spread):
            found.append(then.join)
            then = then.join.then
    return found
