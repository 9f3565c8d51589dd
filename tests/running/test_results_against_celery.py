"""The shape of results, compared with real Celery: types, parents, members, of the same canvas."""

from __future__ import annotations

from types import SimpleNamespace

import celery
import celery.result
import pytest

import nbcanvas
from tests.celerys import unshared

CANVASES = {
    "task": lambda c: c.t(1),
    "chain": lambda c: c.t(1) | c.t() | c.t(),
    "group": lambda c: c.group(c.t(1), c.t(2)),
    "group of one": lambda c: c.group(c.t(1)),
    "empty group": lambda c: c.group([]),
    "task then group": lambda c: c.t(1) | c.group(c.t(), c.t()),
    "task then group of one": lambda c: c.chain(c.t(1), c.group(c.t()), c.t()),
    "two tasks then group": lambda c: c.t(1) | c.t() | c.group(c.t(), c.t()),
    "chord": lambda c: c.chord([c.t(1), c.t(2)], c.t()),
    "chord then task": lambda c: c.chord([c.t(1), c.t(2)], c.t()) | c.t(),
    "group then two tasks": lambda c: c.group(c.t(1), c.t(2)) | c.t() | c.t(),
    "task then chord": lambda c: c.t(1) | c.group(c.t(), c.t()) | c.t(),
    "task, chord, group": lambda c: c.t(1) | c.group(c.t(), c.t()) | c.t() | c.group(c.t(), c.t()),
    "chains in a group": lambda c: c.group(c.t(1) | c.t(), c.t(2) | c.t() | c.t()),
    "chains in a chord": lambda c: c.chord([c.t(1) | c.t(), c.t(2)], c.t() | c.t()),
    "chord with a group as body": lambda c: c.chord([c.t(1), c.t(2)], c.group(c.t(), c.t())),
    "chords in a group": lambda c: c.group(c.chord([c.t(1), c.t(2)], c.t()), c.t(3)),
}

#: Started, Celery leaves the first steps of a chord's body out of the parents; frozen, it does not.  We never do.
SHORTENED = {"chord then task", "group then two tasks", "chains in a chord"}


def world(module, app):
    def nothing(*args):
        return None

    task = app.task(nothing, name="t")
    return SimpleNamespace(t=task.s, group=module.group, chain=module.chain, chord=module.chord)


def started(reference, name):
    sig = CANVASES[name](reference)
    return sig.freeze() if name in SHORTENED else sig.apply_async()


def shape(result):
    """Return a result as nested tuples of type names, without ids: (kind, members, parent)."""
    if result is None:
        return None
    kind = type(result).__name__
    members = [shape(member) for member in result.results] if kind == "GroupResult" else None
    return kind, members, shape(result.parent)


@pytest.fixture(scope="module")
def reference():
    app = celery.Celery("reference", broker="memory://", backend="cache+memory://", set_as_current=False)
    return world(celery, unshared(app))


@pytest.mark.parametrize("name", CANVASES)
def test_a_canvas_that_was_started(reference, app, name):
    ours = CANVASES[name](world(nbcanvas, app)).apply_async()
    theirs = started(reference, name)
    assert shape(ours) == shape(theirs)


@pytest.mark.parametrize("name", CANVASES)
def test_a_canvas_that_was_frozen(reference, app, name):
    ours = CANVASES[name](world(nbcanvas, app)).freeze()
    theirs = CANVASES[name](reference).freeze()
    assert shape(ours) == shape(theirs)


@pytest.mark.parametrize("name", CANVASES)
def test_as_tuple(reference, app, name):
    def lengths(tree):
        if tree is None:
            return None
        (_, parent), members = tree
        return lengths(parent), None if members is None else [lengths(member) for member in members]

    ours = CANVASES[name](world(nbcanvas, app)).apply_async().as_tuple()
    theirs = started(reference, name).as_tuple()
    assert lengths(ours) == lengths(theirs)


@pytest.mark.parametrize("kind", ["AsyncResult", "GroupResult", "ResultSet", "EagerResult"])
def test_our_results_have_what_celerys_have(app, kind):
    theirs = {name for name in dir(getattr(celery.result, kind)) if not name.startswith("_")}
    made = {"AsyncResult": ("1",), "GroupResult": ("1", []), "ResultSet": ([],), "EagerResult": ("1", 2, "SUCCESS")}
    ours = set(dir(getattr(nbcanvas, kind)(*made[kind])))
    assert theirs - ours <= {"on_ready", "throw"}  # the machinery of its promises
