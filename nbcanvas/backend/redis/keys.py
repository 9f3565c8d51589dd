"""Names of keys: Celery's, shared with it, and ours beside them (PROTOCOL: "Groups and chords", "Results")."""

from __future__ import annotations

__all__ = ["Keys"]


class Keys:
    """The names of keys and channels in the store of results.

    Parameters
    ----------
    prefix
        ``global_keyprefix`` of Celery's ``result_backend_transport_options``.

    Attributes
    ----------
    task, group
        What task ids and group ids are put behind: Celery's.
    mark
        The highest attempt of a task that was settled, where the task's document does not tell.
    news
        The channel on which our workers tell a client what became of its messages.
    epoch
        A token that is as old as the data of the server.
    plan, run, runs
        Frozen plans that messages refer to; runs, and the list of them.
    """

    def __init__(self, prefix: str = "") -> None:
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"  # as Celery does
        self.prefix = prefix
        self.task = f"{prefix}celery-task-meta-"
        self.group = f"{prefix}celery-taskset-meta-"
        self.mark = f"{prefix}nbcanvas-settled-"
        self.news = f"{prefix}nbcanvas:news:"
        self.plan = f"{prefix}nbcanvas-plan-"
        self.run = f"{prefix}nbcanvas-run-"
        self.epoch = f"{prefix}nbcanvas:epoch"
        self.runs = f"{prefix}nbcanvas:runs"
