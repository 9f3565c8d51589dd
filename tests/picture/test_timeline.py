"""``run.timeline()``: lanes, waiting, attempts, the critical path."""

import random
import xml.etree.ElementTree as ET

import pytest

from nbcanvas.picture import timeline_picture
from nbcanvas.picture.critical import critical_path
from nbcanvas.plan import Chain, Fan
from tests.picture.runs import call, chord, ran, told

NS = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(NS + "text")]


def bars(svg):
    """The bars by what they are: name, state and duration, with their place."""
    found = {}
    for group in ET.fromstring(svg).iter(NS + "g"):
        title = group.find(NS + "title")
        if title is not None:
            rect = group.find(NS + "rect")
            found.setdefault(title.text, []).append(
                (float(rect.get("x")), float(rect.get("y")), float(rect.get("width")))
            )
    return found


def path(state, now=999.0):
    return [state.call(row).id for row in critical_path(state, now)]


def test_a_lane_a_slot_and_a_bar_a_task():
    root = Fan("g", [call("a"), call("b"), call("c")])
    state = told(root, *ran("a", 101, 103, "w/2"), *ran("b", 101, 102, "w/10"), *ran("c", 103, 105, "w/2"))
    picture = timeline_picture(state, 999.0)
    lanes = [text for text in texts(picture.svg) if text.startswith("w/")]
    assert lanes == ["w/2", "w/10"]  # as a person counts
    (first, third), (second,) = bars(picture.svg)["add succeeded, 2.0 s"], bars(picture.svg)["add succeeded, 1.0 s"]
    assert first[1] == third[1] != second[1]
    assert first[2] == pytest.approx(2 * second[2], abs=0.2)
    assert third[0] - first[0] == pytest.approx(first[2], abs=0.2)
    assert picture.alt == (
        "Timeline of 3 tasks on 2 worker slots, 5.0 s: 3 succeeded; 5.0 s of work in all, slots busy 50%; tasks waited "
        "1.7 s for a slot on average. Critical path: add, 2.0 s of work and 3.0 s of waiting."
    )
    assert picture.text.splitlines()[1].startswith("w/2   ·")
    assert picture.text.endswith("1 task, 1.0 s")


def test_a_worker_that_does_not_tell_its_slots_has_as_many_lanes_as_were_busy_at_once():
    root = Fan("g", [call(name) for name in "abcde"])
    runs = {"a": (101, 104), "b": (101, 102), "c": (102, 103), "d": (103, 105), "e": (104, 105)}
    worker = "celery@some-long-host.lan"
    state = told(root, *(event for name, times in runs.items() for event in ran(name, *times, worker)))
    picture = timeline_picture(state, 999.0)
    lanes = [text for text in texts(picture.svg) if text.startswith("celery@")]
    assert lanes == ["celery@some-long-host…/1", "celery@some-long-host…/2"]
    assert "on 2 worker slots, 5.0 s: 5 succeeded; 8.0 s of work in all, slots busy 80%" in picture.alt
    assert [line.rsplit("  ", 1)[1] for line in picture.text.splitlines()[1:]] == ["3 tasks, 4.0 s", "2 tasks, 4.0 s"]
    places = sorted((x, y) for found in bars(picture.svg).values() for x, y, _ in found)
    assert len({y for _, y in places}) == 2
    assert len(set(places)) == 5  # nothing lies upon another


def test_what_waits_is_apart_from_what_runs():
    root = Fan("g", [call(f"m{i}") for i in range(8)])
    state = told(root, *(("sent", f"m{i}", 100.0) for i in range(8)), ("started", "m0", 100.0, 0, "w/1"))
    said = texts(timeline_picture(state, 104.0).svg)
    assert {"waiting", "most 7", "busy", "100%"} <= set(said)
    assert "7 not started" in timeline_picture(state, 104.0).alt


def test_what_succeeded_at_times_nobody_knows_is_counted_apart():
    root = Fan("g", [call(f"m{i}") for i in range(8)])
    results = [("succeeded", f"m{i}", 101.0) for i in range(2, 5)]  # a killed kernel told no more than its results
    said = timeline_picture(told(root, *ran("m0", 100, 101), *ran("m1", 100, 101), *results), 104.0).alt
    assert said.startswith("Timeline of 2 tasks")
    assert "2 succeeded; " in said
    assert "; 3 succeeded at times nobody knows; 3 not started" in said
    assert "nobody knows when (3 succeeded, 5 waiting)" in timeline_picture(told(root, *results), 104.0).alt


def test_a_task_that_is_not_due_does_not_wait_for_a_slot():
    state = told(call("a"), ("sent", "a", 100.0, 0, {"due": 103.0, "queue": "q"}), ("started", "a", 103.5, 0, "w"))
    assert "tasks waited 500 ms for a slot on average" in timeline_picture(state, 104.0).alt


def test_bars_of_what_runs_go_on_until_now_and_say_how_far_they_are():
    state = told(
        call("a"),
        ("started", "a", 101.0, 0, "w"),
        ("progress", "a", 102.0, 0, ("PROGRESS", {"current": 1, "total": 4})),
    )
    for now in (103.0, 109.0):
        svg = timeline_picture(state, now).svg
        ((_, _, wide),) = bars(svg)[f"add running, {now - 101:.1f} s"]
        assert wide == pytest.approx(760 * (now - 101) / (now - 100), abs=2)
        assert "▶ add 25%" in texts(svg)
        assert 'stroke-dasharray="4 2"' in svg


def test_earlier_attempts_have_bars():
    error = (ValueError(), 103.0)
    state = told(
        call("a"),
        ("started", "a", 101.0, 0, "w/1"),
        ("retried", "a", 102.0, 0, error),
        ("sent", "a", 102.0, 1),
        ("started", "a", 103.0, 1, "w/2"),
        ("succeeded", "a", 105.0, 1),
    )
    picture = timeline_picture(state, 999.0)
    assert set(bars(picture.svg)) == {"add retried, 1.0 s", "add succeeded, 2.0 s"}
    assert "1 succeeded, 1 retried" in picture.alt
    assert "Timeline of 1 task on" in picture.alt


def test_a_state_is_told_by_hatch_glyph_and_words():
    state = told(
        Fan("g", [call("a"), call("b")]),
        ("started", "a", 100.0, 0, "w/1"),
        ("failed", "a", 105.0, 0, (ValueError(), "tb")),
        *ran("b", 100, 105, "w/2"),
    )
    svg = timeline_picture(state, 999.0).svg
    assert {"✗ add", "✓ add", "1 failed", "1 succeeded"} <= set(texts(svg))
    assert svg.count('id="nbc-failure"') == svg.count("url(#nbc-failure)") == 1
    assert "nbc-success" not in svg


# -- the critical path ------------------------------------------------------------------------------------------------


def test_the_last_of_what_was_waited_for_is_critical():
    state = told(chord(3), *ran("m0", 100, 101), *ran("m1", 100, 104), *ran("m2", 100, 103), *ran("body", 104, 105))
    assert path(state) == ["m1", "body"]
    picture = timeline_picture(state, 999.0)
    assert "Critical path: add → tsum, 5.0 s of work." in picture.alt
    assert "critical path 5.0 s" in texts(picture.svg)


def test_it_goes_through_chains_in_groups_in_chains():
    inner = [Chain([Fan(f"g{i}", [call(f"t{i}{j}") for j in range(3)]), call(f"b{i}")]) for i in range(3)]
    root = Chain([call("l"), Fan("g", inner), call("z")])
    events = [*ran("l", 100, 101), *ran("z", 120, 121)]
    for i in range(3):
        for j in range(3):
            events += ran(f"t{i}{j}", 101, 102 + i + j)
        events += ran(f"b{i}", 110, 111 + (i == 1))
    assert path(told(root, *events)) == ["l", "t12", "b1", "z"]


def test_what_never_ran_is_passed_over():
    state = told(
        Chain([call("a"), call("b"), call("c")]),
        *ran("a", 100, 101),
        ("started", "b", 101.0, 0, "w"),
        ("failed", "b", 102.0, 0, (ValueError(), "tb")),
        ("failed", "c", 102.0, 0, (ValueError(), None)),
    )
    assert path(state) == ["a", "b"]
    assert "1 never ran" in timeline_picture(state, 999.0).alt


def test_links_wait_for_their_owner_and_replacements_for_what_was_before():
    root = Chain([call("a", links=(call("l"),)), call("x"), call("y")])
    inner = Chain([call("r"), call("x", nesting=1)])
    common = (
        *ran("a", 100, 101),
        ("started", "x", 101.0, 0, "w"),
        ("grafted", "x", 102.0, 0, (inner, "replacement")),
        *ran("r", 102, 103),
        *ran("x", 103, 104, attempt=1 << 20),
        *ran("y", 104, 105),
    )
    assert path(told(root, *common)) == ["a", "r", "x", "y"]
    assert path(told(root, *common, *ran("l", 101, 109))) == ["a", "l"]


def test_of_a_run_that_goes_on_the_longest_is_critical():
    root = Chain([call("a"), Fan("g", [call("b"), call("c")]), call("z")])
    state = told(root, *ran("a", 100, 101), ("started", "b", 103.0, 0, "w"), ("started", "c", 102.0, 0, "v"))
    assert path(state, 110.0) == ["a", "c"]


def test_clocks_that_disagree_do_no_harm():
    state = told(Chain([call("a"), call("b")]), *ran("a", 90, 80), *ran("b", 70, 60))
    assert path(state) == ["a"]
    ET.fromstring(timeline_picture(state, 50.0).svg)


# -- small, equal, empty ----------------------------------------------------------------------------------------------


def test_nothing_to_draw_is_said():
    assert str(timeline_picture(told(Fan("g", [])), 100.0)) == "Timeline of 0 tasks: nothing to run."
    waiting = timeline_picture(told(chord(2), ("sent", "m0", 100.0)), 100.0)
    assert str(waiting) == "Timeline of 3 tasks: nothing was started yet (2 waiting, 1 sent)."
    assert waiting.html == f"<p>{waiting}</p>"


def test_without_durations_equal_runs_are_equal():
    def run(speed, worker):
        return told(
            chord(2), *(event for i in ("m0", "m1", "body") for event in ran(i, 100 + speed, 101 + speed, worker))
        )

    quick, slow = (timeline_picture(run(*how), 999.0, durations=False) for how in ((1, "a"), (7, "b")))
    assert quick == slow
    assert str(quick) == (
        "Timeline of 3 tasks: times and workers are left out here, so that equal runs look equal. 3 succeeded."
    )
    assert timeline_picture(run(1, "a"), 999.0) != timeline_picture(run(7, "b"), 999.0)


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "count"), [(3, 10_000), (300, 100_000)])
def test_a_hundred_thousand_tasks_make_a_small_picture(slots, count):
    chance = random.Random(slots)
    free, events = [100.0] * slots, []
    for i in range(count):
        slot = chance.randrange(slots)
        begin, free[slot] = free[slot] + chance.random() * 0.01, free[slot] + 0.01 + chance.expovariate(50)
        events += [("sent", f"m{i}", 100.0), ("started", f"m{i}", begin, 0, f"host{slot // 8}/{slot}")]
        error = (ValueError(), "tb")
        events.append(
            ("failed", f"m{i}", free[slot], 0, error) if chance.random() < 0.2 else ("succeeded", f"m{i}", free[slot])
        )
    state = told(Fan("g", [call(f"m{i}") for i in range(count)]), *events)
    picture = timeline_picture(state, 999.0)
    assert len(picture.html) < 100_000
    assert len(picture.text) < 4_000
    if slots > 24:
        assert "277 more slots" in texts(picture.svg)


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        (0.0003, ["0", "0.05 ms", "0.30 ms"]),
        (0.004, ["0", "1 ms", "4 ms"]),
        (0.5, ["0", "0.1 s", "0.5 s"]),
        (7, ["0", "1 s", "7 s"]),
        (100, ["0", "20 s", "100 s"]),
        (1000, ["0", "5 min", "15 min"]),
        (86_400 * 3, ["0", "12 h", "72 h"]),
    ],
)
def test_the_axis_has_round_moments(seconds, ticks):
    svg = timeline_picture(told(call("a"), *ran("a", 100.0, 100.0 + seconds)), 999.0).svg
    said = [e.text for e in ET.fromstring(svg).iter(NS + "text") if e.get("text-anchor") == "middle"]
    assert [said[0], said[1], said[-1]] == ticks
    assert 3 <= len(said) <= 10
