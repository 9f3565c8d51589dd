"""Stamps as columns: what they are called, what stands in them, and a row for each value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from nbcanvas.plan import Call

from .cells import objects

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["exploded", "stamp_columns"]

_PREFIX: Final = "stamp_"
#: A longer name of a column would make a table nobody can read.
_LONGEST: Final = 200


def stamp_columns(calls: Sequence[Call], taken: Collection[str]) -> dict[str, pd.Series]:
    """Return a column for each stamp, in the order in which they first appear.

    A stamp that is called like another column gets the prefix ``stamp_``, and so does one that is called like that
    one then: whatever else is stamped, a stamp's column has the same name.  Lists stay lists, and tuples and sets
    become lists; any other value stands there as it is, and None where a task has no such stamp.

    Parameters
    ----------
    calls
        A row each.
    taken
        The names of the other columns.
    """
    names: dict[Any, str] = {}
    used: set[str] = set()
    for call in calls:
        for stamp in call.stamps or ():
            if stamp not in names:
                name = _column_name(stamp, taken)
                while name in used:  # 1 and "1", or alike in all that is shown of them
                    name = _PREFIX + name
                names[stamp] = name
                used.add(name)
    nothing: Mapping[str, Any] = {}
    each = [call.stamps or nothing for call in calls] if names else []
    return {name: objects([_listed(stamps.get(stamp)) for stamps in each]) for stamp, name in names.items()}


def _column_name(stamp: Any, taken: Collection[str]) -> str:
    name = str(stamp)
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 1]}…"
    bare = name
    while bare.startswith(_PREFIX):
        bare = bare.removeprefix(_PREFIX)
    return _PREFIX + name if bare in taken else name


def _listed(value: Any) -> Any:
    """Return the values of a stamp that has several as a list; sets in an order that stays."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return list(value) if isinstance(value, tuple) else value


def exploded(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return a row for each value of the lists in `columns`; where there are several, for each combination.

    An empty list is one row with None.  As `pandas.DataFrame.explode`, but for lists alone: an array is one value.
    """
    import numpy as np

    for column in columns:
        cells = frame[column].tolist()
        if not any(isinstance(cell, list) for cell in cells):
            continue
        lists = [(cell or [None]) if isinstance(cell, list) else [cell] for cell in cells]
        counts = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        frame = frame.take(np.repeat(np.arange(len(lists)), counts)).reset_index(drop=True)
        frame[column] = objects(list(chain.from_iterable(lists)))
    return frame
