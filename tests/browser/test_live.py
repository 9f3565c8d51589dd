"""The live view in JupyterLab: it moves while other cells block, Cancel works, a still takes its place."""

import pytest

pytestmark = pytest.mark.browser

SETUP = """%load_ext nbcanvas
import time
from nbcanvas import task, group
@task
def work(i, seconds=0.05):
    time.sleep(seconds)
    if i % 10 == 7:
        raise ValueError(i)
    return i
@task
def add(x, y): return x + y
@task
def tsum(numbers): return sum(numbers)
@task(bind=True, default_retry_delay=0.2)
def shaky(self, i):
    time.sleep(0.05)
    if self.request.retries == 0 and i % 3 == 0:
        raise self.retry()
    return i
%canvas worker start -c 4
None"""

LIVE = "application/vnd.jupyter.widget-view+json"
DONE = "() => document.querySelectorAll('.nbc-live').length === 0"


def value_now(view) -> int:
    return int(view.locator("[role=progressbar]").first.get_attribute("aria-valuenow"))


def wait_until(page, condition, seconds: float = 20) -> None:
    for _ in range(int(seconds * 20)):
        if condition():
            return
        page.wait_for_timeout(50)
    pytest.fail("it did not happen in time")


def test_the_bars_move_while_another_cell_blocks_and_a_still_takes_their_place(open_notebook):
    notebook = open_notebook(
        SETUP,
        "%%canvas -o total\ngroup(add.s(i, i) | work.s(0.05) for i in range(0, 1600, 10)) | tsum.s()",
        "time.sleep(12); 'slept'",
    )
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    view = notebook.page.locator(".nbc-live")
    view.wait_for(state="visible")
    notebook.run(2)
    seen = set()
    for _ in range(40):
        if view.count() == 0:
            break
        seen.add(value_now(view.locator(".nbc-row").nth(1)))
        notebook.page.wait_for_timeout(50)
    assert "slept" not in notebook.text(2)  # the cell still blocks, and the bars have moved under it
    assert len(seen) >= 4
    notebook.page.wait_for_function(DONE)
    assert "slept" not in notebook.text(2)  # even the still did not wait for the cell
    [still] = notebook.bundles(1)
    assert set(still) == {"text/plain", "text/html"}
    assert "✓ work ×160" in still["text/plain"]
    assert notebook.cell(1).locator("table").count() == 1


def test_cancel_works_while_another_cell_blocks(open_notebook):
    notebook = open_notebook(
        SETUP,
        "%%canvas -o total\ngroup(work.s(0, 0.1) for i in range(400)) | tsum.s()",
        "time.sleep(8); 'slept'",
        "total.counts",
    )
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    notebook.page.locator(".nbc-live").wait_for(state="visible")
    notebook.run(2)
    notebook.page.wait_for_timeout(500)
    notebook.page.locator(".nbc-cancel").click()
    notebook.page.wait_for_function(DONE, timeout=4000)
    assert "slept" not in notebook.text(2)
    assert "revoked" in notebook.bundles(1)[0]["text/plain"]
    notebook.idle()
    notebook.run(3)
    wait_until(notebook.page, lambda: "REVOKED" in notebook.text(3))


def test_cancel_works_while_the_kernel_is_idle(open_notebook):
    notebook = open_notebook(SETUP, "%%canvas -o total\ngroup(work.s(0, 0.1) for i in range(400)) | tsum.s()")
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    notebook.page.locator(".nbc-cancel").click()
    notebook.page.wait_for_function(DONE, timeout=5000)
    assert "revoked" in notebook.bundles(1)[0]["text/plain"]


def test_a_page_that_is_reloaded_shows_the_live_view_again(open_notebook):
    notebook = open_notebook(SETUP, "%%canvas -o total\ngroup(work.s(0, 0.1) for i in range(300)) | tsum.s()")
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    notebook.page.locator(".nbc-live").wait_for(state="visible")
    notebook.page.evaluate("() => { window.jupyterapp.commands.execute('docmanager:save'); return null; }")
    notebook.page.wait_for_timeout(800)
    notebook.page.reload()
    notebook.idle()
    view = notebook.page.locator(".nbc-live")
    view.wait_for(state="visible", timeout=15_000)
    before = value_now(view)
    wait_until(notebook.page, lambda: view.count() == 0 or value_now(view) > before)


def test_a_cell_that_waits_ends_with_the_still_and_its_value(open_notebook):
    notebook = open_notebook(SETUP, "%%canvas -w\ngroup(add.s(i, i) for i in range(100)) | tsum.s()")
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    still, value = notebook.bundles(1)
    assert value["text/plain"] == "9900"
    assert LIVE not in still
    assert notebook.page.locator(".nbc-live").count() == 0


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_view_has_the_colours_of_the_theme(open_notebook, picture, theme):
    notebook = open_notebook(
        SETUP,
        "%%canvas -o total\ngroup(group(add.s(i, i) | work.s(0.08), shaky.s(i)) for i in range(80)) | tsum.s()",
        "%%canvas -o second\ngroup(work.s(i, 0.02) for i in range(60)) | tsum.s()",
        "add.s(2, 2) | group(work.s(i) for i in range(30)) | tsum.s()",
        "%%canvas --dry-run\ngroup(add.s(i, i) for i in range(10)) | tsum.s() | add.s(1, 2)",
    )
    notebook.theme(theme)
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    view = notebook.page.locator(".nbc-live")
    view.wait_for(state="visible")
    notebook.page.wait_for_timeout(1500)
    picture(notebook.cell(1), f"live-{theme.split()[-1].lower()}")
    ink, paper = notebook.page.evaluate("""() => [
        getComputedStyle(document.querySelector('.nbc-live')).color,
        getComputedStyle(document.body).getPropertyValue('--jp-layout-color0').trim()]""")
    assert contrast(notebook.page, ink, paper) >= 4.5
    notebook.page.wait_for_function(DONE, timeout=30_000)
    notebook.run_and_wait(2)
    notebook.page.wait_for_function(DONE, timeout=30_000)
    notebook.run_and_wait(3)
    notebook.run_and_wait(4)
    for index, name in ((1, "still"), (2, "failed"), (3, "signature"), (4, "dry")):
        picture(notebook.cell(index), f"{name}-{theme.split()[-1].lower()}")
    picture(notebook.page, f"page-{theme.split()[-1].lower()}")


def test_errors_and_tables_look_right(open_notebook, picture):
    notebook = open_notebook(
        SETUP,
        "%%canvas -w -o total\ngroup(work.s(i, 0.01) for i in range(60)) | tsum.s()",
        "%%canvas --dry-runn\nadd.s(1, 1)",
        "%canvas",
        "%canvas runs",
        height=1400,
    )
    for index in range(5):
        notebook.run(index)
        wait_until(notebook.page, lambda at=index: at == 0 or notebook.outputs(at))
        notebook.idle()
    assert "chord.header[7] → work(7, 0.01)" in notebook.text(1)
    assert "did you mean --dry-run?" in notebook.text(2)
    picture(notebook.page, "errors")


def test_tab_offers_the_options_and_nothing_else(open_notebook, picture):
    notebook = open_notebook(SETUP, "")
    notebook.run_and_wait(0)
    editor = notebook.cell(1).locator(".cm-content")
    editor.click()
    editor.press_sequentially("%%canvas -o total --")
    editor.press("Tab")
    items = notebook.page.locator(".jp-Completer-item .jp-Completer-match")
    items.first.wait_for(state="visible", timeout=10_000)
    offered = items.all_inner_texts()
    picture(notebook.page, "completion")
    assert "--wait" in offered
    assert "--dry-run" in offered
    assert all(text.startswith("--") for text in offered)


def test_keys_on_the_cancel_button_do_not_reach_the_notebook(open_notebook):
    notebook = open_notebook(SETUP, "%%canvas\ngroup(work.s(0, 0.1) for i in range(200)) | tsum.s()", "1 + 1")
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    button = notebook.page.locator(".nbc-cancel")
    button.focus()
    for key in ("x", "d", "d", "b"):
        notebook.page.keyboard.press(key)
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == 3
    notebook.page.keyboard.press("Enter")
    notebook.page.wait_for_function(DONE, timeout=5000)


def contrast(page, one: str, other: str) -> float:
    """The contrast of two css colours, as WCAG 2 defines it."""
    return page.evaluate(
        """([one, other]) => {
        const light = (colour) => {
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
                .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    }""",
        [one, other],
    )
