"""Revoking anything, at any moment: it ends, and so does everything that waits for it."""

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from nbcanvas import App, chord, errors, group
from nbcanvas.broker.local import LocalBroker
from nbcanvas.plan import Call, Message
from tests.worker.conftest import settle, started
from tests.worker.tasks import notes


@pytest.fixture
def gate(lab, tmp_path):
    """Both slots are taken until the gate is opened; returns what opens it."""
    path = str(tmp_path / "gate")
    held = group(lab.hold.s(path), lab.hold.s(path)).delay()
    started(path, 2)

    def open_gate():
        Path(path).touch()
        assert held.get(timeout=60) == ["held", "held"]

    yield open_gate
    open_gate()


def revoked(result):
    with pytest.raises(errors.TaskRevokedError):
        result.get(timeout=60)
    assert result.state == "REVOKED"


def test_a_waiting_task(lab, gate, tmp_path):
    result = lab.write.delay(str(tmp_path / "n"), "ran")
    result.revoke()
    revoked(result)
    gate()
    assert not notes(tmp_path / "n")


def test_a_scheduled_task(lab):
    result = lab.add.apply_async((1, 1), countdown=60)
    result.revoke()
    revoked(result)


def test_an_id_that_is_sent_later(lab):
    lab.app.control.revoke("to-come")
    revoked(lab.add.apply_async((1, 1), task_id="to-come"))


def test_a_running_task_goes_on_without_terminate(lab, tmp_path):
    path = str(tmp_path / "hold")
    result = lab.hold.delay(path)
    started(path)
    result.revoke()
    assert result.state == "PENDING"
    Path(path).touch()
    assert result.get(timeout=60) == "held"


def test_a_running_task_is_ended_by_terminate(lab, tmp_path):
    path = str(tmp_path / "hold")
    result = (lab.hold.s(path) | lab.write.s("after")).delay()
    started(path)
    result.parent.revoke(terminate=True)
    revoked(result.parent)
    revoked(result)
    if lab.pool == "processes":
        pid = int(notes(f"{path}.started")[0])
        settle(lambda: not _runs(pid))


def test_a_task_that_ignores_sigterm_is_killed(lab, tmp_path):
    if lab.pool != "processes":
        return
    path = str(tmp_path / "hold")

    def stubborn(path):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        lab_hold(path)

    lab_hold = lab.hold.run
    result = lab.app.task(name="stubborn")(stubborn).delay(path)
    started(path)
    result.revoke(terminate=True)
    revoked(result)
    settle(lambda: not _runs(int(notes(f"{path}.started")[0])))


def test_the_middle_of_a_chain(lab, gate, tmp_path):
    log = str(tmp_path / "n")
    result = (lab.add.s(1, 1) | lab.echo.s() | lab.write.si(log, "third") | lab.echo.s()).delay()
    result.parent.parent.revoke()
    gate()
    revoked(result)
    revoked(result.parent)
    assert result.parent.parent.parent.get(timeout=60) == 2
    assert not notes(log)


def test_a_member_of_a_chords_header(lab, gate, tmp_path):
    log = str(tmp_path / "n")
    result = chord([lab.write.si(log, i) for i in range(3)], lab.tsum.s()).delay()
    result.parent[1].revoke()
    gate()
    revoked(result)
    assert sorted(notes(log)) == ["0", "2"]


def test_the_body_of_a_chord(lab, gate, tmp_path):
    log = str(tmp_path / "n")
    result = (chord([lab.add.s(1, 1), lab.add.s(2, 2)], lab.write.si(log, "body")) | lab.echo.s()).delay()
    result.parent.revoke()
    gate()
    assert result.parent.parent.get(timeout=60) == [2, 4]
    revoked(result)
    assert not notes(log)


def test_a_whole_group(lab, gate, tmp_path):
    log = str(tmp_path / "n")
    result = group(lab.write.si(log, i) for i in range(20)).delay()
    result.revoke()
    for one in result:
        revoked(one)
    gate()
    assert not notes(log)


def test_a_group_that_a_nested_chord_waits_for(lab, gate):
    inner = chord([lab.add.s(1, 1), lab.add.s(2, 2)], lab.tsum.s())
    result = chord([inner, lab.add.s(3, 3)], lab.tsum.s()).delay()
    members = [r for one in result.parent for r in (one.parent or ())]
    members[0].revoke()
    gate()
    revoked(result)


def test_by_stamp(lab, gate):
    sig = group(lab.add.s(i, i) for i in range(3))
    sig.stamp(colour="red")
    result = sig.delay()
    other = lab.add.delay(1, 1)
    lab.app.control.revoke_by_stamped_headers({"colour": "red"})
    for one in result:
        revoked(one)
    gate()
    assert other.get(timeout=60) == 2
    lab.app.control.revoked_stamps.clear()


def test_terminate_a_whole_group_many_times(lab, tmp_path):
    """Kills come while tasks begin and end: none may hit the wrong task, and none may be lost."""
    for turn in range(5):
        result = group(lab.nap.s(0.02) for _ in range(12)).delay()
        time.sleep(0.005 * turn)
        result.revoke(terminate=True)
        for one in result:
            assert one.get(timeout=60, propagate=False) is not None
            assert one.state in ("SUCCESS", "REVOKED")


def test_an_interrupt_ends_the_waiting_and_not_the_task(lab, tmp_path):
    path = str(tmp_path / "hold")
    result = lab.hold.delay(path)
    started(path)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        result.get(timeout=60)
    timer.join()
    Path(path).touch()
    assert result.get(timeout=60) == "held"


def test_a_storm_of_interrupts(lab):
    """An interrupt may come at any moment of sending and waiting; it ends that, and nothing else."""
    stop, armed, caught = threading.Event(), [], 0

    def on_interrupt(*_):
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    def storm():
        while not stop.wait(0.003):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, on_interrupt)
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        while caught < 100:
            try:
                armed.append(True)
                assert (lab.add.s(1, 1) | lab.add.s(2)).delay().get(timeout=60) == 4
            except KeyboardInterrupt:
                caught += 1
            armed.clear()
    finally:
        armed.clear()
        stop.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert group(lab.add.s(i, i) for i in range(50)).delay().get(timeout=60) == [2 * i for i in range(50)]


def test_an_interrupt_at_any_moment_of_sending_leaves_nothing_locked():
    broker = LocalBroker(lambda message: ("celery", 0))
    message = Message(Call("id", "add", ()), (), None, "root", None, 0.0)
    taken: list = []

    def take():
        while (found := broker.get()) is not None:
            taken.append(found)

    def interrupted(moment):
        """Send, with an interrupt when the `moment`-th function is entered or left; False where none is."""

        def interrupt(frame, event, arg):
            nonlocal moment
            moment -= event in {"call", "c_return"}
            if not moment:
                raise KeyboardInterrupt

        try:
            sys.setprofile(interrupt)
            broker.publish((message,))
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False

    thread = threading.Thread(target=take)
    thread.start()
    moments = itertools.count(2)  # the first one is `setprofile` itself
    while interrupted(next(moments)):
        before = len(taken)
        broker.publish((message,))
        settle(lambda before=before: len(taken) > before and broker._idle)
    broker.close()
    thread.join(60)
    assert not thread.is_alive()
    assert next(moments) > 10


def test_an_interrupt_of_the_process_group(lab, tmp_path):
    """What Jupyter and a terminal do: every process of the group gets it."""
    path = str(tmp_path / "hold")
    result = group(lab.hold.s(path), lab.add.s(1, 1)).delay()
    started(path)
    for pid in {int(pid) for pid in notes(f"{path}.started")} - {os.getpid()}:
        assert os.getpgid(pid) != os.getpgrp()
        os.kill(pid, signal.SIGINT)
    Path(path).touch()
    assert result.get(timeout=60) == ["held", 2]


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_revoke_between_two_attempts_is_heard():
    """The moment when an attempt is over, and the next one is in no queue yet."""
    app, revoked = App("between", set_as_current=False), []

    @app.task(bind=True)
    def again(self):
        raise self.retry(countdown=3600, exc=ValueError("later"))

    settle = app.backend.settle

    def settled(task_id, record):
        found = settle(task_id, record)
        if record.state == "RETRY" and not revoked:
            revoked.append(task_id)
            app.control.revoke(task_id)
        return found

    app.backend.settle = settled
    result = again.delay()
    with app, pytest.raises(errors.TaskRevokedError):
        result.get(timeout=60)
    assert revoked == [result.id]
    assert not app.broker.waiting()
