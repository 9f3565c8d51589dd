"""What is known of runs as pandas DataFrames; pandas is imported by the functions that need it."""

from .diff import CHANGES, diff
from .frame import COLUMNS, Description, frame
from .frames import Framed, framed, frames
from .preview import preview
from .values import values

__all__ = ["CHANGES", "COLUMNS", "Description", "Framed", "diff", "frame", "framed", "frames", "preview", "values"]
