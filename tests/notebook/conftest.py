"""A shell with the extension in it, and a real kernel."""

import atexit
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbcanvas
from nbcanvas.notebook import unload
from tests.notebook.kernels import Kernel, started_kernel

TASKS = """
import threading
import time
from nbcanvas import task, signature, chain, group, chord, chunks, StampingVisitor

@task
def add(x, y):
    "Add two numbers."
    return x + y

@task
def mul(x, y):
    return x * y

@task
def tsum(numbers):
    return sum(numbers)

@task
def fail(x):
    raise ValueError(f"no {x}")

@task
def nap(seconds=0.1):
    time.sleep(seconds)
    return seconds

class Gate:
    "An event that can be shipped, as all that tasks use."
    opened = False

    def set(self):
        self.opened = True

    def clear(self):
        self.opened = False

    def wait(self, seconds=100):
        until = time.monotonic() + seconds
        while not self.opened and time.monotonic() < until:
            time.sleep(0.005)
        return self.opened

gate = Gate()

@task
def held(value=1):
    "Return when the test opens the gate."
    assert gate.wait()
    return value
"""

#: In a kernel: what a test may wait for from outside. The file grows by a letter whenever a wait for a run has begun.
#: And tasks that take their time until the test has seen enough.
WAITS = """
from pathlib import Path
from nbcanvas.run import Run

def heard_since(self, closings, checks=Run._heard_since):
    check, told = checks(self, closings), []
    def tells():  # called only by whoever waits, in the midst of it
        if not told:
            told.append(True)
            with Path("waits").open("a") as waits:
                waits.write("w")
        check()
    return tells

Run._heard_since = heard_since
del heard_since

def enough():
    return Path("enough").exists()

@task
def paced(seconds=0.05):
    if not enough():
        time.sleep(seconds)
    return seconds
"""


class Shell:
    """An InteractiveShell, and what its cells showed and raised."""

    def __init__(self, ip) -> None:
        self.ip = ip
        self.displayed = ip.display_pub = CapturingDisplayPublisher()

    def run(self, cell: str):
        """Run a cell; return its value, or raise what it raised."""
        result = self.ip.run_cell(cell)
        if result.error_before_exec or result.error_in_exec:
            raise result.error_before_exec or result.error_in_exec
        return result.result

    def shows(self, cell: str) -> list[dict]:
        """Run a cell; return the bundles it displayed, its value not among them."""
        before = len(self.displayed.outputs)
        self.run(cell)
        return [output["data"] for output in self.displayed.outputs[before:]]

    def error(self, cell: str) -> SimpleNamespace:
        """Run a cell that fails; return the exception, and what the cell shows of it."""
        result = self.ip.run_cell(cell)
        error = result.error_in_exec or result.error_before_exec
        assert error is not None, "the cell did not fail"
        shown = error._render_traceback_() if hasattr(error, "_render_traceback_") else None
        return SimpleNamespace(error=error, shown=shown, text="\n".join(shown or []))

    def complete(self, text: str, *, line: int = 0, of: str | None = None) -> list[str]:
        """Return what Tab offers at the end of `text`, or of one line of a cell."""
        full = of if of is not None else text
        with self.provisional():
            return [c.text for c in self.ip.Completer.completions(full, len(text))]

    @staticmethod
    def provisional():
        from IPython.core.completer import provisionalcompleter

        return provisionalcompleter()

    def __getitem__(self, name: str):
        return self.ip.user_ns[name]


@contextmanager
def fresh_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    ip = InteractiveShell.instance(config=config)
    ip.colors = "nocolor"
    with nbcanvas.App():
        try:
            yield Shell(ip)
        finally:
            if "gate" in ip.user_ns:
                ip.user_ns["gate"].set()
            unload(ip)
            InteractiveShell.clear_instance()
            # Kept until the process ends, a hundred shells and all they made were a minute's collecting then.
            atexit.unregister(ip.atexit_operations)
            ip.restore_sys_module_state()  # __main__ is pytest's again


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A shell without the extension."""
    with fresh_shell(tmp_path, monkeypatch) as shell:
        yield shell


@pytest.fixture
def shell(bare):
    """A shell with the extension and a few tasks."""
    bare.run("%load_ext nbcanvas")
    bare.run(TASKS)
    return bare


@pytest.fixture
def kernel(tmp_path):
    """A real kernel, as a person has it: no test runner in its environment."""
    with started_kernel(tmp_path) as started:
        started.run("%load_ext nbcanvas\n" + TASKS + WAITS)
        yield started


@pytest.fixture
def eventually():
    """Wait until something is true."""

    def wait(condition, seconds: float = 60.0):
        until = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > until:
                pytest.fail("it did not happen in time")
            time.sleep(0.02)
        return found

    return wait


__all__ = ["Kernel"]
