"""Workers that start at once: forked from a process that has everything imported. For tests that kill many."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from contextlib import suppress
from typing import Any, Final

__all__ = ["Pawn"]

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.cluster.pawns_world"])


class Pawn:
    """A worker of ours, as ``nbcanvas worker`` runs it.

    Parameters
    ----------
    fleet
        What `from_environment` takes: broker, backend, module of tasks, settings.
    name
        Its node name.
    arguments
        Further ones of the command.
    """

    def __init__(self, fleet: list[Any], name: str, *arguments: str) -> None:
        self._process = _CONTEXT.Process(target=_work, args=(json.dumps(fleet), name, arguments), daemon=True)
        self._process.start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Let it die at once."""
        if self._process.pid is not None and self.alive:  # else its number may be somebody else's by now
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(60)


def _work(fleet: str, name: str, arguments: tuple[str, ...]) -> None:
    from nbcanvas.cli.main import main

    os.environ["FLEET"] = fleet
    main(["worker", "-A", "tests.cluster.nbcanvas_app", "-n", name, *arguments], prog_name="nbcanvas")
