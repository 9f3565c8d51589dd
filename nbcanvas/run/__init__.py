"""The Run: one handle for everything that happened to a canvas."""

from .audience import Audience, set_audience
from .run import Run, submit

__all__ = ["Audience", "Run", "set_audience", "submit"]
