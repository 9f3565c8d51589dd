"""One server and one Chromium for all tests of this folder; a page and a notebook for each."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.lab import INSTALLED, Notebook, chromium, lab_server


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(lab_folder):
    with lab_server(lab_folder) as address:
        yield address


@pytest.fixture(scope="session")
def chrome(lab, driver):  # after the server, so that it is closed before it
    browser = driver.chromium.launch(
        executable_path=chromium(),
        args=["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"],
        timeout=120_000,
    )
    yield browser
    browser.close()


@contextmanager
def opening(lab, folder, chrome, name):
    """Yield what opens notebooks called `name`; they are closed, and their kernels shut down, in the end."""
    opened = []

    def opens(
        *cells: str, front="lab", kernel=INSTALLED, path=None, prepare=None, width=1100, height=800, **how
    ) -> Notebook:
        page = chrome.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(60_000)  # a machine may stall
        if prepare is not None:
            prepare(page)
        path = path or folder / f"{name}-{len(opened)}.ipynb"
        notebook = Notebook(page, lab, path, list(cells), front, kernel, **how)
        opened.append(notebook)
        return notebook

    yield opens
    for notebook in opened:
        if notebook.page.url != "about:blank":
            notebook.close()
        notebook.page.close()


@pytest.fixture
def open_notebook(lab, lab_folder, chrome, request):
    with opening(lab, lab_folder, chrome, request.node.name.partition("[")[0]) as opens:
        yield opens


@pytest.fixture
def picture():
    """Save a screenshot, where ``NBCANVAS_SHOTS`` says; nothing is compared."""
    folder = os.environ.get("NBCANVAS_SHOTS")

    def save(target, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            target.screenshot(path=str(Path(folder) / f"{name}.png"))

    return save
