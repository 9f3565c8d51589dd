"""What a run produced, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from nbcanvas.canvas.trampoline import Walk, drive
from nbcanvas.events.state import State
from nbcanvas.events.tree import MAPS
from nbcanvas.plan import Call, Chain, Node
from nbcanvas.states import SUCCESS

from .cells import objects

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VALUE", "producers", "values"]

#: The column of a value that has no names of its own.
VALUE: Final = "value"


def values(state: State, *, value_of: Callable[[Call], Any]) -> pd.DataFrame:
    """Return the values a run has produced as one DataFrame; what failed, or has not ended, is left out.

    Which values
        Those that the run's own value is made of: of a group those of all members; of a chain those of the last step
        that has any.  A chord's is that of its body; as long as there is none, because the header goes on or some of
        it failed, those of the header.
    How they become rows
        ========================= ============================================================================
        DataFrame                 its rows
        Series                    one row, its labels are the columns (with labels that repeat: its items)
        mapping                   one row, its keys are the columns
        dataclass or named tuple  one row, its fields are the columns
        anything else             one row, the value as it is in the column ``value``: numbers, texts, None, lists,
                                  arrays
        of a map or a chunk       a row for each of its items, by the same rules
        ========================= ============================================================================
    The index
        ``path``, where the task stands (``group[3]``, ``chord.header[17]``); when any value is several rows, below it
        the levels of a DataFrame's index, the place of an item, and 0 for what gave one row.

    Parameters
    ----------
    state
        What is known of the run.
    value_of
        Gives a call's result.
    """
    import pandas as pd

    places = [state.calls[row] for row in producers(state)]
    paths = [place.path for place in places]
    read = [_items(value_of(p.call)) if p.call.task in MAPS else _read(value_of(p.call)) for p in places]
    if not any(isinstance(one, pd.DataFrame) for one in read):
        return _rows(read, pd.Index(objects(paths), name="path", dtype=object))
    return _stacked(paths, read)


def producers(state: State) -> list[int]:
    """Return the rows of the tasks that a run's own value is made of, in canvas order; those that succeeded alone."""
    found: list[int] = drive(_producers(state.root, state))
    return found


def _producers(node: Node, state: State) -> Walk:
    if isinstance(node, Call):
        row = state.index_of(node.id)
        return [row] if state.state(row) == SUCCESS else []
    if isinstance(node, Chain):
        for step in reversed(node.steps):
            found = yield _producers(step, state)
            if found:
                return found
        return []
    rows: list[int] = []
    for member in node.members:
        rows += yield _producers(member, state)
    return rows


def _items(value: Any) -> Any:
    """Return a row for each item that a map, or a chunk, went over; of items that are tables, one row."""
    import pandas as pd

    read = [_read(item) for item in value] if isinstance(value, list) else [pd.DataFrame()]
    if any(isinstance(one, pd.DataFrame) for one in read):
        return {VALUE: value}
    return _rows(read, pd.RangeIndex(len(read)))


def _read(value: Any) -> Any:
    """Return a DataFrame for what is several rows, a mapping of columns for what is one."""
    import pandas as pd

    if isinstance(value, pd.DataFrame | Mapping):
        return value
    if isinstance(value, pd.Series):
        if value.index.has_duplicates:
            return value.to_frame(VALUE if value.name is None else value.name)
        return dict(zip(value.index, value, strict=True))
    names: Any = ()
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
    elif isinstance(value, tuple):
        names = getattr(value, "_fields", ())
    return {name: getattr(value, name) for name in names} if names else {VALUE: value}


def _rows(read: Sequence[Mapping[Any, Any]], index: pd.Index) -> pd.DataFrame:
    """Return a row for each dict; a column's type is what its values have in common."""
    import pandas as pd

    columns: dict[Any, None] = {}
    for one in read:
        columns.update(dict.fromkeys(one))
    if not columns:
        columns = {VALUE: None} if not read else {}
    missing = float("nan")
    data = [_typed([one.get(column, missing) for one in read], index) for column in columns]
    # By place, for two columns may have the same name to pandas: 1 and True.
    made = pd.DataFrame(dict(enumerate(data)), index=index)
    made.columns = pd.Index(list(columns), tupleize_cols=False)
    return made


def _typed(cells: list[Any], index: pd.Index) -> pd.Series:
    """Return a column of the type its cells have in common; objects when they are not scalars."""
    import pandas as pd

    found = objects(cells).set_axis(index)
    return found.infer_objects() if all(map(pd.api.types.is_scalar, cells)) else found


def _stacked(paths: Sequence[str], read: Sequence[Any]) -> pd.DataFrame:
    """Return the rows of DataFrames and of everything else, each below its path."""
    import pandas as pd

    tables = [one for one in read if isinstance(one, pd.DataFrame)]
    levels = {table.index.nlevels for table in tables}
    names = list(tables[0].index.names)
    if len(levels) > 1 or (len(tables) < len(read) and names != [None]) or any(t.index.names != names for t in tables):
        names = [None]
    parts = []
    for one in read:
        table = one if isinstance(one, pd.DataFrame) else _rows([one], pd.RangeIndex(1))
        if len(names) == 1 and table.index.nlevels > 1:
            table = table.set_axis(table.index.to_flat_index())
        parts.append(table.rename_axis(index=names))
    return pd.concat(parts, keys=paths, names=["path", *names])
