"""The Run: one handle for everything that happened to a canvas."""

from nbcanvas.tables import frames as frame

from .attach import AttachedRun, attach
from .audience import Audience, set_audience
from .overview import Cluster, cluster
from .recording import Recording
from .run import Run, explain, prepare, submit

__all__ = [
    "AttachedRun",
    "Audience",
    "Cluster",
    "Recording",
    "Run",
    "attach",
    "cluster",
    "explain",
    "frame",
    "prepare",
    "set_audience",
    "submit",
]
