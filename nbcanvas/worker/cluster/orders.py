"""What a worker is told by remote control, and asked: `commands.Desk` hears it, this does it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nbcanvas.errors import TaskRevokedError
from nbcanvas.plan import Message, Revoked
from nbcanvas.protocol.signatures import CONTINUE_QUEUE
from nbcanvas.remote.revokes import Revokes
from nbcanvas.worker.rates import RateLimits

from . import questions
from .autoscale import Autoscaler
from .ending import Endings
from .job import Job
from .pool import Pool
from .shared import Shared
from .supply import Supply

__all__ = ["Orders"]


class Orders:
    """Does what one worker is told, in any thread.

    Parameters
    ----------
    shared, endings, supply, pool, rates
        The worker's.
    scaler
        Says how many slots there should be; None when that is as it is.
    shutdown
        Begins to stop the worker, warm.

    Attributes
    ----------
    app, hostname, started
        The worker's: whose it is, its name, and since when it is.
    """

    def __init__(
        self,
        shared: Shared,
        endings: Endings,
        supply: Supply,
        pool: Pool,
        rates: RateLimits,
        scaler: Autoscaler | None,
        started: float,
        shutdown: Callable[[], None],
    ) -> None:
        self.app = shared.app
        self.hostname = shared.hostname
        self.started = started
        self.shutdown = shutdown
        self._shared = shared
        self._endings = endings
        self._supply = supply
        self._pool = pool
        self._rates = rates
        self._scaler = scaler

    @property
    def revokes(self) -> Revokes:
        """What was revoked."""
        return self._shared.revokes

    def terminate(self, ids: Iterable[str], signal: str = "SIGTERM") -> None:
        """End the tasks with these ids if they run; they end as REVOKED."""
        wanted = set(ids)
        for slot, job in self._pool.running():
            if job.message.call.id in wanted:
                outcome = Revoked(TaskRevokedError("terminated"), terminated=True)
                self._pool.end(slot, job, outcome, signal, self._endings.end)

    def revoked_now(self, _ids: Iterable[str]) -> None:
        """More is revoked: what waits here and is hit ends now."""
        hits = self.revokes.hits

        def is_hit(job: Job) -> bool:
            call = job.message.call
            return hits(call.id, call.stamps)

        for job in self._supply.withdraw(is_hit):
            self._endings.end(job, Revoked(TaskRevokedError("revoked")))
        self._endings.committer.flush()

    def rate_changed(self, name: str) -> None:
        """A task's rate limit is another one now: what waits because of the old one is looked at again."""
        held = self._rates.release(name)
        if held:
            again = self._supply.withdraw(lambda job: id(job.message) in held)
            self._supply.again(again)
            self._supply.wake()

    def grow(self, n: int = 1) -> None:
        """Have `n` more slots."""
        self._resize(self._pool.size + n)

    def shrink(self, n: int = 1) -> None:
        """Have `n` slots less; one at least."""
        self._resize(self._pool.size - n)

    def _resize(self, size: int) -> None:
        if self._pool.kind == "solo":
            msg = "a solo pool has one slot"
            raise ValueError(msg)
        self._pool.resize(max(size, 1))
        self._supply.wake()

    @property
    def autoscales(self) -> bool:
        """Whether it has as many slots as there is work for."""
        return self._scaler is not None

    def autoscale(self, most: int | None = None, least: int | None = None) -> tuple[int, int]:
        """Change between how many slots there are; returns ``(most, least)``.

        Raises
        ------
        ValueError
            When it does not scale.
        """
        if self._scaler is None:
            msg = "Autoscale not enabled"
            raise ValueError(msg)
        found = self._scaler.change(most, least)
        self._pool.resize(min(max(self._pool.size, found[1]), found[0]))
        self._supply.wake()
        return found

    def restart_pool(self, modules: Sequence[str] = (), reload: bool = False) -> None:
        """Import modules (again), and put new slots in the place of all."""
        for name in modules:
            if reload and name in sys.modules:
                importlib.reload(sys.modules[name])
            else:
                importlib.import_module(name)
        self._pool.restart()
        self._supply.wake()

    def consume(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        **options: Any,
    ) -> None:
        """Take from one more queue; what it is, where the settings do not say it, is said here."""
        self.app.router.queues.add(queue, exchange, exchange_type, routing_key, **options)
        self._shared.ledger.consume(queue)
        self._supply.wake()

    def cancel(self, queue: str) -> None:
        """Take from a queue no more."""
        self._shared.ledger.cancel(queue)
        self._supply.wake()

    def queues(self) -> list[dict[str, Any]]:
        """Describe the queues it takes from, with the keys of Celery's ``inspect active_queues``."""
        return [dict(one) for one in self._shared.ledger.queues() if one["name"] != CONTINUE_QUEUE]

    def running(self) -> list[Message]:
        """Return what runs now."""
        return [job.message for _, job in self._pool.running()]

    def active(self, *, safe: bool = False) -> list[dict[str, Any]]:
        """Describe what runs now, as Celery's ``inspect active``; `safe`: arguments as their sender shows them."""
        return questions.active(self._shared, self._pool, safe=safe)

    def reserved(self) -> list[dict[str, Any]]:
        """Describe what was taken and could start."""
        return questions.reserved(self._shared, self._supply)

    def scheduled(self) -> list[dict[str, Any]]:
        """Describe what waits for its time."""
        return questions.scheduled(self._shared, self._supply)

    def query(self, ids: Iterable[str]) -> Mapping[str, Any]:
        """Say where some ids are: ``{id: [state, description]}`` for those that are here."""
        return questions.query(self._shared, self._pool, self._supply, ids)

    def counts(self) -> tuple[int, int]:
        """Return how many tasks run, and how many have ended."""
        return len(self._pool.running()), self._shared.finished

    def stats(self) -> dict[str, Any]:
        """Return counts and the pool, with the keys of Celery's ``inspect stats``."""
        return questions.stats(self._shared, self._pool)
