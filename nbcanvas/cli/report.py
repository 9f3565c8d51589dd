"""``nbcanvas report``: what a report of a bug should say."""

from __future__ import annotations

import click

from .common import Given, app_of, common_options

__all__ = ["report"]


@click.command()
@common_options
def report(given: Given) -> None:
    """Show information useful to include in bug-reports; no password is in it."""
    click.echo(app_of(given).bugreport())
