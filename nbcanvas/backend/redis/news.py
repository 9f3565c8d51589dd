"""What our workers tell a client: one message of its channel holds what happened to many of its tasks.

A message is lines, two for each piece of news: a JSON list ``[kind, task id, attempt, time, root id, data]``, and the
document of the task as it is stored when it has ended or is tried again (an empty line for other kinds, and for
documents that are not JSON).  Kinds are those of `nbcanvas.events.event`, and the data what is said there, as far as
JSON has it: the worker slot's name of ``started``, the time a retry is due, the reason of a rejection, the written plan
of a graft.  News of what came of a task that ran may have one field more, ``[time, worker]``: when it began and where,
for short tasks are not told of twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final, NamedTuple

from nbcanvas import states
from nbcanvas.backend.documents import Documents
from nbcanvas.backend.port import Record
from nbcanvas.errors import NotSerializable
from nbcanvas.protocol.jsonable import dumps, loads
from nbcanvas.protocol.payload import shown

__all__ = ["KINDS", "News", "headline", "read_news"]

#: State of a record -> the kind of news it is.
KINDS: Final = {
    states.SUCCESS: "succeeded",
    states.FAILURE: "failed",
    states.REVOKED: "revoked",
    states.REJECTED: "rejected",
    states.IGNORED: "ignored",
    states.RETRY: "retried",
    states.PENDING: "replaced",
    states.STARTED: "started",
    states.RECEIVED: "received",
}


class News(NamedTuple):
    """One thing that happened to a task.

    Attributes
    ----------
    kind
        As events have it.
    id, attempt, time, root_id
        Of the task.
    data
        See the module's text.
    record
        The record of what ended, or is tried again; None for other kinds, and when it has to be asked for.
    began
        When the attempt that came to this end began, and the worker's name; None when that is told otherwise.
    """

    kind: str
    id: str
    attempt: int
    time: float
    root_id: str
    data: Any
    record: Record | None
    began: tuple[float, str] | None = None


def headline(
    kind: str,
    task_id: str,
    attempt: int,
    time: float,
    root_id: str,
    data: Any = None,
    began: tuple[float, str] | None = None,
) -> str:
    """Return the first line of a piece of news."""
    more = "null" if data is None else _plain(data)
    if began is not None:
        more = f"{more},[{began[0]:.6f},{quoted(began[1])}]"
    return f'["{kind}",{quoted(task_id)},{attempt:d},{time:.6f},{quoted(root_id)},{more}]'


def _plain(data: Any) -> str:
    try:
        return dumps(data)
    except NotSerializable:
        return dumps(shown(data))


def read_news(message: bytes, documents: Documents) -> Iterator[News]:
    """Yield what a message says; what cannot be understood is left out."""
    lines = message.decode("utf-8", "replace").split("\n")
    heads = lines[::2]
    try:
        told = loads(f"[{','.join(heads)}]")
    except ValueError:
        told = ()
    if len(told) != len(heads):  # one of them is no news: one by one
        told = [_head(head) for head in heads]
    for head, document in zip(told, lines[1::2], strict=False):
        try:
            kind, task_id, attempt, time, root_id, data, *more = head
            began = (float(more[0][0]), str(more[0][1])) if more else None
            record = documents.read(task_id, document) if document else None
            if record is not None:
                record.settled, record.retries = attempt, attempt & 0xFFFFF
        except (ValueError, TypeError, LookupError):
            continue
        yield News(kind, task_id, attempt, time, root_id, data, record, began)


def _head(line: str) -> Any:
    try:
        return loads(line)
    except ValueError:
        return None
