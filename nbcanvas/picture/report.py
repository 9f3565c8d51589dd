"""``run.to_html()``: a page that tells a whole run, and needs nothing else to be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from nbcanvas.events.state import State
from nbcanvas.plan import Call, Node

from .bars import bars_html, bars_model
from .faults import Describe, Fault, faults
from .graph import graph_picture
from .markup import duration, escape, number, plural
from .page import page
from .table import table_picture
from .timeline import timeline_picture
from .words import counted

__all__ = ["report_html"]

#: So many failed tasks are told with their traceback, and so much of each.
_FAULTS: Final = 20
_TRACEBACK: Final = 6000


def report_html(
    root: Node,
    state: State,
    now: float,
    *,
    title: str = "Run",
    canvas: str = "",
    durations: bool = True,
    value_of: Callable[[Call], Any] | None = None,
    describe: Describe | None = None,
    environment: str = "",
    color: str | None = None,
) -> str:
    """Return a run as one html page, without script, that loads nothing.

    Parameters
    ----------
    root
        The frozen canvas.
    state
        What is known of its run.
    now
        Seconds since the epoch.
    title
        What to call the run.
    canvas
        The canvas as it was written, shortened.
    durations
        Whether to show times and workers; without them equal runs give equal pages.
    value_of, describe
        Give a call's result and arguments.
    environment
        A line about versions and machine, at the foot.
    color
        The stamp that colours the graph, as for `graph_picture`.
    """
    model = bars_model(state, now)
    graph = graph_picture(root, state, color, describe)
    timeline = timeline_picture(state, now, durations)
    table = table_picture(state, value_of, describe, durations)
    found, ran, skipped = faults(state, describe, _FAULTS)
    took = f" in {duration(model.elapsed)}" if durations else ""
    how = "The run ended:" if state.done else "The run goes on:"
    lead = f"{how} {counted(state) or 'nothing to run'}{took}."
    header = f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead, 600)}</p>'
    if canvas:
        header += f"\n<p><code>{escape(canvas, 700)}</code></p>"
    parts = [
        _section("progress", "Progress", bars_html(model, durations=durations)),
        _section("failures", "Failures", _failures(state, found, ran, skipped)) if found else "",
        _section(
            "graph",
            "Graph",
            f'<div class="wide" tabindex="0" role="group" aria-label="Graph of the run">{graph.html}</div>',
        ),
        _section("timeline", "Timeline", timeline.html + (_said(timeline.alt) if durations else "")),
        _section(
            "tasks",
            "Tasks",
            f'<div class="wide" tabindex="0" role="group" aria-label="Tasks of the run">{table.html}</div>',
        ),
    ]
    footer = "<p>Written by nbcanvas" + (f" · {escape(environment, 400)}" if environment else "") + ".</p>"
    return page(title, "\n".join(filter(None, parts)), header, footer)


def _section(name: str, head: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{head}</h2>\n{body}\n</section>'


def _said(words: str) -> str:
    return f'<p class="faint">{escape(words, 1200)}</p>'


def _failures(state: State, found: list[Fault], ran: int, skipped: int) -> str:
    parts = []
    for fault in found:
        where = f"{fault.path} → " if fault.path else ""
        traceback = state.traceback(fault.row)
        at = f'<p class="faint">{escape(fault.error, 400)}</p>'
        drawn = f'<pre tabindex="0" aria-label="Traceback">{_lines(traceback)}</pre>' if traceback else ""
        retries = state.retries(fault.row)
        again = f'<p class="faint">retried {plural(retries, "time")}</p>' if retries else ""
        parts.append(f"<article>\n<h3>{escape(where + fault.call, 300)}</h3>\n{at}{again}{drawn}\n</article>")
    if ran > len(found):
        parts.append(f"<p>and {number(ran - len(found))} more that failed.</p>")
    if skipped:
        parts.append(f"<p>{plural(skipped, 'task')} that waited for {'it' if ran == 1 else 'them'} never ran.</p>")
    return "\n".join(parts)


def _lines(traceback: str) -> str:
    """Return a traceback, line by line; of a long one its end, which says most."""
    lines = traceback[-_TRACEBACK:].splitlines()[-80:]
    cut = ["…"] if len(traceback) > _TRACEBACK or len(traceback.splitlines()) > len(lines) else []
    return "\n".join([*cut, *(_line(line) for line in lines)])


def _line(line: str) -> str:
    # Indentation means something in a traceback; `escape` would take it away.
    bare = line.lstrip(" ")
    return " " * min(len(line) - len(bare), 40) + escape(bare, 400)
