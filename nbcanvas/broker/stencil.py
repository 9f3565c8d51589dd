"""Envelopes of messages that are alike: one is written in the ordinary way, with holes for what differs.

Members of a group differ in their ids, places and arguments.  Whatever else their envelopes say is written once.
"""

from __future__ import annotations

from binascii import b2a_base64
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

from nbcanvas.errors import NotSerializable
from nbcanvas.plan.model import NO_OPTIONS, Call, Message, Payload, Slot
from nbcanvas.protocol.jsonable import dumps
from nbcanvas.protocol.letter import Letter
from nbcanvas.protocol.payload import TextArgs

from .envelope import seal
from .post import Post

__all__ = ["Stencil"]

#: What stands in the holes while the one envelope is written.
_ID: Final = "\0id"
_TAG: Final = "\0tag"
_PLACE: Final = 9_007_199_254_740_881
_ARGS: Final = '["\\u0000args"]'
_KWARGS: Final = '{"\\u0000kwargs":0}'
#: Brackets in arguments, from which on somebody has to look how they are nested.
_BRACKETS: Final = 50


class Stencil:
    """Writes the envelopes of messages that are alike.

    Parameters
    ----------
    post
        Writes messages.
    message
        One of them; see `Post.in_common`.

    Attributes
    ----------
    letter
        As they all are, but for the holes: where they go.
    """

    def __init__(self, post: Post, message: Message) -> None:
        self._post = post
        call, then = message.call, message.then
        payload = TextArgs(_ARGS, _KWARGS)
        given = call.immutable, NO_OPTIONS, (), (), None, call.group_id, _PLACE, call.version, call.nesting
        holed = Message(
            Call(_ID, call.task, payload, *given),
            (),
            Slot(then.join, _PLACE) if isinstance(then, Slot) else then,
            message.root_id,
            message.parent_id,
            message.sent,
            retries=message.retries,
        )
        self.letter: Letter = post.write(holed)
        body = self.letter.body.decode("ascii")
        self._behind = body.partition(f"{_ARGS},{_KWARGS}")[2]
        args, kwargs = post.shown(payload)
        text = seal(self.letter, _TAG).decode("ascii")
        encoded = b2a_base64(self.letter.body, newline=False).decode("ascii")
        # In this order they stand there, and are handed in by `envelope`.
        self._parts: list[str] = []
        for hole in (encoded, quoted(_ID), str(_PLACE), quoted(args), quoted(kwargs), quoted(_ID), quoted(_TAG)):
            before, found, text = text.partition(hole)
            if not found:
                msg = f"an envelope without {hole!r:.40}"
                raise ValueError(msg)
            self._parts.append(before)
        self._parts.append(text)

    def envelope(self, message: Message, tag: str) -> bytes:
        """Return the envelope of one of the messages, with its delivery tag.

        Raises
        ------
        NotSerializable
            As `Post.write` does.
        """
        call, then = message.call, message.then
        payload = call.payload
        try:
            if type(payload) is tuple:  # of plain values
                args, kwargs = dumps(payload), "{}"
            else:
                args, kwargs = _texts(payload)
        except NotSerializable:  # which is said better there
            return seal(self._post.write(message), tag)
        shown, named = self._post.shown(payload)
        body = f"[{args},{kwargs}{self._behind}".encode("ascii")
        index = then.index if type(then) is Slot else call.index
        call_id = quoted(call.id)
        encoded = b2a_base64(body, newline=False).decode("ascii")
        place = "null" if index is None else index
        a, b, c, d, e, f, g, h = self._parts
        return (
            f"{a}{encoded}{b}{call_id}{c}{place}{d}{quoted(shown)}{e}{quoted(named)}{f}{call_id}{g}{quoted(tag)}{h}"
        ).encode("ascii")


def _texts(payload: Payload) -> tuple[str, str]:
    """Return the texts of arguments that are not nested deeply.

    Raises
    ------
    NotSerializable
        When they are, or are no texts yet.
    """
    if type(payload) is TextArgs:
        args, kwargs = payload.args, payload.kwargs
        if args.count("[") + args.count("{") + kwargs.count("[") + kwargs.count("{") < _BRACKETS:
            return args, kwargs
    raise NotSerializable("they are written one by one")
