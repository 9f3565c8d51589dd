"""What the process that pawns are forked from has imported."""

import redis

import nbcanvas.cli.worker
import tests.cluster.trouble

__all__ = ["nbcanvas", "redis", "tests"]
