"""The Redis that contenders share, and what they ask of it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Self

import redis

__all__ = ["URL", "Messages", "Redis", "client", "messages"]

_VARIABLE = "NBCANVAS_BENCH_REDIS"

#: Where a contender finds it.
URL = os.environ.get(_VARIABLE, "redis://127.0.0.1:6379/0")


class Redis:
    """A redis-server that keeps nothing on disk, for as long as a ``with`` block.

    Attributes
    ----------
    version, settings
        For the report.
    """

    def __enter__(self) -> Self:
        program = shutil.which("redis-server")
        if program is None:
            msg = "redis-server is not installed: run `make system`"
            raise SystemExit(msg)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = TemporaryDirectory()
        self.settings = ("--save", "", "--appendonly", "no")
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", self._folder.name, *self.settings]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._client = redis.Redis.from_url(self.url)
        until = monotonic() + 10
        while True:
            try:
                self.version = self._client.info("server")["redis_version"]
                break
            except redis.ConnectionError:
                if monotonic() > until:
                    raise
                sleep(0.02)
        os.environ[_VARIABLE] = self.url
        return self

    def empty(self) -> None:
        """Drop everything in it."""
        self._client.flushall()

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()


def client() -> Any:
    """Return a client of one's own."""
    return redis.Redis.from_url(URL)


_ESCAPE = re.compile(rb"\\(?:x[0-9a-f]{2}|.)")
_COMMAND = re.compile(rb'\] "(\w+)" "((?:[^"\\]|\\.)*)" ?(.*)$')


class Messages:
    """How many bytes of messages were put on queues, heard through ``MONITOR``; what is heard this way is not timed.

    What is pushed to a list is a message; a plan that messages refer to is counted with them.

    Attributes
    ----------
    bytes, count
        Of them so far.
    """

    def __init__(self) -> None:
        self.bytes = self.count = 0

    def hear(self, line: bytes) -> None:
        """Count what a line of MONITOR tells."""
        found = _COMMAND.search(line)
        if found is None:
            return
        command, key, rest = found[1].upper(), found[2], found[3]
        if command in (b"LPUSH", b"RPUSH") and b"pidbox" not in key:
            self.count += 1
            self.bytes += len(_ESCAPE.sub(b".", rest)) - 2
        elif command in (b"SET", b"SETEX", b"HSET") and key.startswith(b"nbcanvas-plan"):
            self.bytes += len(_ESCAPE.sub(b".", rest)) - 2


@contextmanager
def messages() -> Iterator[Messages]:
    """Hear every message that is published while the block runs."""
    host, port = URL.removeprefix("redis://").split("/")[0].split(":")
    heard = Messages()
    with socket.create_connection((host, int(port))) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        reader = monitor.makefile("rb")
        assert reader.readline() == b"+OK\r\n"
        over = threading.Event()

        def listen() -> None:
            for line in reader:
                if b'"PING" "that was all"' in line or b'"ping" "that was all"' in line:
                    break
                heard.hear(line.rstrip())
            over.set()

        threading.Thread(target=listen, daemon=True).start()
        yield heard
        with client() as last:
            last.execute_command("PING", "that was all")
        assert over.wait(120), "MONITOR does not come to an end"
