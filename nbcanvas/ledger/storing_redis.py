"""What a split ledger writes into Redis: a batch of steps in one script, which tells our clients, too."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from time import time
from typing import Any

from nbcanvas import states
from nbcanvas.backend.port import Record
from nbcanvas.backend.redis import RedisBackend
from nbcanvas.backend.redis.news import headline
from nbcanvas.backend.redis.steps import Written
from nbcanvas.errors import ServerLost
from nbcanvas.plan import Arrival, Join

from .port import Filled, Step
from .storing import Mark, Stored
from .writing import written

__all__ = ["RedisStore"]

log = logging.getLogger("nbcanvas.ledger")


class RedisStore:
    """Writes a batch of steps with one script, which tells our clients, too.

    Parameters
    ----------
    backend
        The result backend.
    """

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._perform = backend.committer.perform
        #: Arrivals behind the one that filled a barrier, for the step that dispatches that.
        self._left: dict[str, Sequence[Arrival]] = {}

    def mark(self, marks: Sequence[Mark]) -> Sequence[Record | None]:
        """Store that tasks begin; returns what stands in the way."""
        found: list[Record | None] = [None] * len(marks)
        todo = [(place, mark, b"") for place, mark in enumerate(marks)]
        while todo:  # again, where a claim gives way; it may be another one by then
            now = time()
            answers = self._perform([_claim(mark, now, over) for _, mark, over in todo])
            left = []
            for (place, mark, _), answer in zip(todo, answers, strict=True):
                there = answer.stands
                if there is None:
                    found[place] = None
                    continue
                found[place] = record = self._backend.documents.read(mark.task_id, there)
                if record.state == states.STARTED and mark.over(record):
                    left.append((place, mark, there))
            todo = left
        return found

    def store(self, steps: Sequence[tuple[Step, bool]]) -> list[Stored]:
        """Store results, and fill slots."""
        now = time()
        answers = self._perform([self._written(step, now) for step, _ in steps])
        missed = [
            (place, step)
            for place, ((step, again), answer) in enumerate(zip(steps, answers, strict=True))
            if again and not answer.performed
        ]
        if missed:
            self._perform([Written(skips=step.skips, opens=step.opens) for _, step in missed])
        places = {place for place, _ in missed}
        found: list[Stored] = []
        for place, ((step, _), answer) in enumerate(zip(steps, answers, strict=True)):
            tag = "" if step.delivery is None else step.delivery.tag
            filled = None if answer.filled is None else Filled(*answer.filled)
            if filled is not None and answer.left:
                self._left[tag] = answer.left
            else:
                self._left.pop(tag, None)
            found.append(Stored(answer.performed or place in places, filled))
        return found

    def _written(self, step: Step, now: float) -> Written:
        return written(step, now, self._left.get(step.delivery.tag, ()) if step.delivery is not None else ())

    def dispatched(self, joins: Sequence[Join]) -> None:
        """Forget barriers."""
        for join in joins:
            self._backend.dispatched(join)

    def tell(self, client: str, root_id: str, events: Iterable[tuple[str, str, float, int, Any]]) -> None:
        """Publish news of tasks on their way."""
        lines = [f"{headline(kind, id, attempt, at, root_id, data)}\n" for kind, id, at, attempt, data in events]
        try:
            self._backend.server.tell([(self._backend.keys.news + client, "\n".join(lines).encode())])
        except ServerLost as error:
            log.debug("nobody hears of what is on its way: %s", error)


def _claim(mark: Mark, now: float, over: bytes) -> Written:
    record = mark.record
    return Written(
        task_id=mark.task_id,
        record=record,
        attempt=record.settled if record.settled > 0 else record.retries,
        client=mark.client,
        root_id=mark.root_id,
        time=now,
        over=over,
    )
