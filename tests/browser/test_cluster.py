"""The Cluster view in JupyterLab, on a mixed fleet: what it shows and does, what stays of it, for everybody."""

import re

import nbformat
import pytest

from nbcanvas.notebook.cluster import PACE
from tests.browser.conftest import opening
from tests.browser.tools import LIVE, axe, contrast, wait_until
from tests.cluster.fleet import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SETUP = """%load_ext nbcanvas
import nbcanvas, nbcanvas.notebook.cluster
from nbcanvas import group, signature
nbcanvas.notebook.cluster._REPLY = 40.0
%canvas connect {url}"""
WORK = """hours = nbcanvas.submit(signature("hours"))
later = nbcanvas.submit(signature("slow", (1,)), options={"countdown": 600})
total = nbcanvas.submit(group(signature("long", (n,)) for n in range(300)))"""
FREE = "hours.cancel(terminate=True); total.cancel(); later.cancel(); nbcanvas.current_app().control.purge()\nNone"
VIEW = ".nbc-cluster"


@pytest.fixture(scope="module")
def fleet(redis_server):
    with Fleet(f"{redis_server.url[:-1]}7", tasks="tests.cluster.attached") as fleet:
        fleet.celery(pool="prefork", concurrency=2, name="theirs@gpu", queues="celery,gpu")
        fleet.ours(pool="threads", concurrency=2, name="ours@cpu")
        yield fleet


@pytest.fixture(scope="module")
def shown(fleet, lab, lab_folder, chrome):
    """A notebook that shows the view of a fleet."""
    with opening(lab, lab_folder, chrome, "cluster") as opens:
        cells = [SETUP.format(url=fleet.url), WORK, "%canvas cluster", "'below'", "%canvas cluster stop"]
        notebook = opens(*cells, width=1250, height=1100)
        notebook.command("application:toggle-left-area")
        notebook.run_and_wait(0)
        notebook.run_and_wait(2)
        view = notebook.page.locator(VIEW)
        view.wait_for(state="visible")
        yield notebook, view


@pytest.fixture
def opened(shown):
    """The same, with something to do."""
    notebook, view = shown
    notebook.run_and_wait(1)
    wait_until(notebook.page, lambda: re.search(r"\b(\d+) of \1 slots busy", view.inner_text()), says=view.inner_text)
    yield notebook, view
    notebook.write(3, FREE)
    notebook.run_and_wait(3)


def row(view, name):
    return view.locator("tbody tr", has=view.page.locator(f"th:has-text('{name}')")).first


def surely(button):
    """Click, and say that it is meant: in one go, because the question goes away by itself."""
    asked = button.evaluate("(one) => { one.click(); const asked = one.innerText; one.click(); return asked; }")
    assert asked == "Sure?"


def said(view):
    return view.locator("[role=status]").inner_text()


def test_it_shows_both_kinds_of_workers_and_moves(opened, picture):
    notebook, view = opened
    theirs, ours = row(view, "theirs@gpu"), row(view, "ours@cpu")
    assert "Celery · prefork" in theirs.inner_text()
    assert "nbcanvas" in ours.inner_text()
    assert "gpu" in theirs.inner_text()
    # Now and then a task has ended and the next one not begun.
    wait_until(notebook.page, lambda: "2 of 2" in ours.inner_text(), says=ours.inner_text)
    meter = theirs.locator("[role=meter]")
    wait_until(notebook.page, lambda: meter.get_attribute("aria-valuenow") == "2", says=theirs.inner_text)
    wait_until(notebook.page, lambda: "Active 4" in view.inner_text(), says=view.inner_text)
    panel = view.locator("[role=tabpanel]:visible")
    wait_until(notebook.page, lambda: "long(" in panel.inner_text(), says=panel.inner_text)
    picture(notebook.page, "cluster-light")
    taken = theirs.inner_text()
    wait_until(notebook.page, lambda: theirs.inner_text() != taken)
    notebook.theme("JupyterLab Dark")
    picture(notebook.page, "cluster-dark")
    view.get_by_role("tab").nth(2).click()
    wait_until(notebook.page, lambda: "slow(1)" in panel.inner_text(), says=panel.inner_text)
    view.get_by_role("tab").nth(1).click()
    picture(notebook.page, "cluster-reserved")
    notebook.theme("JupyterLab Light")


def test_pools_queues_and_limits(opened):
    notebook, view = opened
    for name in ("theirs@gpu", "ours@cpu"):
        worker = row(view, name)
        worker.get_by_role("button", name=f"Add a slot to the pool of {name}").click()
        wait_until(notebook.page, lambda: "pool will grow" in said(view), says=lambda: said(view))
        wait_until(notebook.page, lambda worker=worker: "of 3" in worker.inner_text(), says=worker.inner_text)
        worker.get_by_role("button", name=f"Take a slot from the pool of {name}").click()
        if name == "ours@cpu":  # Celery takes no process away that is busy, and says so
            wait_until(notebook.page, lambda worker=worker: "of 2" in worker.inner_text(), says=worker.inner_text)
        else:
            wait_until(notebook.page, lambda: "shrink" in said(view), says=lambda: said(view))
        worker.get_by_label(f"A queue that {name} is to take from too").fill("extra")
        notebook.page.keyboard.press("Enter")
        chip = worker.locator(".nbc-chip", has_text="extra")
        chip.wait_for(state="visible")
        assert "extra" in view.get_by_label("Queues", exact=True).inner_text()
        surely(chip.get_by_role("button"))
        chip.wait_for(state="detached")
    view.get_by_label("Task whose rate is limited").fill("seldom")
    view.get_by_label("Rate limit, such as 10/m; 0 takes it away").fill("7/m")
    view.get_by_role("button", name="Set the rate limit of this task on all workers").click()
    wait_until(notebook.page, lambda: said(view).count("new rate limit set successfully") == 2, says=lambda: said(view))
    wait_until(notebook.page, lambda: "seldom 7/m" in view.locator(".nbc-there").inner_text())
    view.get_by_label("Task whose rate is limited").fill("nobody.knows")
    view.get_by_role("button", name="Set the rate limit of this task on all workers").click()
    wait_until(notebook.page, lambda: said(view).startswith("✗"), says=lambda: said(view))


def test_tasks_are_revoked_and_terminated(opened):
    notebook, view = opened
    view.get_by_role("tab").nth(2).click()
    notebook.write(3, "later.id[:8]")
    notebook.run_and_wait(3)
    its = notebook.text(3).strip("'")
    view.get_by_role("button", name=re.compile(f"Revoke slow.* {its}")).click()  # other tests' wait on, revoked
    wait_until(notebook.page, lambda: "is revoked" in said(view), says=lambda: said(view))
    notebook.write(3, "later.wait(60).state")
    notebook.run_and_wait(3)
    assert "REVOKED" in notebook.text(3)
    view.get_by_role("tab").nth(0).click()
    surely(view.get_by_role("button", name="Terminate hours"))
    wait_until(notebook.page, lambda: "is terminated" in said(view), says=lambda: said(view))
    notebook.write(3, "hours.wait(60).state")
    notebook.run_and_wait(3)
    assert "REVOKED" in notebook.text(3)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"])
def test_axe_finds_nothing(opened, theme):
    notebook, _ = opened
    notebook.theme(theme)
    assert axe_of(notebook.page) == []
    ink, paper = notebook.page.evaluate(f"""() => [
        getComputedStyle(document.querySelector('{VIEW}')).color,
        getComputedStyle(document.body).getPropertyValue('--jp-layout-color0').trim()]""")
    assert contrast(notebook.page, ink, paper) >= 4.5
    notebook.theme("JupyterLab Light")


def axe_of(page):
    """Ids stand in two places while axe looks at its copy: that is no fault of the view."""
    return [line for line in axe(page, VIEW) if not line.startswith("duplicate-id")]


def test_the_keyboard_does_everything_and_keeps_its_place(opened):
    notebook, view = opened
    cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()
    view.get_by_role("tab").nth(0).click()
    view.get_by_role("tab").nth(0).focus()
    notebook.page.keyboard.press("ArrowRight")
    assert view.get_by_role("tab").nth(1).get_attribute("aria-selected") == "true"
    notebook.page.keyboard.press("ArrowLeft")
    button = row(view, "theirs@gpu").get_by_role("button").last
    button.focus()
    for key in ("x", "d", "d", "b", "a"):
        notebook.page.keyboard.press(key)
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells
    name = notebook.page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    notebook.page.wait_for_timeout(2500)  # at least two snapshots later
    assert notebook.page.evaluate("() => document.activeElement.getAttribute('aria-label')") == name


@pytest.mark.parametrize("width", [560, 900, 1900])
def test_the_page_does_not_scroll_sideways(opened, picture, width):
    notebook, view = opened
    notebook.page.set_viewport_size({"width": width, "height": 1000})
    notebook.page.wait_for_timeout(400)  # first JupyterLab has to find its new size
    inside = """(view) => {
        const box = view.getBoundingClientRect();
        return [...view.children].every((part) => part.getBoundingClientRect().right <= box.right + 1);
    }"""
    wait_until(notebook.page, lambda: view.evaluate(inside), 20)
    picture(notebook.page, f"cluster-{width}")


def test_it_asks_nobody_when_nobody_looks_and_speaks_once_a_second_at_most(opened):
    notebook, _ = opened
    probe = """import time
from nbcanvas.notebook.extension import session_of
view = session_of().cluster
begun, first = time.monotonic(), view._round
while view._round < first + 3:
    time.sleep(0.01)
print(time.monotonic() - begun)"""
    notebook.write(3, probe)
    notebook.run_and_wait(3)
    assert float(notebook.text(3)) > 1.9 * PACE  # three looks have two rests between them
    notebook.write(
        3,
        "import nbcanvas.notebook.cluster as c\nc.ALONE = 0.0\nuntil = time.monotonic() + 50\n"
        "while (thread := view._thread) is not None and time.monotonic() < until: time.sleep(0.05)\nthread",
    )
    notebook.run_and_wait(3)
    assert notebook.text(3).strip() in {"", "None"}


def test_what_stays_is_a_still(shown):
    notebook, view = shown
    meanwhile = notebook.save()
    [output] = meanwhile.cells[2].outputs
    assert set(output["data"]) == {"text/plain", "text/html", LIVE}
    assert "theirs@gpu" in output["data"]["text/html"]
    notebook.run_and_wait(4)
    view.wait_for(state="detached")
    notebook.save()
    saved = nbformat.read(notebook.path, as_version=4)
    [output] = saved.cells[2].outputs
    assert set(output["data"]) == {"text/plain", "text/html"}
    assert "ours@cpu" in output["data"]["text/plain"]
    assert "widgets" not in saved.metadata
    still = notebook.cell(2).locator("table").first
    assert still.locator("tr").count() == 3
