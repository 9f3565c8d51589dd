"""What every command takes: which app, where its servers are. Before the command, as Celery has it, or behind it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from nbcanvas.app import App
from nbcanvas.errors import NBCanvasError

from .finding import AppNotFound, Celerys, find_app

__all__ = ["Given", "app_of", "common_options", "global_options"]


class Given(NamedTuple):
    """The options of every command.

    Attributes
    ----------
    app
        ``-A``: module, ``module:attribute`` or package of an app.
    broker, result_backend
        URLs that take the place of the app's settings.
    loader
        Accepted for compatibility.
    config
        A module of settings.
    workdir
        A directory to change to.
    no_color, quiet
        How much is printed.
    """

    app: str | None = None
    broker: str | None = None
    result_backend: str | None = None
    loader: str | None = None
    config: str | None = None
    workdir: str | None = None
    no_color: bool = False
    quiet: bool = False

    def over(self, other: Given) -> Given:
        """Return these options; what is not given here is as in `other`."""
        found = {name: mine for name, mine in self._asdict().items() if mine}
        return other._replace(**found)


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "-A",
        "--app",
        metavar="APP",
        envvar=["NBCANVAS_APP", "APP"],
        help="The app: a module (with `app` or `celery` in it), or module:attribute.",
    ),
    click.option(
        "-b", "--broker", metavar="URL", envvar=["NBCANVAS_BROKER_URL", "BROKER_URL"], help="Where the broker is."
    ),
    click.option(
        "--result-backend",
        metavar="URL",
        envvar=["NBCANVAS_RESULT_BACKEND", "RESULT_BACKEND"],
        help="Where results are kept.",
    ),
    click.option("--loader", hidden=True, help="Accepted for compatibility."),
    click.option("--config", metavar="MODULE", envvar="CONFIG_MODULE", help="A module of settings."),
    click.option(
        "--workdir", type=click.Path(exists=True, file_okay=False), help="Change to this directory, and import from it."
    ),
    click.option("-C", "--no-color", is_flag=True, help="No colours."),
    click.option("-q", "--quiet", is_flag=True, help="Print less."),
]


def global_options(command: Any) -> Any:
    """Add the options to a command or group, which gets each by its name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options behind a command too; the function gets them, with those before it, as `given`."""

    @global_options
    @click.pass_context
    @functools.wraps(command)
    def wrapper(ctx: click.Context, /, **options: Any) -> Any:
        mine = Given(**{name: options.pop(name) for name in Given._fields})
        before = ctx.find_object(Given) or Given()
        return command(given=mine.over(before), **options)

    made: Callable[..., Any] = wrapper
    return made


def app_of(given: Given, *, needed: bool = False) -> App:
    """Return the app that is meant, with what the command line says about its servers.

    Parameters
    ----------
    given
        The options.
    needed
        Whether there has to be ``-A``.
    """
    if given.workdir:
        os.chdir(given.workdir)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        app = _found(given.app, needed=needed) if given.app else _app_without_name(needed=needed)
        if given.config:
            app.config_from_object(given.config)
        urls = {"broker_url": given.broker, "result_backend": given.result_backend}
        app.conf.update({name: url for name, url in urls.items() if url})
    except (AppNotFound, NBCanvasError) as error:
        raise click.UsageError(str(error)) from error
    return app


def _found(name: str, *, needed: bool) -> App:
    try:
        return find_app(name)
    except Celerys as found:
        if needed:
            raise
        return App("default", **found.settings)  # to ask its workers, its settings are enough


def _app_without_name(*, needed: bool) -> App:
    if needed:
        msg = "which app? Say it with -A: the module it is in, or module:attribute"
        raise AppNotFound(msg)
    return App("default")
