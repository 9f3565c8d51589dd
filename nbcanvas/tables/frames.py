"""Several runs in one table."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from nbcanvas.events.state import State
from nbcanvas.plan import Fan

from .cells import objects
from .frame import COLUMNS, frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Framed", "framed", "frames"]


class Framed(Protocol):
    """A run, alive or recorded."""

    @property
    def id(self) -> str:
        """Its root id."""

    @property
    def name(self) -> str | None:
        """What it was bound to."""

    def frame(self, stamps: str = "columns", clocks: bool | None = None) -> pd.DataFrame:
        """Return one row a task."""


def frames(
    runs: Framed | Iterable[Framed] | Mapping[Any, Framed], stamps: str = "columns", clocks: bool | None = None
) -> pd.DataFrame:
    """Return the tasks of several runs in one DataFrame, a row each, keyed by run.

    Parameters
    ----------
    runs
        Runs or recordings, in any iterable; of a mapping the keys are what the runs are called in the table.
    stamps, clocks
        As for `Run.frame`.

    Returns
    -------
    pandas.DataFrame
        The columns and types of `Run.frame`, below an index of two levels as ``pandas.concat(keys=…)`` makes: ``run``,
        and the row in that run's own frame.  A run is called by its name, else by the beginning of its id; the second
        one of a name is ``name (2)``.  Categories are those of all runs.  Where a run does not know a stamp of
        another one, there is None.

    Examples
    --------
    >>> both = nbcanvas.frame([before, after])  # doctest: +SKIP
    >>> both.loc["after"]                       # doctest: +SKIP
    >>> both.groupby(["run", "name"], observed=True)["runtime"].mean()  # doctest: +SKIP
    """
    import pandas as pd

    labelled = _labelled(runs)
    found = [run.frame(stamps=stamps, clocks=clocks) for _, run in labelled]
    keys = [label for label, _ in labelled]
    if not found:
        found, keys = [_empty()], [""]
    columns = list(dict.fromkeys(column for one in found for column in (*COLUMNS, *one.columns)))
    categories = {
        column: _categories([one[column] for one in found])
        for column in COLUMNS
        if isinstance(found[0][column].dtype, pd.CategoricalDtype)
    }
    alike = [
        one.assign(
            **{column: one[column].cat.set_categories(known) for column, known in categories.items()},
            **{column: objects([None] * len(one)) for column in columns if column not in one.columns},
        )[columns]
        for one in found
    ]
    return pd.concat(alike, keys=keys, names=["run", None])


def _empty() -> pd.DataFrame:
    """Return the frame of a run without tasks."""
    return frame(State.of(Fan("", ()), 0.0), value_of=lambda _: None, describe=lambda _: ((), {}, None, None))


def _categories(columns: list[pd.Series]) -> pd.Index:
    """Return the categories of all; states keep their order, and so does what was in order."""
    import pandas as pd

    known = [column.cat.categories for column in columns]
    found: Any = list(dict.fromkeys(one for categories in known for one in categories))
    if all(list(categories) == sorted(categories) for categories in known):
        found.sort()
    return pd.Index(found, dtype=object)


def _labelled(runs: Any) -> list[tuple[Hashable, Framed]]:
    """Return each run with what it is called, no two alike."""
    if isinstance(runs, Mapping):
        return [(label, framed(run, f"under {label!r}")) for label, run in runs.items()]
    if hasattr(runs, "frame"):
        runs = (runs,)
    elif isinstance(runs, str) or not isinstance(runs, Iterable):
        msg = f"runs are wanted, as [run1, run2] or {{label: run}}, and not {type(runs).__name__} {runs!r:.80}"
        raise TypeError(msg)
    found: dict[str, Framed] = {}
    for place, run in enumerate(runs):
        name = framed(run, f"in place {place}").name or run.id[:8]
        label, count = name, 1
        while label in found:
            count += 1
            label = f"{name} ({count})"
        found[label] = run
    return list(found.items())


def framed(run: Any, where: str = "here") -> Framed:
    """Return `run`, if it is one.

    Raises
    ------
    TypeError
        When it is not; `where` says which of several.
    """
    if isinstance(run, type) or not all(hasattr(run, part) for part in ("id", "name", "frame")):
        msg = f"a run or a recording is wanted, and {where} there is {type(run).__name__} {run!r:.80}"
        raise TypeError(msg)
    checked: Framed = run
    return checked
