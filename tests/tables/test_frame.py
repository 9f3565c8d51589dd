"""A run as a DataFrame."""

import math

import numpy as np
import pandas as pd
import pytest

from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan
from nbcanvas.tables import COLUMNS, frame
from tests.costs import operations

TYPES = {
    "name": "category",
    "state": "category",
    "worker": "category",
    "queue": "category",
    "retries": "Int64",
    "index": "Int64",
    "depth": "Int64",
    "sent": "datetime64[ns, UTC]",
    "received": "datetime64[ns, UTC]",
    "started": "datetime64[ns, UTC]",
    "finished": "datetime64[ns, UTC]",
    "wait": "timedelta64[ns]",
    "runtime": "timedelta64[ns]",
}


def call(task_id, task="add", **kwargs):
    return Call(task_id, task, None, **kwargs)


def chord(n=3, **kwargs):
    return Chain([Fan("g", [call(f"m{i}", group_id="g", index=i, **kwargs) for i in range(n)]), call("body", "tsum")])


def table(state, **options):
    return frame(
        state,
        value_of=options.pop("value_of", lambda c: f"value of {c.id}"),
        describe=lambda c: ((1, 2), {"z": 3}, "celery", "parent"),
        **options,
    )


def told(root, *events):
    return State.of(root, 0.0).apply([Event(*event) for event in events])


def test_columns_and_types_before_during_and_after_a_run():
    before = table(State.of(chord(), 0.0))
    after = table(told(chord(), *(("succeeded", f"m{i}", 3.0) for i in range(3)), ("succeeded", "body", 4.0)))
    empty = table(State.of(Fan("g", []), 0.0))
    for df in (before, after, empty):
        assert tuple(df.columns) == COLUMNS
        assert {name: str(dtype) for name, dtype in df.dtypes.items()} == {**dict.fromkeys(COLUMNS, "object"), **TYPES}
    assert len(empty) == 0
    assert list(before["state"]) == ["WAITING"] * 4


def test_a_row_says_what_is_known():
    error = ValueError("no")
    df = table(
        told(
            chord(),
            ("sent", "m0", 1_700_000_000.25),
            ("started", "m0", 1_700_000_001.5, 0, "embedded/1"),
            ("succeeded", "m0", 1_700_000_003.0),
            ("failed", "m1", 5.0, 0, (error, "Traceback…")),
            ("retried", "m2", 6.0, 0, (error, None)),
        ),
        root_id="root",
    )
    row = df.iloc[0]
    assert row["sent"] == pd.Timestamp(1_700_000_000_250_000_000, tz="UTC")
    assert (row["wait"], row["runtime"]) == (pd.Timedelta(seconds=1.25), pd.Timedelta(seconds=1.5))
    assert (row["task_id"], row["name"], row["path"], row["state"]) == ("m0", "add", "chord.header[0]", "SUCCESS")
    assert (row["args"], row["kwargs"], row["result"], row["queue"]) == ((1, 2), {"z": 3}, "value of m0", "celery")
    assert (row["worker"], row["group_id"], row["index"], row["depth"]) == ("embedded/1", "g", 0, 1)
    assert (row["parent_id"], row["root_id"]) == ("parent", "root")
    assert df["error"].tolist() == [None, error, error, None]
    assert df["traceback"].tolist() == [None, "Traceback…", None, None]
    assert df["retries"].tolist() == [0, 0, 1, 0]
    assert df["result"].tolist() == ["value of m0", None, None, None]
    assert df["started"].isna().tolist() == [False, True, True, True]
    assert df["path"].tolist()[-1] == "chord.body"


def test_times_do_not_run_backwards():
    df = table(told(call("x"), ("sent", "x", 3.0), ("started", "x", 2.0, 0, "w"), ("succeeded", "x", 1.0)))
    assert (df["wait"][0], df["runtime"][0]) == (pd.Timedelta(0), pd.Timedelta(0))


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3),
        pd.Series([1, 2]),
        pd.DataFrame({"a": [1]}),
        [1, 2],
        (1, 2),
        {},
        math.nan,
    ],
)
def test_any_value_is_one_cell(value):
    df = table(told(chord(2), *(("succeeded", i, 1.0) for i in ("m0", "m1", "body"))), value_of=lambda _: value)
    assert all(cell is value for cell in df["result"])


def test_received_is_when_a_worker_took_it():
    df = table(
        told(
            chord(4),
            ("started", "m0", 5.0, 0, "w"),
            ("received", "m1", 2.0, 0, {"due": 9.0}),
            ("started", "m1", 9.0, 0, "w"),
            ("received", "m2", 3.0),
        )
    )
    at = [pd.Timestamp(seconds, unit="s", tz="UTC") for seconds in (5, 2, 3)]
    assert df["received"].tolist()[:3] == at
    assert df["received"].isna().tolist() == [False, False, False, True, True]


def test_each_call_is_described_once_and_only_successes_are_fetched():
    described, fetched = [], []
    frame(
        told(chord(), ("succeeded", "m1", 1.0)),
        value_of=lambda c: fetched.append(c.id),
        describe=lambda c: described.append(c.id) or ((), {}, None, None),
    )
    assert described == ["m0", "m1", "m2", "body"]
    assert fetched == ["m1"]


def test_canvas_order_with_what_was_grafted():
    root = Chain([call("x"), call("y")])
    replacement = Chain([call("r", nesting=1), call("x", "mul", nesting=1)])
    df = table(
        told(
            root,
            ("grafted", "y", 2.0, 0, (call("c"), "child")),
            ("grafted", "x", 3.0, 0, (replacement, "replacement")),
            ("succeeded", "r", 4.0, 1 << 20),
        )
    )
    assert df["task_id"].tolist() == ["r", "x", "y", "c"]
    assert df["state"].tolist() == ["SUCCESS", "WAITING", "WAITING", "WAITING"]
    assert df["name"].tolist() == ["add", "mul", "add", "add"]


def test_links_have_a_row_once_they_start():
    root = call("x", links=(call("l"),), errbacks=(call("e"),))
    assert table(State.of(root, 0.0))["task_id"].tolist() == ["x"]
    assert table(told(root, ("succeeded", "x", 1.0)))["task_id"].tolist() == ["x", "l"]


def test_a_word_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="sideways"):
        table(State.of(chord(), 0.0), stamps="sideways")


@pytest.mark.slow
def test_many_rows_cost_little_each():
    state = told(chord(20_000), *(("succeeded", f"m{i}", 1.0) for i in range(20_000)))
    made = []

    def make():
        made.append(frame(state, value_of=lambda _: 4, describe=lambda _: ((1, 2), {}, "celery", None)))

    assert operations(make) < 20 * 20_000
    assert len(made[0]) == 20_001


def test_without_clocks_equal_runs_give_equal_frames():
    def run(at, worker):
        events = (("sent", "m0", at), ("started", "m0", at + 1, 0, worker), ("succeeded", "m0", at + 3 * at))
        return table(told(chord(), *events), clocks=False)

    first, second = run(10.0, "one@a/1"), run(20.0, "two@b/7")
    pd.testing.assert_frame_equal(first, second)
    assert {name: str(dtype) for name, dtype in first.dtypes.items()} == {**dict.fromkeys(COLUMNS, "object"), **TYPES}
    assert first[["worker", "sent", "started", "finished", "wait", "runtime"]].isna().all(axis=None)
    assert first["state"][0] == "SUCCESS"
