"""What is different between two runs of a canvas."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from nbcanvas.errors import ChordError, TaskRevokedError, WorkerLostError
from nbcanvas.states import FAILURE, IGNORED, REJECTED, REVOKED, SUCCESS

from .cells import objects

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = ["CHANGES", "DIFF_COLUMNS", "diff", "same_value"]

#: What can have changed, what matters most first.
CHANGES: Final = (
    "new failure",
    "other error",
    "fixed",
    "result",
    "state",
    "only before",
    "only after",
    "code",
    "slower",
    "faster",
    "moved",
)

DIFF_COLUMNS: Final = (
    "path",
    "name",
    "changes",
    "state_before",
    "state_after",
    "error_before",
    "error_after",
    "same_result",
    "result_before",
    "result_after",
    "runtime_before",
    "runtime_after",
    "ratio",
    "worker_before",
    "worker_after",
    "version_before",
    "version_after",
    "task_id_before",
    "task_id_after",
)

_SIDES: Final = ("state", "error", "result", "runtime", "worker", "version", "task_id")
_BAD: Final = (FAILURE, REVOKED, REJECTED, IGNORED)
#: Errors that name the task they are about by its id, which is another one in each run.
_NAMING: Final = (ChordError, TaskRevokedError, WorkerLostError)
#: An id of a task, or the beginning of one in a text that was cut.
_ID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{0,27}")


def diff(
    before: pd.DataFrame, after: pd.DataFrame, *, slower: float = 1.5, noise: float = 0.01, unchanged: bool = False
) -> pd.DataFrame:
    """Return what is different between two runs: a row for each task that changed, what matters most first.

    Parameters
    ----------
    before, after
        Their frames, as `frame` makes them.  Tasks are matched by path and name; where several have the same, the
        first with the first.
    slower
        From which ratio on a task counts as slower, or (1 / `slower`) as faster.
    noise
        How many seconds a runtime must have changed besides to count.
    unchanged
        Whether tasks in which nothing changed have a row, too.

    Returns
    -------
    pandas.DataFrame
        With the columns `DIFF_COLUMNS`.  ``changes`` is a list of some of `CHANGES`, in that order; ``ratio`` is
        the runtime after by that before; ``same_result`` is missing where either run has no result, or the two can
        not be compared.  A worker is another one when it is not merely another of its slots.
        ``frame.attrs["summary"]`` says it in a few lines.
    """
    import numpy as np

    if isinstance(slower, bool) or not isinstance(slower, int | float) or not slower > 1:
        msg = f"slower is the ratio of runtimes from which on a task counts as slower, above 1, and not {slower!r:.80}"
        raise ValueError(msg)
    both = _matched(before, after)
    there = {side: both[f"state_{side}"].notna().to_numpy() for side in ("before", "after")}
    matched = there["before"] & there["after"]
    same, differs = _compared(both["result_before"], both["result_after"], both, matched)
    bad = {side: both[f"state_{side}"].isin(_BAD).to_numpy() for side in ("before", "after")}
    good = both["state_after"].eq(SUCCESS).to_numpy()
    other_state = matched & both["state_before"].ne(both["state_after"]).to_numpy()
    seconds = {side: both[f"runtime_{side}"].dt.total_seconds().to_numpy(dtype=float) for side in ("before", "after")}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = seconds["after"] / seconds["before"]
        moved_by = np.abs(seconds["after"] - seconds["before"])
    timed = matched & both["state_before"].eq(SUCCESS).to_numpy() & good & (moved_by >= noise)
    found: dict[str, npt.NDArray[np.bool_]] = {
        "new failure": matched & bad["after"] & ~bad["before"],
        "other error": matched & bad["after"] & bad["before"] & _other(both, "error", _error_text),
        "fixed": matched & bad["before"] & good,
        "result": matched & differs,
        "only before": ~there["after"],
        "only after": ~there["before"],
        "code": matched & _other(both, "version", str),
        "slower": timed & (ratio >= slower),
        "faster": timed & (ratio <= 1 / slower),
        "moved": matched & _other(both, "worker", _host),
    }
    found["state"] = other_state & ~found["new failure"] & ~found["fixed"]
    return _made(both, found, same, ratio, unchanged=unchanged)


def _matched(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return both side by side, in the order of `before`; what only `after` has comes last."""
    import pandas as pd

    sides = []
    for frame in (before, after):
        keys = pd.DataFrame({"path": frame["path"].astype(object), "name": frame["name"].astype(object)})
        keys["nth"] = keys.groupby(["path", "name"], sort=False).cumcount().to_numpy()
        for column in _SIDES:
            plain = column == "runtime"
            keys[column] = (frame[column] if plain else frame[column].astype(object)).to_numpy()
        keys["order"] = range(len(keys))
        sides.append(keys)
    old, new = sides
    both = old.merge(new, on=["path", "name", "nth"], how="outer", suffixes=("_before", "_after"))
    return both.sort_values(["order_before", "order_after"], ignore_index=True)


def _compared(
    old: pd.Series, new: pd.Series, both: pd.DataFrame, matched: npt.NDArray[np.bool_]
) -> tuple[pd.Series, npt.NDArray[np.bool_]]:
    """Say of each pair of results whether they are the same, or that nobody knows; and where they surely are not."""
    import numpy as np
    import pandas as pd

    ended = matched & both["state_before"].eq(SUCCESS).to_numpy() & both["state_after"].eq(SUCCESS).to_numpy()
    told = [
        same_value(a, b) if both_ended else None
        for a, b, both_ended in zip(old.tolist(), new.tolist(), ended.tolist(), strict=True)
    ]
    same = pd.Series(pd.array([pd.NA if one is None else one for one in told], dtype="boolean"))
    return same, np.array([one is False for one in told], dtype=bool)


def _other(both: pd.DataFrame, column: str, text: Callable[[Any], str]) -> npt.NDArray[np.bool_]:
    """Say where a column is known on both sides, and another."""
    import numpy as np

    known: dict[str, str] = {}

    def read(value: Any) -> str:
        if not isinstance(value, str):
            return "" if value is None or isinstance(value, float) else text(value)  # NaN: not known
        found = known.get(value)
        if found is None:
            found = known[value] = text(value)
        return found

    pairs = zip(both[f"{column}_before"].tolist(), both[f"{column}_after"].tolist(), strict=True)
    return np.array([bool((a := read(x)) and (b := read(y)) and a != b) for x, y in pairs], dtype=bool)


def _host(worker: str) -> str:
    return worker.rpartition("/")[0] or worker


def _error_text(error: Any) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an exception whose text cannot be had is compared by its type
        return type(error).__name__
    return _ID.sub("", text) if isinstance(error, _NAMING) else text


def _made(
    both: pd.DataFrame,
    found: Mapping[str, npt.NDArray[np.bool_]],
    same: pd.Series,
    ratio: npt.NDArray[np.float64],
    *,
    unchanged: bool,
) -> pd.DataFrame:
    """Return the table: the changes of each row as a list, the rows by what matters most."""
    import numpy as np
    import pandas as pd

    count = len(both)
    flags = np.array([found[change] for change in CHANGES]).reshape(len(CHANGES), count)
    rank = np.where(flags.any(axis=0), flags.argmax(axis=0), len(CHANGES)) if count else np.zeros(0, dtype=int)
    # Among the slower the slowest first, among the faster the fastest; the rest in canvas order.
    with np.errstate(divide="ignore", invalid="ignore"):
        much = np.nan_to_num(np.abs(np.log(ratio)), nan=0.0, posinf=np.inf)
    much = np.where(np.isin(rank, [CHANGES.index("slower"), CHANGES.index("faster")]), -much, 0.0)
    order = np.lexsort((np.arange(count), much, rank))
    if not unchanged:
        order = order[rank[order] < len(CHANGES)]
    # There are few combinations, and many rows.
    packed = (1 << np.arange(len(CHANGES))) @ flags
    lists = {bits: [CHANGES[i] for i in range(len(CHANGES)) if bits >> i & 1] for bits in set(packed.tolist())}
    made = both.assign(changes=objects([list(lists[bits]) for bits in packed.tolist()]), same_result=same, ratio=ratio)
    made = made.astype({"ratio": "float64"}).take(order).reset_index(drop=True)
    for column in ("state", "error", "result", "worker", "version", "task_id"):
        for side in ("before", "after"):
            name = f"{column}_{side}"
            made[name] = made[name].astype(object).where(made[f"task_id_{side}"].notna(), None)
    made = pd.DataFrame(made[list(DIFF_COLUMNS)])
    made.attrs["summary"] = _summary(both, found, flags)
    return made


def _summary(both: pd.DataFrame, found: Mapping[str, npt.NDArray[np.bool_]], flags: npt.NDArray[np.bool_]) -> str:
    """Say in a few lines what changed."""
    counts = {change: int(found[change].sum()) for change in CHANGES}
    changed = int(flags.any(axis=0).sum()) if len(both) else 0
    if not changed:
        return f"nothing changed in {_tasks(len(both))}"
    lines = [f"{changed} of {_tasks(len(both))} changed"]
    for change, count in counts.items():
        if count:
            rows = both[found[change]]
            first = [path or name for path, name in zip(rows["path"].head(3), rows["name"].head(3), strict=True)]
            lines.append(f"{change}: {count} ({', '.join(first)}{', …' if count > 3 else ''})")
    return "\n".join(lines)


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def same_value(one: Any, two: Any) -> bool | None:
    """Say whether two results are the same value; None when that cannot be known.

    NaN is the same as NaN, arrays and frames are compared by what is in them, and a value that compares by identity
    alone by its pickle.
    """
    if one is two:
        return True
    kind = type(one)
    if kind is type(two) and kind in _PLAIN:
        return bool(one == two) or (kind is float and math.isnan(one) and math.isnan(two))
    try:
        return _same(one, two)
    except Exception:  # noqa: BLE001 - comparing runs the values' own code
        return None


_PLAIN: Final = frozenset({int, float, str, bytes, bool, type(None)})


def _same(one: Any, two: Any) -> bool | None:
    import numpy as np
    import pandas as pd

    if isinstance(one, pd.DataFrame | pd.Series | pd.Index):
        return type(one) is type(two) and bool(one.equals(two))
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return type(one) is type(two) and _same_arrays(one, two)
    if isinstance(one, list | tuple) and type(one) is type(two):
        return len(one) == len(two) and _all(same_value(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict) and type(one) is type(two):
        return one.keys() == two.keys() and _all(same_value(value, two[key]) for key, value in one.items())
    if getattr(type(one), "__eq__", None) is object.__eq__ and type(one) is type(two):
        return True if pickle.dumps(one) == pickle.dumps(two) else None
    return bool(one == two) or (type(one) is type(two) and bool(one != one) and bool(two != two))  # noqa: PLR0124 - NaN


def _same_arrays(one: Any, two: Any) -> bool:
    import numpy as np

    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if one.dtype == object:
        return bool(_all(same_value(a, b) for a, b in zip(one.ravel(), two.ravel(), strict=True)))
    return bool(np.array_equal(one, two, equal_nan=one.dtype.kind in "fcmM"))


def _all(answers: Any) -> bool | None:
    """Say False when one of the answers is, else None when one is not known."""
    known: bool | None = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            known = None
    return known
