"""A TCP proxy that a test stands between a program and a server: it cuts, slows and counts.

with Proxy(redis.port) as proxy:
    fleet = Fleet(proxy.url("redis"))
    proxy.cut()                     # everybody's connection breaks; nobody gets a new one until `mend`
    proxy.delay = 0.05              # from now on every chunk is late
    proxy.on_command = watcher      # hears every Redis command that passes, before and after it is answered
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Self

__all__ = ["Proxy", "commands"]

_CHUNK: Final = 1 << 16


class Proxy:
    """Passes bytes between whoever connects to `port` and a server on this machine.

    Parameters
    ----------
    target
        The server's port.

    Attributes
    ----------
    port
        Where to connect to.
    delay
        Seconds by which each chunk is late, in either direction.
    mute
        Whether clients hear nothing any more; what the server says is dropped, so `cut` has to follow.
    on_command
        Called with each Redis command that a client sends (its words) before it goes on to the server, and with the
        same words and True once the server has answered, before the client hears of it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self.delay = 0.0
        self.mute = False
        self.on_command: Callable[[list[bytes], bool], None] | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts, who would keep it open
        self._listener.close()

    def url(self, scheme: str) -> str:
        """Return the URL of the server behind it."""
        return {"redis": f"redis://127.0.0.1:{self.port}/0", "amqp": f"amqp://guest:guest@127.0.0.1:{self.port}//"}[
            scheme
        ]

    def cut(self) -> None:
        """Break every connection, and make no more."""
        with self._lock:
            self._cut = True
            sockets, self._open = self._open, set()
            for one in sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def mend(self) -> None:
        """Let everybody connect again, once all that was to break is broken."""
        with self._lock:
            self._cut = False

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._open) // 2

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:  # the server is down: so is this
                client.close()
                continue
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                cut = self._cut
                if not cut:
                    self._open |= {client, server}
            if cut:
                client.close()
                server.close()
            else:
                threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        unfinished, unanswered = bytearray(), list[list[bytes]]()
        with selectors.DefaultSelector() as ready, suppress(OSError, ValueError):
            ready.register(client, selectors.EVENT_READ)
            ready.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    chunk = key.fileobj.recv(_CHUNK)  # type: ignore[union-attr]
                    if not chunk:
                        return self._close(client, server)
                    if self.delay:
                        time.sleep(self.delay)
                    watch = self.on_command
                    if key.fileobj is client:
                        if watch is not None:
                            unfinished += chunk
                            for command in commands(unfinished):
                                watch(command, False)
                                unanswered.append(command)
                        server.sendall(chunk)
                    elif not self.mute:
                        if watch is not None:
                            for command in unanswered:
                                watch(command, True)
                        unanswered.clear()
                        client.sendall(chunk)
        return self._close(client, server)

    def _close(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(sockets)
        for one in sockets:
            one.close()


def commands(buffer: bytearray) -> Iterator[list[bytes]]:
    """Take the complete Redis commands off the front of `buffer`."""
    while buffer.startswith(b"*"):
        words, at = [], buffer.find(b"\r\n")
        if at < 0:
            return
        count, at = int(buffer[1:at]), at + 2
        for _ in range(count):
            end = buffer.find(b"\r\n", at)
            if end < 0:
                return
            length = int(buffer[at + 1 : end])
            at = end + 2 + length + 2
            if at > len(buffer):
                return
            words.append(bytes(buffer[end + 2 : end + 2 + length]))
        del buffer[:at]
        yield words
