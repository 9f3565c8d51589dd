"""Playwright, once for all tests of a session: a second one in the same process is refused."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def driver():
    """What starts browsers."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright
