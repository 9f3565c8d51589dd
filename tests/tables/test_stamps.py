"""Stamps as columns of a run's frame, a row for each of their values, and what a visitor will stamp."""

import itertools
import threading
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest

from nbcanvas import StampingVisitor, chord, group, signature
from nbcanvas.errors import NotAVisitor, NotSerializable
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Fan
from nbcanvas.tables import COLUMNS, frame


def table(*stamps, how="columns"):
    """Return the frame of calls that bear these stamps."""
    root = Fan("g", [Call(f"t{i}", "add", None, stamps=one) for i, one in enumerate(stamps)])
    return frame(State.of(root, 0.0), value_of=lambda c: None, describe=lambda c: ((), {}, None, None), stamps=how)


def stamp_names(df):
    return list(df.columns[len(COLUMNS) :])


def test_a_column_for_each_stamp_in_the_order_in_which_they_appear():
    df = table({"experiment": 42, "tags": ["x", "y"]}, {"late": 1, "tags": {"q", "p"}}, None, {"tags": ("t",)})
    assert stamp_names(df) == ["experiment", "tags", "late"]
    assert df["experiment"].tolist() == [42, None, None, None]
    assert df["tags"].tolist() == [["x", "y"], ["p", "q"], None, ["t"]]  # lists, in an order that stays


@pytest.mark.parametrize("order", list(itertools.permutations([{"state": 1}, {"stamp_state": 2}, {"plain": 3}])))
def test_a_stamp_that_is_named_like_a_column_has_one_name_whatever_else_is_stamped(order):
    df = table(*order)
    assert sorted(stamp_names(df)) == ["plain", "stamp_stamp_state", "stamp_state"]
    assert df["state"].tolist() == ["WAITING"] * 3
    assert df["stamp_state"].dropna().tolist() == [1]
    assert df["stamp_stamp_state"].dropna().tolist() == [2]
    assert stamp_names(table({"stamp_state": 2})) == ["stamp_stamp_state"]


@pytest.mark.parametrize("column", COLUMNS)
def test_no_stamp_takes_the_place_of_a_column(column):
    df = table({column: "mine"})
    assert df.columns.is_unique and tuple(df.columns[: len(COLUMNS)]) == COLUMNS
    assert df[f"stamp_{column}"].tolist() == ["mine"]


def test_names_that_are_no_texts():
    df = table({1: "one", None: "none", ("a", 2): "pair", "1": "text"})
    assert df.columns.is_unique
    assert stamp_names(df) == ["1", "None", "('a', 2)", "stamp_1"]
    assert df.iloc[0, len(COLUMNS) :].tolist() == ["one", "none", "pair", "text"]


def test_a_name_or_a_value_of_five_megabytes():
    long = "<b>" * 1_700_000
    df = table({long: 1, long + "2": 2, "big": long})
    assert df.columns.is_unique and all(len(name) <= 210 for name in df.columns)
    assert df["big"][0] is long
    assert len(df._repr_html_()) < 100_000 and len(repr(df)) < 100_000
    assert "<b>" not in df._repr_html_() and "&lt;b&gt;" in df._repr_html_()


@pytest.mark.parametrize("value", [threading.Lock(), lambda: 1, object(), np.arange(3), pd.Series([1]), {"a": [1]}, ""])
@pytest.mark.parametrize("how", ["columns", "explode"])
def test_any_value_of_a_stamp_is_one_cell(value, how):
    df = table({"odd": value}, None, how=how)
    assert df["odd"][0] is value and df["odd"][1] is None and len(df) == 2


def test_a_stamp_that_does_not_travel_is_refused_and_named(tasks, done):
    with pytest.raises(NotSerializable, match=r"the stamp 'lock' is .*lock.* does not travel"):
        done(tasks.add.s(1, 1), stamps={"lock": threading.Lock()})
    sig = tasks.add.s(1, 1)
    sig.link(tasks.echo.s())
    for refused in (sig.stamp, sig.stamp_preview):
        with pytest.raises(NotSerializable, match="the stamp 'lock'"):
            refused(lock=[threading.Lock()])


def test_a_stamp_that_only_lives_in_this_process(tasks, done):
    run = done(group(tasks.add.s(1, 1), tasks.add.s(2, 2)), stamps={"how": len})
    assert run.frame()["how"].tolist() == [len, len]


LISTS = [
    {"tags": ["x", "y"], "n": 1},
    {"tags": "text", "n": [1, 2, 3]},
    {"tags": ["a", "b"], "n": [7, 8]},
    {"tags": [["in", "side"], "out"]},
    {"n": None},
    {"tags": []},
    None,
]


def test_explode_is_the_explode_of_pandas_column_by_column():
    plain, exploded = table(*LISTS), table(*LISTS, how="explode")
    expected = plain.explode("tags", ignore_index=True).explode("n", ignore_index=True)
    # Only that an empty list is None here, and NaN there.
    expected = expected.astype({"tags": object, "n": object})
    expected[["tags", "n"]] = expected[["tags", "n"]].where(expected[["tags", "n"]].notna(), None)
    pd.testing.assert_frame_equal(exploded, expected)
    assert exploded["task_id"].tolist() == ["t0", "t0", *["t1"] * 3, *["t2"] * 4, "t3", "t3", "t4", "t5", "t6"]
    assert exploded["tags"].tolist()[9] == ["in", "side"]  # one level
    assert exploded["tags"].tolist()[-2:] == [None, None]


def test_explode_of_sets_and_tuples_and_of_nothing():
    df = table({"s": {"b", "a"}, "t": (1, 2)}, how="explode")
    assert list(zip(df["s"], df["t"], strict=True)) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    pd.testing.assert_frame_equal(table(None, how="explode"), table(None))
    pd.testing.assert_frame_equal(table(how="explode"), table())


def test_explode_keeps_types():
    before, after = table(*LISTS), table(*LISTS, how="explode")
    pd.testing.assert_series_equal(before.dtypes, after.dtypes)
    assert after.index.equals(pd.RangeIndex(len(after)))


# -- what a visitor will stamp ---------------------------------------------------------------------------------------


class InGroup(StampingVisitor):
    """Numbers signatures, and says of each whether it stands in a group."""

    def __init__(self):
        self.count = 0

    def on_group_start(self, group, **headers):
        return {"in_group": [group.id or "g"], "stamped_headers": ["in_group"]}

    def on_signature(self, sig, **headers):
        self.count += 1
        return {"number": self.count}

    def on_callback(self, callback, **headers):
        return {"linked": True}


def test_a_preview_is_what_the_frame_will_say(tasks, done):
    canvas = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.tsum.s()) | tasks.echo.s()
    canvas.tasks[-1].link(tasks.echo.s())
    before, visitor = deepcopy(dict(canvas)), InGroup()
    preview = canvas.stamp_preview(visitor, experiment=42)
    assert dict(canvas) == before and visitor.count == 0
    df = done(canvas, visitor=visitor, stamps={"experiment": 42}).frame()
    stamps = list(df.columns[len(COLUMNS) :])
    assert set(stamps) == {"in_group", "number", "experiment", "linked"}
    columns = ["path", "name", *sorted(stamps)]
    pd.testing.assert_frame_equal(preview[columns], df[columns])
    assert preview["role"].tolist() == ["", "", "link", "", ""]


def test_a_preview_without_a_visitor_and_of_a_canvas_that_cannot_travel(tasks):
    df = tasks.echo.s(threading.Lock()).stamp_preview(experiment=[1, 2])
    assert df.to_dict("records") == [{"path": "", "name": "echo", "role": "", "experiment": [1, 2]}]
    assert list(tasks.add.s().stamp_preview().columns) == ["path", "name", "role"]
    assert group([]).stamp_preview(a=1).empty


def test_a_preview_adds_to_the_stamps_that_are_there(tasks):
    sig = tasks.add.s(1, 1)
    sig.stamp(tag="old")
    assert sig.stamp_preview(append_stamps=True, tag="new")["tag"].tolist() == [["new", "old"]]
    assert sig.stamp_preview(tag="new")["tag"].tolist() == ["new"]
    assert sig.options["tag"] == "old"


def test_a_visitor_that_cannot_be_copied_visits_itself(tasks):
    class Locked(InGroup):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    visitor = Locked()
    assert tasks.add.s(1, 1).stamp_preview(visitor)["number"].tolist() == [1] and visitor.count == 1


def test_a_preview_wants_a_visitor(tasks):
    with pytest.raises(NotAVisitor, match=r"InGroup\(\)"):
        tasks.add.s(1, 1).stamp_preview(InGroup)


def test_a_preview_does_not_need_the_tasks(tasks):
    df = group(signature("nobody.knows", args=(i,)) for i in range(3)).stamp_preview(InGroup())
    assert df["number"].tolist() == [1, 2, 3] and df["name"].tolist() == ["nobody.knows"] * 3
