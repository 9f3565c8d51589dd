"""A frame without rows that says so, where a person would see a bare head.

Imports pandas: who needs it imports this module then.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

__all__ = ["Nothing"]


class Nothing(pd.DataFrame):  # type: ignore[misc]  # pandas has no types
    """A frame without rows; what is made of it is a frame as any other.

    Parameters
    ----------
    said
        What is shown in its place.
    columns
        Its columns.
    """

    _metadata = ("said",)  # an attribute, not a column

    def __init__(self, said: str, columns: Sequence[str]) -> None:
        super().__init__(columns=list(columns))
        self.said = said

    def __repr__(self) -> str:
        return self.said

    def _repr_html_(self) -> str:  # what notebooks ask for
        return f"<p>{escape(self.said)}</p>"
