"""JupyterLab and Notebook 7 in Chromium, driven as a person would: open a notebook, run cells, look, click."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import nbformat

from tests.servers import free_port

#: Other versions of ipykernel, as `make kernels` installs them: a requirements file and a folder for each.
OTHERS = {
    path.stem: Path("build/kernels", path.stem).resolve()
    for path in sorted(Path(__file__).parent.joinpath("kernels").glob("*.txt"))
}
#: The one of this Python.
INSTALLED = f"ipykernel-{version('ipykernel')}"
KERNELS = (*OTHERS, INSTALLED)
FRONTS = ("lab", "notebook")

# The notebook's panel, also when another tab has the focus.
PANEL = "[...window.jupyterapp.shell.widgets('main')].find((widget) => widget.content?.model?.cells)"
READY = f"""() => {{
  if (!window.jupyterapp?.shell.currentWidget) return false;
  const context = ({PANEL})?.sessionContext;
  return Boolean(context?.isReady && context.session?.kernel?.connectionStatus === "connected"
                 && context.session.kernel.status === "idle");
}}"""
STATUS = f"() => ({PANEL})?.sessionContext?.session?.kernel?.status"
OUTPUTS = f"(index) => ({PANEL}).content.model.cells.get(index).outputs.toJSON()"
WRITE = f"([index, text]) => {{ ({PANEL}).content.model.cells.get(index).sharedModel.setSource(text); }}"
RUN = f"""([index]) => {{
  const panel = {PANEL};
  panel.content.activeCellIndex = index;
  panel.content.deselectAll();
  panel.content.model.cells.get(index).executionCount = null;  // which number it had says nothing: a kernel starts anew
  // Started, never awaited here: with a dialog open it would not come back.
  window.jupyterapp.commands.execute("notebook:run-cell").catch((error) => {{ window.__failed = String(error); }});
  return null;
}}"""
COUNT = f"(index) => ({PANEL}).content.model.cells.get(index).executionCount"
RAN = f"(index) => ({PANEL}).content.model.cells.get(index).executionCount !== null"
RESTART = f"() => {{ ({PANEL}).sessionContext.session.kernel.restart().catch(() => undefined); return null; }}"
CLOSE = f"() => {{ ({PANEL}).sessionContext.shutdown().catch(() => undefined); return null; }}"
SAVED = f"() => !({PANEL}).context.model.dirty"
OPEN = f"() => Boolean(window.jupyterapp?.shell.currentWidget && ({PANEL})?.content.widgets.length > 1)"
TRUSTED = f"(index) => ({PANEL}).content.model.cells.get(index).trusted"
THEME = """(name) => { window.jupyterapp.commands.execute("apputils:change-theme", { theme: name }); return null; }"""


@contextmanager
def lab_server(folder: Path):
    """Start a server of JupyterLab and Notebook 7 on an empty folder, with settings and kernels of its own.

    Yields its address.
    """
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
                # A kernel's first completion imports much; what comes later than this is not shown.
                "@jupyterlab/completer-extension:manager": {"providerTimeout": 60_000},
            }
        )
    )
    for name in KERNELS:
        write_kernel(places["data"] / "kernels" / name, name)
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
                "--JupyterNotebookApp.expose_app_in_browser=True",
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


def write_kernel(folder: Path, name: str) -> None:
    environment = {}
    if name in OTHERS:
        if not OTHERS[name].joinpath(".installed").exists():
            raise RuntimeError(f"{name} is not there: make kernels")
        environment["PYTHONPATH"] = os.pathsep.join([str(OTHERS[name]), *filter(None, [os.environ.get("PYTHONPATH")])])
    folder.mkdir(parents=True)
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
        "env": environment,
    }
    (folder / "kernel.json").write_text(json.dumps(spec))


def wait_for_server(server, address: str, log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended:\n{log.read_text()}")
        try:
            urllib.request.urlopen(address, timeout=10).close()
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

    def __init__(
        self, page, address: str, path: Path, cells: list[str], front: str, kernel: str, *, waits: bool = True
    ) -> None:
        """Open a notebook of these cells, or the one that is there; wait for its kernel, or only for its cells."""
        self.page = page
        self.path = path
        self.url = f"{address}/lab/tree/{path.name}?reset" if front == "lab" else f"{address}/notebooks/{path.name}"
        if cells:
            notebook = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(source) for source in cells],
                metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
            )
            nbformat.write(notebook, path)
        page.goto(self.url)
        if waits:
            self.idle(120)  # the page, and a kernel, are loaded
        else:
            page.wait_for_function(OPEN)

    def write(self, index: int, source: str) -> None:
        """Put another text into a cell."""
        self.page.evaluate(WRITE, [index, source])

    def run(self, index: int) -> None:
        """Start a cell; does not wait for it."""
        self.page.evaluate(RUN, [index])

    def idle(self, timeout: float = 60) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(READY, timeout=timeout * 1000)

    def count(self, index: int) -> int | None:
        """Return the number of a cell, None while it runs."""
        return self.page.evaluate(COUNT, index)

    def run_and_wait(self, index: int) -> None:
        self.run(index)
        self.page.wait_for_function(RAN, arg=index)
        self.idle()

    def busy(self) -> None:
        """Wait until the kernel is at work."""
        self.page.wait_for_function(f"{STATUS.removeprefix('() => ')} === 'busy'")

    def restart(self) -> None:
        """Restart the kernel, without asking."""
        self.page.evaluate(RESTART)

    def trusts(self, index: int) -> bool:
        """Whether the front end trusts a cell."""
        return self.page.evaluate(TRUSTED, index)

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

    def reload(self, *, kernel_is_busy: bool = False) -> None:
        """Save, and load the page again."""
        self.save()
        self.page.reload()
        if not kernel_is_busy:
            self.idle(120)

    def save(self) -> dict:
        """Save the notebook, as it is, and return what was written."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('docmanager:save'); return null; }")
        self.page.wait_for_function(SAVED)
        return nbformat.read(self.path, as_version=4)

    def command(self, name: str) -> None:
        """Start a command of the front end."""
        self.page.evaluate(
            "(name) => { window.jupyterapp.commands.execute(name).catch(() => undefined); return null; }", name
        )

    def cell(self, index: int):
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def theme(self, name: str) -> None:
        self.page.evaluate(THEME, name)
        # Written when the theme's style sheet is there, and the one before it gone.
        self.page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached")

    def close(self) -> None:
        self.page.evaluate(CLOSE)
        self.page.wait_for_timeout(200)
