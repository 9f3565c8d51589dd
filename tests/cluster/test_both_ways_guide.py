"""The examples of Celery's canvas guide, in either library's words, on the other library's worker."""

from __future__ import annotations

import celery
import pytest

import nbcanvas
from tests.cluster.fleet import Fleet
from tests.servers import until

redis = pytest.importorskip("redis")

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]


WAYS = ["our client, Celery's worker", "Celery's client, our worker", "both ours"]


@pytest.fixture(scope="module", params=WAYS)
def world(request, redis_server):
    """The functions of a library, an app of it, and its tasks, by name."""
    url = f"{redis_server.url.removesuffix('/0')}/9"
    redis.Redis.from_url(url).flushdb()
    with Fleet(url, tasks="tests.cluster.guide_tasks") as fleet:
        if "Celery's worker" in request.param:
            fleet.celery("threads", 2)
        else:
            fleet.ours("processes" if request.param == "both ours" else "threads", 2)
        ours = not request.param.startswith("Celery")
        app = fleet.client() if ours else fleet.celery_client()
        if ours:
            before = nbcanvas.current_app()
            app.set_current()
        yield (nbcanvas if ours else celery), app, app.tasks
        if ours:
            before.set_current()


def doubled(t, count=10):
    return [t["add"].s(i, i) for i in range(count)]


#: What the guide shows -> how it is made, and its value.
EXAMPLES = {
    "a signature": (lambda c, t: t["add"].signature((2, 2), countdown=0.05), 4),
    "a signature by name": (lambda c, t: c.signature("add", args=(2, 2), countdown=0.05), 4),
    "star arguments": (lambda c, t: t["add"].s(2, 2, debug=True), 4),
    "a partial": (lambda c, t: t["add"].s(2).clone((4,)), 6),
    "merged keywords": (lambda c, t: t["add"].s(2, 2).clone(kwargs={"debug": True}), 4),
    "immutable": (lambda c, t: t["add"].si(2, 2) | t["add"].si(4, 4), 8),
    "options": (lambda c, t: t["add"].s(2, 2).set(priority=3, expires=60), 4),
    "a chain": (lambda c, t: c.chain(t["add"].s(4, 4), t["mul"].s(8), t["mul"].s(10)), 640),
    "pipes": (lambda c, t: t["add"].s(2, 2) | t["mul"].s(8) | t["mul"].s(10), 320),
    "a group": (lambda c, t: c.group(doubled(t)), [2 * i for i in range(10)]),
    "a group of partials": (lambda c, t: t["add"].s(1, 1) | c.group(t["add"].s(i) for i in range(3)), [2, 3, 4]),
    "a chord": (lambda c, t: c.chord(doubled(t), t["tsum"].s()), 90),
    "a group upgraded": (lambda c, t: c.group(doubled(t)) | t["tsum"].s(), 90),
    "a chord in a chain": (
        lambda c, t: t["add"].s(4, 16) | c.group(t["mul"].s(i) for i in range(4)) | t["xsum"].s() | t["add"].s(1),
        121,
    ),
    "groups behind groups": (
        lambda c, t: c.group(doubled(t, 3)) | t["tsum"].s() | c.group(t["add"].s(1), t["mul"].s(2)) | t["xsum"].s(),
        19,
    ),
    "chords in a chord": (
        lambda c, t: c.chord(
            [c.chord(doubled(t, 3), t["tsum"].s()), c.chain(t["add"].s(1, 1), t["mul"].s(3))], t["xsum"].s()
        ),
        12,
    ),
    "map": (lambda c, t: t["tsum"].map([list(range(10)), list(range(100))]), [45, 4950]),
    "starmap": (lambda c, t: t["add"].starmap([(i, i) for i in range(5)]), [0, 2, 4, 6, 8]),
    "chunks as a group": (
        lambda c, t: t["add"].chunks([(i, i) for i in range(10)], 5).group(),
        [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]],
    ),
    "replace by a chain": (lambda c, t: t["refold"].s(2) | t["add"].s(1), 41),
    "replace by a group": (lambda c, t: t["refan"].s(2) | t["tsum"].s(), 9),
    "retries in a chain": (lambda c, t: t["add"].s(1, 1) | t["tries"].s() | t["add"].s(1), 3),
    "retries in a chord": (lambda c, t: c.chord([t["tries"].s(i) for i in range(4)], t["tsum"].s()), 6),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_its_value(world, name):
    library, _, tasks = world
    make, value = EXAMPLES[name]
    assert make(library, tasks).apply_async().get(timeout=60) == value


def test_a_partial_chain(world):
    _, _, t = world
    assert (t["add"].s(4) | t["mul"].s(8)).apply_async((16,)).get(timeout=60) == 160
    assert (t["add"].s(4) | t["mul"].s(8))(16).get(timeout=60) == 160


def test_a_chain_knows_its_parents(world):
    _, _, t = world
    result = (t["add"].s(2, 2) | t["add"].s(4) | t["add"].s(8)).apply_async()
    assert result.get(timeout=60) == 16
    assert (result.parent.get(timeout=60), result.parent.parent.get(timeout=60)) == (8, 4)
    assert result.parent.parent.parent is None


def test_a_group_counts(world):
    library, _, t = world
    result = library.group(doubled(t)).apply_async()
    assert result.join(timeout=60) == [2 * i for i in range(10)]
    assert (result.ready(), result.successful(), result.failed(), result.completed_count()) == (True, True, False, 10)
    result.save()
    again = type(result).restore(result.id, app=world[1])
    assert again.get(timeout=60) == [2 * i for i in range(10)]


def test_a_chords_id_is_its_bodys(world):
    library, _, t = world
    result = library.chord(doubled(t, 2), t["whoami"].s()).apply_async()
    assert result.get(timeout=60) == result.id
    assert result.parent.get(timeout=60) == [0, 2]


def test_a_callback_is_a_child(world):
    _, _, t = world
    result = t["add"].apply_async((2, 2), link=t["add"].s(8))
    assert result.get(timeout=60) == 4
    (child,) = result.children
    assert child.get(timeout=60) == 12


def test_a_failing_member_fails_the_chord(world):
    library, _, t = world
    result = library.chord([t["add"].s(4, 4), t["fail"].s(), t["add"].s(8, 8)], t["xsum"].s()).apply_async()
    with pytest.raises(Exception, match="something something"):
        result.get(timeout=60)
    until(result.ready, what="the body has ended")  # Celery's client raises what a parent raised
    failed = result.parent[1]
    assert failed.state == result.state == "FAILURE"
    assert str(result.result) == f"Dependency {failed.id} raised ValueError('something something')"
    assert "ValueError: something something" in failed.traceback
    assert "ChordError: Dependency" in result.traceback
    assert result.parent[2].get(timeout=60) == 16


def test_a_header_that_is_a_generator(world):
    """Celery's client writes of a chain in it what the chain counts for, but not of its last step."""
    library, _, t = world
    inner = library.chord([t["add"].s(1, 1), t["add"].s(5, 10)], library.chain(t["tsum"].s(), t["add"].s(1)))
    assert library.chord((one for one in [t["add"].s(1, 2), inner]), t["tsum"].s()).apply_async().get(timeout=60) == 21


def test_an_exception_of_a_class_that_the_client_does_not_have(world):
    """What stands for it has its name and its arguments."""
    library, _, t = world
    chord = library.chord([t["add"].s(4, 4), t["hidden"].s()], t["xsum"].s()).apply_async()
    single = t["hidden"].delay()
    until(lambda: single.ready() and chord.ready(), what="both have ended")
    for error in (single.result, single.get(propagate=False), chord.parent[1].result):
        assert (type(error).__name__, error.args, str(error)) == ("Hidden", ("two", 2), "('two', 2)")
    assert str(chord.result) == f"Dependency {chord.parent[1].id} raised Hidden('two', 2)"


def test_an_errback_hears_of_the_failed_task(world):
    _, _, t = world
    told = t["kept"].s().set(task_id=f"told-{id(world)}")
    result = (t["fail"].s().on_error(told) | t["add"].s(1)).apply_async()
    with pytest.raises(ValueError, match="something something"):
        result.get(timeout=60)
    assert world[1].AsyncResult(f"told-{id(world)}").get(timeout=60) == result.parent.id


def test_stamps_reach_every_task(world):
    library, _, t = world
    canvas = library.chord([t["stamps"].s(), t["stamps"].s()], t["kept"].s())
    canvas.stamp(lab="x")
    found = canvas.apply_async().get(timeout=60)
    assert [one["lab"] for one in found] in (["x", "x"], [["x"], ["x"]])


def test_a_stamp_is_seen_as_its_visitor_gave_it(world):
    library, _, t = world

    class Lab(library.canvas.StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"lab": 7, "of": ["a", "b"]}

    canvas = library.chord([t["stamps"].s()], t["stamps"].s())
    canvas.stamp(visitor=Lab())
    result = canvas.apply_async()
    assert result.get(timeout=60) == {"lab": 7, "of": ["a", "b"]}
    assert result.parent.get(timeout=60) == [{"lab": 7, "of": ["a", "b"]}]


def test_a_task_that_returns_what_it_started(world):
    """Its value is the handle as plain data, Celery's ``as_tuple``."""
    _, app, t = world
    (last, (first, nothing)), members = t["starts"].delay().get(timeout=60)
    assert (nothing, members) == (None, None)
    assert app.AsyncResult(last).get(timeout=60) == 4
    assert app.AsyncResult(first[0]).get(timeout=60) == 2


GROWING = {
    "one by one": ("", [0, 2, 3, 4, 9]),
    "a chain": ("chain", [0, 9, 9]),
    "sent by the task itself": ("lazily", [0, 2, 3, 4, 9]),
    "those that do so again": ("on", [0, 1, 2, 3, 9]),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_header_that_grows(world, name):
    """``self.add_to_chord``: the values stand beside that of the task, in no order."""
    library, _, t = world
    how, values = GROWING[name]
    chord = library.chord([t["adds"].si([2, 3, 4], how), t["add"].si(4, 5)], t["kept"].s())
    alone, inside = chord.apply_async(), library.chain(t["kept"].s(1), chord, t["kept"].s()).apply_async()
    assert sorted(alone.get(timeout=60)) == values
    assert sorted(inside.get(timeout=60)) == values


def test_a_header_that_grows_by_what_fails(world):
    library, _, t = world
    result = library.chord([t["adds"].s([], "failing"), t["add"].s(4, 5)], t["kept"].s()).apply_async()
    with pytest.raises(Exception, match="something something"):
        result.get(timeout=60)
    assert [one.get(timeout=60) for one in result.parent.results] == [0, 9]


@pytest.mark.parametrize("world", WAYS[1:], indirect=True)
def test_a_header_does_not_grow_by_what_cannot_be_sent(world):
    """With Celery's worker whoever waits for the chord waits for ever."""
    library, _, t = world
    result = library.chord([t["adds"].s([], "unwritable"), t["add"].s(4, 5)], t["kept"].s()).apply_async()
    assert result.get(timeout=60) == ["refused", 9]


@pytest.mark.parametrize("world", WAYS[1:], indirect=True)
@pytest.mark.parametrize("how", ["by nonsense", "by a call"])
def test_a_header_does_not_grow(world, how):
    """With Celery's worker a task that calls itself like a function is taken for itself."""
    library, _, t = world
    result = library.chord([t["adds"].s([], how), t["add"].s(4, 5)], t["kept"].s()).apply_async()
    assert result.get(timeout=60) == ["refused", 9]


def test_only_a_member_of_a_header_lets_it_grow(world):
    _, _, t = world
    with pytest.raises(ValueError, match="not member of any chord"):
        t["adds"].delay([1]).get(timeout=60)


def test_chunks_by_themselves(world):
    _, _, t = world
    result = t["add"].chunks([(i, i) for i in range(10)], 5).apply_async()
    assert result.get(timeout=60) == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]]


def test_the_graph_of_a_chain(world):
    _, _, t = world
    result = (t["add"].s(1, 1) | t["add"].s(2) | t["add"].s(3)).apply_async()
    assert result.get(timeout=60) == 7
    first = result.parent.parent
    assert [one[1] for one in first.collect(timeout=60)] == [2, 4, 7]
