"""What the tests of this folder share: tasks, and ways to look at the live view."""

from pathlib import Path

import pytest

AXE = Path(__file__).parents[2] / "widgets" / "node_modules" / "axe-core" / "axe.min.js"

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


def view_of(notebook, index: int):
    """The live view in a cell's output."""
    return notebook.cell(index).locator(".nbc-live")


def live_view(notebook, index: int):
    """The live view in a cell's output, once it is there; what the cell shows instead is said."""
    view = view_of(notebook, index)
    wait_until(notebook.page, lambda: view.count() == 1, says=lambda: notebook.text(index))
    return view


def value_now(view, bar: int = 0) -> int:
    """How far a bar is, as a screen reader is told; 100 when the view is gone."""
    # Asked in one go: between two questions the still may take the view's place.
    found = view.evaluate_all(
        "(views, at) => views[0]?.querySelectorAll('[role=progressbar]')[at]?.getAttribute('aria-valuenow')", bar
    )
    return 100 if found is None else int(found)


def gone(view, seconds: float = 60) -> None:
    """Wait until the view has left."""
    view.wait_for(state="detached", timeout=seconds * 1000)


def settled(notebook, index: int) -> list[dict]:
    """Wait until a cell shows no live view, or none any more, and return what it shows."""
    wait_until(
        notebook.page,
        lambda: notebook.bundles(index) and not any(LIVE in bundle for bundle in notebook.bundles(index)),
        says=lambda: notebook.text(index),
    )
    return notebook.bundles(index)


def wait_until(page, condition, seconds: float = 60, says=lambda: "") -> None:
    for _ in range(int(seconds * 20)):
        if condition():
            return
        page.wait_for_timeout(50)
    pytest.fail(f"it did not happen in time: {says()}")


def axe(page, inside: str) -> list[str]:
    """Return what axe-core finds wrong with what a selector finds, each as one line.

    It looks at a copy on the notebook's paper: inside JupyterLab's panes axe takes no text for visible, and would not
    look at its contrast.
    """
    page.evaluate(AXE.read_text())
    found, passed = page.evaluate(
        """async (inside) => {
        const stage = document.body.insertBefore(document.createElement('div'), document.body.firstChild);
        stage.className = 'axe-stage';
        stage.style.cssText = 'position:relative;z-index:100000;height:100vh;background:var(--jp-layout-color0)';
        stage.append(document.querySelector(inside).cloneNode(true));
        const result = await window.axe.run(stage);
        stage.remove();
        return [result.violations, result.passes.map((rule) => rule.id)];
    }""",
        inside,
    )
    assert {"color-contrast", "aria-valid-attr-value"} <= {*passed, *(one["id"] for one in found)}
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


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
