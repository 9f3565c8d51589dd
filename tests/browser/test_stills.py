"""The stills in a real browser: nothing from data runs, loads or becomes an element; they can be read by everybody."""

import json
from pathlib import Path

import nbformat
import pytest

from nbcanvas.picture import (
    bars_picture,
    graph_picture,
    report_html,
    table_picture,
    timeline_picture,
)
from nbcanvas.picture.explain import explain, explanation_html
from nbcanvas.picture.markup import LOOKS, cut
from nbcanvas.plan import Call, Chain, Fan
from nbcanvas.tables import frame
from tests.picture.payloads import PAYLOADS
from tests.picture.runs import call, ran, run_of, told

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

MODULES = Path(__file__).parents[2] / "widgets" / "node_modules"
NOW = 110.0


@pytest.fixture
def page(chrome):
    page = chrome.new_page(viewport={"width": 1060, "height": 700})
    page.set_default_timeout(60_000)
    yield page
    page.close()


@pytest.fixture
def guarded(page):
    """A page that counts what it should not: scripts that ran, requests, dialogs."""
    page.found = []
    page.expose_function("pwned", lambda: page.found.append("a script ran"))
    page.route("**/*", lambda route: (page.found.append(route.request.url), route.abort()))
    page.on("dialog", lambda dialog: (page.found.append("a dialog"), dialog.dismiss()))
    page.on("pageerror", lambda error: page.found.append(str(error)))
    return page


def batched(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


def pictures(text):
    """Everything that draws, drawing a run that has `text` wherever somebody could have put it."""
    root, state, value_of, describe = run_of(text)
    graphs = {
        "graph": graph_picture(root, state, describe=describe),
        "signature": graph_picture(root),
        "coloured": graph_picture(root, state, text, describe),
        "experiment": graph_picture(root, state, "experiment"),
    }
    drawn = {
        **graphs,
        "bars": bars_picture(state, NOW),
        "timeline": timeline_picture(state, NOW),
        "table": table_picture(state, value_of, describe),
    }
    made = {name: drawn[name].html for name in ("graph", "bars", "timeline", "table")}
    made |= {f"{name}.svg": picture.svg for name, picture in drawn.items()}
    made["explain"] = explanation_html(explain(root, args_of=lambda _: describe(None)[:2], queue_of=lambda _: text))
    made["report"] = report_html(
        root, state, NOW, title=text, canvas=text, environment=text, value_of=value_of, describe=describe
    )
    return made, graphs["graph"].to_mermaid()


#: What stands in a document: each kind of element with the names of its attributes, and how many elements there are.
SURVEY = """(pieces) => Object.fromEntries(Object.entries(pieces).map(([name, html]) => {
  const xml = name.endsWith(".svg");
  const parsed = new DOMParser().parseFromString(html, xml ? "image/svg+xml" : "text/html");
  const kinds = new Set();
  let count = 0;
  for (const element of parsed.querySelectorAll("*")) {
    kinds.add([element.localName, ...element.getAttributeNames().sort()].join(" "));
    count += 1;
  }
  return [name, [[...kinds].sort(), count]];
}))"""


#: Each page in a frame of its own, where it runs whatever would run.
FRAMES = """(pages) => Promise.all(pages.map((html) => new Promise((resolve) => {
  const frame = document.createElement("iframe");
  frame.onload = resolve;
  frame.srcdoc = html;
  document.body.append(frame);
})))"""


@pytest.mark.timeout(600)  # a minute's work where nobody else works
def test_nothing_from_data_runs_loads_or_becomes_an_element(guarded):
    plain = guarded.evaluate(SURVEY, pictures("plain")[0])
    for texts in batched(PAYLOADS, 16):
        drawn = [pictures(text)[0] for text in texts]
        for text, made in zip(texts, drawn, strict=True):
            assert all(len(html) < 150_000 for html in made.values()), text[:80]
            for name, (kinds, count) in guarded.evaluate(SURVEY, made).items():
                assert set(kinds) <= set(plain[name][0]), (name, text[:80])
                assert count <= plain[name][1] * 1.05 + 2, (name, text[:80])  # one line more or less, of texts cut
        # All of it as a page; the svgs inline, as some sites put them.
        reports = [made.pop("report") for made in drawn]
        guarded.set_content("".join(f"<section>{html}</section>" for made in drawn for html in made.values()))
        guarded.evaluate(FRAMES, reports)
        assert guarded.evaluate("frames.length") == len(texts)
        assert guarded.found == []


def test_nothing_from_data_gets_out_of_a_frames_html(guarded):
    texts = [text for text in PAYLOADS if len(text) < 5000 and "\ud800" not in text]
    for some in batched(texts, 30):
        runs = [run_of(text)[1:] for text in some]
        tables = [
            frame(state, value_of=value_of, describe=describe)._repr_html_() for state, value_of, describe in runs
        ]
        guarded.set_content("".join(tables))
        assert guarded.evaluate("document.querySelectorAll('table').length") == len(some)
        assert guarded.evaluate("document.querySelectorAll('img, script, svg, iframe, a').length") == 0
    assert guarded.found == []


def test_mermaid_draws_every_text_as_it_is(guarded):
    guarded.set_content("<div id=here></div>")
    guarded.add_script_tag(content=(MODULES / "@mermaid-js" / "tiny" / "dist" / "mermaid.tiny.js").read_text())
    # Loose: what is safe then is safe because of us.
    guarded.evaluate("mermaid.initialize({ startOnLoad: false, securityLevel: 'loose' })")
    draw = """async (source) => {
        const { svg } = await mermaid.render("m", source);
        document.getElementById("here").innerHTML = svg;
        return [...document.querySelectorAll("#here .nodeLabel")].map((label) => label.textContent);
    }"""
    shown = list(dict.fromkeys(cut(text, 60) for text in PAYLOADS if text.strip()))
    for tasks in batched(shown, 12):
        root = Chain([*(call(f"c{i}", f"x.{task}.") for i, task in enumerate(tasks)), call("end", "plain")])
        labels = guarded.evaluate(draw, graph_picture(root).to_mermaid())
        assert [" ".join(label.split()) for label in labels] == [*(cut(f"x.{task}.", 60) for task in tasks), "plain"]
    for text in PAYLOADS[::9]:
        guarded.evaluate(draw, pictures(text)[1])
    assert guarded.found == []


# -- for everybody ----------------------------------------------------------------------------------------------------


def training():
    """A run as people have them: retries, a failure, progress, a link, an errback that did not fire, stamps."""
    stamps = [{"experiment": 41 + k % 2} for k in range(5)]
    folds = [
        Chain(
            [
                Call(f"train{k}", "ml.train", None, stamps=stamps[k]),
                Call(f"score{k}", "ml.score", None, stamps=stamps[k]),
            ]
        )
        for k in range(5)
    ]
    load = call("load", "ml.load", links=(call("log", "ops.log"),), errbacks=(call("mail", "ops.mail"),))
    clean = Fan("clean", [call(f"clean{k}", "ml.clean") for k in range(3)])
    root = Chain(
        [load, clean, call("merge", "ml.merge"), Fan("cv", folds), call("best", "ml.best"), call("report", "ml.report")]
    )
    error = ValueError("loss is nan")
    traceback = 'Traceback (most recent call last):\n  File "train.py", line 3, in train\nValueError: loss is nan\n'
    slot = ["w1@gpu/1", "w1@gpu/2", "w2@gpu/1", "w2@gpu/2"]
    return told(
        root,
        *ran("load", 100.1, 101.0, slot[0]),
        *ran("log", 101.0, 101.2, slot[2]),
        *(event for k in range(3) for event in ran(f"clean{k}", 101.1 + k / 10, 102.0 + k / 3, slot[k])),
        *ran("merge", 102.7, 103.0, slot[2]),
        *(
            (what, f"train{k}", 103.0 + at, 0, data)
            for k in range(4)
            for what, at, data in (("sent", 0, None), ("started", k / 10, slot[k]))
        ),
        ("succeeded", "train0", 105.0),
        *ran("score0", 105.0, 105.2, slot[0]),
        ("retried", "train1", 103.8, 0, (RuntimeError("out of memory"), 104.0)),
        ("sent", "train1", 103.8, 1),
        ("started", "train1", 104.0, 1, slot[1]),
        ("succeeded", "train1", 106.0, 1),
        ("failed", "train2", 105.1, 0, (error, traceback)),
        ("failed", "score2", 105.1, 0, (error, None)),
        ("sent", "train4", 103.0),
        ("started", "train4", 105.3, 0, slot[0]),
        ("progress", "train4", 106.3, 0, ("PROGRESS", {"current": 7, "total": 20})),
        ("sent", "score1", 106.0),
    )


def describe(call):
    number = call.id.lstrip("abcdefghijklmnopqrstuvwxyz")
    return ((int(number),) if number else ()), {"epochs": 20} if "train" in call.id else {}, "celery", None


def views():
    state = training()
    return {
        "graph": graph_picture(state.root, state, describe=describe),
        "graph-by-stamp": graph_picture(state.root, state, "experiment", describe),
        "timeline": timeline_picture(state, 106.4),
        "table": table_picture(state, lambda _: 0.97, describe),
        "bars": bars_picture(state, 106.4),
    }


def whole_report():
    state = training()
    return report_html(
        state.root, state, 106.4, title="Run total", canvas="load() | group(...) | merge()", value_of=lambda _: 0.97,
        describe=describe, environment="nbcanvas on Python",
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_for_everybody(chrome, tmp_path, picture, scheme):
    file = tmp_path / "report.html"
    file.write_text(whole_report(), encoding="utf-8")
    page = chrome.new_page(viewport={"width": 1180, "height": 800}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 100)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1180
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 29)"
    assert dark == (scheme == "dark")
    page.evaluate((MODULES / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    problems = [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found["violations"]]
    assert problems == []
    assert len(found["passes"]) > 15
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert said == []
    picture(page.locator("body"), f"report-{scheme}")
    page.close()


def test_the_report_can_be_printed(page, tmp_path):
    page.set_content(whole_report())
    page.emulate_media(media="print")
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("getComputedStyle(document.querySelector('pre')).maxHeight") == "none"


@pytest.mark.parametrize(("scheme", "ground"), [("light", "#ffffff"), ("dark", "#111111")])
def test_stills_are_legible_on_any_ground(chrome, picture, scheme, ground):
    page = chrome.new_page(viewport={"width": 1060, "height": 500}, color_scheme=scheme)
    for name, one in views().items():
        ink = {"light": "#222", "dark": "#ddd"}[scheme]
        shown = f'<main style="display:inline-block;min-width:860px;padding:16px">{one.html}</main>'
        look = f"margin:0;font-family:system-ui;background:{ground};color:{ink};color-scheme:{scheme}"
        page.set_content(f'<body style="{look}">{shown}</body>')
        picture(page.locator("main"), f"{name}-{scheme}")
        page.set_content(f'<body style="background:{ground}">{one.svg}</body>')
        texts = page.evaluate(CONTRASTS, ground)
        assert texts, name
        for text, contrast in texts:
            # 3 is what WCAG asks of graphics; 4.5 of text, which no one grey has on white and on black.
            least = 3 if text in {look.glyph for look in LOOKS.values()} | {"■", "━"} else 4.2
            assert contrast >= least, (name, text, contrast)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_still_in_an_image_follows_the_page_that_shows_it(chrome, scheme):
    """As JupyterLab sets it with its theme, whatever the system prefers."""
    page = chrome.new_page(color_scheme="light" if scheme == "dark" else "dark")
    page.set_content(f'<body style="color-scheme:{scheme}">{views()["graph"].html}</body>')
    page.evaluate("document.images[0].decode()")
    darkest = page.evaluate("""() => {
      const [image] = document.images, [width, height] = [image.naturalWidth, image.naturalHeight];
      const brush = new OffscreenCanvas(width, height).getContext("2d");
      brush.drawImage(image, 0, 0);
      const seen = brush.getImageData(0, 0, width, height).data, counts = {};
      for (let i = 0; i < seen.length; i += 4)
        if (seen[i + 3] === 255) { const c = seen.slice(i, i + 3).join(); counts[c] = (counts[c] ?? 0) + 1; }
      const [most] = Object.entries(counts).sort((one, other) => other[1] - one[1])[0];
      return most.split(",").map(Number);
    }""")
    assert (max(darkest) < 100) == (scheme == "dark")
    page.close()


#: The contrast of each text with the last filled shape drawn below its middle, or with the ground.
CONTRASTS = """(ground) => {
  const channels = (colour) => {
    const probe = new OffscreenCanvas(1, 1).getContext("2d");
    probe.fillStyle = ground; probe.fillRect(0, 0, 1, 1);
    for (const [fill, opacity] of colour) {
      probe.globalAlpha = opacity; probe.fillStyle = fill; probe.fillRect(0, 0, 1, 1);
    }
    return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll("text")].map((text) => {
    const box = text.getBoundingClientRect(), below = [];
    const x = box.x + box.width / 2, y = box.y + box.height / 2;
    for (const shape of document.querySelectorAll("rect")) {
      const place = shape.getBoundingClientRect(), fill = getComputedStyle(shape).fill;
      const before = shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
      const around = place.left <= x && x <= place.right && place.top <= y && y <= place.bottom;
      if (before && around && fill !== "none" && !fill.startsWith("url"))
        below.push([fill, Number(shape.getAttribute("fill-opacity") ?? 1)]);
    }
    const one = luminance(channels([[getComputedStyle(text).fill, 1]])), other = luminance(channels(below));
    return [text.textContent, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
  });
}"""

OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
  const found = [];
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 3) found.push([one, other]);
  }));
  const svg = document.querySelector("svg").getBoundingClientRect();
  const off = (box) => box.left < svg.left - 1 || box.right > svg.right + 1;
  for (const [text, box] of boxes) if (off(box)) found.push([text, "cut off"]);
  return found;
}"""


def test_no_text_covers_another_or_is_cut_off(page):
    for name, one in views().items():
        page.set_content(one.svg)
        assert page.evaluate(OVERLAPS) == [], name


# -- where notebooks are read -----------------------------------------------------------------------------------------


def saved(path):
    """A notebook with a still in each cell, as it lies in a repository."""
    cells = []
    for one in views().values():
        output = nbformat.v4.new_output("display_data", data=one._repr_mimebundle_())
        cells.append(nbformat.v4.new_code_cell("", outputs=[output]))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


LOOK = """() => ({
  images: [...document.images]
    .filter((image) => image.src.startsWith("data:image/svg"))
    .map((image) => [image.naturalWidth > 100, image.alt]),
  heads: [...document.querySelectorAll("th")].map((head) => head.textContent),
})"""


def expected():
    made = views()
    return {
        "images": [[True, made[name].alt] for name in ("graph", "graph-by-stamp", "timeline")],
        "heads": ["name", "path", "args", "state", "result", "error", "worker", "retries", "runtime"],
    }


def test_a_notebook_that_is_not_trusted_shows_its_stills(lab, lab_folder, page, picture):
    saved(lab_folder / "stills.ipynb")
    page.goto(f"{lab}/lab/tree/stills.ipynb?reset")
    page.wait_for_selector(".jp-Notebook th")
    page.locator(".jp-Dialog button", has_text="No Kernel").click()  # to look at it, none is needed
    page.wait_for_selector(".jp-Dialog", state="detached")
    page.wait_for_function("[...document.images].filter((i) => i.src.startsWith('data:image/svg')).length >= 3")
    assert page.evaluate(LOOK) == expected()
    picture(page, "untrusted-lab")


def test_nbconvert_shows_the_stills(page, tmp_path):
    from nbconvert import HTMLExporter

    saved(tmp_path / "stills.ipynb")
    html, _ = HTMLExporter().from_filename(str(tmp_path / "stills.ipynb"))
    page.route("http*://**/*", lambda route: route.abort())
    page.set_content(html, wait_until="domcontentloaded")
    page.wait_for_function("document.images.length >= 3 && [...document.images].every((image) => image.complete)")
    assert page.evaluate(LOOK) == expected()


def test_what_is_saved_is_markup_that_sanitisers_leave_alone(page):
    # GitHub's and JupyterLab's lists both have these; neither has style elements, svg or ids.
    allowed = {"img", "div", "span", "table", "thead", "tbody", "tr", "th", "td", "code", "p", "b"}
    for name, one in views().items():
        kinds = page.evaluate(SURVEY, {name: one.html})[name][0]
        assert {kind.split(" ")[0] for kind in kinds} - {"html", "head", "body"} <= allowed, json.dumps(kinds)
        assert not any(attribute in kind.split(" ")[1:] for kind in kinds for attribute in ("id", "class")), name
