"""Starting and stopping workers; what processes alone can do, and what must never be left of them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbcanvas import App, errors, group
from nbcanvas.plan import Call, Message
from nbcanvas.protocol.payload import pack_args, unpack
from nbcanvas.request import Context
from nbcanvas.worker.slots import executors
from tests.worker.conftest import settle, started
from tests.worker.tasks import define, notes


@pytest.fixture
def fresh(pool):
    with App() as app:
        tasks = define(app)
        tasks.app = app
        yield tasks


def test_messages_wait_for_the_next_worker(fresh, pool, tmp_path):
    path = str(tmp_path / "hold")
    fresh.app.start_worker(1, pool)
    first = fresh.hold.delay(path)
    started(path)
    others = [fresh.add.delay(i, i) for i in range(5)]
    Path(path).touch()
    fresh.app.stop_worker()
    assert first.get(timeout=60) == "held"
    done = [r.ready() for r in others]
    fresh.app.start_worker(2, pool)
    assert [r.get(timeout=60) for r in others] == [0, 2, 4, 6, 8]
    assert not all(done) or len(done) == 5


def test_stopping_can_be_repeated(fresh, pool):
    for _ in range(3):
        fresh.app.start_worker(2, pool)
        assert fresh.add.delay(1, 1).get(timeout=60) == 2
        fresh.app.stop_worker()


def test_stopping_an_idle_worker_never_hangs(fresh, pool):
    if pool == "processes":
        return
    for _ in range(200):
        fresh.app.start_worker(2, pool)
        fresh.app.stop_worker()


def test_stop_with_a_timeout(fresh, pool, tmp_path):
    path = str(tmp_path / "hold")
    fresh.app.start_worker(1, pool)
    running = (fresh.hold.s(path) | fresh.echo.s()).delay()
    started(path)
    fresh.app.stop_worker(timeout=0.2)  # `hold` would not end
    assert not running.ready() or pool == "processes"
    if pool == "processes":
        with pytest.raises(errors.WorkerLostError, match="stopped while hold"):
            running.get(timeout=60)
    fresh.app.start_worker(1, pool)
    assert fresh.add.delay(2, 2).get(timeout=60) == 4
    Path(path).touch()
    if pool == "threads":
        assert running.get(timeout=60) == "held"


def test_wrong_settings_are_refused():
    with App() as app:
        with pytest.raises(errors.ImproperlyConfigured, match=r"worker_pool.*'procs'.*processes"):
            app.start_worker(1, "procs")
        app.conf.worker_pool = "threads"
        with pytest.raises(errors.ImproperlyConfigured, match="worker_concurrency"):
            app.start_worker(-1)


def test_priority(fresh, pool, tmp_path):
    gate, log = str(tmp_path / "gate"), str(tmp_path / "log")
    fresh.app.start_worker(1, pool)
    held = fresh.hold.delay(gate)
    started(gate)
    results = [fresh.write.apply_async((log, priority), priority=priority) for priority in (9, 5, 0, 9, 5, 0)]
    Path(gate).touch()
    for result in (held, *results):
        result.get(timeout=60)
    assert notes(log) == ["0", "0", "5", "5", "9", "9"]


def test_inspect(fresh, pool, tmp_path):
    path = str(tmp_path / "hold")
    fresh.app.start_worker(1, pool)
    result = fresh.hold.delay(path)
    started(path)
    later = fresh.add.apply_async((1, 1), countdown=60)
    waiting = fresh.add.delay(2, 2)
    answer = fresh.app.control.inspect()
    (name,) = answer.ping()
    assert [t["id"] for t in answer.active()[name]] == [result.id]
    assert [t["id"] for t in answer.reserved()[name]] == [waiting.id]
    assert [t["request"]["id"] for t in answer.scheduled()[name]] == [later.id]
    assert "add" in answer.registered()[name] and answer.stats()[name]["pool"]["implementation"] == pool
    Path(path).touch()
    assert waiting.get(timeout=60) == 4


# -- processes alone --------------------------------------------------------------------------------------------------


@pytest.fixture
def procs():
    with App() as app:
        tasks = define(app)
        tasks.app = app
        app.start_worker(2, "processes")
        yield tasks


def test_tasks_run_elsewhere_and_side_by_side(procs):
    pids = set()
    where = group(procs.where.s() for _ in range(9))
    settle(lambda: len(pids.update(pid for pid, _ in where.delay().get(60)) or pids) == 2)
    assert os.getpid() not in pids


def test_a_late_acknowledged_task_survives_the_death_of_its_process(procs, tmp_path):
    assert procs.dies_once.delay(str(tmp_path / "n")).get(timeout=60) == "alive"
    assert (procs.dies_once.s(str(tmp_path / "m")) | procs.echo.s()).delay().get(timeout=60) == "alive"


def test_a_poison_task_kills_three_processes_and_then_fails(procs, tmp_path):
    result = procs.poison.delay(str(tmp_path / "n"))
    with pytest.raises(errors.WorkerLostError, match=r"poison.*exited with code 7, as 2 before it"):
        result.get(timeout=60)
    assert len(notes(tmp_path / "n")) == 3
    assert procs.add.delay(2, 2).get(timeout=60) == 4


def test_children_that_die_at_random_lose_nothing_silently(procs, tmp_path):
    def step(x):
        time.sleep(0.005)
        return os.getpid(), x

    early = procs.app.task(name="early")(step)
    late = procs.app.task(name="late", acks_late=True, reject_on_worker_lost=True)(step)
    results = [(early if i % 2 else late).delay(i) for i in range(120)]
    hit = set()
    for _ in range(4):
        time.sleep(0.1)
        active = procs.app.control.inspect().active().popitem()[1]
        for task in [one for one in active if one["id"] not in hit][:1]:  # thrice would be too often
            hit.add(task["id"])
            (slot,) = [s for s in procs.app.worker.slots if s.name == task["hostname"]]
            child = slot.executor._child
            if child is not None and _runs(child.pid):  # not one that was killed before, and is not replaced yet
                os.kill(child.pid, signal.SIGKILL)
    ends = [result.get(timeout=60, propagate=False) for result in results]
    lost = [i for i, end in enumerate(ends) if isinstance(end, errors.WorkerLostError)]
    assert all(i % 2 for i in lost) and len(lost) <= 4
    assert all(end[1] == i for i, end in enumerate(ends) if i not in lost)


def test_a_child_that_dies_while_idle_costs_nothing(procs):
    for _ in range(3):
        pids = {pid for pid, _ in group(procs.where.s() for _ in range(20)).delay().get(timeout=60)}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        settle(lambda pids=pids: not any(_runs(pid) for pid in pids))
        assert group(procs.add.s(i, 1) for i in range(20)).delay().get(timeout=60) == list(range(1, 21))


def test_a_child_that_dies_before_it_reads_its_task_costs_nothing():
    """It was idle, and is killed at the very moment when it is handed a task: that had not begun."""
    with App(worker_concurrency=1, worker_pool="processes") as app:
        where = define(app).where
        idle = where.delay().get(timeout=60)[0]
        os.kill(idle, signal.SIGSTOP)
        settle(
            lambda: all("T" in one.read_text().rpartition(")")[2] for one in Path(f"/proc/{idle}/task").glob("*/stat"))
        )
        result = where.delay()
        settle(lambda: app.control.inspect().active().popitem()[1])
        time.sleep(0.1)
        os.kill(idle, signal.SIGKILL)
        assert result.get(timeout=60)[0] != idle


def test_a_child_that_dies_while_it_starts_costs_nothing():
    with App(set_as_current=False) as app, ThreadPoolExecutor(1) as pool:
        task = define(app).where
        message = Message(Call("id", "where", pack_args((), {})), (), None, "root", None, 0.0)
        executor = executors("processes", app)()
        first = executor.pid
        os.kill(first, signal.SIGSTOP)
        ends = pool.submit(executor.run, task, message, Context(message, "where"))
        settle(lambda: executor._message is message)
        os.kill(first, signal.SIGKILL)
        assert unpack(ends.result(60).payload)[0] not in {first, os.getpid()}
        executor.close()


def test_max_tasks_per_child():
    with App(worker_max_tasks_per_child=3, worker_concurrency=1, worker_pool="processes") as app:
        where = define(app).where
        pids = [where.delay().get(timeout=60)[0] for _ in range(7)]
        assert pids[0] == pids[2] != pids[3] == pids[5] != pids[6]
        settle(lambda: not _runs(pids[0]))


def test_max_memory_per_child():
    with App(worker_max_memory_per_child=1000, worker_concurrency=1, worker_pool="processes") as app:
        where = define(app).where
        assert where.delay().get(timeout=60)[0] != where.delay().get(timeout=60)[0]


def test_settings_and_directory_follow(procs, tmp_path, monkeypatch):
    def look(self):
        return self.app.conf.task_default_queue, str(Path.cwd())

    task = procs.app.task(name="look", bind=True)(look)
    assert task.delay().get(timeout=60) == ("celery", str(Path.cwd()))
    procs.app.conf.task_default_queue = "other"
    monkeypatch.chdir(tmp_path)
    assert task.delay().get(timeout=60) == ("other", str(tmp_path))


def test_what_a_task_started_ends_with_its_process(procs, tmp_path):
    path = str(tmp_path / "n")

    def parent(path):
        child = subprocess.Popen(["sleep", "600"])
        Path(path).write_text(f"{child.pid}\n")
        time.sleep(600)

    result = procs.app.task(name="parent")(parent).delay(path)
    settle(lambda: notes(path))
    assert _runs(int(notes(path)[0]))
    result.revoke(terminate=True)
    with pytest.raises(errors.TaskRevokedError):
        result.get(timeout=60)
    settle(lambda: not _runs(int(notes(path)[0])))


def test_a_task_that_cannot_be_sent_says_why(procs):
    import threading

    lock = threading.Lock()
    with pytest.raises(errors.NotSerializable, match=r"task locked cannot be sent to a process.*lock"):
        procs.app.task(name="locked")(lambda: lock).delay().get(timeout=60)
    assert procs.add.delay(2, 2).get(timeout=60) == 4


def test_every_child_ends_with_the_worker(procs):
    pids = {pid for pid, _ in group(procs.where.s() for _ in range(50)).delay().get(timeout=60)}
    procs.app.stop_worker()
    settle(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


# -- as a program of its own ------------------------------------------------------------------------------------------


def program(tmp_path, code, **kwargs):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        **kwargs,
    )


WORKING = """
    import os, time
    from nbcanvas import App, group
    app = App(worker_pool="processes", worker_concurrency=2)

    @app.task
    def work(kind):
        print("pid", os.getpid(), flush=True)
        if kind == "python":
            while True:
                pass
        sum(range(10**12))

    result = group(work.s("python"), work.s("c")).delay()
    {end}
"""


def pids_of(kernel):
    return [int(kernel.stdout.readline().split()[1]) for _ in range(2)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphans_when_the_kernel_is_killed(tmp_path, number):
    kernel = program(tmp_path, WORKING.format(end="time.sleep(600)"))
    pids = pids_of(kernel)
    kernel.send_signal(number)
    kernel.wait(60)
    settle(lambda: not any(_runs(pid) for pid in pids))
    kernel.communicate()


def test_no_orphans_when_the_program_just_ends(tmp_path):
    kernel = program(tmp_path, WORKING.format(end="input()"))  # ends when it is told to
    pids = pids_of(kernel)
    _, errs = kernel.communicate("\n", timeout=60)
    assert kernel.returncode == 0, errs
    settle(lambda: not any(_runs(pid) for pid in pids))


def test_no_orphans_when_a_fork_of_the_kernel_lives_on(tmp_path):
    noted = tmp_path / "fork"
    kernel = program(
        tmp_path,
        WORKING.format(
            end=f"""
    while not os.path.exists({str(noted) + "-now"!r}):  # both children are at work by then
        time.sleep(0.01)
    fork = os.fork()
    if fork == 0:
        time.sleep(600)
        os._exit(0)
    with open({str(noted)!r}, "w") as file:
        file.write(f"{{fork}}\\n")
    time.sleep(600)
    """
        ),
    )
    pids = pids_of(kernel)
    (tmp_path / "fork-now").touch()
    settle(lambda: noted.exists() and noted.read_text().endswith("\n"))
    kernel.kill()
    try:
        settle(lambda: not any(_runs(pid) for pid in pids))
    finally:
        os.kill(int(noted.read_text()), signal.SIGKILL)
        kernel.wait(60)
        kernel.stdin.close()
        kernel.stdout.close()
        kernel.stderr.close()


def test_a_script_without_a_guard(tmp_path):
    """``__main__`` is not run again, its classes and functions travel, and what is bound anew is seen."""
    out, errs = program(
        tmp_path,
        """
        import time
        from nbcanvas import App, chain, errors, group, task
        print("main runs")
        app = App(worker_pool="processes", worker_concurrency=2)

        class Point:
            def __init__(self, x):
                self.x = x

        class Bad(Exception):
            pass

        FACTOR = 2

        def helper(x):
            return x * FACTOR

        @task
        def scale(point):
            return Point(helper(point.x))

        @task
        def bad():
            raise Bad("of main")

        @task
        def both(x):
            return scale(Point(x)).x, mul(x, 3)

        @task
        def mul(x, y):
            return x * y

        def get(sig):
            return sig.delay().get(timeout=60)

        point = get(scale.s(Point(4)))
        assert type(point) is Point and point.x == 8, point
        assert get(both.s(5)) == (10, 15)
        FACTOR = 3
        assert get(scale.s(Point(4))).x == 12
        def helper(x):
            return -x
        assert get(scale.s(Point(4))).x == -4
        @task
        def mul(x, y):
            return "new"
        assert get(both.s(5)) == (-5, "new")
        class Point:
            def __init__(self, x):
                self.x = x
                self.new = True
        assert get(scale.s(Point(4))).new
        assert type(get(scale.s(Point(4)))) is Point
        try:
            get(bad.s())
        except Bad as error:
            print("caught", error)
        result = bad.delay()
        result.get(timeout=60, propagate=False)
        assert 'raise Bad("of main")' in result.traceback, result.traceback
        assert get(chain(mul.s(1, 1), mul.s(1))) == "new"
        print("end")
    """,
    ).communicate(timeout=100)
    assert out.splitlines() == ["main runs", "caught of main", "end"], (out, errs)
    assert not errs


def test_tasks_of_modules_follow_the_file(tmp_path):
    """A module's tasks go by reference; a changed file never runs old code, whether the kernel reloaded it or not."""
    out, errs = program(
        tmp_path,
        """
        import importlib, os, pathlib, sys, threading, time
        from nbcanvas import App
        app = App(worker_pool="processes", worker_concurrency=1)
        here = pathlib.Path(__file__).parent
        sys.path.insert(0, str(here))
        sys.dont_write_bytecode = True

        def write(name, text):
            (here / f"{name}.py").write_text(text)
            importlib.invalidate_caches()
            time.sleep(0.3)

        write("helpers", "def help(): return 'help one'")
        write("mod", "import sys, threading, helpers\\n"
                     "from nbcanvas import task, App\\n"
                     "mine = App('mine')\\n"
                     "LOCK = threading.Lock()\\n"
                     "@task\\n"
                     "def one():\\n"
                     "    with LOCK: return 'one', helpers.help(), 'mod' in sys.modules\\n"
                     "@mine.task\\n"
                     "def sends(): return one.delay()\\n")
        import mod
        mod.mine.conf.update(worker_pool="processes", worker_concurrency=1)
        print(mod.one.delay().get(timeout=60))
        print(mod.sends.delay().get(timeout=60).get(timeout=60)[0])
        write("helpers", "def help(): return 'help two, longer'")
        importlib.reload(mod.helpers)
        print(mod.one.delay().get(timeout=60)[1])
        write("mod", (here / "mod.py").read_text().replace("return 'one'", "return 'the other'"))
        importlib.reload(mod)
        mod.mine.conf.update(worker_pool="processes", worker_concurrency=1)
        print(mod.one.delay().get(timeout=60)[0])
    """,
    ).communicate(timeout=100)
    assert out.splitlines() == ["('one', 'help one', True)", "one", "help two, longer", "the other"], (out, errs)


def test_what_tasks_print_is_printed(tmp_path):
    out, errs = program(
        tmp_path,
        """
        import os, sys
        from nbcanvas import App, task
        app = App(worker_pool="processes", worker_concurrency=1)

        @task
        def say(text):
            print(text)
            print(text, file=sys.stderr)
            os.system(f"echo {text} too")

        @task
        def close():
            sys.stdout.close()
            os.close(1)

        for i in range(3):
            say.delay(f"word{i}").get(timeout=60)
        close.delay().get(timeout=60)
        say.delay("unheard").get(timeout=60)
    """,
    ).communicate(timeout=100)
    assert out.splitlines() == [line for i in range(3) for line in (f"word{i}", f"word{i} too")]
    assert errs.splitlines()[:3] == ["word0", "word1", "word2"]
