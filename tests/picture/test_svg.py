"""The picture of a canvas."""

import base64
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, chord, group
from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.ids import seeded_ids
from nbcanvas.picture.dark import DARK
from nbcanvas.picture.folding import BUDGET
from nbcanvas.picture.grown import Grown
from nbcanvas.picture.layout import layout
from nbcanvas.picture.svg import canvas_alt, canvas_html, canvas_svg
from nbcanvas.plan import Call, Chain, Fan, calls_of, freeze
from tests.costs import operations

NS = "{http://www.w3.org/2000/svg}"


def call(task_id, task="add", **kwargs):
    return Call(task_id, task, None, **kwargs)


def frozen(sig):
    return freeze(sig, seeded_ids(1), lambda args, kwargs: (args, kwargs))


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(NS + "text")]


@st.composite
def nodes(draw, depth=4):
    counter = iter(range(10**9))

    def make(depth, *, kinds):
        kind = draw(st.sampled_from(kinds if depth else ["call"]))
        if kind == "chain":
            return Chain([make(depth - 1, kinds=["call", "call", "fan"]) for _ in range(draw(st.integers(2, 5)))])
        if kind == "fan":
            size = draw(st.sampled_from([0, 1, 2, 3, 5, 13, 30]))
            members = [make(depth - 1, kinds=["call", "call", "call", "chain"]) for _ in range(size)]
            return Fan(f"g{next(counter)}", members)
        task = draw(st.sampled_from(["add", "mul", "a.very.long_name_of_a_task_indeed"]))
        if not depth or draw(st.integers(0, 9)):
            return call(f"c{next(counter)}", task)
        hanging = [make(depth - 1, kinds=["call", "call", "chain", "fan"]) for _ in range(draw(st.integers(1, 3)))]
        return call(f"c{next(counter)}", task, links=tuple(hanging[1:]), errbacks=tuple(hanging[:1]))

    return make(depth, kinds=["chain", "fan"])


@given(nodes())
def test_nothing_overlaps_and_every_call_is_in_one_box(root):
    made = layout(root)
    drawn = [c.id for box in made.boxes for c in box.calls]
    assert len(drawn) == len(set(drawn))
    # What hangs on a call is drawn when there is room.
    assert {c.id for c in calls_of(root)} <= set(drawn) <= {c.id for c in Grown(root).everything()}
    assert len(made.boxes) <= BUDGET + 1
    for box in made.boxes:
        assert min(box.x, box.y) >= -0.01
        assert box.x + box.width <= made.width + 0.01
        assert box.y + box.height <= made.height + 0.01
    ordered = sorted(made.boxes, key=lambda box: box.y)
    for i, one in enumerate(ordered):
        for other in ordered[i + 1 :]:
            if other.y >= one.y + one.height:
                break
            assert one.x + one.width <= other.x + 0.01 or other.x + other.width <= one.x + 0.01
    assert len(made.edges) <= 4 * len(made.boxes) + 4


@given(nodes())
def test_no_line_crosses_a_box(root):
    made = layout(root)
    for edge in made.edges:
        for (x1, y1), (x2, y2) in zip(edge.points, edge.points[1:], strict=False):
            left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
            for box in made.boxes:
                inside = (
                    left < box.x + box.width - 0.5
                    and right > box.x + 0.5
                    and top < box.y + box.height - 0.5
                    and bottom > box.y + 0.5
                )
                assert not inside


@given(nodes(depth=3))
def test_every_picture_is_well_formed(root):
    state = State.of(root, 0.0).apply([Event("succeeded", c.id, 1.0) for c in calls_of(root)])
    for svg in (canvas_svg(root), canvas_svg(root, state)):
        ET.fromstring(svg)
        assert len(svg) < 100_000


def test_a_chord_draws_its_barrier():
    root = frozen(chord([Signature("add", args=(i, i)) for i in range(100)], Signature("tsum")))
    assert texts(canvas_svg(root)) == ["waits for all 100", "add ×100", "tsum"]
    ids = [c.id for c in calls_of(root)]
    state = State.of(root, 0.0).apply([Event("succeeded", i, 1.0) for i in ids[:37]])
    said = texts(canvas_svg(root, state))
    assert "37 of 100 arrived" in said
    assert "37/100" in said
    assert canvas_alt(root, state) == "Canvas of 101 tasks: add ×100 side by side, then tsum. 37 succeeded, 64 waiting."


def test_what_failed_did_not_arrive_at_its_barrier():
    root = Chain([Fan("g", [Chain([call("a"), call("b")]), call("c")]), call("z")])
    error = (ValueError(), None)
    state = State.of(root, 0.0).apply([Event("failed", "a", 1.0, 0, error), Event("failed", "b", 1.0, 0, error)])
    assert "0 of 2 arrived, 1 failed" in texts(canvas_svg(root, state))
    state = state.apply([Event("revoked", "c", 1.0, 0, "why")])
    assert "0 of 2 arrived, 1 failed, 1 revoked" in texts(canvas_svg(root, state))


def test_small_groups_are_drawn_out_and_big_ones_fold():
    def boxes(n):
        return [box.kind for box in layout(Fan("g", [call(f"m{i}") for i in range(n)])).boxes]

    assert boxes(24) == ["call"] * 24
    assert boxes(25) == ["fold"]
    assert boxes(1) == ["call"]


def test_a_group_of_equal_chains_folds_into_one_chain():
    def root(n):
        return Fan("g", [Chain([call(f"a{i}", "load"), call(f"b{i}", "parse")]) for i in range(n)])

    svg = canvas_svg(root(10_000))
    assert len(svg) < 10_000
    assert texts(svg) == ["group ×10\u202f000", "load ×10\u202f000", "parse ×10\u202f000"]
    some, twice = root(500), root(1_000)
    assert operations(lambda: canvas_svg(twice)) < 2.2 * operations(lambda: canvas_svg(some))


def test_a_group_of_many_shapes_stays_small():
    root = Fan("g", [call(f"a{i}", f"task{i}") for i in range(20_000)])
    svg = canvas_svg(root, State.of(root, 0.0))
    assert len(svg) < 100_000
    assert "19\u202f989 more" in texts(svg)


def test_long_chains_are_cut_and_broken_into_lines():
    root = Chain([call(f"a{i}", f"step{i}") for i in range(10_000)])
    made = layout(root)
    assert made.width < 900
    assert any("more steps" in box.label for box in made.boxes)
    assert {box.label for box in made.boxes} >= {"step0", "step9999"}


def test_depth_does_not_matter():
    node = call("bottom")
    for i in range(2000):
        node = Chain([Fan(f"g{i}", [node, call(f"m{i}", "m")]), call(f"c{i}", "c")])
    assert len(canvas_svg(node)) < 100_000
    assert len(canvas_alt(node)) <= 900


def test_links_and_errbacks_are_drawn():
    root = call("x", links=(call("l", "pkg.log"),), errbacks=(call("e", "pkg.mail"),))
    assert texts(canvas_svg(root)) == ["link", "errback", "add", "log", "mail"]
    assert canvas_alt(root) == "Canvas of one task: add (on success log; on failure mail)."
    state = State.of(root, 0.0).apply([Event("succeeded", "x", 1.0), Event("succeeded", "l", 1.0)])
    # What did not start is there, but has no state, and does not count.
    assert texts(canvas_svg(root, state)) == ["link", "errback", "✓", "add", "✓", "log", "mail", "✓", "2 succeeded"]


def test_links_of_a_pile_are_a_pile():
    root = Fan("g", [call(f"x{i}", links=(call(f"l{i}", "log"),)) for i in range(50)])
    assert texts(canvas_svg(root)) == ["group ×50", "link", "add ×50", "log ×50"]
    few = layout(call("x", links=(call("l", "log"),)), budget=1)  # no room for two boxes
    assert [box.note for box in few.boxes] == ["link: log"]


def test_what_a_task_put_in_its_place_is_drawn_there():
    inner = Chain([Fan("h", [call("r1", "part"), call("r2", "part")]), call("x", "collect", nesting=1)])
    again = Chain([call("s", "more"), call("x", "last", nesting=2)])
    root = Chain([call("x"), call("y", "mul")])
    state = State.of(root, 0.0).apply(
        [
            Event("grafted", "x", 1.0, 0, (inner, "replacement")),
            Event("grafted", "x", 2.0, 1 << 20, (again, "replacement")),
            Event("succeeded", "r1", 1.5),
        ]
    )
    said = texts(canvas_svg(root, state))
    assert {"⇢ in place of add", "⇢ in place of collect", "part", "more", "last", "mul"} <= set(said)
    assert "1 of 2 arrived" in said
    became = "replaced by part ×2 side by side, then collect (replaced by more, then last)"
    assert canvas_alt(root, state).startswith(f"Canvas of 5 tasks: add ({became}), then mul.")


def test_what_was_replaced_again_and_again_stays_small():
    root = call("x")
    inside = [Chain([Fan(f"g{i}", [call(f"r{i}")]), call("x", nesting=i + 1)]) for i in range(100)]
    grafts = [Event("grafted", "x", 1.0 + i, i << 20, (node, "replacement")) for i, node in enumerate(inside)]
    svg = canvas_svg(root, State.of(root, 0.0).apply(grafts))
    assert texts(svg).count("⇢ in place of add") in range(3, 30) and len(svg) < 30_000


def test_what_a_task_started_hangs_on_it():
    root = call("x")
    state = State.of(root, 0.0).apply(
        [Event("grafted", "x", 1.0, 0, (Fan("c", [call(f"c{i}", "child") for i in range(30)]), "child"))]
    )
    assert {"started by the task", "child ×30", "0/30"} <= set(texts(canvas_svg(root, state)))


def test_a_graft_that_holds_its_own_owner_ends():
    root = call("x")
    forged = Fan("c", [call("x"), call("x")])
    state = State.of(root, 0.0).apply(
        [Event("grafted", "x", 1.0, 0, (forged, "child")), Event("grafted", "x", 1.0, 0, (forged, "replacement"))]
    )
    assert len(canvas_svg(root, state)) < 10_000


def test_what_was_retried_is_marked():
    root = Fan("g", [call(f"m{i}") for i in range(3)])
    error = (ValueError(), None)
    state = State.of(root, 0.0).apply(
        [
            Event("retried", "m1", 1.0, 0, error),
            Event("retried", "m1", 2.0, 1, error),
            Event("started", "m1", 3.0, 2, "w"),
        ]
    )
    said = texts(canvas_svg(root, state))
    assert "↻ 2" in said
    assert "1 retried" in said


def test_a_running_box_says_how_far_it_is():
    def widths(current):
        state = State.of(call("x"), 0.0).apply(
            [
                Event("started", "x", 1.0, 0, "w"),
                Event("progress", "x", 2.0, 0, ("PROGRESS", {"current": current, "total": 4})),
            ]
        )
        bars = [e for e in ET.fromstring(canvas_svg(call("x"), state)).iter(NS + "rect") if e.get("height") == "3"]
        return [float(bar.get("width")) for bar in bars]

    whole, part = widths(1)
    assert part == pytest.approx(whole / 4, abs=0.1)
    assert widths(4)[0] == widths(4)[1]


def test_state_is_told_by_glyph_and_text():
    root = Fan("g", [call("a"), call("b"), call("c")])
    state = State.of(root, 0.0).apply(
        [Event("failed", "a", 1.0, 0, (ValueError(), None)), Event("started", "b", 1.0, 0, "w")]
    )
    said = texts(canvas_svg(root, state))
    assert {"✗", "▶", "○", "1 failed", "1 running", "1 waiting"} <= set(said)


def test_the_html_is_an_image_that_says_what_it_shows():
    root = frozen(chain(Signature("add", args=(1, 1)), group(Signature("mul", args=(i,)) for i in range(3))))
    html = canvas_html(root)
    found = re.fullmatch(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]*)" style="[^"]*">', html)
    assert found[1] == "Canvas of 4 tasks: add, then mul ×3 side by side."
    ET.fromstring(base64.b64decode(found[2]))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\"b'c&d", "\x00\x0b", "\ud800", "x" * 3000])
def test_names_cannot_break_out(name):
    root = Chain([call("a", name, links=(call("l", name),)), Fan("g", [call("b", name), call("c", name)])])
    svg = canvas_svg(root, State.of(root, 0.0))
    assert {element.tag for element in ET.fromstring(svg.encode()).iter()} <= {
        NS + tag for tag in ("svg", "g", "title", "style", "text", "rect", "polyline", "path")
    }
    assert re.fullmatch(r'<img alt="[^"<>]*" src="[^"<>]*" style="[^"<>]*">', canvas_html(root))


def test_the_style_for_dark_pages_has_only_the_colours_that_are_drawn():
    root = frozen(chain(Signature("add", args=(1, 1)), Signature("mul", args=(2,))))
    [style] = ET.fromstring(canvas_svg(root)).iter(f"{NS}style")
    drawn = {one.get(what) for one in ET.fromstring(canvas_svg(root)).iter() for what in ("fill", "stroke")}
    named = re.findall(r'\[(?:fill|stroke)="(#\w+)"\]', style.text)
    assert named
    assert set(named) <= drawn & DARK.keys()


def test_an_empty_canvas_has_a_picture():
    root = Fan("g", [])
    assert texts(canvas_svg(root)) == ["empty group"]
    ET.fromstring(canvas_svg(root, State.of(root, 0.0)))


def test_equal_canvases_have_equal_pictures():
    sig = group(Signature("add", args=(i, i)) for i in range(4)) | Signature("tsum")
    assert canvas_svg(frozen(sig)) == canvas_svg(frozen(sig))
