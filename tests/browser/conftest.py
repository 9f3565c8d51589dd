"""One JupyterLab and one Chromium for all tests of this folder; a page and a notebook for each."""

import os
from pathlib import Path

import pytest

from tests.browser.lab import Notebook, chromium, lab_server


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(lab_folder):
    with lab_server(lab_folder) as address:
        yield address


@pytest.fixture(scope="session")
def chrome(lab):  # after the server, so that it is closed before it
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(lab, lab_folder, chrome, request):
    opened = []

    def opens(*cells: str, width: int = 1100, height: int = 800) -> Notebook:
        page = chrome.new_page(viewport={"width": width, "height": height})
        name = f"{request.node.name.partition('[')[0]}-{len(opened)}.ipynb"
        notebook = Notebook(page, lab, lab_folder, name, list(cells))
        opened.append(notebook)
        return notebook

    yield opens
    for notebook in opened:
        notebook.close()
        notebook.page.close()


@pytest.fixture
def picture():
    """Save a screenshot, where ``NBCANVAS_SHOTS`` says; nothing is compared."""
    folder = os.environ.get("NBCANVAS_SHOTS")

    def save(target, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            target.screenshot(path=str(Path(folder) / f"{name}.png"))

    return save
