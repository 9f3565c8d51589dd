"""``nbcanvas dead``: messages that no worker could work on, kept where a person can look."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

import click

from nbcanvas.app import App
from nbcanvas.backend.port import Backend
from nbcanvas.backend.redis import RedisBackend
from nbcanvas.broker.names import Names
from nbcanvas.ledger.split import DEAD
from nbcanvas.protocol.letter import Letter
from nbcanvas.servers.kombu import Arrived
from nbcanvas.servers.redis import RedisServer, Script

from .common import Given, common_options
from .remote import remote_app
from .saying import as_json, below, table, told

__all__ = ["dead"]

#: So many are looked at.
_MOST: Final = 10_000
#: How long a queue is listened to before it counts as empty; as long as fewer have come than it said there are, longer.
_QUIET: Final = 0.5
_LONGEST: Final = 10.0


#: Moves a letter, once whoever does it.
_BACK: Final = Script(
    """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
for place = 3, #KEYS do redis.call('DEL', KEYS[place]) end
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
"""
)


class Dead(NamedTuple):
    """One dead letter.

    Attributes
    ----------
    id
        What it is called here.
    time, worker, queue, reason
        When, by whom, from where and why it was put aside.
    task, task_id
        What it seems to be about.
    body, headers
        The message, as far as it can be read.
    key
        How its store finds it again.
    """

    id: str
    time: float | None
    worker: str
    queue: str
    reason: str
    task: str
    task_id: str
    headers: Mapping[str, Any]
    body: str
    key: Any

    def row(self) -> tuple[str, ...]:
        """Return it as a line of a list."""
        when = "" if self.time is None else f"{datetime.fromtimestamp(self.time, UTC):%Y-%m-%d %H:%M:%S}"
        return (self.id, when, self.queue, self.task)

    def more(self) -> Iterator[str]:
        """Yield what is too long for that line."""
        if self.task_id:
            yield f"task id {self.task_id}"
        if self.reason:
            yield self.reason

    def facts(self) -> dict[str, Any]:
        """Return everything, as JSON has it."""
        found = self._asdict()
        del found["key"]
        return found


class Store(Protocol):
    """Where dead letters are."""

    def letters(self) -> Sequence[Dead]:
        """Return them, the latest first."""

    def requeue(self, letter: Dead) -> None:
        """Put one back where it came from."""

    def drop(self, letter: Dead) -> None:
        """Throw one away."""


# -- on Redis -------------------------------------------------------------------------------------------------------


class OnRedis:
    """The list ``nbcanvas:dead``, behind the prefix of the broker's keys.

    Parameters
    ----------
    server
        The server.
    names
        What our keys are called there.
    backend
        Where results are.
    """

    def __init__(self, server: RedisServer, names: Names, backend: Backend) -> None:
        self._server = server
        self._names = names
        self._backend = backend

    def letters(self) -> Sequence[Dead]:
        """Return them, the latest first."""
        return [self._read(entry) for entry in self._server.call("LRANGE", self._names.dead, 0, _MOST - 1)]

    def _read(self, entry: bytes) -> Dead:
        found: Any = None
        with suppress(ValueError):
            found = json.loads(entry)
        if not isinstance(found, Mapping):
            found = {"reason": "this entry of the list cannot be read itself"}
        raw = _raw_of(found)
        envelope: Any = None
        with suppress(ValueError):
            envelope = json.loads(raw)
        headers = envelope.get("headers") if isinstance(envelope, Mapping) else None
        return _dead(
            hashlib.sha1(entry, usedforsecurity=False).hexdigest()[:10],
            found.get("time"),
            found.get("worker"),
            found.get("queue"),
            found.get("reason"),
            headers if isinstance(headers, Mapping) else {},
            raw.decode("utf-8", "replace"),
            (entry, raw),
        )

    def requeue(self, letter: Dead) -> None:
        """Put one back where it came from."""
        entry, raw = letter.key
        if not letter.queue or not raw:
            msg = f"{letter.id} does not say which queue it came from: it cannot go back"
            raise click.ClickException(msg)
        keys = [self._names.dead, f"{self._names.prefix}{letter.queue}", *self._forgetting(letter.task_id)]
        if not self._server.run(_BACK, keys, (entry, raw)):
            msg = f"{letter.id} is not there any more: somebody else has dealt with it"
            raise click.ClickException(msg)

    def _forgetting(self, task_id: str) -> Sequence[str]:
        """Forget how a task has ended, or how that ends is not stored; returns the keys that go with the letter."""
        backend = self._backend
        if not task_id:
            return ()
        if isinstance(backend, RedisBackend) and backend.server.same_as(self._server):
            return (backend.keys.task + task_id, backend.keys.mark + task_id)
        backend.forget([task_id])
        return ()

    def drop(self, letter: Dead) -> None:
        """Throw one away."""
        self._server.call("LREM", self._names.dead, 1, letter.key[0])


def _raw_of(found: Mapping[str, Any]) -> bytes:
    if isinstance(found.get("raw"), str):
        return str(found["raw"]).encode()
    with suppress(ValueError, TypeError):
        return base64.b64decode(found.get("raw_base64") or "")
    return b""


# -- anywhere else --------------------------------------------------------------------------------------------------


class InQueue:
    """The queue ``nbcanvas.dead``; what is not dealt with stays in it.

    Parameters
    ----------
    app
        The app whose broker it is on.
    """

    def __init__(self, app: App) -> None:
        self._link = app.kombu.link()
        self._backend = app.backend

    def letters(self) -> Sequence[Dead]:
        """Return them; they are this connection's until it closes."""
        size = self._link.size(DEAD)
        if size is None:
            return []
        waiting = min(size[0], _MOST)
        arrived: list[Arrived] = []
        self._link.prefetch(_MOST)
        self._link.consume(DEAD, arrived.append, tag="nbcanvas-dead")
        until = monotonic() + _LONGEST
        while self._link.drain(_QUIET) or (len(arrived) < waiting and monotonic() < until):
            pass
        return [self._read(one) for one in reversed(arrived)]

    def _read(self, one: Arrived) -> Dead:
        headers = one.letter.headers
        known = hashlib.sha1(repr((headers, one.letter.body)).encode(), usedforsecurity=False).hexdigest()[:10]
        own = {name: value for name, value in headers.items() if not name.startswith("nbcanvas_")}
        return _dead(
            known,
            None,
            headers.get("nbcanvas_worker"),
            headers.get("nbcanvas_queue"),
            headers.get("nbcanvas_reason"),
            own,
            one.letter.body.decode("utf-8", "replace"),
            one,
        )

    def requeue(self, letter: Dead) -> None:
        """Put one back where it came from."""
        one: Arrived = letter.key
        if not letter.queue:
            msg = f"{letter.id} does not say which queue it came from: it cannot go back"
            raise click.ClickException(msg)
        old = one.letter
        again = Letter(
            letter.queue,
            dict(letter.headers),
            old.body,
            old.properties,
            old.priority,
            old.content_type,
            old.content_encoding,
        )
        if letter.task_id:  # how it ends now is not stored beside how it has ended
            self._backend.forget([letter.task_id])
        self._link.publish([again])
        self._link.ack(one.tag)

    def drop(self, letter: Dead) -> None:
        """Throw one away."""
        self._link.ack(letter.key.tag)

    def close(self) -> None:
        """Give back what was not dealt with."""
        self._link.close()


def _dead(
    known: str, time: Any, worker: Any, queue: Any, reason: Any, headers: Mapping[str, Any], body: str, key: Any
) -> Dead:
    def text(value: Any) -> str:
        return value if isinstance(value, str) else ""

    when = float(time) if isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time < 1e11 else None
    task, task_id = text(headers.get("task")), text(headers.get("id"))
    return Dead(known, when, text(worker), text(queue), text(reason), task, task_id, headers, body, key)


class Both:
    """Several stores: with a Redis broker, where letters are depends on the result backend.

    Parameters
    ----------
    stores
        Those.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self._where: dict[str, Store] = {}

    def letters(self) -> Sequence[Dead]:
        """Return them all."""
        found: list[Dead] = []
        for store in self._stores:
            letters = store.letters()
            self._where |= {one.id: store for one in letters}
            found += letters
        return found

    def requeue(self, letter: Dead) -> None:
        """Put one back where it came from."""
        self._where[letter.id].requeue(letter)

    def drop(self, letter: Dead) -> None:
        """Throw one away."""
        self._where[letter.id].drop(letter)


@contextmanager
def _store(given: Given) -> Iterator[Store]:
    app = remote_app(given)
    with told():
        in_queue = InQueue(app)
        try:
            yield Both(
                [in_queue] if app.redis is None else [OnRedis(app.redis, Names.of(app.conf), app.backend), in_queue]
            )
        finally:
            in_queue.close()


@click.group()
def dead() -> None:
    """Messages that no worker could work on: look at them, send them again, throw them away."""


@dead.command(name="list")
@click.option("-j", "--json", "json_", is_flag=True, help="Use json as output format.")
@common_options
def list_letters(given: Given, json_: bool) -> None:
    """List dead letters, the latest first."""
    with _store(given) as store:
        found = store.letters()
    if json_:
        click.echo(as_json([one.facts() for one in found]))
    else:
        click.echo(_listed(found))


def _listed(letters: Sequence[Dead]) -> str:
    heads, *rows = table([one.row() for one in letters], ("id", "time", "queue", "task")).splitlines()
    lines = [heads, *rows[:1]]
    for row, letter in zip(rows[1:], letters, strict=True):
        lines += [row, *map(below, letter.more())]
    return "\n".join(lines)


@dead.command()
@click.argument("id_", metavar="ID")
@common_options
def show(given: Given, id_: str) -> None:
    """Show one dead letter; ID is that of the list, or its task's."""
    with _store(given) as store:
        [found, *_] = _chosen(store, [id_], every=False)
    click.echo(json.dumps(found.facts(), indent=2, ensure_ascii=True, default=str))


@dead.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All of them.")
@common_options
def requeue(given: Given, ids: tuple[str, ...], every: bool) -> None:
    """Put dead letters back into the queues they came from."""
    with _store(given) as store:
        found = _chosen(store, ids, every=every)
        for one in found:
            store.requeue(one)
    click.echo(f"{len(found)} sent again.")


@dead.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All of them.")
@common_options
def drop(given: Given, ids: tuple[str, ...], every: bool) -> None:
    """Throw dead letters away."""
    with _store(given) as store:
        found = _chosen(store, ids, every=every)
        for one in found:
            store.drop(one)
    click.echo(f"{len(found)} thrown away.")


def _chosen(store: Store, ids: Iterable[str], *, every: bool) -> Sequence[Dead]:
    wanted = list(ids)
    if not wanted and not every:
        msg = "which? Give ids (see `dead list`), or --all"
        raise click.UsageError(msg)
    letters = store.letters()
    if every:
        return letters
    found = [one for one in letters if one.id in wanted or one.task_id in wanted]
    missing = [one for one in wanted if not any(one in {letter.id, letter.task_id} for letter in found)]
    if missing:
        msg = f"there is no dead letter {', '.join(missing)}; `dead list` shows them all"
        raise click.ClickException(msg)
    return found
