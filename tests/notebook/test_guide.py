"""The notebooks of the repository are as they should be; `make notebooks` runs and compares them."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: Characters that a cell of JupyterLab shows without scrolling.
WIDTH = 88


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def made(request):
    return read(request.param)


def test_the_index_has_each_of_them():
    linked = re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text("utf-8"))
    assert sorted(linked) == [path.name for path in NOTEBOOKS]


def test_there_is_a_chapter_for_each_part():
    chapters = {"language", "running", "failing", "stamping", "tables", "testing"}
    assert {path.stem for path in NOTEBOOKS} == {"tour", *chapters}
    for path in NOTEBOOKS:
        if path.stem in chapters:
            assert 10 <= len(read(path).cells) <= 18, path.stem


def test_it_was_saved_from_top_to_bottom_and_by_save(made):
    counts = [cell.execution_count for cell in made.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert set(made.metadata) == {"kernelspec", "language_info"}
    nbformat.validate(made)


def test_its_outputs_can_be_read_without_a_kernel_and_say_no_machine(made):
    for cell in made.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            assert "application/vnd.jupyter.widget-view+json" not in data
            assert output.output_type == "error" or output.output_type == "stream" or "text/plain" in data
            failed = output.output_type == "error"
            assert not failed or "raises-exception" in cell.metadata.tags, cell.source
            said = str(output)
            assert not re.search(r"ipykernel_\d|/site-packages/|/tmp/", said), cell.source


def test_its_lines_fit_into_a_cell(made):
    lines = [line for cell in made.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) > WIDTH] == []


def test_what_it_imports_it_uses(made):
    code = [cell.source for cell in made.cells if cell.cell_type == "code"]
    source = "\n".join(re.sub(r"^%.*$", "pass", text, flags=re.MULTILINE) for text in code)
    tree = ast.parse(TransformerManager().transform_cell(source))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported - used == set()


def test_its_links_lead_somewhere(made):
    text = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [link for link in links if not (FOLDER / link).exists()] == []
