"""The live view in JupyterLab: several views, large runs, many runs, and what may happen to a kernel meanwhile."""

import re

import pytest

from tests.browser.conftest import opening
from tests.browser.tools import LIVE, SETUP, gone, live_view, settled, value_now, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# Five minutes, if nobody cancels it.
LONG = "%%canvas -o long\ngroup(work.s(0, 0.1 if i < 1200 else 1) for i in range(2400)) | tsum.s()"
SHORT = "%%canvas -o short\ngroup(work.s(0, 0.05) for i in range({})) | tsum.s()"


class Desk:
    """A notebook whose cells are written anew by each test."""

    def __init__(self, notebook) -> None:
        self.notebook, self.page = notebook, notebook.page

    def run(self, index: int, source: str) -> None:
        """Start a cell; does not wait for it."""
        self.notebook.write(index, source)
        self.notebook.run(index)

    def run_and_wait(self, index: int, source: str) -> None:
        self.notebook.write(index, source)
        self.notebook.run_and_wait(index)

    def watch(self, index: int, source: str):
        """Start a canvas and return its live view."""
        self.run_and_wait(index, source)
        return live_view(self.notebook, index)


@pytest.fixture(scope="module")
def table(lab, lab_folder, chrome):
    with opening(lab, lab_folder, chrome, "desk") as opens:
        notebook = opens(SETUP, "", "", "", height=1000)
        yield Desk(notebook)


@pytest.fixture
def desk(table):
    table.run_and_wait(0, SETUP)
    yield table
    table.notebook.idle()
    table.run_and_wait(0, "import nbcanvas\nfor run in get_ipython()._nbcanvas_extension.session.runs: run.cancel()")
    table.page.wait_for_function("() => document.querySelectorAll('.jp-Notebook .nbc-live').length === 0")


def test_a_second_view_of_the_output_shows_the_same_at_once(desk):
    view = desk.watch(1, LONG)
    wait_until(desk.page, lambda: value_now(view) > 1)
    desk.notebook.command("notebook:create-output-view")
    second = desk.page.locator(".jp-LinkedOutputView .nbc-live")
    second.wait_for(state="visible")
    assert value_now(second) > 1
    now = value_now(second)
    wait_until(desk.page, lambda: value_now(second) > now and value_now(view) > now)
    second.locator(".nbc-cancel").click()
    gone(view)
    gone(second)
    assert desk.page.locator(".jp-LinkedOutputView table").count() == 1
    desk.notebook.command("application:close")


def test_a_hundred_thousand_tasks_leave_the_page_responsive(desk):
    desk.run_and_wait(2, "None")
    desk.page.evaluate("""() => {
        window.__frames = window.__most = 0;
        const frame = () => {
            window.__frames += 1;
            window.__most = Math.max(window.__most, document.querySelectorAll('.nbc-live *').length);
            requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
    }""")
    desk.run_and_wait(
        1,
        "%%canvas -o total\nimport threading\ngate = threading.Event()\n@task\ndef held(): gate.wait(100)\n"
        "held.s() | group(add.si(i, i) for i in range(100_000)) | tsum.s()",
    )
    view = live_view(desk.notebook, 1)
    desk.run(2, "gate.set()")
    seen = set()
    while view.count():
        seen.add(value_now(view, 1))
        desk.page.wait_for_timeout(50)
    assert len(seen) >= 4
    assert "✓ add ×100\u202f000" in desk.notebook.bundles(1)[0]["text/plain"]
    frames, most = desk.page.evaluate("() => [window.__frames, window.__most]")
    assert frames > 30
    assert 0 < most < 100  # elements: as many as for three tasks


def test_twenty_runs_at_once(desk):
    desk.run(
        1,
        "from nbcanvas.notebook import run_canvas\nimport threading\ngate = threading.Event()\n"
        "@task\ndef held(): gate.wait(100)\n"
        "for i in range(20): run_canvas(held.s() | group(work.si(0, 0.02) for _ in range(30)) | tsum.s())",
    )
    wait_until(desk.page, lambda: desk.notebook.cell(1).locator(".nbc-live").count() == 20)
    desk.run_and_wait(2, "gate.set()")
    wait_until(desk.page, lambda: desk.notebook.cell(1).locator("table").count() == 20)
    assert all(set(bundle) == {"text/plain", "text/html"} for bundle in desk.notebook.bundles(1))


def test_an_interrupt_of_the_wait_leaves_the_view_moving(desk):
    desk.run(1, LONG.replace("-o", "-w -o", 1))
    view = live_view(desk.notebook, 1)
    wait_until(desk.page, lambda: value_now(view) > 1)
    desk.notebook.command("notebook:interrupt-kernel")
    wait_until(desk.page, lambda: "the run goes on" in desk.notebook.text(1))
    now = value_now(view)
    wait_until(desk.page, lambda: value_now(view) > now)
    view.locator(".nbc-cancel").click()
    gone(view)


def test_a_cell_that_is_run_again_shows_the_second_run(desk):
    desk.run_and_wait(1, SHORT.format(120))
    desk.run_and_wait(1, SHORT.format(80))
    [still] = settled(desk.notebook, 1)
    assert "work ×80" in still["text/plain"]


def test_unloading_leaves_a_still_and_loading_twice_is_loading_once(desk):
    desk.run_and_wait(2, "%load_ext nbcanvas\n%load_ext nbcanvas")
    view = desk.watch(1, LONG)
    wait_until(desk.page, lambda: value_now(view) > 1)
    desk.run_and_wait(2, "%unload_ext nbcanvas\nlong.cancel()")
    gone(view)
    [still] = desk.notebook.bundles(1)
    assert "▶ running" in still["text/plain"]
    desk.run_and_wait(0, SETUP)
    desk.run_and_wait(1, SHORT.format(30))
    assert "✓ work ×30" in settled(desk.notebook, 1)[0]["text/plain"]


def test_a_short_wait_ends_with_the_still_and_the_value(desk):
    desk.run_and_wait(1, "%%canvas -w\ngroup(add.s(i, i) for i in range(100)) | tsum.s()")
    still, value = desk.notebook.bundles(1)
    assert value["text/plain"] == "9900"
    assert LIVE not in still


def test_the_clock_goes_on_while_nothing_happens_and_the_kernel_is_blocked(desk):
    view = desk.watch(1, "%%canvas -o nap\nwork.s(0, 60)")
    desk.run(2, "time.sleep(200)")
    desk.notebook.busy()
    said = view.locator(".nbc-said")
    seen = set()
    wait_until(desk.page, lambda: seen.add(said.inner_text()) or len(seen) >= 4)
    assert desk.notebook.count(2) is None  # all of it while the cell still ran
    desk.notebook.command("notebook:interrupt-kernel")
    desk.notebook.idle()
    desk.run_and_wait(3, "%canvas worker stop")


def test_a_restart_of_the_kernel_is_said(desk):
    view = desk.watch(1, LONG)
    wait_until(desk.page, lambda: value_now(view) > 1)
    desk.notebook.restart()
    wait_until(desk.page, lambda: "the kernel is gone" in view.inner_text())
    assert "lost" in view.locator(".nbc-state").inner_text()
    assert view.locator(".nbc-cancel").is_hidden()
    text = view.inner_text()
    desk.page.wait_for_timeout(600)
    assert view.inner_text() == text
    desk.notebook.idle()
    desk.run_and_wait(0, SETUP)
    desk.run_and_wait(1, SHORT.format(20))
    assert "✓ work ×20" in settled(desk.notebook, 1)[0]["text/plain"]


class Losing:
    """Stands between server and page, and loses snapshots, as a server does that has too much to do."""

    def __init__(self) -> None:
        self.came = self.lost = 0
        self.of_each = 2  # one of so many comes through; 0 for none

    def __call__(self, page) -> None:
        page.route_web_socket(re.compile("/channels"), self.connect)

    def connect(self, route) -> None:
        server = route.connect_to_server()
        server.on_message(lambda message: self.lose(message) or route.send(message))

    def lose(self, message) -> bool:
        text = message if isinstance(message, bytes) else message.encode()
        if b'"comm_msg"' not in text or b'"snapshot"' not in text:
            return False
        self.came += 1
        lost = not self.of_each or self.came % self.of_each != 0
        self.lost += lost
        return lost


def test_lost_messages_are_made_good_and_silence_is_said(open_notebook):
    losing = Losing()
    notebook = open_notebook(
        f"{SETUP}\nfrom nbcanvas.notebook import live; live.REPEAT = 0.4", LONG, prepare=losing, height=700
    )
    page = notebook.page
    notebook.run_and_wait(0)
    notebook.run_and_wait(1)
    view = live_view(notebook, 1)
    seen = set()
    wait_until(page, lambda: seen.add(value_now(view)) or len(seen) >= 4)
    assert losing.lost >= 3
    losing.of_each = 0
    wait_until(page, lambda: "no word from the kernel" in view.inner_text())
    losing.of_each = 1
    wait_until(page, lambda: "no word" not in view.inner_text())
    view.locator(".nbc-cancel").click()
    gone(view)
    assert "revoked" in notebook.bundles(1)[0]["text/plain"]


def test_errors_look_right_and_tab_offers_the_options(desk, picture):
    notebook = desk.notebook
    desk.run(1, "%%canvas -w -o total\ngroup(work.s(i, 0.01) for i in range(60)) | tsum.s()")
    wait_until(desk.page, lambda: "chord.header[7] → work(7, 0.01)" in notebook.text(1))
    notebook.idle()
    desk.run(2, "%%canvas --dry-runn\nadd.s(1, 1)")
    wait_until(desk.page, lambda: "did you mean --dry-run?" in notebook.text(2))
    picture(desk.page, "errors")
    notebook.write(3, "")
    editor = notebook.cell(3).locator(".cm-content")
    editor.click()
    editor.press_sequentially("%%canvas -o total --")
    editor.press("Tab")
    items = desk.page.locator(".jp-Completer-item .jp-Completer-match")
    items.first.wait_for(state="visible")
    offered = items.all_inner_texts()
    picture(desk.page, "completion")
    assert "--wait" in offered
    assert "--dry-run" in offered
    assert all(text.startswith("--") for text in offered)
    desk.page.keyboard.press("Escape")
