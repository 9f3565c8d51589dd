"""JupyterLab in Chromium, driven as a person would: open a notebook, run cells, look, click."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat

READY = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  const context = panel?.sessionContext;
  return Boolean(context?.isReady && context.session?.kernel?.connectionStatus === "connected"
                 && context.session.kernel.status === "idle");
}"""
OUTPUTS = """(index) => window.jupyterapp.shell.currentWidget.content.model.cells.get(index).outputs.toJSON()"""
RUN = """([index]) => {
  const panel = window.jupyterapp.shell.currentWidget;
  panel.content.activeCellIndex = index;
  panel.content.deselectAll();
  // Started, never awaited here: with a dialog open it would not come back.
  window.jupyterapp.commands.execute("notebook:run-cell").catch((error) => { window.__failed = String(error); });
  return null;
}"""
COUNT = """(index) => window.jupyterapp.shell.currentWidget.content.model.cells.get(index).executionCount"""
RAN = """([index, before]) => {
  const count = window.jupyterapp.shell.currentWidget.content.model.cells.get(index).executionCount;
  return count !== null && count !== before;
}"""
THEME = """(name) => { window.jupyterapp.commands.execute("apputils:change-theme", { theme: name }); return null; }"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def lab_server(folder: Path):
    """Start JupyterLab on an empty folder, with settings and kernel of its own; yield its address."""
    names = ("config", "data", "runtime", "settings", "workspaces", "ipython")
    places = {name: folder / f".{name}" for name in names}
    for place in places.values():
        place.mkdir(parents=True)
    (places["config"] / "labconfig").mkdir()
    (places["config"] / "labconfig" / "default_setting_overrides.json").write_text(
        json.dumps(
            {
                "@jupyterlab/apputils-extension:notification": {
                    "fetchNews": "false",
                    "checkForUpdates": False,
                    "doNotDisturbMode": True,
                },
                "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
            }
        )
    )
    spec = places["data"] / "kernels" / "python3"
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
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYTEST_CURRENT_TEST", "NBCANVAS_DISPLAY"}
    }
    environment |= {
        "JUPYTER_CONFIG_DIR": str(places["config"]),
        "JUPYTER_DATA_DIR": str(places["data"]),
        "JUPYTER_RUNTIME_DIR": str(places["runtime"]),
        "JUPYTERLAB_SETTINGS_DIR": str(places["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(places["workspaces"]),
        "IPYTHONDIR": str(places["ipython"]),
    }
    with (folder / ".server.log").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--ip=127.0.0.1",
                f"--port={port}",
                "--ServerApp.port_retries=0",
                "--IdentityProvider.token=",
                "--ServerApp.password=",
                "--allow-root",
                "--no-browser",
                "--LabApp.news_url=None",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                "--LabApp.extension_manager=readonly",
                "--LabApp.expose_app_in_browser=True",
                f"--ServerApp.root_dir={folder}",
            ],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_server(server, f"{address}/api", folder / ".server.log")
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for_server(server, address: str, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended:\n{log.read_text()}")
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"JupyterLab did not answer:\n{log.read_text()}")


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise RuntimeError("chromium is not there: make system")
    return found


class Notebook:
    """One notebook, open in a page."""

    def __init__(self, page, address: str, folder: Path, name: str, cells: list[str]) -> None:
        self.page = page
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python under test", "language": "python"}},
        )
        nbformat.write(notebook, folder / name)
        page.goto(f"{address}/lab/tree/{name}?reset")
        page.wait_for_function(READY, timeout=60_000)

    def run(self, index: int) -> None:
        """Start a cell; does not wait for it."""
        self.page.evaluate(RUN, [index])

    def idle(self, timeout: float = 30) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(READY, timeout=timeout * 1000)

    def run_and_wait(self, index: int) -> None:
        before = self.page.evaluate(COUNT, index)
        self.run(index)
        self.page.wait_for_function(RAN, arg=[index, before], timeout=30_000)
        self.idle()

    def outputs(self, index: int) -> list[dict]:
        return self.page.evaluate(OUTPUTS, index)

    def bundles(self, index: int) -> list[dict]:
        return [output["data"] for output in self.outputs(index) if "data" in output]

    def text(self, index: int) -> str:
        """All that a cell printed or raised, and the text of what it displayed."""
        found = []
        for output in self.outputs(index):
            text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("traceback") or ""
            found.append("".join(text) if isinstance(text, list) else text)
        return "\n".join(found)

    def cell(self, index: int):
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def theme(self, name: str) -> None:
        dark = "Dark" in name
        self.page.evaluate(THEME, name)
        self.page.wait_for_selector(
            f'body[data-jp-theme-light="{"false" if dark else "true"}"]', state="attached", timeout=20_000
        )

    def close(self) -> None:
        self.page.evaluate("""() => {
            window.jupyterapp.shell.currentWidget.sessionContext.shutdown().catch(() => undefined); return null; }""")
        self.page.wait_for_timeout(200)
