"""``%load_ext nbcanvas`` and back: twice, reloaded, unloaded, nothing is there double and nothing is left behind."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Final

from . import formatters
from .cell import fill_empty
from .completion import Matcher, matcher
from .magics import CanvasMagics
from .session import Session

__all__ = ["Extension", "load", "session_of", "unload"]

log = logging.getLogger("nbcanvas.notebook")
#: The attribute of a shell that holds what was loaded into it: it outlives a reload of these modules.
_ATTRIBUTE: Final = "_nbcanvas_extension"


class Extension:
    """What ``%load_ext nbcanvas`` put into a shell.

    Parameters
    ----------
    shell
        The InteractiveShell.
    """

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.session = Session(shell)
        self._matcher: Matcher = matcher(self.session)

    def install(self) -> None:
        """Register magics, configuration, completion and displays."""
        shell = self.shell
        shell.register_magics(CanvasMagics(self.session))
        shell.configurables.append(self.session.settings)
        shell.Completer.custom_matchers.append(self._matcher)
        shell.input_transformers_cleanup.append(fill_empty)
        shell.events.register("pre_run_cell", self.session.publisher.cell_begins)
        formatters.register(self.session)

    def remove(self) -> None:
        """Take all of it back, and stop the embedded worker."""
        shell = self.shell
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("canvas", None)
        shell.magics_manager.registry.pop(CanvasMagics.__name__, None)
        shell.configurables[:] = [one for one in shell.configurables if one is not self.session.settings]
        matchers = shell.Completer.custom_matchers
        matchers[:] = [one for one in matchers if one is not self._matcher]
        transformers = shell.input_transformers_cleanup
        transformers[:] = [one for one in transformers if one is not fill_empty]
        with suppress(ValueError):  # somebody has taken it away
            shell.events.unregister("pre_run_cell", self.session.publisher.cell_begins)
        formatters.unregister(self.session)
        self.session.close()


def load(shell: Any) -> Session:
    """Load the extension into a shell; a second time changes nothing.

    Raises
    ------
    CellError
        When a settings file cannot be understood.
    """
    from .errors import brief

    found = getattr(shell, _ATTRIBUTE, None)
    if found is None:
        with brief():
            found = Extension(shell)
        found.install()
        setattr(shell, _ATTRIBUTE, found)
    session: Session = found.session
    return session


def unload(shell: Any) -> None:
    """Take the extension out of a shell; a second time changes nothing."""
    found = getattr(shell, _ATTRIBUTE, None)
    if found is not None:
        setattr(shell, _ATTRIBUTE, None)
        found.remove()


def session_of(shell: Any = None) -> Session:
    """Return the session of a shell, the present one by default; load the extension if need be.

    Raises
    ------
    RuntimeError
        Outside of IPython.
    """
    if shell is None:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
    if shell is None:
        msg = "there is no IPython here: use nbcanvas.submit(sig) and run.get()"
        raise RuntimeError(msg)
    return load(shell)
