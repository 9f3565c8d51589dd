"""What workers elsewhere say of tasks, told to the runs that are open here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nbcanvas.errors import NBCanvasError
from nbcanvas.events import event as kinds
from nbcanvas.events.hub import Hub
from nbcanvas.protocol.payload import unpack

if TYPE_CHECKING:  # what only apps with servers load
    from nbcanvas.backend.redis.news import News

__all__ = ["tell"]

log = logging.getLogger("nbcanvas.app")


def tell(hub: Hub, news: News) -> None:
    """Tell the run a piece of news is about, if it is open here.

    Parameters
    ----------
    hub
        The app's.
    news
        From a worker of ours, with the root id; or from a result that a worker of Celery's published, without.
    """
    feed = hub.feed(news.root_id) if news.root_id else hub.feed_of(news.id)
    if feed is None:
        return
    try:
        if news.began is not None:
            feed((kinds.STARTED, news.id, news.began[0], news.attempt, news.began[1]))
        feed((news.kind, news.id, news.time, news.attempt, _data(news)))
    except (NBCanvasError, ValueError, TypeError, KeyError) as error:
        log.warning("news of task %s makes no sense: %s", news.id, error)


def _data(news: News) -> Any:  # noqa: PLR0911 - one for each kind
    """Return what an event of that kind carries (see `nbcanvas.events.event.Event`)."""
    kind, data, record = news.kind, news.data, news.record
    if kind == kinds.FAILED:
        return (record.exc, record.traceback) if record is not None else (None, None)
    if kind == kinds.RETRIED:
        return (record.exc if record is not None else None), data
    if kind == kinds.REVOKED:
        return str(record.exc if record is not None else data or "")
    if kind == kinds.REJECTED:
        return str(data or "")
    if kind == kinds.STARTED and data is None and record is not None:
        said = unpack(record.payload)
        return str(said.get("hostname") or "") if isinstance(said, dict) else ""
    if kind == kinds.PROGRESS:
        return tuple(data) if record is None else (record.state, unpack(record.payload))
    if kind == kinds.GRAFTED:
        from nbcanvas.protocol.plans import load  # few runs graft

        return load(data["plan"]), data["role"]
    return None if kind in _BARE else data


_BARE = frozenset({kinds.SUCCEEDED, kinds.IGNORED, kinds.REPLACED})
