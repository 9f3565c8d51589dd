"""Columns of exact types, of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = ["category", "integers", "moments", "objects"]


def objects(values: Sequence[Any]) -> pd.Series:
    """Return any values, each of them one cell, whatever it is; pandas guesses no types."""
    import numpy as np
    import pandas as pd

    found = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):  # assigned at once, lists of one length would be taken for a table
        found[place] = value
    return pd.Series(found, dtype=object)


def category(values: Sequence[str | None]) -> pd.Categorical:
    """Return few names, many times."""
    import pandas as pd

    return pd.Categorical(
        objects(values), categories=pd.Index(sorted({v for v in values if v is not None}), dtype=object)
    )


def integers(values: Sequence[int | None]) -> pd.Series:
    """Return whole numbers, or nothing."""
    import pandas as pd

    return pd.Series(pd.array([pd.NA if v is None else v for v in values], dtype="Int64"))


def moments(seconds: npt.NDArray[np.float64]) -> pd.Series:
    """Return UTC times, of seconds since the epoch; of NaN, none."""
    import numpy as np
    import pandas as pd

    # Whole microseconds: a double holds no more of the time since 1970.
    micros = seconds * 1e6
    unknown = np.isnan(micros)
    found = (np.where(unknown, 0, micros).round().astype(np.int64) * 1000).view("datetime64[ns]")
    found[unknown] = np.datetime64("NaT")
    return pd.Series(pd.DatetimeIndex(found).tz_localize("UTC"))
