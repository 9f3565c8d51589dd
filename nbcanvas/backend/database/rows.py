"""Records of tasks as rows of Celery's table, and back again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from nbcanvas import states
from nbcanvas.backend.encoding import Encoding
from nbcanvas.backend.port import Record, Tree
from nbcanvas.errors import CorruptResult
from nbcanvas.plan.model import NO_OPTIONS, Call, Payload
from nbcanvas.protocol.payload import pack, pack_args, unpack, unpack_args

__all__ = ["Rows", "moment", "now"]

#: Columns of Celery's table that hold so much text at most.
_WIDTH = 155

Row = dict[str, Any]


class Rows:
    """Makes rows of records, and records of rows.

    Parameters
    ----------
    encoding
        How values look.
    queue_of, tree_of
        The queue of a call; what a task started, as plain data.
    """

    def __init__(
        self, encoding: Encoding, queue_of: Callable[[Call], str], tree_of: Callable[[Any], Tree] = lambda child: child
    ) -> None:
        self._encoding = encoding
        self._queue_of = queue_of
        self._tree_of = tree_of

    def row(self, task_id: str, record: Record) -> Row:
        """Return the row of a record, all columns of Celery's extended table."""
        encoding, call, stamps = self._encoding, record.call, None
        name = args = kwargs = queue = None
        if call is not None:
            name = call.task[:_WIDTH]
            queue = self._queue_of(call)[:_WIDTH]
            own, named = unpack_args(call.payload)
            given = () if call.immutable else map(unpack, record.given)
            args, kwargs = encoding.dump((*given, *own)), encoding.dump(named)
            if call.stamps:
                kept = {key: _several(value) for key, value in call.stamps.items()}
                stamps = encoding.dump({"stamped_headers": list(kept), "stamps": kept})
        failed = record.state in states.EXCEPTION_STATES and record.exc is not None
        return {
            "task_id": task_id,
            "status": record.state,
            "result": encoding.dump_exception(record.exc)
            if failed and record.exc is not None
            else encoding.dump_payload(record.payload),
            "date_done": moment(record.done) if record.state in states.READY_STATES else None,
            "traceback": record.traceback,
            "children": encoding.dump([self._tree_of(child) for child in record.children]) if record.children else None,
            "name": name,
            "args": args,
            "kwargs": kwargs,
            "worker": None if record.worker is None else record.worker[:_WIDTH],
            "retries": None if call is None else record.retries,
            "queue": queue,
            "stamps": stamps,
        }

    def record(self, row: Mapping[str, Any], call: Call | None = None) -> Record:
        """Return the record of a row; of one that cannot be understood, a failure that says so.

        Parameters
        ----------
        row
            The row.
        call
            The call it is of, when that is known better than from the row.
        """
        try:
            return self._record(row, call)
        except CorruptResult as error:
            found = CorruptResult(f"the stored result of task {row['task_id']} cannot be understood: {error}")
            return Record(states.FAILURE, exc=found, done=_seconds(row["date_done"]) or 0.0)

    def _record(self, row: Mapping[str, Any], call: Call | None) -> Record:
        encoding = self._encoding
        state, result, children = row["status"], row["result"], row.get("children")
        exc = payload = None
        if result is not None:
            if state in states.EXCEPTION_STATES:
                exc = encoding.load_exception(result)
            else:
                payload = encoding.load_payload(result)
        if state in states.PROPAGATE_STATES and exc is None:
            exc = CorruptResult(f"task {row['task_id']} is stored as {state}, with no exception")
        done = _seconds(row["date_done"])
        return Record(
            state,
            payload,
            exc,
            row["traceback"],
            (encoding.load(children) or ()) if children is not None else (),
            (done or 0.0) if state in states.READY_STATES else None,
            row.get("retries") or 0,
            call or self._call(row),
            None,
            row.get("retries") or 0,
            row.get("worker"),
            self._given(row, call) if call is not None and exc is not None else (),
        )

    def _given(self, row: Mapping[str, Any], call: Call) -> tuple[Payload, ...]:
        """Return what was put before the call's own arguments."""
        args = row.get("args")
        if call.immutable or args is None:
            return ()
        found = self._encoding.load(args)
        count = len(found) - len(unpack_args(call.payload)[0]) if isinstance(found, list | tuple) else 0
        return tuple(map(pack, found[:count])) if count > 0 else ()

    def _call(self, row: Mapping[str, Any]) -> Call | None:
        name = row.get("name")
        if name is None:
            return None
        load = self._encoding.load
        args, kwargs, stamps = row.get("args"), row.get("kwargs"), row.get("stamps")
        positional = load(args) if args is not None else ()
        named = load(kwargs) if kwargs is not None else {}
        payload = pack_args(
            tuple(positional) if isinstance(positional, list | tuple) else (positional,),
            named if isinstance(named, dict) else {},
        )
        kept = load(stamps) if stamps is not None else None
        options = {"queue": row["queue"]} if row.get("queue") else NO_OPTIONS
        return Call(
            row["task_id"],
            name,
            payload,
            options=options,
            stamps=kept.get("stamps") if isinstance(kept, dict) else None,
        )


def now() -> datetime:
    """Return the time as Celery's tables have it: UTC, without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)


def moment(seconds: float | None) -> datetime | None:
    """Return seconds since the epoch as Celery's tables have them."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _seconds(date: datetime | None) -> float | None:
    return None if date is None else date.replace(tzinfo=date.tzinfo or UTC).timestamp()


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
