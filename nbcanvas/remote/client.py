"""The client's side of remote control: commands to every worker of a broker, and their answers as they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from time import monotonic, time
from typing import Any, Final
from uuid import uuid4

from nbcanvas.errors import ServerLost
from nbcanvas.servers.wire import Server, Wire

from .clock import Clock
from .mailbox import Mailbox
from .question import Answer, Answers, Question

__all__ = ["Remote"]

#: How much longer than asked a stream of answers, each of which renews the wait, may go on altogether.
_PATIENCE: Final = 10
#: When everybody known has answered, how long is waited for a worker that has another one's name.
_GRACE: Final = 0.05
#: More answers to one question are not kept.
_MOST: Final = 100_000
#: One read of the broker lasts no longer, so that a wait can be interrupted.
_TICK: Final = 0.25


class Remote:
    """Tells and asks workers.

    Parameters
    ----------
    server
        The broker.
    mailbox
        The settings of remote control.
    clock
        The app's.
    accept, serializer
        How messages are written, and which are read.
    """

    def __init__(
        self,
        server: Server,
        mailbox: Mailbox,
        clock: Clock,
        *,
        accept: Collection[str] = ("json",),
        serializer: str = "json",
    ) -> None:
        self.mailbox = mailbox
        self.clock = clock
        self._wire: Callable[[], Wire] = lambda: Wire(server, accept=accept, serializer=serializer)
        self._idle: Wire | None = None
        self._lock = threading.Lock()

    def tell(self, question: Question, *, timeout: float | None = 1.0) -> None:
        """Send a command that nobody answers; workers that read it later than `timeout` may ignore it."""
        headers = self._headers(timeout)
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is not None:
            try:
                idle.publish(question.body(), self.mailbox.topic, "", headers, delivery_mode=2)
            except ServerLost:  # while it was idle; the next attempt says whether the broker is there
                idle.close()
            else:
                self._keep(idle)
                return
        wire = self._wire()
        try:
            wire.publish(question.body(), self.mailbox.topic, "", headers, delivery_mode=2)
        except BaseException:
            wire.close()
            raise
        self._keep(wire)

    def _keep(self, wire: Wire) -> None:
        """Keep one connection for the next command."""
        with self._lock:
            spare, self._idle = self._idle, wire
        if spare is not None:
            spare.close()

    def ask(self, question: Question, *, timeout: float = 1.0, limit: int | None = None) -> Answers:
        """Send a command, and return the answers as they come.

        Parameters
        ----------
        question
            What is asked.
        timeout
            Seconds to wait for an answer; each one renews the wait.
        limit
            So many answers are enough; as many as there are destinations by default.

        Returns
        -------
        Answers
            It ends early when every worker known to the broker has answered.
        """
        expected = set(question.destination or ())
        if limit is None and question.destination:
            limit = len(expected)
        return Answers(self._asked(question, timeout, limit, expected), expected)

    def _asked(self, question: Question, timeout: float, limit: int | None, expected: set[str]) -> Iterator[Answer]:
        client, ticket = str(uuid4()), str(uuid4())
        heard: deque[Any] = deque(maxlen=_MOST)

        def hear(body: Any, headers: Mapping[str, Any]) -> None:
            self.clock.adjust(headers.get("clock"))
            if headers.get("ticket", ticket) == ticket:
                heard.append(body)

        wire = self._wire()
        try:
            wire.listen(self.mailbox.answer_inbox(client), hear)
            known = bool(expected) or self._expect(wire, question, expected)
            asks = {"ticket": ticket, "reply_to": {"exchange": self.mailbox.answers.name, "routing_key": client}}
            body = question.body() | asks
            wire.publish(body, self.mailbox.topic, "", self._headers(timeout), delivery_mode=2)
            now = monotonic()
            until, last = now + timeout, now + timeout * _PATIENCE
            count = 0
            while (now := monotonic()) < min(until, last) and (limit is None or count < limit):
                wire.drain(max(min(until, last) - now, 0.001) if until - now < _TICK else _TICK)
                while heard:
                    for answer in _read(heard.popleft()):
                        count += 1
                        expected.discard(answer.worker)
                        until = monotonic() + timeout
                        yield answer
                if known and not expected:
                    until = min(until, monotonic() + _GRACE)
        finally:
            wire.close()

    def _expect(self, wire: Wire, question: Question, expected: set[str]) -> bool:
        """Find out who hears a command, where the broker tells."""
        names = self._bound(wire) or set()
        expected.update(name for name in names if question.means(name))
        return bool(expected)

    def _bound(self, wire: Wire) -> set[str] | None:
        queues = wire.bound(self.mailbox.topic)
        return None if queues is None else {name for name in map(self.mailbox.worker_of, queues) if name}

    def workers(self) -> set[str] | None:
        """Return the names of workers that hear commands; None where the broker does not tell."""
        with self._wire() as wire:
            return self._bound(wire)

    def _headers(self, timeout: float | None) -> dict[str, Any]:
        return {"clock": self.clock.forward(), "expires": time() + timeout if timeout else 0}

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is not None:
            with suppress(ServerLost):
                idle.close()


def _read(body: Any) -> Iterator[Answer]:
    """Read an answer; what is none says nothing."""
    if isinstance(body, Mapping):
        for worker, reply in body.items():
            if isinstance(worker, str):
                yield Answer(worker, reply)
