"""Messages as letters, and back: protocol 2 as it is serialised (PROTOCOL: "Task message, protocol 2").

JSON is the usual case, and made for speed: headers are written as text, values that are JSON already are spliced in,
and what is behind a barrier is written once for all its members.  Any other serializer gets plain values.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from time import time
from typing import Any, Final, NamedTuple

from nbcanvas.errors import ContentDisallowed, InvalidTaskError, NotSerializable
from nbcanvas.ids import IdSource
from nbcanvas.ids import new_id as fresh_id
from nbcanvas.plan.model import Call, Gathered, Join, Message, Payload, Slot
from nbcanvas.plan.times import expiry_time
from nbcanvas.protocol.compression import compress, decompress
from nbcanvas.protocol.jsonable import dumps, loads, nested_deeper
from nbcanvas.protocol.letter import Address, Letter
from nbcanvas.protocol.message import decode
from nbcanvas.protocol.payload import Held, Text, TextArgs, refuse_argument, unpack, unpack_args, value_in
from nbcanvas.protocol.saferepr import saferepr
from nbcanvas.protocol.signatures import Plans, Reader, Reference, Writer
from nbcanvas.protocol.splice import spliced

__all__ = ["Post"]

#: Bytes of the longest body that is read, and of what it may be once decompressed; containers in each other.
LARGEST: Final = 64 * 1024 * 1024
INFLATED: Final = 256 * 1024 * 1024
DEEPEST: Final = 200
_LONGEST: Final = 1024  # of a text of arguments

JSON: Final = "application/json"
PICKLE: Final = "application/x-python-serialize"
_OF_NAME: Final = {"json": JSON, "pickle": PICKLE}
_NONE: Final[Mapping[str, Any]] = {}
_NO_EMBED: Final = '{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
#: Options with a place of their own; any other one is a property of the message.
_NOT_PROPERTIES: Final = frozenset(
    {
        "add_to_parent", "argsrepr", "compression", "confirm_timeout", "connection", "countdown", "declare",
        "delivery_mode", "eta", "exchange", "exchange_type", "expires", "headers", "ignore_result", "kwargsrepr",
        "priority", "producer", "publisher", "queue", "result_cls", "retries", "retry", "retry_policy", "route_name",
        "routing_key", "serializer", "shadow", "soft_time_limit", "task_type", "throw", "time_limit", "timeout",
    }
)  # fmt: skip


class Post:
    """Writes messages as letters, and reads letters.

    Parameters
    ----------
    origin
        This process as a sender.
    route
        Says where a message goes.
    reply_to
        The client's id, which results are announced to.
    serializer, compression
        What is used for messages whose address names none.
    accept
        Serializers, or content types, of what may be read.
    versions
        Task name -> version of its code here.
    new_id
        Gives ids to what comes without one.
    levels
        Containers in each other that a text of arguments shows.
    plans
        Where the plans are that messages refer to.
    by_reference
        Says which of them a message may refer to, in place of telling all that follows; None when it may not.

    Attributes
    ----------
    seal
        Called with each letter when its headers and its body are final, and the id of its run; it may add headers.
    """

    def __init__(
        self,
        *,
        origin: str,
        route: Callable[[Message], Address],
        reply_to: str | None = None,
        serializer: str = "json",
        accept: Collection[str] = ("json",),
        compression: str | None = None,
        versions: Mapping[str, str] | None = None,
        new_id: IdSource | None = None,
        levels: int = 3,
        plans: Plans | None = None,
        by_reference: Callable[[Message], str | None] | None = None,
    ) -> None:
        self._route = route
        self._reply_to = reply_to
        self._serializer = serializer
        self._accept = frozenset(map(_content_type, accept))
        self._compression = compression
        self._levels = levels
        self._plans = plans
        self._by_reference = by_reference
        self._tail = f'"origin":{quoted(origin)},"ignore_result":'
        self._reader = Reader(new_id or fresh_id, _held, versions if versions is not None else {}, plans)
        #: The barrier whose members were written last, for which client, and what is behind it.
        self._behind: tuple[Join | None, str | None, str] = (None, None, "")
        #: What headers say of a task's own options: those that were written last, and their text.
        self._usual: tuple[Mapping[str, Any], _Said] = (_NONE, _said(_NONE))
        #: What the headers written last have in common with those of its siblings.
        self._frame: _Frame = (None, "", "", "", "")
        self.seal: Callable[[Letter, str], None] | None = None

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, message: Message, reply_to: str | None = None) -> Letter:
        """Return a message as a letter.

        Parameters
        ----------
        message
            What to send.
        reply_to
            The client to announce its result to; by default as the address says, or the sender.

        Raises
        ------
        NotSerializable
            When something in it does not travel by its serializer.
        """
        address = self._route(message)
        serializer = address.serializer or self._serializer
        client = reply_to or address.reply_to or self._reply_to
        content_type, encoding = JSON, "utf-8"
        if serializer == "json":
            body, shown = self._as_json(message, client)
        else:
            content_type, encoding, body, shown = self._otherwise(message, serializer, client)
        headers = self._headers(message, address, shown)
        compression = address.compression or self._compression
        if compression:
            body, said = compress(body, compression)
            headers = f'{headers[:-1]},"compression":{quoted(said)}}}'
        letter = Letter(
            address.queue,
            headers,
            body,
            _properties(message, address, client),
            address.priority,
            content_type,
            encoding,
            address.exchange,
            address.routing_key,
        )
        if self.seal is not None:
            self.seal(letter, message.root_id)
        return letter

    def in_common(self, message: Message) -> tuple[Any, ...] | None:
        """Return what a message shares with those that differ in id, place and arguments alone; None for what is odd.

        Messages of which this is equal have envelopes that a `Stencil` can write.
        """
        call, then = message.call, message.then
        if call.options or call.links or call.errbacks or call.stamps or message.given or self.seal is not None:
            return None
        if message.payload is not None or message.due is not None or message.expires is not None:
            return None
        join = None
        if then is not None:
            if type(then) is not Slot:
                return None
            join = then.join
        address = self._route(message)
        if address.compression or self._compression or (address.serializer or self._serializer) != "json":
            return None
        if "expires" in address.defaults:
            return None
        headers = message.root_id, message.parent_id, message.retries, call.nesting
        return (call.task, call.version, call.group_id, join, call.immutable, *headers, address)

    def _as_json(self, message: Message, client: str | None) -> tuple[bytes, tuple[str, str]]:
        call = message.call
        payload = call.payload if message.payload is None else message.payload
        given = message.given if message.given and not call.immutable else ()
        try:
            args, kwargs = _texts_of(payload)
            if given:
                args = _joined([*map(_text_of, given)], str(args))
            embed = self._embed_text(message, client)
        except NotSerializable as error:
            raise _refused(call, payload, error) from error.__cause__
        except RecursionError:
            raise NotSerializable(f"{call.task}: what follows it is nested too deeply for a message") from None
        text = f"[{args},{kwargs},{embed}]"
        if nested_deeper(text, DEEPEST):
            raise NotSerializable(f"{call.task}: its message would nest more than {DEEPEST} lists and objects")
        return text.encode("ascii"), self.shown(payload, given)

    def _embed_text(self, message: Message, client: str | None) -> str:
        call, then = message.call, message.then
        if call.links or call.errbacks or (then is not None and type(then) is not Slot):
            return spliced(self._writer(message, client).embed(call, then))
        if then is None:
            return _NO_EMBED
        join, told, text = self._behind
        if join is not then.join or told != client:
            text = f"{_NO_EMBED[:-5]}{spliced(self._writer(message, client).body(then.join))}}}"
            self._behind = then.join, client, text
        return text

    def _writer(self, message: Message, client: str | None) -> Writer:
        """Return what writes what follows: with a reference, where that is understood."""
        plan_id = self._by_reference(message) if self._by_reference is not None else None
        pointing = self._plans.find(plan_id) if plan_id is not None and self._plans is not None else None
        reference = Reference(plan_id, pointing) if plan_id is not None and pointing is not None else None
        return Writer(_texts_of, _held, client, reference)

    def shown(self, payload: Payload, given: Sequence[Payload] = ()) -> tuple[str, str]:
        """Return ``argsrepr`` and ``kwargsrepr``."""
        kind = type(payload)
        if kind is tuple:
            if not given:
                return saferepr(payload, _LONGEST, self._levels), "{}"
            args, kwargs = payload, _NONE
        else:
            if kind is TextArgs and payload.shown is not None and not given and self._levels == 3:
                return payload.shown  # type: ignore[no-any-return]
            args, kwargs = unpack_args(payload)
        return (
            saferepr((*given, *args), _LONGEST, self._levels, value_in),
            saferepr(dict(kwargs), _LONGEST, self._levels),
        )

    def _otherwise(
        self, message: Message, serializer: str, client: str | None
    ) -> tuple[str, str, bytes, tuple[str, str]]:
        call = message.call
        payload = call.payload if message.payload is None else message.payload
        args, kwargs = unpack_args(payload)
        if message.given and not call.immutable:
            args = (*map(unpack, message.given), *args)
        body = (list(args), dict(kwargs), Writer(_values_of, _held, client).embed(call, message.then))
        try:
            if serializer == "pickle":
                content_type, encoding, data = PICKLE, "binary", pickle.dumps(body, 4)
            else:
                from nbcanvas.servers.serializers import encode

                content_type, encoding, data = encode(body, serializer)
        except Exception as error:
            if isinstance(error, NotSerializable | pickle.PicklingError | TypeError | AttributeError | RecursionError):
                raise NotSerializable(f"{call.task}: {error}") from error
            raise
        shown = (saferepr(tuple(args), _LONGEST, self._levels), saferepr(kwargs, _LONGEST, self._levels))
        return content_type, encoding, data, shown

    def _headers(self, message: Message, address: Address, shown: tuple[str, str]) -> str:
        call, then = message.call, message.then
        group, index = (then.join.id, then.index) if type(then) is Slot else (call.group_id, call.index)
        args, kwargs = shown
        if call.options:
            options = {**address.defaults, **call.options}
            args, kwargs = options.get("argsrepr") or args, options.get("kwargsrepr") or kwargs
            said = _said(options)
        else:
            defaults, said = self._usual
            if defaults is not address.defaults:
                said = _said(address.defaults)
                self._usual = address.defaults, said
            if message.due is None and message.expires is None and not call.stamps and "expires" not in defaults:
                about = (call.task, said, group, message.retries, message.root_id, message.parent_id, call.nesting)
                frame = self._frame if self._frame[0] == about else self._framed(about)
                _, head, middle, rest, end = frame
                place = "null" if index is None else index
                return f'{head}{quoted(call.id)}{middle}{place}{rest}{quoted(args)},"kwargsrepr":{quoted(kwargs)}{end}'
        return (
            f'{{"lang":"py","task":{quoted(call.task)},"id":{quoted(call.id)},"shadow":{said.shadow},'
            f'"eta":{_iso(message.due)},"expires":{_iso(_expires(message, address))},"group":{_word(group)},'
            f'"group_index":{"null" if index is None else index},"retries":{message.retries},'
            f'"timelimit":{said.limits},"root_id":{quoted(message.root_id)},"parent_id":{_word(message.parent_id)},'
            f'"argsrepr":{quoted(args)},"kwargsrepr":{quoted(kwargs)},{self._tail}{said.ignored},'
            f'"replaced_task_nesting":{call.nesting},{_stamps(call)}{said.more}}}'
        )

    def _framed(self, about: _About) -> _Frame:
        """Return, and keep, what the headers of a group's members have in common."""
        task, said, group, retries, root_id, parent_id, nesting = about
        self._frame = frame = (
            about,
            f'{{"lang":"py","task":{quoted(task)},"id":',
            f',"shadow":{said.shadow},"eta":null,"expires":null,"group":{_word(group)},"group_index":',
            (
                f',"retries":{retries},"timelimit":{said.limits},"root_id":{quoted(root_id)},'
                f'"parent_id":{_word(parent_id)},"argsrepr":'
            ),
            (
                f",{self._tail}{said.ignored},"
                f'"replaced_task_nesting":{nesting},"stamped_headers":null,"stamps":{{}}{said.more}}}'
            ),
        )
        return frame

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, letter: Letter) -> Message:
        """Return the message in a letter.

        Raises
        ------
        ContentDisallowed
            When its content type is not accepted; nothing was decoded.
        InvalidTaskError
            When it cannot be understood, saying why.
        """
        headers = letter.headers
        kind = letter.content_type
        if kind not in self._accept:
            accepted = ", ".join(sorted(self._accept)) or "nothing"
            raise ContentDisallowed(
                f"a message of content type {kind!r:.80}, and only {accepted} is accepted (setting accept_content)"
            )
        body = letter.body
        if len(body) > LARGEST:
            raise InvalidTaskError(f"a body of {len(body)} bytes, and no more than {LARGEST} are read")
        compression = headers.get("compression")
        if compression:
            body = decompress(body, compression, INFLATED)
        if kind == JSON:
            found = _from_json(body)
        elif kind == PICKLE:
            found = _from_pickle(body)
        else:
            from nbcanvas.servers.serializers import decode as decode_otherwise

            found = decode_otherwise(body, kind, letter.content_encoding)
        return decode(headers, found, reader=self._reader, now=time(), properties=letter.properties)


def _content_type(name: str) -> str:
    found = name if "/" in name else _OF_NAME.get(name)
    if found is None:
        from nbcanvas.servers.serializers import content_type

        return content_type(name)
    return found


def _held(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    return Held((args, kwargs))


# -- arguments -------------------------------------------------------------------------------------------------------


def _values_of(payload: Payload) -> tuple[Any, Any]:
    args, kwargs = unpack_args(payload)
    return list(args), dict(kwargs)


def _texts_of(payload: Payload) -> tuple[Any, Any]:
    """Return the texts of a call's arguments."""
    kind = type(payload)
    if kind is tuple:
        return Text(dumps(payload)), Text("{}")
    if kind is TextArgs:
        return Text(payload.args), Text(payload.kwargs)
    args, kwargs = payload.load()
    return Text(dumps(args)), Text(dumps(kwargs))


def _text_of(payload: Payload) -> str:
    """Return the text of a value that was given."""
    kind = type(payload)
    if kind is Text:
        return payload.text  # type: ignore[no-any-return]
    if kind is not Gathered:
        return dumps(value_in(payload))
    return f"[{','.join(map(_text_of, payload))}]"


def _joined(given: Sequence[str], args: str) -> str:
    """Return a list's text with values put in front."""
    own = args.strip()[1:-1].strip()
    return f"[{','.join([*given, own] if own else given)}]"


def _refused(call: Call, payload: Payload, error: NotSerializable) -> NotSerializable:
    """Return the error that names the task, and the argument where that is what does not travel."""
    try:
        refuse_argument(*unpack_args(payload), dumps)
    except NotSerializable as better:
        error = better
    return NotSerializable(f"{call.task}: {error}")


# -- headers -----------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return "null" if value is None else dumps(value)


def _word(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _iso(at: float | None) -> str:
    return "null" if at is None else f'"{datetime.fromtimestamp(at, UTC).isoformat()}"'


def _stamps(call: Call) -> str:
    if not call.stamps:
        return '"stamped_headers":null,"stamps":{}'
    return f'"stamped_headers":{dumps(list(call.stamps))},"stamps":{dumps(dict(call.stamps))}'


def _expires(message: Message, address: Address) -> float | None:
    """Return when a message expires: as it says, or as its task has it."""
    if message.expires is not None or "expires" not in address.defaults or "expires" in message.call.options:
        return message.expires
    return expiry_time(address.defaults, message.sent)


class _Said(NamedTuple):
    """What headers say of options, as JSON."""

    limits: str
    shadow: str
    ignored: str
    more: str


#: Task, options, group, retries, root, parent and nesting of a message; and what its headers are made of.
_About = tuple[str, _Said, str | None, int, str, str | None, int]
_Frame = tuple[_About | None, str, str, str, str]


def _said(options: Mapping[str, Any]) -> _Said:
    more = dumps(dict(options.get("headers") or {}))[1:-1]
    return _Said(
        f"[{_text(options.get('time_limit'))},{_text(options.get('soft_time_limit'))}]",
        _text(options.get("shadow")),
        _text(options.get("ignore_result")),
        f",{more}" if more else "",
    )


def _properties(message: Message, address: Address, client: str | None) -> dict[str, Any]:
    call = message.call
    found: dict[str, Any] = {"correlation_id": call.id, "delivery_mode": address.delivery_mode}
    if client is not None:
        found["reply_to"] = client
    expires = _expires(message, address)
    if expires is not None:
        found["expiration"] = str(max(int((expires - message.sent) * 1000), 0))
    if call.options:
        found.update({name: call.options[name] for name in call.options if name not in _NOT_PROPERTIES})
    return found


# -- bodies ------------------------------------------------------------------------------------------------------------


def _from_json(body: bytes) -> Any:
    if nested_deeper(body, DEEPEST):
        raise InvalidTaskError(f"a body that nests more than {DEEPEST} lists and objects")
    try:
        return loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidTaskError(f"a body that is not JSON: {error}") from None


def _from_pickle(body: bytes) -> Any:
    try:
        return pickle.loads(body)  # noqa: S301 - accepted by setting
    except Exception as error:  # noqa: BLE001 - whatever is in it
        raise InvalidTaskError(f"a body that cannot be unpickled ({type(error).__name__}: {error})") from None
