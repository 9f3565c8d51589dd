"""What can be shown of a run, be it alive, attached to or recorded: all of it follows from its State."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcanvas.events.state import State
from nbcanvas.plan import Call, Node
from nbcanvas.tables import Description

from .audience import tells_clocks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Description", "Views"]


class Views:
    """What a run shows: pictures, tables, failures, reasons.

    Attributes
    ----------
    id
        The run's id: the root id of its tasks.
    name
        What it was bound to, or None.
    canvas
        How it reads, shortened.
    root
        The frozen canvas.
    started, finished
        When, in seconds since the epoch; None while it goes on.
    """

    id: str
    name: str | None
    canvas: str
    root: Node
    started: float
    finished: float | None

    def snapshot(self) -> State:
        """Return what every call is doing, as one immutable value."""
        raise NotImplementedError

    def value_of(self, call: Call) -> Any:
        """Return the value of a call that succeeded; None when it is not kept."""
        raise NotImplementedError

    def describe(self, call: Call) -> Description:
        """Return a call's own arguments, its queue, and the id of what started it."""
        raise NotImplementedError

    # -- tables -----------------------------------------------------------------------------------------------------

    def frame(self, stamps: str = "columns", clocks: bool | None = None) -> pd.DataFrame:
        """Return one row a task, in canvas order, also while it runs.

        Parameters
        ----------
        stamps
            ``"columns"`` for a column a stamp, ``"explode"`` for a row a value of list-valued stamps.
        clocks
            Whether to say when, by which worker and after which parent things were done.  By default it does, but
            not in a notebook whose display is static: equal runs give equal frames there.
        """
        from nbcanvas.tables import frame

        return frame(
            self.snapshot(),
            value_of=self.value_of,
            describe=self.describe,
            stamps=stamps,
            clocks=tells_clocks() if clocks is None else clocks,
        )
