"""Records of tasks as Celery's documents, and back again (PROTOCOL: "Results").

With the serializer json, which is the usual one, a document is put together from texts that are there already; the
state stands first in it, where scripts look for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from nbcanvas import states
from nbcanvas.backend.encoding import Encoding
from nbcanvas.backend.port import Record, Tree
from nbcanvas.errors import CorruptResult, NotSerializable, TaskRevokedError
from nbcanvas.plan.model import NO_OPTIONS, Call, Exit, Failed, Gathered, Payload, Revoked, Value
from nbcanvas.protocol import jsonable
from nbcanvas.protocol.payload import Held, Packed, Text, TextArgs, pack, pack_args, shown, unpack, unpack_args

__all__ = ["Documents"]

_ATOMS: Final = frozenset({int, float, bool, str, type(None)})
_compact = json.JSONEncoder(separators=(",", ":")).encode
#: Type -> what writes a value of it.
_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    Text: lambda payload: payload.text,
    int: str,
    str: quoted,
    bool: lambda payload: "true" if payload else "false",
    type(None): lambda payload: "null",
    float: _compact,
}


class Documents:
    """Makes documents of records, and records of documents.

    Parameters
    ----------
    encoding
        How values look.
    extended
        Celery's ``result_extended``: documents say what was called, too.
    queue_of, tree_of
        The queue of a call; what a task started, as plain data.
    """

    def __init__(
        self,
        encoding: Encoding,
        *,
        extended: bool = False,
        queue_of: Callable[[Call], str] = lambda _: "celery",
        tree_of: Callable[[Any], Tree] = lambda child: child,
    ) -> None:
        self.encoding = encoding
        self._extended = extended
        self._queue_of = queue_of
        self._tree_of = tree_of
        #: Whether documents are JSON.
        self.plain = encoding.serializer == "json"

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, task_id: str, record: Record) -> bytes:
        """Return the document of a record.

        Raises
        ------
        NotSerializable
            When the serializer refuses its value.
        """
        if not self.plain:
            return self.encoding.dump(self._meta(task_id, record))
        call, state = record.call, record.state
        exc = record.exc if state in states.EXCEPTION_STATES else None
        result = self.text(record.payload) if exc is None else self._exception(exc)
        children = _compact([self._tree_of(child) for child in record.children]) if record.children else "[]"
        more = ""
        if call is not None:
            if call.group_id is not None:
                more = f'"group_id":{quoted(call.group_id)},'
            if record.parent_id is not None:
                more += f'"parent_id":{quoted(record.parent_id)},'
            if self._extended:
                more += self._call_text(call, record)
        return (
            f'{{"status":{quoted(state)},"result":{result},'
            f'"traceback":{"null" if record.traceback is None else quoted(record.traceback)},"children":{children},'
            f'"date_done":{_date_text(record)},{more}"task_id":{quoted(task_id)}}}'
        ).encode("ascii")

    def text(self, payload: Payload) -> str:
        """Return a value as JSON."""
        kind = type(payload)
        write = _WRITERS.get(kind)
        if write is not None:
            return write(payload)
        if kind is Gathered:
            return _gathered(payload, self.text)
        return jsonable.dumps(payload.load() if kind is Packed or kind is Held else payload)

    def _exception(self, exc: BaseException) -> str:
        return self.encoding.dump_exception(exc).decode("utf-8")

    def _call_text(self, call: Call, record: Record) -> str:
        named = call.payload
        given = () if call.immutable else record.given
        if type(named) is TextArgs and not given:
            args, kwargs = named.args, named.kwargs
        else:
            own, more = unpack_args(call.payload)
            args = jsonable.dumps([*map(unpack, given), *own])
            kwargs = jsonable.dumps(dict(more))
        head = f'"name":{quoted(call.task)},"args":{args},"kwargs":{kwargs},'
        worker = "null" if record.worker is None else quoted(record.worker)
        head += f'"worker":{worker},"retries":{record.retries:d},"queue":{quoted(self._queue_of(call))},'
        if call.stamps:
            head += f'"stamped_headers":{_compact(list(call.stamps))},'
            head += "".join(f"{quoted(name)}:{jsonable.dumps(value)}," for name, value in call.stamps.items())
        return head

    def _meta(self, task_id: str, record: Record) -> dict[str, Any]:
        """Return a document as a mapping, for the other serializers."""
        call = record.call
        exc = record.exc if record.state in states.EXCEPTION_STATES else None
        result = unpack(record.payload) if exc is None else self._exception_value(exc)
        meta: dict[str, Any] = {
            "status": record.state,
            "result": result,
            "traceback": record.traceback,
            "children": [self._tree_of(child) for child in record.children],
            "date_done": json.loads(_date_text(record)),
        }
        if call is not None:
            if call.group_id is not None:
                meta["group_id"] = call.group_id
            if record.parent_id is not None:
                meta["parent_id"] = record.parent_id
            if self._extended:
                own, named = unpack_args(call.payload)
                given = () if call.immutable else record.given
                meta |= {"name": call.task, "args": [*map(unpack, given), *own], "kwargs": dict(named)}
                meta |= {"worker": record.worker, "retries": record.retries, "queue": self._queue_of(call)}
                if call.stamps:
                    meta |= {"stamped_headers": list(call.stamps), **call.stamps}
        return {**meta, "task_id": task_id}

    def _exception_value(self, exc: BaseException) -> Any:
        return self.encoding.load(self.encoding.dump_exception(exc))

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, task_id: str, raw: bytes | str) -> Record:
        """Return the record of a document; of one that cannot be understood, a failure that says so."""
        try:
            return self._record(task_id, self._load(raw))
        except CorruptResult as error:
            return corrupt(f"the stored result of task {task_id} cannot be understood: {error}")

    def _load(self, raw: bytes | str) -> Any:
        if not self.plain:
            return self.encoding.load(raw)
        try:
            return jsonable.loads(raw)
        except ValueError as error:
            found = str(error).partition("\n")[0][:200]
            raise CorruptResult(f"{len(raw)} bytes that are no JSON ({found})") from None

    def _record(self, task_id: str, meta: Any) -> Record:
        if not isinstance(meta, dict):
            raise CorruptResult(f"{shown(meta)[:100]} stands where an object belongs")
        state, result, children = meta.get("status"), meta.get("result"), meta.get("children")
        traceback, done = meta.get("traceback"), meta.get("date_done")
        if not isinstance(state, str) or not state:
            raise CorruptResult(f"its status is {shown(state)[:100]}")
        if not isinstance(traceback, str | None) or not isinstance(children, list | tuple | None):
            raise CorruptResult("its traceback is no text, or its children are no list")
        if meta.get("task_id", task_id) != task_id:
            raise CorruptResult(f"it is the result of task {shown(meta['task_id'])[:100]}")
        exc, payload = None, None
        if state in states.EXCEPTION_STATES:
            exc = self.encoding.exception_of(result)
            if exc is None and state != states.RETRY:
                raise CorruptResult(f"it is stored as {state}, with no exception")
        else:
            payload = result if type(result) in _ATOMS else pack(result)
        retries = meta.get("retries")
        return Record(
            state,
            payload,
            exc,
            traceback,
            children or (),
            (_seconds(done) or 0.0) if state in states.READY_STATES else None,
            retries if type(retries) is int else 0,
            self._call(task_id, meta),
            meta.get("parent_id"),
            retries if type(retries) is int else 0,
            meta.get("worker"),
        )

    def _call(self, task_id: str, meta: Mapping[str, Any]) -> Call | None:
        name, args, kwargs = meta.get("name"), meta.get("args"), meta.get("kwargs")
        if not isinstance(name, str):
            return None
        stamps = meta.get("stamped_headers")
        queue = meta.get("queue")
        try:
            payload = pack_args(
                tuple(args) if isinstance(args, list | tuple) else (), kwargs if isinstance(kwargs, dict) else {}
            )
        except NotSerializable:
            payload = ()
        return Call(
            task_id,
            name,
            payload,
            options={"queue": queue} if isinstance(queue, str) else NO_OPTIONS,
            stamps={key: meta.get(key) for key in stamps if isinstance(key, str)} if isinstance(stamps, list) else None,
            group_id=meta.get("group_id"),
        )

    # -- groups, and slots of barriers --------------------------------------------------------------------------------

    def write_group(self, tree: Tree) -> bytes:
        """Return the document of a group's result tree."""
        return self.encoding.dump({"result": tree})

    def read_group(self, raw: bytes) -> Tree:
        """Return a group's result tree.

        Raises
        ------
        CorruptResult
            When it is none.
        """
        found = self.encoding.load(raw)
        tree = found.get("result") if isinstance(found, dict) else None
        if not isinstance(tree, list | tuple) or len(tree) != 2:
            raise CorruptResult(f"{shown(found)[:100]} stands where a group's result belongs")
        return tree[0], tree[1]

    def write_part(self, exit_: Exit, by: str) -> bytes:
        """Return what is put into a slot: how a call ended, as Celery writes it."""
        if isinstance(exit_, Value):
            state = states.SUCCESS
        else:
            state = states.FAILURE if isinstance(exit_, Failed) else states.REVOKED
        if self.plain:
            result = self.text(exit_.payload) if isinstance(exit_, Value) else self._exception(exit_.exc)
            return f'[1,{quoted(by)},"{state}",{result}]'.encode()
        value = unpack(exit_.payload) if isinstance(exit_, Value) else self._exception_value(exit_.exc)
        return self.encoding.dump([1, by, state, value])

    def read_part(self, raw: bytes) -> tuple[Exit, str]:
        """Return how a call ended, and its id, out of a slot; a failure when that cannot be understood."""
        try:
            found = self._load(raw)
        except CorruptResult as error:
            return Failed(error), "?"
        return self._exit(found)

    def _exit(self, found: Any) -> tuple[Exit, str]:
        try:
            by, state, result = _part(found)
            exc = self.encoding.exception_of(result) if state in states.PROPAGATE_STATES else None
        except CorruptResult as error:
            return Failed(error), "?"
        if state == states.FAILURE:
            return Failed(exc or CorruptResult(f"task {by} is said to be {state}, with no exception")), by
        if state == states.REVOKED:
            return Revoked(exc or TaskRevokedError("revoked")), by
        return Value(result if type(result) in _ATOMS else Held(result)), by

    def broken(self, what: str) -> list[tuple[Exit, str]]:
        """Return what a barrier is told whose keys hold something else."""
        return [(Failed(CorruptResult(f"a barrier that cannot be counted: {what}")), what)]

    def read_parts(self, group: bytes | None, parts: Sequence[bytes]) -> list[tuple[Exit, str]]:
        """Return what is in the slots of a full barrier.

        Parameters
        ----------
        group
            The document of the group, which Celery keeps when groups are members of it; else None.
        parts
            What is in the slots, in order.
        """
        exits = self._exits(parts)
        if group is None:
            return exits
        try:
            members = self.read_group(group)[1] or ()
        except CorruptResult as error:
            return [(Failed(error), "?")]
        found = {by: exit_ for exit_, by in exits}
        used: set[str] = set()
        shaped = [_shaped(member, found, used) for member in members]
        # A group that somebody saved under this id may be another one than was counted.
        return shaped if used == found.keys() else exits

    def _exits(self, parts: Sequence[bytes]) -> list[tuple[Exit, str]]:
        if self.plain and len(parts) > 1:
            try:
                found = self._load(b"[" + b",".join(parts) + b"]")
            except CorruptResult:
                found = ()
            if len(found) == len(parts):
                return list(map(self._exit, found))
        return list(map(self.read_part, parts))  # one is no JSON: only that one counts as corrupt


def corrupt(text: str) -> Record:
    """Return the record of a task whose stored result cannot be understood."""
    return Record(states.FAILURE, exc=CorruptResult(text), done=0.0)


def _part(found: Any) -> tuple[str, str, Any]:
    if not isinstance(found, list | tuple) or len(found) != 4 or not isinstance(found[1], str):
        raise CorruptResult(f"{shown(found)[:100]} stands in a slot of a group")
    return found[1], found[2], found[3]


def _shaped(tree: Any, found: Mapping[str, Exit], used: set[str]) -> tuple[Exit, str]:
    """Return how a member of a group ended: a list of values, when it is a group itself."""
    try:
        (task_id, _), members = tree
    except (TypeError, ValueError):
        return Failed(CorruptResult(f"{shown(tree)[:100]} stands where a member of a group belongs")), "?"
    exit_ = found.get(task_id)
    if exit_ is not None or not members:
        used.add(task_id)
        return exit_ or Failed(CorruptResult(f"task {task_id} was not counted")), str(task_id)
    inside = [_shaped(member, found, used) for member in members]
    bad = next((one for one in inside if not isinstance(one[0], Value)), None)
    if bad is not None:
        return bad
    return Value(Gathered(exit_.payload for exit_, _ in inside if isinstance(exit_, Value))), str(task_id)


def _gathered(payload: Gathered, text: Callable[[Payload], str]) -> str:
    """Return what a barrier collected as JSON; however deep, without recursion."""
    made: list[str] = []
    todo: list[Any] = [payload]
    close = object()
    while todo:
        item = todo.pop()
        if item is close:
            made.append("]")
        elif item is made:
            made.append(",")
        elif type(item) is Gathered:
            made.append("[")
            todo.append(close)
            for place, inner in enumerate(reversed(item)):
                todo += [inner] if place == 0 else [made, inner]
        else:
            made.append(text(item))
    return "".join(made)


def _date_text(record: Record) -> str:
    if record.done is None or record.state not in states.READY_STATES:
        return "null"
    return f'"{datetime.fromtimestamp(record.done, UTC).isoformat()}"'


def _seconds(date: Any) -> float | None:
    if isinstance(date, str):
        try:
            date = datetime.fromisoformat(date)
        except ValueError:
            return None
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp() if isinstance(date, datetime) else None
