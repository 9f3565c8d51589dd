"""The thread that listens: to what our workers tell this client, and to what becomes of tasks on Celery's.

Our workers tell a client in batches on its one channel, so a hundred thousand tasks need one subscription.  Celery's
publish each result on a channel of its own; they are subscribed to, up to a number, beyond which one pattern is.
Whether there is somebody besides ours is known when the workers were asked, else it is found out by looking: while
our workers are there nothing but the client's channel is subscribed to, until a look finds the end of a task that
nobody told of.

Looks ask for documents that are there; those of tasks that have not ended cost the server a lookup, and nobody else
anything.  They are rare while news come, and follow each other more slowly the longer they find nothing.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, suppress
from math import inf
from time import monotonic, sleep
from typing import Final

from nbcanvas.errors import ServerLost
from nbcanvas.servers.ready import ready
from nbcanvas.servers.redis import Link, RedisServer, Refused

__all__ = ["Listener"]

log = logging.getLogger("nbcanvas.backend")

#: Ids of one look's question.
_CHUNK: Final = 1000
#: Channels that are subscribed to one by one.
_SINGLE: Final = 1000
#: Seconds until the first look at tasks that are watched from now on, and between later ones.
_FIRST: Final = 0.02
_SECOND: Final = 0.25
_AT_MOST: Final = 5.0
#: Seconds between two checks whether the server still has its data.
_CHECK: Final = 1.0
#: At most, when everything is subscribed to.
_RARE: Final = 30.0
#: So many times as long as a look took is rested after it.
_SHARE: Final = 20.0
#: Seconds between two questions whether workers of ours live, and how long a proof of others counts.
_ASK: Final = 1.0
_PROVEN: Final = 60.0
#: Seconds between two tries to connect.
_AGAIN: Final = 0.2
#: Seconds between two readings, at most: while thousands of tasks are waited for, who works needs the processor.
_BREATH: Final = 0.02
#: Seconds at most by which a first look is put off while many tasks are being sent.
_PUT_OFF: Final = 1.0
#: Seconds of rest for each of many tasks: before the first look at them, and between readings.
_EACH: Final = 1e-5
#: Seconds with nothing to watch, after which the thread ends.
_IDLE: Final = 30.0
#: Seconds somebody who watches waits for the subscription.
_PATIENCE: Final = 5.0


class Listener:
    """Listens while there is somebody who watches.

    Parameters
    ----------
    server
        The server.
    news
        The channel of this client.
    prefix
        What task ids are put behind in the names of channels.
    ours
        Says whether workers of ours are there.
    others
        Says whether other workers are known to be there; it asks nobody.
    watched
        Returns the ids that somebody watches.
    lock
        Held by whoever has more of them watched, until `comes` has been told.
    epoch
        Returns the token that tells the data of the server from those it had before it lost them.
    lost
        Takes ids of tasks that are lost with the data.
    look
        Takes ids, reads the documents there are, tells those who watch, and returns how many of them ended a while ago.
    on_news
        Takes a message of the client's channel.
    on_document
        Takes the id and the document of a task that was published.

    Attributes
    ----------
    session
        A number while this client's channel is listened to and only our workers are known of, which tell everything
        there; another one each time that begins, 0 while it is not so.
    wakes
        When the thread looks around next, whoever rings; at no time, so far as is known, while it is about to sleep.
    """

    def __init__(
        self,
        server: RedisServer,
        news: str,
        prefix: str,
        *,
        ours: Callable[[], bool],
        others: Callable[[], bool],
        epoch: Callable[[], bytes | None],
        lost: Callable[[Sequence[str]], None],
        watched: Callable[[], Collection[str]],
        lock: AbstractContextManager[object],
        look: Callable[[Sequence[str]], int],
        on_news: Callable[[bytes], None],
        on_document: Callable[[str, bytes], None],
    ) -> None:
        self._server = server
        self._news = news.encode()
        self._prefix = prefix.encode()
        self._ours = ours
        self._others = others
        self._epoch = epoch
        self._lost = lost
        self.epoch: bytes | None = None
        self._watched = watched
        self._watching = lock
        self._look = look
        self._on_news = on_news
        self._on_document = on_document
        self._sessions = itertools.count(1)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.session = 0
        self.wakes = inf
        self._fresh: deque[Collection[str]] = deque()
        #: What was sent, and to which data; and when many at once were last.
        self._sent: deque[tuple[Sequence[str], bytes]] = deque()
        self._sending = 0.0
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._closed = False
        self._away = False
        self._bell: tuple[int, int] | None = None
        self._pid = os.getpid()

    def comes(self, task_ids: Collection[str]) -> None:
        """Note what is watched from now on, under the lock; `follow` comes next."""
        if self._pid != os.getpid():  # a child: the thread is the parent's
            self._begin()
        if task_ids:
            self._fresh.append(task_ids)

    def follow(self, task_ids: Collection[str]) -> None:
        """Listen for these, which came; returns when this client's channel is subscribed to."""
        with self._lock:
            if self._closed:
                return
            if self._thread is None:
                self._ready.clear()
                self._bell = os.pipe()
                for end in self._bell:
                    os.set_blocking(end, False)
                self._thread = threading.Thread(
                    target=self._run, args=(self._bell[0],), name="nbcanvas-listener", daemon=True
                )
                self._thread.start()
            elif len(task_ids) > 1 or not self.session or self.wakes > monotonic() + _FIRST:
                self._ring()  # of single tasks ours tell anyhow: it need not be at once
        if not self._ready.is_set():
            self._ready.wait(_PATIENCE)

    def sent(self, task_ids: Sequence[str], epoch: bytes) -> None:
        """Hear that tasks were sent, and which token was beside the data of the server then."""
        if self._thread is not None:
            self._sent.append((task_ids, epoch))
            if len(task_ids) > 1:
                self._sending = monotonic()

    def close(self) -> None:
        """Listen no more."""
        with self._lock:
            self._closed = True
            self._ring()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self, bell: int) -> None:
        try:
            while not self._over(idle=False):
                try:
                    if _Session(self, bell).run():
                        return
                except (ServerLost, Refused) as error:
                    if not self._away:
                        log.warning("results are not heard of: %s; trying again", error)
                    self._away = True
                    self._rest(bell)
                    self._ready.set()  # nobody waits for a server that is not there
                except Exception:
                    log.exception("the listener begins anew")
                    self._rest(bell)
        finally:
            with self._lock:
                mine = self._bell is not None and self._bell[0] == bell
                if mine:
                    writing = self._bell
                    self._bell, self._thread = None, None
                    if writing is not None:
                        for end in writing:
                            os.close(end)

    def _hears(self) -> None:
        """Note that the client's channel is subscribed to, and say so if that was in doubt."""
        self._ready.set()
        if self._away:
            log.warning("results are heard of again: %s is there", self._server.name)
        self._away = False

    def _rest(self, bell: int) -> None:
        """Wait before the next try; who rings meanwhile changes nothing, but for the end."""
        until = monotonic() + _AGAIN
        while not self._closed and ready([bell], until - monotonic()):
            _hush(bell)

    def _ring(self) -> None:
        if self._bell is not None:
            with suppress(BlockingIOError):  # it rings already
                os.write(self._bell[1], b"!")

    def _over(self, *, idle: bool) -> bool:
        """Whether the thread ends now: decided under the lock, so that whoever follows finds it, or none."""
        with self._lock:
            over = self._closed or (idle and not self._fresh and not self._watched())
            if over and self._bell is not None:
                writing, self._bell, self._thread = self._bell, None, None
                self._ready.clear()
                for end in writing:
                    os.close(end)
            return over


class _Session:
    """One connection of the listener, from its beginning to its end."""

    def __init__(self, owner: Listener, bell: int) -> None:
        self.owner = owner
        self.bell = bell
        self.link: Link = owner._server.connect(patient=True)  # noqa: SLF001 - of this module
        self.number = 0
        self.singles: set[str] = set()
        self.pattern = False
        #: Whether there are other workers than ours, so far as is known; until when that is proven; when it was asked.
        self.foreign = False
        self.proven = 0.0
        self.asked = monotonic()
        self.pause = _SECOND
        self.sweep = self.check = monotonic()
        #: When the fresh ones are looked at for the first time, and at the latest.
        self.first: float | None = None
        self.latest = 0.0
        self.fresh: list[str] = []
        #: Those of them that were sent, many at once, while we listen to whoever works on them.
        self.told: set[str] = set()
        #: What is watched since it was asked last whether the server has its data: sent or not, nobody knows here.
        self.unsure: set[str] = set()

    def run(self) -> bool:
        """Listen; returns True when nobody needs to any more."""
        owner = self.owner
        try:
            self.link.send((b"SUBSCRIBE", owner._news))  # noqa: SLF001
            self.link.read()
            owner._hears()  # noqa: SLF001
            self._find(foreign=owner._others() or not owner._ours())  # noqa: SLF001
            self._take_fresh(monotonic())
            self._check_epoch()
            # Whatever was said before this connection was there is looked for.
            self.fresh = list(owner._watched())  # noqa: SLF001
            self.sweep = monotonic() + _FIRST
            if self.foreign:
                self._subscribe(self.fresh)
            self._loop()
            return True
        finally:
            if owner.session == self.number:  # and not that of another thread, which began when this one was over
                owner.session = 0
            self.link.close()

    def _find(self, *, foreign: bool) -> None:
        """Note whether there are other workers than ours; looks that were rare for that reason are not any more."""
        self.foreign = foreign
        self.pause = _SECOND
        self.sweep = min(self.sweep, monotonic() + _SECOND)
        self.number = self.owner.session = 0 if foreign else next(self.owner._sessions)  # noqa: SLF001

    def _loop(self) -> None:
        owner = self.owner
        quiet = monotonic()
        while True:
            owner.wakes = inf
            self._take_fresh(monotonic())
            self._do_what_is_due(monotonic())
            if owner._watched():  # noqa: SLF001
                quiet = monotonic()
            elif owner._over(idle=monotonic() - quiet > _IDLE):  # noqa: SLF001
                return
            elif self.singles or self.pattern:
                self._unsubscribe()
            until = min(self.sweep, self.check, self.first or self.sweep, quiet + _IDLE + 1)
            ends = (self.link.fileno(), self.bell)
            owner.wakes = until
            if owner._fresh:  # noqa: SLF001 - who brought it may have seen that
                continue
            found = ready(ends, until - monotonic())
            if self.bell in found:
                _hush(self.bell)
                if owner._closed:  # noqa: SLF001
                    return
            if ends[0] in found:
                self._hear()
                if self.pattern:  # so many come that several may come at a time
                    sleep(min(len(owner._watched()) * _EACH, _BREATH))  # noqa: SLF001

    def _do_what_is_due(self, now: float) -> None:
        owner = self.owner
        if self.first is not None:  # who sends needs the processor, and looks are needless before that is over
            self.first = max(self.first, min(owner._sending + _FIRST, self.latest))  # noqa: SLF001
        if self.first is not None and now >= self.first:
            self._look_first()
        elif now >= self.sweep:
            self._look_again()
        elif now >= self.check:
            self._check_epoch()

    def _take_fresh(self, now: float) -> None:
        owner = self.owner
        waiting = owner._fresh  # noqa: SLF001
        if waiting and not self.foreign and owner._others():  # noqa: SLF001 - they have come since
            self._find(foreign=True)
            self._subscribe(owner._watched())  # noqa: SLF001
        elif waiting and self.foreign and now > self.proven and now - self.asked > _ASK:
            self.asked = now
            if not owner._others() and owner._ours():  # noqa: SLF001 - they live since
                self._find(foreign=False)
                self._unsubscribe()
        many = False
        while waiting:
            ids = waiting.popleft()
            many = many or len(ids) > 1
            self.fresh += ids
            self.unsure.update(ids)
            if self.foreign:
                self._subscribe(ids)
            if self.first is None:
                self.first = now + _FIRST + len(ids) * _EACH
                self.latest = self.first + _PUT_OFF
        if many:  # they are about to be sent: data lost from now on is theirs, too
            self._check_epoch()

    def _hear(self) -> None:
        owner = self.owner
        while True:
            message = self.link.read()
            self.link.owed = 0
            if not isinstance(message, list):
                raise ServerLost(f"{owner._server.name} says {message!r:.80} to a subscriber")  # noqa: SLF001
            kind = message[0]
            if kind == b"message" and message[1] == owner._news:  # noqa: SLF001
                owner._on_news(message[2])  # noqa: SLF001
                self.pause = max(self.pause, 1.0)  # they come: looks are not needed so often
            elif kind in {b"message", b"pmessage"}:
                channel, document = message[-2:]
                owner._on_document(channel[len(owner._prefix) :].decode("utf-8", "replace"), document)  # noqa: SLF001
            if not self.link.readable(0):
                return

    # -- subscriptions to Celery's channels ---------------------------------------------------------------------------

    def _subscribe(self, ids: Collection[str]) -> None:
        if self.pattern or not ids:
            return
        prefix = self.owner._prefix  # noqa: SLF001
        if len(self.singles) + len(ids) > _SINGLE:
            self.link.send((b"PSUBSCRIBE", _escaped(prefix) + b"*"))
            self.pattern = True
            if self.singles:
                self.link.send((b"UNSUBSCRIBE", *[prefix + one.encode() for one in self.singles]))
                self.singles.clear()
        else:
            more = [one for one in ids if one not in self.singles]
            if more:
                self.link.send((b"SUBSCRIBE", *[prefix + one.encode() for one in more]))
                self.singles.update(more)

    def _unsubscribe(self) -> None:
        """Nothing is watched any more."""
        prefix = self.owner._prefix  # noqa: SLF001
        if self.pattern:
            self.link.send((b"PUNSUBSCRIBE", _escaped(prefix) + b"*"))
        if self.singles:
            self.link.send((b"UNSUBSCRIBE", *[prefix + one.encode() for one in self.singles]))
        self.pattern = False
        self.singles.clear()

    # -- looks --------------------------------------------------------------------------------------------------------

    def _look_first(self) -> None:
        """Look at what is watched since a moment: it may have ended long ago, if it was not sent since."""
        self._check_epoch()
        fresh, self.fresh, self.first = self.fresh, [], None
        told, self.told = self.told, set()
        watched = self.owner._watched()  # noqa: SLF001
        left = [one for one in fresh if one in watched]
        if left:
            self._look([one for one in left if one not in told])
            self.sweep = min(self.sweep, monotonic() + self.pause)

    def _look_again(self) -> None:
        self._check_epoch()
        watched = list(self.owner._watched())  # noqa: SLF001
        begun = monotonic()
        found = self._look(watched) if watched else 0
        if found:  # somebody ended tasks and did not tell: one of Celery's workers, or ours, for another client
            self.proven = begun + _PROVEN
            if not self.foreign:
                self._find(foreign=True)
                self._subscribe(self.owner._watched())  # noqa: SLF001
        self.pause = _SECOND if found else min(self.pause * 1.5, _RARE if self.foreign else _AT_MOST)
        self.sweep = monotonic() + max(self.pause, (monotonic() - begun) * _SHARE)

    def _check_epoch(self) -> None:
        """End what is watched, and was sent to a server that has lost its data since."""
        owner, watched = self.owner, self.owner._watched()  # noqa: SLF001
        self.check = monotonic() + _CHECK
        told = len(owner._sent)  # noqa: SLF001 - so many were sent before the question
        epoch = owner._epoch()  # noqa: SLF001
        if epoch is None:
            return
        known, owner.epoch = owner.epoch, epoch
        sent = [owner._sent.popleft() for _ in range(told)]  # noqa: SLF001
        if self.number and self.first is not None:
            self.told.update(*[ids for ids, _ in sent if len(ids) > 1])
        gone = {one for ids, to in sent if to != epoch for one in ids if one in watched}
        if known is not None and epoch != known:
            with owner._watching:  # noqa: SLF001 - what came since this thread looked is not lost
                here = self.unsure.union(*[ids for ids, to in sent if to == epoch], *owner._fresh)  # noqa: SLF001
                gone.update(one for one in list(watched) if one not in here)
        if gone:
            self._look(gone)
            owner._lost([one for one in gone if one in watched])  # noqa: SLF001
        self.unsure.clear()

    def _look(self, ids: Collection[str]) -> int:
        """Look at tasks; among many of them, what is told meanwhile is heard before it is found."""
        ids, found = list(ids), 0
        watched = self.owner._watched()  # noqa: SLF001
        for start in range(0, len(ids), _CHUNK):
            if start and self.link.readable(0):
                self._hear()
            some = [one for one in ids[start : start + _CHUNK] if one in watched]
            found += self.owner._look(some) if some else 0  # noqa: SLF001
        return found


def _hush(bell: int) -> None:
    with suppress(BlockingIOError):
        os.read(bell, 4096)


def _escaped(prefix: bytes) -> bytes:
    """Return a prefix for a pattern in which it means itself."""
    return b"".join(b"\\" + bytes((one,)) if one in b"*?[]\\^-" else bytes((one,)) for one in prefix)
