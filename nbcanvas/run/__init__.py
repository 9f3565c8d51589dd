"""The Run: one handle for everything that happened to a canvas."""

from nbcanvas.tables import frames as frame

from .attach import AttachedRun, attach
from .audience import Audience, set_audience
from .recording import Recording
from .run import Run, explain, prepare, submit

__all__ = [
    "AttachedRun",
    "Audience",
    "Recording",
    "Run",
    "attach",
    "explain",
    "frame",
    "prepare",
    "set_audience",
    "submit",
]
