"""What can be asked of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .control import Control

__all__ = ["Inspect"]


class Inspect:
    """Questions to workers; each returns ``{worker name: answer}``, or None when nobody answered.

    Parameters
    ----------
    control
        Of the app whose workers are asked.
    destination
        Names of workers, all by default; with one name alone, the answer alone is returned.
    timeout
        Seconds to wait; each answer renews the wait, and it is over when every worker known to the broker has answered.
    callback
        Called with ``{worker name: answer}`` for each answer as it comes.
    limit
        So many answers are enough.
    pattern, matcher
        Only workers whose names match; `matcher` is ``"glob"`` or ``"pcre"``.

    Attributes
    ----------
    missing
        Who was asked the latest question and did not answer, as far as that is known: by `destination`, or by the
        broker (Redis tells who listens; a worker that was killed is told of for an hour).
    """

    def __init__(
        self,
        control: Control,
        destination: Sequence[str] | str | None = None,
        timeout: float | None = 1.0,
        callback: Callable[[Mapping[str, Any]], Any] | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self._control = control
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher
        self.missing: tuple[str, ...] = ()

    def request(self, command: str, **arguments: Any) -> Any:
        """Ask any question by its name."""
        answers = self._control.ask(
            command,
            arguments,
            self.destination,
            timeout=self.timeout,
            limit=self.limit,
            pattern=self.pattern,
            matcher=self.matcher,
        )
        found = self._control.collect(answers, self.callback)
        self.missing = answers.missing
        by_worker = {name: reply for one in found for name, reply in one.items()}
        if isinstance(self.destination, str):
            return by_worker.get(self.destination)
        return by_worker or None

    _request = request

    def ping(self, destination: Sequence[str] | str | None = None) -> Any:
        """Ask who is there."""
        if destination:
            self.destination = destination
        return self.request("ping")

    def active(self, safe: bool | None = None) -> Any:
        """Ask which tasks run."""
        return self.request("active", safe=safe)

    def reserved(self, safe: bool | None = None) -> Any:
        """Ask which tasks wait and could start."""
        return self.request("reserved")

    def scheduled(self, safe: bool | None = None) -> Any:
        """Ask which tasks wait for their time."""
        return self.request("scheduled")

    def revoked(self) -> Any:
        """Ask which ids are revoked."""
        return self.request("revoked")

    def registered(self, *taskinfoitems: str) -> Any:
        """Ask which tasks are known, each with those of these attributes that are not None."""
        return self.request("registered", taskinfoitems=list(taskinfoitems))

    registered_tasks = registered

    def stats(self) -> Any:
        """Ask for counts, the pool, the broker."""
        return self.request("stats")

    def active_queues(self) -> Any:
        """Ask which queues are consumed."""
        return self.request("active_queues")

    def conf(self, with_defaults: bool = False) -> Any:
        """Ask for the settings."""
        return self.request("conf", with_defaults=with_defaults)

    def query_task(self, *ids: str | Iterable[str]) -> Any:
        """Ask what workers do with some ids: ``{id: [state, description]}`` for those that are there."""
        several = ids[0] if len(ids) == 1 and not isinstance(ids[0], str) else ids
        return self.request("query_task", ids=[str(one) for one in several])

    def report(self) -> Any:
        """Ask for what a report of a bug should say."""
        return self.request("report")

    def clock(self) -> Any:
        """Ask for the logical clocks."""
        return self.request("clock")

    def hello(self, from_node: str, revoked: Sequence[str] | None = None) -> Any:
        """Say hello, as a worker that starts does: ids that are revoked go both ways."""
        return self.request("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """Ask how much memory is used."""
        return self.request("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """Ask for the latest samples of memory."""
        return self.request("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """Ask for a picture of objects in memory."""
        return self.request("objgraph", num=n, max_depth=max_depth, type=type)
