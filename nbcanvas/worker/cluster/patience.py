"""How often a server that is away is asked again: until it answers, or a cold stop ends that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import sleep
from typing import TypeVar

from nbcanvas.errors import ServerLost

__all__ = ["Patience"]

log = logging.getLogger("nbcanvas.worker")

_T = TypeVar("_T")

#: Seconds before a server is asked again: at first, at most.
_AGAIN, _AGAIN_MAX = 0.05, 2.0


class Patience:
    """That of one worker.

    Attributes
    ----------
    over
        Whether nothing is asked a second time any more.
    """

    def __init__(self) -> None:
        self.over = False

    def ask(self, question: Callable[[], _T]) -> _T:
        """Return what a server says.

        Raises
        ------
        ServerLost
            When it is away, and the patience is over.
        """
        pause = 0.0
        while True:
            try:
                return question()
            except ServerLost as error:
                if self.over:
                    raise
                if not pause:
                    log.warning("%s; trying again until it is back", error)
                pause = min(pause * 2 or _AGAIN, _AGAIN_MAX)
                sleep(pause)

    def insist(self, call: Callable[[], _T]) -> _T | None:
        """Return what a server says; None, and a line in the log, when the patience is over first."""
        try:
            return self.ask(call)
        except ServerLost as error:
            log.error("%s", error)  # noqa: TRY400 - one line
            return None
