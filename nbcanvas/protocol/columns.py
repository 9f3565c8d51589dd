"""Columns of a table as JSON, in few characters: a hundred thousand equal values are written once.

A column of known length is written in one of three forms:

``[...]``
    the values themselves;
``{"all": value}``
    when they are all the same;
``{"of": [...], "at": [...]}``
    when few of them differ: the different ones, and for each row the place of its value among them; a place that
    comes several times in a row is written as ``[place, times]``.

Whole numbers that go up by one are written as runs, see `write_runs`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from .plain import Malformed

__all__ = ["read_column", "read_runs", "write_column", "write_runs"]


def write_column(texts: Sequence[str]) -> str:
    """Return a column as JSON; `texts` are its values as JSON."""
    distinct = dict.fromkeys(texts)
    if len(distinct) == 1 and len(texts) > 1:
        return f'{{"all":{texts[0]}}}'
    if len(distinct) * 4 <= len(texts) and len(texts) > 8:
        place = {text: str(at) for at, text in enumerate(distinct)}
        at = ",".join(_repeated([place[text] for text in texts]))
        return f'{{"of":[{",".join(distinct)}],"at":[{at}]}}'
    return f"[{','.join(texts)}]"


def _repeated(places: Sequence[str]) -> Iterator[str]:
    for place, same in itertools.groupby(places):
        times = sum(1 for _ in same)
        yield f"[{place},{times}]" if times > 2 else ",".join([place] * times)


def read_column(column: Any, count: int, what: str) -> Sequence[Any]:
    """Return the values of a column.

    Parameters
    ----------
    column
        What stands in the document.
    count
        How many there must be.
    what
        How to call the column when it is wrong.

    Raises
    ------
    Malformed
        When it has another form, or another length.
    """
    if isinstance(column, list):
        values: list[Any] = column
    elif isinstance(column, dict) and column.keys() == {"all"}:
        values = [column["all"]] * count
    elif isinstance(column, dict) and column.keys() == {"of", "at"}:
        of, at = column["of"], column["at"]
        if not isinstance(of, list) or not isinstance(at, list):
            raise Malformed(f"{what} is no column")
        values = []
        for place, times in _pairs(at, what, 1):
            if not 0 <= place < len(of):
                raise Malformed(f"{what} points at values it does not have")
            if not 0 < times <= count - len(values):
                raise Malformed(f"{what} has more values than {count} rows")
            values += [of[place]] * times
    else:
        raise Malformed(f"{what} is no column")
    if len(values) != count:
        raise Malformed(f"{what} has {len(values)} values for {count} rows")
    return values


def write_runs(numbers: Sequence[int]) -> list[Any]:
    """Return whole numbers with each run of them, ``5, 6, 7, 8``, as ``[5, 8]``."""
    runs: list[Any] = []
    for number in numbers:
        last = runs[-1] if runs else None
        if isinstance(last, list) and number == last[1] + 1:
            last[1] = number
        elif last is not None and not isinstance(last, list) and number == last + 1:
            runs[-1] = [last, number]
        else:
            runs.append(number)
    return runs


def read_runs(runs: Any, below: int, what: str, most: int | None = None) -> list[int]:
    """Return the numbers that `write_runs` wrote.

    Parameters
    ----------
    runs
        What stands in the document.
    below
        The numbers are below this.
    what
        How to call them when they are wrong.
    most
        How many there may be; `below` by default.

    Raises
    ------
    Malformed
        For what is no number from 0 to below `below`, or too many of them.
    """
    found: list[int] = []
    most = below if most is None else most
    if not isinstance(runs, list):
        raise Malformed(f"{what} is no list of numbers")
    for first, last in _pairs(runs, what):
        if not 0 <= first <= last < below:
            raise Malformed(f"{what} points outside the table")
        if len(found) + last - first >= most:
            raise Malformed(f"{what} has more numbers than there can be")
        found.extend(range(first, last + 1))
    return found


def _pairs(numbers: Sequence[Any], what: str, alone: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield pairs of whole numbers; one that stands alone is paired with `alone`, or with itself."""
    for number in numbers:
        pair = number if isinstance(number, list) else [number, number if alone is None else alone]
        if len(pair) != 2 or not all(type(part) is int for part in pair):
            raise Malformed(f"{what} is no list of numbers")
        yield pair[0], pair[1]
