"""What a run produced, as one DataFrame; the oracle is pandas itself."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from nbcanvas import chain, chord, group, submit


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Fit:
    slope: float
    name: str


def paths(*names):
    return pd.Index(names, name="path", dtype=object)


def group_paths(count):
    return paths(*(f"group[{i}]" for i in range(count)))


@pytest.fixture
def values(tasks, done):
    """Return a function: the table of a group whose tasks return these values."""
    return lambda *given: done(group(tasks.echo.s(one) for one in given)).values()


def same(found, expected):
    pd.testing.assert_frame_equal(found, expected, check_column_type=False, check_index_type=False)


def test_scalars_are_a_column(values):
    for given in (
        [1, 2, 3],
        [1.5, 2.0],
        [True, False],
        [1, 2.5],
        ["a", "b"],
        [None, 1],
        [pd.Timestamp("2030"), pd.NaT],
    ):
        same(values(*given), pd.DataFrame({"value": given}, index=group_paths(len(given))))
    assert values(1, "a")["value"].tolist() == [1, "a"]


def test_dicts_are_rows(values):
    given = [{"a": 1, "b": "x"}, {"b": "y", "a": 2}, {"c": 0.5}]
    same(values(*given), pd.DataFrame(given, index=group_paths(3)))
    same(values(*given[:2]), pd.DataFrame(given[:2], index=group_paths(2)))
    assert values(*given[:2]).dtypes["a"] == np.int64
    nested = values({"a": [1, 2]}, {"a": {"b": 1}})
    assert nested["a"].tolist() == [[1, 2], {"b": 1}]
    assert values({}, {}).shape == (2, 0)


def test_named_tuples_and_dataclasses_are_rows(values):
    same(values(Point(1, 2), Point(3, 4)), pd.DataFrame([Point(1, 2), Point(3, 4)], index=group_paths(2)))
    same(values(Fit(0.5, "a"), Fit(1.5, "b")), pd.DataFrame([Fit(0.5, "a"), Fit(1.5, "b")], index=group_paths(2)))


def test_series_are_rows_like_in_pandas(values):
    given = [pd.Series({"mean": 1.0, "std": 2.0}), pd.Series({"mean": 3.0, "n": 4.0})]
    expected = pd.DataFrame(given)[["mean", "std", "n"]].set_axis(group_paths(2))
    same(values(*given), expected)


def test_series_whose_labels_repeat_are_their_items(values):
    given = [pd.Series([1, 2], index=["a", "a"]), pd.Series([3], index=["b"], name="value")]
    df = values(*given[:1])
    same(df, pd.concat([given[0].to_frame("value")], keys=["group[0]"], names=["path", None]))


def test_frames_stand_below_their_path(values):
    given = [pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), pd.DataFrame({"a": [3], "b": [2.5]})]
    same(values(*given), pd.concat(given, keys=["group[0]", "group[1]"], names=["path", None]))
    dated = [one.set_axis(pd.date_range("2030", periods=len(one), name="day")) for one in given]
    df = values(*dated)
    assert df.index.names == ["path", "day"]
    same(df, pd.concat(dated, keys=["group[0]", "group[1]"], names=["path", "day"]))
    deep = [one.set_index("b", append=True) for one in given]
    same(values(*deep), pd.concat(deep, keys=["group[0]", "group[1]"], names=["path", None, "b"]))


def test_frames_whose_indexes_differ(values):
    flat, deep = pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]}, index=pd.MultiIndex.from_tuples([("x", "y")]))
    df = values(flat, deep)
    assert df.index.tolist() == [("group[0]", 0), ("group[1]", ("x", "y"))] and df["a"].tolist() == [1, 2]


def test_everything_else_is_one_cell(values):
    given = [[1, 2], np.arange(3), (1, 2), {1}, None, 5, b"x", pd.Index([1])]
    df = values(*given)
    assert list(df.columns) == ["value"] and len(df) == len(given)
    assert [type(cell) for cell in df["value"]] == [type(one) for one in given]


def test_all_of_it_mixed(values):
    df = values(pd.DataFrame({"a": [1, 2]}), {"a": 3, "b": "x"}, 4, None, pd.Series({"b": "y"}))
    assert df.index.tolist() == [
        ("group[0]", 0),
        ("group[0]", 1),
        ("group[1]", 0),
        ("group[2]", 0),
        ("group[3]", 0),
        ("group[4]", 0),
    ]
    assert df["a"].tolist()[:3] == [1, 2, 3] and df["b"].dropna().tolist() == ["x", "y"]
    assert df["value"].dropna().tolist() == [4]


def test_maps_and_chunks_have_a_row_for_each_item(app, tasks, done):
    squares = app.task(lambda x: {"x": x, "square": x * x}, name="squares")
    mapped = done(squares.map([1, 2, 3])).values()
    same(
        mapped,
        pd.DataFrame(
            {"x": [1, 2, 3], "square": [1, 4, 9]},
            index=pd.MultiIndex.from_product([[""], range(3)], names=["path", None]),
        ),
    )
    chunks = done(tasks.add.chunks(zip(range(5), range(5), strict=True), 2).group()).values()
    assert chunks["value"].tolist() == [0, 2, 4, 6, 8]
    assert chunks.index.tolist() == [
        ("group[0]", 0),
        ("group[0]", 1),
        ("group[1]", 0),
        ("group[1]", 1),
        ("group[2]", 0),
    ]
    tables = done(app.task(lambda n: pd.DataFrame({"a": range(n)}), name="tables").map([1, 2])).values()
    assert tables.shape == (1, 1)


# -- which values ----------------------------------------------------------------------------------------------------


def produced(run):
    return dict(zip(run.values().index, run.values()["value"], strict=True))


def test_good_parts_though_some_failed(tasks, done):
    run = done(group(tasks.add.s(1, 1), tasks.fail.s(), tasks.add.s(2, 2)))
    assert produced(run) == {"group[0]": 2, "group[2]": 4}
    assert run.values()["value"].dtype == np.int64


def test_a_chord_is_its_body_and_without_one_its_header(tasks, done):
    good = done(chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.tsum.s()))
    assert produced(good) == {"chord.body": 6}
    header = done(chord([tasks.add.s(1, 1), tasks.fail.s()], tasks.tsum.s()))
    assert produced(header) == {"chord.header[0]": 2}
    body = done(chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.fail.s()))
    assert produced(body) == {"chord.header[0]": 2, "chord.header[1]": 4}


def test_a_chain_is_its_last_step_that_has_a_value(tasks, done):
    assert produced(done(chain(tasks.add.s(1, 1), tasks.add.s(1), tasks.add.s(1)))) == {"chain[2]": 4}
    assert produced(done(chain(tasks.add.s(1, 1), tasks.add.s(1), tasks.fail.s()))) == {"chain[1]": 3}
    assert produced(done(chain(tasks.add.s(1, 1), group(tasks.add.s(1), tasks.fail.s())))) == {"chain[1].group[0]": 3}


def test_nested_groups_and_one_task_and_nothing(tasks, done):
    nested = done(group(tasks.add.s(0, 0), group(tasks.add.s(1, 1), group(tasks.add.s(2, 2), tasks.fail.s()))))
    assert sorted(produced(nested).values()) == [0, 2, 4]
    assert produced(done(tasks.add.s(1, 1))) == {"": 2}
    for nothing in (done(tasks.fail.s()), done(group([]))):
        assert nothing.values().empty and list(nothing.values().columns) == ["value"]
        assert nothing.values().index.name == "path"


def test_what_is_linked_is_no_part_of_the_value(tasks, done):
    sig = tasks.add.s(1, 1)
    sig.link(tasks.add.s(10))
    assert produced(done(sig)) == {"": 2}


def test_a_replaced_task_is_what_it_was_replaced_by(app, tasks, done):
    @app.task(bind=True)
    def fan_out(self, n):
        raise self.replace(group(tasks.add.s(i, i) for i in range(n)))

    @app.task(bind=True)
    def go_on(self, n):
        raise self.replace(tasks.add.s(n, n) | tasks.add.s(100))

    run = done(group(fan_out.s(3), go_on.s(1), tasks.add.s(7, 7)))
    assert produced(run) == {"group[0]": [0, 2, 4], "group[1]": 102, "group[2]": 14}
    assert run.values()["value"].tolist() == run.get(timeout=30)
    assert produced(done(fan_out.s(3) | tasks.tsum.s())) == {"chain[1]": 6}


def _flat(value):
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [value]


def test_during_a_run(app, tasks):
    run = submit(chord([tasks.add.s(1, 1), tasks.add.s(2, 2).set(countdown=60)], tasks.tsum.s()))
    run.result.parent[0].get(timeout=30)
    assert produced(run) == {"chord.header[0]": 2}
    run.cancel()


def test_values_agree_with_get(tasks, done):
    for canvas in (
        group(tasks.add.s(i, i) for i in range(5)),
        chain(tasks.add.s(1, 1), group(tasks.add.s(i) for i in range(3))),
        group(chord([tasks.add.s(1, 1)] * 2, tasks.tsum.s()), tasks.add.s(5, 5) | tasks.add.s(1)),
    ):
        run = done(canvas)
        assert run.values()["value"].tolist() == _flat(run.get(timeout=30))


def test_very_deep_canvases(tasks, done):
    sig = tasks.add.s(1, 1)
    for _ in range(300):
        sig = group(sig, tasks.add.s(0, 0)) | tasks.tsum.s()
    assert done(sig).values()["value"].tolist() == [2]
