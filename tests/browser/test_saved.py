"""What is saved is a still: in the file, opened again with and without trust, and as a page without any network."""

import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.browser.conftest import opening
from tests.browser.tools import LIVE, SETUP, live_view, settled, value_now, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

STILL = "[role=progressbar]"
# Tasks that take no end until the test has seen enough.
PACED = """import os
@task
def work(i, flag=None):
    while flag and not os.path.exists(flag):
        time.sleep(0.02)
    if i % 10 == 7:
        raise ValueError(i)
    return i"""


@pytest.fixture(scope="module", params=["lab", "notebook"])
def saved(lab, lab_folder, chrome, request):
    """A notebook of two runs, one of which failed, saved by the front end; its path, and what was saved mid-run."""
    with opening(lab, lab_folder, chrome, f"saved-{request.param}") as opens:
        flag = lab_folder / f"saved-{request.param}-end"
        notebook = opens(
            f"{SETUP}\n{PACED}",
            f"%%canvas -o total\ngroup(work.s(0, {flag.name!r}) for i in range(200)) | tsum.s()",
            "%%canvas -o other --view graph\ngroup(work.s(i) for i in range(30)) | tsum.s()",
            front=request.param,
        )
        notebook.run_and_wait(0)
        notebook.run_and_wait(1)
        live_view(notebook, 1)
        meanwhile = notebook.save()
        flag.touch()
        settled(notebook, 1)
        notebook.run_and_wait(2)
        settled(notebook, 2)
        notebook.save()
        yield notebook.path, meanwhile


def test_the_file_has_stills_and_nothing_of_the_widget(saved):
    path, _ = saved
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata
    for cell, says in zip(
        notebook.cells[1:], ("✓ work ×200", "work ×30 side by side, then tsum. 27 succeeded, 4 failed"), strict=True
    ):
        [output] = cell.outputs
        assert set(output["data"]) == {"text/plain", "text/html"}
        assert not output["metadata"]
        assert says in output["data"]["text/plain"]
    assert LIVE not in path.read_text()
    assert "_esm" not in path.read_text()


def test_what_is_saved_meanwhile_can_be_read_without_the_widget(saved):
    _, meanwhile = saved
    [output] = meanwhile.cells[1].outputs
    assert set(output["data"]) == {"text/plain", "text/html", LIVE}
    assert "work ×200" in output["data"]["text/plain"]
    assert "widgets" not in meanwhile.metadata


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_opened_again_it_shows_the_stills(saved, lab, lab_folder, chrome, request, trusted):
    path, _ = saved
    front = request.node.callspec.params["saved"]
    again = path.with_name(f"again-{path.stem}-{trusted}.ipynb")
    notebook = nbformat.read(path, as_version=4)
    if not trusted:  # trust goes by content
        notebook.cells[0].source += f"\n# seen on another machine, in {front}"
    nbformat.write(notebook, again)
    with opening(lab, lab_folder, chrome, again.stem) as opens:
        opened = opens(front=front, path=again, waits=False)
        still = opened.cell(1).locator("table")
        still.wait_for(state="visible")
        assert opened.trusts(1) is trusted
        assert still.locator("tr").count() == 2
        assert "200/200" in still.inner_text()
        drawn = still.locator("div div").first  # roles are stripped without trust, colours are not
        assert drawn.bounding_box()["width"] > 100
        assert drawn.evaluate("(bar) => getComputedStyle(bar).backgroundColor") != "rgba(0, 0, 0, 0)"
        assert opened.cell(2).locator("img, table").count()
        assert opened.page.locator(".nbc-live").count() == 0
        assert "Error displaying widget" not in opened.page.locator(".jp-Notebook").inner_text()


def test_converted_to_html_it_needs_no_network(saved, chrome, tmp_path, picture):
    path, _ = saved
    page = tmp_path / "notebook.html"
    page.write_text(HTMLExporter().from_filename(str(path))[0])
    opened = chrome.new_page(viewport={"width": 1000, "height": 900})
    refused = []
    opened.route(
        lambda url: not url.startswith("file:"), lambda route: (refused.append(route.request.url), route.abort())
    )
    opened.goto(page.as_uri(), wait_until="domcontentloaded")
    assert opened.locator(STILL).first.is_visible()
    assert "200/200" in opened.locator("body").inner_text()
    assert opened.locator(".jupyter-widgets, .nbc-live").count() == 0
    picture(opened, f"nbconvert-{path.stem}")
    opened.close()


def test_a_notebook_closed_and_opened_again_while_the_run_goes_on(lab, lab_folder, chrome):
    with opening(lab, lab_folder, chrome, "left") as opens:
        long = "group(work.s(0, 0.1 if i < 1200 else 1) for i in range(2400)) | tsum.s()"  # five minutes
        notebook = opens(SETUP, f"%%canvas -o total\n{long}", "total.cancel()")
        notebook.run_and_wait(0)
        notebook.run_and_wait(1)
        wait_until(notebook.page, lambda: value_now(live_view(notebook, 1)) > 1)
        before = value_now(live_view(notebook, 1))
        notebook.save()
        notebook.page.goto("about:blank")
        again = opens(path=notebook.path)
        view = live_view(again, 1)
        assert value_now(view) >= before
        view.locator(".nbc-cancel").click()
        wait_until(again.page, lambda: "revoked" in view.locator(".nbc-state").inner_text())
        # Left once more, it is over when somebody comes back: how it ended is still there.
        again.page.goto("about:blank")
        last = opens(path=notebook.path)
        state = live_view(last, 1).locator(".nbc-state")
        wait_until(last.page, lambda: "revoked" in state.inner_text(), says=state.inner_text)
