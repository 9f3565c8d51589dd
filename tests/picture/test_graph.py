"""``run.graph()``: the picture, its colours by stamp, and its exports."""

import re
import xml.etree.ElementTree as ET

import pydot
import pytest

from nbcanvas.picture import Graph, graph_picture
from nbcanvas.picture.markup import cut, short
from nbcanvas.plan import Call, Chain, Fan
from tests.picture.payloads import PAYLOADS
from tests.picture.runs import call, chord, run_of, told

NS = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(NS + "text")]


def describe(call):
    return (int(call.id[1:]), None), {}, "celery", None


def failing():
    error = (TypeError("no"), "Traceback ...")
    return chord(30), told(
        chord(30),
        *(("succeeded", f"m{i}", 101.0) for i in range(17)),
        ("failed", "m17", 101.0, 0, error),
        ("failed", "body", 101.0, 0, (TypeError("no"), None)),
    )


def test_failed_nodes_are_named_with_path_and_call():
    root, state = failing()
    picture = graph_picture(root, state, describe=describe)
    assert isinstance(picture, Graph)
    line = "chord.header[17] → add(17, None): TypeError: no"
    assert line in texts(picture.svg)
    assert line in picture.alt
    assert str(picture).splitlines()[1:] == [f"  ✗ {line}", "  ✗ 1 task that waited for it never ran"]


def test_what_failed_before_it_was_started_is_named():
    canvas = chord(3)
    unknown, lost = (LookupError("no such task"), None), (TypeError("no"), "Traceback ...")
    state = told(
        canvas,
        *(("sent", f"m{i}", 100.0) for i in range(3)),
        ("failed", "m0", 101.0, 0, unknown),
        ("started", "m1", 101.0, 0, "w/1"),
        ("failed", "m1", 101.0, 0, lost),
        ("failed", "body", 101.0, 0, (TypeError("no"), "Traceback ...")),
    )
    picture = graph_picture(canvas, state, describe=describe)
    assert str(picture).splitlines()[1:] == [
        "  ✗ chord.header[0] → add(0, None): LookupError: no such task",
        "  ✗ chord.header[1] → add(1, None): TypeError: no",
        "  ✗ 1 task that waited for them never ran",
    ]


def test_of_many_failed_nodes_a_few_are_named():
    state = told(chord(30), *(("failed", f"m{i}", 101.0, 0, (ValueError(i), "tb")) for i in range(30)))
    picture = graph_picture(chord(30), state)
    assert texts(picture.svg).count("✗") == 6 + 1 + 2  # lines, "and more", box and legend
    assert "and 24 more that failed" in picture.text


def stamped(values):
    return Fan("g", [Call(f"c{i}", "add", None, stamps=value) for i, value in enumerate(values)])


def fills(svg):
    """The fill of each box that is one call, by what is written on its line."""
    found = {}
    for group in ET.fromstring(svg).iter(NS + "g"):
        line = [text.text for text in group.iter(NS + "text") if text.get("font-style") == "italic"]
        if line:
            found[line[0]] = next(group.iter(NS + "rect")).get("fill")
    return found


def test_boxes_have_the_colour_and_the_text_of_their_value():
    root = stamped([{"experiment": 1}, {"experiment": 2}, {"experiment": 1}, None])
    picture = graph_picture(root, color="experiment")
    found = fills(picture.svg)
    assert set(found) == {"experiment 1", "experiment 2", "not stamped"}
    assert len(set(found.values())) == 3
    assert {"experiment 1 · 2", "experiment 2 · 1", "not stamped · 1"} <= set(texts(picture.svg))
    assert picture.alt.endswith("Coloured by experiment: 1 (2), 2 (1), not stamped (1).")


def test_many_values_fold_into_other():
    root = stamped([{"k": f"v{i}"} for i in range(20)] + [{"k": "v0"}] * 2)
    said = texts(graph_picture(root, color="k").svg)
    assert "k v0 · 3" in said
    assert "other · 13" in said
    legend = [text for text in said if text and " · " in text]
    assert len(legend) == 8


def test_values_in_lists_count_each():
    root = stamped([{"k": [1, 2]}, {"k": (2, 3)}, {"k": {3}}, {"k": {"not": "hashable"}}])
    picture = graph_picture(root, color="k")
    assert {"k 1 · 1", "k 2 · 2", "k 3 · 2", "k {'not': 'hashable'} · 1"} <= set(texts(picture.svg))
    assert "k 1, 2" in fills(picture.svg)


def test_a_folded_group_says_its_values():
    root = stamped([{"k": i % 3} for i in range(3000)])
    said = texts(graph_picture(root, color="k").svg)
    assert "k 0, 1 +1" in said
    assert "k 2 · 1000" in said


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (
            stamped([{"experiment": 1, "fold": 2}]),
            "no task has a stamp 'experimnt'; did you mean 'experiment'?; the stamps there are: 'experiment', 'fold'",
        ),
        (stamped([None]), "no task has a stamp 'experimnt': nothing here is stamped; stamp with"),
    ],
)
def test_a_stamp_that_is_not_there(root, message):
    with pytest.raises(ValueError, match="no task has a stamp") as caught:
        graph_picture(root, color="experimnt")
    assert message in str(caught.value)


def wide():
    return chord(100_000)


def deep():
    node = call("bottom")
    for i in range(33_000):
        node = Chain([Fan(f"g{i}", [node, call(f"m{i}", "m")]), call(f"c{i}", "c")])
    return node


def long():
    return Chain([call(f"a{i}", f"step{i % 50}") for i in range(100_000)])


def nested():
    folds = [
        Chain([Fan(f"g{i}", [call(f"t{i}.{j}", f"train{j % 7}") for j in range(99)]), call(f"b{i}", "best")])
        for i in range(1000)
    ]
    return Chain([Fan("top", folds), call("z", "report")])


def mixed(n=40_000):
    links = [(call(f"l{i}", f"log{i % 3}"),) if i % 2 else () for i in range(n)]
    return Fan(
        "g", [Call(f"x{i}", f"task{i % 40}", None, links=link, stamps={"k": i % 30}) for i, link in enumerate(links)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [wide, deep, long, nested, mixed])
def test_a_hundred_thousand_tasks_make_a_small_picture(make):
    root = make()
    picture = graph_picture(root)
    assert len(picture.html) < 100_000
    assert len(picture.to_dot()) < 100_000
    assert len(picture.to_mermaid()) < 100_000


def test_a_coloured_run_of_many_is_small():
    root = mixed(10_000)
    state = told(root, *(("succeeded", f"x{i}", 101.0) for i in range(0, 10_000, 3)))
    assert len(graph_picture(root, state, "k").html) < 100_000


# -- exports --------------------------------------------------------------------------------------------------------


def graph_of(text):
    (found,) = pydot.graph_from_dot_data(text)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dot_is_read_by_a_reader_of_dot():
    root, state = failing()
    found = graph_of(graph_picture(root, state).to_dot())
    labels = {node.get_name(): node.get_label() for node in found.get_nodes() if node.get_name().startswith("n")}
    labels.pop("node", None)
    assert labels == {"n0": '"▶ add ×30 17/30"', "n1": '"✗ tsum"', "n2": '"17 of 30 arrived, 1 failed"'}
    assert [(edge.get_source(), edge.get_destination()) for edge in found.get_edges()] == [("n0", "n2"), ("n2", "n1")]


def test_mermaid():
    root = Chain([call("a", "load", links=(call("l", "log"),)), Fan("g", [call("b"), call("c")]), call("d", "tsum")])
    assert graph_picture(root).to_mermaid() == (
        "flowchart LR\n"
        '  n0["load"]\n  n1["log"]\n  n2["add"]\n  n3["add"]\n  n4["tsum"]\n  n5{{"waits for all 2"}}\n'
        '  n0 -.->|"link"| n1\n  n0 --> n2\n  n0 --> n3\n  n2 --> n5\n  n3 --> n5\n  n5 --> n4\n'
    )


def chains(size=10):
    """All payloads as tasks of a few chains; what is cut to the same text is one of them."""
    shown = list(dict.fromkeys(cut(text, 60) or "(no name)" for text in PAYLOADS))
    return [shown[start : start + size] for start in range(0, len(shown), size)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("tasks", chains())
def test_a_reader_of_dot_finds_every_text_as_it_is(tasks):
    root = Chain([*(call(f"c{i}", task) for i, task in enumerate(tasks)), call("end", "plain")])
    found = graph_of(graph_picture(root).to_dot())
    nodes = [node for node in found.get_nodes() if node.get_name() not in ("node", "edge")]
    assert [node.get_name() for node in nodes] == [f"n{i}" for i in range(len(tasks) + 1)]
    assert {tuple(sorted(node.get_attributes())) for node in nodes} == {("color", "fillcolor", "label")}
    labels = [re.sub(r"\\(.)", r"\1", node.get_label()[1:-1]) for node in nodes]
    assert labels[:-1] == [cut(short(task), 60) or cut(task, 60) for task in tasks]
    assert len(found.get_edges()) == len(tasks)


_MERMAID = re.compile(
    r'  n\d+(\["[^"]*"\]|\[\["[^"]*"\]\]|\("[^"]*"\)|\{\{"[^"]*"\}\})(:::[a-z]+)?'
    r'|  n\d+ (-->|-\.->\|"[^"]*"\|) n\d+|  classDef [a-z]+ fill:#\w{6},stroke:#\w{6},color:#\w{6}|flowchart LR'
)
_DOT = re.compile(
    r"digraph canvas \{|  rankdir=LR;|  (node|edge) \[.*\];|\}|"
    r'  n\d+ \[label="(?:[^"\\]|\\["\\])*", fillcolor="[^"]*", color="[^"]*"[a-z, =0-9".]*\];|'
    r'  n\d+ -> n\d+( \[label="[a-z ]*", style=dashed\])?;'
)


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_no_text_leaves_its_label(text):
    picture, plain = (graph_picture(r, s, describe=d) for r, s, _, d in (run_of(text), run_of("plain")))
    for found, expected, line in (
        (picture.to_mermaid(), plain.to_mermaid(), _MERMAID),
        (picture.to_dot(), plain.to_dot(), _DOT),
    ):
        assert len(found.splitlines()) == len(expected.splitlines())
        for one in found.splitlines():
            assert line.fullmatch(one), one
        found.encode()


# -- a picture -------------------------------------------------------------------------------------------------------


def test_a_picture_is_shown_as_text_and_html():
    picture = graph_picture(chord())
    assert picture._repr_mimebundle_() == {"text/plain": str(picture), "text/html": picture.html}
    assert picture._repr_mimebundle_(include={"text/plain"}) == {"text/plain": str(picture)}
    assert repr(picture) == str(picture) == picture.text
    assert graph_picture(chord()) == picture


def test_a_picture_is_written_to_a_file(tmp_path):
    picture = graph_picture(chord())
    for name in ("svg", "html", "dot", "mermaid"):
        write, file = getattr(picture, f"to_{name}"), tmp_path / f"x.{name}"
        assert write(file) is None
        assert file.read_text(encoding="utf-8") == write()
        with pytest.raises(FileNotFoundError, match=r"cannot write 'x\.svg': the folder '.*nowhere' does not exist"):
            write(tmp_path / "nowhere" / "x.svg")
        with pytest.raises(IsADirectoryError, match="it is a folder; give a file in it"):
            write(str(tmp_path))
    assert picture.to_html().startswith("<!DOCTYPE html>")
    ET.fromstring(picture.to_svg())
