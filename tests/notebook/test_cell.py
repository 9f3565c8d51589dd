"""``%%canvas``: from the text of a cell to a run."""

import traceback

import pytest

from nbcanvas import Recording, Run, current_app, errors, submit
from nbcanvas.notebook import CellError, UnknownOption, line, run_canvas, run_cell
from nbcanvas.notebook.errors import CanvasSyntaxError


def test_the_tours_first_canvas(shell):
    [still] = shell.shows("%%canvas -o total\ngroup(add.s(i, i) for i in range(100)) | tsum.s()")
    assert shell["total"].get(timeout=60) == 9900
    assert isinstance(shell["total"], Run)
    assert still["text/plain"].splitlines() == [
        "✓ add ×100  ████████████████████  100/100",
        "✓ tsum      ████████████████████  1/1",
        "✓ succeeded · 101 of 101 tasks",
    ]
    assert "<table" in still["text/html"]


def test_it_gives_the_value_when_it_waits_and_nothing_when_not(shell):
    assert shell.run("%%canvas -w\nadd.s(2, 2) | mul.s(8)") == 32
    assert shell.run("%%canvas -w 60\nadd.s(2, 2)") == 4
    assert shell.run("%%canvas\nadd.s(2, 2)") is None


def test_a_semicolon_silences_the_value(shell):
    assert shell.run("%%canvas -w\nadd.s(2, 2);") is None


def test_waiting_no_longer_than_asked(shell):
    told = shell.error("%%canvas -w 0.05 -o slow\nheld.s()")
    assert type(told.error) is errors.TimeoutError
    [said] = told.shown
    assert "slow: 1 of 1 task has not ended within 0.05 seconds" in said
    assert "slow.wait() waits again, slow.cancel() stops it" in said
    assert shell.error("slow.get(0.05)").shown == [said]
    assert shell.error("slow.wait(0.05)").shown == [said]


def test_a_run_without_a_name_is_called_by_what_finds_it(shell):
    told = shell.error("%%canvas -w 0.05\nheld.s()")
    run = shell.run("%canvas last")
    handle = f'nbcanvas.attach("{run.id[:8]}")'
    [said] = told.shown
    assert "the run: 1 of 1 task has not ended" in said
    assert f"{handle}.wait() waits again, {handle}.cancel() stops it" in said
    assert shell.run(f"import nbcanvas\ngate.set()\n{handle}.wait()") is run
    assert f"{handle}.get() waits for its value" in shell.ip.display_formatter.format(run)[0]["text/plain"]
    assert submit(shell["add"].s(1, 1), name="two words").handle.startswith("nbcanvas.attach(")
    chosen = submit(shell["add"].s(1, 1).set(task_id='night "1" of May'))
    assert shell.run(f"{chosen.handle}") is chosen
    lines = shell.error("%%canvas -w\nadd.s(1, 1) | fail.si(1)").text
    handle = f'nbcanvas.attach("{shell.run("%canvas last").id[:8]}")'
    assert f"{handle}.failed[0].rerun() runs it here" in lines and f"{handle}.rerun() runs again" in lines
    assert f"the good result stays in {handle}.frame()" in lines


@pytest.mark.parametrize(("display", "option"), [("static", "-w 0.3"), ("text", "-w 0.3"), ("text", "-f df -w 0.3")])
def test_a_wait_that_runs_out_shows_what_was_reached(shell, monkeypatch, eventually, display, option):
    monkeypatch.setenv("NBCANVAS_DISPLAY", display)

    def late(wait):
        def waits(run, timeout):
            eventually(lambda: run.counts.get("SUCCESS"))  # only then time begins to run
            return wait(run, timeout)

        return waits

    for name in ("get", "wait"):
        monkeypatch.setattr(Run, name, late(getattr(Run, name)))
    before = len(shell.displayed.outputs)
    shell.error(f"%%canvas {option} -o slow\nadd.s(1, 1) | held.si()")
    [still] = [output["data"]["text/plain"] for output in shell.displayed.outputs[before:]]
    assert "running" in still
    assert "1 of 2 tasks" in still


def test_statements_before_it_run_in_the_users_namespace(shell):
    assert (
        shell.run("%%canvas -w\nnumbers = [1, 2, 3]\n\nfor i in numbers:\n    double = 2 * i\n\nadd.s(double, 1)") == 7
    )
    assert shell["numbers"] == [1, 2, 3]


def test_magics_and_system_calls_work_inside(shell):
    assert shell.run("%%canvas -w\n%time x = 5\nword = !echo hi\nadd.s(x, len(word))") == 6


def test_braces_and_dollars_in_the_line_are_left_alone(shell):
    shell.run("x = 'nobody'")
    shell.run("%%canvas -o r -s note={x}$x\nadd.s(1, 1)")
    assert shell["r"].frame()["note"].tolist() == ["{x}$x"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("x = add.s(1, 1)", "an assignment to x; add a last line: x"),
        ("for i in []: pass", "a loop"),
        ("def f(): pass", "the definition of f"),
        ("add", "call .s on it: add.s(...)"),
        ("add.s", ".s"),
        ("[add.s(1, 1)]", "group(...)"),
        ("add.delay(1, 1)", "task.s(...)"),
        ("None", "None"),
        ("42", "42"),
        ("# nothing", "nothing"),
        ("import os", "an import"),
        ("return add.s(1, 1)", "a return"),
    ],
)
def test_a_cell_that_does_not_end_in_a_signature_says_what_it_ends_in(shell, body, says):
    told = shell.error(f"%%canvas -o nope\n{body}")
    assert isinstance(told.error, errors.NotASignature)
    assert says in str(told.error)
    assert len(told.shown) == 1
    assert "nope" not in shell.ip.user_ns


def test_a_syntax_error_has_the_line_number_of_the_cell(shell):
    told = shell.error("%%canvas\n\nx = 1\nadd.s(1, ]\n")
    assert isinstance(told.error, CanvasSyntaxError)
    assert told.error.lineno == 4
    assert "line 4" in told.shown[0]
    assert any("add.s(1, ]" in shown for shown in told.shown)
    assert not any("magics.py" in shown for shown in told.shown)


@pytest.mark.parametrize("cell", ["%%canvas", "%%canvas -o total", "%%canvas\n", "%%canvas\n\n  \n"])
def test_an_empty_cell_is_told_what_it_lacks(shell, cell):
    told = shell.error(cell)
    assert isinstance(told.error, errors.NotASignature)
    assert "it ends in nothing; write it as the last line" in str(told.error)
    assert len(told.shown) == 1


def test_await_in_a_cell_says_where_to_await(shell):
    told = shell.error("%%canvas\nimport asyncio\nadd.s(await asyncio.sleep(0, 1), 1)")
    assert isinstance(told.error, CanvasSyntaxError)
    assert told.error.lineno == 3
    assert "await it in a cell above" in told.text


@pytest.mark.parametrize("body", ["x = await y\nadd.s(1, 1)", "add.s(1, 1) if"])
def test_what_is_no_python_here_is_a_syntax_error_too(shell, body):
    told = shell.error(f"%%canvas\n{body}")
    assert isinstance(told.error, CanvasSyntaxError)
    assert told.error.lineno == 2


def test_an_error_of_the_cells_own_code_shows_its_own_frames(shell):
    shell.run("def numbers():\n    yield 1\n    raise LookupError('no more')")
    told = shell.error("%%canvas\nx = 1\ngroup(add.s(i, i) for i in numbers())")
    assert type(told.error) is LookupError
    assert "line 3" in told.text
    assert "raise LookupError('no more')" in told.text
    assert "session.py" not in told.text


def test_an_unknown_option_suggests_the_nearest(shell):
    told = shell.error("%%canvas --wiat\nadd.s(1, 1)")
    assert isinstance(told.error, UnknownOption)
    assert "did you mean --wait?" in str(told.error)
    assert "%%canvas? lists them" in str(shell.error("%%canvas --zzz\nadd.s(1, 1)").error)
    assert "-o total would bind" in str(shell.error("%%canvas total\nadd.s(1, 1)").error)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("-n -o total", "-n runs nothing, so -o has nothing to bind"),
        ("-n -f df", "-n runs nothing, so -f has nothing to bind"),
        ("-n -w", "-n runs nothing, so -w has nothing to wait for"),
        ("-n -w 0", "-n runs nothing, so -w has nothing to wait for"),
        ("-e -w 3 --countdown 2", "-w SECONDS, --countdown would mean nothing"),
        ("-o 1a", "cannot be one"),
        ("-o class", "cannot be one"),
        ("-f a.b", "cannot be one"),
        ("-o tsum", "-o tsum: tsum is a task; choose another name"),
        ("-f tsum", "-f tsum: tsum is a task; choose another name"),
        ("--save tsum", "--save tsum: tsum is a task; choose another name"),
        ("-w -o print", "-o print: print is Python's own; choose another name"),
        ("-n --save sum", "--save sum: sum is Python's own; choose another name"),
        ("--priority high", "priority"),
        ("-w soon", "'soon' is not a number of seconds"),
        ("-s stamp", "KEY=VALUE"),
        ("-w -1", "-1"),
        ("--expires someday", "neither seconds nor a date"),
        ("-o", "expected one argument"),
        ("--view pie", "there are bars, graph, timeline, table, none"),
        ("-o 'a", "quotation"),
        ("--app nobody", "nobody"),
        ("--app add", "not an App"),
        ("-V nobody", "nobody"),
        ("-V add", "not a StampingVisitor"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(shell, options, says):
    told = shell.error(f"%%canvas {options}\nadd.s(1, 1)")
    assert isinstance(told.error, CellError)
    assert says in str(told.error)
    assert len(told.shown) == 1


def test_a_name_of_pythons_that_the_user_took_may_be_bound(shell):
    shell.run("id = 3")
    assert shell.run("%%canvas -w -o id\nadd.s(1, 1)") == 2
    assert shell.run("%%canvas -w -o id\nadd.s(1, 2)") == shell["id"].get() == 3


def test_an_unknown_task_is_refused_before_anything_runs(shell):
    told = shell.error("%%canvas -o r\nadd.s(1, 1) | signature('nb.tsmu')")
    assert isinstance(told.error, errors.NotRegistered)
    assert "did you mean 'tsum'" in str(told.error)
    assert "define it in a cell, or pass --app" in str(told.error)
    assert "r" not in shell.ip.user_ns


def test_a_call_that_does_not_fit_is_refused_with_its_place(shell):
    told = shell.error("%%canvas\nchord([add.s(1, 1), add.s(1)], tsum.s(3))")
    assert isinstance(told.error, errors.InvalidTaskError)
    assert str(told.error).startswith("chord.header[1]: add(x, y)")
    told = shell.error("%%canvas\nadd.s(1, 1) | add.s(1, 2)")
    assert str(told.error).startswith("chain[1]: add(x, y)")
    assert "the value of what comes before it" in str(told.error)
    assert shell.run("%%canvas -w\nadd.s(1, 1) | add.si(1, 2)") == 3


def test_an_argument_that_cannot_travel_is_named(shell):
    told = shell.error("%%canvas\nimport threading\nadd.s(1, threading.Lock())")
    assert isinstance(told.error, errors.NotSerializable)
    assert "argument 2" in str(told.error)


def test_the_canvas_is_not_changed_by_running_it(shell):
    shell.run("sig = group(add.s(i, i) for i in range(3)) | tsum.s()\nbefore = repr(dict(sig))")
    shell.run("%%canvas -w -s k=1\nsig")
    shell.run("%%canvas -w\nsig")
    assert repr(dict(shell["sig"])) == shell["before"]


def test_stamps_visitor_and_frame(shell):
    shell.run("""
class InGroup(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"letter": "x"}
""")
    shell.run(
        "%%canvas -o total -V InGroup -s experiment=42 -s who='a b' -f df\n"
        "group(add.s(i, i) for i in range(4)) | tsum.s()"
    )
    frame = shell["df"]
    assert len(frame) == 5
    assert set(frame["letter"]) == {"x"}
    assert set(frame["experiment"]) == {42}
    assert set(frame["who"]) == {"a b"}
    assert set(frame["state"]) == {"SUCCESS"}
    shell.run("visitor = InGroup()")
    shell.run("%%canvas -V visitor -f df\nadd.s(1, 1)")
    assert list(shell["df"]["letter"]) == ["x"]


def test_a_stamp_given_twice_is_a_list(shell):
    shell.run("%%canvas -s a=1 -s b=x -s a=2 -f df\nadd.s(1, 1)")
    assert shell["df"][["a", "b"]].to_numpy().tolist() == [[[1, 2], "x"]]


def test_execution_options_reach_the_tasks(shell):
    shell.run("""
@task(bind=True)
def told(self):
    return self.request.options.get("priority"), self.request.timelimit[0], self.request.expires is not None
""")
    assert shell.run("%%canvas -w -q hi --priority 3 --timeout 20 --expires 60\ntold.s()") == (3, 20.0, True)
    shell.run("%%canvas -q hi -f df\nadd.s(1, 1)")
    assert list(shell["df"]["queue"]) == ["hi"]


def test_a_countdown_holds_it_back(shell):
    import time

    begun = time.monotonic()
    assert shell.run("%%canvas -w --countdown 0.3\nadd.s(1, 1)") == 2
    assert time.monotonic() - begun >= 0.3


def test_another_app(shell):
    shell.run("""
import nbcanvas
other = nbcanvas.App("other", set_as_current=False)
@other.task
def only_here(x): return x + 1
""")
    assert shell.run("%%canvas -w --app other\nonly_here.s(1)") == 2
    assert shell.run("%%canvas -w\nonly_here.s(1)") == 2  # a signature knows its app
    shell.run("other.close()")


def test_eager_runs_in_this_thread_and_keeps_the_real_frames(shell):
    shell.run("""
import threading
@task
def where(): return threading.current_thread() is threading.main_thread()
""")
    assert shell.run("%%canvas -e\nwhere.s()") is True
    assert shell.run("%%canvas -w\nwhere.s()") is False
    told = shell.error("%%canvas -e\nadd.s(1, 1) | fail.s()")
    assert type(told.error) is ValueError
    assert "in fail" in told.text
    assert "eager.py" not in told.text
    names = []
    trace = told.error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "fail"  # what %debug goes to


def test_an_eager_canvas_is_a_run_like_any_other(shell, tmp_path):
    file = tmp_path / "eager.json"
    [bundle] = shell.shows(f"%%canvas -e -o total -f df --view graph --record {file}\ngroup(add.s(1, 2), add.s(3, 4))")
    assert "2 succeeded" in bundle["text/plain"]
    total = shell["total"]
    assert (type(total), total.get(), total.done, total.state) == (Run, [3, 7], True, "SUCCESS")
    assert list(shell["df"]["result"]) == [3, 7]
    assert Recording.read(file).get() == [3, 7]
    shell.error("%%canvas -e -o broken\nadd.s(1, 2) | fail.s() | add.s(1)")
    broken = shell["broken"]
    assert (broken.done, broken.state, [one.path for one in broken.failed]) == (True, "FAILURE", ["chain[1]"])
    assert shell.run("%canvas last") is broken


def test_a_dry_run_runs_nothing_and_says_what_is_wrong(shell):
    shell.run("ran = []\n@task\ndef mark(): ran.append(1)")
    [bundle] = shell.shows("%%canvas -n\nmark.si() | signature('nb.zzz') | add.s(1, 2) | mul.s(object())")
    assert shell["ran"] == []
    text = bundle["text/plain"]
    assert "✗ chain[1]: no task named 'nb.zzz'" in text
    assert "✗ chain[2]: add(x, y): too many positional arguments" in text
    assert "· chain[3]: argument 1 (object) would not travel to a cluster as JSON" in text
    assert "4 tasks" in text
    assert "<img" in bundle["text/html"]
    [bundle] = shell.shows("%%canvas --dry-run\ngroup(add.s(i, i) for i in range(10)) | tsum.s()")
    assert "No problems found." in bundle["text/plain"]
    assert "chord" in bundle["text/plain"]


def test_a_dry_run_names_tasks_that_cannot_be_sent_to_a_process(shell):
    shell.run("lock = __import__('threading').Lock()\n@task\ndef locked():\n    with lock:\n        return 1")
    [bundle] = shell.shows("%%canvas -n\ngroup(add.s(1, 2), locked.si())")
    assert "No problems found." in bundle["text/plain"]
    current_app().conf.worker_pool = "prefork"
    [bundle] = shell.shows("%%canvas -n\ngroup(add.s(1, 2), locked.si(), locked.si())")
    text = bundle["text/plain"]
    assert "1 of these would fail" in text
    assert "✗ group[1]: task locked cannot be sent to a process: TypeError: cannot pickle" in text


def test_a_dry_run_of_what_cannot_travel_shows_every_problem(shell):
    [bundle] = shell.shows(
        "%%canvas -n\nimport threading\nlock = threading.Lock()\n"
        "group(add.s(1, lock), add.s(lock, y=lock), add.s(2)) | tsum.s()"
    )
    text = bundle["text/plain"]
    for path, which in (("[0]", "argument 2"), ("[1]", "argument 1"), ("[1]", "argument y")):
        assert f"✗ chord.header{path}: {which}: lock" in text
    assert "✗ chord.header[2]: add(x, y): " in text
    assert "add(1, <unlocked _thread.lock object>)" in text
    assert "4 of these would fail" in text
    assert "<img" in bundle["text/html"]
    told = shell.error("%%canvas\ngroup(add.s(1, 1), add.s(1, lock)) | tsum.s()")
    assert isinstance(told.error, errors.NotSerializable)
    assert str(told.error).startswith("chord.header[1]: argument 2: ")


def test_an_explanation_is_its_words(shell):
    explanation = shell.run("(add.s(1, 1) | signature('nb.lost')).explain()")
    formats, _ = shell.ip.display_formatter.format(explanation)
    assert formats["text/plain"] == str(explanation)
    assert "<li" in formats["text/html"]
    assert "Not registered: nb.lost." in str(explanation)
    assert "2. lost() (not registered), given the value of add" in str(explanation)


def test_an_interrupt_of_the_cells_own_code_shows_that_code(shell):
    told = shell.error(
        "%%canvas\ndef numbers():\n    raise KeyboardInterrupt\n    yield 1\ngroup(add.s(i, i) for i in numbers())"
    )
    assert type(told.error) is KeyboardInterrupt
    assert "in numbers" in told.text


def test_an_interrupt_while_it_is_started_is_one_line(shell):
    shell.run("class Stop:\n    def __reduce__(self):\n        raise KeyboardInterrupt")
    told = shell.error("%%canvas\nadd.s(1, Stop())")
    assert isinstance(told.error, KeyboardInterrupt)
    assert len(told.shown) == 1


def test_a_failed_run_tells_node_frames_and_what_to_do(shell):
    told = shell.error("%%canvas -w -o total\ngroup(fail.s(i) if i > 2 else add.s(i, i) for i in range(10)) | tsum.s()")
    assert isinstance(told.error, errors.ChordError)
    assert "chord.header[3] → fail(3)" in told.text
    assert "chord.header[6] → fail(6)" in told.text
    assert "chord.header[7]" not in told.text
    assert "… and 3 more" in told.text
    assert "in fail" in told.text
    assert 'raise ValueError(f"no {x}")' in told.text
    assert "execute.py" not in told.text
    assert "total.frame()" in told.shown[-1]
    assert "3 good results" in told.shown[-1]


def test_the_tasks_own_exception_is_raised_and_can_be_caught(shell):
    shell.run("%%canvas -o bad\nadd.s(1, 1) | fail.s()")
    assert shell.run("try:\n    bad.get()\nexcept ValueError as error:\n    caught = str(error)\ncaught") == "no 2"
    told = shell.error("bad.get()")
    assert type(told.error) is ValueError
    assert "chain[1] → fail(2)" in told.text


def test_one_failed_task_without_a_path(shell):
    told = shell.error("%%canvas -w\nfail.s(1)")
    assert "fail(1)" in told.text
    assert "→" not in told.text


def test_what_failed_is_listed_runs_here_and_runs_again(shell):
    shell.run("@task\ndef half(x):\n    return x / (x - 2)")
    shell.error("%%canvas -w -o total\ngroup(half.s(i) for i in range(4)) | tsum.s()")
    assert shell.run("str(total.failed)") == "chord.header[2] → half(2): ZeroDivisionError: division by zero"
    told = shell.error("total.failed[0].rerun()")
    assert isinstance(told.error, ZeroDivisionError)
    innermost = traceback.extract_tb(told.error.__traceback__)[-1]
    assert innermost.name == "half" and innermost.line == "return x / (x - 2)"  # where %debug begins
    shell.run("@task\ndef half(x):\n    return 100")
    assert shell.run("total.failed[0].rerun()") == 100
    assert shell.run("again = total.rerun()\nagain.get()") == 0 - 1 + 100 + 3
    assert shell.run("again.failed") == ()


def test_an_error_says_what_is_known_when_it_is_shown(shell):
    shell.error("%%canvas -w -o total\ngroup(fail.s(i) for i in range(3))")
    shell["total"].wait(60)
    assert shell.error("total.get()").text.count("failed") >= 3
    shell.run("%config NBCanvas.short_errors = False")
    assert not hasattr(shell.error("total.get()").error, "_render_traceback_")


def test_a_task_is_replaced_by_running_its_cell_again(shell):
    assert shell.run("%%canvas -w\nmul.s(6, 7)") == 42
    shell.run("@task\ndef mul(x, y):\n    return f'{x}*{y}'")
    assert shell.run("%%canvas -w\nmul.s(6, 7)") == "6*7"
    assert shell.run("%%canvas -w\nadd.s(1, 1) | signature('mul', (3,))") == "2*3"


def test_help_shows_the_users_signature_and_docstring(shell):
    import inspect

    info = shell.ip.object_inspect("add")
    assert info["definition"].strip() == "add(x, y)"
    assert info["docstring"] == "Add two numbers."
    for callable_ in (shell["add"], shell["add"].s, shell["add"].si, shell["add"].delay):
        assert str(inspect.signature(callable_)) == "(x, y)"


def test_help_of_the_magic(shell, capsys):
    shell.ip.run_line_magic("pinfo", "%%canvas")
    shown = capsys.readouterr().out + str(shell.ip.payload_manager.read_payload())
    for part in ("--dry-run", "--stamp KEY=VALUE", "%%canvas -o total", "worker start"):
        assert part in shown


def test_the_magic_as_plain_functions(shell):
    assert run_cell("x = 20\nadd.s(x, 1)", wait=True) == 21
    assert run_canvas(shell["add"].s(1, 1), wait=True, out="r") == 2
    assert shell["r"].get() == 2
    assert line("last") is shell["r"]


def test_a_signature_shows_its_picture_beside_its_text(shell):
    formats, _ = shell.ip.display_formatter.format(shell["add"].s(2, 2) | shell["mul"].s(8))
    assert formats["text/plain"] == "add(2, 2) | mul(8)"
    assert formats["text/html"].count("<img") == 1
    assert "<script" not in formats["text/html"]


def test_a_run_shows_its_bars(shell):
    shell.run("%%canvas -w -o total\ngroup(add.s(i, i) for i in range(3))")
    formats, _ = shell.ip.display_formatter.format(shell["total"])
    assert formats["text/plain"].splitlines()[0] == "Run total · total.get() waits for its value"
    assert "3/3" in formats["text/plain"]
    assert "0x" not in formats["text/plain"]
    assert "progressbar" in formats["text/html"]


@pytest.mark.parametrize("view", ["graph", "table", "bars"])
def test_views(shell, view):
    [bundle] = shell.shows(f"%%canvas --view {view}\ngroup(add.s(i, i) for i in range(3)) | tsum.s()")
    assert {"graph": "<img", "table": "<th scope=", "bars": "progressbar"}[view] in bundle["text/html"]
    assert shell.shows("%%canvas --view none\nadd.s(1, 1)") == []


def test_a_canvas_is_kept_under_a_name(shell):
    shell.run("%%canvas --save nightly -n\nadd.s(1, 1) | mul.s(2)")
    assert repr(shell.run("%canvas list")) == "nightly  add(1, 1) | mul(2)"
    assert shell.run("%%canvas -w\nnightly") == 4


def test_a_timeout_that_a_task_raises_is_the_tasks_failure(shell):
    shell.run("@task\ndef late():\n    raise TimeoutError('the other side')")
    told = shell.error("%%canvas -w\nlate.s()")
    assert type(told.error) is TimeoutError
    assert "late()" in told.text
    shell.run("import nbcanvas\n@task\ndef later():\n    raise nbcanvas.errors.TimeoutError('the other side')")
    told = shell.error("%%canvas -w 60\ngroup(later.s(), nap.s(0.2))")
    assert str(told.error) == "the other side"
    assert "later()" in told.text
