"""Real servers for tests: each starts on a free port, and stops at the end of what asked for it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

__all__ = ["RabbitMQ", "Redis", "free_port", "rabbitmq_url", "redis_server", "redis_url", "until"]


#: Ports no outgoing connection is given (Linux's begin at 32768): else any client could sit on a port between two lives
#: of its server, and whoever tries again and again to reach a server that is away would, one day, reach itself.
_PORTS = range(15_000, 32_000)
#: Those that were found: a server needs several, and does not listen at once.
_found: set[int] = set()


def free_port() -> int:
    """Return a port nobody listens on, another one each time."""
    for port in random.SystemRandom().sample(_PORTS, 1000):
        if port in _found:
            continue
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        _found.add(port)
        return port
    raise AssertionError("no port is free")


def until(condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
    """Wait for a condition; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} seconds: {what or condition}")
        time.sleep(0.02)


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/lib/rabbitmq/bin")
    if found is None:
        pytest.fail(f"{name} is not installed: run `make system`")
    return found


def answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0


class Redis:
    """A redis-server of one's own; `persistent` ones survive `stop` and `start` (AOF, every write).

    Attributes
    ----------
    port, url
        Where it is.
    """

    def __init__(self, folder: Path, *, persistent: bool = False, password: str = "", arguments: tuple[str, ...] = ()):
        self.port = free_port()
        credentials = f":{password}@" if password else ""
        self.url = f"redis://{credentials}127.0.0.1:{self.port}/0"
        self._command = [program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._command += ["--dir", str(folder), "--appendonly", "yes" if persistent else "no"]
        self._command += ["--appendfsync", "always"] if persistent else []
        self._command += ["--requirepass", password] if password else []
        self._command += arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until(self._ready, what="redis-server answers")

    def _ready(self) -> bool:
        import redis

        assert self.process is not None
        assert self.process.poll() is None, f"redis-server on port {self.port} ended"
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait(60)
            self.process = None


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis for the whole session; use a database or names of your own."""
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The URL of a database that is empty at the start."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


class RabbitMQ:
    """A RabbitMQ node of one's own.

    Attributes
    ----------
    port, url
        Where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        # A short-lived node: its own Erlang cookie and port mapper, no plug-ins, nothing under /var.
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(
            "vm_memory_high_watermark.relative = 0.6\ndisk_free_limit.absolute = 10MB\n"
        )
        self._folder = folder
        self._epmd_port = str(free_port())
        self._env = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": self._epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": str(folder / "log.txt"),
            "RABBITMQ_MNESIA_BASE": str(folder),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._mapper: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        # Erlang would start its port mapper as a daemon, which nobody stops.
        mapper = [program("epmd"), "-port", self._epmd_port, "-address", "127.0.0.1"]
        self._mapper = subprocess.Popen(mapper, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(int(self._epmd_port)), what="epmd answers")
        # Debian's wrapper changes to another user; the real program stands beside Erlang's library.
        found = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        name = str(found) if found.exists() else program("rabbitmq-server")
        # In its folder: there it leaves what it has to say of a crash.
        self.process = subprocess.Popen(
            [name], cwd=self._folder, env=self._env, stdout=subprocess.DEVNULL, start_new_session=True
        )
        until(self._ready, 90, "rabbitmq-server answers")

    def _ready(self) -> bool:
        from kombu.connection import Connection

        assert self.process is not None
        if self.process.poll() is not None:
            log = self._folder / "log.txt"
            said = log.read_text("utf-8", "replace")[-2000:] if log.exists() else "it left no log"
            msg = f"rabbitmq-server ended at its start, with {self.process.returncode}:\n{said}"
            raise RuntimeError(msg)
        if not answers(self.port):
            return False
        with Connection(self.url, connect_timeout=2) as connection:
            try:
                connection.connect()
            except (OSError, *connection.connection_errors):  # it listens before it has its virtual host
                return False
            return True

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Stop it, and everything it started."""
        if self.process is not None:
            os.killpg(self.process.pid, sig)
            self.process.wait(60)
            self.process = None
            until(lambda: not answers(self.port), what="rabbitmq-server is gone")  # what ended is the shell around it
        if self._mapper is not None:
            self._mapper.terminate()
            self._mapper.wait(60)
            self._mapper = None


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ for the whole session; use queues of your own."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.stop()


@pytest.fixture
def rabbitmq_url(rabbitmq_server: RabbitMQ) -> str:
    """Its URL."""
    return rabbitmq_server.url
