"""The pytest plugin, used as its users use it: in a project of their own, with pytest run over it."""

import json
import subprocess
import sys

import pytest

import nbcanvas
from nbcanvas.testing import fresh_app

pytestmark = pytest.mark.slow  # pytest in a process of its own

pytest_plugins = ["pytester"]

TASKS = """
from nbcanvas import task

@task
def add(x, y):
    return x + y

@task
def tsum(numbers):
    return sum(numbers)
"""
HEADER = """
import pytest
from nbcanvas import App, chain, chord, current_app, group, submit, task, uuid
"""


@pytest.fixture
def project(pytester, request):
    """A folder with a module of tasks; `run` runs pytest over the given tests."""
    name = f"proj_{request.node.name.partition('[')[0][5:40]}"
    pytester.makepyfile(**{name: TASKS})
    pytester.syspathinsert()

    def run(tests, *args, conftest=None, outcomes=None):
        if conftest:
            pytester.makeconftest(conftest)
        pytester.makepyfile(test_it=HEADER + tests.replace("proj", name))
        # With rewritten asserts as ever, and nothing of this repository's configuration.
        result = pytester.runpytest("-p", "no:cacheprovider", "-p", "no:randomly", *args)
        if outcomes is not None:
            result.assert_outcomes(**outcomes)
        return result

    return run


# -- what is there ----------------------------------------------------------------------------------------------------


def test_each_test_has_an_app_of_its_own(project):
    project(
        """
        seen = []

        @pytest.mark.parametrize("again", [1, 2])
        def test_it(canvas_app, again):
            assert current_app() is canvas_app
            assert canvas_app not in seen
            seen.append(canvas_app)
            assert "double" not in canvas_app.tasks

            @canvas_app.task(name="double")
            def double(x): return 2 * x

            @task(name="bare")
            def bare(x): return x

            assert (double.s(4) | bare.s()).delay().get(timeout=90) == 8
            assert bare.app is canvas_app

        def test_they_are_gone_afterwards():
            assert current_app() not in seen
            assert "double" not in current_app().tasks
            assert all(app.worker is None for app in seen)
        """.replace("\n        ", "\n"),
        outcomes={"passed": 3},
    )


def test_ids_are_the_same_in_every_test_and_every_process(project):
    tests = """
ids = []

@pytest.mark.parametrize("again", [1, 2])
def test_it(canvas_app, again, request):
    canvas_app.task(name="one")(lambda: 1)
    ids.append(canvas_app.signature("one").delay().id)
    assert len(set(ids)) == 1
    print("ID", ids[0])
"""
    first, second = (project(tests, "-s", outcomes={"passed": 2}) for _ in range(2))
    said = [line for result in (first, second) for line in result.outlines if "ID" in line]
    assert len({line.partition("ID")[2] for line in said}) == 1 and len(said) == 4


def test_tasks_of_imported_modules_run_in_the_tests_app(project):
    project(
        """
import proj

@pytest.mark.parametrize("again", [1, 2])
def test_it(canvas_app, again):
    result = (group(proj.add.s(i, i) for i in range(10)) | proj.tsum.s()).delay()
    assert result.get(timeout=90) == 90
    assert proj.add.app is canvas_app is result.app

def test_and_have_their_own_app_back():
    assert proj.add.app is current_app()
""",
        outcomes={"passed": 3},
    )


def test_a_module_first_imported_in_a_test_is_known_in_the_next(project):
    project(
        """
@pytest.mark.parametrize("again", [1, 2])
def test_it(canvas_app, again):
    import proj
    assert proj.add.delay(1, 2).get(timeout=90) == 3
    assert canvas_app.signature("proj.add", (1, 2)).delay().get(timeout=90) == 3
""",
        outcomes={"passed": 2},
    )


def test_settings_come_from_the_marker_and_from_a_fixture(project):
    project(
        """
def test_fixture(canvas_app):
    assert canvas_app.conf.task_default_queue == "ours"

@pytest.mark.canvas(task_always_eager=True, worker_concurrency=3)
class TestMarked:
    def test_it(self, canvas_app):
        assert canvas_app.conf.task_always_eager and canvas_app.conf.worker_concurrency == 3

    @pytest.mark.canvas(task_default_queue="nearest", worker_concurrency=1)
    def test_nearest(self, canvas_app):
        assert canvas_app.conf.task_always_eager and canvas_app.conf.worker_concurrency == 1
        assert canvas_app.conf.task_default_queue == "nearest"
""",
        conftest="""
import pytest

@pytest.fixture(scope="session")
def canvas_config():
    return {"task_default_queue": "ours"}
""",
        outcomes={"passed": 3},
    )


def test_a_setting_that_does_not_exist_is_named(project):
    result = project(
        """
@pytest.mark.canvas(task_always_eagre=True)
def test_name(canvas_app): pass

@pytest.mark.canvas("eager")
def test_position(canvas_app): pass
""",
        outcomes={"errors": 2},
    )
    result.stdout.fnmatch_lines(["*UnknownSetting*task_always_eagre*task_always_eager*"])
    result.stdout.fnmatch_lines(["*the marker canvas takes settings by name*and not 'eager'*"])


def test_the_marker_is_known_to_strict_pytest(project):
    result = project("@pytest.mark.canvas(worker_concurrency=1)\ndef test_it(): pass", "--strict-markers")
    result.assert_outcomes(passed=1)
    assert "canvas(**settings)" in project("def test_it(): pass", "--markers").stdout.str()


def test_a_worker_is_started_as_its_parameters_say_and_stopped(project):
    project(
        """
import threading

@pytest.fixture
def canvas_worker_parameters():
    return {"concurrency": 2, "pool": "threads"}

workers = []

def test_it(canvas_app, canvas_worker):
    assert canvas_app.worker is canvas_worker and canvas_worker.concurrency == 2
    barrier = threading.Barrier(2, timeout=60)

    @canvas_app.task
    def meet():
        return barrier.wait() >= 0

    workers.append(canvas_worker)
    assert group(meet.s(), meet.s())().get(timeout=90) == [True, True]

def test_stopped():
    assert not any(slot.thread.is_alive() for slot in workers[0].slots)
""",
        outcomes={"passed": 2},
    )


def test_a_users_own_app_can_take_the_place(project):
    project(
        """
@pytest.fixture
def canvas_app():
    with App("mine", set_as_current=False) as app:
        yield app

def test_it(canvas_app, canvas_worker):
    assert type(canvas_app) is App and canvas_worker is canvas_app.worker
    assert canvas_app.task(name="one")(lambda: 1).delay().get(timeout=90) == 1

def test_failing(canvas_app):
    assert canvas_app.main == "other"
""",
        outcomes={"passed": 1, "failed": 1},
    )


# -- what a failure says ----------------------------------------------------------------------------------------------


def test_a_failed_test_says_which_calls_failed(project):
    result = project(
        """
import proj

@task(bind=True, autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
def shaky(self, x):
    if x == 3:
        raise OSError("the disk is gone")
    return x

def test_it(canvas_app, canvas_worker):
    run = submit(chord([shaky.s(i) for i in range(5)] + [proj.add.s(1, None)], proj.tsum.s()))
    assert run.get(timeout=90) == 10
""",
        outcomes={"failed": 1},
    )
    result.stdout.fnmatch_lines(
        [
            "*- canvas -*",
            "chord.header[[]3[]] → shaky(3) failed after 2 retries: OSError: the disk is gone",
            '  File "test_it.py", line *, in shaky',
            '      raise OSError("the disk is gone")',
            "chord.header[[]5[]] → add(1, None) failed: TypeError: *",
            "      return x + y",
        ]
    )
    section = result.stdout.str().partition("- canvas -")[2].partition("short test summary")[0]
    assert "nbcanvas/" not in section
    assert "tsum" not in section  # it only ended because of the others


def test_the_step_behind_a_failure_is_not_told(project):
    result = project(
        """
import proj
def test_it(canvas_app):
    (proj.add.s(1, None) | proj.add.s(1) | proj.add.s(2)).delay().get(timeout=90)
""",
        outcomes={"failed": 1},
    )
    section = result.stdout.str().partition("- canvas -")[2].partition("short test summary")[0]
    assert section.count("failed:") == 1
    assert "chain[0] → add(1, None) failed: TypeError" in section


def test_at_most_four_of_many_are_told(project):
    result = project(
        """
import proj
def test_it(canvas_app):
    group(proj.add.s(i, None) for i in range(50))().get(timeout=90)
""",
        outcomes={"failed": 1},
    )
    assert result.stdout.str().count("] → add(") == 4
    result.stdout.fnmatch_lines(["… and 46 more failed"])


def test_a_wait_that_ran_out_says_what_has_not_ended(project):
    result = project(
        """
import threading, proj

@pytest.fixture
def never(canvas_app):
    yield (event := threading.Event())
    event.set()

def test_it(canvas_app, never):
    @canvas_app.task
    def wait_long():
        never.wait(90)

    (wait_long.si() | proj.add.si(1, 2)).delay().get(timeout=0.2)
""",
        outcomes={"failed": 1},
    )
    result.stdout.fnmatch_lines(
        ["chain[[]0[]] → wait_long() has not ended: *", "chain[[]1[]] → add(1, 2) has not ended: *"]
    )


def test_nothing_is_said_where_no_call_failed(project):
    result = project(
        """
import proj
def test_it(canvas_app):
    assert proj.add.delay(1, 2).get(timeout=90) == 4
""",
        outcomes={"failed": 1},
    )
    assert "- canvas -" not in result.stdout.str()


def test_a_task_that_outlives_its_test_is_named():
    import threading

    from nbcanvas.testing import stop_worker

    with fresh_app(worker_concurrency=1) as app:
        begun, never = threading.Event(), threading.Event()

        @app.task(name="endless")
        def endless():
            begun.set()
            never.wait(90)

        endless.delay()
        assert begun.wait(60)
        with pytest.warns(RuntimeWarning, match=r"endless still ran 0\.1 seconds after the test"):
            stop_worker(app, 0.1)
        never.set()


# -- beside others ----------------------------------------------------------------------------------------------------


def test_under_xdist(project):
    result = project(
        """
import proj
@pytest.mark.parametrize("x", range(8))
def test_it(canvas_app, canvas_worker, x):
    assert (proj.add.s(x, 1) | proj.add.s(1)).delay().get(timeout=90) == x + 2

def test_failing(canvas_app):
    proj.add.delay(1, None).get(timeout=90)
""",
        "-n",
        "2",
        outcomes={"passed": 8, "failed": 1},
    )
    result.stdout.fnmatch_lines(["add(1, None) failed: TypeError: *"])


def test_without_the_plugin(pytester):
    pytester.makepyfile("def test_it(): pass\ndef test_no(canvas_app): pass")
    result = pytester.runpytest_subprocess("-p", "no:nbcanvas", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*fixture 'canvas_app' not found*"])


HEAVY = ("nbcanvas", "IPython", "anywidget", "kombu", "pandas", "redis", "traitlets")


def test_pytests_start_does_not_import_the_package(pytester):
    pytester.makepyfile(
        f"import json, sys\ndef test_it(): print('LOADED', json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    alone = [arg for name in ("nbval", "nbmake", "anyio", "hypothesispytest") for arg in ("-p", f"no:{name}")]
    result = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider", *alone)
    result.assert_outcomes(passed=1)
    [line] = [line for line in result.outlines if "LOADED" in line]
    assert json.loads(line.partition("LOADED ")[2].rstrip(".")) == []


def test_a_test_with_fixtures_does_not_import_a_notebook(pytester):
    pytester.makepyfile(
        "import sys\n"
        "def test_it(canvas_app, canvas_worker):\n"
        "    assert canvas_app.task(name='one')(lambda: 1).delay().get(timeout=90) == 1\n"
        "    assert [m for m in ('IPython', 'pandas', 'traitlets') if m in sys.modules] == []\n"
    )
    alone = [arg for name in ("nbval", "nbmake", "anyio", "hypothesispytest") for arg in ("-p", f"no:{name}")]
    pytester.runpytest_subprocess("-p", "no:cacheprovider", *alone).assert_outcomes(passed=1)


# -- without pytest ---------------------------------------------------------------------------------------------------


def test_fresh_app_by_hand():
    before = nbcanvas.current_app()
    with fresh_app(task_default_queue="tests") as app:
        assert nbcanvas.current_app() is app
        assert app.conf.task_default_queue == "tests"
    assert nbcanvas.current_app() is before


def test_its_docstring_is_true():
    command = [sys.executable, "-m", "doctest", "-o", "NORMALIZE_WHITESPACE", nbcanvas.__path__[0] + "/testing.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
