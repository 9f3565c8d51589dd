"""The live view for everybody: screen readers, keyboards, themes, narrow cells, eyes that motion hurts."""

import pytest

from tests.browser.conftest import opening
from tests.browser.tools import SETUP, axe, contrast, gone, live_view, value_now, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
# Every state at once: succeeded, failed, retried, revoked, running, waiting, sent, and a name nobody can read.
MOTLEY = """%%canvas -o motley
from nbcanvas import chain
@task
def a_name_so_long_that_it_would_push_everything_else_out_of_the_cell_if_it_were_not_cut(i): return work(0, 0.1)
@task
def gate(i): return work(0, 600)
@task(bind=True)
def swap(self, i): raise self.replace(group(add.s(i, j) | gate.s() for j in range(3)))
group(group(work.s(i, 0.01) for i in range(40)), group(shaky.s(i) for i in range(20)), swap.s(1),
      a_name_so_long_that_it_would_push_everything_else_out_of_the_cell_if_it_were_not_cut.s(1).set(link=add.s(1)),
      group(gate.s(i) for i in range(8))) | tsum.s()"""


@pytest.fixture(scope="module")
def page_and_view(lab, lab_folder, chrome):
    with opening(lab, lab_folder, chrome, "access") as opens:
        notebook = opens(SETUP, MOTLEY, "'below'", "motley.cancel(terminate=True)")
        notebook.run_and_wait(0)
        notebook.run_and_wait(1)
        view = live_view(notebook, 1)
        wait_until(notebook.page, lambda: "retried" in view.inner_text() and "failed" in view.inner_text())
        wait_until(notebook.page, lambda: view.locator(".nbc-role").all_inner_texts().count("replacement") == 2)
        yield notebook, view
        notebook.theme("JupyterLab Light")


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_any_theme(page_and_view, picture, theme):
    notebook, view = page_and_view
    notebook.theme(theme)
    picture(notebook.cell(1), f"motley-{theme.rpartition(' ')[2].lower()}")
    assert axe(notebook.page, ".nbc-live") == []
    ink, paper = notebook.page.evaluate("""() => [
        getComputedStyle(document.querySelector('.nbc-live')).color,
        getComputedStyle(document.body).getPropertyValue('--jp-layout-color0').trim()]""")
    assert contrast(notebook.page, ink, paper) >= 4.5
    assert view.count() == 1


def test_axe_finds_planted_faults(page_and_view):
    notebook, _ = page_and_view
    notebook.theme("JupyterLab Light")
    notebook.page.evaluate("""() => {
        const view = document.querySelector('.nbc-live');
        view.querySelector('[role=progressbar]').removeAttribute('aria-label');
        view.querySelector('.nbc-cancel').textContent = '';
        view.querySelector('.nbc-cancel').title = '';
        view.querySelector('.nbc-name').style.color = '#cccccc';
    }""")
    found = " ".join(axe(notebook.page, ".nbc-live"))
    notebook.page.evaluate("""() => {
        const view = document.querySelector('.nbc-live');
        view.querySelector('.nbc-cancel').textContent = 'Cancel';
        view.querySelector('.nbc-name').style.color = '';
    }""")
    for rule in ("aria-progressbar-name", "button-name", "color-contrast"):
        assert rule in found


def test_bars_say_what_they_show(page_and_view):
    _, view = page_and_view
    for row in view.get_by_role("listitem").all():
        bar = row.get_by_role("progressbar")
        assert 0 <= int(bar.get_attribute("aria-valuenow")) <= 100
        assert row.locator(".nbc-numbers .nbc-part").first.inner_text() in bar.get_attribute("aria-valuetext")
        assert row.locator(".nbc-glyph").inner_text() in "✓✗⊘⊗∅▶↻●→○"
    assert view.locator("[aria-live=polite]").count() == 1
    assert "running" in view.locator("[aria-live=polite]").text_content()


@pytest.mark.parametrize("width", [420, 560, 760, 1100, 1900])
def test_nothing_is_pushed_out_of_a_cell_of_any_width(page_and_view, picture, width):
    notebook, view = page_and_view
    before = notebook.page.viewport_size
    notebook.page.set_viewport_size({"width": width, "height": 800})
    notebook.page.evaluate("() => window.jupyterapp.shell.collapseLeft?.()")

    def measured():
        return view.evaluate("""(view) => {
            const box = view.getBoundingClientRect();
            const parts = [...view.querySelectorAll('.nbc-row > *, .nbc-foot > *, .nbc-part')]
                .map((part) => part.getBoundingClientRect()).filter(({ width }) => width > 0);
            const meters = [...view.querySelectorAll('.nbc-meter')].map((one) => one.getBoundingClientRect().width);
            return [parts.every(({ left, right }) => left >= box.left - 1 && right <= box.right + 1),
                    Math.min(...meters), [...view.querySelectorAll('.nbc-name')].map((one) => one.clientHeight)];
        }""")

    def fits():
        inside, wide, names = measured()
        return inside and wide >= 80 and max(names) <= 2 * min(names)  # long names are cut, not wrapped

    notebook.page.wait_for_timeout(300)  # first JupyterLab has to find its new size
    wait_until(notebook.page, fits, 20, says=measured)
    picture(notebook.cell(1), f"motley-{width}")
    notebook.page.set_viewport_size(before)


def test_motion_can_be_had_without(page_and_view):
    notebook, _ = page_and_view
    moving = """() => [...document.querySelectorAll('.nbc-fill')].some((part) => {
        const style = getComputedStyle(part);
        return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0; })"""
    assert notebook.page.evaluate(moving)
    notebook.page.emulate_media(reduced_motion="reduce")
    assert not notebook.page.evaluate(moving)
    notebook.page.emulate_media(reduced_motion="no-preference", forced_colors="active")
    colours = "() => new Set([...document.querySelectorAll('.nbc-row:first-child .nbc-fill')].map((part) => \
        getComputedStyle(part).backgroundColor)).size"
    assert notebook.page.evaluate(colours) >= 4  # a bar keeps its parts apart where colours are forced
    notebook.page.emulate_media(forced_colors="none")


def test_the_keyboard_reaches_cancel_and_nothing_reaches_the_notebook(page_and_view):
    notebook, view = page_and_view
    cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()
    button = view.locator(".nbc-cancel")
    button.focus()
    for key in ("x", "d", "d", "b", "a", "ArrowDown"):
        notebook.page.keyboard.press(key)
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells
    notebook.page.keyboard.press("Enter")
    wait_until(notebook.page, lambda: button.inner_text() == "Cancelling…")
    assert notebook.page.evaluate("() => document.activeElement.className") == "nbc-cancel"
    notebook.run_and_wait(3)  # what runs is not stopped by Cancel
    assert value_now(view) > 0


def test_focus_is_not_lost_when_the_still_comes(page_and_view):
    notebook, _ = page_and_view
    notebook.write(2, "%%canvas\ngroup(work.s(0, 0.1) for i in range(200)) | tsum.s()")
    notebook.run_and_wait(2)
    view = live_view(notebook, 2)
    view.locator(".nbc-cancel").focus()
    notebook.page.keyboard.press(" ")
    gone(view)
    wait_until(
        notebook.page, lambda: notebook.page.evaluate("() => Boolean(document.activeElement.closest('.jp-Notebook'))")
    )
