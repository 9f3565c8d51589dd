"""Notebooks are tests: a user's notebook with every feature in it compares, in every runner there is."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from nbcanvas.notebook.options import ARGUMENTS, VIEWS
from nbcanvas.notebook.panel import COMMANDS, INSPECTIONS
from nbcanvas.notebook.save import save
from tests.notebook.every_feature import CELLS, notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # nbval and nbclient in processes of their own


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The notebook, with the outputs that were saved in a folder that is none of those below."""
    path = tmp_path_factory.mktemp("saved") / "every_feature.ipynb"
    nbformat.write(notebook(), path)
    save(path)
    return path


def environment():
    """Return what a person's shell has: no test runner in it."""
    return {
        name: value for name, value in os.environ.items() if name not in {"PYTEST_CURRENT_TEST", "NBCANVAS_DISPLAY"}
    }


def pytest_over(folder, *args):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder]
    return subprocess.run(
        [*command, *args], capture_output=True, text=True, timeout=400, cwd=folder, env=environment(), check=False
    )


@pytest.fixture
def moved(saved, tmp_path):
    """The saved notebook in another folder, where its kernel will run."""
    return shutil.copy(saved, tmp_path / "of_a_user.ipynb")


@pytest.fixture
def busy_machine():
    """Keep every processor busy."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for hog in hogs:
        hog.kill()
        hog.wait()


# -- the notebook -----------------------------------------------------------------------------------------------------


def test_it_uses_every_option_and_every_view():
    lines = [cell.partition("\n")[0].split() for cell in CELLS if cell.startswith("%%canvas")]
    used = {word.partition("=")[0] for words in lines for word in words}
    assert [flags for flags, _ in ARGUMENTS if not used & set(flags)] == []
    views = {words[words.index("--view") + 1] for words in lines if "--view" in words}
    assert set(VIEWS) - views == set()


def test_it_uses_every_command_and_every_inspection():
    lines = [cell.split() for cell in CELLS if re.match(r"%canvas\b", cell)]
    assert set(COMMANDS) - {words[1] for words in lines if len(words) > 1} == set()
    assert set(INSPECTIONS) - {words[2] for words in lines if words[1:2] == ["inspect"]} == set()
    assert any(len(words) == 1 for words in lines)


def test_cells_fail_that_should_and_show_what_they_should(saved):
    made = nbformat.read(saved, as_version=4)
    for cell in made.cells:
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == ("raises-exception" in cell.metadata.get("tags", [])), cell.source
    shown = nbformat.writes(made)
    assert "embedded@" not in shown
    assert "ipykernel_" not in re.sub(r'"traceback": \[.*?\]', "", shown, flags=re.DOTALL)
    assert str(saved.parent) not in shown


# -- the runners ------------------------------------------------------------------------------------------------------


def test_nbval_without_a_sanitise_file(moved, tmp_path):
    done = pytest_over(tmp_path, "--nbval", moved)
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{len(CELLS)} passed" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nbval_three_times_in_a_row_on_a_loaded_machine(moved, tmp_path, busy_machine):
    for _ in range(3):
        done = pytest_over(tmp_path, "--nbval", moved)
        assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.slow
def test_nbmake(moved, tmp_path):
    done = pytest_over(tmp_path, "--nbmake", moved)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "1 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("stored", [True, False], ids=["with widgets' state", "without"])
def test_a_runner_that_nobody_told_of_tests_keeps_stills(tmp_path, monkeypatch, stored):
    for name in ("PYTEST_CURRENT_TEST", "NBCANVAS_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    made = notebook()
    # Live cells do not wait, and what follows at once would find runs on their way: as a person would, wait.
    publishes = "any('publisher' in thread.name for thread in threading.enumerate())"
    made.cells.append(nbformat.v4.new_code_cell(f"import threading\nwhile {publishes}: time.sleep(0.05)"))
    client = NotebookClient(
        made,
        timeout=200,
        iopub_timeout=200,
        kernel_name="python3",
        store_widget_state=stored,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    for cell in made.cells:
        if cell.source.startswith("%%canvas") and "--countdown 600" not in cell.source:
            for output in cell.outputs:
                assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), cell.source
