"""Whether the user's modules on disk are still what this process imported."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from time import monotonic

__all__ = ["UserModules"]

_EVERY = 0.25


class UserModules:
    """Watches the files of imported modules that are neither Python's nor installed ones."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        roots = {
            paths["stdlib"],
            paths["platstdlib"],
            paths["purelib"],
            paths["platlib"],
            *site.getsitepackages(),
            site.getusersitepackages(),
            os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
        }
        self._installed = tuple(os.path.join(os.path.realpath(root), "") for root in roots)
        self._times: dict[str, int] = {}
        self._known = 0
        self._next = 0.0
        self.look()

    def look(self) -> None:
        """Take note of modules that were imported since the last look."""
        if len(sys.modules) == self._known:
            return
        self._known = len(sys.modules)
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None) if module is not sys.modules["__main__"] else None
            if (
                isinstance(file, str)
                and file not in self._times
                and not os.path.realpath(file).startswith(self._installed)
            ):
                self._times[file] = _changed(file)

    def have_changed(self) -> bool:
        """Say whether one of the files is another one now; looks at the disk a few times a second at most."""
        now = monotonic()
        if now < self._next:
            return False
        self._next = now + _EVERY
        return any(_changed(file) != before for file, before in self._times.items())


def _changed(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0
