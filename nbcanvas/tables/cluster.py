"""A cluster as DataFrames: its workers, its queues, and the tasks that workers have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbcanvas.app.sight import Job, Sight

from .cells import integers, moments, objects

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["jobs_frame", "queues_frame", "workers_frame"]


def workers_frame(sight: Sight) -> pd.DataFrame:
    """Return a row for each worker, those that did not answer included.

    Parameters
    ----------
    sight
        The cluster.

    Returns
    -------
    pandas.DataFrame
        ``worker``, ``kind``, ``version``, ``pool``, ``slots``, ``active``, ``reserved``, ``scheduled``,
        ``processed``, ``queues`` and ``tasks`` (lists), ``uptime``, ``answered``.
    """
    import pandas as pd

    found = sight.workers
    counts = ("slots", "active", "reserved", "scheduled", "processed")
    return pd.DataFrame(
        {
            "worker": objects([one.name for one in found]),
            "kind": objects([one.kind for one in found]),
            "version": objects([one.version for one in found]),
            "pool": objects([one.pool for one in found]),
            **{name: integers([getattr(one, name) for one in found]) for name in counts},
            "queues": objects([list(one.queues or ()) for one in found]),
            "tasks": objects([sorted(one.tasks or ()) for one in found]),
            "uptime": pd.to_timedelta([one.uptime for one in found], unit="s"),
            "answered": [not one.silent for one in found],
        }
    )


def queues_frame(sight: Sight) -> pd.DataFrame:
    """Return a row for each queue: ``queue``, ``messages`` that wait in it, and the ``workers`` that consume it."""
    import pandas as pd

    found = sight.queues
    return pd.DataFrame(
        {
            "queue": objects([one.name for one in found]),
            "messages": integers([one.messages for one in found]),
            "workers": objects([list(one.workers) for one in found]),
        }
    )


def jobs_frame(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return a row for each task: ``id name worker queue args kwargs priority started eta`` (times in UTC)."""
    import numpy as np
    import pandas as pd

    def times(name: str) -> pd.Series:
        found = [getattr(one, name) for one in jobs]
        return moments(np.array([np.nan if one is None else one for one in found], dtype=np.float64))

    texts = ("id", "name", "worker", "queue", "args", "kwargs")
    return pd.DataFrame(
        {
            **{name: objects([getattr(one, name) for one in jobs]) for name in texts},
            "priority": integers([one.priority for one in jobs]),
            "started": times("since"),
            "eta": times("eta"),
        }
    )
