"""Real workers for tests: Celery's and ours, as processes of their own on a broker of one's choice.

    with Fleet(url) as fleet:
        theirs = fleet.celery(pool="prefork", concurrency=2, events=True)
        ours = fleet.ours(pool="threads")
        ...
        theirs.kill()            # SIGKILL, children too; `stop()` is a warm shutdown

Both kinds run the tasks of one module (`tests.cluster.worlds` by default): its ``define(app)`` registers them on an app
of either library. Clients: ``fleet.client()`` (ours) and ``fleet.celery_client()``. What workers wrote is in
`Worker.log`, and shown when a test fails while they live (`tests/cluster/conftest.py`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.celerys import unshared

__all__ = ["Fleet", "Worker"]

ROOT = Path(__file__).parents[2]
TASKS = "tests.cluster.worlds"
#: What every app here is set to: quick, and small.
CONF = {"broker_connection_retry_on_startup": True, "result_expires": 600}


class Worker:
    """One worker process.

    Attributes
    ----------
    name
        Its node name.
    kind
        "celery" or "ours".
    process
        The process; `pid` is its id.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        command: Sequence[str],
        env: dict[str, str],
        folder: Path,
        answers: Callable[[str], object] | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self._answers = answers
        self._path = folder / f"{name.replace('/', '_')}-{time.monotonic_ns()}.log"
        self._file = self._path.open("wb")
        # It dies with whoever started it, a test run that is killed included (where util-linux is there).
        until_then = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self.process = subprocess.Popen(
            [*until_then, *command],
            cwd=ROOT,
            env=env,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written."""
        return self._path.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def children(self) -> list[int]:
        """The ids of its child processes."""
        found: list[int] = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
        return found

    def await_ready(self, seconds: float = 60.0) -> Worker:
        """Wait until it consumes and hears commands; its log says "ready." then."""
        end = time.monotonic() + seconds
        while not (re.search(r"\bready\.", self.log) and (self._answers is None or self._answers(self.name))):
            if not self.alive or time.monotonic() > end:
                raise AssertionError(f"{self.name} is not ready (exit {self.process.poll()}):\n{self.log[-6000:]}")
            time.sleep(0.02)
        return self

    def signal(self, sig: int) -> None:
        """Send a signal to the worker itself."""
        self.process.send_signal(sig)

    def kill(self) -> None:
        """Let it die at once, with all its children, as in a power failure."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(60)

    def stop(self, seconds: float = 60.0) -> int | None:
        """Shut it down warmly (SIGTERM); what does not end in time is killed. Returns the exit code."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        with suppress(ProcessLookupError):  # what it left behind
            os.killpg(self.pid, signal.SIGKILL)
        self._file.close()
        return self.process.returncode


class Fleet:
    """Workers on one broker, and clients for them.

    Parameters
    ----------
    url, backend
        The broker, and where results are kept (the same by default).
    tasks
        The module whose ``define(app)`` makes the tasks.
    **conf
        Settings of every app, clients' too.
    """

    living: ClassVar[list[Fleet]] = []

    def __init__(self, url: str, backend: str | None = None, tasks: str = TASKS, **conf: Any) -> None:
        self.url = url
        self.backend = backend or url
        self.tasks = tasks
        self.conf = {**CONF, **conf}
        self.workers: list[Worker] = []
        self._clients: list[Any] = []
        self._folder = tempfile.TemporaryDirectory(prefix="fleet")
        Fleet.living.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # when the test has ended they are gone
            for name, log in self.logs():
                print(f"--- {name}\n{log}")
        self.close()

    def close(self) -> None:
        """Stop everything."""
        for worker in self.workers:
            with suppress(OSError):
                worker.process.terminate()
        for worker in self.workers:
            worker.stop(15)  # what a failed test left running need not end by itself
        for client in self._clients:
            client.close()
        if self in Fleet.living:
            Fleet.living.remove(self)
        self._folder.cleanup()

    # -- workers ----------------------------------------------------------------------------------------------------

    def celery(
        self,
        pool: str = "solo",
        concurrency: int = 2,
        *,
        events: bool = False,
        queues: str = "",
        name: str | None = None,
        arguments: Sequence[str] = ("--without-gossip", "--without-mingle"),
        wait: bool = True,
    ) -> Worker:
        """Start a worker of Celery's: prefork, threads or solo."""
        name = name or f"celery{len(self.workers)}@here"
        command = [sys.executable, "-m", "celery", "-A", "tests.cluster.celery_app", "worker", "-l", "INFO"]
        command += ["--pool", pool, "-c", str(concurrency), "-n", name, *arguments]
        command += ["-E"] if events else []
        command += ["-Q", queues] if queues else []
        # On Redis it says that it is ready, and begins to listen for commands then; in `solo`, behind its first task.
        answers = self._answers if self.url.startswith("redis") and pool != "solo" else None
        return self._start("celery", name, command, wait, answers)

    def ours(
        self,
        pool: str = "threads",
        concurrency: int = 2,
        *,
        queues: str = "",
        name: str | None = None,
        arguments: Sequence[str] = (),
        wait: bool = True,
    ) -> Worker:
        """Start a worker of nbcanvas: threads, processes or solo."""
        name = name or f"ours{len(self.workers)}@here"
        command = [str(Path(sys.executable).parent / "nbcanvas"), "worker", "-A", "tests.cluster.nbcanvas_app"]
        command += ["--pool", pool, "-c", str(concurrency), "-n", name, *arguments]
        command += ["-Q", queues] if queues else []
        return self._start("ours", name, command, wait)

    def _start(
        self,
        kind: str,
        name: str,
        command: Sequence[str],
        wait: bool,
        answers: Callable[[str], object] | None = None,
    ) -> Worker:
        worker = Worker(kind, name, command, self.environment(), Path(self._folder.name), answers)
        self.workers.append(worker)
        return worker.await_ready() if wait else worker

    def _answers(self, name: str) -> object:
        from nbcanvas import App

        app = App("asks", broker=self.url, set_as_current=False, **self.conf)
        try:
            return app.control.ping(destination=[name], timeout=1)
        finally:
            app.close()

    def environment(self) -> dict[str, str]:
        """Return the environment that a worker, or any process with one of the two apps, is started with."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(("CELERY", "NBCANVAS"))},
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "FLEET": json.dumps([self.url, self.backend, self.tasks, self.conf]),
        }

    # -- clients ----------------------------------------------------------------------------------------------------

    def client(self, **conf: Any) -> Any:
        """Return an app of ours on this broker, with the tasks defined; closed with the fleet."""
        app = our_app(self.url, self.backend, self.tasks, {**self.conf, **conf})
        self._clients.append(app)
        return app

    def celery_client(self, **conf: Any) -> Any:
        """Return an app of Celery's on this broker, with the tasks defined; closed with the fleet.

        It is Celery's current app from now on: some results that Celery makes ask no other.
        """
        app = celerys_app(self.url, self.backend, self.tasks, {**self.conf, **conf})
        app.set_current()
        self._clients.append(app)
        return app

    @classmethod
    def workers_of(cls, client: Any) -> list[str]:
        """Return the names of the workers of the fleet that a client is of."""
        return [one.name for fleet in cls.living if client in fleet._clients for one in fleet.workers]

    def logs(self) -> list[tuple[str, str]]:
        """Return each worker's name and the end of what it wrote."""
        return [(worker.name, worker.log[-12000:]) for worker in self.workers]


def our_app(url: str, backend: str, tasks: str, conf: dict[str, Any]) -> Any:
    from nbcanvas import App

    app = App("fleet", broker=url, backend=backend, set_as_current=False, **conf)
    _module(tasks).define(app)
    return app


def celerys_app(url: str, backend: str, tasks: str, conf: dict[str, Any]) -> Any:
    import celery

    app = unshared(celery.Celery("fleet", broker=url, backend=backend, set_as_current=False))
    app.conf.update(conf)
    _module(tasks).define(app)
    return app


def from_environment(make: Any) -> Any:
    """Return the app that the environment of a worker describes."""
    return make(*json.loads(os.environ["FLEET"]))


def _module(name: str) -> Any:
    from importlib import import_module

    return import_module(name)
