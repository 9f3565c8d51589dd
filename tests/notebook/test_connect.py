"""``%canvas connect``, ``disconnect``, ``cluster``, ``inspect``, ``control`` and ``shipped``, cell by cell."""

import re

import pytest

import nbcanvas
from nbcanvas.app import fleet as sights
from nbcanvas.errors import ImproperlyConfigured, NotRegistered, ServerLost
from nbcanvas.notebook.errors import CellError, UnknownOption
from tests.cluster.fleet import Fleet
from tests.servers import Redis


def text_of(bundles):
    return "\n".join(bundle["text/plain"] for bundle in bundles)


# -- on the worker in this process ------------------------------------------------------------------------------------


def test_the_cluster_of_this_process(shell):
    shell.run("%canvas worker start -c 2")
    shown = text_of(shell.shows("%canvas cluster"))
    assert shown.startswith("this process: 1 worker")
    assert "threads" in shown
    assert nbcanvas.cluster().workers.slots.tolist() == [2]
    with pytest.raises(CellError, match="nothing behind it"):
        shell.run("%canvas cluster all")
    assert shell.run("%canvas cluster stop") is None


def test_control_takes_celerys_commands(shell):
    shell.run("%canvas worker start -c 2")
    frame = shell.run("%canvas control rate_limit add 10/m")
    assert frame.ok.tolist() == [True]
    assert shell.run("%canvas control rate_limit nobody 10/m").ok.tolist() == [False]
    absent = shell.run("%canvas control rate_limit add 1/s -d w9@h")
    assert absent.answer.tolist() == ["no answer"]
    for line, says in (
        ("control", "takes one of"),
        ("control pool_grow many", "n is a number"),
        ("control add_consumer", "takes QUEUE"),
        ("control time_limit add 1 2 3", "takes TASK_NAME [SOFT] [HARD]"),
        ("control terminate SIGTERM", "takes SIGNAL TASK_ID…"),
        ("control revoke_by_stamped_headers batch", "not KEY=VALUE"),
        ("inspect active -t long", "invalid float"),
        ("inspect active now", "nothing behind it"),
        ("inspect query_task", "takes task ids"),
        ("inspect active --destinatoin w1@h", "did you mean --destination?"),
        ("connect a b", "unrecognized"),
        ("disconnect now", "nothing behind it"),
        ("shipped", "--ship does that"),
    ):
        with pytest.raises(CellError, match=re.escape(says)):
            shell.run(f"%canvas {line}")
    with pytest.raises(UnknownOption, match="did you mean pool_grow"):
        shell.run("%canvas control poolgrow")


def test_what_is_not_there_is_said_and_nothing_changes(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("NBCANVAS_BROKER_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    before = nbcanvas.current_app()
    for line, error, says in (
        ("connect", ImproperlyConfigured, "connect to what"),
        ("connect staging", ImproperlyConfigured, "no profile 'staging'"),
        ("connect redis://:hidden@127.0.0.1:1/0", ServerLost, "********@127.0.0.1:1/0 is not there ("),
        ("connect redis://:hidden@127.0.0.1:1/zero", ImproperlyConfigured, "names database 'zero'"),
        ("connect http://h", ImproperlyConfigured, "No such transport: http; there are redis://"),
        ("connect nonsense://h", ImproperlyConfigured, "nonsense"),
    ):
        told = shell.error(f"%canvas {line}")
        assert isinstance(told.error, error), told.error
        assert says in told.text
        assert "hidden" not in told.text
        assert nbcanvas.current_app() is before
    assert "not connected" in repr(shell.run("%canvas disconnect"))


def test_completion(shell, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.nbcanvas.profiles.staging]\nbroker = "redis://h"\n')
    monkeypatch.chdir(tmp_path)
    assert "staging" in shell.complete("%canvas connect st")
    assert "--backend" in shell.complete("%canvas connect staging --b")
    assert "pool_grow" in shell.complete("%canvas control pool_g")
    assert "active_queues" in shell.complete("%canvas inspect active_")


def test_a_word_of_a_line_may_be_an_expression(shell):
    shell.run("%canvas worker start -c 1")
    run = shell.run('import nbcanvas\nlater = nbcanvas.submit(add.s(1, 1), options={"countdown": 600})\nlater')
    shell.run("numbers = [later.id]")
    found = shell.run("%canvas inspect query_task {numbers[0]} $nobody {no such thing}")
    assert found[["id", "state"]].values.tolist() == [[run.id, "reserved"]]
    assert shell.run("%canvas control revoke {numbers[0]}").ok.tolist() == [True]
    assert run.wait(60).state == "REVOKED"
    assert shell.run("%canvas inspect report").report.str.contains("nbcanvas").all()


# -- on a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch):
    """Give workers time to answer; once all have answered, nobody waits."""
    for ask in (sights.Fleet.ask, sights.Fleet.sight):
        monkeypatch.setitem(ask.__kwdefaults__, "timeout", 30.0)


@pytest.mark.servers
def test_cells_go_to_the_cluster_and_back(shell, redis_url, patient):
    with Fleet(redis_url, tasks="tests.cluster.attached") as fleet:
        fleet.celery(pool="threads", name="theirs@h")
        fleet.ours(name="ours@h")
        told = repr(shell.run(f"%canvas connect {redis_url}"))
        assert f"broker   {redis_url}" in told
        assert "2 (1 Celery, 1 nbcanvas) with 4 slots on queue celery" in told
        assert shell.run('%%canvas -w\ngroup(signature("slow", (n,)) for n in range(4)) | signature("total")') == 6
        status = repr(shell.run("%canvas status"))
        assert redis_url in status
        assert "2 (1 Celery, 1 nbcanvas)" in status
        told = shell.error("%%canvas\nadd.s(1, 2)")
        assert isinstance(told.error, NotRegistered)
        assert "theirs@h" in told.text
        dry = text_of(shell.shows("%%canvas -n\nadd.s(1, 2)"))
        assert "do not know it" in dry
        frame = shell.run("%canvas inspect stats -d theirs@h -t 30")
        assert len(frame) == 1
        known = shell.run("%canvas inspect registered -t 30").set_index(["worker", "name"])
        assert known.rate_limit["theirs", "seldom"] == known.rate_limit["ours", "seldom"] == "1/h"
        assert known.version["ours", "seldom"]
        silent = shell.run("%canvas inspect ping -d theirs@h,nobody@h -t 3")
        assert silent.attrs["silent"] == ["nobody@h"]
        shown = text_of(shell.shows("%canvas cluster"))
        assert "ours, theirs" in shown  # where cells are compared, workers have no hosts
        grown = shell.run("%canvas control pool_grow 1 -d ours@h -t 30")
        assert grown.ok.tolist() == [True]
        elsewhere = f"{redis_url.rpartition('/')[0]}/15"
        told = repr(shell.run(f"%canvas connect {redis_url} --backend {elsewhere}"))
        assert f"ours@h, theirs@h: results are kept in {redis_url}, and looked for in {elsewhere};" in told.replace(
            "theirs@h, ours@h", "ours@h, theirs@h"
        )
        assert "embedded" in repr(shell.run("%canvas disconnect"))
        assert shell.run("%%canvas -w\nadd.s(1, 2)") == 3


@pytest.mark.servers
def test_a_password_in_a_cell_is_said_once_to_be_kept_there(shell, tmp_path):
    server = Redis(tmp_path, password="gehe1m")
    try:
        told = repr(shell.run(f"%canvas connect {server.url}"))
        assert "the notebook keeps what this cell says" in told
        assert "gehe1m" not in told
        assert "********" in told
        shell.run("%canvas disconnect")
    finally:
        server.stop()


@pytest.mark.servers
def test_shipped_says_what_goes_along(shell, redis_url, monkeypatch):
    monkeypatch.setenv("NBCANVAS_SIGNING_KEY", "a key that both of them know of!")
    told = repr(shell.run(f"%canvas connect {redis_url} --ship"))
    assert "travel by value" in told
    frame = shell.run("%canvas shipped")
    assert "add" in set(frame.task)
    shell.run("%canvas disconnect")
