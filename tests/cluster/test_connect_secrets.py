"""A password is in no repr, error, log, view, saved notebook, widget or pickle; nor in what programs print."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from nbcanvas import connect, submit
from nbcanvas.app.connecting import disconnect
from tests.cluster.fleet import ROOT, Fleet
from tests.notebook.kernels import started_kernel
from tests.servers import Redis

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]

PASSWORD = "gehe1m-Wort"

#: Cells that show something, or fail; each of them a place where others show the password.
PROBES = """
app
app.conf
dict(app.conf)
dict(app.conf.given)
[app.conf.broker_url, app.conf.result_backend]
app.conf["broker_url"]
vars(app.conf)
app.broker
app.backend
app.backend.runs
app.redis
app.kombu
app.fleet
app.post
app.control
app.performer
app.hub
app.bugreport()
vars(app)
app._connections.__dict__
run
run.result
run.why()
run.why().frame()
run.frame()
run.bars()
run.graph()
run.snapshot()
run.record()
vars(run)
run.result.__dict__
add
add.app.conf
add.s(1, 1)
nbcanvas.cluster()
nbcanvas.cluster().workers
nbcanvas.cluster().sight
%canvas
%canvas status
%canvas runs
%canvas tasks
%canvas last
%canvas why run
%canvas inspect stats
%canvas inspect conf
%canvas inspect report
%canvas inspect registered
%canvas inspect active_queues
%canvas control rate_limit add 100/s
%canvas control nonsense
%canvas cluster
%canvas cluster stop
%canvas connect staging
%canvas connect nowhere
%canvas connect broken
%tb
%xmode Verbose
%canvas connect broken
%canvas connect wrong
%config NBCanvas.short_errors = False
%canvas connect broken
%canvas connect wrong
%tb
nbcanvas.connect("broken")
nbcanvas.connect("wrong")
app.signature("nobody").apply_async((1,), queue="x").get(timeout=0.01)
nbcanvas.submit(app.signature("nobody.knows"))
nbcanvas.attach("nobody")
%debug_locals
import pickle; pickle.dumps(app.conf)
pickle.dumps(app.conf.broker_url)
pickle.dumps(run.result)
pickle.dumps(app)
pickle.dumps(add)
app.conf.broker_urll
app.conf.result_backend = "redis://h:notanumber/0"
app.conf
%whos
%canvas disconnect
%canvas status
""".strip().splitlines()

SETUP = """
%load_ext nbcanvas
import logging, nbcanvas
logging.basicConfig(level=logging.DEBUG)
from nbcanvas import task
from IPython.core.magic import register_line_magic
@task
def add(x, y): return x + y
@register_line_magic
def debug_locals(line):
    import sys, traceback
    frame = getattr(sys, "last_traceback", None)
    while frame is not None:
        print(repr(dict(frame.tb_frame.f_locals)))
        frame = frame.tb_next
%canvas connect staging
app = nbcanvas.current_app()
run = nbcanvas.submit(add.s(1, 2)); run.wait(20)
"""

PROJECT = """
[tool.nbcanvas.profiles.staging]
broker = "redis://127.0.0.1:{port}/0"
password_env = "STAGING"
backend = "redis://:${{STAGING}}@127.0.0.1:{port}/0"

[tool.nbcanvas.profiles.broken]
broker = "redis://127.0.0.1:1/0"
password_env = "STAGING"

[tool.nbcanvas.profiles.wrong]
broker = "redis://127.0.0.1:{port}/0"
password_env = "WRONG"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("secret"), password=PASSWORD)
    yield server
    server.stop()


@pytest.fixture
def project(tmp_path, server):
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(port=server.port))
    return tmp_path


def test_the_probes_are_many():
    assert len(PROBES) >= 40


@pytest.mark.parametrize("kind", ["ours", "celery"])
def test_nothing_a_kernel_or_a_worker_says_has_it(server, project, kind, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(project))
    with Fleet(server.url, tasks="tests.cluster.secretive") as fleet:
        worker = getattr(fleet, kind)(pool="threads", arguments=("-l", "DEBUG"))
        environment = {"STAGING": PASSWORD, "WRONG": f"{PASSWORD}-not", "PYTHONPATH": str(ROOT)}
        with started_kernel(project, **environment) as kernel:
            kernel.run(SETUP)
            said = []
            for probe in PROBES:
                cell = kernel.wait(kernel.start(probe), 120)
                said.append((probe, json.dumps([*cell.messages, cell.reply], default=str)))
            leaks = {probe: text.partition(PASSWORD)[0][-300:] for probe, text in said if PASSWORD in text}
            assert leaks == {}
            # The kernel says more than answers: what widgets hold, what threads log.
            heard = [message for _, message in kernel.heard if message["msg_type"] != "execute_input"]
            assert PASSWORD not in json.dumps(heard, default=str)
        assert PASSWORD not in worker.log


def test_a_saved_notebook_has_it_nowhere(server, project, monkeypatch):
    monkeypatch.setenv("STAGING", PASSWORD)
    with Fleet(server.url, tasks="tests.cluster.secretive") as fleet:
        fleet.ours()
        cells = [SETUP.replace("logging.DEBUG", "logging.INFO"), "%%canvas -o total -w\nadd.s(1, 2)", "%canvas cluster"]
        cells += ["%canvas status", "%canvas connect broken", "%canvas cluster stop", "app.conf"]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        client = NotebookClient(notebook, resources={"metadata": {"path": str(project)}}, allow_errors=True)
        client.execute()
    file = project / "saved.ipynb"
    nbformat.write(notebook, file)
    text = file.read_text()
    assert "********" in text
    assert "Workers" in text
    assert PASSWORD not in text


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "inspect stats",
        "inspect conf",
        "inspect report",
        "inspect active_queues",
        "control heartbeat",
        "report",
        "list bindings",
        "call add --args [1,2]",
        "result nobody",
        "purge -f",
        "nonsense",
    ],
)
def test_what_the_command_line_prints(server, command, monkeypatch):
    name = Path(sys.executable).parent / "nbcanvas"
    for url in (server.url, f"redis://:{PASSWORD}-not@127.0.0.1:{server.port}/0", f"redis://:{PASSWORD}@127.0.0.1:1/0"):
        done = subprocess.run(
            [name, "-b", url, *command.split()], capture_output=True, text=True, timeout=150, check=False, cwd=ROOT
        )
        assert PASSWORD not in done.stdout + done.stderr, command


def test_who_logs_everything_logs_it_nowhere(server, caplog, capfd):
    from nbcanvas import App

    caplog.set_level(logging.DEBUG)
    with App("quiet", set_as_current=False) as quiet:
        quiet.task(name="add")(lambda x, y: x + y)
        app = connect(server.url, app=quiet)
        run = submit(app.tasks["add"].s(1, 2), app=app)
        run.cancel()
        disconnect(app)
        with pytest.raises(ConnectionError) as caught:
            connect(f"redis://:{PASSWORD}@127.0.0.1:1/0", app=quiet)
        assert PASSWORD not in str(caught.value) + repr(caught.value)
        app.close()
    out, err = capfd.readouterr()
    assert PASSWORD not in caplog.text + out + err
