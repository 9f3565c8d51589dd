"""What must not stand in any file of the repository: a registry's host, a path of somebody's machine, a secret."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Written so that this file does not match itself.
FORBIDDEN = {
    "a package registry's host": re.compile(
        r"\b(?:pypi|pythonhosted|npmjs|yarnpkg|anaconda|jsr)[.](?:org|com|io)\b|\bregistry[.]npmmirror\b"
        r"|\b(?:artifactory|nexus|devpi)[.][a-z0-9-]+[.]",
        re.IGNORECASE,
    ),
    "an index or a wheel directory": re.compile(r"--(?:extra-)?index-ur[l]|--find-link[s]|\bfile:///(?!tmp\b)[a-z]"),
    "a path of one machine": re.compile(r"(?<![\w.})*$-])/(?:root|work|opt|Users/\w+|home/\w+|tmp/lab)/(?=\w)"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KE[Y]-----"),
    "an access token": re.compile(
        r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{22,}|\bxox[baprs]-[\w-]{10,}"
        r"|\bglpat-[\w-]{20,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgEI[\w-]{20,}|\bsk-[A-Za-z0-9]{32,}\b"
    ),
}

SAMPLES = {
    "a package registry's host": "https://pypi" + ".org/simple",
    "an index or a wheel directory": "--index" + "-url x",
    "a path of one machine": '  File "' + "/" + 'work/main/x.py"',
    "a private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
    "an access token": "AKIA" + "0" * 16,
}


def files_of_the_repository() -> list[Path]:
    """List what is committed or would be: everything that .gitignore lets through."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str):
    pattern = FORBIDDEN[what]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in files_of_the_repository()
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), start=1)
        if (match := pattern.search(line))
    ]
    assert found == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_search_would_find(what: str):
    assert FORBIDDEN[what].search(SAMPLES[what])


def test_the_search_reads_the_repository():
    names = {path.relative_to(ROOT).as_posix() for path in files_of_the_repository()}
    assert {"README.md", "constraints.txt", "nbcanvas/__init__.py"} <= names
    assert not any(name.startswith((".venv/", "widgets/node_modules/", "nbcanvas/notebook/static/")) for name in names)


def test_constraints_are_exact_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_the_front_ends_lock_names_no_address_to_install_from():
    assert '"resolved"' not in (ROOT / "widgets" / "package-lock.json").read_text("utf-8")
