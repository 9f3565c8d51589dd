"""``%%canvas --record``, ``--replay``, ``--write`` and ``--save``: what stays of a cell."""

import ast
import json
import os
import re
import threading

import pytest

from nbcanvas.errors import NotRegistered, NotWritable, RecordingError, RemoteError
from nbcanvas.notebook import CellError
from nbcanvas.run import Recording

TOTAL = "group(add.s(i, i) for i in range(10)) | tsum.s()"


@pytest.fixture(params=["static", "text", "none"])
def display(request, monkeypatch):
    monkeypatch.setenv("NBCANVAS_DISPLAY", request.param)


def test_a_recorded_run_is_shown_again_without_its_tasks_and_without_a_worker(shell, display, tmp_path):
    shown = shell.shows(f"%%canvas -w -o total --record run.json --view graph\n{TOTAL}")
    shell.run("del add, tsum")
    shell.run("from nbcanvas import App; App()")
    again = shell.shows("%%canvas --replay run.json -o again --view graph")
    assert [bundle["text/plain"] for bundle in again] == [bundle["text/plain"] for bundle in shown]
    recording = shell["again"]
    assert isinstance(recording, Recording) and recording.name == "total" and recording.get() == 90
    assert shell.run("from nbcanvas import current_app\ncurrent_app().worker is None")
    for view in ("bars", "graph", "timeline", "table"):
        assert str(shell.run(f"again.{view}()")) == str(shell.run(f"total.{view}()"))
    assert shell.run("again.frame().result.tolist() == total.frame().result.tolist()")


def test_a_replay_shows_what_the_cell_showed(shell, monkeypatch):
    monkeypatch.setenv("NBCANVAS_DISPLAY", "static")
    for view in ("bars", "graph", "timeline", "table"):
        cell = f"--view {view}\nchord([add.s(1, 1), fail.s(2)], tsum.s())"
        shown = shell.shows(f"%%canvas --record run.json {cell}")
        assert shell.shows(f"%%canvas --replay run.json {cell}") == shown and shown


def test_a_replay_waits_binds_and_does_not_run_the_cell(shell):
    shell.run(f"%%canvas -w --record run.json\n{TOTAL}")
    assert shell.run("%%canvas --replay run.json -w -f df\nraise LookupError('the cell ran')") == 90
    assert shell["df"].result.tolist() == [*range(0, 20, 2), 90]
    assert shell.run("%%canvas --replay run.json\n\n") is None
    shell.run("%%canvas --record failed.json -o r\nfail.s(3)")
    shell["r"].wait(60)
    shell.run("%%canvas --replay failed.json -o failed")  # shows what failed
    assert isinstance(shell.error("%%canvas --replay failed.json -w").error, ValueError)


def test_the_file_is_there_when_whoever_waited_goes_on(shell, monkeypatch, tmp_path):
    shell.run(f"%%canvas -w --record waited.json\n{TOTAL}")
    assert Recording.read("waited.json").get() == 90
    shell.error("%%canvas -w --record failed.json\nfail.s(1)")
    assert Recording.read("failed.json").state == "FAILURE"
    monkeypatch.setenv("NBCANVAS_DISPLAY", "static")
    shell.run(f"%%canvas --record static.json\n{TOTAL}")
    assert Recording.read("static.json").get() == 90


def test_a_cell_that_does_not_wait_is_recorded_when_its_run_ends(shell, eventually, tmp_path, monkeypatch):
    monkeypatch.setenv("NBCANVAS_DISPLAY", "none")
    shell.run("gate = __import__('threading').Event()\n@task\ndef held():\n    assert gate.wait(20)")
    shell.run("%%canvas -o r --record later.json\nheld.s()")
    assert not shell["r"].done and not (tmp_path / "later.json").exists()
    shell["gate"].set()
    eventually((tmp_path / "later.json").exists)
    assert Recording.read("later.json").state == "SUCCESS"
    assert not [t for t in threading.enumerate() if t.name == "nbcanvas-recorder" and not t.join(5) and t.is_alive()]


def test_a_place_that_cannot_be_written_to_is_found_before_anything_runs(shell):
    shell.run("ran = []\n@task\ndef note():\n    ran.append(1)")
    for option in ("--record nowhere/run.json", "--write nowhere/module.py", "--record ."):
        told = shell.error(f"%%canvas -w {option}\nnote.s()")
        assert isinstance(told.error, RecordingError | NotWritable) and len(told.shown) == 1
        assert "there is no folder nowhere" in str(told.error) or "is a folder" in str(told.error)
    assert shell["ran"] == []


def test_a_file_that_is_no_recording_says_so_in_one_line(shell, tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"cells": []}))
    for name, says in (("other.json", "no recording of nbcanvas"), ("none.json", "No such file")):
        told = shell.error(f"%%canvas --replay {name}")
        assert isinstance(told.error, RecordingError) and says in told.text and len(told.shown) == 1


def test_what_was_left_out_is_said(shell):
    shell.run("%%canvas -w -o r\nadd.s('x' * 5000, 'y')")
    shell.run("r.record('small.json', limit=3000);")
    [shown] = shell.shows("%%canvas --replay small.json")
    assert "1 result left out" in shown["text/plain"] and "1 result left out" in shown["text/html"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("-n --record run.json", "-n runs nothing, so --record has nothing to record"),
        ("--replay run.json -n -q hi --timeout 3", "--replay runs nothing, so -n, --queue, --timeout would mean"),
        ("--replay run.json --record other.json", "so --record would mean nothing"),
        ("--replay run.json --write m.py -e", "so -e, --write would mean nothing"),
        ("--write tasks", "a module's file ends in .py"),
    ],
)
def test_options_that_contradict_each_other(shell, options, says):
    told = shell.error(f"%%canvas {options}\nadd.s(1, 1)")
    assert isinstance(told.error, CellError) and says in str(told.error)


def test_they_complete_and_are_in_the_help(shell, tmp_path):
    (tmp_path / "old.json").touch()
    (tmp_path / "module.py").touch()
    offered = shell.complete("%%canvas --", of="%%canvas --\n")
    assert {"--record", "--replay", "--write", "--save"} <= set(offered)
    assert shell.complete("%%canvas --replay o", of="%%canvas --replay o\n") == ["old.json"]
    assert shell.complete("%%canvas --write ", of="%%canvas --write \n") == ["module.py"]
    assert "timeline" in shell.complete("%%canvas --view t", of="%%canvas --view t\n")
    told = shell.ip.find_line_magic("canvas").__doc__
    assert all(option in told for option in ("--record", "--replay", "--write FILE.py", "--save"))


def test_a_recording_as_the_value_of_a_cell(shell):
    shell.run(f"%%canvas -w -o total --record run.json\n{TOTAL}")
    shell.run("%%canvas --replay run.json -o again")
    shown, _ = shell.ip.display_formatter.format(shell["again"])
    assert shown["text/plain"].startswith("Recording total · get() gives its value\n✓ add ×10")
    assert "add ×10" in shown["text/html"]


def test_what_failed_and_why_can_be_asked_of_a_recording(shell):
    shell.run("%%canvas -o r --record run.json\nchord([add.s(1, 1), fail.s(2)], tsum.s())")
    shell.run("%%canvas --replay run.json -o again")
    [failure] = shell["again"].failed
    assert (failure.path, failure.args) == ("chord.header[1]", (2,)) and isinstance(failure.error, ValueError)
    assert "fail" in str(shell["again"].why())
    with pytest.raises(RecordingError):
        failure.rerun()
    assert "<html" in shell["again"].to_html()
    assert shell["again"].diff(shell["r"]).empty
    assert shell["again"].values().value.tolist() == shell["r"].values().value.tolist()


# -- --save ----------------------------------------------------------------------------------------------------------


def test_a_canvas_is_kept_under_a_name_whatever_becomes_of_its_run(shell):
    shell.run("%%canvas --save twice\nadd.s(1, 1) | mul.s(2)")
    shell.error("%%canvas -w --save broken\nfail.s(1)")
    shell.error("%%canvas --save unknown\nsignature('nobody')")
    listed = str(shell.run("%canvas list"))
    assert "twice" in listed and "broken   fail(1)" in listed and "unknown" in listed
    assert shell.run("%%canvas -w\ntwice") == 4
    assert shell.run("twice") == shell.run("add.s(1, 1) | mul.s(2)")


# -- --write ---------------------------------------------------------------------------------------------------------


def test_write_writes_and_runs_and_with_n_only_writes(shell, tmp_path):
    shell.run("ran = []\n@task\ndef note(x):\n    return x")
    assert shell.run("%%canvas -w --write module.py\nnote.s(1) | add.s(1)") == 2
    text = (tmp_path / "module.py").read_text()
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported and not any("nbcanvas" in ast.unparse(node) for node in imported)
    assert "return note.s(1) | add.s(1)" in text
    (tmp_path / "module.py").unlink()
    shell.run("%%canvas -n --write module.py\nnote.s(1) | add.s(1)")
    assert (tmp_path / "module.py").read_text() == text


def test_write_says_what_it_wrote_and_how_to_run_it(shell, display, tmp_path):
    shown = shell.shows("%%canvas -n --write flow.py\nadd.s(1, 1)")
    told = {"text/plain": "wrote flow.py: python flow.py runs it"}
    assert (told in shown) is (os.environ["NBCANVAS_DISPLAY"] != "none")
    if os.environ["NBCANVAS_DISPLAY"] != "none":
        assert told in shell.shows("%%canvas -w --view none --write flow.py\nadd.s(1, 1)")
        (tmp_path / "my flows").mkdir()
        [first, *_] = shell.shows("%%canvas -n --write 'my flows/flow.py'\nadd.s(1, 1)")
        assert first["text/plain"] == "wrote my flows/flow.py: python 'my flows/flow.py' runs it"


@pytest.mark.parametrize(
    "mine", ["", "x = 1\n", '"""Mine."""\n', "\n# , written from a notebook by nbcanvas.\n", b"\xff\x00"]
)
def test_write_overwrites_only_what_was_written_so(shell, tmp_path, mine):
    file, kept = tmp_path / "mine.py", mine if isinstance(mine, bytes) else mine.encode()
    file.write_bytes(kept)
    for option in ("-n", "-w"):
        told = shell.error(f"%%canvas {option} --write mine.py\nadd.s(1, 1)")
        assert isinstance(told.error, NotWritable) and len(told.shown) == 1
        assert str(told.error) == "mine.py is there already, and nbcanvas did not write it; choose another name"
    assert file.read_bytes() == kept
    file.unlink()
    shell.run("%%canvas -n --write mine.py\nadd.s(1, 1)")
    shell.run("%%canvas -n --write mine.py\nadd.s(2, 3)")
    assert "add.s(2, 3)" in file.read_text()


def test_the_options_of_the_line_are_written(shell, tmp_path):
    shell.run("shared = add.s(1, 1) | mul.s(2)")
    shell.run("%%canvas -n --write m.py -q hi --priority 3 --countdown 5 -s who=ada\nshared")
    text = (tmp_path / "m.py").read_text()
    assert text.count('queue="hi", priority=3') == 2 and text.count('who="ada"') == 2
    assert "apply_async(countdown=5.0)" in text
    assert shell.run("shared") == shell.run("add.s(1, 1) | mul.s(2)")  # which is as it was


TASK = "\n@task\ndef t():\n    return "
UNWRITABLE = {
    "table": (
        "import pandas as pd\ntable = pd.DataFrame()" + TASK + "table",
        "t.s()",
        "t uses table, .*DataFrame",
    ),
    "lock": ("lock = __import__('threading').Lock()" + TASK + "lock", "t.s()", "task t uses lock"),
    "lambda": ("f = (lambda g: g)(lambda x: x)" + TASK + "f(1)", "t.s()", "task t uses f, which .*with def"),
    "closure": (
        "def make(lock):\n    @task\n    def t():\n        return lock\n    return t\nt = make(object())",
        "t.s()",
        "task t uses lock",
    ),
    "nbcanvas": ("import nbcanvas" + TASK + "nbcanvas", "t.s()", "the module nbcanvas"),
    "submit": ("from nbcanvas import submit" + TASK + "submit", "t.s()", "Celery does not have"),
    "lambda task": ("t = task(name='t')(lambda: 1)", "t.s()", "task t "),
    "twice": (
        "@task(name='a.t')\ndef t(): return 1\na = t\n@task(name='b.t')\ndef t(): return 2\nb = t",
        "a.s() | b.si()",
        "another t",
    ),
    "reserved": ("@task\ndef canvas(): return 1", "canvas.s()", "the name canvas"),
    "argument": ("x = object()", "add.s(x, 1)", "add, argument 1: a object"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_be_written_names_task_and_variable(shell, tmp_path, name):
    cell, canvas, says = UNWRITABLE[name]
    shell.run(cell)
    told = shell.error(f"%%canvas -n --write m.py\n{canvas}")
    assert isinstance(told.error, NotWritable) and len(told.shown) == 1
    assert re.search(says, str(told.error)), str(told.error)
    assert not (tmp_path / "m.py").exists()


def test_a_lambda_with_a_name_can_be_written(shell, tmp_path):
    shell.run("square = lambda x: x * x\n@task\ndef t(x):\n    return square(x)")
    shell.run("%%canvas -n --write m.py\nt.s(3)")
    assert "square = lambda x: x * x\n" in (tmp_path / "m.py").read_text()


def test_an_unknown_task_and_a_bad_name(shell):
    assert isinstance(shell.error("%%canvas -n --write m.py\nsignature('nobody')").error, NotRegistered)
    told = shell.error("%%canvas -n --write my-module.py\nadd.s(1, 1)")
    assert "a module cannot be called 'my-module'" in str(told.error)


def test_errors_of_unknown_classes_are_shown_by_name(shell):
    shell.run("class Own(Exception): pass\n@task\ndef boom():\n    raise Own('mine')")
    shell.error("%%canvas -w --record r.json\nboom.s()")
    assert isinstance(shell.error("%%canvas -w --replay r.json").error, RemoteError)


def test_in_a_real_kernel(kernel, tmp_path):
    """There, cells are files of their own, whose names differ from kernel to kernel."""
    kernel.run("class Own(Exception):\n    pass\n\n@task\ndef own(x):\n    if x: raise Own(x)\n    return x")
    cell = kernel.wait(kernel.start("%%canvas -w -o failed --record run.json --write m.py\nown.s(0) | own.si(3)"))
    assert cell.error["ename"] == "Own"
    text = (tmp_path / "m.py").read_text()
    assert "class Own(Exception):\n    pass\n" in text and '@app.task(name="own")\ndef own(x):' in text
    recorded = (tmp_path / "run.json").read_text()
    assert "<cell " in recorded and "ipykernel" not in recorded
    [shown] = kernel.run("%%canvas --replay run.json -o again\nraise LookupError").of("display_data")
    assert "1 failed" in shown["data"]["text/plain"]
    assert kernel.run("repr(again)").value.startswith("'<Recording failed: 1 SUCCESS, 1 FAILURE")
