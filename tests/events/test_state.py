"""What is known of a run does not depend on how it was heard."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas import states
from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan, places
from tests.costs import operations

NESTED = 1 << 20


def add(task_id, task="add", **kwargs):
    return Call(task_id, task, None, **kwargs)


def chord(n=3):
    return Chain([Fan("g", [add(f"m{i}") for i in range(n)]), add("body", "tsum")])


def told(state, *events):
    return state.apply([Event(*event) for event in events])


# -- any order, any batches, any repetition ----------------------------------------------------------------------

ERRORS = [ValueError("a"), KeyError("b")]
ROOT = Chain(
    [
        add("a", links=(Chain([add("l1"), add("l2")]),), errbacks=(add("e"),)),
        Fan("g", [add("m0"), Chain([add("m1"), add("m2", links=(add("l3"),))])]),
        add("z"),
    ]
)
#: a is replaced by (r1 | a), then again by (s1 | a); r1 starts a child, whose call is replaced by a group.
GRAFTS = [
    Event("grafted", "a", 3.0, 0, (Chain([add("r1", nesting=1), add("a", "mul", nesting=1)]), "replacement")),
    Event(
        "grafted",
        "a",
        5.0,
        NESTED,
        (Chain([add("s1", nesting=2), add("a", "sub", nesting=2, links=(add("l1"),))]), "replacement"),
    ),
    Event("grafted", "r1", 4.0, NESTED, (add("c1", "child", links=(add("l4"),)), "child")),
    Event("grafted", "c1", 2.0, 0, (Fan("cg", [add("c2", nesting=1), add("c3", nesting=1)]), "replacement")),
    Event("grafted", "m0", 4.0, 0, (add("c4"), "child")),
    Event("grafted", "m0", 4.0, 0, (add("c5"), "child")),
]
IDS = ["a", "l1", "l2", "e", "m0", "m1", "m2", "l3", "z", "r1", "s1", "c1", "c2", "c3", "l4", "c4", "c5", "stranger"]


def data_of(kind, draw):
    if kind in ("sent", "received"):
        return draw(st.sampled_from([None, {"due": None, "queue": "q"}, {"due": 9.0, "queue": "q"}]))
    if kind == "started":
        return draw(st.sampled_from(["w/1", "w/2", "w/3"]))
    if kind == "progress":
        return ("PROGRESS", {"current": draw(st.integers(0, 3)), "total": 3})
    if kind == "failed":
        return (draw(st.sampled_from(ERRORS)), draw(st.sampled_from([None, "Traceback"])))
    if kind == "retried":
        return (draw(st.sampled_from(ERRORS)), draw(st.sampled_from([None, 7.0])))
    if kind in ("revoked", "rejected"):
        return draw(st.sampled_from(["because", "whatever"]))
    return None


@st.composite
def an_event(draw):
    kind = draw(
        st.sampled_from(
            [
                "sent",
                "received",
                "started",
                "progress",
                "succeeded",
                "failed",
                "retried",
                "revoked",
                "rejected",
                "ignored",
                "replaced",
            ]
        )
    )
    return Event(
        kind,
        draw(st.sampled_from(IDS)),
        float(draw(st.integers(1, 4))),
        draw(st.sampled_from([0, 1, 2, NESTED, NESTED + 1])),
        data_of(kind, draw),
    )


@given(st.lists(st.one_of(an_event(), st.sampled_from(GRAFTS)), max_size=25), st.randoms(use_true_random=False))
def test_equal_sets_of_events_give_equal_states(events, rng):
    expected = State.of(ROOT, 0.0).apply(events)
    other = [*events, *(rng.choice(events) for _ in range(len(events) // 2))]
    rng.shuffle(other)
    state = State.of(ROOT, 0.0)
    while other:
        size = rng.randint(1, len(other))
        state = state.apply(other[:size])
        del other[:size]
    assert state == expected
    assert dict(state.counts) == dict(expected.counts)
    assert (state.done, state.total, state.pending) == (expected.done, expected.total, expected.pending)
    assert list(state.order) == list(expected.order)
    assert sorted(state.order) == list(range(len(state)))
    assert [p.path for p in state.calls] == [p.path for p in expected.calls]
    assert [p.call.id for p in state.calls] == list(state.tree.index)
    queries = (
        State.state,
        State.error,
        State.traceback,
        State.worker,
        State.due,
        State.retries,
        State.call,
        State.received,
        State.awake,
        State.attempts_of,
    )
    for query in queries:
        assert [query(state, i) for i in range(len(state))] == [query(expected, i) for i in range(len(expected))]


@given(st.lists(st.one_of(an_event(), st.sampled_from(GRAFTS)), max_size=25))
def test_hearing_it_again_is_the_same_state(events):
    state = State.of(ROOT, 0.0).apply(events)
    assert state.apply(events) is state
    assert state.apply(reversed(events)) is state


@given(st.lists(st.one_of(an_event(), st.sampled_from(GRAFTS)), max_size=25), st.randoms(use_true_random=False))
def test_a_state_can_be_told_again(events, rng):
    state = State.of(ROOT, 0.0).apply(events)
    told_again = list(state.events())
    assert State.of(ROOT, 0.0).apply(told_again) == state
    assert state.apply(told_again) is state
    rows = rng.sample(range(len(state)), rng.randint(0, len(state)))
    part = State.of(ROOT, 0.0).apply(state.events(rows))
    assert (part.pending, part.ignored) == (0, 0)
    for row in rows:
        again = part.index_of(state.call(row).id)
        assert part.attempts_of(again) == state.attempts_of(row)
        assert (part.due(again), part.progress(again)) == (state.due(row), state.progress(row))
    told = {state.call(row).id for row in rows}
    assert {event.id for event in state.events(rows) if event.kind != "grafted"} <= told


@given(st.lists(an_event(), min_size=1, max_size=10))
def test_a_state_never_changes(events):
    before = State.of(ROOT, 0.0)
    middle = before.apply(events[:5])
    frozen = State.of(ROOT, 0.0).apply(events[:5])
    middle.apply(events[5:])
    assert before == State.of(ROOT, 0.0)
    assert middle == frozen


# -- one call ----------------------------------------------------------------------------------------------------


def test_the_life_of_a_call():
    state = State.of(add("x"), 100.0)
    assert (state.state(0), state.sent(0), state.done, dict(state.counts)) == ("WAITING", None, False, {"WAITING": 1})
    state = told(state, ("sent", "x", 101.0))
    assert (state.state(0), state.sent(0)) == ("SENT", 101.0)
    state = told(state, ("started", "x", 102.0, 0, "embedded/1"))
    assert (state.state(0), state.started(0), state.worker(0)) == ("STARTED", 102.0, "embedded/1")
    state = told(state, ("progress", "x", 103.0, 0, ("PROGRESS", {"current": 3, "total": 4})))
    assert (state.state(0), state.progress(0).fraction) == ("PROGRESS", 0.75)
    state = told(state, ("succeeded", "x", 104.0))
    assert (state.state(0), state.finished(0), state.done) == ("SUCCESS", 104.0, True)
    assert state.version == 4


def test_a_retry_is_told_until_the_next_attempt_starts():
    error = ValueError("again")
    state = told(
        State.of(add("x"), 0.0),
        ("sent", "x", 1.0),
        ("started", "x", 2.0, 0, "w"),
        ("retried", "x", 3.0, 0, (error, 9.0)),
    )
    assert (state.state(0), state.error(0), state.due(0), state.retries(0)) == ("RETRY", error, 9.0, 1)
    assert not state.done
    late = told(state, ("started", "x", 2.5, 0, "late"))
    assert (late.state(0), late.started(0), late.worker(0)) == ("RETRY", None, None)
    state = told(state, ("sent", "x", 3.0, 1, {"due": 9.0, "queue": "q"}))
    assert state.state(0) == "RETRY"
    state = told(state, ("started", "x", 9.0, 1, "w"), ("succeeded", "x", 9.5, 1))
    assert (state.state(0), state.error(0), state.retries(0), state.started(0)) == ("SUCCESS", None, 1, 9.0)
    assert list(state.retried()) == [0]


def test_a_failure_has_its_error_and_traceback():
    error = ValueError("no")
    state = told(
        State.of(chord(), 0.0), ("failed", "m1", 3.0, 0, (error, "Traceback…")), ("revoked", "m2", 4.0, 0, "why")
    )
    assert (state.error(1), state.traceback(1), state.error(2)) == (error, "Traceback…", "why")
    assert list(state.errors()) == [1, 2]
    assert dict(state.counts) == {"FAILURE": 1, "REVOKED": 1, "WAITING": 2}


@pytest.mark.parametrize(
    "meta",
    [
        None,
        "half",
        {"current": 1},
        {"current": 1, "total": 0},
        {"current": "1", "total": 2},
        {"current": float("nan"), "total": 2},
        {"current": 1, "total": float("inf")},
    ],
)
def test_progress_that_makes_no_sense_is_no_progress(meta):
    state = told(State.of(add("x"), 0.0), ("progress", "x", 1.0, 0, ("HALFWAY", meta)))
    assert (state.progress(0).state, state.progress(0).fraction) == ("HALFWAY", 0.0)


def test_progress_stays_within_its_bounds():
    state = told(State.of(add("x"), 0.0), ("progress", "x", 1.0, 0, ("PROGRESS", {"current": 7, "total": 4})))
    assert state.progress(0).fraction == 1.0


# -- what counts -------------------------------------------------------------------------------------------------


def test_links_count_once_they_start_or_must():
    root = add("x", links=(Chain([add("l1"), add("l2")]), add("l3")), errbacks=(add("e"),))
    state = told(State.of(root, 0.0), ("sent", "x", 1.0))
    assert len(state) == 5
    assert dict(state.counts) == {"SENT": 1}
    state = told(state, ("succeeded", "x", 2.0))
    assert dict(state.counts) == {"SUCCESS": 1, "WAITING": 3}
    assert not state.done
    state = told(state, ("succeeded", "l1", 2.0), ("succeeded", "l2", 2.0), ("succeeded", "l3", 2.0))
    assert state.done


def test_errbacks_count_once_they_fire():
    root = add("x", links=(add("l"),), errbacks=(add("e"),))
    state = told(State.of(root, 0.0), ("failed", "x", 2.0, 0, (ValueError(), None)))
    assert (dict(state.counts), state.done) == ({"FAILURE": 1}, True)
    state = told(state, ("sent", "e", 2.0))
    assert (dict(state.counts), state.done) == ({"FAILURE": 1, "SENT": 1}, False)


def test_a_replaced_task_ends_in_its_own_id():
    state = told(State.of(Chain([add("x"), add("y")]), 0.0), ("started", "x", 1.0, 0, "w"), ("replaced", "x", 2.0))
    assert state.state(0) == "WAITING"
    replacement = Chain([add("r", nesting=1), add("x", "mul", nesting=1)])
    state = told(state, ("grafted", "x", 2.0, 0, (replacement, "replacement")))
    assert [state.calls[i].path for i in state.order] == ["chain[0].replaced.chain[0]", "chain[0]", "chain[1]"]
    assert state.call(0).task == "mul"
    state = told(state, ("succeeded", "r", 3.0, NESTED), ("succeeded", "x", 4.0, NESTED), ("succeeded", "y", 5.0))
    assert (state.done, state.state(0)) == (True, "SUCCESS")


def test_a_task_replaced_by_what_ends_elsewhere_does_not_hold_up_the_run():
    state = told(
        State.of(add("x"), 0.0),
        ("replaced", "x", 2.0),
        ("grafted", "x", 2.0, 0, (Fan("g", [add("p", nesting=1), add("q", nesting=1)]), "replacement")),
        ("succeeded", "p", 3.0, NESTED),
    )
    assert not state.done
    state = told(state, ("succeeded", "q", 3.0, NESTED))
    assert (state.done, dict(state.counts)) == (True, {"SUCCESS": 2})


def test_events_wait_for_what_they_are_about():
    child = Chain([add("c1"), add("c2")])
    state = told(
        State.of(add("x"), 0.0),
        ("succeeded", "c1", 3.0),
        ("grafted", "c2", 2.5, 0, (add("cc"), "child")),
        ("sent", "cc", 2.6),
    )
    assert (state.pending, len(state)) == (3, 1)
    state = told(state, ("grafted", "x", 2.0, 0, (child, "child")))
    assert (state.pending, len(state)) == (0, 4)
    assert [(p.path, p.role) for p in state.calls] == [
        ("", ""),
        ("child[0].chain[0]", "child"),
        ("child[0].chain[1]", "child"),
        ("child[0].chain[1].child[0]", "child"),
    ]
    assert [state.state(i) for i in range(4)] == ["WAITING", "SUCCESS", "WAITING", "SENT"]


def test_rows_are_places_in_canvas_order():
    state = State.of(ROOT, 0.0)
    assert list(state.calls) == list(places(ROOT))
    assert all(state.index_of(p.call.id) == i for i, p in enumerate(state.calls))
    assert list(state.order) == list(range(len(state)))


def test_maps_count_their_items():
    asked = []

    def items(call):
        asked.append(call.task)
        return 10

    state = State.of(Fan("g", [add("s", "celery.starmap"), add("a")]), 0.0, items)
    assert (state.items(0), state.items(1), asked) == (10, 1, ["celery.starmap"])


def test_an_empty_canvas_is_done():
    state = State.of(Fan("g", []), 0.0)
    assert (len(state), state.done, state.total, repr(state)) == (0, True, 0, "<State of an empty canvas>")


def test_depth_does_not_matter():
    node = add("bottom")
    for i in range(3000):
        node = Chain([Fan(f"g{i}", [node]), add(f"c{i}")])
    assert len(State.of(node, 0.0)) == 3001


@pytest.mark.slow
def test_a_hundred_thousand_tasks_fold_at_once():
    n = 100_000
    ids = [f"{random.getrandbits(128):032x}" for _ in range(n)]
    state = State.of(Fan("g", [add(i) for i in ids]), 0.0)
    events = [Event("sent", i, 1.0) for i in ids] + [
        event for i in ids for event in (Event("started", i, 2.0, 0, "w/1"), Event("succeeded", i, 3.0))
    ]
    folded = []
    assert operations(lambda: folded.append(state.apply(events))) < 8 * n  # two for each event
    assert folded[0].counts[states.SUCCESS] == n


# -- of a fleet that tells only how tasks ended ----------------------------------------------------------------------


def skipped(root, *events):
    state = told(State.of(root, 0.0), *events)
    return {state.call(i).id for i in range(len(state)) if state.state(i) != states.SUCCESS and state.skipped(i)}


FAILED = (ValueError("no"), "Traceback …")


def ended(kind, *ids):
    return [(kind, task_id, 2.0, 0, FAILED if kind == "failed" else "revoked") for task_id in ids]


@pytest.mark.parametrize("kind", ["failed", "revoked"])
def test_what_ends_badly_behind_what_went_well_did_so_by_itself(kind):
    chain = Chain([add("a"), add("b"), add("c")])
    done = [("succeeded", "a", 1.0)]
    assert skipped(chain, *done, *ended(kind, "b", "c")) == {"c"}
    assert skipped(chain, *ended(kind, "a", "b", "c")) == {"b", "c"}
    deep = Chain([Fan("g", [Chain([add("m"), Fan("h", [add("n"), add("o")])]), add("p")]), Fan("e", []), add("z")])
    well = [("succeeded", task_id, 1.0) for task_id in "mnop"]
    assert skipped(deep, *well, *ended(kind, "z")) == set()
    assert skipped(deep, *well[:1], *well[2:], *ended(kind, "n", "z")) == {"z"}
    assert skipped(deep, *well[:3], *ended(kind, "z")) == {"p", "z"}  # p has not ended: nothing is known of either


def test_a_step_that_fails_behind_an_ignored_result_ran():
    chain = Chain([add("a"), add("b"), add("c")])
    assert skipped(chain, ("ignored", "a", 1.0), *ended("failed", "b", "c")) == {"c"}
    assert skipped(chain, ("ignored", "a", 1.0), *ended("revoked", "b", "c")) == {"b", "c"}
