"""What every test shares: how hard hypothesis tries, what garbage collections read, and that a gate does not skip."""

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

# `fast` is for a person at work; `ci` is the gate, and what `make test` chooses. Both look for new examples each time;
# what fails prints a blob that reproduces it. No clocks: machines are shared, and pytest-timeout ends what hangs.
CLOCKLESS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("fast", max_examples=30, **CLOCKLESS)
settings.register_profile("ci", max_examples=500, **CLOCKLESS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "fast"))


pytest_plugins = ["tests.driver", "tests.servers"]


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="what would be skipped fails (`make test`)")


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.timeout(600))  # thousands of examples take long where all is slow


def pytest_collection_finish():
    read_no_more()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    torn_down = yield
    if nextitem is None or nextitem.path != item.path:
        read_no_more()
    return torn_down


def read_no_more():
    # Four thousand tests, pandas, celery, hypothesis, what IPython remembers: a million objects that stay. Whole
    # collections that read them again and again were a third of a plain run.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return skip_to_failure((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return skip_to_failure((yield), collector.config)


def skip_to_failure(report, config):
    if config.getoption("no_skips") and report.skipped and not hasattr(report, "wasxfail"):
        path, line, reason = report.longrepr
        report.outcome, report.longrepr = "failed", f"{path}:{line}: {reason} (with --no-skips nothing may be skipped)"
    return report
