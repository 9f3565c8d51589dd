"""The results as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from .cases import SCALINGS, SHARES, Figure, Scaling
from .contest import Entry, Row

__all__ = ["markdown"]

_HEADING = ("work", "contender", "median", "min", "max", "unit", "nbcanvas is", "target")
#: Seconds that a figure's unit is.
_SECONDS = {"s": 1.0, "ms": 1e-3}


def markdown(rows: Sequence[Row], *, repeats: int, load: tuple[float, float], servers: Sequence[str] = ()) -> str:
    """Return the report.

    Parameters
    ----------
    rows
        What was measured.
    repeats
        Processes a contender.
    load
        Load average of the machine before and after.
    servers
        What else took part, and its settings.
    """
    lines = [
        *_table(_lines(rows)),
        "",
        *_scalings(rows),
        *_shares(rows),
        *_contenders(rows),
        *(f"- {each}" for each in servers),
        *_conditions(repeats, load),
    ]
    return "\n".join(lines) + "\n"


def _table(cells: Iterator[tuple[str, ...]]) -> Iterator[str]:
    body = [_HEADING, *cells]
    widths = [max(len(line[column]) for line in body) for column in range(len(_HEADING))]
    for place, line in enumerate(body):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        if not place:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _lines(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        ours = next((entry for entry in row.entries if entry.contender == row.case.ours), None)
        for figure in row.case.figures:
            title = row.case.label if len(row.case.figures) == 1 else f"{row.case.label}: {figure.name}"
            for entry in row.entries:
                if entry.failure is not None and not entry.figures:
                    yield title, entry.contender, "–", "–", "–", entry.failure.replace("|", "/"), "", ""
                elif figure.name in entry.figures:
                    yield title, entry.contender, *_cells(figure, entry, ours)


def _cells(figure: Figure, entry: Entry, ours: Entry | None) -> tuple[str, ...]:
    values = entry.figures[figure.name]
    median, own = entry.median(figure.name), ours.median(figure.name) if ours else None
    assert median is not None
    ratio = target = ""
    if entry is ours:
        met = figure.meets(median)
        if figure.target is not None:
            target = f"{'≥' if figure.more_is_better else '≤'} {_number(figure.target)}: {'met' if met else 'MISSED'}"
    elif own:
        ratio = _times(figure.advantage(own, median))
    unit = figure.unit if entry.failure is None else f"{figure.unit}; then {entry.failure}"
    return _number(median), _number(min(values)), _number(max(values)), unit, ratio, target


def _times(advantage: float) -> str:
    return f"{_number(advantage)} × better" if advantage >= 1 else f"{_number(1 / advantage)} × worse"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def _scalings(rows: Sequence[Row]) -> Iterator[str]:
    for scaling in SCALINGS:
        costs = list(_costs(rows, scaling))
        if len(costs) > 1:
            spread = max(costs) / min(costs)
            yield (
                f"- {scaling.title}: worst / best = {spread:.2f}, target ≤ {scaling.within}: "
                f"{'met' if spread <= scaling.within else 'MISSED'}"
            )


def _costs(rows: Sequence[Row], scaling: Scaling) -> Iterator[float]:
    for row in rows:
        median = row.entries[0].median(scaling.figure)
        if row.case.name == scaling.case and median is not None:
            yield median / row.case.size if scaling.per_task else median


def _shares(rows: Sequence[Row]) -> Iterator[str]:
    for share in SHARES:
        for row in rows:
            other = next(
                (each for each in rows if each.case.name == share.other and each.case.size == row.case.size), None
            )
            if row.case.name == share.case and other is not None:
                for entry in row.entries:
                    theirs = next((each for each in other.entries if each.contender == entry.contender), None)
                    mine, its = _task_cost(row, entry), _task_cost(other, theirs)
                    if mine and its:
                        told = f"- {share.title}: {entry.contender} {mine / its:.2f} ×"
                        if entry.contender == row.case.ours:
                            told += f", target ≤ {share.within}: {'met' if mine / its <= share.within else 'MISSED'}"
                        yield told


def _task_cost(row: Row, entry: Entry | None) -> float | None:
    """Return the seconds of a task, from a time or a rate."""
    figure = row.case.figures[0]
    value = entry.median(figure.name) if entry is not None else None
    if not value:
        return None
    return 1 / value if figure.more_is_better else value * _SECONDS[figure.unit] / row.case.size


def _contenders(rows: Sequence[Row]) -> Iterator[str]:
    seen = {(entry.contender, entry.settings): entry for row in rows for entry in row.entries if entry.version}
    for (name, settings), entry in seen.items():
        yield f"- {name} {entry.version}: {settings}"


def _conditions(repeats: int, load: tuple[float, float]) -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = " (busy with other things: absolute figures are too low)" if load[0] > 1 else ""
    yield (
        f"- {platform.python_implementation()} {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {cores} cores; load average {load[0]:.1f} before{busy}, {load[1]:.1f} after; "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )
    yield (
        f"- median, min and max of {repeats} process{'es' * (repeats > 1)} a contender, taking turns; "
        "each process warms up, then repeats what is short and counts the median"
    )
