"""Random canvases for clusters, many at once: drawn as recipes, cooked to the JSON of a signature with pinned ids."""

from __future__ import annotations

import functools
import json
import os
import random
import unittest
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.plan.recipes import build, canvases, depth_of
from tests.plan.reference import Group, Meaning, steps_of, tag_of, tasks_of
from tests.plan.replacements import IN_PLACE

__all__ = ["Drawn", "anything", "batch", "chosen", "comparable", "cook", "plain_enough", "wired"]

ENDS = st.sampled_from([("ok",)] * 8 + [("fail",), ("retry", 1, "ok"), ("retry", 2, "ok"), ("retry", 1, "fail")])
QUIET = settings(
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
MOST = 60


class Drawn(NamedTuple):
    """One canvas.

    Attributes
    ----------
    recipe
        How it was drawn; `cook` makes the rest from it.
    run
        Its name.
    canvas
        Celery's dictionary, plain JSON.
    stamps
        What it is stamped with.
    """

    recipe: Any
    run: str
    canvas: Any
    stamps: dict[str, Any]

    @property
    def meaning(self) -> Meaning:
        return Meaning(self.canvas)

    def __repr__(self) -> str:
        return f"Drawn({self.recipe!r})"


@functools.cache
def wired(depth: int) -> st.SearchStrategy[Any]:
    """Return recipes whose tasks have links, errbacks, replacements: what Celery's guide says of them Celery does."""
    task = st.tuples(st.just("task"), ENDS, st.integers(0, 1), st.booleans())
    good = st.tuples(st.just("task"), st.just(("ok",)), st.integers(0, 1), st.booleans())
    replaced = st.tuples(st.just("replace"), st.sampled_from(IN_PLACE))
    leaf = st.one_of(
        task,
        task,
        task,
        st.tuples(st.just("task"), replaced, st.integers(0, 1), st.booleans()),
        st.tuples(st.sampled_from(["map", "starmap"]), st.integers(1, 3), st.sampled_from([False] * 7 + [True])),
        st.tuples(st.just("link"), task, task),
        st.tuples(st.just("link"), st.tuples(st.just("link"), task, good), task),
        st.tuples(st.just("link_error"), task, st.one_of(st.just(("heard",)), good)),
    )
    if depth <= 0:
        return leaf
    deep, beside = wired(depth - 1), st.lists(wired((depth - 1) // 2), max_size=2)
    members = st.builds(
        lambda one, others, place: [*others[:place], one, *others[place:]], deep, beside, st.integers(0, 2)
    )
    some = st.lists(wired((depth - 1) // 2), min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["chain", "|", "|", "group", "group"]), members),
        st.tuples(st.sampled_from(["chain", "|", "group"]), members),
        st.tuples(st.just("chord"), members, wired((depth - 1) // 2)),
        st.tuples(st.just("chord"), some, deep),
        *([st.just(("chunks", 3, 2)), st.just(("chunks", 2, 1))] if depth == 1 else []),
    )


#: Everything the language has, but tasks that are revoked, ignored or rejected.
anything = st.one_of(canvases(3, ENDS), canvases(4, ENDS), canvases(5, ENDS))


def ends_in_a_group(steps: Any) -> bool:
    return not steps or isinstance(steps[-1], Group)


def plain_enough(canvas: Any) -> bool:
    """Say whether Celery is known to run a canvas as its guide says (see tests/differential/test_against_celery.py)."""
    text = json.dumps(canvas)
    return "chunks" not in text and '"tasks": []' not in text and _plain(steps_of(canvas))


def _plain(steps: Any, waited: bool = False) -> bool:
    for place, step in enumerate(steps):
        if isinstance(step, Group):
            followed = waited or place < len(steps) - 1
            if not step.members:
                return False
            if followed and any(ends_in_a_group(member) for member in step.members):
                return False
            if not all(_plain(member, followed) for member in step.members):
                return False
    return bool(steps)


def comparable(canvas: Any, *, replaces: bool = True) -> bool:
    """Say whether what comes of any canvas can be compared with `Meaning`.

    Errbacks that are given the failed task's id can not (it is not known beforehand), and of a chain that ends in an
    empty group nobody can ask how it ended. With Celery's workers nothing is to replace itself (`replaces`).
    """
    text, steps = json.dumps(canvas), steps_of(canvas)
    told = [errback for task in _all_tasks(steps) for errback in task.errbacks]
    return (
        all(len(errback) == 1 and getattr(errback[0], "task", "") == "heard" for errback in told)
        and _says_how_it_ended(steps)
        and (replaces or '"replace"' not in text)
    )


def _says_how_it_ended(steps: Any) -> bool:
    if not steps or not isinstance(steps[-1], Group):
        return bool(steps)
    return bool(steps[-1].members) and all(map(_says_how_it_ended, steps[-1].members))


def _all_tasks(steps: Any) -> Iterator[Any]:
    """Yield every task in some steps, what is linked to others included."""
    for task in tasks_of(steps):
        yield task
        for hanging in (*task.links, *task.errbacks):
            yield from _all_tasks(hanging)


def cook(recipe: Any, run: str, stamps: dict[str, Any] | None = None, *, pin: bool = True) -> Drawn:
    """Return the canvas of a recipe as JSON; every task knows `run`, and with `pin` has the id ``<run>.<tag>``."""
    canvas = json.loads(json.dumps(build(recipe)))
    _name(canvas, run, pin)
    return Drawn(recipe, run, canvas, stamps or {})


def _name(value: Any, run: str, pin: bool) -> None:
    if isinstance(value, list):
        for each in value:
            _name(each, run, pin and value[:1] != ["replace"])  # what replaces a task is to have its id
    elif isinstance(value, dict):
        task = str(value.get("task"))
        if task in {"work", "heard"}:
            value["kwargs"]["run"] = run
        mapped = task in {"celery.map", "celery.starmap"}
        if pin and (mapped or task == "work"):
            value["options"]["task_id"] = f"{run}.{tag_of(task, value['kwargs'])}"
        for name, each in value.items():
            if not (mapped and name == "kwargs"):  # the task in it is no call of its own
                _name(each, run, pin)


def batch(
    strategy: st.SearchStrategy[Any], count: int, name: str, fits: Callable[[Any], bool] = lambda canvas: True
) -> list[Drawn]:
    """Draw many canvases at once; `fits` says which JSON will do, and `chosen` which are drawn."""
    return seeded(strategy, count, name, chosen(), fits)


def chosen() -> int:
    """Return the seed of canvases that are run by Celery, too.

    The gate draws the same ones every time; ``NBCANVAS_SEED=random`` draws others, and a number those of that seed,
    which is printed for whoever has to look.
    """
    wanted = os.environ.get("NBCANVAS_SEED", "3")
    number = random.SystemRandom().randrange(10**6) if wanted == "random" else int(wanted)
    print(f"canvases of seed {number}")
    return number


def seeded(
    strategy: st.SearchStrategy[Any], count: int, name: str, number: int, fits: Callable[[Any], bool]
) -> list[Drawn]:
    """Return the canvases of a seed."""
    found: dict[str, Drawn] = {}

    @seed(number)
    @settings(QUIET, max_examples=count * 20)
    @given(recipe=strategy, stamps=st.sampled_from([{}, {}, {}, {"lab": "x"}, {"lab": ["a", "b"], "of": 7}]))
    def draw(recipe: Any, stamps: dict[str, Any]) -> None:
        drawn = cook(recipe, f"{name}{len(found)}", stamps)
        if 2 <= len(tasks_of(steps_of(drawn.canvas))) <= MOST and fits(drawn.canvas):
            found.setdefault(repr(recipe), drawn)
        if len(found) == count:
            raise unittest.SkipTest  # the one way to end a search early

    with suppress(unittest.SkipTest):
        draw()
    drawn = list(found.values())
    print(f"{len(drawn)} canvases, {sum(depth_of(one.recipe) >= 4 for one in drawn)} of them nested 4 deep or deeper")
    return drawn
