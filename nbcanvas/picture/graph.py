"""``run.graph()``: the picture of a canvas and of what is known of its run."""

from __future__ import annotations

from nbcanvas import states
from nbcanvas.events.state import State
from nbcanvas.plan import Node

from .drawing import image
from .export import dot, mermaid
from .faults import Describe, faults
from .markup import cut, number, plural
from .picture import Graph
from .stamped import Stamped
from .svg import draw, folded
from .words import alt

__all__ = ["graph_picture"]


def graph_picture(
    root: Node, state: State | None = None, color: str | None = None, describe: Describe | None = None
) -> Graph:
    """Return the picture of a canvas.

    Parameters
    ----------
    root
        The frozen canvas.
    state
        What is known of its run; None draws the canvas alone.
    color
        The name of a stamp whose values give the colours; None colours by state.
    describe
        Gives a call's arguments, for the failed ones that are named.

    Returns
    -------
    Graph
        Big groups are folded: it stays below 100 kB whatever the canvas.

    Raises
    ------
    ValueError
        When no task has the stamp `color`.
    """
    folding = folded(root, state)
    stamped = None if color is None else Stamped(color, folding.grown.everything())
    said = alt(folding, state)
    if stamped is not None:
        said += f" Coloured by {cut(str(stamped.name), 60)}: " + ", ".join(
            f"{value} ({number(count)})" for value, count in stamped.counts.items()
        )
        said += "."
    lines = _failed(state, describe) if state is not None else []
    svg = draw(folding, said, state, stamped, lines)
    text = "\n".join([said, *(f"  ✗ {line}" for _, line in lines)])
    alternative = " ".join([said, *(f"Failed: {line}." for _, line in lines[:3])])
    return Graph(
        text=text,
        html=image(svg, alternative),
        svg=svg,
        alt=alternative,
        title="Graph",
        dot=lambda: dot(folding, state),
        mermaid=lambda: mermaid(folding, state),
    )


def _failed(state: State, describe: Describe | None) -> list[tuple[str, str]]:
    found, ran, skipped = faults(state, describe)
    lines = [str(fault) for fault in found]
    if ran > len(found):
        lines.append(f"and {number(ran - len(found))} more that failed")
    if skipped:
        lines.append(f"{plural(skipped, 'task')} that waited for {'it' if ran == 1 else 'them'} never ran")
    return [(states.FAILURE, line) for line in lines]
