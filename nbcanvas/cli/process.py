"""A worker as a process: its name, its pid file, signals, the background, and being started anew."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Final

import click

from nbcanvas.run.stored import lives

__all__ = ["AGAIN", "COLD", "WARM", "Signals", "detach", "expanded", "node_name", "pid_file", "start_anew"]

WARM: Final = "warm"
COLD: Final = "cold"
AGAIN: Final = "again"

#: What SIGUSR2 gets for an answer; written at once, since a handler may interrupt whoever holds the log.
_NO_DEBUGGER: Final = b"SIGUSR2: there is no remote debugger here; SIGUSR1 writes what every thread does right now\n"


def expanded(text: str, node: str = "") -> str:
    """Fill in ``%h`` (this host), ``%n`` (its name, or the node's), ``%d`` (its domain), ``%p`` (the node), ``%%``."""
    host = socket.gethostname()
    short, _, domain = host.partition(".")
    name, _, node_host = node.partition("@")
    if node_host:
        host, short, domain = node_host, name, node_host.partition(".")[2]
    values = {"h": host, "n": short, "d": domain, "p": node or host, "i": "", "I": "", "%": "%"}
    parts = text.split("%")
    found = parts.pop(0)
    while parts:
        part = parts.pop(0)
        if not part:  # %%
            found += "%" + (parts.pop(0) if parts else "")
        else:
            found += (values[part[0]] if part[0] in values else "%" + part[0]) + part[1:]
    return found


def node_name(given: str | None) -> str:
    """Return a worker's node name, ``name@host``."""
    name, at, host = expanded(given or "").rpartition("@")
    if not at and host:
        return f"celery@{host}"
    return f"{name or 'celery'}@{host or socket.gethostname()}"


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Keep the process id in a file; refuses when a process that lives is in it."""
    if not path:
        yield
        return
    file = Path(path)
    if file.exists():
        text = file.read_text("utf-8").strip()
        if text.isdigit() and int(text) != os.getpid() and lives(int(text)):
            msg = f"pid file {path} names process {text}, which runs: is the worker started already?"
            raise click.ClickException(msg)
    file.write_text(f"{os.getpid()}\n", "utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


class Signals:
    """What signals ask for: the first Ctrl-C or SIGTERM a warm stop, the second Ctrl-C, or SIGQUIT, a cold one.

    SIGHUP asks a worker in the background to start anew, as Celery's does; in a terminal, which was closed, to stop.
    SIGUSR2, with which Celery's worker opens its debugger, says that there is none here.
    """

    def __init__(self) -> None:
        self.asked: SimpleQueue[str] = SimpleQueue()  # a handler may put something there at any moment
        self._interrupts = 0
        self._handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: self._cold if os.environ.get("REMAP_SIGTERM") == "SIGQUIT" else self._warm,
            signal.SIGHUP: self._hung_up,
            signal.SIGQUIT: self._cold,
            signal.SIGUSR2: self._no_debugger,
        }

    def listen(self) -> None:
        """Handle them from now on."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _interrupt(self, *_: object) -> None:
        self._interrupts += 1
        self.asked.put(WARM if self._interrupts == 1 else COLD)

    def _warm(self, *_: object) -> None:
        self.asked.put(WARM)

    def _cold(self, *_: object) -> None:
        self.asked.put(COLD)

    def _hung_up(self, *_: object) -> None:
        self.asked.put(WARM if os.isatty(0) else AGAIN)

    def _no_debugger(self, *_: object) -> None:
        os.write(2, _NO_DEBUGGER)


#: Where this process was started; ``--workdir`` may lead elsewhere.
_HERE: Final = Path.cwd()
_PROGRAM: Final = "from nbcanvas.cli.main import main; main()"


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", _PROGRAM, *arguments]


def detach(arguments: Sequence[str], log: str | None) -> int:
    """Start the same worker in the background; returns its process id."""
    with Path(log or os.devnull).open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - this very program
            _command(arguments), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    return process.pid


def start_anew(arguments: Sequence[str]) -> None:
    """Become the same worker again, with everything imported anew."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(_HERE)
    os.execv(sys.executable, _command(arguments))  # noqa: S606 - this very program
