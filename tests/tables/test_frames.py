"""Several runs in one table: `nbcanvas.frame`."""

import json
import subprocess
import sys

import pandas as pd
import pytest

import nbcanvas
from nbcanvas import group
from nbcanvas.tables import COLUMNS
from tests.tables.test_frame import TYPES

CATEGORIES = [name for name, kind in TYPES.items() if kind == "category"]


def types(df):
    return {name: str(dtype) for name, dtype in df.dtypes.items() if name in COLUMNS}


def test_runs_together_are_what_pandas_concat_makes_of_their_frames(tasks, done):
    one = done(group(tasks.add.s(i, i) for i in range(3)), name="one", stamps={"experiment": 1})
    two = done(tasks.echo.s("x"), name="two", stamps={"tags": ["a", "b"]})
    both = nbcanvas.frame([one, two])
    assert both.index.names == ["run", None]
    assert list(both.columns) == [*COLUMNS, "experiment", "tags"]
    expected = pd.concat({"one": one.frame(), "two": two.frame()}, names=["run"])
    plain = [column for column in COLUMNS if column not in CATEGORIES]
    pd.testing.assert_frame_equal(both[plain], expected[plain])
    pd.testing.assert_frame_equal(
        both[CATEGORIES].astype(object), expected[CATEGORIES].astype(object), check_categorical=False
    )
    assert types(both) == types(one.frame())  # categories stay categories
    assert both["experiment"].tolist() == [1, 1, 1, None] and both["tags"].tolist() == [None, None, None, ["a", "b"]]
    assert both["name"].cat.categories.tolist() == ["add", "echo"]
    assert both["state"].cat.categories.equals(one.frame()["state"].cat.categories)
    pd.testing.assert_frame_equal(both.loc["two"][list(COLUMNS)], two.frame()[list(COLUMNS)], check_categorical=False)
    assert both.groupby("run", observed=True).size().to_dict() == {"one": 3, "two": 1}


def test_what_runs_are_called(tasks, done):
    same = [done(tasks.echo.s(i), name="total") for i in range(3)]
    unnamed = done(tasks.echo.s(3))
    labels = nbcanvas.frame([*same, unnamed, same[0]]).index.get_level_values("run").tolist()
    assert labels == ["total", "total (2)", "total (3)", unnamed.id[:8], "total (4)"]
    odd = [done(tasks.echo.s(0), name="a (2)"), done(tasks.echo.s(0), name="a"), done(tasks.echo.s(0), name="a")]
    assert nbcanvas.frame(odd).index.get_level_values("run").tolist() == ["a (2)", "a", "a (3)"]
    assert nbcanvas.frame({"x": same[0], 2: same[1]}).index.get_level_values("run").tolist() == ["x", 2]


def test_any_iterable_and_one_run_alone(tasks, done):
    run = done(tasks.echo.s(1), name="one")
    listed = nbcanvas.frame([run])
    for given in (run, (run,), iter([run]), (one for one in [run]), {"one": run}):
        pd.testing.assert_frame_equal(nbcanvas.frame(given), listed)


def test_a_stamp_called_run(tasks, done):
    df = nbcanvas.frame([done(tasks.echo.s(1), name="one", stamps={"run": "mine"})])
    assert df["stamp_run"].tolist() == ["mine"]
    assert df.reset_index()["run"].tolist() == ["one"] and df.groupby("run").size().tolist() == [1]


def test_no_runs(tasks, done):
    empty = nbcanvas.frame([])
    some = nbcanvas.frame([done(tasks.echo.s(1))])
    assert len(empty) == 0 and empty.index.names == ["run", None]
    pd.testing.assert_series_equal(empty.dtypes.astype(str), some.dtypes.astype(str))
    pd.testing.assert_frame_equal(nbcanvas.frame({}), empty)
    nothing = nbcanvas.frame([done(group([])), done(tasks.echo.s(1), name="one")])
    assert len(nothing) == 1 and types(nothing) == types(some)


def test_options_are_those_of_a_frame(tasks, done):
    runs = [done(tasks.echo.s(i), name=f"r{i}", stamps={"tags": ["a", "b"]}) for i in range(2)]
    assert nbcanvas.frame(runs, stamps="explode")["tags"].tolist() == ["a", "b"] * 2
    assert nbcanvas.frame(runs, clocks=False)[["sent", "worker", "runtime"]].isna().all(axis=None)
    with pytest.raises(ValueError, match="sideways"):
        nbcanvas.frame(runs, stamps="sideways")


def test_a_run_that_goes_on(tasks, app):
    run = nbcanvas.submit(tasks.echo.s(1).set(countdown=60), name="later")
    df = nbcanvas.frame([run, run])
    assert df["state"].tolist() == ["SENT", "SENT"] and df["finished"].isna().all()
    run.cancel()


@pytest.mark.parametrize("wrong", [3, None, "total", [3], ["total"], {"x": None}, [nbcanvas.Run], nbcanvas.Run])
def test_what_is_no_run_is_named(wrong):
    with pytest.raises(TypeError, match=r"wanted.* (int|NoneType|str|type)"):
        nbcanvas.frame(wrong)


def test_the_package_has_it_without_pandas():
    program = "import nbcanvas, sys, json; nbcanvas.frame; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert {"pandas", "numpy"}.isdisjoint(json.loads(out.stdout))
