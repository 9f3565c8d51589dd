"""The kernel's hold on one child process: start it, talk to it, end it, and know what it knows."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import Any, Final

from nbcanvas.app import App
from nbcanvas.errors import NotSerializable
from nbcanvas.protocol.payload import pack

from .shipping import Shipment, by_value

__all__ = ["Child"]

_MISSING: Final = object()
#: No `multiprocessing` start: that would import the user's ``__main__`` again.
_START: Final = (
    "import sys; pipe, line, *sys.path = sys.argv[1:]; sys.argv = ['nbcanvas-child']\n"
    "from nbcanvas.worker.processes.inside import main\n"
    "main(int(pipe), int(line))"
)


class Child:
    """One child process.

    It leads a session of its own: an interrupt of the kernel's process group does not reach it, and ending its group
    ends what its tasks started, too.  The life line is a pipe nobody writes to; when the kernel is gone its end closes,
    and the child's group dies.
    """

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        line, self._line = os.pipe()
        _children.add(self)  # before anything else: the kernel may be forked while the child starts
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own code
                [sys.executable, "-c", _START, str(theirs.fileno()), str(line), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), line),
                start_new_session=True,
            )
        os.close(line)
        self._started = False
        self._sending = threading.Lock()
        self._sent = self._received = 0
        self._surroundings: tuple[Any, ...] = ()
        self._known: dict[tuple[str, str], Shipment] = {}
        self._main: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self._process.poll() is None

    # -- talking --------------------------------------------------------------------------------------------------

    @property
    def exchanged(self) -> int:
        """How many frames it was sent, and has said; it may not have read them all."""
        return self._sent + self._received

    def send(self, frame: tuple[Any, ...]) -> None:
        """Say something; OSError when it is gone."""
        data = pickle.dumps(frame, 5)
        with self._sending:
            self._pipe.send_bytes(data)
            self._sent += 1

    def receive(self) -> tuple[Any, ...]:
        """Hear what it says next; EOFError or OSError when it is gone."""
        frame: tuple[Any, ...] = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - frames hold no user's objects
        self._received += 1
        return frame

    def await_start(self) -> None:
        """Wait until it can work; EOFError or OSError when it never will."""
        if not self._started:
            self.receive()
            self._started = True

    @property
    def is_prepared(self) -> bool:
        """Whether it was told what is around it; that may have changed."""
        return bool(self._surroundings)

    def prepare(self, app: App, modules: Sequence[str] = ()) -> bool:
        """Tell it what has changed around it: directory, import path, settings, names of ``__main__``.

        Returns whether anything has: then it says ``set`` when it is ready, and may ask before.
        """
        here = vars(sys.modules["__main__"])
        rebound = [name for name, value in self._main.items() if here.get(name, _MISSING) is not value]
        surroundings = (_directory(), tuple(sys.path), dict(app.conf.given), app.remote, modules)
        if rebound or surroundings != self._surroundings:
            for name in rebound:
                del self._main[name]
            directory, path, settings, remote, modules = self._surroundings = surroundings
            self.send(("set", directory, path, pack(_sendable(settings)), rebound, remote, modules))
            return True
        return False

    def news(self, key: tuple[str, str], shipment: Shipment) -> bytes | None:
        """Return the bytes of a shipment it does not have yet, else None."""
        if self._known.get(key) is shipment:
            return None
        self._known[key] = shipment
        return shipment.data

    def forget(self, key: tuple[str, str]) -> None:
        """A shipment did not arrive: it is to be sent again."""
        self._known.pop(key, None)

    def main_name(self, name: str) -> bytes | None:
        """Return something of ``__main__`` by value, and remember that it has it; None when there is no such name."""
        value = getattr(sys.modules["__main__"], name, _MISSING)
        if value is _MISSING:
            return None
        self._main[name] = value
        return by_value(value)

    # -- ending ---------------------------------------------------------------------------------------------------

    def soft_limit(self, number: int) -> None:
        """Have SoftTimeLimitExceeded raised in its execution of that number: now, or when that begins."""
        with suppress(OSError):  # it is gone; whoever hears it says so
            self.send(("soft", number))

    def kill(self, name: str = "SIGKILL", grace: float = 1.0) -> None:
        """Signal it and what it started, and wait for its end; what takes no notice for `grace` seconds is killed."""
        if self._signal(getattr(signal, name, signal.SIGTERM)):
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()

    def _signal(self, number: int) -> bool:
        if self._process.poll() is not None:
            return False
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # it has just ended
            return False
        return True

    def end(self, grace: float = 0.5) -> None:
        """Have it end by itself, and what will not be ended: for a child that has nothing to do."""
        try:
            self.send(("bye",))
            self._process.wait(grace)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.bury()

    def bury(self) -> str:
        """End it if it still runs, let go of it, and say how it ended."""
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        self.let_go()
        _children.discard(self)
        if code < 0:
            return f"was killed by signal {-code} ({_signal_name(-code)})"
        return f"exited with code {code}"

    def let_go(self) -> None:
        """Close this end of the conversation and of the life line."""
        self._pipe.close()
        if self._line >= 0:
            os.close(self._line)
            self._line = -1


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


def _sendable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without what only the kernel can use, such as a router that is a closure over a lock."""
    found = {}
    for name, value in settings.items():
        try:
            pack(value)
        except NotSerializable:
            continue
        found[name] = value
    return found


_children: weakref.WeakSet[Child] = weakref.WeakSet()


def _forked() -> None:
    """In a fork of the kernel: its children are not ours to hold, or they would outlive it."""
    for child in list(_children):
        child.let_go()
    _children.clear()


os.register_at_fork(after_in_child=_forked)
