"""The worker of a cluster."""

from .worker import ClusterWorker

__all__ = ["ClusterWorker"]
