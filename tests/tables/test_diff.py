"""What is different between two runs."""

import numpy as np
import pandas as pd
import pytest

from nbcanvas import chain, chord, group
from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Fan
from nbcanvas.tables import diff, frame
from nbcanvas.tables.diff import CHANGES, DIFF_COLUMNS, same_value
from tests.costs import operations


class Timed:
    """A group of tasks, each as (state, runtime, result, worker, version)."""

    def __init__(self, **tasks):
        calls, events, self.results = [], [], {}
        for name, (state, runtime, result, worker, version) in tasks.items():
            calls.append(Call(f"id-{name}", name, None, version=version))
            self.results[f"id-{name}"] = result
            events.append(Event("started", f"id-{name}", 100.0, 0, worker))
            data = (result, "Traceback…") if state == "failed" else None
            events.append(Event(state, f"id-{name}", 100.0 + runtime, 0, data))
        self.state = State.of(Fan("g", calls), 0.0).apply(events)

    def frame(self, **options):
        return frame(
            self.state,
            value_of=lambda call: self.results[call.id],
            describe=lambda call: ((), {}, "celery", None),
            **options,
        )


def one(state="succeeded", runtime=1.0, result=1, worker="w@a/1", version="v1"):
    return state, runtime, result, worker, version


def changes(before, after, **options):
    found = diff(Timed(**before).frame(), Timed(**after).frame(), **options)
    return dict(zip(found["name"], found["changes"], strict=True))


def test_nothing_changed():
    run = Timed(a=one(), b=one("failed", result=ValueError("no")))
    found = diff(run.frame(), run.frame())
    assert found.empty and list(found.columns) == list(DIFF_COLUMNS)
    assert found.attrs["summary"] == "nothing changed in 2 tasks"
    whole = diff(run.frame(), run.frame(), unchanged=True)
    assert whole["changes"].tolist() == [[], []] and whole["ratio"].tolist() == [1.0, 1.0]
    pd.testing.assert_series_equal(found.dtypes, whole.dtypes)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (one(), one("failed", result=ValueError("no")), ["new failure"]),
        (one(), one("revoked"), ["new failure"]),
        (one("failed", result=ValueError("no")), one(), ["fixed"]),
        (one("failed", result=ValueError("a")), one("failed", result=ValueError("b")), ["other error"]),
        (one("failed", result=ValueError("a")), one("failed", result=ValueError("a")), None),
        (one(result=1), one(result=2), ["result"]),
        (one(version="v1"), one(version="v2"), ["code"]),
        (one(version=""), one(version="v2"), None),
        (one(runtime=1.0), one(runtime=1.5), ["slower"]),
        (one(runtime=1.0), one(runtime=1.49), None),
        (one(runtime=3.0), one(runtime=1.0), ["faster"]),
        (one(runtime=0.001), one(runtime=0.009), None),
        (one(worker="w@a/1"), one(worker="w@a/4"), None),
        (one(worker="w@a/1"), one(worker="w@b/1"), ["moved"]),
        (one(worker="w1"), one(worker="w2"), ["moved"]),
        (one(), one(result=5, version="v2", runtime=9, worker="w@b/1"), ["result", "code", "slower", "moved"]),
    ],
)
def test_what_changed(before, after, expected):
    assert changes({"t": before}, {"t": after}) == ({"t": expected} if expected else {})


def test_a_state_on_the_way():
    began = Timed(t=one("progress"))
    began.state = State.of(began.state.root, 0.0).apply([Event("started", "id-t", 1.0)])
    found = diff(began.frame(), Timed(t=one()).frame())
    assert found["changes"].tolist() == [["state"]]
    assert (found["state_before"][0], found["state_after"][0]) == ("STARTED", "SUCCESS")
    assert found["same_result"].isna().all()


def test_thresholds():
    before, after = {"t": one(runtime=1.0)}, {"t": one(runtime=1.2)}
    assert changes(before, after, slower=1.1) == {"t": ["slower"]}
    assert changes(before, after, slower=1.1, noise=0.5) == {}


def test_what_matters_most_comes_first():
    ok, bad = one(), one("failed", result=ValueError("no"))
    before = {"m": ok, "s1": ok, "s2": ok, "f": bad, "n": ok, "old": ok, "r": ok, "z": ok}
    after = {
        "m": one(worker="w@b/1"),
        "s1": one(runtime=2),
        "s2": one(runtime=5),
        "f": ok,
        "n": bad,
        "new": ok,
        "r": one(result=2),
        "z": ok,
    }
    # In a fan the path is the place: these are eight tasks in the same places.
    found = diff(Timed(**before).frame(), Timed(**after).frame())
    assert found["name"].tolist() == ["n", "f", "r", "old", "new", "s2", "s1", "m"]
    assert [CHANGES.index(row[0]) for row in found["changes"]] == sorted(CHANGES.index(r[0]) for r in found["changes"])
    assert found.attrs["summary"].splitlines() == [
        "8 of 9 tasks changed",
        "new failure: 1 (group[4])",
        "fixed: 1 (group[3])",
        "result: 1 (group[6])",
        "only before: 1 (group[5])",
        "only after: 1 (group[5])",
        "slower: 2 (group[1], group[2])",
        "moved: 1 (group[0])",
    ]


def test_columns_and_types():
    found = diff(Timed(a=one(), b=one()).frame(), Timed(a=one(runtime=2), c=one()).frame())
    assert {name: str(dtype) for name, dtype in found.dtypes.items() if str(dtype) != "object"} == {
        "same_result": "boolean",
        "runtime_before": "timedelta64[ns]",
        "runtime_after": "timedelta64[ns]",
        "ratio": "float64",
    }
    by_name = found.set_index("name")
    assert by_name.loc["a", "ratio"] == 2.0 and by_name.loc["a", "same_result"] == True  # noqa: E712 - a nullable boolean
    assert by_name.loc["a", "runtime_after"] == pd.Timedelta(seconds=2)
    gone, new = by_name.loc["b"], by_name.loc["c"]
    assert gone["state_after"] is None and gone["task_id_after"] is None and gone["state_before"] == "SUCCESS"
    assert new["state_before"] is None and pd.isna(new["runtime_before"]) and pd.isna(new["same_result"])


def test_without_clocks_only_what_stays_is_compared():
    before, after = Timed(t=one(runtime=1)), Timed(t=one(runtime=9, worker="w@b/1"))
    assert diff(before.frame(clocks=False), after.frame(clocks=False)).empty


def test_tasks_of_one_path_and_name_are_matched_in_their_order():
    run = Timed(a=one())
    twice = pd.concat([run.frame(), run.frame()], ignore_index=True)
    assert diff(twice, twice).empty
    assert diff(run.frame(), twice)["changes"].tolist() == [["only after"]]


def test_runs_of_one_canvas(app, tasks, done):
    broken = True

    @app.task(name="flaky")
    def flaky(x):
        if broken and x == 1:
            raise ValueError("broken")
        return x

    canvas = chord([flaky.s(i) for i in range(3)], tasks.tsum.s())
    before = done(canvas)
    broken = False
    after = done(canvas)
    found = before.diff(after, clocks=False)
    assert found["path"].tolist() == ["chord.header[1]", "chord.body"]
    assert found["changes"].tolist() == [["fixed"]] * 2
    assert after.diff(before)["changes"].tolist()[0] == ["new failure"]
    assert found["error_before"].map(type).tolist()[0] is ValueError and found["error_after"].tolist() == [None, None]
    assert found["result_after"].tolist() == [1, 3]


def test_changed_code(app, done):
    def define(source):
        names = {}
        exec(compile(source, "<cell>", "exec"), names)
        return app.task(name="t")(names["t"])

    before = done(define("def t(): return 1").s())
    define("def t(): return 1 + 1")
    after = done(app.tasks["t"].s())
    found = before.diff(after, clocks=False)
    assert "result" in found["changes"][0]
    assert ("code" in found["changes"][0]) == (found["version_before"][0] != found["version_after"][0])


def test_very_different_canvases(tasks, done):
    one = done(group(tasks.add.s(i, i) for i in range(3)))
    two = done(chain(tasks.add.s(1, 1), tasks.echo.s()))
    found = one.diff(two)
    assert sorted(changes[0] for changes in found["changes"]) == ["only after"] * 2 + ["only before"] * 3
    empty = done(group([]))
    assert one.diff(empty)["changes"].tolist() == [["only before"]] * 3
    assert empty.diff(one)["changes"].tolist() == [["only after"]] * 3
    assert empty.diff(empty).empty


def test_the_same_failure_is_no_other_error(tasks, done):
    canvas = chord([chord([tasks.fail.s(), tasks.add.s(1, 1)], tasks.tsum.s()), tasks.add.s(1, 1)], tasks.tsum.s())
    one, two = done(canvas), done(canvas)
    assert [str(error) for error in one.frame()["error"].dropna()] != [str(e) for e in two.frame()["error"].dropna()]
    assert one.diff(two, clocks=False).empty
    other = done(chord([chord([tasks.fail.s(2), tasks.add.s(1, 1)], tasks.tsum.s()), *canvas.tasks[1:]], canvas.body))
    assert one.diff(other, clocks=False)["changes"].tolist() == [["other error"]] * 3


def test_errors_that_do_not_compare(app, done):
    @app.task(name="odd")
    def odd(text):
        raise OddError(text)

    one = done(odd.s("a"))
    assert one.diff(done(odd.s("a")), clocks=False).empty
    assert one.diff(done(odd.s("b")), clocks=False)["changes"].tolist() == [["other error"]]


@pytest.mark.parametrize("slower", [0, 1, -2.0, float("nan"), "2", True, None])
def test_a_ratio_that_is_none(tasks, done, slower):
    run = done(tasks.add.s(1, 1))
    with pytest.raises(ValueError, match="slower is the ratio of runtimes from which"):
        run.diff(run, slower=slower)


def test_only_runs_are_compared(tasks, done):
    with pytest.raises(TypeError, match="int"):
        done(tasks.add.s(1, 1)).diff(3)


class OddError(Exception):
    def __eq__(self, other):
        raise RuntimeError("I do not compare")

    __hash__ = None


class Odd:
    def __eq__(self, other):
        raise RuntimeError("I do not compare")

    __hash__ = None


class Plain:
    def __init__(self, x):
        self.x = x


NAN = float("nan")


SAME = [
    (1, 1, True),
    (1, 2, False),
    (1, 1.0, True),
    (NAN, NAN, True),
    ([1, NAN], [1, NAN], True),
    ("a", None, False),
    (np.array([1.0, NAN]), np.array([1.0, NAN]), True),
    (np.arange(3), np.arange(4), False),
    (np.arange(3), np.arange(3.0), False),
    (np.arange(3), [0, 1, 2], False),
    ({"a": np.arange(3)}, {"a": np.arange(3)}, True),
    ({"a": np.arange(3)}, {"b": np.arange(3)}, False),
    ([np.arange(2), 1], [np.arange(2), 2], False),
    (pd.DataFrame({"a": [1, NAN]}), pd.DataFrame({"a": [1, NAN]}), True),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]}), False),
    (pd.DataFrame({"a": [1]}), 1, False),
    (pd.Series([1]), pd.Series([1]), True),
    (np.array([[1], None], dtype=object), np.array([[1], None], dtype=object), True),
    (Plain(1), Plain(1), True),
    (Plain(1), Plain(2), None),
    (Odd(), Odd(), None),
    ([Odd(), 1], [Odd(), 2], False),
    ([Odd(), 1], [Odd(), 1], None),
    (lambda: 1, lambda: 2, None),
    (np.float64(NAN), np.float64(NAN), True),
    (np.datetime64("NaT"), np.datetime64("NaT"), True),
    (pd.NA, pd.NA, True),
    (pd.NaT, pd.NaT, True),
]


@pytest.mark.parametrize(("one", "two", "expected"), SAME, ids=range(len(SAME)))
def test_the_same_value(one, two, expected):
    assert same_value(one, two) is expected


@pytest.mark.slow
def test_many_rows_cost_little_each():
    def wide(n, shift):
        calls = [Call(f"t{i}", "add", None) for i in range(n)]
        events = [e for c in calls for e in (("started", c.id, 1.0, 0, "w@a/1"), ("succeeded", c.id, 2.0 + shift))]
        state = State.of(Fan("g", calls), 0.0).apply([Event(*event) for event in events])
        return frame(state, value_of=lambda c: [c.id, shift], describe=lambda c: ((), {}, "celery", None))

    before, after = wide(20_000, 0.0), wide(20_000, 1.0)
    made = []
    assert operations(lambda: made.append(diff(before, after))) < 35 * 20_000
    (found,) = made
    assert len(found) == 20_000 and found["changes"][0] == ["result", "slower"]
