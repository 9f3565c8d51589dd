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
