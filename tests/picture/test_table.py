"""``run.table()`` and ``run.bars()`` as pictures, and the report that has everything."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from nbcanvas.picture import bars_picture, report_html, table_picture
from nbcanvas.picture.bars import bars_html, bars_model, bars_text
from nbcanvas.plan import Call, Chain, Fan
from tests.picture.payloads import PAYLOADS
from tests.picture.runs import Loud, call, chord, ran, run_of, told

NS = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Reads html, and holds it to be well formed."""

    def __init__(self, html):
        super().__init__()
        self.text, self.open, self.kinds, self.rows = [], [], set(), []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.kinds.add((tag, *sorted(name for name, _ in attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def describe(call):
    return (int(call.id[1:]), None), {"k": "v"}, "celery", None


def value_of(call):
    return {"n": call.id}


def failing():
    return told(
        Fan("g", [call(f"m{i}", "pkg.add") for i in range(3)]),
        *ran("m0", 101, 103.5),
        ("started", "m1", 101.0, 0, "w/2"),
        ("failed", "m1", 102.0, 0, (TypeError("no"), "Traceback\n  line\nTypeError: no")),
    )


def test_the_table():
    picture = table_picture(failing(), value_of, describe)
    assert picture.text == (
        "  name  path      args             state    result       error          worker  runtime\n"
        "✓ add   group[0]  (0, None, k='v')  SUCCESS  {'n': 'm0'}                 w/1       2.5 s\n"
        "✗ add   group[1]  (1, None, k='v')  FAILURE               TypeError: no  w/2       1.0 s\n"
        "○ add   group[2]  (2, None, k='v')  WAITING"
    ).replace("args             state", "args              state")
    rows = Reader(picture.html).rows
    assert rows[0] == ["name", "path", "args", "state", "result", "error", "worker", "runtime"]
    assert rows[2] == ["add", "group[1]", "(1, None, k='v')", "✗\u00a0FAILURE", "", "TypeError: no", "w/2", "1.0 s"]
    assert picture.html.count('<th scope="col"') == 8
    said = [text.text for text in ET.fromstring(picture.svg).iter(NS + "text")]
    assert {"✗", "group[1]", "TypeError: no", "w/2"} <= set(said)


def test_columns_that_say_nothing_are_left_out():
    picture = table_picture(told(call("m1")))
    assert picture.text.splitlines() == ["  name  state", "○ add   WAITING"]


def test_without_durations_equal_runs_are_equal():
    def run(speed, worker):
        return told(
            chord(2), *(event for i in ("m0", "m1", "body") for event in ran(i, 100 + speed, 101 + speed, worker))
        )

    made = [table_picture(run(*how), durations=False) for how in ((1, "a"), (7, "b"))]
    assert made[0] == made[1]
    made = [bars_picture(run(*how), 999.0, durations=False) for how in ((1, "a"), (7, "b"))]
    assert made[0] == made[1]
    made = [report_html(chord(2), run(*how), 999.0, durations=False) for how in ((1, "a"), (7, "b"))]
    assert made[0] == made[1]


def test_of_many_rows_the_failed_ones_are_always_shown():
    root = Fan("g", [call(f"m{i}") for i in range(20_000)])
    state = told(root, *(("failed", f"m{i}", 101.0, 0, (ValueError(i), "tb")) for i in range(10_000, 10_010)))
    asked = []
    picture = table_picture(state, None, lambda call: (asked.append(call), describe(call))[1])
    rows = Reader(picture.html).rows
    assert len(rows) == 61
    assert [row[1] for row in rows[1:51]] == [f"group[{i}]" for i in range(50)]
    assert [row[1] for row in rows[51:]] == [f"group[{i}]" for i in range(10_000, 10_010)]
    assert picture.text.endswith("and 19\u202f940 more")
    assert len(asked) == 60
    assert len(picture.html) < 100_000


def test_what_did_not_start_has_no_row():
    state = told(call("x", links=(call("l"),), errbacks=(call("e"),)), *ran("x", 101, 102), *ran("l", 102, 103))
    assert [line[:1] for line in table_picture(state).text.splitlines()] == [" ", "✓", "✓"]


def test_retries_and_progress_have_a_place():
    state = told(
        call("m1"),
        ("retried", "m1", 101.0, 0, (ValueError(), None)),
        ("started", "m1", 102.0, 1, "w"),
        ("progress", "m1", 103.0, 1, ("PROGRESS", {"current": 1, "total": 4})),
    )
    assert table_picture(state).text.splitlines()[1].split() == ["▶", "add", "PROGRESS", "w", "1", "25%"]


class Broken:
    def __repr__(self):
        raise ValueError("no repr")


class BrokenError(Exception):
    def __str__(self):
        raise ValueError("no text")


def test_values_whose_repr_raises_are_named_by_their_type():
    state = told(
        Fan("g", [call("m0"), call("m1")]), *ran("m0", 101, 102), ("failed", "m1", 102.0, 0, (BrokenError(), "tb"))
    )
    text = table_picture(state, lambda _: Broken(), lambda _: ((Broken(),), {"x": [Broken()]}, None, None)).text
    assert "(<Broken>, x=[<Broken>])" in text
    assert "BrokenError" in text
    assert "0x" not in table_picture(state, lambda _: object()).text


def test_bars_are_a_picture_too():
    state = failing()
    model = bars_model(state, 110.0)
    picture = bars_picture(state, 110.0)
    assert (picture.text, picture.html) == (bars_text(model), bars_html(model))
    said = [text.text for text in ET.fromstring(picture.svg).iter(NS + "text")]
    assert said[:3] == ["▶", "add ×3", "1/3 · 1 failed"]
    assert picture.alt.startswith("Progress: running, 1 of 3 tasks, 10 s")


# -- the report -------------------------------------------------------------------------------------------------------


def report(state, **more):
    return report_html(state.root, state, 110.0, value_of=value_of, describe=describe, **more)


def test_the_report_tells_everything():
    html = report(failing(), title="Run total", canvas="group(...)", environment="Python 3.13")
    said = "\n".join(Reader(html).text)
    for part in (
        "Run total",
        "The run goes on: 1 succeeded, 1 waiting, 1 failed in 10 s.",
        "group(...)",
        "group[1] → add(1, None, k='v')",
        "Traceback\n  line\nTypeError: no",
        "Written by nbcanvas · Python 3.13.",
    ):
        assert part in said
    assert re.findall(r"<h2[^>]*>(\w+)", html) == ["Progress", "Failures", "Graph", "Timeline", "Tasks"]
    assert "Failures" not in report(told(call("m1"), *ran("m1", 101, 102)))


def test_the_report_needs_nothing_else():
    html = report(failing())
    assert not re.search(r"<script|<link|javascript:|\son\w+=", html)
    assert set(re.findall(r'(?:src|href|xlink:href)="([^:"]*):', html)) == {"data"}
    assert "http" not in re.sub(r"data:image/svg\+xml;base64,[\w+/=]*", "", html).replace("http-equiv", "")


def test_of_a_long_traceback_the_end_is_told():
    text = "\n".join(f"line {i}" for i in range(10_000)) + "\nValueError: x"
    state = told(call("m1"), ("failed", "m1", 101.0, 0, (ValueError("x"), text)))
    html = report(state)
    assert "line 9999\nValueError: x" in html
    assert "line 9000" not in html
    assert len(html) < 100_000


def test_a_report_of_many_is_not_long():
    root = Fan("g", [Chain([call(f"m{i}"), call(f"n{i}")]) for i in range(10_000)])
    state = told(root, *(("failed", f"m{i}", 101.0, 0, (ValueError(i), "tb\n" * 500)) for i in range(0, 10_000, 7)))
    html = report(state)
    assert "and 1409 more that failed." in html
    assert len(html) < 300_000


# -- safe -------------------------------------------------------------------------------------------------------------


def drawn(text):
    root, state, value_of, describe = run_of(text)
    yield table_picture(state, value_of, describe)
    yield bars_picture(state, 110.0)
    yield report_html(
        root, state, 110.0, title=text, canvas=text, environment=text, value_of=value_of, describe=describe
    )


def html_of(one):
    return one if isinstance(one, str) else one.html


@pytest.fixture(scope="module")
def plain():
    """The markup of a text that has nothing in it, for each renderer."""
    return [Reader(html_of(one)).kinds for one in drawn("plain")]


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_nothing_from_data_becomes_markup(text, plain):
    for found, expected in zip(drawn(text), plain, strict=True):
        html = html_of(found)
        assert Reader(html).kinds <= expected
        assert len(html) < 150_000
        html.encode()
        if not isinstance(found, str):
            for said in (found.text, found.alt):
                assert not set(said.replace("\n", "")) & {"\x1b", "\x00", "\x07", "\r", "\u202e", "\u2028", "\ud800"}
                assert len(said) < 20_000
            ET.fromstring(found.svg.encode())


def test_values_are_cut():
    state = told(Call("m0", "add", None), *ran("m0", 101, 102))
    picture = table_picture(state, lambda _: Loud("x" * 10_000_000), lambda _: (("y" * 10_000_000,), {}, None, None))
    assert len(picture.html) < 3_000
