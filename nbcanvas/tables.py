"""What is known of a run as columns: one pandas DataFrame, a row a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nbcanvas.events.known import NAMES
from nbcanvas.events.state import State
from nbcanvas.plan import Call

if TYPE_CHECKING:
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
        With the columns `COLUMNS`, then one for each stamp; a stamp of such a name gets the prefix ``stamp_``.
        Times are UTC, durations are timedeltas, names, states, workers and queues are categories.  A frame without
        rows has the same types.
    """
    import numpy as np
    import pandas as pd

    if stamps not in ("columns", "explode"):
        msg = f"stamps is 'columns' or 'explode', not {stamps!r}"
        raise ValueError(msg)
    rows = _rows(state)
    at = np.fromiter(rows, dtype=np.int64, count=len(rows))
    places = state.calls
    calls = [places[row].call for row in rows]
    told = [describe(call) for call in calls]
    codes = np.frombuffer(state.columns.code, dtype=np.uint8)[at].astype(np.int64)
    success = NAMES.index("SUCCESS")

    def column(values: Sequence[Any]) -> pd.Series:
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return pd.Series(found, dtype=object)

    def category(values: Sequence[str | None]) -> pd.Categorical:
        return pd.Categorical(column(values), categories=pd.Index(sorted({v for v in values if v}), dtype=object))

    def integers(values: Sequence[int | None]) -> pd.Series:
        return pd.Series(pd.array([pd.NA if v is None else v for v in values], dtype="Int64"))

    def moments(seconds: Any) -> pd.Series:
        # Whole microseconds: a double holds no more of the time since 1970.
        micros = np.frombuffer(seconds, dtype=np.float64)[at] * 1e6
        unknown = np.isnan(micros)
        nanos = np.where(unknown, 0, micros).round().astype(np.int64) * 1000
        found = nanos.view("datetime64[ns]").copy()
        found[unknown | (not clocks)] = np.datetime64("NaT")
        return pd.Series(pd.DatetimeIndex(found).tz_localize("UTC"))

    sent, started, finished = (moments(c) for c in (state.columns.sent, state.columns.started, state.columns.finished))
    none = pd.Timedelta(0)
    workers = np.frombuffer(state.columns.worker, dtype=np.uint32)[at].astype(np.int64) - 1
    worker_names = state.worker_names[1:] if clocks else ()
    data: dict[str, Any] = {
        "task_id": column([call.id for call in calls]),
        "name": category([call.task for call in calls]),
        "path": column([places[row].path for row in rows]),
        "args": column([one[0] for one in told]),
        "kwargs": column([one[1] for one in told]),
        "state": pd.Categorical.from_codes(codes - 1, categories=pd.Index(NAMES[1:], dtype=object)),
        "result": column(
            [value_of(call) if code == success else None for call, code in zip(calls, codes.tolist(), strict=True)]
        ),
        "error": column([state.error(row) for row in rows]),
        "traceback": column([state.traceback(row) for row in rows]),
        "worker": pd.Categorical.from_codes(
            workers if clocks else np.full_like(workers, -1), categories=pd.Index(worker_names, dtype=object)
        ),
        "queue": category([one[2] for one in told]),
        "retries": integers([state.retries(row) for row in rows]),
        "sent": sent,
        "received": pd.Series(pd.DatetimeIndex(np.full(len(rows), "NaT", dtype="datetime64[ns]")).tz_localize("UTC")),
        "started": started,
        "finished": finished,
        "wait": (started - sent).clip(lower=none),
        "runtime": (finished - started).clip(lower=none),
        "parent_id": column([one[3] if clocks else None for one in told]),
        "root_id": column([root_id or (calls[0].id if calls else None)] * len(rows)),
        "group_id": column([call.group_id for call in calls]),
        "index": integers([call.index for call in calls]),
        "depth": integers([places[row].depth for row in rows]),
        "version": column([call.version for call in calls]),
    }
    names = _stamp_columns(calls)
    for stamp, name in names.items():
        data[name] = column([_listed(call.stamps.get(stamp)) if call.stamps else None for call in calls])
    made = pd.DataFrame(data, columns=[*COLUMNS, *names.values()])
    if stamps == "explode":
        for name in names.values():
            made = made.explode(name, ignore_index=True)
            made[name] = column(
                [None if empty else value for value, empty in zip(made[name], made[name].isna(), strict=True)]
            )
    return made


def _rows(state: State) -> Sequence[int]:
    """Return the rows to show, in canvas order."""
    if not state.tree.parts:
        return state.order
    return [row for row in state.order if state.awake(row)]


def _stamp_columns(calls: Sequence[Call]) -> dict[str, str]:
    """Return the name of the column of each stamp, in the order in which they first appear."""
    found: dict[str, str] = {}
    for call in calls:
        for stamp in call.stamps or ():
            if stamp not in found:
                name = str(stamp)
                while name in COLUMNS or name in found.values():
                    name = f"stamp_{name}"
                found[stamp] = name
    return found


def _listed(value: Any) -> Any:
    """Return the values of a stamp that has several as a list; sets in an order that stays."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return list(value) if isinstance(value, tuple) else value
