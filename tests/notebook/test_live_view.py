"""What a live view sends, message by message, in a real kernel: late pages, silence, many runs and large ones."""

import json
import re
import time

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from nbcanvas.notebook.live import KEPT, TICK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONTROL = "jupyter.widget.control"
QUIET = "%%canvas -o total\nheld.s()"  # nothing happens until the gate opens
MOVED = "import threading; any('publisher' in thread.name for thread in threading.enumerate())"
MANY = "%%canvas -o total\ngroup(nap.s(0.05) for i in range({})) | tsum.s()"


def sent(message):
    """Return when the kernel sent a message, by its clock: a busy machine hears several at once."""
    return message["header"]["date"].timestamp()


def snapshots(kernel, since=0.0, widget=None):
    """Return when each snapshot was heard, and the snapshot."""
    return [
        (at, message["content"]["data"]["state"]["snapshot"])
        for at, message in kernel.of("comm_msg", since)
        if "snapshot" in message["content"]["data"].get("state", {}) and widget in {None, message["content"]["comm_id"]}
    ]


def opened(kernel):
    """Return the ids of the live widgets and of what they speak through, each in order."""
    states = {
        message["content"]["comm_id"]: message["content"]["data"]["state"] for _, message in kernel.of("comm_open")
    }
    live = [name for name, state in states.items() if "snapshot" in state]
    return live, [states[name]["control"].removeprefix("IPY_MODEL_") for name in live]


def ended(kernel, eventually):
    """Wait for the last snapshot of a run, and return it."""
    return eventually(lambda: [snapshot for _, snapshot in snapshots(kernel) if snapshot["over"]])[-1]


def runs(kernel, eventually):
    """Wait until a view says that the task runs, and return the snapshot that does."""

    def said():
        states = [message["content"]["data"]["state"] for _, message in kernel.of("comm_open")]
        first = [state["snapshot"] for state in states if "snapshot" in state]
        return [one for one in (*first, *(snapshot for _, snapshot in snapshots(kernel))) if one["running"]]

    return eventually(said)[0]


def closed(kernel):
    return [message["content"]["comm_id"] for _, message in kernel.of("comm_close")]


def say(kernel, comm_id, data, subshell=None):
    """Send what a front end sends on a comm."""
    message = kernel.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
    message["header"]["subshell_id"] = subshell
    kernel.client.shell_channel.send(message)


def subshell_of(kernel):
    """Have the kernel hear messages beside a running cell, as JupyterLab has it hear those on comms."""
    control = kernel.client.control_channel
    control.send(kernel.client.session.msg("create_subshell_request", {}))
    return control.get_msg(timeout=60)["content"]["subshell_id"]


def states_for_a_late_page(kernel, eventually):
    """Ask for all widgets, as a page does that was loaded just now."""
    session, comm_id = kernel.client.session, f"late-{time.monotonic()}"
    kernel.client.shell_channel.send(
        session.msg(
            "comm_open", {"comm_id": comm_id, "target_name": CONTROL, "data": {}}, metadata={"version": "1.0.0"}
        )
    )
    say(kernel, comm_id, {"method": "request_states"})

    def answer():
        return [m["content"]["data"] for _, m in kernel.of("comm_msg") if m["content"]["comm_id"] == comm_id]

    [data] = eventually(answer)
    return {name: model["state"] for name, model in data["states"].items()}


def test_each_message_is_complete_and_none_builds_on_another(kernel, eventually):
    kernel.run("%%canvas -o total\ngroup(paced.s() for i in range(1200)) | tsum.s()")
    eventually(lambda: len(snapshots(kernel)) >= 4)
    kernel.enough()
    kernel.run("total.wait()")
    [(_, first), *rest] = snapshots(kernel)
    for _, snapshot in rest:
        assert snapshot.keys() == first.keys()
        assert [bar["label"] for bar in snapshot["bars"]] == [bar["label"] for bar in first["bars"]]
    numbers = [snapshot["seq"] for _, snapshot in snapshots(kernel)]
    assert numbers == sorted(set(numbers))


def test_a_late_page_gets_what_is_so_now_not_what_was_said_last(kernel, eventually):
    kernel.run("from nbcanvas.notebook import live\nlive.REPEAT = 3600")
    kernel.run("%canvas worker start -c 1")
    kernel.run(QUIET)
    [live], _ = opened(kernel)
    said = runs(kernel, eventually)  # and then nothing happens
    time.sleep(1)
    late = states_for_a_late_page(kernel, eventually)[live]["snapshot"]
    assert late["elapsed"] >= said["elapsed"] + 0.5
    assert late["seq"] > said["seq"]
    kernel.run("gate.set(); total.wait()")
    assert ended(kernel, eventually)["seq"] > late["seq"]  # what follows is newer than what the page has


def test_a_page_that_comes_after_the_end_gets_how_it_ended(kernel, eventually):
    kernel.run(MANY.format(8))
    kernel.run("total.wait()")
    eventually(lambda: kernel.of("update_display_data"))
    [live], _ = opened(kernel)
    late = states_for_a_late_page(kernel, eventually)
    assert late[live]["snapshot"]["over"] is True
    assert late[live]["snapshot"]["state"] == "SUCCESS"


def test_a_page_that_missed_the_end_asks_and_is_told_again(kernel, eventually):
    """One that is just being loaded hears nothing between its question for all widgets and their making."""
    kernel.run(MANY.format(8))
    kernel.run("total.wait()")
    said = ended(kernel, eventually)
    _, [control] = opened(kernel)
    say(kernel, control, {"method": "custom", "content": {"do": "tell"}})
    eventually(lambda: [snapshot for _, snapshot in snapshots(kernel)].count(said) == 2)


def test_the_publisher_repeats_itself_whatever_the_main_thread_does(kernel, eventually):
    kernel.run("from nbcanvas.notebook import live\nlive.REPEAT = 0.3")
    kernel.run(QUIET)
    blocked = kernel.hold("gate.wait(0)")
    since = time.monotonic()

    def told():
        """What was said since the task runs."""
        return [snapshot for _, snapshot in snapshots(kernel, since) if snapshot["running"]]

    eventually(lambda: len(told()) >= 4)
    assert blocked.status is None
    assert len({json.dumps(snapshot["bars"]) for snapshot in told()}) == 1  # nothing happened …
    elapsed = [snapshot["elapsed"] for snapshot in told()]
    assert elapsed == sorted(set(elapsed))  # … but time
    kernel.interrupt()
    kernel.wait(blocked)
    kernel.run("gate.set(); total.wait()")


def test_who_asks_is_told_once_also_while_a_cell_blocks(kernel, eventually):
    kernel.run("from nbcanvas.notebook import live\nlive.REPEAT = 3600")
    kernel.run("%canvas worker start -c 1")
    kernel.run(QUIET)
    [live], [control] = opened(kernel)
    runs(kernel, eventually)
    subshell = subshell_of(kernel)
    blocked = kernel.hold("gate.wait(0)")
    before = len(snapshots(kernel))
    say(kernel, control, {"method": "custom", "content": {"do": "tell"}}, subshell)
    eventually(lambda: len(snapshots(kernel)) > before)
    time.sleep(0.5)
    assert len(snapshots(kernel)) == before + 1
    assert snapshots(kernel)[-1][1]["seq"] == max(snapshot["seq"] for _, snapshot in snapshots(kernel, widget=live))
    assert blocked.status is None
    kernel.interrupt()
    kernel.wait(blocked)
    kernel.run("gate.set()")


def test_what_nobody_would_say_does_nothing(kernel):
    kernel.run(QUIET)
    _, [control] = opened(kernel)
    for content in (None, 5, "cancel", [], {}, {"do": None}, {"do": ["cancel"]}, {"do": "run"}, {"do": "__class__"}):
        say(kernel, control, {"method": "custom", "content": content})
    assert kernel.run("gate.set(); total.get()").value == "1"
    assert not [m for _, m in kernel.of("stream") if "Error" in m["content"]["text"]]


def test_the_widgets_of_runs_long_over_are_let_go(kernel, eventually):
    assert KEPT >= 20
    kernel.run("from nbcanvas.notebook import live\nlive.KEPT = 2")
    for _ in range(4):
        kernel.run(QUIET)
        kernel.run("gate.set(); total.wait(); gate.clear()")
        eventually(lambda: kernel.run(MOVED).value == "False")
    live, _ = opened(kernel)
    eventually(lambda: set(live) & set(closed(kernel)) == set(live[:2]))
    assert kernel.run("len(get_ipython()._nbcanvas_extension.session.publisher._ended)").value == "2"


def test_twenty_runs_at_once(kernel, eventually):
    kernel.run("%canvas worker start -c 8")
    cell = kernel.run("""
from nbcanvas.notebook import run_canvas
for i in range(20):
    run_canvas(held.s() | group(nap.si(0.02) for _ in range(100)) | tsum.s(), out=f"run{i}")""")
    assert len(cell.of("display_data")) == 20
    ids = {content["transient"]["display_id"] for content in cell.of("display_data")}
    assert len(ids) == 20
    assert len(opened(kernel)[0]) == 20
    kernel.run("gate.set()")
    eventually(lambda: {m["content"]["transient"]["display_id"] for _, m in kernel.of("update_display_data")} == ids)
    told = [sent(m) for _, m in kernel.of("comm_msg") if "snapshot" in m["content"]["data"].get("state", {})]
    for begin in told:  # what jupyter_server lets through, many times over
        assert sum(begin <= at < begin + 1 for at in told) <= 300
    for _, message in kernel.of("update_display_data"):
        assert "✓ nap ×100" in message["content"]["data"]["text/plain"]


@pytest.mark.slow
def test_a_hundred_thousand_tasks_send_few_and_small_messages(kernel, eventually):
    kernel.run("%%canvas -o total\ngroup(add.s(i, i) for i in range(100_000)) | tsum.s()", 60)
    kernel.run("total.wait()", 100)
    eventually(lambda: kernel.of("update_display_data"))
    told = [message for _, message in kernel.of("comm_msg") if "state" in message["content"]["data"]]
    assert len(told) >= 2  # how many depends on how long it takes
    assert len(told) <= (sent(told[-1]) - sent(told[0])) / TICK + 3
    for message in told:
        assert len(json.dumps(message["content"])) < 2500
    [(_, message)] = kernel.of("update_display_data")
    assert len(json.dumps(message["content"])) < 10_000
    assert ended(kernel, eventually)["done"] == 100_001


def test_names_are_cut_before_they_travel(kernel):
    kernel.run("@task(name='x' * 5_000_000)\ndef long(i):\n    time.sleep(i)\n    return i")
    kernel.run("%%canvas -o total\ngroup(long.s(0.2) for i in range(3))")
    kernel.run("total.wait()")
    for _, message in (*kernel.of("comm_open"), *kernel.of("comm_msg")):
        snapshot = message["content"]["data"].get("state", {}).get("snapshot", {})
        assert len(json.dumps(snapshot)) < 5000


def test_a_still_that_cannot_be_drawn_leaves_the_view_which_says_how_it_ended(kernel, eventually):
    kernel.run(
        "from nbcanvas.notebook import live\ndef still(*args, **kwargs): raise OSError('no paper')\nlive.still = still"
    )
    kernel.run(MANY.format(20))
    kernel.run("total.wait()")
    assert ended(kernel, eventually)["state"] == "SUCCESS"
    eventually(lambda: "no paper" in str([message["content"] for _, message in kernel.of("stream")]))
    assert not kernel.of("update_display_data")
    assert kernel.run(QUIET.replace("total", "other")).status == "ok"  # others go on
    assert kernel.run("gate.set(); other.get()").value == "1"


def test_unloading_leaves_a_still_of_what_was_reached(kernel, eventually):
    cell = kernel.run(MANY.format(2000))
    [shown] = cell.of("display_data")
    eventually(lambda: len(snapshots(kernel)) >= 3)
    kernel.run("%unload_ext nbcanvas")
    [(_, still)] = kernel.of("update_display_data")
    assert still["content"]["transient"] == shown["transient"]
    assert set(still["content"]["data"]) == {"text/plain", "text/html"}
    assert "running" in still["content"]["data"]["text/plain"]
    live, control = opened(kernel)
    assert set(closed(kernel)) == {*live, *control}
    time.sleep(0.3)
    [goes] = [sent(m) for _, m in kernel.of("comm_close") if m["content"]["comm_id"] in live]
    told = [sent(m) for _, m in kernel.of("comm_msg") if "snapshot" in m["content"]["data"].get("state", {})]
    assert max(told) <= goes
    kernel.run("total.cancel()\n%load_ext nbcanvas\n%load_ext nbcanvas")
    kernel.run(MANY.format(20))
    kernel.run("total.wait()")
    eventually(lambda: len(kernel.of("update_display_data")) == 2)


def test_an_interrupt_of_the_wait_leaves_the_view_moving(kernel, eventually):
    waiting = kernel.start("%%canvas -w -o total\ngroup(nap.s(0.1) for i in range(2000)) | tsum.s()")
    kernel.begun(waiting, waits=2)
    eventually(lambda: len(snapshots(kernel)) >= 2)
    kernel.interrupt()
    kernel.wait(waiting)
    assert waiting.error["ename"] == "WaitInterrupted"
    since = time.monotonic()
    eventually(lambda: len({snapshot["done"] for _, snapshot in snapshots(kernel, since)}) >= 3)
    kernel.run("total.cancel(); total.wait()")
    eventually(lambda: "revoked" in str([m["content"]["data"] for _, m in kernel.of("update_display_data")]))


def test_a_cell_run_twice_has_two_views_that_do_not_meet(kernel, eventually):
    cells = [kernel.run(MANY.format(count)) for count in (40, 60)]
    ids = [cell.of("display_data")[0]["transient"]["display_id"] for cell in cells]
    eventually(lambda: len(kernel.of("update_display_data")) == 2)
    stills = {
        message["content"]["transient"]["display_id"]: message["content"]["data"]["text/plain"]
        for _, message in kernel.of("update_display_data")
    }
    assert "nap ×40" in stills[ids[0]]
    assert "nap ×60" in stills[ids[1]]
    for widget, count in zip(opened(kernel)[0], (40, 60), strict=True):
        totals = {snapshot["total"] for _, snapshot in snapshots(kernel, widget=widget)}
        assert totals == {count + 1}


def test_html_that_is_updated_keeps_its_clock_going(kernel, eventually):
    kernel.run("import sys; sys.modules['nbcanvas.notebook.widgets'] = None")
    kernel.run("from nbcanvas.notebook import live\nlive.REPEAT = 0.3")
    kernel.run(QUIET)
    eventually(lambda: len(kernel.of("update_display_data")) >= 4)
    texts = [message["content"]["data"]["text/plain"] for _, message in kernel.of("update_display_data")]
    assert len(set(texts)) >= 3
    kernel.run("gate.set(); total.wait()")


def test_a_page_made_of_a_notebook_shows_a_run_that_had_not_ended(monkeypatch):
    for name in ("PYTEST_CURRENT_TEST", "NBCANVAS_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    sources = [
        "%load_ext nbcanvas\nimport time\nfrom nbcanvas import group, task\n@task\ndef nap(s): time.sleep(s)",
        "%%canvas -o total\ngroup(nap.s(0.3) for i in range(2000))",
        """from nbcanvas.notebook import session_of
while total.counts.get('SUCCESS', 0) < 4: time.sleep(0.1)
[view], since = session_of().publisher._views, time.monotonic()
while view._spoke < since: time.sleep(0.1)
with view._lock: pass  # said it has begun to: now it has""",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=200, iopub_timeout=200, kernel_name="python3").execute()
    [shown] = notebook.cells[1].outputs
    assert set(shown["data"]) == {"text/plain", "text/html"}
    assert "running" in shown["data"]["text/plain"]
    assert " 0 of 2000" not in shown["data"]["text/plain"]  # it moved while later cells ran
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert re.search(r"\d of 2000 tasks", page)
