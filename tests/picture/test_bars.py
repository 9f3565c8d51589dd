"""Bars say how far each stage of a run is."""

import dataclasses
import json
from html.parser import HTMLParser
from unicodedata import combining, east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas import states
from nbcanvas.events.event import Event
from nbcanvas.events.known import NAMES
from nbcanvas.events.state import State
from nbcanvas.picture.bars import bars_html, bars_model, bars_text
from nbcanvas.picture.markup import LOOKS, duration, escape
from nbcanvas.picture.stages import MOST
from nbcanvas.plan import Call, Chain, Fan
from nbcanvas.protocol.payload import pack_args
from tests.costs import operations


def call(task_id, task="add", payload=None, **kwargs):
    return Call(task_id, task, payload, **kwargs)


def chord(n=100):
    return Chain([Fan("g", [call(f"m{i}") for i in range(n)]), call("body", "tsum")])


def told(root, *events, items=None):
    state = State.of(root, 100.0, *([items] if items else []))
    return state.apply([Event(*event) for event in events])


def labels(state):
    return [bar.label for bar in bars_model(state, 100.0).bars]


def test_the_tours_chord_in_the_middle():
    state = told(
        chord(),
        *(("sent", f"m{i}", 100.0) for i in range(100)),
        *(("started", f"m{i}", 101.0, 0, "embedded/1") for i in range(66)),
        *(("succeeded", f"m{i}", 102.0) for i in range(63)),
    )
    model = bars_model(state, 103.0)
    assert [(bar.label, bar.done, bar.total, bar.running, bar.waiting_for) for bar in model.bars] == [
        ("add ×100", 63, 100, 3, ""),
        ("tsum", 0, 1, 0, "waiting for 37"),
    ]
    assert (model.elapsed, model.rate, round(model.left, 3)) == (3.0, 21.0, round(38 / 21, 3))
    assert bars_text(model) == (
        "▶ add ×100  ████████████░░░░░░░░  63/100\n"
        "○ tsum      waiting for 37\n"
        "▶ running · 63 of 101 tasks · 3.0 s · 21/s · about 1.8 s left"
    )


def succeeded(count, at=102.0):
    return [("succeeded", f"m{i}", at) for i in range(count)]


def test_a_rate_is_told_when_there_is_enough_to_tell_by():
    def rate(count, now):
        model = bars_model(told(chord(), *succeeded(count)), now)
        assert ("/s" in bars_text(model)) == (model.rate is not None) == (model.left is not None)
        return model.rate

    assert [rate(9, 102.0), rate(10, 100.9), rate(10, 102.0)] == [None, None, 5.0]


def test_what_was_revoked_is_no_work_and_tells_nothing_of_what_is_left():
    revoked = [("revoked", f"m{i}", 102.0, 0, "why") for i in range(20, 98)]
    running = [("started", f"m{i}", 101.0, 0, "w") for i in (98, 99)]
    model = bars_model(told(chord(), *succeeded(20), *revoked, *running), 102.0)
    assert (model.rate, model.left) == (10.0, 0.3)  # the body waits as well
    model = bars_model(told(chord(), *succeeded(20), *revoked, *running, ("revoked", "body", 102.0, 0, "why")), 102.0)
    assert (model.rate, model.left) == (10.0, None)
    assert bars_text(model).endswith("▶ running · 20 of 101 tasks · 2.0 s · 10/s · 79 revoked")


def test_what_a_rerun_kept_is_told_and_is_no_work_of_its_own():
    state = told(chord()).keep([Event(*event) for event in succeeded(53, 90.0)])
    model = bars_model(state, 110.0)
    assert (model.kept, model.rate) == (53, None)
    assert bars_text(model).endswith("running · 53 of 101 tasks · 53 kept · 10 s")
    assert "53 of 101 tasks · 53 kept" in bars_html(model)
    assert "53 kept" in bars_text(model, durations=False)


@pytest.mark.parametrize(("seconds", "said"), [(0, "<1 ms"), (0.0009, "<1 ms"), (0.001, "1 ms"), (0.25, "250 ms")])
def test_no_time_is_said_to_be_none(seconds, said):
    assert duration(seconds) == said
    model = bars_model(told(call("m0"), *succeeded(1, 100.0 + seconds)), 200.0)
    assert f"1 of 1 task · {said}" in bars_text(model)
    assert f"1 of 1 task · {escape(said)}" in bars_html(model)


def test_without_durations_equal_runs_give_equal_texts():
    def run(speed):
        return told(chord(2), *(("succeeded", task_id, 100.0 + speed) for task_id in ("m0", "m1", "body")))

    quick, slow = bars_model(run(1), 500.0), bars_model(run(9), 700.0)
    assert bars_text(quick, durations=False) == bars_text(slow, durations=False)
    assert bars_html(quick, durations=False) == bars_html(slow, durations=False)
    assert bars_html(quick) != bars_html(slow)


def test_a_run_that_ended_keeps_its_elapsed_time():
    state = told(chord(2), *(("succeeded", task_id, 104.0) for task_id in ("m0", "m1", "body")))
    model = bars_model(state, 9999.0)
    assert (model.elapsed, model.left, model.state, model.fraction) == (4.0, None, "SUCCESS", 1.0)


def test_failures_and_retries_are_apart():
    error = ValueError("no")
    state = told(
        chord(4),
        ("succeeded", "m0", 101.0),
        ("failed", "m1", 101.0, 0, (error, "tb")),
        ("retried", "m2", 101.0, 0, (error, None)),
        ("revoked", "m3", 101.0, 0, "why"),
        ("failed", "body", 101.0, 0, (error, None)),
    )
    first, body = bars_model(state, 102.0).bars
    assert (first.done, first.failed, first.revoked, first.retried, first.state) == (1, 1, 1, 1, "RETRY")
    assert body.state == "FAILURE"
    assert "1/4 · 1 failed · 1 revoked · 1 retried" in bars_text(bars_model(state, 102.0))


def test_what_was_ignored_is_not_called_revoked():
    model = bars_model(told(chord(2), ("ignored", "m0", 101.0), ("rejected", "m1", 101.0, 0, "full")), 102.0)
    assert (model.revoked, model.ignored, model.bars[0].revoked, model.bars[0].ignored) == (0, 2, 0, 2)
    assert "0/2 · 2 ignored or rejected" in bars_text(model)


def test_a_group_of_chains_is_a_bar_a_step():
    root = Fan(
        "g", [Chain([call(f"a{i}", "load"), call(f"b{i}", "parse"), call(f"c{i}", "count")]) for i in range(10_000)]
    )
    assert labels(told(root)) == ["load ×10\u202f000", "parse ×10\u202f000", "count ×10\u202f000"]


def test_a_mixed_group_is_a_bar_a_task():
    root = Fan("g", [call(f"x{i}", ("load", "mail", "load")[i % 3]) for i in range(9)])
    assert labels(told(root)) == ["load ×6", "mail ×3"]


def test_nested_groups_are_indented_and_wait_for_what_is_before_them():
    inner = [
        Chain([Fan(f"g{i}", [call(f"t{i}{j}", "train") for j in range(3)]), call(f"b{i}", "best")]) for i in range(2)
    ]
    root = Chain([call("l", "load"), Fan("g", inner), call("z", "report")])
    bars = bars_model(told(root), 100.0).bars
    assert [(bar.label, bar.depth, bar.waiting_for) for bar in bars] == [
        ("load", 0, "waiting"),
        ("train ×6", 1, "waiting for load"),
        ("best ×2", 0, "waiting for 6"),
        ("report", 0, "waiting for 2"),
    ]


def test_progress_moves_the_bar_of_a_running_task():
    state = told(
        call("x"),
        ("started", "x", 101.0, 0, "w"),
        ("progress", "x", 102.0, 0, ("PROGRESS", {"current": 1, "total": 4})),
    )
    assert bars_model(state, 103.0).bars[0].fraction == 0.25
    state = state.apply([Event("succeeded", "x", 103.0)])
    assert bars_model(state, 103.0).bars[0].fraction == 1.0


def test_chunks_count_items():
    root = Fan("g", [call("c0", "celery.starmap"), call("c1", "celery.starmap")])
    state = told(
        root,
        ("succeeded", "c0", 101.0),
        ("started", "c1", 101.0, 0, "w"),
        ("progress", "c1", 101.0, 0, ("PROGRESS", {"current": 3, "total": 10})),
        items=lambda _: 10,
    )
    (bar,) = bars_model(state, 102.0).bars
    assert (bar.done, bar.total, bar.tasks, bar.unit, bar.fraction) == (13, 20, 2, "item", 0.65)
    assert "13/20 items" in bars_text(bars_model(state, 102.0))


def over(task_id, how="starmap", task="proj.add"):
    return call(task_id, f"celery.{how}", payload=pack_args((), {"task": {"task": task}, "it": []}))


def test_what_goes_over_items_is_named_by_the_task_it_runs():
    def ten(_):
        return 10

    assert labels(told(over("a", "map"), items=ten)) == ["add ×10 (map)"]
    assert labels(told(over("a"), items=ten)) == ["add ×10 (starmap)"]
    assert labels(told(Fan("g", [over(f"c{i}") for i in range(3)]), items=ten)) == ["add ×30 (3 chunks)"]
    assert labels(told(Fan("g", [over(f"c{i}", "map") for i in range(3)]), items=ten)) == ["add ×30 (3 maps)"]
    root = Chain(
        [
            Fan("g", [over("c0"), over("c1", task="proj.mul"), over("c2", "map"), call("x", "proj.add")]),
            call("y", "tsum"),
        ]
    )
    assert labels(told(root, items=ten)) == ["add ×10 (starmap)", "mul ×10 (starmap)", "add ×10 (map)", "add", "tsum"]
    assert [bar.waiting_for for bar in bars_model(told(Chain([over("a"), call("b", "mul")])), 100.0).bars] == [
        "waiting",
        "waiting for add",
    ]


@pytest.mark.parametrize("payload", [None, b"", b"\x80garbage", (), ((), {}), ((), {"task": 7}), ((), {"task": {}})])
def test_a_map_that_cannot_be_read_goes_by_its_own_name(payload):
    assert labels(told(call("a", "celery.map", payload=payload))) == ["map"]


def test_the_last_chunk_may_be_shorter():
    sizes = {"c0": 10, "c1": 10, "c2": 3}
    state = told(
        Fan("g", [over(task_id) for task_id in sizes]),
        ("succeeded", "c2", 101.0),
        ("failed", "c0", 101.0, 0, (ValueError(), None)),
        items=lambda call: sizes[call.id],
    )
    (bar,) = bars_model(state, 102.0).bars
    assert (bar.total, bar.done, bar.failed, bar.label) == (23, 3, 10, "add ×23 (3 chunks)")


def test_a_replaced_task_waits_for_what_replaced_it():
    root = Chain([call("x", "big"), call("y", "mul")])
    replacement = Chain([call("r", "small", nesting=1), call("x", "tsum", nesting=1)])
    state = told(
        root,
        ("started", "x", 101.0, 0, "w"),
        ("replaced", "x", 102.0),
        ("grafted", "x", 102.0, 0, (replacement, "replacement")),
        ("started", "r", 103.0, 1 << 20, "w"),
    )
    assert [(bar.label, bar.waiting_for) for bar in bars_model(state, 104.0).bars] == [
        ("big", "waiting for what replaced it"),
        ("small", ""),
        ("mul", "waiting for big"),
    ]


def test_what_a_canvas_that_ends_elsewhere_replaced_has_no_bar():
    group = Fan("g", [call("p", nesting=1), call("q", nesting=1)])
    state = told(call("x", "big"), ("replaced", "x", 102.0), ("grafted", "x", 102.0, 0, (group, "replacement")))
    assert labels(state) == ["add ×2"]


def test_what_did_not_succeed_is_hatched_in_text():
    state = told(
        chord(4), ("succeeded", "m0", 101.0), ("failed", "m1", 101.0, 0, (ValueError(), None)), ("ignored", "m2", 101.0)
    )
    assert "█████▒▒▒▒▒▒▒▒▒▒░░░░░  1/4 · 1 failed · 1 ignored or rejected" in bars_text(bars_model(state, 102.0))
    state = told(chord(1000), ("failed", "m1", 101.0, 0, (ValueError(), None)))
    assert "░" * 20 in bars_text(bars_model(state, 102.0))


@pytest.mark.parametrize("task", ["データ.学習", "é́́tude", "имя", "👩‍🔬.x", "a" * 500])
def test_bars_stand_below_each_other_whatever_the_names(task):
    def width(text):
        return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)

    state = told(Chain([call("a", task), call("b", "add")]), ("succeeded", "a", 101.0), ("sent", "b", 101.0))
    first, second, _ = bars_text(bars_model(state, 102.0)).split("\n")
    assert width(first.partition("█")[0]) == width(second.partition("░")[0]) <= 46


def test_stages_put_together_count_only_what_counts():
    calls = [call(f"c{i}", f"t{i}", links=(call(f"l{i}", f"l{i}"),)) for i in range(100)]
    model = bars_model(told(Chain(calls), ("succeeded", "c0", 101.0)), 102.0)
    assert sum(bar.tasks for bar in model.bars) == model.total == 101
    assert model.bars[-1].label.endswith("more stages")


def test_an_empty_canvas_takes_no_time():
    assert bars_model(told(Fan("g", [])), 900.0).elapsed == 0.0


def test_links_have_a_bar_once_they_start():
    root = Fan("g", [call(f"x{i}", links=(call(f"l{i}", "log"),), errbacks=(call(f"e{i}", "mail"),)) for i in range(3)])
    assert labels(told(root)) == ["add ×3"]
    state = told(root, ("succeeded", "x0", 101.0), ("succeeded", "l0", 101.0))
    assert [(bar.label, bar.role) for bar in bars_model(state, 102.0).bars] == [("add ×3", ""), ("log", "link")]


def test_what_was_grafted_has_a_bar():
    root = Chain([call("x"), call("y", "mul")])
    state = told(
        root,
        ("grafted", "x", 101.0, 0, (Fan("c", [call(f"c{i}", "child") for i in range(5)]), "child")),
        ("grafted", "x", 102.0, 0, (Chain([call("r", "r", nesting=1), call("x", nesting=1)]), "replacement")),
    )
    assert [(bar.label, bar.role) for bar in bars_model(state, 102.0).bars] == [
        ("add", ""),
        ("r", "replacement"),
        ("child ×5", "child"),
        ("mul", ""),
    ]


def test_names_that_would_be_alike_are_told_in_full():
    root = Chain([call("a", "x.load"), call("b", "y.load"), call("c", "y.save")])
    assert labels(told(root)) == ["x.load", "y.load", "save"]


def test_many_stages_are_few_bars():
    assert labels(told(Chain([call(f"c{i}") for i in range(10_000)]))) == ["add ×10\u202f000"]
    assert len(labels(told(Chain([call(f"c{i}", f"t{i}") for i in range(10_000)])))) == MOST


def test_depth_does_not_matter():
    node = call("bottom")
    for i in range(1000):
        node = Chain([Fan(f"g{i}", [node, call(f"m{i}", "m")]), call(f"c{i}", "c")])
    assert len(bars_model(told(node), 100.0).bars) <= MOST


def test_an_empty_canvas_has_an_empty_picture():
    model = bars_model(told(Fan("g", [])), 100.0)
    assert (model.bars, model.state, bars_text(model, durations=False)) == ((), "SUCCESS", "✓ succeeded · 0 of 0 tasks")
    assert bars_html(model)


def test_the_model_is_plain_data():
    model = bars_model(told(chord(3), ("succeeded", "m0", 101.0)), 102.0)
    assert json.loads(json.dumps(dataclasses.asdict(model)))["bars"][0]["label"] == "add ×3"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["sent", "started", "succeeded", "ignored"]), st.sampled_from(["m0", "m1", "m2", "body"])
        ),
        max_size=12,
    )
)
def test_numbers_add_up(events):
    model = bars_model(told(chord(3), *((kind, task_id, 101.0) for kind, task_id in events)), 102.0)
    assert sum(bar.tasks for bar in model.bars) == model.total == 4
    assert sum(bar.done for bar in model.bars) == model.done
    assert all(0 <= bar.fraction <= 1 for bar in model.bars)


class Reader(HTMLParser):
    """Reads html, and knows what may be in it."""

    def __init__(self):
        super().__init__()
        self.text, self.open, self.tags, self.attributes = [], [], set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&amp;\x00\x1b[31m\u202e"


@pytest.mark.parametrize("task", [EVIL, "x" * 5000, "\ud800", "a\nb", ""])
def test_html_is_safe_and_well_formed(task):
    html = bars_html(bars_model(told(Chain([call("a", task), Fan("g", [call("b", task), call("c", task)])])), 100.0))
    html.encode()
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    assert reader.tags <= {"div", "table", "tbody", "tr", "td", "span", "b"}
    assert reader.attributes <= {
        "style",
        "role",
        "title",
        "aria-label",
        "aria-valuemin",
        "aria-valuemax",
        "aria-valuenow",
        "aria-valuetext",
    }
    assert len(html) < 20_000


def test_state_is_told_by_glyph_and_text_not_by_colour_alone():
    state = told(chord(3), ("failed", "m0", 101.0, 0, (ValueError(), None)), ("succeeded", "m1", 101.0))
    reader = Reader()
    reader.feed(bars_html(bars_model(state, 102.0)))
    text = " ".join(reader.text)
    assert "✗ 1 failed" in text
    assert "1/3" in text
    assert "waiting for 1" in text
    assert set(LOOKS) == set(NAMES[1:])
    words = {look.word: look.glyph for look in LOOKS.values()}
    assert len(set(words.values())) == len(words) - 1  # waiting and pending look alike


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("background", ["#ffffff", "#111111"])
@pytest.mark.parametrize("name", sorted(states.RANK))
def test_colours_read_on_white_and_on_black(name, background):
    lighter, darker = sorted((luminance(LOOKS[name].colour), luminance(background)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3  # WCAG 1.4.11, graphics


def test_escape_leaves_nothing_that_could_end_an_attribute():
    assert set(escape("<>\"'&\x00")) & set("<>\"'\x00") == set()
    assert len(escape("y" * 1000)) == 200


def test_bars_of_many_tasks_cost_what_those_of_few_do():
    def cost(n):
        state = told(chord(n))
        bars_model(state, 100.0)
        return operations(lambda: bars_model(state, 100.0))

    assert cost(20_000) < 1.1 * cost(100)
