"""The live view in each front end with each kernel, whatever the kernel is doing."""

import pytest

from tests.browser.conftest import opening
from tests.browser.lab import FRONTS, KERNELS, STATUS
from tests.browser.tools import LIVE, SETUP, gone, live_view, value_now, view_of, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# A cell that holds the kernel up until the test lets it go.
HELD = """import os, time, asyncio
def go():
    return os.path.exists("{flag}")
"""
DOING = {
    "idle": "'ready'",
    "sleeping": HELD + "while not go(): time.sleep(0.02)",
    "spinning": HELD + "while not go(): pass",
    "awaiting": "await {run}",
}
# Tasks that take their time until the test has seen enough.
PACED = """import os
@task
def paced(i, flag):
    if not os.path.exists(flag):
        time.sleep(0.1)
    return i"""
RUN = "%%canvas -o {run}\ngroup(add.s(i, i) | paced.s('{flag}-end') for i in range(1000)) | tsum.s()"
# Five minutes, if nobody cancels it.
LONG = "%%canvas -o {run}\ngroup(work.s(0, 0.1 if i < 1200 else 1) for i in range(2400)) | tsum.s()"


def takes_clicks(kernel: str) -> bool:
    """Whether a kernel hears a click while a cell runs: since 7.0 it does, in a subshell."""
    return int(kernel.removeprefix("ipykernel-").partition(".")[0]) >= 7


class Bench:
    """A notebook in which runs are started while the kernel is held up in one way or another."""

    def __init__(self, notebook, folder, front, kernel) -> None:
        self.notebook, self.folder, self.front, self.kernel = notebook, folder, front, kernel
        self.page = notebook.page

    def start(self, at: int, doing: str):
        """Start the run in cell `at` and hold the kernel up with the cell below; return the view."""
        self.notebook.run_and_wait(at)
        view = live_view(self.notebook, at)
        if doing == "idle":
            return view
        self.notebook.run(at + 1)
        self.notebook.busy()
        return view

    def held(self, at: int) -> bool:
        return self.notebook.count(at + 1) is None

    def let_go(self, at: int, what: str = "") -> None:
        self.folder.joinpath(f"{self.front}-{self.kernel}-{at}{what}").touch()

    def done(self, at: int) -> None:
        """Whatever happened: let the kernel go, and the run end, for the sake of the tests behind."""
        self.let_go(at)
        self.let_go(at, "-end")
        if self.held(at) and self.kernel_is_busy():
            self.notebook.command("notebook:interrupt-kernel")
        self.notebook.idle()

    def kernel_is_busy(self) -> bool:
        return self.page.evaluate(STATUS) == "busy"


@pytest.fixture(scope="module", params=[(front, kernel) for front in FRONTS for kernel in KERNELS], ids="-".join)
def bench(lab, lab_folder, chrome, request):
    front, kernel = request.param
    cells = [f"{SETUP}\n{PACED}"]
    for text in (RUN, LONG):
        for doing in DOING.values():
            name, at = f"r{len(cells)}", len(cells)
            flag = f"{front}-{kernel}-{at}"
            cells += [text.format(run=name, flag=flag), doing.format(run=name, flag=flag)]
    cells += [LONG.format(run="last"), "last.cancel()", "import ipykernel; f'ipykernel-{ipykernel.__version__}'"]
    with opening(lab, lab_folder, chrome, f"bench-{front}-{kernel}") as opens:
        notebook = opens(*cells, front=front, kernel=kernel)
        notebook.run_and_wait(0)
        yield Bench(notebook, lab_folder, front, kernel)


@pytest.mark.parametrize("doing", DOING)
def test_the_bars_move_and_the_still_replaces_them(bench, doing):
    at = 1 + 2 * list(DOING).index(doing)
    try:
        view = bench.start(at, doing)
        seen = set()
        wait_until(bench.page, lambda: seen.add(value_now(view, 1)) or len(seen) >= 4)
        bench.let_go(at, "-end")
        gone(view)
        if doing not in {"idle", "awaiting"}:
            assert bench.held(at)  # all of it while the cell still ran
        [still] = [bundle for bundle in bench.notebook.bundles(at) if LIVE not in bundle]
        assert "✓ paced ×1000" in still["text/plain"]
        assert bench.notebook.cell(at).locator("table").count() == 1
    finally:
        bench.done(at)


@pytest.mark.parametrize("doing", DOING)
def test_cancel(bench, doing):
    at = 1 + 2 * (len(DOING) + list(DOING).index(doing))
    heard = takes_clicks(bench.kernel)
    try:
        view = bench.start(at, doing)
        view.locator(".nbc-cancel").click()
        if heard or doing == "idle":
            gone(view)
            if doing not in {"idle", "awaiting"}:
                assert bench.held(at)
        else:
            assert view.locator(".nbc-cancel").inner_text() == "Cancelling…"
            assert "when the cell has ended" in view.locator(".nbc-cancel").get_attribute("title")
            if doing == "awaiting":
                bench.notebook.command("notebook:interrupt-kernel")  # what it waits for waits for it
            bench.let_go(at)
            gone(view)
        assert "⊘" in bench.notebook.bundles(at)[0]["text/plain"]
    finally:
        bench.done(at)


def test_a_page_that_is_reloaded_shows_the_present_state_and_how_it_ends(bench):
    at = 1 + 4 * len(DOING)
    view = bench.start(at, "idle")
    wait_until(bench.page, lambda: value_now(view) > 1)
    before = value_now(view)
    bench.notebook.reload()
    view = view_of(bench.notebook, at)
    # A page that gets no answer in four seconds asks for each widget by itself: on a loaded machine that takes long.
    view.wait_for(state="visible", timeout=150_000)
    assert value_now(view) >= before
    now = value_now(view)
    wait_until(bench.page, lambda: value_now(view) > now)
    bench.notebook.run(at + 1)
    # A front end does not know any more which output the still belongs to: the view stays, and says how it ended.
    wait_until(bench.page, lambda: "revoked" in view.locator(".nbc-state").inner_text())
    assert view.locator(".nbc-cancel").is_hidden()


def test_the_kernel_is_what_it_is_called(bench):
    """Otherwise all of the above would be about one kernel."""
    at = 3 + 4 * len(DOING)
    bench.notebook.run_and_wait(at)
    assert bench.notebook.text(at) == repr(bench.kernel)
