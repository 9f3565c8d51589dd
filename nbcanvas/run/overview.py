"""``nbcanvas.cluster()``: what the workers of an app are doing, as a picture and as DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Lock
from typing import TYPE_CHECKING, Any

from nbcanvas.app import App, current_app
from nbcanvas.app.fleet import PATIENCE, Heard
from nbcanvas.app.sight import Sight
from nbcanvas.picture.cluster import cluster_picture

from .audience import tells_clocks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cluster", "cluster"]


class Cluster:
    """A cluster at one moment; it shows itself as a picture.

    Parameters
    ----------
    sight
        What was seen.

    Attributes
    ----------
    sight
        See above: plain values.
    """

    def __init__(self, sight: Sight) -> None:
        self.sight = sight

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the workers that did not answer."""
        return self.sight.silent

    @property
    def workers(self) -> pd.DataFrame:
        """Return a row for each worker."""
        from nbcanvas.tables.cluster import workers_frame

        return workers_frame(self.sight)

    @property
    def queues(self) -> pd.DataFrame:
        """Return a row for each queue."""
        from nbcanvas.tables.cluster import queues_frame

        return queues_frame(self.sight)

    @property
    def active(self) -> pd.DataFrame:
        """Return a row for each task that runs."""
        from nbcanvas.tables.cluster import jobs_frame

        return jobs_frame(self.sight.active)

    @property
    def reserved(self) -> pd.DataFrame:
        """Return a row for each task that a worker has taken, and that waits for a slot."""
        from nbcanvas.tables.cluster import jobs_frame

        return jobs_frame(self.sight.reserved)

    @property
    def scheduled(self) -> pd.DataFrame:
        """Return a row for each task that waits for its time in a worker."""
        from nbcanvas.tables.cluster import jobs_frame

        return jobs_frame(self.sight.scheduled)

    def __repr__(self) -> str:
        return cluster_picture(self.sight, clocks=tells_clocks()).text

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        return cluster_picture(self.sight, clocks=tells_clocks())._repr_mimebundle_(include, exclude)


def cluster(
    app: App | None = None, *, timeout: float = PATIENCE, on_answer: Callable[[Cluster], None] | None = None
) -> Cluster:
    """Look at the workers of an app: who is there, what runs, what waits.

    Parameters
    ----------
    app
        The current one by default.
    timeout
        Seconds to wait for an answer.
    on_answer
        Hears what is known whenever a worker has answered something, in another thread, one answer after the other.

    Returns
    -------
    Cluster
        With the DataFrames ``workers``, ``queues``, ``active``, ``reserved``, ``scheduled``, and who was ``silent``.

    Raises
    ------
    ServerLost
        When the broker does not answer.
    """
    fleet = (app if app is not None else current_app()).fleet
    return Cluster(fleet.sight(timeout=timeout, heard=None if on_answer is None else _partial(fleet, on_answer)))


def _partial(fleet: Any, on_answer: Callable[[Cluster], None]) -> Heard:
    known: dict[str, dict[str, Any]] = {}
    telling = Lock()

    def heard(command: str, worker: str, answer: Any) -> None:
        with telling:  # each question has a thread of its own; what is told grows by one answer at a time
            known.setdefault(command, {})[worker] = answer
            on_answer(Cluster(fleet.seen({name: dict(told) for name, told in known.items()})))

    return heard
