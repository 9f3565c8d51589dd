"""What is known of a run as columns: one pandas DataFrame, a row a task."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nbcanvas.events.known import NAMES
from nbcanvas.events.state import State
from nbcanvas.garbage import collecting_less
from nbcanvas.plan import Call

from .cells import category, integers, moments, objects
from .stamps import exploded, stamp_columns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = ["COLUMNS", "Description", "frame"]

#: The columns, in this order; stamps come behind them.
COLUMNS: Final = (
    "task_id",
    "name",
    "path",
    "args",
    "kwargs",
    "state",
    "result",
    "error",
    "traceback",
    "worker",
    "queue",
    "retries",
    "sent",
    "received",
    "started",
    "finished",
    "wait",
    "runtime",
    "parent_id",
    "root_id",
    "group_id",
    "index",
    "depth",
    "version",
)

#: No stamp's column is called so: ``run`` is the level of the index that tells several runs apart (see `frames`).
_TAKEN: Final = frozenset({*COLUMNS, "run"})
_SUCCESS: Final = NAMES.index("SUCCESS")


class Description(NamedTuple):
    """What only the run can tell of a call; any tuple of these four will do."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str | None
    parent_id: str | None


def frame(
    state: State,
    *,
    value_of: Callable[[Call], Any],
    describe: Callable[[Call], tuple[Sequence[Any], Mapping[str, Any], str | None, str | None]],
    stamps: str = "columns",
    root_id: str | None = None,
    clocks: bool = True,
) -> pd.DataFrame:
    """Return what is known of each task as a row, in canvas order.

    Links and errbacks have a row once they started.

    Parameters
    ----------
    state
        What is known of the run, during it or afterwards.
    value_of
        Gives a call's result; asked only of those that succeeded.
    describe
        Gives a call's arguments, queue and parent id (see `Description`).
    stamps
        ``"columns"``: a column for each stamp, lists stay lists; ``"explode"``: a row for each value of a list.
    root_id
        The run's root id; None for the id of its first task.
    clocks
        Whether to say when, by which worker and after which parent (of a chord's body: whichever member was last)
        things were done; with False equal runs give equal frames.

    Returns
    -------
    pandas.DataFrame
        With the columns `COLUMNS`, then one for each stamp; a stamp of such a name, or called ``run``, gets the prefix
        ``stamp_``.
        Times are UTC, durations are timedeltas, names, states, workers and queues are categories.  A frame without
        rows has the same types.
    """
    import pandas as pd

    if stamps not in ("columns", "explode"):
        msg = f"stamps is 'columns' or 'explode', not {stamps!r}"
        raise ValueError(msg)
    with collecting_less():
        data = _columns(state, value_of, describe, root_id, clocks)
        calls = [state.call(row) for row in _rows(state)]
        stamped = stamp_columns(calls, _TAKEN)
        made = pd.DataFrame({**data, **stamped}, columns=[*COLUMNS, *stamped])
        return exploded(made, stamped) if stamps == "explode" else made


def _rows(state: State) -> Sequence[int]:
    """Return the rows to show, in canvas order."""
    if not state.tree.parts:
        return state.order
    return [row for row in state.order if state.awake(row)]


def _columns(
    state: State,
    value_of: Callable[[Call], Any],
    describe: Callable[[Call], tuple[Sequence[Any], Mapping[str, Any], str | None, str | None]],
    root_id: str | None,
    clocks: bool,
) -> dict[str, Any]:
    import numpy as np
    import pandas as pd

    rows = _rows(state)
    at = np.fromiter(rows, dtype=np.int64, count=len(rows))
    places = [state.calls[row] for row in rows]
    calls = [place.call for place in places]
    told = [describe(call) for call in calls]
    columns = state.columns
    codes = np.frombuffer(columns.code, dtype=np.uint8)[at].astype(np.int64)
    workers = np.frombuffer(columns.worker, dtype=np.uint32)[at].astype(np.int64) - 1
    errors = dict.fromkeys(state.errors())
    retried = dict.fromkeys(state.retried())
    unknown = np.full(len(rows), np.nan)

    def times(seconds: Any) -> npt.NDArray[np.float64]:
        return np.frombuffer(seconds, dtype=np.float64)[at] if clocks else unknown

    tell = (lambda text: text) if clocks else _without_folders
    sent, started, finished = (moments(times(c)) for c in (columns.sent, columns.started, columns.finished))
    none = pd.Timedelta(0)
    return {
        "task_id": objects([call.id for call in calls]),
        "name": category([call.task for call in calls]),
        "path": objects([place.path for place in places]),
        "args": objects([one[0] for one in told]),
        "kwargs": objects([one[1] for one in told]),
        "state": pd.Categorical.from_codes(codes - 1, categories=pd.Index(NAMES[1:], dtype=object)),
        "result": objects(
            [value_of(call) if code == _SUCCESS else None for call, code in zip(calls, codes.tolist(), strict=True)]
        ),
        "error": objects([state.error(row) if row in errors else None for row in rows]),
        "traceback": objects([tell(state.traceback(row)) if row in errors else None for row in rows]),
        "worker": pd.Categorical.from_codes(
            workers if clocks else np.full_like(workers, -1),
            categories=pd.Index(state.worker_names[1:] if clocks else (), dtype=object),
        ),
        "queue": category([one[2] for one in told]),
        "retries": integers([state.retries(row) if row in retried else 0 for row in rows]),
        "sent": sent,
        # What has no time of its own was received when it was started, and nothing is received later.
        "received": moments(np.fmin(times(columns.received), times(columns.started))),
        "started": started,
        "finished": finished,
        "wait": (started - sent).clip(lower=none),
        "runtime": (finished - started).clip(lower=none),
        "parent_id": objects([one[3] if clocks else None for one in told]),
        "root_id": objects([root_id or (calls[0].id if calls else None)] * len(rows)),
        "group_id": objects([call.group_id for call in calls]),
        "index": integers([call.index for call in calls]),
        "depth": integers([place.depth for place in places]),
        "version": objects([call.version for call in calls]),
    }


#: The folder of a file that a traceback names.
_FOLDER: Final = re.compile(r'(?<=  File ")[^"]*[/\\](?=[^"/\\]+")')


def _without_folders(traceback: str | None) -> str | None:
    """Return a traceback that is the same on every machine: a cell's file stands in a folder of its process."""
    return None if traceback is None else _FOLDER.sub("", traceback)
