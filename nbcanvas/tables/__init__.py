"""What is known of runs as pandas DataFrames; pandas is imported by the functions that need it."""

from nbcanvas.canvas.host import set_previewer

from .diff import CHANGES, diff
from .frame import COLUMNS, Description, frame
from .frames import Framed, framed, frames
from .preview import preview
from .values import values

__all__ = ["CHANGES", "COLUMNS", "Description", "Framed", "diff", "frame", "framed", "frames", "preview", "values"]

set_previewer(preview)
