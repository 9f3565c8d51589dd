"""Celery's RPC backend (``rpc://``): results are messages, sent to the client that asked, and kept nowhere.

A client reads its own queue, whose name (its id) each task message carries as ``reply_to``.  A worker sends each result
there.  Nobody else can ask for a result, and nothing can wait for several of them but the client: no chords, and no
group with anything behind it.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from nbcanvas.errors import ImproperlyConfigured, ServerLost
from nbcanvas.plan import Arrival, Exit, Join, Message
from nbcanvas.plan.model import Chain, Fan, Node
from nbcanvas.protocol.letter import Letter
from nbcanvas.servers.kombu import Arrived, KombuServer
from nbcanvas.servers.queues import QueueSpec

from .local import LocalBackend, OnEnd
from .port import Record, Tree

if TYPE_CHECKING:
    from .documents import Documents

__all__ = ["RPCBackend", "Sends", "joins_in"]

log = logging.getLogger("nbcanvas.backend")

#: Seconds the queue of a client stays without the client: it may only have lost its connection.
_AWAY: Final = 600.0
#: Seconds between attempts to connect again: the first, and at most.
_PAUSE: Final = (0.1, 5.0)
_TURN: Final = 0.2
_NO_CHORDS: Final = (
    "the result backend rpc:// keeps no results, so nothing can wait for a group of them: a chord, or a group with "
    "something behind it, needs another result_backend, such as redis://… or db+sqlite:///results.sqlite"
)


class Sends(Protocol):
    """What sends letters: `nbcanvas.broker.kombu.KombuBroker`."""

    def deliver(self, letters: Sequence[Letter]) -> None:
        """Send letters; returns when the broker has them."""


class RPCBackend:
    """See above.

    Parameters
    ----------
    server
        The broker.
    broker
        What to send results with.
    documents
        How results look.
    client_id
        This process as a client: the name of its queue.
    expires
        Seconds after which results in memory may be dropped (``result_expires``).
    persistent
        Whether messages with results outlive the broker's process (``result_persistent``).
    """

    #: Nothing is kept, runs neither.
    runs = None

    def __init__(
        self,
        server: KombuServer,
        broker: Sends,
        documents: Documents,
        client_id: str,
        *,
        expires: Callable[[], float | None] = lambda: None,
        persistent: bool = False,
    ) -> None:
        self._server = server
        self._broker = broker
        self._documents = documents
        self._queue = QueueSpec(client_id, options={"expires": _AWAY})
        self._mode = 2 if persistent else 1
        self._local = LocalBackend(expires)
        self._addresses: dict[str, str] = {}
        self._outbox: list[Letter] = []
        self._lock = threading.RLock()  # a finalizer may stop watching while this thread holds it
        self._reader: threading.Thread | None = None
        self._pid = 0
        self._ready = threading.Event()
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<RPCBackend {self._server.name}>"

    # -- a client: its queue -------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Have a queue for results, and read it; to be called before a task is sent.

        Raises
        ------
        ServerLost
            When the broker does not answer.
        """
        if self._ready.is_set() and self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._reader = os.getpid(), None
                self._ready.clear()
                self._closed.clear()
            if self._reader is None:
                link = self._server.link()
                try:
                    link.declare(self._queue)
                finally:
                    link.close()
                mine = weakref.ref(self), self._server, self._queue, self._closed
                self._reader = threading.Thread(target=_read, args=mine, name="nbcanvas-rpc", daemon=True)
                self._reader.start()
            self._ready.set()

    def hear(self, arrived: Arrived) -> None:
        """Take a result that came."""
        letter = arrived.letter
        task_id = letter.properties.get("correlation_id")
        if not isinstance(task_id, str):
            log.warning("%s: a result without a task's id is dropped", self._server.name)
            return
        # Nobody but the order they come in says which of two results is the later one.
        self._local.update(task_id, self._documents.read(task_id, letter.body))

    # -- a worker: who wants to know -----------------------------------------------------------------------------------

    def address(self, task_id: str, reply_to: str | None) -> None:
        """Hear who wants a task's results; None when that is over."""
        if reply_to:
            self._addresses[task_id] = reply_to
        else:
            self._addresses.pop(task_id, None)

    def _post(self, task_id: str, record: Record) -> bool:
        """Put a result into the outbox; False when it is nobody else's."""
        reply_to = self._addresses.get(task_id)
        if reply_to is None:
            return False
        body = self._documents.write(task_id, record)
        encoding = self._documents.encoding
        properties = {"correlation_id": task_id, "delivery_mode": self._mode}
        letter = Letter(
            "", {}, body, properties, 0, encoding.content_type, encoding.content_encoding, routing_key=reply_to
        )
        with self._lock:
            self._outbox.append(letter)
        return True

    # -- tasks --------------------------------------------------------------------------------------------------------

    def expect(self, task_ids: Iterable[str]) -> None:
        """Do nothing."""

    def tells(self, task_id: str) -> bool:
        """Never: asking costs nothing that matters."""
        return False

    def settle(self, task_id: str, record: Record) -> bool:
        """Have a result sent with the next `flush`; of a client's own, keep it."""
        return self._post(task_id, record) or self._local.settle(task_id, record)

    def announce(self, task_id: str, record: Record) -> None:
        """Tell those who watch in this process."""
        self._local.announce(task_id, record)

    def update(self, task_id: str, record: Record) -> bool:
        """Send a state on the way."""
        if not self._post(task_id, record):
            return self._local.update(task_id, record)
        self.flush()
        return True

    def get(self, task_id: str) -> Record | None:
        """Return what has been heard of a task, or None."""
        return self._local.get(task_id)

    def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Record]:
        """Return what has been heard of several tasks."""
        return self._local.get_many(task_ids)

    def forget(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""
        self._local.forget(task_ids)

    def catch_up(self, task_ids: Iterable[str]) -> None:
        """Do nothing: what has not been heard is known here no more than to those who wait."""

    def watch(self, task_ids: Iterable[str], on_end: OnEnd) -> Callable[[], None]:
        """Call `on_end` once for each of the tasks when it ends, or at once when it has; returns the way to stop."""
        self.listen()
        return self._local.watch(task_ids, on_end)

    # -- what it cannot do ---------------------------------------------------------------------------------------------

    def refuse(self, node: Node) -> None:
        """Refuse a canvas that needs more than this.

        Raises
        ------
        ImproperlyConfigured
            When something in it waits for a group.
        """
        if joins_in(node):
            raise ImproperlyConfigured(_NO_CHORDS)

    def open(self, joins: Sequence[Join]) -> Sequence[Message]:
        """Refuse: nothing can wait for a group."""
        if joins:
            raise ImproperlyConfigured(_NO_CHORDS)
        return ()

    def arrive(self, arrival: Arrival) -> list[tuple[Exit, str]] | None:
        """Drop it: a Celery client, which refuses chords as well, sent what has a slot here."""
        log.warning("group %s: %s", arrival.slot.join.id, _NO_CHORDS)
        return None

    def dispatched(self, join: Join) -> None:
        """Do nothing."""

    def joins(self) -> Mapping[str, tuple[Join, int]]:
        """Return nothing: no barrier waits."""
        return {}

    def save_group(self, group_id: str, tree: Tree) -> None:
        """Refuse: nothing is kept."""
        msg = f"a group cannot be saved in the result backend rpc://, which keeps nothing (group {group_id})"
        raise ImproperlyConfigured(msg)

    def restore_group(self, group_id: str) -> Tree | None:
        """Refuse: nothing is kept."""
        msg = f"a group cannot be restored from the result backend rpc://, which keeps nothing (group {group_id})"
        raise ImproperlyConfigured(msg)

    def delete_group(self, group_id: str) -> None:
        """Do nothing: nothing is kept."""

    # -- the rest -----------------------------------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Drop what has expired in memory."""
        self._local.cleanup()

    def flush(self, timeout: float | None = None) -> bool:
        """Send what is in the outbox; returns when the broker has it."""
        with self._lock:
            letters, self._outbox = self._outbox, []
        if letters:
            try:
                self._broker.deliver(letters)
            except BaseException:
                with self._lock:
                    self._outbox[:0] = letters
                raise
        return True

    def close(self, timeout: float = 2.0) -> None:
        """Send what is left, and read no more."""
        try:
            self.flush()
        except ServerLost as error:
            log.warning("%d results were not sent: %s", len(self._outbox), error)
        self._closed.set()
        reader = self._reader
        if reader is not None and self._pid == os.getpid() and reader is not threading.current_thread():
            reader.join(timeout)


def _read(
    owner: Callable[[], RPCBackend | None], server: KombuServer, queue: QueueSpec, closed: threading.Event
) -> None:
    """Read results, until the backend is closed, or nobody has it any more."""

    def heard(arrived: Arrived) -> None:
        backend = owner()
        if backend is not None:
            backend.hear(arrived)

    pause = _PAUSE[0]
    while not (closed.is_set() or owner() is None):
        try:
            link = server.link()
            try:
                link.declare(queue)
                link.consume(queue.name, heard, tag="results", no_ack=True)
                pause = _PAUSE[0]
                while not (closed.is_set() or owner() is None):
                    link.drain(_TURN)
            finally:
                link.close()
        except ServerLost as error:
            log.warning("results are not read, and it is tried again: %s", error)
            closed.wait(pause)
            pause = min(pause * 2, _PAUSE[1])


def joins_in(node: Node) -> bool:
    """Whether anything in a frozen canvas waits for a group."""
    todo: list[tuple[Node, bool]] = [(node, False)]
    while todo:
        one, waits = todo.pop()
        if isinstance(one, Chain):
            last = len(one.steps) - 1
            todo += [(step, waits or place < last) for place, step in enumerate(one.steps)]
        elif isinstance(one, Fan):
            if waits:
                return True
            todo += [(member, False) for member in one.members]
        else:
            todo += [(link, False) for link in (*one.links, *one.errbacks)]
    return False
