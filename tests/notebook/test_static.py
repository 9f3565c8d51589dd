"""Notebooks are tests: static display, and what other ways there are to show a run."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from nbcanvas.notebook import CellError, UnknownOption
from nbcanvas.notebook.save import main, save
from tests.servers import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # nbval and nbclient in processes of their own

TASKS = """%load_ext nbcanvas
import time, random
from nbcanvas import task, group, chord, chain, StampingVisitor
@task
def add(x, y):
    time.sleep(random.random() / 100)
    return x + y
@task
def tsum(numbers): return sum(numbers)
@task
def fail(x): raise ValueError(x)
@task(bind=True, default_retry_delay=0.01)
def shaky(self, x):
    if self.request.retries == 0:
        raise self.retry()
    return x"""

VALUES = [
    TASKS,
    "%%canvas -o total\ngroup(add.s(i, i) for i in range(100)) | tsum.s()",
    "total.get()",
    "total",
    "%%canvas -w\nchain(add.s(1, 2), shaky.s(), add.s(4))",
    "add.s(2, 2) | tsum.s()",
    "total.id, total.result.id",
    "%%canvas\nchord([add.s(1, 1), fail.s(2)], tsum.s())",
    "%%canvas --dry-run\ngroup(add.s(i, i) for i in range(10)) | tsum.s()",
    "%canvas list",
]
TABLES = [
    TASKS,
    """class Half(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {'half': sig.args[0] % 2 if sig.args else None}""",
    "%%canvas -o total -V Half -s experiment=42 -f df\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "df[['task_id', 'name', 'path', 'args', 'state', 'result', 'retries', 'experiment']]",
    "%%canvas --view table\ngroup(add.s(i, i) for i in range(6)) | tsum.s()",
    "%%canvas --view graph\ngroup(shaky.s(i) for i in range(6)) | tsum.s()",
    "total.state, dict(total.counts)",
    "%canvas tasks",
]
CLOCKS = [
    TASKS,
    "%canvas worker start -c 2",
    "%%canvas -o run\ngroup(add.s(i, i) for i in range(4)) | tsum.s()",
    "run.frame()",
    "run.frame()[['sent', 'runtime', 'worker']]",
    "%canvas runs",
    "%canvas",
    "%canvas cancel run",
    "(add.s(1, 1) | tsum.s()).explain()",
    "%%canvas -w\nadd.s(1, 1) | fail.s()",
]


def environment(**more):
    clean = {
        name: value for name, value in os.environ.items() if name not in {"PYTEST_CURRENT_TEST", "NBCANVAS_DISPLAY"}
    }
    return {**clean, "JUPYTER_PLATFORM_DIRS": "1", **more}


def made(cells):
    """Make a notebook; cells that fail are marked, as nbval wants it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    for cell in notebook.cells:
        if "fail.s()" in cell.source:
            cell.metadata["tags"] = ["raises-exception"]
    return notebook


def executed(cells, monkeypatch, between=lambda **_: None, **env):
    """Execute cells as nbclient does, without a test runner in sight unless `env` says so.

    `between` is called after each of them.
    """
    for name in ("PYTEST_CURRENT_TEST", "NBCANVAS_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    notebook = made(cells)
    client = NotebookClient(notebook, timeout=200, iopub_timeout=200, kernel_name="python3", store_widget_state=False)
    client.on_cell_executed = between
    client.execute()
    return notebook


def compared(notebook, tmp_path):
    """Have nbval run a notebook again and compare what it shows."""
    path = tmp_path / "notebook.ipynb"
    nbformat.write(notebook, path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval",
        "--rootdir",
        str(tmp_path),
        "-c",
        os.devnull,
        str(path),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=200, cwd=tmp_path, env=environment(), check=False
    )


@pytest.mark.parametrize("cells", [VALUES, TABLES, CLOCKS], ids=["values", "tables", "clocks"])
def test_nbval_compares_a_notebook_without_a_sanitise_file(tmp_path, monkeypatch, cells):
    notebook = executed(cells, monkeypatch, NBCANVAS_DISPLAY="static")
    done = compared(notebook, tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{len(cells)} passed" in done.stdout


def test_no_host_and_no_clock_in_a_static_notebook(monkeypatch):
    notebook = executed(CLOCKS, monkeypatch, NBCANVAS_DISPLAY="static")
    shown = nbformat.writes(notebook)
    assert socket.gethostname() not in shown
    assert "embedded@" not in shown
    frame = notebook.cells[4].outputs[0]["data"]["text/plain"]
    assert re.findall(r"NaT|NaN", frame) == ["NaT", "NaT", "NaN"] * 5
    explained = notebook.cells[8].outputs[0]["data"]
    assert explained["text/plain"].startswith("2 tasks: ")
    assert "<ul>" in explained["text/html"]


def test_a_notebook_is_saved_in_static_mode(tmp_path):
    path = tmp_path / "mine.ipynb"
    notebook = made(VALUES)
    notebook.metadata["title"] = "mine"
    ids = [cell["id"] for cell in notebook.cells]
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "nbcanvas.notebook.save", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (0, f"saved {path}\n"), done.stderr
    saved = nbformat.read(path, as_version=4)
    assert saved.metadata == {"title": "mine"}
    assert [cell["id"] for cell in saved.cells] == ids
    assert saved.cells[2].outputs[0]["data"]["text/plain"] == "9900"
    assert "ms" not in saved.cells[1].outputs[0]["data"]["text/plain"]


def test_a_notebook_that_fails_is_left_alone(tmp_path):
    path = tmp_path / "mine.ipynb"
    nbformat.write(made(["1 + 1", "1 / 0"]), path)
    before = path.read_bytes()
    with pytest.raises(CellError, match=r"(?s)mine.ipynb is left as it was.*ZeroDivisionError"):
        save(path)
    assert path.read_bytes() == before


def test_saving_into_a_file_or_a_pipe_tells_without_colours(tmp_path, capsys):
    path = tmp_path / "mine.ipynb"
    nbformat.write(made(["1 / 0"]), path)
    assert main([str(path)]) == 1
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told and "\x1b" not in told
    with pytest.raises(CellError, match="cannot be read as a notebook"):
        save(tmp_path / "none.ipynb")


def test_saving_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbclient", None)
    with pytest.raises(CellError, match="needs nbclient"):
        save(tmp_path / "mine.ipynb")


def test_nbval_notices_another_value(tmp_path, monkeypatch):
    notebook = executed(VALUES[:3], monkeypatch, NBCANVAS_DISPLAY="static")
    notebook.cells[1].source = notebook.cells[1].source.replace("100", "99")
    done = compared(notebook, tmp_path)
    assert done.returncode == 1
    assert "2 failed" in done.stdout


def test_a_live_notebook_executed_by_nbclient_keeps_the_stills(monkeypatch):
    cells = [
        TASKS,
        "%%canvas -o total\ngroup(add.s(i, i) for i in range(100)) | tsum.s()",
        "total.get()",
        "%%canvas -w -o other\ngroup(add.s(i, i) for i in range(200)) | tsum.s()",
        "import threading\nwhile any('publisher' in one.name for one in threading.enumerate()): time.sleep(0.05)",
    ]
    notebook = executed(cells, monkeypatch)
    for place in (1, 3):
        first = notebook.cells[place].outputs[0]
        assert set(first["data"]) == {"text/plain", "text/html"}
        assert "succeeded" in first["data"]["text/plain"]
    assert notebook.cells[3].outputs[1]["data"]["text/plain"] == "39800"


def test_a_run_that_ends_between_two_cells_leaves_its_still(monkeypatch, tmp_path):
    """What nbclient hears between two cells it drops."""
    asked, ended = tmp_path / "asked", tmp_path / "ended"
    tells = f"""
import os, threading
def tells():
    while not os.path.exists({str(asked)!r}): time.sleep(0.05)
    while any("publisher" in one.name for one in threading.enumerate()): time.sleep(0.05)
    open({str(ended)!r}, "x").close()
threading.Thread(target=tells, daemon=True).start()"""
    cells = [TASKS + tells, "%%canvas -o total\ngroup(add.s(i, i) for i in range(200)) | tsum.s()", "1 + 1"]

    def between(cell_index, **_):
        if cell_index == 1:
            asked.touch()
            until(ended.exists)

    notebook = executed(cells, monkeypatch, between=between)
    [shown] = notebook.cells[1].outputs
    assert "succeeded" in shown["data"]["text/plain"]


def test_text_and_none(shell, monkeypatch):
    monkeypatch.setenv("NBCANVAS_DISPLAY", "text")
    [bundle] = shell.shows("%%canvas -w\nadd.s(1, 1)")
    assert set(bundle) == {"text/plain"}
    assert "1/1" in bundle["text/plain"]
    monkeypatch.setenv("NBCANVAS_DISPLAY", "none")
    assert shell.shows("%%canvas -w\nadd.s(1, 1)") == []
    monkeypatch.setenv("NBCANVAS_DISPLAY", "pretty")
    told = shell.error("%%canvas\nadd.s(1, 1)")
    assert isinstance(told.error, UnknownOption)
    assert "NBCANVAS_DISPLAY" in str(told.error)


def test_a_terminal_shows_text(shell, monkeypatch):
    monkeypatch.setenv("NBCANVAS_DISPLAY", "live")
    [bundle] = shell.shows("%%canvas -o total\nnap.s(0.3)")
    assert set(bundle) == {"text/plain"}
    shell["total"].wait(60)


def test_static_pictures_say_no_times_and_no_workers(shell):
    [bundle] = shell.shows("%%canvas -o total\ngroup(nap.s(0.02) for i in range(3)) | tsum.s()")
    for text in bundle.values():
        assert not re.search(r"\d ?m?s\b|embedded|/s\b", re.sub(r'style="[^"]*"', "", text))
    formats, _ = shell.ip.display_formatter.format(shell["total"])
    assert not re.search(r"\d m?s\b|/s\b", formats["text/plain"])


def test_ids_are_seeded_per_app_not_per_load(shell):
    shell.run("%%canvas -o first\nadd.s(1, 1)")
    shell.run("%reload_ext nbcanvas")
    shell.run("%%canvas -o second\nadd.s(1, 1)")
    assert shell["first"].id != shell["second"].id


def test_without_the_widget_html_is_updated(kernel, eventually):
    kernel.run("import sys; sys.modules['nbcanvas.notebook.widgets'] = None")
    cell = kernel.run("%%canvas -o total\ngroup(nap.s(0.1) for i in range(80)) | tsum.s()")
    [shown] = cell.of("display_data")
    assert set(shown["data"]) == {"text/plain", "text/html"}
    kernel.run("total.wait()")
    eventually(lambda: "succeeded" in str(kernel.of("update_display_data")[-1:]))
    assert len(kernel.of("update_display_data")) >= 4


def test_frames_have_clocks_where_nothing_is_compared(shell, monkeypatch):
    shell.run("%%canvas -o total\nadd.s(1, 1)")
    columns = ["sent", "started", "finished", "wait", "runtime", "worker"]
    assert shell["total"].frame()[columns].isna().all(axis=None)
    assert shell["total"].frame(clocks=True)[columns].notna().all(axis=None)  # who asks gets them
    assert shell.run("%canvas runs")[["started", "runtime"]].isna().all(axis=None)
    monkeypatch.setenv("NBCANVAS_DISPLAY", "live")
    assert shell["total"].frame()[columns].notna().all(axis=None)
    times = shell.run("%canvas runs")[["started", "runtime"]]
    assert times.notna().all(axis=None)
    assert (times.started == times.started.dt.floor("s")).all()
    assert (times.runtime == times.runtime.dt.floor("ms")).all()
    assert "embedded@" in repr(shell.run("%canvas"))


def test_a_failure_names_its_worker_where_nothing_is_compared(shell, monkeypatch):
    assert "embedded" not in shell.error("%%canvas -w\nfail.s(1)").text
    monkeypatch.setenv("NBCANVAS_DISPLAY", "none")
    assert "on embedded@" in shell.error("%%canvas -w\nfail.s(1)").text


def test_saved_tracebacks_name_no_folders_of_this_machine(tmp_path):
    path = tmp_path / "mine.ipynb"
    notebook = made(["import json\njson.loads('{')", "raise OSError('/some/where/else.txt')"])
    for cell in notebook.cells:
        cell.metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    save(path)
    parsed, raised = ("\n".join(cell.outputs[0].traceback) for cell in nbformat.read(path, as_version=4).cells)
    plain = re.sub(r"\x1b\[[\d;]*m", "", parsed)
    assert re.search(r"^File decoder\.py:\d+", plain, re.MULTILINE)
    assert str(Path(os.__file__).parent) not in parsed
    assert "/some/where/else.txt" in raised  # what an error says is left alone
