"""Looks after barriers whose slots nobody counts: what the task ``celery.chord_unlock`` does."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, Any

from nbcanvas.backend.port import Record
from nbcanvas.backend.unlock import exits_of, leaves
from nbcanvas.errors import InvalidTaskError
from nbcanvas.plan import release
from nbcanvas.protocol.signatures import Reader
from nbcanvas.states import FAILURE, READY_STATES

if TYPE_CHECKING:
    from .app import App

__all__ = ["unlock"]


def unlock(
    app: App,
    group_id: str,
    callback: Any,
    results: Sequence[Any],
    root_id: str,
    parent_id: str | None,
    enough: Exception | None = None,
) -> bool:
    """Go on behind a group if all of its tasks have ended; False when some have not.

    Parameters
    ----------
    app
        The app.
    group_id, callback
        The group, and the signature of what is behind it.
    results
        The result trees of its members.
    root_id, parent_id
        For the messages' headers.
    enough
        Why nobody looks again: what has not ended, failed with that.

    Raises
    ------
    InvalidTaskError
        When that is no chord.
    """
    trees = [(tree[0], tree[1]) for tree in results]
    task_ids = [task_id for tree in trees for task_id in leaves(tree)]
    records = app.backend.get_many(task_ids)
    missing = [one for one in task_ids if one not in records or records[one].state not in READY_STATES]
    if missing and enough is None:
        return False
    records = {**records, **{one: Record(FAILURE, exc=enough) for one in missing}}
    reader = Reader(app.new_ids(), app.packing.pack_args, app.tasks.versions)
    slot = reader.then(None, dict(callback), group_id, 0)
    join = getattr(slot, "join", None)
    if join is None:
        msg = f"nothing is behind group {group_id}"
        raise InvalidTaskError(msg)
    transition = release(join, exits_of(trees, records), root_id, parent_id, time())
    app.performer.perform(transition, root_id, parent_id, time())
    return True
