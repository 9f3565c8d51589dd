"""What a person may do wrong: each gives a clear error at the right place, and the worker goes on (see `goes_on`)."""

import io
import sys
import threading

import pytest

from nbcanvas import chain, chord, errors, group, signature
from tests.worker.tasks import notes


def fails(result, kind, text=None):
    with pytest.raises(kind, match=text) as caught:
        result.get(timeout=60)
    return caught.value


@pytest.mark.parametrize(
    "send",
    [
        lambda lab: lab.add.delay(threading.Lock(), 1),
        lambda lab: lab.add.delay(1, y=threading.Lock()),
        lambda lab: (lab.add.s(1, 1) | lab.add.s(threading.Lock())).delay(),
        lambda lab: group(lab.echo.s(threading.Lock()), lab.echo.s(1)).delay(),
    ],
    ids=["argument", "keyword", "chain", "group"],
)
def test_an_argument_that_does_not_travel_is_refused_where_it_is_sent(lab, send):
    with pytest.raises(errors.NotSerializable, match="lock"):
        send(lab)


def test_a_result_that_does_not_travel(lab):
    fails(lab.lock.delay(), errors.NotSerializable, r"lock returned what cannot travel.*lock")
    fails(lab.stream.delay(), errors.NotSerializable, "generator")


def test_a_result_that_does_not_travel_ends_the_chain_and_the_chord(lab):
    fails((lab.lock.s() | lab.echo.s()).delay(), errors.NotSerializable)
    fails(chord([lab.lock.s(), lab.add.s(1, 1)], lab.tsum.s()).delay(), errors.ChordError, "NotSerializable")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("sys_exit", errors.TaskError, r"sys.exit\(3\)"),
        ("interrupted", errors.TaskError, "KeyboardInterrupt"),
        ("recurse", RecursionError, None),
        ("no_memory", MemoryError, "all gone"),
        ("fatal", errors.RemoteError, "Fatal.*base"),
        ("ignored", None, None),
    ],
)
def test_a_task_that_ends_oddly(lab, name, kind, text):
    task = getattr(lab, name)
    if kind is None:
        result = task.delay()
        assert result.get(timeout=60) is None and result.state == "IGNORED"
    else:
        result = task.delay()
        fails(result, kind, text)
        assert result.state == "FAILURE" and name in result.traceback
        assert "nbcanvas/worker/execute" not in result.traceback.split("\n", 2)[1]


def test_what_is_behind_a_task_that_ends_oddly_ends_too(lab):
    for name in ("sys_exit", "interrupted", "recurse", "no_memory", "fatal"):
        task = getattr(lab, name)
        with pytest.raises(Exception):  # noqa: B017 - each has its own
            (task.si() | lab.echo.s() | lab.echo.s()).delay().get(timeout=60)
        fails(chord([task.si(), lab.add.s(1, 1)], lab.tsum.s()).delay(), errors.ChordError)
    for name in ("ignored", "rejected"):
        task = getattr(lab, name)
        fails((task.si() | lab.echo.s() | lab.echo.s()).delay(), errors.TaskRevokedError, name)
        fails(chord([task.si(), lab.add.s(1, 1)], lab.tsum.s()).delay(), errors.TaskRevokedError)


def test_a_process_that_exits(lab):
    if lab.pool != "processes":
        return  # a thread that calls os._exit takes its program with it
    error = fails(lab.os_exit.delay(), errors.WorkerLostError, r"os_exit\[.*exited with code 3")
    assert isinstance(error, errors.TaskError)
    fails(lab.suicide.delay(9), errors.WorkerLostError, "SIGKILL")
    fails(lab.suicide.delay(11), errors.WorkerLostError, "SIGSEGV")
    fails((lab.os_exit.si() | lab.echo.s()).delay(), errors.WorkerLostError)
    fails(chord([lab.os_exit.si(), lab.add.s(1, 1)], lab.tsum.s()).delay(), errors.ChordError, "exited with code 3")


def test_megabytes_of_output(lab):
    assert lab.chatter.delay(4).get(timeout=60) == "said"


def test_a_task_that_closes_stdout(lab, monkeypatch):
    own = io.StringIO()
    monkeypatch.setattr(sys, "stdout", own)
    assert lab.closes_stdout.delay().get(timeout=60) == "closed"
    if lab.pool == "processes":
        assert not own.closed
        assert group(lab.prints.s() for _ in range(8))().get(timeout=60) == ["said"] * 8
    else:
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert lab.prints.delay().get(timeout=60) == "said"


def test_exceptions_that_do_not_pickle(lab):
    error = fails(lab.needs_two.delay(), Exception, "first")
    assert type(error).__name__ in ("NeedsTwo", "RemoteError") and "NeedsTwo" in repr(type(error)) + str(error)
    assert getattr(error, "exc_args", error.args) == ("first",)
    error = fails(lab.holds_lock.delay(), Exception)
    assert "locked" in str(error)
    result = lab.local_error.delay()
    assert "from here" in str(fails(result, Exception))
    assert "Local: from here" in result.traceback


def test_an_exception_whose_repr_raises(lab):
    result = lab.no_repr.delay()
    with pytest.raises(Exception):  # noqa: B017 - NoRepr, or what stands for it
        result.get(timeout=60)
    assert "NoRepr" in result.traceback
    fails(chord([lab.no_repr.s(), lab.add.s(1, 1)], lab.tsum.s()).delay(), errors.ChordError)
    fails(
        (lab.echo.s(1) | chord([lab.no_repr.si(), lab.add.si(1, 1)], lab.tsum.s()) | lab.echo.s()).delay(),
        errors.ChordError,
    )


def test_reject(lab, tmp_path):
    result = lab.rejected.delay()
    assert result.get(timeout=60) is None and result.state == "REJECTED"
    assert lab.rejects_once.delay(str(tmp_path / "n")).get(timeout=60) == 2
    assert (lab.rejects_once.s(str(tmp_path / "m")) | lab.add.s(1)).delay().get(timeout=60) == 3
    assert len(notes(tmp_path / "n")) == 2


def test_an_unknown_task(lab):
    fails(lab.app.send_task("ad", (1, 2)), errors.NotRegistered, "did you mean 'add'")
    fails((lab.add.s(1, 2) | signature("nowhere", app=lab.app)).delay(), errors.NotRegistered, "nowhere")
    fails(chord([lab.add.s(1, 2), signature("nowhere", app=lab.app)], lab.tsum.s()).delay(), errors.ChordError)


def test_wrong_arity(lab):
    with pytest.raises(errors.InvalidTaskError, match="add"):
        lab.add.delay(1)
    with pytest.raises(errors.InvalidTaskError):
        lab.add.delay(1, 2, z=3)
    fails((lab.add.s(1, 2) | lab.add.s(3, 4)).delay(), TypeError, "add")
    fails((lab.add.s(1, 2) | lab.add.si()).delay(), TypeError, "add")


def test_a_replacement_that_cannot_be(lab):
    fails(lab.replaced_badly.delay(), errors.NotSerializable, "lock")


def test_waiting_inside_a_task_is_refused(lab):
    fails(lab.blocks.delay(), RuntimeError, "Never call result.get")


def test_a_generator_of_signatures_that_raises(lab):
    def members():
        yield lab.add.s(1, 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        group(members()).delay()
    assert chain(lab.add.s(1, 1), lab.add.s(1)).delay().get(timeout=60) == 3
