"""Why tasks on a cluster have not succeeded: what its queues hold, and what its workers say of themselves.

Pure, as `nbcanvas.run.reasons` is: the difference is that there are several workers, each of which consumes its own
queues, knows its own tasks, and takes more than it can run at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from nbcanvas import states
from nbcanvas.events.state import State
from nbcanvas.picture.markup import cut, error_text, names, number
from nbcanvas.plan import Call
from nbcanvas.plan.times import expiry_time

from .reasons import Because, Busy, Host, Queued, Scene, Teller

__all__ = ["TellerOfClusters"]

#: So many workers, queues or tasks are named in one sentence.
_NAMED: Final = 3
_START: Final = "start one with `nbcanvas worker`"


class TellerOfClusters(Teller):
    """Tells of a run whose workers are elsewhere; parameters are those of `reasons`."""

    def __init__(self, state: State, scene: Scene, now: float, clocks: bool) -> None:
        super().__init__(state, scene, now, clocks)
        self.hosts: Mapping[str, Host] = scene.hosts or {}
        self.active = {one.task_id: name for name, host in self.hosts.items() for one in host.active}
        self.reserved = {task_id: name for name, host in self.hosts.items() for task_id in host.reserved}
        self.scheduled = {
            task_id: (name, eta) for name, host in self.hosts.items() for task_id, eta in host.scheduled.items()
        }

    def _why(self, row: int, call: Call, now: str) -> Because:
        # Celery's workers do not say that they sent the next step: one sees it in a queue, or at a worker.
        if now in (states.WAITING, states.PENDING):
            message, place = self.queued.get(call.id, (None, 0))
            found = self._at_a_worker(row, call, "")
            if found is None and message is not None:
                found = self._in_a_queue(call, message, place)
            if found is not None:
                return found
        return super()._why(row, call, now)

    # -- it runs ----------------------------------------------------------------------------------------------------

    def _running(self, row: int, call: Call) -> Because:
        told = self.state.worker(row) or ""
        host = told if told in self.hosts or told in self.scene.silent else told.rpartition("/")[0] or told
        name = self._name(host) if host else "the worker"
        if self.scene.unreachable or call.id in self.active or not host:
            return self._at_work(row, call)
        waits = self._at_a_worker(row, call, "")  # it was given back, or is held there
        if waits is not None:
            return waits
        if host in self.scene.silent:
            return Because("worker lost", f"{name} runs it, and does not answer")
        if host not in self.hosts:
            return Because("worker lost", f"{name} that ran it is gone")
        return Because("starting", f"{name} ran it: its result is about to come")

    def _at_work(self, row: int, call: Call) -> Because:
        """Return what `Teller` says of a task that runs."""
        self.running = frozenset((*self.running, call.id))
        return super()._running(row, call)

    # -- it was sent ------------------------------------------------------------------------------------------------

    def _sent(self, row: int, call: Call, now: str) -> Because:
        message, place = self.queued.get(call.id, (None, 0))
        retry = self._retry(row) if now == states.RETRY else ""
        found = (
            self._unreachable()
            or self._at_a_worker(row, call, retry)
            or (self._in_a_queue(call, message, place) if message is not None else self._nowhere(row, call))
        )
        if call.id not in self.active and self._expired(row, call):
            return Because("expired", f"it has expired: who takes it now drops it; {found.words}")
        return (
            found._replace(words=f"{found.words}; it waits for its {retry}")
            if retry and found.kind != "retry"
            else found
        )

    def _expired(self, row: int, call: Call) -> bool:
        sent = self.state.sent(row)
        until = expiry_time(call.options, sent) if sent is not None else None
        return until is not None and until < self.now

    def _retry(self, row: int) -> str:
        error = self.state.error(row)
        after = f" after {error_text(error, 100)}" if error is not None else ""
        return f"retry {self.state.retries(row)}{after}"

    def _unreachable(self) -> Because | None:
        why = self.scene.unreachable
        return Because("no broker", f"what becomes of it is not known: {cut(why, 200)}") if why else None

    def _at_a_worker(self, row: int, call: Call, retry: str) -> Because | None:
        """Return why a task that a worker has taken has not started."""
        if call.id in self.active:
            return self._at_work(row, call)
        if call.id in self.scheduled:
            return self._scheduled(row, call, retry)
        name = self.reserved.get(call.id, "")
        if not name:
            return None
        host, full = self.hosts[name], self._full([name])
        limit = host.limits.get(call.task)
        if limit is not None and not full:
            return Because("rate limit", self._limited(limit, name))
        waits = tuple(self._name_of(one.task_id) for one in host.active)
        why = f", and {full}" if full else " and is about to start it"
        return Because("prefetched", f"{self._name(name)} has taken it{why}", waits)

    def _scheduled(self, row: int, call: Call, retry: str) -> Because:
        name, eta = self.scheduled[call.id]
        due = self.state.due(row)
        until = eta if eta is not None else due
        if retry:
            return Because("retry", f"it waits for its {retry}", until=until, tail=f" at {self._name(name)}")
        limit = self.hosts[name].limits.get(call.task)
        if limit is not None and not {"countdown", "eta"} & call.options.keys():
            return Because("rate limit", self._limited(limit, name), until=until)
        return Because("eta", f"it waits for its time at {self._name(name)}", until=until)

    def _limited(self, limit: str, worker: str) -> str:
        return f"its rate limit of {cut(limit, 40)} holds it back at {self._name(worker)}"

    def _in_a_queue(self, call: Call, message: Queued, place: int) -> Because:
        queue = message.queue
        blocked = self._blocked_there(call, queue)
        if blocked is not None:
            return blocked
        if message.due is not None and message.due > self.now:
            return Because("eta", f"it waits for its time in queue {cut(queue, 60)!r}", until=message.due)
        consumers = self._consumers(queue)
        full = self._full(consumers)
        behind = f" behind {number(self.others)} of other runs" if self.others else ""
        words = f"queued in {cut(queue, 60)!r}{behind}"
        lacking = [
            name for name in consumers if (tasks := self.hosts[name].tasks) is not None and call.task not in tasks
        ]
        if lacking:
            words += f" ({self._names(lacking)} would fail it: not known there)"
        if not full:
            return Because("starting", f"{words}: {self._names(consumers)} has a slot free" if consumers else words)
        waits = tuple(self._name_of(one.task_id) for name in consumers for one in self.hosts[name].active)
        return Because("queued", f"{words}: {full}", waits, place=place)

    def _nowhere(self, row: int, call: Call) -> Because:
        """Return why a task is in no queue that was looked at, and at no worker that answered."""
        queue = self.scene.routes.get(call.id, "")
        blocked = self._blocked_there(call, queue) if queue else self._no_worker()
        if blocked is not None:
            return blocked
        due = self.state.due(row)
        if due is not None and due > self.now:
            return self._later(call, self.state.state(row), due, "")
        limited = {name: limit for name in self._consumers(queue) if (limit := self.hosts[name].limits.get(call.task))}
        if limited:  # Celery's workers do not tell of what they hold back
            name, limit = next(iter(limited.items()))
            return Because("rate limit", self._limited(limit, name))
        waiting = self.scene.hidden.get(queue, 0)
        if waiting:
            has = "1 message waits" if waiting == 1 else f"{number(waiting)} messages wait"
            words = f"{has} in {cut(queue, 60)!r}, and it is probably {'that' if waiting == 1 else 'one of them'}"
            full = self._full(self._consumers(queue))
            return Because("queued", f"{words}: {full}" if full else words)
        if self.scene.silent:
            who = self._names(self.scene.silent)
            does = "does" if len(self.scene.silent) == 1 else "do"
            return Because("starting", f"it was sent, and {who} {does} not answer and may have it")
        kept = {name: host.results for name, host in self.hosts.items() if host.results}
        text = "it is in no queue and at no worker: it was purged, or has ended and its result did not come here"
        if kept:
            told = "; ".join(
                f"{self._name(name)} keeps results in {cut(where, 80)}" for name, where in list(kept.items())[:_NAMED]
            )
            text += f". This looks in {cut(self.scene.results, 80)}; {told}"
        return Because("no result", text)

    def _no_worker(self) -> Because | None:
        if self.hosts:
            return None
        silent = f" ({self._names(self.scene.silent)} did before)" if self.scene.silent else ""
        return Because("no worker", f"no worker answers{silent}: {_START}")

    def _blocked_there(self, call: Call, queue: str) -> Because | None:
        """Return why nobody would run it even if it were its turn."""
        nobody = self._no_worker()
        if nobody is not None:
            return nobody
        consumers = self._consumers(queue)
        if not consumers:
            told = sorted({one for host in self.hosts.values() for one in host.queues or ()})
            takes = f"consumed are {_few([repr(cut(one, 40)) for one in told])}" if told else "no queue is consumed"
            return Because("no consumer", f"nobody consumes queue {cut(queue, 60)!r}: {takes}")
        known = [self.hosts[name].tasks for name in consumers]
        if all(tasks is not None and call.task not in tasks for tasks in known):
            does = "does" if len(consumers) == 1 else "do"
            return Because("unknown task", f"{self._names(consumers)} {does} not know {cut(call.task, 80)}")
        return None

    def _consumers(self, queue: str) -> list[str]:
        return [name for name, host in self.hosts.items() if host.queues is None or queue in host.queues]

    # -- words ------------------------------------------------------------------------------------------------------

    def _full(self, consumers: Sequence[str]) -> str:
        """Return what keeps every slot of some workers busy, in words; an empty text when one is free."""
        hosts = [self.hosts[name] for name in consumers]
        busy: list[Busy] = [one for host in hosts for one in host.active]
        slots = sum(host.slots or 0 for host in hosts)
        if not hosts or len(busy) < slots or any(host.slots is None for host in hosts):
            return ""
        counts = Counter(one.name for one in busy)
        short = names(set(counts))
        what = [
            cut(short[name], 60) + (f" ×{count}" if count > 1 else "") for name, count in counts.most_common(_NAMED)
        ]
        whose = f" of {self._names(consumers)}" if self.clocks else ""
        all_ = "all slots" if not self.clocks else "the only slot" if slots == 1 else f"all {slots} slots"
        verb = "is" if slots == 1 and self.clocks else "are"
        return f"{all_}{whose} {verb} busy with {', '.join(what) or 'something'}"

    def _name(self, worker: str) -> str:
        """Return a worker's name, where names may be told."""
        return f"worker {cut(worker, 80)}" if self.clocks else "a worker"

    def _names(self, workers: Sequence[str]) -> str:
        if not self.clocks:
            return "a worker" if len(workers) == 1 else "workers"
        return ("worker " if len(workers) == 1 else "workers ") + _few([cut(one, 60) for one in sorted(workers)])


def _few(texts: Sequence[str]) -> str:
    rest = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
