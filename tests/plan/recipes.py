"""Random canvases: hypothesis draws a recipe, plain data that reads well when a test fails, and `build` cooks it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
from typing import Any

from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, chord, chunks, group, xmap, xstarmap
from nbcanvas.errors import CanvasError

# -- recipes -------------------------------------------------------------------------------------------------------

PLAIN = st.sampled_from([("ok",)] * 4 + [("fail",)])
ENDS = st.sampled_from(
    [
        *[("ok",)] * 12,
        ("fail",),
        ("fail",),
        ("revoke",),
        ("ignore",),
        ("reject",),
        ("retry", 1, "ok"),
        ("retry", 3, "ok"),
        ("retry", 2, "fail"),
    ]
)


@functools.cache
def canvases(depth: int, ends: Any = ENDS, *, extras: bool = True) -> st.SearchStrategy:
    """Return recipes of about this depth.

    Parameters
    ----------
    depth
        How many composites stand in each other, most of the time.
    ends
        How tasks end.
    extras
        Whether there are replacements, links, errbacks and composites with options of their own, too.
    """
    leaf = st.tuples(st.just("task"), ends, st.integers(0, 1), st.booleans())
    item = st.one_of(
        leaf,
        leaf,
        leaf,
        leaf,
        leaf,
        leaf,
        st.tuples(st.sampled_from(["map", "starmap"]), st.integers(1, 3), st.sampled_from([False] * 7 + [True])),
        st.tuples(st.just("chunks"), st.integers(0, 4), st.integers(1, 3)),
    )
    if depth <= 0:
        return item
    deep = canvases(depth - 1, ends, extras=extras)
    beside = st.lists(canvases((depth - 1) // 2, ends, extras=extras), max_size=2)
    members = st.builds(
        lambda one, others, place: [*others[:place], one, *others[place:]], deep, beside, st.integers(0, 2)
    )
    shallow = canvases((depth - 1) // 2, ends, extras=extras)
    kinds = [
        st.tuples(st.sampled_from(["chain", "|", "|", "|", "group", "group"]), members),
        st.tuples(st.sampled_from(["chain", "|", "group"]), members),
        st.tuples(st.just("chord"), members, shallow),
        st.tuples(st.just("chord"), beside, deep),
        st.tuples(st.sampled_from(["chain", "group"]), beside),
    ]
    if extras:
        hanging = canvases(min(depth // 2, 2), ends, extras=False)
        errback = st.one_of(st.just(("heard",)), hanging)
        inner = canvases(max(depth // 2 - 1, 0), ends, extras=depth > 2).filter(holds_tasks)
        kinds += [
            st.tuples(st.just("task"), st.tuples(st.just("replace"), inner), st.integers(0, 1), st.booleans()),
            st.tuples(st.sampled_from(["chain, whole", "immutable", "partial"]), deep),
            st.tuples(st.sampled_from(["link", "set link"]), deep, hanging),
            st.tuples(st.sampled_from(["link_error", "set link_error"]), deep, errback),
        ]
    return st.one_of(*kinds)


def holds_tasks(recipe: Any) -> bool:
    """Whether a canvas has anything to run at each place (a task cannot be replaced by nothing)."""
    what, *more = recipe
    if what == "chunks":
        return more[0] > 0
    if what in {"task", "map", "starmap", "heard"}:
        return what != "task" or more[0][0] != "replace" or holds_tasks(more[0][1])
    if isinstance(more[0], list):
        return bool(more[0]) and all(map(holds_tasks, more[0])) and all(map(holds_tasks, more[1:]))
    return all(map(holds_tasks, more))


# -- cooking -------------------------------------------------------------------------------------------------------


class Kitchen:
    """Makes canvases from recipes; each task gets a tag of its own, in the order of the recipe."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def build(self, recipe: Any) -> Any:
        what, *more = recipe
        return getattr(self, what.replace(", ", "_").replace(" ", "_").replace("|", "pipe"))(*more)

    def all(self, recipes: Any) -> list:
        return [self.build(recipe) for recipe in recipes]

    def task(self, do: tuple, own: int, immutable: bool) -> Any:
        number = next(self._numbers)
        do = [do[0], self.build(do[1])] if do[0] == "replace" else list(do)
        # A real worker finds a task that expired before it was sent, and revokes it.
        options = {"expires": -1} if do == ["revoke"] else {}
        return Signature("work", (f"own{number}",) * own, {"tag": f"t{number}", "do": do}, options, immutable=immutable)

    def heard(self) -> Any:
        return Signature("heard", (), {"tag": f"h{next(self._numbers)}"})

    def map(self, count: int, fails: bool) -> Any:
        return xmap(Signature("item"), self._items(count, fails))

    def starmap(self, count: int, fails: bool) -> Any:
        return xstarmap(Signature("item"), [[item, "x"] for item in self._items(count, fails)])

    def chunks(self, count: int, n: int) -> Any:
        return chunks(Signature("item"), [[item] for item in self._items(count, fails=False)], n)

    def _items(self, count: int, fails: bool) -> list:
        number = next(self._numbers)
        return [f"i{number}.{place}" for place in range(count - fails)] + [f"boom{number}"] * fails

    def chain(self, members: list) -> Any:
        return chain(*self.all(members))

    def chain_whole(self, member: Any) -> Any:
        """Return a chain that was not taken apart, because it has an option."""
        return chain(self.build(member), priority=3)

    def pipe(self, members: list) -> Any:
        return functools.reduce(operator.or_, self.all(members))

    def group(self, members: list) -> Any:
        return group(self.all(members))

    def chord(self, members: list, body: Any) -> Any:
        return chord(self.all(members), self.build(body))

    def immutable(self, member: Any) -> Any:
        return self.build(member).set(immutable=True)

    def partial(self, member: Any) -> Any:
        return self.build(member).clone(args=(f"partial{next(self._numbers)}",))

    def link(self, member: Any, callback: Any) -> Any:
        sig, callback = self.build(member), self.build(callback)
        with contextlib.suppress(CanvasError):  # an empty group has nothing to link to
            sig.link(callback)
        return sig

    def link_error(self, member: Any, errback: Any) -> Any:
        sig = self.build(member)
        sig.link_error(self.build(errback))
        return sig

    def set_link(self, member: Any, callback: Any) -> Any:
        return self.build(member).set(link=[self.build(callback)])

    def set_link_error(self, member: Any, errback: Any) -> Any:
        return self.build(member).set(link_error=self.build(errback))


def build(recipe: Any) -> Any:
    """Return the canvas that a recipe describes."""
    return Kitchen().build(recipe)


def depth_of(recipe: Any) -> int:
    """Return how deep composites stand in each other."""
    if recipe[0] in {"task", "map", "starmap", "chunks", "heard"}:
        return 0
    inside = recipe[1] if isinstance(recipe[1], list) else [recipe[1]]
    below = [depth_of(r) for r in [*inside, *(r for r in recipe[2:] if isinstance(r, tuple))]]
    return 1 + max(below, default=0)
