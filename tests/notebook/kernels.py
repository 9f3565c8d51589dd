"""A real ipykernel of this Python, and every message it sends."""

import json
import os
import queue
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager


@dataclass
class Cell:
    """One executed cell: what it sent, and how it was answered."""

    id: str
    messages: list = field(default_factory=list)
    reply: dict | None = None
    waits: int = 0  # that had begun before it

    def of(self, kind: str) -> list[dict]:
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    @property
    def status(self) -> str | None:
        return self.reply["content"]["status"] if self.reply else None

    @property
    def value(self) -> str | None:
        found = self.of("execute_result")
        return found[0]["data"]["text/plain"] if found else None

    @property
    def error(self) -> dict | None:
        found = self.of("error")
        return found[0] if found else None

    @property
    def printed(self) -> str:
        return "".join(content["text"] for content in self.of("stream"))


class Kernel:
    """A client that keeps everything it hears."""

    def __init__(self, manager, folder) -> None:
        self.manager = manager
        self._waits, self._enough = folder / "waits", folder / "enough"
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)
        self.heard: list[tuple[float, dict]] = []
        self.cells: dict[str, Cell] = {}
        self._stopping = False
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stopping:
            for channel in (self.client.iopub_channel, self.client.shell_channel):
                try:
                    message = channel.get_msg(timeout=0.02)
                except queue.Empty:
                    continue
                except Exception:
                    if self._stopping:
                        return
                    raise
                self._take(message)

    def _take(self, message) -> None:
        self.heard.append((time.monotonic(), message))
        with self._starting:
            cell = self.cells.get(message["parent_header"].get("msg_id"))
        if cell is not None:
            if message["msg_type"] == "execute_reply":
                cell.reply = message
            else:
                cell.messages.append(message)

    def start(self, code: str) -> Cell:
        """Send a cell; does not wait for it."""
        before = self.waits
        with self._starting:  # what it says at once is its own, too
            cell = Cell(self.client.execute(code, store_history=True, stop_on_error=True), waits=before)
            self.cells[cell.id] = cell
        return cell

    def wait(self, cell: Cell, seconds: float = 90) -> Cell:
        until = time.monotonic() + seconds
        while cell.reply is None or not any(content["execution_state"] == "idle" for content in cell.of("status")):
            if cell.status == "aborted":
                return cell
            assert time.monotonic() < until, f"the cell does not end: {cell.messages}"
            time.sleep(0.01)
        return cell

    def run(self, code: str, seconds: float = 90) -> Cell:
        """Run a cell that must succeed."""
        cell = self.wait(self.start(code), seconds)
        assert cell.status == "ok", cell.error
        return cell

    def of(self, kind: str, since: float = 0.0) -> list[tuple[float, dict]]:
        return [(at, message) for at, message in list(self.heard) if message["msg_type"] == kind and at >= since]

    @property
    def waits(self) -> int:
        """How often a cell began to wait for a run (`WAITS` of the conftest counts)."""
        return self._waits.stat().st_size if self._waits.exists() else 0

    def begun(self, cell: Cell, waits: int = 1, seconds: float = 60) -> None:
        """Wait until a cell runs, and has come to where it waits for a run: the last of so many times."""
        until = time.monotonic() + seconds
        while self.waits < cell.waits + waits:
            assert time.monotonic() < until, f"the cell does not begin to wait: {cell.messages}"
            time.sleep(0.01)

    def hold(self, until: str) -> Cell:
        """Start a cell that holds the kernel up until something is so, or it is interrupted; return it at work."""
        cell = self.start(f"print('at work', flush=True)\nwhile not ({until}): time.sleep(0.01)")
        self.said(cell)
        return cell

    def said(self, cell: Cell, seconds: float = 60) -> None:
        """Wait until a cell has printed something."""
        until = time.monotonic() + seconds
        while not cell.printed:
            assert time.monotonic() < until, f"the cell says nothing: {cell.messages}"
            time.sleep(0.01)

    def enough(self) -> None:
        """Let tasks that take their time (`WAITS` of the conftest) take none from now on."""
        self._enough.touch()

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def close(self) -> None:
        self._stopping = True
        self._thread.join(5)
        self.client.stop_channels()


@contextmanager
def started_kernel(folder, **environment):
    """Start a kernel of this very Python, with a home of its own."""
    spec = folder / "kernels" / "under-test"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Python under test",
                "language": "python",
            }
        )
    )
    manager = KernelManager(
        kernel_name="under-test",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False),
    )
    clean = {
        name: value for name, value in os.environ.items() if name not in {"PYTEST_CURRENT_TEST", "NBCANVAS_DISPLAY"}
    }
    manager.start_kernel(
        env={**clean, "IPYTHONDIR": str(folder / "ipython"), "HOME": str(folder), **environment}, cwd=str(folder)
    )
    try:
        kernel = Kernel(manager, folder)
        try:
            yield kernel
        finally:
            kernel.close()
    finally:
        manager.shutdown_kernel(now=True)
