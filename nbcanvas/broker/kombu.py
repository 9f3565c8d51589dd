"""The broker of any transport that kombu has, RabbitMQ above all: what a client, or a worker, publishes with.

On AMQP a message counts as sent when the server has confirmed it; many are confirmed at a time.  When the connection
ends, what was not confirmed is sent again over another one: a message may come twice, its id tells, and the second one
says in a header that there may be another one (which Celery's workers take no notice of).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import sleep
from typing import Any, Final, TypeVar

from nbcanvas.errors import ImproperlyConfigured, ServerLost
from nbcanvas.plan.model import Message
from nbcanvas.protocol.letter import AGAIN, Letter
from nbcanvas.servers.kombu import KombuServer, Link, Lost
from nbcanvas.servers.queues import Queues, QueueSpec

from .port import Writes

__all__ = ["KombuBroker"]

T = TypeVar("T")

#: Celery's ``task_publish_retry_policy``.
_POLICY: Final = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}


class KombuBroker:
    """Publishes over one connection, which is opened when it is needed; safe for any number of threads.

    Parameters
    ----------
    server
        The broker.
    post
        Makes letters of messages.
    queues
        The queues there are.
    retry, policy
        Celery's ``task_publish_retry`` and ``task_publish_retry_policy``.

    Attributes
    ----------
    prepare
        Called before messages are published: where results come as messages, their queue has to be there first.
    """

    def __init__(
        self,
        server: KombuServer,
        post: Writes,
        queues: Queues,
        *,
        retry: bool = True,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        self._server = server
        self._post = post
        self._queues = queues
        self._policy: dict[str, Any] = {**_POLICY, **(policy or {})} if retry else {"max_retries": 0}
        self._link: Link | None = None
        # Reentrant: a task may publish out of a finaliser or a signal handler that interrupts a publish.
        self._lock = threading.RLock()
        self._used: set[str] = {queues.default}
        self.prepare: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<KombuBroker {self._server.name}>"

    # -- publishing ---------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Send messages; returns when the server has them.

        Raises
        ------
        ServerLost
            When the server does not answer, after the retries of ``task_publish_retry_policy``.
        """
        write = self._post.write
        if self.prepare is not None:
            self.prepare()
        self.deliver([write(message) for message in messages])

    def deliver(self, letters: Sequence[Letter], queue: QueueSpec | None = None) -> None:
        """Send letters, see `publish`; to a queue that is not one of the settings, if `queue` says so."""
        left = letters
        spec_of = self._queues.__getitem__ if queue is None else (lambda _: queue)
        self._used.update(letter.queue for letter in letters if letter.queue)

        def send(link: Link) -> None:
            nonlocal left
            try:
                link.publish(left, spec_of)
            except Lost as lost:
                left = lost.unsent or left
                for letter in lost.unsure:
                    letter.headers[AGAIN] = True
                raise

        if left:
            self._over(send)

    # -- questions ----------------------------------------------------------------------------------------------------

    def purge(self, queues: Iterable[str] | None = None) -> int:
        """Drop every waiting message (of `queues`; by default of all that are known) and return how many there were."""
        names = self.known() if queues is None else list(queues)
        return self._over(lambda link: sum(link.purge(name) for name in names))

    def notice(self, queues: Iterable[str]) -> None:
        """Hear of queues that `depth` is to tell of, too."""
        self._used.update(queues)

    def depth(self) -> dict[str, int]:
        """Return how many messages wait in each of the queues that are known."""
        return {name: waiting for name, (waiting, _) in self.sizes().items()}

    def sizes(self) -> dict[str, tuple[int, int | None]]:
        """Return how many messages wait in each known queue, and how many consumers it has (None: nobody knows)."""
        names = self.known()

        def ask(link: Link) -> dict[str, tuple[int, int | None]]:
            found = {name: link.size(name) for name in names}
            return {name: size for name, size in found.items() if size is not None}

        return self._over(ask, retry=False)  # the policy is one of publishing: who asks hears at once

    def known(self) -> list[str]:
        """Return the names of the queues of the settings, and of those that were used."""
        return sorted({*self._queues, *self._used})

    def waiting(self) -> list[Message]:
        """Return nothing: such a broker does not show what it has."""
        return []

    def withdraw(self, matches: Callable[[Message], bool]) -> list[Message]:
        """Return nothing: such a broker gives nothing back; what is revoked is dropped by the worker that gets it."""
        return []

    def get(self, timeout: float | None = None) -> Message | None:
        """Refuse: from a server, workers take through a ledger."""
        msg = f"the worker inside this process takes nothing from {self._server.name}; start one with `nbcanvas worker`"
        raise ImproperlyConfigured(msg)

    def wake(self) -> None:
        """Do nothing: nobody waits here."""

    def close(self) -> None:
        """Let go of the connection; the next use opens another one."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    # -- the connection -----------------------------------------------------------------------------------------------

    def _over(self, work: Callable[[Link], T], *, retry: bool = True) -> T:
        """Do something over the link, again over a new one when it breaks, as often as the policy says."""
        policy = self._policy
        most = policy.get("max_retries") if retry else 0
        pause = float(policy.get("interval_start") or 0)
        tried = 0
        while True:
            fresh = False
            try:
                with self._lock:
                    link = self._link
                    if link is None or not link.usable:
                        if link is not None:
                            link.close()
                        self._link = None
                        fresh = True
                        link = self._link = self._server.link()
                    return work(link)
            except ServerLost:
                # A connection that was idle, and is dead, is no failed attempt.
                if fresh or tried:
                    if most is not None and tried >= most:
                        raise
                    sleep(pause)
                    pause = min(pause + float(policy.get("interval_step") or 0), float(policy.get("interval_max") or 0))
                tried += 1
