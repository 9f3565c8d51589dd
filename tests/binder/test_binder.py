"""Binder's steps, one after the other, in a clean environment: environment.yml, postBuild, start, and the tour in it.

There is no conda here: a fresh virtual environment takes its place, and what stands for each conda package is below.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.servers import free_port

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"


def environment_of(text):
    """Read an environment.yml: its conda packages with what is asked of their versions, and its pip requirements."""
    conda, pip = {}, []
    for one in yaml.safe_load(text)["dependencies"]:
        if isinstance(one, dict):
            pip += one["pip"]
        else:
            name, operator, version = re.fullmatch(r"([\w.-]+?)(>=|==|=|$)([\w.]*)", one).groups()
            conda[name] = SpecifierSet(f"=={version}.*" if operator == "=" else operator + version)
    return conda, pip


def run(command, cwd, env=None, **options):
    """Run a command that must succeed; return what it said."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


# -- the files --------------------------------------------------------------------------------------------------------


def test_there_is_one_folder_and_its_scripts_can_be_run():
    assert not (ROOT / ".binder").exists()  # Binder refuses to choose
    for name in ("postBuild", "start"):
        assert os.access(BINDER / name, os.X_OK)
        assert (BINDER / name).read_text("utf-8").startswith("#!/bin/sh\n")


def test_a_failing_line_of_post_build_fails(tmp_path):
    shutil.copytree(BINDER, tmp_path / "binder")  # no constraints.txt here, and nothing to build
    done = subprocess.run(["binder/postBuild"], cwd=tmp_path, capture_output=True, timeout=100, check=False)
    assert done.returncode != 0


def test_start_becomes_the_command_it_is_given(tmp_path):
    tell = "import os, sys, json; print(json.dumps([os.getpid(), sys.argv[1:], os.environ['JUPYTER_CONFIG_PATH']]))"
    words = ["a b", "$HOME", "*"]
    with subprocess.Popen(
        [BINDER / "start", sys.executable, "-c", tell, *words],
        cwd=tmp_path,
        env={**os.environ, "JUPYTER_CONFIG_PATH": "of_a_user"},
        stdout=subprocess.PIPE,
    ) as process:
        pid, given, path = json.loads(process.communicate(timeout=60)[0])
    assert pid == process.pid  # no shell is left in between: signals reach the server
    assert given == words
    assert path == f"{BINDER}:of_a_user"


# -- the steps --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a clone has: every file that is committed or would be, and nothing else."""
    folder = tmp_path_factory.mktemp("binder") / "repository"
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in run(command, ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    assert not (folder / "nbcanvas" / "notebook" / "static").exists()
    return folder


@pytest.fixture(scope="module")
def clean(checkout):
    """The environment of environment.yml, and how its programs are called: nothing of ours is on the way."""
    conda, requirements = environment_of((checkout / "binder" / "environment.yml").read_text("utf-8"))
    folder = checkout.parent / "env"
    assert ".".join(map(str, sys.version_info[:3])) in conda.pop("python")
    node = run(["node", "--version"], checkout).strip().removeprefix("v")
    assert node in conda.pop("nodejs")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NBCANVAS", "PYTHON"))}
    env |= {"PATH": f"{folder / 'bin'}:{env['PATH']}", "HOME": str(checkout.parent), "VIRTUAL_ENV": str(folder)}
    env |= {"PIP_RETRIES": "8", "PIP_DEFAULT_TIMEOUT": "60", "NPM_CONFIG_FETCH_RETRIES": "5"}  # a registry may hiccup
    for name in ("PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG"):  # how this machine reaches its registries stays
        default = Path.home() / {"PIP_CONFIG_FILE": ".config/pip/pip.conf", "NPM_CONFIG_USERCONFIG": ".npmrc"}[name]
        if name not in env and default.exists():
            env[name] = str(default)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", "constraints.txt"]
    run([*pip, f"pip{conda.pop('pip')}", *requirements], checkout, env)
    assert conda == {}, "say above what stands for these conda packages"
    return env


@pytest.fixture(scope="module")
def built(checkout, clean):
    return run(["binder/postBuild"], checkout, clean)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_post_build_builds_the_package_with_its_front_end(built):
    assert re.fullmatch(r"nbcanvas [\d.]+ with .*live\.js.*\n", built.splitlines(keepends=True)[-1])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_tour_runs_there(built, checkout, clean):
    """`scripts/demo.py` executes the tour through nbclient, and reports."""
    said = run(["binder/start", "python", "scripts/demo.py"], checkout, clean)
    assert "modules of Python's standard library" in said
    made = nbformat.read(checkout / "build" / "demo" / "tour.ipynb", as_version=4)
    counts = [cell.execution_count for cell in made.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    where = "import nbcanvas, sys; print(nbcanvas.__file__.startswith(sys.prefix))"
    assert run(["python", "-c", where], checkout.parent, clean) == "True\n"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_what_is_installed_has_the_pytest_plugin(built, checkout, clean):
    ask = """
from importlib.metadata import distribution
found = distribution("nbcanvas")
[plugin] = found.entry_points.select(group="pytest11")
print(plugin.name, plugin.value, any(str(file) == "pytest_nbcanvas.py" for file in found.files))
"""
    assert run(["python", "-c", ask], checkout.parent, clean) == "nbcanvas pytest_nbcanvas True\n"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_server_opens_the_tour(built, checkout, clean):
    port = free_port()
    flags = [
        "--no-browser",
        "--ServerApp.port_retries=0",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--IdentityProvider.token=",
        "--allow-root",
    ]
    with subprocess.Popen(
        ["binder/start", "jupyter", "lab", *flags], cwd=checkout, env=clean, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert opened(f"http://127.0.0.1:{port}/", server).endswith("/lab/tree/notebooks/tour.ipynb")
        finally:
            server.terminate()
            server.communicate(timeout=60)


def opened(address, server):
    """Return where a browser that asks for `address` ends."""
    until = time.monotonic() + 120
    while True:
        assert server.poll() is None, server.stderr.read()
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.url
        except OSError:
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.2)
