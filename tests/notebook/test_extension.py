"""Loading, reloading, unloading; defaults; completion; the panel."""

import subprocess
import sys
import threading

import pandas as pd
import pytest

import nbcanvas
from nbcanvas import errors
from nbcanvas.canvas.shape import TYPES
from nbcanvas.notebook import CellError, UnknownOption
from nbcanvas.notebook.panel import COMMANDS


def traces(ip) -> dict:
    """Return all that the extension leaves in a shell."""
    formatters = ip.display_formatter.formatters
    return {
        "magics": [kind for kind in ("line", "cell") if "canvas" in ip.magics_manager.magics[kind]],
        "matchers": len(ip.Completer.custom_matchers),
        "transformers": len(ip.input_transformers_cleanup),
        "callbacks": len(ip.events.callbacks["pre_run_cell"]),
        "configurables": [type(one).__name__ for one in ip.configurables].count("NBCanvas"),
        "formatters": sum(
            kind in formatters[mime].type_printers
            for mime in ("text/plain", "text/html")
            for kind in (nbcanvas.Run, nbcanvas.Signature, *TYPES.values())
        ),
    }


def test_loading_twice_and_reloading_is_loading_once(bare):
    before = traces(bare.ip)
    bare.run("%load_ext nbcanvas")
    loaded = traces(bare.ip)
    assert loaded["magics"] == ["line", "cell"]
    assert loaded["configurables"] == 1
    assert loaded["matchers"] == before["matchers"] + 1
    bare.run("%load_ext nbcanvas")
    assert traces(bare.ip) == loaded
    bare.run("%reload_ext nbcanvas")
    assert traces(bare.ip) == loaded
    bare.run("%unload_ext nbcanvas")
    assert traces(bare.ip) == before
    bare.run("%load_ext nbcanvas")
    assert traces(bare.ip) == loaded


def test_unloading_stops_the_worker_and_is_idempotent(shell):
    shell.run("%%canvas -w\nadd.s(1, 1)")
    assert nbcanvas.current_app().worker is not None
    shell.run("%unload_ext nbcanvas")
    assert nbcanvas.current_app().worker is None
    assert not [thread for thread in threading.enumerate() if "publisher" in thread.name]
    nbcanvas.unload_ipython_extension(shell.ip)
    assert shell.run("'canvas' in get_ipython().magics_manager.magics['cell']") is False


def test_tasks_and_runs_survive_a_reload(shell):
    shell.run("%%canvas -o total\nadd.s(1, 1)")
    shell.run("%reload_ext nbcanvas")
    assert shell.run("total.get(60)") == 2
    assert shell.run("%%canvas -w\nadd.s(2, 2)") == 4


def test_loading_prints_nothing_and_starts_nothing():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "import threading, nbcanvas\n"
        "ip = InteractiveShell.instance()\n"
        "before = threading.active_count()\n"
        "ip.run_line_magic('load_ext', 'nbcanvas')\n"
        "print(threading.active_count() - before, nbcanvas.current_app().worker)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["0 None"]


# -- defaults ---------------------------------------------------------------------------------------------------------


def test_config_is_listed_and_used(shell):
    assert shell.run("%%canvas\nadd.s(1, 1)") is None
    shell.run("%config NBCanvas.wait = True")
    assert shell.run("%%canvas\nadd.s(1, 1)") == 2


def test_what_is_nearer_wins(bare, tmp_path):
    (tmp_path / "home" / ".config").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "nbcanvas.toml").write_text('view = "graph"\nqueue = "user"\ntracebacks = 7\n')
    (tmp_path / "pyproject.toml").write_text(
        '[tool.nbcanvas]\nview = "table"\nqueue = "project"\n[tool.nbcanvas.profiles.x]\nbroker = "y"\n'
    )
    inner = tmp_path / "notebooks" / "deep"
    inner.mkdir(parents=True)
    bare.run(f"%cd -q {inner}")
    bare.run("%load_ext nbcanvas")
    settings = bare.ip.run_line_magic
    assert settings("config", "NBCanvas.view") == "table"  # the project's over the user's
    assert settings("config", "NBCanvas.queue") == "project"
    assert settings("config", "NBCanvas.tracebacks") == 7  # the user's over the default
    bare.run("%config NBCanvas.queue = 'config'")
    bare.run("from nbcanvas import task\n@task\ndef add(x, y): return x + y")
    bare.run("%%canvas -f df\nadd.s(1, 1)")
    assert list(bare["df"]["queue"]) == ["config"]
    bare.run("%%canvas -q option -f df\nadd.s(1, 1)")
    assert list(bare["df"]["queue"]) == ["option"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('veiw = "graph"', "did you mean view?"),
        ('view = "pie"', "view"),
        ("view = ", "pyproject.toml"),
        ("wait = 3", "wait"),
    ],
)
def test_a_file_that_cannot_be_meant_is_named(bare, tmp_path, text, says):
    (tmp_path / "pyproject.toml").write_text(f"[tool.nbcanvas]\n{text}\n")
    told = bare.error("%load_ext nbcanvas")
    assert isinstance(told.error, CellError)
    assert "pyproject.toml" in str(told.error)
    assert says in str(told.error)
    assert len(told.shown) == 1
    (tmp_path / "pyproject.toml").write_text("")
    bare.run("%load_ext nbcanvas")


def test_the_worker_is_as_configured(shell):
    shell.run("%config NBCanvas.concurrency = 2\n%config NBCanvas.pool = 'threads'")
    shell.run("%%canvas -w\nadd.s(1, 1)")
    assert nbcanvas.current_app().worker.concurrency == 2


def test_long_errors_on_request(shell):
    shell.run("%config NBCanvas.short_errors = False")
    assert shell.error("%%canvas --bogus\nadd.s(1, 1)").shown is None
    assert shell.error("%%canvas -w\nfail.s(1)").shown is None


# -- completion -------------------------------------------------------------------------------------------------------


def test_options_are_completed_and_nothing_else(shell):
    offered = shell.complete("%%canvas --")
    assert "--wait" in offered
    assert "--dry-run" in offered
    assert all(text.startswith("--") for text in offered)
    assert shell.complete("%%canvas -o total --st") == ["--stamp"]
    assert "--wait" not in shell.complete("%%canvas --wait 3 --")
    assert shell.complete("%%canvas --stamp a=1 --st") == ["--stamp"]  # can be repeated
    assert shell.complete("%%canvas -o total --st", of="%%canvas -o total --st\nadd.s(1, 1)") == ["--stamp"]


def test_values_are_completed(shell):
    shell.run(
        "class Visitor(StampingVisitor):\n    pass\nmine = nbcanvas = __import__('nbcanvas')\napp = nbcanvas.App()"
    )
    assert shell.complete("%%canvas --view ") == ["bars", "graph", "timeline", "table", "none"]
    assert shell.complete("%%canvas --view g") == ["graph"]
    assert shell.complete("%%canvas -V ") == ["Visitor"]
    assert shell.complete("%%canvas --app ") == ["app"]
    assert "celery" in shell.complete("%%canvas -q ")


def test_commands_are_completed_also_behind_an_assignment(shell):
    assert shell.complete("%canvas in") == ["inspect"]
    assert "active" in shell.complete("%canvas inspect ")
    assert shell.complete("x = %canvas insp") == ["inspect"]
    assert shell.complete("%canvas worker st") == ["start", "stop"]
    assert shell.complete("%canvas worker start --pool p") == ["processes"]
    shell.run("%%canvas -o total\nadd.s(1, 1)")
    assert shell.complete("%canvas cancel ") == ["total"]


def test_python_below_the_line_is_completed_as_python(shell):
    body = "%%canvas -o total\nadd.s"
    assert "--out" not in shell.complete(body, of=body)


# -- the panel ---------------------------------------------------------------------------------------------------------


def test_the_panel(shell):
    assert "none yet" in repr(shell.run("%canvas"))
    shell.run("%canvas worker start -c 3")
    assert nbcanvas.current_app().worker.concurrency == 3
    assert "3 slots, pool threads" in repr(shell.run("%canvas status"))
    shell.run("%canvas worker stop")
    assert nbcanvas.current_app().worker is None


def test_tables_of_the_panel(shell):
    tasks = shell.run("%canvas tasks").set_index("name")
    assert tasks.loc["add", "parameters"] == "(x, y)"
    assert tasks.loc["add", "doc"] == "Add two numbers."
    assert shell.run("%canvas runs").empty
    assert repr(shell.run("%canvas runs")) == "no run yet"
    shell.run("%%canvas -o total -w\ngroup(add.s(i, i) for i in range(3))")
    runs = shell.run("%canvas runs")
    assert runs[["name", "state", "tasks", "done"]].to_numpy().tolist() == [["total", "SUCCESS", 3, 3]]
    assert shell.run("%canvas last") is shell["total"]


def test_inspect_answers_with_frames(shell, eventually):
    assert isinstance(shell.run("%canvas inspect active"), pd.DataFrame)
    assert repr(shell.run("%canvas inspect active")) == "no worker answers"
    shell.run("%canvas worker start -c 1")
    nothing = shell.run("%canvas inspect active")
    assert nothing.empty
    assert repr(nothing) == "nothing is active on 1 worker"
    assert "<p>nothing is active on 1 worker</p>" in nothing._repr_html_()
    assert type(pd.concat([nothing, nothing])) is pd.DataFrame
    shell.run(
        "import nbcanvas\nrun = nbcanvas.submit(group(held.s() for i in range(3)))\n"
        "later = nbcanvas.submit(add.s(1, 1), options={'countdown': 60})"
    )
    eventually(lambda: len(shell.run("%canvas inspect active")) == 1)
    active = shell.run("%canvas inspect active")
    assert active["name"].tolist() == ["held"]
    eventually(lambda: len(shell.run("%canvas inspect reserved")) == 2)
    eventually(lambda: not shell.run("%canvas inspect scheduled").empty)
    assert shell.run("%canvas inspect scheduled")["name"].tolist() == ["add"]
    assert "add" in shell.run("%canvas inspect registered")["name"].tolist()
    assert shell.run("%canvas inspect stats")["max-concurrency"].tolist() == [1]
    shell.run("run.cancel(); later.cancel()")


def test_revoke_by_id_and_by_stamp(shell, eventually):
    shell.run("%canvas worker start -c 1")
    shell.run(
        "import nbcanvas\nfirst = nbcanvas.submit(held.s())\nsecond = nbcanvas.submit(add.s(1, 1))\n"
        "third = nbcanvas.submit(add.s(1, 1), stamps={'experiment': 42})"
    )
    shell.run(f"%canvas revoke {shell['second'].id}")
    shell.run("%canvas revoke --stamp experiment=42")
    for name in ("second", "third"):
        with pytest.raises(errors.TaskRevokedError):
            shell[name].get(timeout=60)
    shell.run("gate.set()")
    assert shell["first"].get(timeout=60) == 1


def test_revoke_by_stamp_says_how_many_tasks_that_ended(shell):
    shell.run("%canvas worker start -c 1")
    said = "later ones with that stamp too"
    assert repr(shell.run("%canvas revoke --stamp experiment=7")) == (
        f"revoked: tasks stamped experiment=7\n0 tasks now; {said}"
    )
    shell.run(
        "import nbcanvas\nlater = nbcanvas.submit(group(add.s(i, 1) for i in range(3)), stamps={'experiment': 42}, "
        "options={'countdown': 60})"
    )
    assert f"3 tasks now; {said}" in repr(shell.run("%canvas revoke --stamp experiment=42"))
    assert shell["later"].wait(60).counts == {"REVOKED": 3}
    assert f"0 tasks now; {said}" in repr(shell.run("%canvas revoke --stamp experiment=42"))


def test_the_help_lists_every_command(shell):
    told = shell.ip.find_line_magic("canvas").__doc__
    assert all(f"%canvas {command} " in told for command in COMMANDS)


def test_revoke_by_the_name_or_id_of_a_run(shell):
    shell.run("%canvas worker start -c 1")
    shell.run(
        "import nbcanvas\nfirst = nbcanvas.submit(held.s())\nlong = nbcanvas.submit(group(nap.s(), nap.s()))\n"
        "chained = nbcanvas.submit(nap.s(0.1) | nap.s())"
    )
    assert "revoked: long" in repr(shell.run("%canvas revoke long"))
    shell["long"].wait(60)
    assert shell["long"].counts["REVOKED"] == 2
    shell.run(f"%canvas revoke {shell['chained'].id[:12]}")
    shell["chained"].wait(60)
    assert "REVOKED" in shell["chained"].counts
    shell.run("other = add.apply_async((1, 1), countdown=60)")
    shell.run(f"%canvas revoke {shell['other'].id}")
    with pytest.raises(errors.TaskRevokedError):
        shell["other"].get(timeout=60)


def test_cancel_by_name(shell):
    shell.run("import nbcanvas\nlong = nbcanvas.submit(group(held.s() for i in range(100)))")
    assert "long is cancelled" in repr(shell.run("%canvas cancel long"))
    shell.run("gate.set()")
    shell["long"].wait(60)
    assert "REVOKED" in shell["long"].counts


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("insepct active", "did you mean inspect?"),
        ("inspect actve", "did you mean active?"),
        ("inspect", "takes one of"),
        ("worker begin", "usage: %canvas worker"),
        ("worker start --pool forks", "threads, processes, solo"),
        ("connect a b", "unrecognized"),
        ("cancel nobody", "%canvas runs lists them"),
        ("revoke", "takes task ids"),
        ("revoke nobody", "no known task has the id nobody"),
        ("worker start -c 0", "one or more"),
        ("worker start -c -2", "one or more"),
        ("tasks all", "takes nothing"),
        ("last", "no canvas has run"),
        ("worker start -c many", "many"),
        ("group(add.s(1, 1))", "a canvas is run by %%canvas"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(shell, line, says):
    told = shell.error(f"%canvas {line}")
    assert isinstance(told.error, CellError)
    assert says in str(told.error)
    assert len(told.shown) == 1


def test_an_unknown_command_is_an_unknown_option(shell):
    assert isinstance(shell.error("%canvas wrker").error, UnknownOption)
