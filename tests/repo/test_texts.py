"""The texts say what is true: versions agree, the two commands are named and exist, every link leads somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

import nbcanvas

ROOT = Path(__file__).parents[2]


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert nbcanvas.__version__ == version
    assert f"## [{version}]" in text_of("CHANGELOG.md") or "## [Unreleased]" in text_of("CHANGELOG.md")


@pytest.mark.parametrize("target", ["demo", "test", "lab", "bench"])
def test_the_commands_the_readme_names_exist(target: str):
    assert f"make {target}" in text_of("README.md")
    assert re.search(rf"^{target}:", text_of("Makefile"), re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_relative_links_lead_somewhere(name: str):
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text_of(name))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_continuous_integration_runs_what_a_person_runs():
    commands = [line for line in text_of(".ci/run").splitlines() if "make" in line and not line.startswith("#")]
    assert commands == ["exec make test"]
