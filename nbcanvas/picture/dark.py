"""The svg pictures in a dark theme: what they are drawn in, and what that becomes there.

An svg inside an ``<img>`` sees no theme, but it sees the colour scheme of the page that shows it, which JupyterLab sets
with its theme.  So a picture has its light colours as attributes, and one style that replaces them when it is dark.
What stands outside of boxes (captions, lines, strokes) reads on white and on black and is the same in both: where the
scheme is told wrongly, a picture still reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["DARK", "dark_style"]

#: Light -> dark, of fills and of halos: grounds first, then what is written on them.
DARK: Final[Mapping[str, str]] = {
    # grounds of states
    "#dff3e7": "#15352a",
    "#fde4e3": "#47201f",
    "#f1e6f7": "#362445",
    "#dfedfb": "#172f49",
    "#fbeed6": "#40300f",
    "#e9eef4": "#232e3a",
    "#eceef0": "#2a2e33",
    "#f0f1f3": "#25282d",
    "#e6eefa": "#1c2b42",
    "#ece8fd": "#2a2450",
    # grounds of values of stamps
    "#d3e4fb": "#1b3457",
    "#fde0c2": "#4a2f12",
    "#cfeed9": "#173d2a",
    "#fad5e6": "#4b2138",
    "#e4d9f9": "#33275b",
    "#f7edad": "#413a10",
    "#c6ecec": "#123d3e",
    "#ecd9c7": "#423120",
    "#e3e5e8": "#31353b",
    "#f7f8f9": "#1d2024",
    # sheets, and tracks of bars
    "#fbfcfd": "#191c20",
    "#c9ced6": "#4a5059",
    "#c2d4e8": "#34506f",
    # ink, and glyphs of states
    "#20262e": "#e6e9ed",
    "#5d646e": "#a6aeb8",
    "#1d7a4c": "#5fd39b",
    "#b3261e": "#ff9f99",
    "#7f45a6": "#d5aeee",
    "#1f6fbf": "#80bbf6",
    "#7d4e00": "#f0b65e",
    "#4c647f": "#aabed4",
}


def dark_style(drawn: str) -> str:
    """Return the style of a drawing for a dark page: only for colours that are in it."""
    rules = "".join(
        f'[{what}="{light}"]{{{what}:{dark}}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
        if f'{what}="{light}"' in drawn
    )
    return f"<style>@media(prefers-color-scheme:dark){{{rules}}}</style>" if rules else ""
