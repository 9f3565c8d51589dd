"""``%%canvas --write``: stock Celery runs the module and gets the notebook's value, with no nbcanvas around."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("celery")
redis = pytest.importorskip("redis")

from tests.differential.test_against_celery import server  # noqa: E402, F401 - a fixture
from tests.notebook.conftest import bare, shell  # noqa: E402, F401 - fixtures

#: The cells of a notebook that uses what tasks use.
CELLS = """
import math, os.path
import xml.etree.ElementTree
from collections import Counter as Counted
from enum import Enum
from decimal import Decimal
from nbcanvas import task, chain, chord, group, signature, StampingVisitor
from nbcanvas.errors import Reject, SoftTimeLimitExceeded

FACTOR = 3
NAMES = {"a": [1, 2, (3,)], "b": None}
PRICE = Decimal("1.50")


class Mood(Enum):
    GOOD = 1


MOOD = Mood.GOOD


class Flaky(Exception):
    pass


class Scale:
    by = FACTOR

    def __call__(self, x):
        return scaled(x, self.by)


def scaled(x, by=FACTOR):
    return x * by


double = lambda x: 2 * x


def doubled(function):
    import functools

    @functools.wraps(function)
    def inner(*args):
        return double(function(*args))

    return inner


@task
def add(x, y):
    return x + y


@task(name="proj.scale", queue="celery", time_limit=60)
def scale(x):
    return Scale()(x) + math.floor(0.5) + Counted("aa")["a"] - 2


@task(bind=True, autoretry_for=(Flaky, OSError), max_retries=3, default_retry_delay=0)
def shaky(self, x):
    if self.request.retries < 2:
        raise Flaky(x)
    return x + self.request.retries


@task()
@doubled
def twice(x):
    return x


@task(bind=True)
def steps(self, count):
    total = 0
    for i in self.track(range(count)):
        total += i
    return total


@task
def tsum(numbers):
    return sum(numbers) + len(NAMES["a"]) + int(PRICE) + MOOD.value


@task(bind=True)
def fan(self, x):
    raise self.replace(group(add.s(x, i) for i in range(3)) | tsum.s())


@task
def parsed(x):
    found = xml.etree.ElementTree.fromstring(f"<a>{x}</a>").text
    return int(found) + len(os.path.join("a", "b"))


def nth(n):
    @task(name="nth")
    def nth_power(x):
        return x**n

    return nth_power


power = nth(2)
"""

CANVASES = {
    "chord": "group(add.s(i, i) for i in range(10)) | tsum.s()",
    "chain": "chain(add.s(1, 2), scale.s(), shaky.s(), twice.s(), steps.s(), parsed.s(), power.s())",
    "replaced": "fan.s(5) | scale.s()",
    "nested": "chord([add.s(1, 1) | scale.s(), group(add.si(i, 7) for i in range(3))], tsum.s()) | add.s(1)",
    "maps": "group(add.starmap([(1, 2), (3, 4)]), twice.map([1, 2]), add.chunks([(i, i) for i in range(5)], 2))",
    "chunked": "add.chunks([(i, i) for i in range(5)], 2)",
    "options": "add.s(1, 1).set(priority=3, link=[tsum.si([1])]).on_error(tsum.si([2])) | scale.s().set(expires=600)",
    "strings": "add.s('“ü” \\\"x\\\"', 'y' * 80) | add.s('z' * 40)",
}

WITHOUT_US = """
import json, runpy, sys
sys.modules["nbcanvas"] = None  # whoever imports it fails
sys.path.insert(0, ".")
"""


def plain(value):
    return json.loads(json.dumps(value))


def written(shell, tmp_path, name):  # noqa: F811
    for cell in CELLS.split("\n\n\n"):
        shell.run(cell)
    value = shell.run(f"%%canvas -w --write {name}.py\n{CANVASES[name]}")
    path = tmp_path / f"{name}.py"
    nodes = ast.walk(ast.parse(path.read_text()))
    imported = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("nbcanvas" in ast.unparse(node) for node in imported)
    return plain(value)


def run(tmp_path, code, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "PYTHONPATH"))}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US + code],
        cwd=tmp_path,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_in_one_process_with_no_broker(shell, tmp_path):  # noqa: F811
    value = written(shell, tmp_path, "chain")
    code = 'runpy.run_path("chain.py", run_name="__main__")'
    assert run(tmp_path, code) == f"{value}\n"


def test_it_has_all_it_needs_and_no_more(shell, tmp_path):  # noqa: F811
    written(shell, tmp_path, "chord")
    text = (tmp_path / "chord.py").read_text()
    assert "class Scale" not in text and "Flaky" not in text and "track" not in text and "import math" not in text
    assert '@app.task(name="add")\ndef add(x, y):\n    return x + y\n' in text
    assert "    return chord([add.s(i, i) for i in range(10)], tsum.s())\n" in text
    code = 'import chord as m; print(json.dumps([m.canvas(), sorted(n for n in m.app.tasks if "celery." not in n)]))'
    canvas, tasks = json.loads(run(tmp_path, code))
    assert canvas == plain(shell.run(CANVASES["chord"])) and tasks == ["add", "tsum"]


def test_options_of_tasks_are_kept(shell, tmp_path):  # noqa: F811
    written(shell, tmp_path, "chain")
    code = (
        "import chain as m; t = m.shaky; s = m.app.tasks['proj.scale']; "
        "print(t.autoretry_for, t.max_retries, t.default_retry_delay, s.time_limit, s.queue)"
    )
    assert run(tmp_path, code) == "(<class 'chain.Flaky'>, <class 'OSError'>) 3 0 60 celery\n"


def test_functions_of_modules_are_imported(shell, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "mine.py").write_text("def triple(x):\n    return 3 * x\n\n\ndef half(self, x):\n    return x / 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    shell.run("from nbcanvas import task\nimport mine\ntriple = task(mine.triple)")
    shell.run("half = task(name='half', bind=True, throws=(KeyError,))(mine.half)")
    assert shell.run("%%canvas -w --write imported.py\ntriple.s(2) | half.s()") == 3.0
    text = (tmp_path / "imported.py").read_text()
    assert "from mine import triple as _triple" in text and "def triple" not in text
    assert run(tmp_path, 'runpy.run_path("imported.py", run_name="__main__")') == "3.0\n"


@pytest.mark.servers
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CANVASES)
def test_stock_celery_gets_the_notebooks_value(shell, tmp_path, server, name):  # noqa: F811
    value = written(shell, tmp_path, name)
    environment = {**os.environ, "CELERY_BROKER_URL": server, "PYTHONPATH": str(tmp_path)}
    client = redis.Redis.from_url(server)
    client.flushall()
    start = WITHOUT_US + (
        f"from celery.__main__ import main; sys.argv = ['celery', '-A', '{name}', 'worker', '--pool', 'solo', "
        f"'--loglevel', 'WARNING', '--without-mingle', '--without-gossip']; main()"
    )
    worker = subprocess.Popen([sys.executable, "-c", start], cwd=tmp_path, env=environment)
    try:
        code = f"import {name} as m; print(json.dumps(m.canvas().apply_async().get(timeout=120)))"
        assert json.loads(run(tmp_path, code, CELERY_BROKER_URL=server)) == value
        assert f"{value}\n" == run(
            tmp_path, f'runpy.run_path("{name}.py", run_name="__main__")', CELERY_BROKER_URL=server
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        until = time.monotonic() + 10
        while worker.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        worker.kill()
        worker.wait(5)
