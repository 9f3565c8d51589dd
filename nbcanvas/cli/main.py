"""``nbcanvas``: the command line's entry point; each command stands in a module of its own."""

from __future__ import annotations

import click

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Celery's canvas in a notebook, and its cluster."""
