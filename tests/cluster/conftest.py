"""What workers wrote is shown with the test that failed while they lived."""

import pytest

from tests.cluster.fleet import Fleet


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        report.sections += [section for fleet in Fleet.living for section in fleet.logs()]
    return report
