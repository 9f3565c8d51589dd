"""Runs of another process: it is killed, the workers go on, and who attaches sees and hears of all of it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from nbcanvas import attach, submit
from nbcanvas.backend.port import Record
from nbcanvas.errors import UnknownRun
from tests.cluster.fleet import ROOT, Fleet, our_app
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

CHILD = """
import os, signal, sys
from nbcanvas import chord, group, submit
from tests.cluster.fleet import our_app
app = our_app(sys.argv[1], sys.argv[1], "tests.cluster.attached", {"result_expires": 600})
of = app.tasks
canvas = chord([of["held"].s(n) for n in range(8)], of["total"].s()) | of["slow"].s()
run = submit(canvas, app=app, name="nightly")
print(run.id, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["ours", "celery"])
def fleet(request, redis_url):
    with Fleet(redis_url, tasks="tests.cluster.attached") as fleet:
        getattr(fleet, request.param)(pool="threads", concurrency=2)
        yield fleet


def other(fleet, tmp_path):
    """Start a run in another process; returns its id, and what kills the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, fleet.url],
        cwd=ROOT,
        env=fleet.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    run_id = process.stdout.readline().strip()

    def kill():
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)

    assert run_id
    return run_id, kill


def known(app, task_id):
    return (app.control.inspect(timeout=60).query_task(task_id) or {}).values()


def go(app):
    """Let the tasks of the header end."""
    app.redis.call("RPUSH", "gate", *range(8))


def test_a_run_whose_process_was_killed_goes_on_and_can_be_followed(fleet, tmp_path):
    app = fleet.client()
    run_id, kill = other(fleet, tmp_path)
    until(lambda: app.backend.runs.look(run_id) is not None, what="the run is kept")
    kill()
    run = attach("nightly", app=app)
    assert run.id == run_id
    assert len(run) == 10
    assert not run.done
    assert run.lost is None
    go(app)
    assert run.get(timeout=60) == sum(range(8))
    assert run.wait(60).counts == {"SUCCESS": 10}
    assert run.frame()["state"].eq("SUCCESS").all()
    assert run.value_of(run.snapshot().tree.calls[9]) == 28
    assert attach(run_id, app=app) is run
    assert "slow" in run.bars().text


def test_a_run_that_ended_unseen(fleet, tmp_path):
    app = fleet.client()
    run_id, kill = other(fleet, tmp_path)
    until(lambda: app.backend.runs.look(run_id) is not None)
    kill()
    go(app)
    later = fleet.client()
    calls = list(attach(run_id, app=app).snapshot().tree.calls)
    until(lambda: len(later.backend.runs.results(calls)) == 10, what="the workers have done it")
    run = attach(run_id[:12], app=later)
    assert run.done
    assert run.get(timeout=60) == 28
    again = run.rerun()  # nothing has to run again
    assert again.get(timeout=60) == 28


def test_cancelled_from_elsewhere(fleet, tmp_path):
    app = fleet.client()
    run_id, kill = other(fleet, tmp_path)
    until(lambda: app.backend.runs.look(run_id) is not None)
    kill()
    run = attach(run_id, app=app)
    run.cancel()
    last = [call.id for call in run.snapshot().tree.calls][-1]
    until(lambda: last in app.control.inspect([fleet.workers[0].name], 60).revoked()[fleet.workers[0].name])
    go(app)  # what runs may end
    run.wait(60)
    assert run.counts.get("REVOKED", 0) >= 1
    assert run.state == "REVOKED"


def test_a_task_that_belongs_to_no_run(fleet):
    sender, app = fleet.celery_client(), fleet.client()
    sent = sender.tasks["held"].apply_async((5,))
    until(lambda: app.backend.get(sent.id) is not None or any(known(app, sent.id)), what="somebody knows of it")
    found = []

    def attached():
        with suppress(UnknownRun):  # its worker may be too busy to answer within a second
            found.append(attach(sent.id, app=app))
        return found

    until(attached)
    run = found[0]
    assert not run.done
    go(app)
    assert run.get(timeout=60) == 5
    assert run.counts == {"SUCCESS": 1}
    failed = sender.tasks["fails"].apply_async()
    until(lambda: failed.state == "FAILURE")
    over = attach(failed.id, app=app)
    assert over.done
    with pytest.raises(ZeroDivisionError):
        over.get(timeout=60)
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        attach("nobody", app=app)


def test_a_task_that_ends_while_workers_are_asked_for_it(redis_url, monkeypatch):
    app = our_app(redis_url, redis_url, "tests.cluster.attached", {})

    def ask(*_args, **_kwargs):
        app.backend.settle("gone", Record("SUCCESS", payload=5))
        return iter(())

    monkeypatch.setattr(app.control, "ask", ask)
    assert attach("gone", app=app).get(timeout=60) == 5
    app.close()


def test_what_is_kept_has_no_pickle_and_garbage_is_said(fleet, redis_url):
    import pickle

    from nbcanvas.errors import CorruptResult

    app = fleet.client()
    run = submit(app.tasks["slow"].s(1), app=app)
    run.wait(60)
    app.close()  # it has said its last word
    reader = fleet.client()
    stored = reader.backend.runs.look(run.id)
    for data in (stored.plan, stored.state):
        with pytest.raises(Exception, match=r".*"):
            pickle.loads(data)
    for field, garbage in (("plan", b"{"), ("plan", pickle.dumps(1)), ("state", b"x"), ("state", b"x\x9c")):
        before = reader.redis.call("HGET", f"nbcanvas-run-{run.id}", field)
        reader.redis.call("HSET", f"nbcanvas-run-{run.id}", field, garbage)
        with pytest.raises(CorruptResult, match=field):
            attach(run.id, app=reader)
        reader.redis.call("HSET", f"nbcanvas-run-{run.id}", field, before)
