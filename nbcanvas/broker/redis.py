"""Queues on Redis: kombu's lists and envelopes, many messages in one command (PROTOCOL: "Broker envelope")."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import getpid, urandom
from time import monotonic
from typing import Any, Final, Protocol

from nbcanvas.errors import InvalidTaskError, ServerLost
from nbcanvas.plan.model import Message
from nbcanvas.protocol.letter import Letter
from nbcanvas.servers.queues import QueueSpec
from nbcanvas.servers.redis import RedisServer, Script

from .envelope import open_, seal
from .names import Names
from .post import Post
from .stencil import Stencil

__all__ = ["PRIORITY_STEPS", "SEPARATOR", "Lists", "RedisBroker", "Witness"]

#: kombu's: between a queue's name and the step of a priority, and inside of bindings.
SEPARATOR: Final = "\x06\x16"
PRIORITY_STEPS: Final = (0, 3, 6, 9)

#: Envelopes, and bytes of them, that are sent at once.
_AT_ONCE: Final = 500
_BYTES: Final = 1_000_000
#: So many messages that are alike are worth a stencil.
_ALIKE: Final = 8
#: Seconds that the bindings of an exchange are believed.
_BINDINGS_FOR: Final = 5.0
#: Messages that are shown to who asks what waits, of each list.
_SHOWN: Final = 1000

#: Lists, the envelope that is pushed to each, the queue they are of, and the task's id.
_Sealed = tuple[Sequence[str], bytes, str, str]

# A batch that was sent is not sent again when its reply was lost: its number is the sender's last one.  It answers with
# the token beside the data it was sent to, whose key is the last one, if anybody wants to know; who finds none puts one
# there that nobody else has put, nor the same batch before.
_PUSH: Final = Script(
    """
local last, epoch = #KEYS, false
if ARGV[2] == '1' then
  epoch = redis.call('GET', KEYS[last])
  if not epoch then
    local now = redis.call('TIME')
    epoch = KEYS[1] .. ':' .. ARGV[1] .. ':' .. now[1] .. '.' .. now[2]
    redis.call('SET', KEYS[last], epoch)
  end
  last = last - 1
end
local sent = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
local number = tonumber(ARGV[1])
if number <= sent then return epoch end
redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
local at = 3
for place = 2, last do
  local count = tonumber(ARGV[at])
  redis.call('LPUSH', KEYS[place], unpack(ARGV, at + 1, at + count))
  at = at + 1 + count
end
return epoch
"""
)


class Witness(Protocol):
    """Who wants to know which data of the server messages were sent to: it may lose them."""

    @property
    def epoch_key(self) -> str:
        """Where the token is that is lost with the data."""

    def sent(self, task_ids: Sequence[str], epoch: bytes) -> None:
        """Hear that the messages of tasks were put beside this token."""


class Lists:
    """Which list on Redis a letter goes to.

    Parameters
    ----------
    server
        The server.
    prefix
        ``global_keyprefix`` of ``broker_transport_options``.
    steps, separator
        ``priority_steps`` and ``sep`` of the same.
    """

    def __init__(
        self,
        server: RedisServer,
        prefix: str = "",
        steps: Sequence[int] = PRIORITY_STEPS,
        separator: str = SEPARATOR,
    ) -> None:
        self._server = server
        self.prefix = prefix
        self.steps = tuple(sorted(steps)) or (0,)
        self._separator = separator
        self._suffixes = [
            "" if step == 0 else f"{separator}{step}" for step in (self._step(priority) for priority in range(10))
        ]
        self._bound: dict[str, tuple[float, list[tuple[str, str, str]]]] = {}

    def _step(self, priority: int) -> int:
        return max((step for step in self.steps if step <= priority), default=self.steps[0])

    def keys(self, queue: str) -> list[str]:
        """Return the lists of a queue, the most urgent first."""
        return [self.prefix + queue + (f"{self._separator}{step}" if step else "") for step in self.steps]

    def key(self, queue: str, priority: int = 0) -> str:
        """Return the list of a queue for a priority."""
        suffix = self._suffixes[priority] if 0 <= priority <= 9 else self._suffixes[0 if priority < 0 else 9]
        return self.prefix + queue + suffix

    def of(self, letter: Letter) -> list[str]:
        """Return the lists a letter goes to: its queue's, or those of the queues that are bound to its exchange."""
        if not letter.exchange:
            return [self.key(letter.routing_key or letter.queue, letter.priority)]
        found = {
            queue
            for key, pattern, queue in self._bindings(letter.exchange)
            if key == letter.routing_key or (pattern and re.match(pattern, letter.routing_key))
        }
        # Nobody has bound a queue yet: it waits for who will consume it.
        return [self.key(queue, letter.priority) for queue in sorted(found) or (letter.queue,)]

    def _bindings(self, exchange: str) -> list[tuple[str, str, str]]:
        until, bound = self._bound.get(exchange, (0.0, []))
        if until < monotonic():
            members = self._server.ask("SMEMBERS", f"{self.prefix}_kombu.binding.{exchange}")
            parts = (member.decode("utf-8", "replace").split(self._separator) for member in members)
            bound = [(one[0], one[1], one[2]) for one in parts if len(one) == 3]
            self._bound[exchange] = monotonic() + _BINDINGS_FOR, bound
        return bound

    def bindings(self, spec: QueueSpec) -> list[tuple[str, str]]:
        """Return exchanges that a queue is bound to, and what stands in their tables, as kombu writes it."""
        bound = [(spec.exchange, spec.exchange_type, spec.routing_key)]
        bound += [
            (str(one["exchange"]), one.get("type", "direct"), one.get("routing_key", "")) for one in spec.bindings
        ]
        return [
            (exchange, self._separator.join((key, _pattern(key) if kind == "topic" else "", spec.name)))
            for exchange, kind, key in bound
            if exchange
        ]

    def sealed(self, letters: Iterable[Letter]) -> list[tuple[str, bytes]]:
        """Return letters as lists and envelopes."""
        return [
            (key, raw)
            for letter, tag in zip(letters, _tags(), strict=False)
            for raw in (seal(letter, tag),)
            for key in self.of(letter)
        ]


def _pattern(key: str) -> str:
    """Return the pattern of a topic's key, as kombu writes it."""
    words = {"*": r"[^\.]+", "#": ".*?"}
    return "^" + r"\.".join(words.get(word, re.escape(word)) for word in key.split(".")) + "$"


def _tags() -> Iterator[str]:
    """Yield delivery tags: they only have to differ; these look like kombu's."""
    head = urandom(10).hex()
    head = f"{head[:8]}-{head[8:12]}-4{head[12:15]}-a{head[15:18]}-"
    return (f"{head}{number:012x}" for number in itertools.count())


def _raise(error: Exception) -> None:
    raise error


class _Sender:
    """Numbers batches; the server knows the last number it has got from each sender."""

    def __init__(self, prefix: str) -> None:
        self.key = Names(prefix).sent(urandom(8).hex())
        self.number = 0
        self.tags = _tags()


class RedisBroker:
    """The client's side of queues on Redis.

    Parameters
    ----------
    server
        The server.
    post
        Writes messages as letters, and reads them.
    lists
        Which list a letter goes to.
    queues
        Returns the names of the queues that `depth`, `purge` and `waiting` mean when none are named.
    retry
        Celery's ``task_publish_retry_policy``; empty for no retries.
    workers
        The key under which our workers say that they live.
    witness
        Returns who wants to know which data messages were sent to, or None.
    """

    def __init__(
        self,
        server: RedisServer,
        post: Post,
        lists: Lists | None = None,
        *,
        queues: Callable[[], Iterable[str]] = lambda: ("celery",),
        retry: Mapping[str, Any] | None = None,
        workers: str = Names().workers,
        witness: Callable[[], Witness | None] = lambda: None,
    ) -> None:
        self.server = server
        self._post = post
        self.lists = lists or Lists(server)
        self._queues = queues
        self._retry = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}
        if retry is not None:
            self._retry = {**self._retry, **retry} if retry else {**self._retry, "max_retries": 0}
        self._workers = workers
        self._witness = witness
        self._noticed: set[str] = set()
        self._senders: list[_Sender] = []
        self._pid = getpid()
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<RedisBroker {self.server.name}>"

    def publish(self, messages: Sequence[Message]) -> None:
        """Send messages, in order; none is sent twice, also when a reply is lost and the try repeated.

        Raises
        ------
        ServerLost
            When the server is away for longer than ``task_publish_retry_policy`` is patient.
        """
        self._send(partial(self._written, messages), self._witness())

    def notice(self, queues: Iterable[str]) -> None:
        """Hear of queues that `depth` and `waiting` are to tell of, too."""
        self._noticed.update(queues)

    def post(self, letters: Iterable[Letter]) -> None:
        """Send letters, in order; while the server takes some, the next ones are written."""
        self._send(
            lambda tags: (
                (self.lists.of(letter), seal(letter, tag), letter.queue, "")
                for letter, tag in zip(letters, tags, strict=False)
            )
        )

    def _written(self, messages: Sequence[Message], tags: Iterator[str]) -> Iterator[_Sealed]:
        """Yield messages as they are sent; many that are alike by one stencil."""
        for common, alike in itertools.groupby(messages, self._post.in_common):
            stencil: Stencil | None = None
            while some := list(itertools.islice(alike, _AT_ONCE)):
                if stencil is None and common is not None and len(some) >= _ALIKE:
                    stencil = Stencil(self._post, some[0])
                    keys, queue = self.lists.of(stencil.letter), stencil.letter.queue
                for message, tag in zip(some, tags, strict=False):
                    if stencil is None:
                        letter = self._post.write(message)
                        yield self.lists.of(letter), seal(letter, tag), letter.queue, message.call.id
                    else:
                        yield keys, stencil.envelope(message, tag), queue, message.call.id

    def _send(self, sealed: Callable[[Iterator[str]], Iterable[_Sealed]], witness: Witness | None = None) -> None:
        """Send what `sealed` makes with delivery tags."""
        if self._pid != getpid():  # a child: the senders are the parent's
            self._senders, self._pid = [], getpid()
        try:
            sender = self._senders.pop()
        except IndexError:
            sender = _Sender(self.lists.prefix)
        finish: Callable[[], None] | None = None
        for batch, task_ids in self._batches(sealed(sender.tags)):
            if finish is not None:
                finish()
            finish = self._push(sender, batch, task_ids, witness)
        if finish is not None:
            finish()
        self._senders.append(sender)  # one that came to no end is used no more

    def _batches(self, envelopes: Iterable[_Sealed]) -> Iterator[tuple[Mapping[str, Sequence[bytes]], Sequence[str]]]:
        """Yield lists, and the envelopes to push to each of them, as many as are sent at once; and the tasks' ids."""
        batch: dict[str, list[bytes]] = {}
        task_ids: list[str] = []
        size = 0
        for keys, raw, queue, task_id in envelopes:
            for key in keys:
                batch.setdefault(key, []).append(raw)
            task_ids.append(task_id)
            size += len(raw)
            self._noticed.add(queue)
            if len(task_ids) >= _AT_ONCE or size >= _BYTES:
                yield batch, task_ids
                batch, task_ids, size = {}, [], 0
        if batch:
            yield batch, task_ids

    def _push(
        self,
        sender: _Sender,
        batch: Mapping[str, Sequence[bytes]],
        task_ids: Sequence[str],
        witness: Witness | None,
    ) -> Callable[[], None]:
        """Begin to send a batch; returns what waits until it is sent, and sends it again when that fails."""
        sender.number += 1
        keys = (sender.key, *batch, *((witness.epoch_key,) if witness is not None else ()))
        args: list[Any] = [sender.number, int(witness is not None)]
        for raws in batch.values():
            args += (len(raws), *raws)
        attempt = self._attempt(keys, args)

        def finish() -> None:
            trying = attempt
            tries, pause = self._retry["max_retries"], self._retry["interval_start"]
            while True:
                try:
                    epoch = trying()
                except ServerLost:
                    if tries is not None and tries <= 0:
                        raise
                    tries = None if tries is None else tries - 1
                else:
                    if witness is not None:
                        witness.sent(task_ids, epoch)
                    return
                if self._closed.wait(min(pause, self._retry["interval_max"])):
                    raise ServerLost(f"{self.server.name} was lost, and then let go of")
                pause += self._retry["interval_step"]
                trying = self._attempt(keys, args)

        return finish

    def _attempt(self, keys: Sequence[str], args: Sequence[Any]) -> Callable[[], Any]:
        try:
            return self.server.begin(_PUSH, keys, args)
        except ServerLost as error:
            return partial(_raise, error)

    def get(self, timeout: float | None = None) -> Message | None:
        """Do nothing but wait: messages on a server are taken by workers, through a ledger."""
        self._closed.wait(timeout)
        return None

    def withdraw(self, matches: Callable[[Message], bool]) -> list[Message]:
        """Take nothing back: workers are told to drop what was revoked."""
        return []

    def purge(self, queues: Iterable[str] | None = None) -> int:
        """Drop every waiting message (of `queues`) and return how many there were."""
        keys = [key for queue in (self._names() if queues is None else queues) for key in self.lists.keys(queue)]
        if not keys:
            return 0
        commands = [("MULTI",), *(("LLEN", key) for key in keys), ("DEL", *keys), ("EXEC",)]
        *lengths, _ = self.server.pipeline(commands)[-1]
        return int(sum(lengths))

    def depth(self) -> dict[str, int]:
        """Return how many messages wait in each queue; those that a worker has taken are not among them."""
        names = sorted({*self._names(), *self._noticed})
        keys = [(name, key) for name in names for key in self.lists.keys(name)]
        depths = dict.fromkeys(names, 0)
        for (name, _), length in zip(keys, self.server.pipeline([("LLEN", key) for _, key in keys]), strict=True):
            depths[name] += length
        return depths

    def waiting(self) -> list[Message]:
        """Return what waits, the next one first; of each list the next thousand, and what can be understood."""
        names = sorted({*self._names(), *self._noticed})
        keys = [(name, key) for name in names for key in self.lists.keys(name)]
        found: list[Message] = []
        replies = self.server.pipeline([("LRANGE", key, -_SHOWN, -1) for _, key in keys])
        for (name, _), raws in zip(keys, replies, strict=True):
            for raw in reversed(raws):
                try:
                    found.append(self._post.read(open_(raw, name)))
                except InvalidTaskError:
                    continue  # a worker will say what is wrong with it
        return found

    def consumers(self) -> dict[str, list[str]]:
        """Return for each queue the workers of ours that consume it."""
        found: dict[str, list[str]] = {}
        alive = self.server.run(_ALIVE, (self._workers,), (_SILENT,))
        for worker, queues in zip(alive[::2], alive[1::2], strict=True):
            for queue in queues.decode().split("\n"):
                found.setdefault(queue, []).append(worker.decode().rpartition(":")[0])
        return found

    def _names(self) -> list[str]:
        return list(dict.fromkeys(self._queues()))

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Let every `get` return None."""
        self._closed.set()


#: Seconds without a beat after which a worker counts as none.
_SILENT: Final = 5

_ALIVE: Final = Script(
    """
local now = redis.call('TIME')
local found = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now[1] - ARGV[1], '+inf')) do
  local queues = redis.call('HGET', KEYS[1] .. ':' .. worker, 'queues')
  if queues then
    found[#found + 1] = worker
    found[#found + 1] = queues
  end
end
return found
"""
)
