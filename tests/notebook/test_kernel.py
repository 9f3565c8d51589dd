"""In a real kernel: bars that move while a cell blocks, interrupts, await, restarts."""

import os
import time
from pathlib import Path

import pytest

from nbcanvas.notebook.live import TICK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # each starts a kernel

LIVE = "application/vnd.jupyter.widget-view+json"
PUBLISHES = "[t.name for t in threading.enumerate() if 'publisher' in t.name]"


def bars(kernel, since=0.0):
    """Return when the kernel sent each snapshot of a live view, and the snapshot."""
    found = []
    for _, message in kernel.of("comm_msg", since):
        state = message["content"]["data"].get("state", {})
        if "snapshot" in state:
            found.append((sent(message), state["snapshot"]))
    return found


def sent(message):
    """Return when the kernel sent a message, by its clock: a busy machine hears several at once."""
    return message["header"]["date"].timestamp()


def test_the_bars_move_while_another_cell_blocks(kernel, eventually):
    cell = kernel.run("%%canvas -o total\ngroup(paced.s() for i in range(1600)) | tsum.s()")
    [shown] = cell.of("display_data")
    assert {"text/plain", "text/html", LIVE} <= set(shown["data"])
    # The publisher's thread ends when it has nothing left to say.
    busy = kernel.hold(f"not {PUBLISHES}")
    before = len(bars(kernel))
    eventually(lambda: len(bars(kernel)) >= before + 5)
    kernel.enough()
    kernel.wait(busy)
    ended = sent(busy.reply)
    moved = [(at, snapshot) for at, snapshot in bars(kernel) if at < ended]
    assert len(moved) >= 5
    numbers = [snapshot["seq"] for _, snapshot in moved]
    assert numbers == sorted(set(numbers))
    done = [snapshot["done"] for _, snapshot in moved]
    assert done == sorted(done)
    # Ten a second at most: over any second, with room for one message that was late.
    for begin, _ in moved:
        assert sum(begin <= at < begin + 1 for at, _ in moved) <= 1 / TICK + 1
    [(_, still)] = kernel.of("update_display_data")
    assert sent(still) < ended
    assert still["content"]["transient"] == shown["transient"]
    assert set(still["content"]["data"]) == {"text/plain", "text/html"}
    assert "✓ paced ×1600" in still["content"]["data"]["text/plain"].replace("\u202f", "")


def test_nothing_is_sent_when_nothing_changes(kernel, eventually):
    kernel.run("from nbcanvas.notebook import live\nlive.REPEAT = 3600")
    kernel.run("%canvas worker start -c 1")
    kernel.run("%%canvas -o total\nheld.s()")
    time.sleep(1.0)
    assert len(bars(kernel)) <= 2
    kernel.run("gate.set()")
    eventually(lambda: kernel.of("update_display_data"))


def test_a_task_that_says_how_far_it_is_moves_its_bar(kernel, eventually):
    kernel.run("""@task(bind=True)
def train(self, epochs):
    for epoch in self.track(range(epochs)):
        if not enough():
            time.sleep(0.02)
    return epochs""")
    kernel.run("%%canvas -o trained\ntrain.s(600)")
    waiting = kernel.start("trained.wait()")

    def shares():
        return [snapshot["bars"][0]["fraction"] for _, snapshot in bars(kernel)]

    eventually(lambda: len({share for share in shares() if 0 < share < 1}) >= 4)
    kernel.enough()
    kernel.wait(waiting)
    assert shares() == sorted(shares())


def test_chunks_count_items(kernel, eventually):
    kernel.run("%%canvas -o lots\npaced.chunks([(0.05,)] * 600, 20) | tsum.si([1])")
    waiting = kernel.start("lots.wait()")

    def first():
        return [snapshot["bars"][0] for _, snapshot in bars(kernel)]

    eventually(lambda: len({bar["done"] for bar in first()}) >= 4)
    kernel.enough()
    kernel.wait(waiting)
    assert {bar["unit"] for bar in first()} == {"item"}
    assert {bar["total"] for bar in first()} == {600}


def test_text_is_updated_in_place(kernel, eventually):
    kernel.run("%config NBCanvas.display = 'text'")
    cell = kernel.run("%%canvas -o total\ngroup(nap.s(0.1) for i in range(20)) | tsum.s()")
    [shown] = cell.of("display_data")
    assert set(shown["data"]) == {"text/plain"}
    kernel.run("total.wait()")
    eventually(lambda: "succeeded" in str(kernel.of("update_display_data")[-1:]))
    assert not kernel.of("comm_open")


def test_a_short_run_shows_its_still_at_once(kernel):
    kernel.run("from nbcanvas.notebook import session\nsession.GRACE = 60")
    cell = kernel.run("%%canvas -o total\nadd.s(1, 1)")
    [shown] = cell.of("display_data")
    assert set(shown["data"]) == {"text/plain", "text/html"}
    assert not kernel.of("comm_open")


def test_the_publishers_thread_ends_with_the_last_run(kernel, eventually):
    kernel.run("%%canvas -o total\nheld.s()")
    kernel.run("%%canvas -o other\nheld.s()")
    assert kernel.run(PUBLISHES).value == "['nbcanvas-publisher']"
    kernel.run("gate.set()")
    eventually(lambda: kernel.run(PUBLISHES).value == "[]")


def interrupted(kernel, wait, behind):
    """Interrupt a cell that waits for work that goes on; returns it, and the cell behind it."""
    kernel.run("%%canvas -o total\ngroup(held.s(2) for i in range(4)) | tsum.s()")
    waiting, queued = kernel.start(wait), kernel.start(behind)
    kernel.begun(waiting)
    kernel.interrupt()
    kernel.wait(waiting)
    assert waiting.error["ename"] == "WaitInterrupted"
    return waiting, queued


def test_an_interrupt_stops_the_waiting_not_the_run(kernel):
    waiting, queued = interrupted(kernel, "total.get()", "marker = 'ran'")
    [line] = waiting.error["traceback"]
    assert "the run goes on" in line
    assert "total.wait() waits again, total.cancel() stops it" in line
    kernel.wait(queued)
    assert queued.status == "aborted"
    assert kernel.run("'marker' in globals()").value == "False"
    assert kernel.run("gate.set(); total.get(60)").value == "8"


def test_an_interrupt_of_the_cell_that_waits(kernel):
    waiting = kernel.start("%%canvas -w -o total\ngroup(held.s(2) for i in range(4)) | tsum.s()")
    kernel.begun(waiting, waits=2)  # first for a moment, in which it could end without a live view
    kernel.interrupt()
    kernel.wait(waiting)
    assert waiting.error["ename"] == "WaitInterrupted"
    assert kernel.run("gate.set(); total.get(60)").value == "8"


def test_an_interrupt_of_await(kernel):
    _, queued = interrupted(kernel, "await total", "1 + 1")
    kernel.wait(queued)
    assert queued.status == "aborted"
    assert kernel.run("gate.set(); await total").value == "8"


def test_an_interrupt_of_await_that_is_heard_late(kernel):
    kernel.run("%%canvas -o total\nheld.s()")
    waiting = kernel.start("""import asyncio
def at_work():
    print("at work", flush=True)
    time.sleep(2)
asyncio.get_running_loop().call_later(0.1, at_work)
await total""")
    kernel.said(waiting)  # while the loop is at work
    kernel.interrupt()
    kernel.wait(waiting)
    assert waiting.error["ename"] == "WaitInterrupted"


def test_await_gives_the_value_and_lets_the_loop_run(kernel):
    kernel.run("%%canvas -o total\nheld.s(3)")
    assert (
        kernel.run("""
import asyncio
async def open_gate():
    for _ in range(5):
        await asyncio.sleep(0.02)
    gate.set()
other = asyncio.ensure_future(open_gate())
await total""").value
        == "3"
    )


def test_await_can_be_given_up_by_a_timeout_of_asyncio(kernel):
    kernel.run("%%canvas -o total\nheld.s()")
    assert (
        kernel.run(
            """
try:
    await asyncio.wait_for(total, 0.1)
except TimeoutError as error:
    found = type(error).__name__
found""".replace("\ntry", "\nimport asyncio\ntry", 1)
        ).value
        == "'TimeoutError'"
    )


def test_a_second_interrupt_cancels_the_run(kernel, eventually):
    kernel.run("from nbcanvas.notebook import waiting\nwaiting.SECOND = 60.0")
    kernel.run("%%canvas -o total\ngroup(nap.s(0.3) for i in range(1000)) | tsum.s()")
    waiting = kernel.start("total.wait()")
    kernel.begun(waiting)
    kernel.interrupt()
    kernel.wait(waiting)
    handler = "getattr(get_ipython().kernel.saved_sigint_handler, '__name__', '')"  # of interrupts between two cells
    eventually(lambda: kernel.run(handler).value == "'second'")
    kernel.interrupt()
    eventually(lambda: kernel.run("total.done").value == "True")
    assert "REVOKED" in kernel.run("total.counts").value


def test_an_interrupt_much_later_cancels_nothing(kernel):
    kernel.run("%%canvas -o total\ngroup(held.s() for i in range(40)) | tsum.s()")
    waiting = kernel.start("total.wait()")
    kernel.begun(waiting)
    kernel.interrupt()
    kernel.wait(waiting)
    time.sleep(2.5)
    kernel.interrupt()
    time.sleep(0.3)
    assert "REVOKED" not in kernel.run("total.counts").value
    assert kernel.run("import time; time.sleep(0.01); 1").value == "1"


def test_waiting_twice_interrupted_at_once_cancels_the_run(kernel):
    kernel.run("from nbcanvas.notebook import waiting\nwaiting.SECOND = 60.0")
    kernel.run("%%canvas -o total\ngroup(held.s() for i in range(40)) | tsum.s()")
    for expected in ("the run goes on", "total is cancelled"):
        waiting = kernel.start("total.wait()")
        kernel.begun(waiting)
        kernel.interrupt()
        kernel.wait(waiting)
        assert expected in waiting.error["evalue"]


def test_a_failure_is_an_error_on_iopub(kernel):
    cell = kernel.wait(kernel.start("%%canvas -w\nadd.s(1, 1) | fail.s()"))
    assert cell.status == "error"
    assert cell.error["ename"] == "ValueError"
    shown = "\n".join(cell.error["traceback"])
    assert "chain[1] → fail(2)" in shown
    assert "Cell In[1], line" in shown
    cell = kernel.wait(kernel.start("%%canvas --bogus\nadd.s(1, 1)"))
    assert cell.error["ename"] == "UnknownOption"


def test_prints_of_a_task_do_not_stop_anything(kernel):
    kernel.run("@task\ndef chatty(i):\n    print('x' * 10_000)\n    return i")
    assert kernel.run("%%canvas -w\ngroup(chatty.s(i) for i in range(20)) | tsum.s()").value == "190"


def test_a_process_pool_leaves_no_orphan_when_the_kernel_is_killed(kernel, eventually):
    kernel.run("%canvas worker start -c 2 --pool processes")
    kernel.run("@task\ndef pid():\n    import os, time\n    time.sleep(0.2)\n    return os.getpid()")
    found = kernel.run("%%canvas -w\ngroup(pid.s() for i in range(8))").value
    pids = {int(word.strip("[], ")) for word in found.split(",")}
    kernel.run("%%canvas -o long\ngroup(nap.s(60) for i in range(2))")
    assert all(alive(pid) for pid in pids)
    kernel.manager.restart_kernel(now=True)
    eventually(lambda: not any(alive(pid) for pid in pids), 40)  # of sixty that a task takes


def test_a_kernel_with_work_running_restarts_at_once(kernel, eventually):
    kernel.run("%%canvas -o long\ngroup(nap.s(600) for i in range(8))")
    kernel.client.shutdown(restart=True)
    eventually(lambda: not kernel.manager.is_alive())  # no six hundred seconds later


def test_a_reload_of_the_extension_leaves_one_publisher_and_one_magic(kernel, eventually):
    kernel.run("%%canvas -o total\ngroup(nap.s(0.2) for i in range(20)) | tsum.s()")
    kernel.run("%reload_ext nbcanvas")
    eventually(lambda: kernel.of("update_display_data"))
    kernel.run("%reload_ext nbcanvas\n%load_ext nbcanvas")
    assert kernel.run("%%canvas -w\nadd.s(1, 1)").value == "2"
    # A view that was open a moment ago ends it with its next tick.
    eventually(lambda: kernel.run(PUBLISHES).value == "[]")
    assert kernel.run("len(get_ipython().Completer.custom_matchers)").value == "1"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
