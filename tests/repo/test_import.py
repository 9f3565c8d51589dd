"""`import nbcanvas` is light: who only sends a task does not pay for a notebook, tables or a server's client."""

import json
import subprocess
import sys

HEAVY = {"IPython", "anywidget", "celery", "ipywidgets", "kombu", "pandas", "redis", "sqlalchemy", "traitlets"}


def modules_after(statement: str) -> set[str]:
    program = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_loads_nothing_heavy():
    assert modules_after("import nbcanvas") & HEAVY == set()


def test_the_probe_sees_what_is_loaded():
    assert "kombu" in modules_after("import kombu")


def test_what_shows_a_run_is_loaded_with_the_first_run():
    program = """
import sys, nbcanvas
rooms = ("nbcanvas.run", "nbcanvas.picture", "nbcanvas.tables")
print(*[room for room in rooms if room in sys.modules], sep=",")
print(*[name for name in nbcanvas.__all__ if name not in dir(nbcanvas) or not hasattr(nbcanvas, name)], sep=",")
print(nbcanvas.Run is sys.modules["nbcanvas.run"].Run, hasattr(nbcanvas, "nothing_of_ours"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["", "", "True False"]


def test_a_canvas_is_explained_and_its_stamps_are_shown_without_a_run():
    program = """
import nbcanvas
sig = nbcanvas.App("x").task(lambda: 1, name="one").s()
print(bool(str(sig.explain())), list(sig.stamp_preview(a=1).columns))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True ['path', 'name', 'role', 'a']\n"
