"""The pytest plugin: an app and a worker of its own for each test.

It stands beside the package, not in it, because pytest imports it at every start, in every project of the environment:
nbcanvas itself is imported by the first test that asks for a fixture.

==============================  =====================================================================
``canvas_app``                  a fresh, current app with seeded ids; its worker starts on first use
``canvas_worker``               the worker of that app, started before the test and stopped after it
``canvas_config``               override it: settings for every app
``canvas_worker_parameters``    override it: ``{"concurrency": 4, "pool": "processes"}``
``@pytest.mark.canvas(…)``      settings for one test
==============================  =====================================================================

PYTEST_DONT_REWRITE: it asserts nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbcanvas.testing import WatchedApp
    from nbcanvas.worker.embedded import EmbeddedWorker

__all__ = ["canvas_app", "canvas_config", "canvas_worker", "canvas_worker_parameters"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "canvas(**settings): settings of the test's canvas_app, by Celery's names")


@pytest.fixture(scope="session")
def canvas_config() -> Mapping[str, Any]:
    """Settings of every ``canvas_app``: override it, in a conftest.py or a test module."""
    return {}


@pytest.fixture(scope="session")
def canvas_worker_parameters() -> Mapping[str, Any]:
    """How ``canvas_worker`` is started, as for ``App.start_worker``: override it."""
    return {}


@pytest.fixture
def canvas_app(request: pytest.FixtureRequest, canvas_config: Mapping[str, Any]) -> Generator[WatchedApp]:
    """Give the test an app of its own: current, with the same ids every time, gone when the test ends."""
    from nbcanvas.testing import fresh_app

    with fresh_app(**{**canvas_config, **_marked(request.node)}) as app:
        yield app


@pytest.fixture
def canvas_worker(canvas_app: WatchedApp, canvas_worker_parameters: Mapping[str, Any]) -> Generator[EmbeddedWorker]:
    """Give the test the running worker of its ``canvas_app``."""
    from nbcanvas.testing import stop_worker

    yield canvas_app.start_worker(**canvas_worker_parameters)
    stop_worker(canvas_app)


def _marked(item: pytest.Item) -> dict[str, Any]:
    """Return the settings of a test's markers; the nearest one wins."""
    settings: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("canvas"))):
        if mark.args:
            told = "settings by name, such as @pytest.mark.canvas(task_default_queue='tests')"
            raise pytest.UsageError(f"{item.nodeid}: the marker canvas takes {told}, and not {mark.args[0]!r}")
        settings |= mark.kwargs
    return settings


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test that failed say which calls of its canvases did."""
    report = yield
    app = getattr(item, "funcargs", {}).get("canvas_app")
    if report.when == "call" and report.failed and app is not None:
        from nbcanvas.testing import what_went_wrong

        lines = what_went_wrong(app)
        if lines:
            report.sections.append(("canvas", "\n".join(lines)))
    return report
