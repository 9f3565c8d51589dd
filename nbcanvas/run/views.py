"""What can be shown of a run, be it alive, attached to or recorded: all of it follows from its State."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, Final, overload

from nbcanvas.events.state import State
from nbcanvas.plan import Call, Node
from nbcanvas.tables import Description, Framed, framed

from .audience import tells_clocks

if TYPE_CHECKING:
    import pandas as pd

    from nbcanvas.app import App
    from nbcanvas.picture.picture import Graph, Picture

    from .failures import Failures
    from .recording import Recording
    from .why import Why

__all__ = ["Description", "Views"]

_RANDOM_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
    app
        The app that runs it, or could; None of what was only recorded.
    """

    id: str
    name: str | None
    canvas: str
    root: Node
    started: float
    finished: float | None
    app: App | None = None

    @property
    def done(self) -> bool:
        """Whether every call of the canvas has ended."""
        raise NotImplementedError

    def snapshot(self) -> State:
        """Return what every call is doing, as one immutable value."""
        raise NotImplementedError

    def value_of(self, call: Call) -> Any:
        """Return the value of a call that succeeded; None when it is not kept."""
        raise NotImplementedError

    def kept_value_of(self, call: Call) -> Any:
        """Return the value of a call that succeeded; ResultExpired when it is not kept any more."""
        return self.value_of(call)

    def describe(self, call: Call) -> Description:
        """Return a call's own arguments, its queue, and the id of what started it."""
        raise NotImplementedError

    @property
    def handle(self) -> str:
        """The expression by which a person reaches it: its variable, else what finds it by its id.

        It is never ``run``: typed alone, that is a magic of IPython.
        """
        if self.name is not None and self.name.isidentifier():
            return self.name
        return self._found_by_id

    @property
    def _found_by_id(self) -> str:
        # Half a random id tells runs apart; one that somebody chose may differ from others in its end only.
        short = self.id[:8] if _RANDOM_ID.fullmatch(self.id) else self.id
        return f"nbcanvas.attach({json.dumps(short, ensure_ascii=False)})"

    @property
    def _now(self) -> float:
        return time() if self.finished is None else self.finished

    @property
    def _clocks(self) -> bool:
        """Whether it says when, and by which worker, things were done, if nobody asks for it."""
        return tells_clocks()

    def gone(self, *, clocks: bool) -> str | None:
        """Return why what has not ended never will, and what to do, in a line; None as long as it goes on.

        Parameters
        ----------
        clocks
            Whether to say when, and which process.
        """
        return None

    def _where(self) -> str:
        """Return when this began, and under which Python it is told."""
        began = datetime.fromtimestamp(self.started, UTC)
        return f"begun {began:%Y-%m-%d %H:%M:%S} UTC · Python {platform.python_version()}"

    # -- pictures ---------------------------------------------------------------------------------------------------

    def bars(self) -> Picture:
        """Return how far each stage is: a bar for each, with what failed, was retried, and waits."""
        from nbcanvas.picture.barred import bars_picture

        return bars_picture(self.snapshot(), self._now, self._clocks, self.gone(clocks=self._clocks))

    def graph(self, color: str | None = None) -> Graph:
        """Return the picture of the canvas and what each task of it is doing; big groups are folded.

        Parameters
        ----------
        color
            The name of a stamp whose values give the colours, in place of the state.

        Raises
        ------
        ValueError
            When no task has the stamp `color`.
        """
        from nbcanvas.picture.graph import graph_picture

        return graph_picture(self.root, self.snapshot(), color, self.describe)

    def timeline(self, clocks: bool | None = None) -> Picture:
        """Return who ran what when: a lane for each worker slot, waiting apart from running, and the critical path.

        A worker of a cluster does not tell its slots apart: it has as many lanes as were busy at once.

        Parameters
        ----------
        clocks
            Whether to say when, and by whom; as for `frame`.
        """
        from nbcanvas.picture.timeline import timeline_picture

        return timeline_picture(self.snapshot(), self._now, durations=self._clocks if clocks is None else clocks)

    def table(self) -> Picture:
        """Return the tasks as a table: of many the failed ones and the first."""
        from nbcanvas.picture.table import table_picture

        return table_picture(self.snapshot(), self.value_of, self.describe, durations=self._clocks)

    @overload
    def to_html(self, path: None = None, color: str | None = None) -> str: ...
    @overload
    def to_html(self, path: str | os.PathLike[str], color: str | None = None) -> None: ...
    def to_html(self, path: str | os.PathLike[str] | None = None, color: str | None = None) -> str | None:
        """Return a report of the run as one html page that needs nothing else, or write it to the file `path`.

        Parameters
        ----------
        path
            The file; None returns the page.
        color
            As for `graph`.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            When `path` cannot be a file.
        """
        from nbcanvas.picture.picture import write
        from nbcanvas.picture.report import report_html

        clocks = self._clocks
        html = report_html(
            self.root,
            self.snapshot(),
            self._now,
            title=self.name or f"Run {self.id[:8]}",
            canvas=self.canvas,
            durations=clocks,
            value_of=self.value_of,
            describe=self.describe,
            environment=self._where() if clocks else "",
            color=color,
        )
        if path is None:
            return html
        write(path, html)
        return None

    # -- reasons ----------------------------------------------------------------------------------------------------

    def why(self, clocks: bool | None = None) -> Why:
        """Return why it is not done, or did not succeed: a reason for each task that has not succeeded.

        It reads as text, and is a sequence of reasons with a ``frame()``.  Of a recording, only what its events say
        is known.

        Parameters
        ----------
        clocks
            Whether to say how long something takes, and the names of workers; as for `frame`.
        """
        from .why import why

        # What is recorded is told as of its last moment; what is alive, though it ended, may have links that go on.
        now = self._now if self.app is None else None
        return why(self, self._clocks if clocks is None else clocks, now=now)

    def arguments_of(self, call: Call) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments a call was given when it last ran, as far as they are known."""
        return self.describe(call)[:2]

    @property
    def failed(self) -> Failures:
        """What failed by itself, in canvas order: each node with its arguments, its traceback, and ``rerun()``.

        What never ran because something before it failed is not listed: later steps, a chord's body (ChordError).
        """
        from .failures import failures_of

        return failures_of(self)

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
            root_id=self.id,
            clocks=self._clocks if clocks is None else clocks,
        )

    def values(self) -> pd.DataFrame:
        """Return the values it has produced as one DataFrame; what failed, or has not ended, is left out.

        A DataFrame gives its rows; a Series, a mapping, a dataclass or a named tuple one row, with its names as
        columns; anything else one row with the value in the column ``value``; a map or a chunk a row for each of its
        items.  The index is the task's path, with the index of DataFrames, or the place of the item, below it.

        The values are those its own value is made of: of a group those of all members, of a chain those of the last
        step that has any; so of a chord that of its body, and as long as there is none, those of the header.

        Raises
        ------
        ResultExpired
            When one of them was forgotten, or has expired.
        """
        from nbcanvas.tables import values

        return values(self.snapshot(), value_of=self.kept_value_of)

    def diff(
        self, other: Framed, *, slower: float = 1.5, unchanged: bool = False, clocks: bool | None = None
    ) -> pd.DataFrame:
        """Return what is different in `other`, a later run: a row for each task that changed, what matters most first.

        Parameters
        ----------
        other
            A run or a recording, as a rule of the same canvas.
        slower
            From which ratio of runtimes on a task counts as slower, or the other way round as faster.
        unchanged
            Whether tasks in which nothing changed have a row, too.
        clocks
            As for `frame`; without them nothing is slower, and no worker another one.

        Returns
        -------
        pandas.DataFrame
            Tasks are matched by path and name.  ``changes`` lists what changed: new failure, other error, fixed,
            result, state, only before, only after, code, slower, faster, moved.  The attribute
            ``attrs["summary"]`` says it in a few lines.
        """
        from nbcanvas.tables import diff

        before, after = self.frame(clocks=clocks), framed(other).frame(clocks=clocks)
        return diff(before, after, slower=slower, unchanged=unchanged)

    # -- a file -----------------------------------------------------------------------------------------------------

    def record(self, path: str | os.PathLike[str] | None = None, limit: int = 10_000_000) -> Recording:
        """Write down all that is known of it: the plan, the events and the results, as JSON (docs/recording.md).

        Parameters
        ----------
        path
            The file; None writes none.
        limit
            Characters the file should have at most: results are left out first, then arguments, then tracebacks, of
            each the largest first.  The canvas itself and its events are written in any case.

        Returns
        -------
        Recording
            What `Recording.read` will make of the file.

        Raises
        ------
        RecordingError
            When the file cannot be written.
        """
        from .recording import record

        return record(self, path, limit)
