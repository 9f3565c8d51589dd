"""What runs tasks: the embedded worker, its pools, and the eager engine."""

from .engine import register

register()

__all__: list[str] = []
