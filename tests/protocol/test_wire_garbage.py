"""Letters that cannot be understood: one clear error each, whatever is in them."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.broker import envelope, post
from nbcanvas.broker.envelope import open_, seal
from nbcanvas.broker.post import Post
from nbcanvas.errors import ContentDisallowed, InvalidTaskError, NotSerializable
from nbcanvas.plan import Call, Message
from nbcanvas.protocol.letter import Address, Letter
from nbcanvas.protocol.payload import EMBEDDED, WIRE

HEADERS = {"lang": "py", "task": "add", "id": "an id", "root_id": "an id", "parent_id": None}
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def office(**options):
    return Post(origin="gen1@test", route=lambda message: Address("celery"), **options)


def letter(headers=None, body=None, raw=None, **more):
    data = json.dumps([[1], {}, EMBED] if body is None else body).encode() if raw is None else raw
    return Letter("celery", {**HEADERS, **(headers or {})}, data, {}, **more)


def sig(**more):
    return {"task": "add", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False, **more}


def deep(depth):
    return b"[" * depth + b"]" * depth


# -- envelopes ---------------------------------------------------------------------------------------------------------

WHOLE = seal(letter(), "a tag")
NASTY = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"null",
    b"7",
    b"[]",
    b"{}",
    b'"text"',
    b"{",
    WHOLE[:-1],
    WHOLE[:100],
    b"x" + WHOLE,
    WHOLE * 2,
    b'{"body": 3, "headers": {}, "properties": {}}',
    b'{"body": "", "headers": [], "properties": {}}',
    b'{"body": "", "headers": {}, "properties": []}',
    b'{"body": "", "headers": {}, "properties": {"body_encoding": "rot13"}}',
    b'{"body": "%%%", "headers": {}, "properties": {"body_encoding": "base64"}}',
    b'{"body": "a", "headers": {}, "properties": {"body_encoding": "base64"}}',
    b'{"body": "", "headers": {}, "properties": {"priority": "high"}}',
    b'{"body": "", "headers": {}, "properties": {"priority": [1]}}',
    b'{"body": "", "headers": {}, "properties": {"delivery_info": "x"}}',
    deep(100_000),
    b'{"a":' * 50_000,
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b'{"body": "\\ud800", "headers": {}, "properties": {}}',
]


@pytest.mark.parametrize("raw", NASTY, ids=range(len(NASTY)))
def test_what_is_no_envelope_is_one_clear_error(raw):
    with pytest.raises(InvalidTaskError, match="a message"):
        open_(raw)


def test_an_envelope_that_is_too_long_is_not_parsed(monkeypatch):
    monkeypatch.setattr(envelope, "LARGEST", 50)
    with pytest.raises(InvalidTaskError, match="and no more than 50 are read"):
        open_(WHOLE)


@given(st.data())
def test_no_change_of_an_envelope_does_anything_else(data):
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(InvalidTaskError):
        office().read(open_(bytes(raw)))


# -- bodies ------------------------------------------------------------------------------------------------------------

BODIES = {
    "nothing": b"",
    "no JSON": b"{[",
    "a number": b"7",
    "null": b"null",
    "protocol 1": b'{"task": "add", "id": "x", "args": []}',
    "too few": b"[[], {}]",
    "too many": b"[[], {}, {}, {}]",
    "deep": deep(201),
    "very deep": deep(300_000),
    "deep objects": b'{"a":' * 100_000,
    "not UTF-8": b'["\xff"]',
    "surrogates": b'[["\\ud800"], {}, 7]',
    "arguments are text": b'["12", {}, {}]',
    "arguments are an object": b"[{}, {}, {}]",
    "keywords are a list": b"[[], [], {}]",
    "embed is a list": b"[[], {}, [1]]",
    "embed is text": b'[[], {}, "x"]',
    "embed is a number": b"[[], {}, 3]",
    "callbacks are a number": b'[[], {}, {"callbacks": 3}]',
    "callbacks hold null": b'[[], {}, {"callbacks": [null]}]',
    "a wrong datetime": b'[[{"__type__": "datetime", "__value__": 7}], {}, {}]',
    "a wrong UUID": b'[[{"__type__": "uuid", "__value__": {"hex": "x"}}], {}, {}]',
    "a wrong decimal": b'[[{"__type__": "decimal", "__value__": "x"}], {}, {}]',
    "a huge number": b"[[" + b"9" * 5000 + b"], {}, {}]",
}


@pytest.mark.parametrize("raw", BODIES.values(), ids=BODIES)
def test_what_is_no_body_is_one_clear_error(raw):
    with pytest.raises(InvalidTaskError):
        office().read(letter(raw=raw))


CONTINUATIONS = {
    "chain is text": {"chain": "add"},
    "chain of texts": {"chain": ["add"]},
    "chain of null": {"chain": [None]},
    "chain is an object": {"chain": {"task": "add"}},
    "chain of no task": {"chain": [{"args": []}]},
    "a task is a number": {"chain": [sig(task=3)]},
    "arguments are a number": {"chain": [sig(args=3)]},
    "keywords are a list": {"chain": [sig(kwargs=[1])]},
    "options are a list": {"chain": [sig(options=[1])]},
    "a type that is none": {"chain": [sig(subtask_type="ring")]},
    "a type that is a list": {"chain": [sig(subtask_type=[])]},
    "an empty chain": {"chain": [sig(subtask_type="chain", task="celery.chain", kwargs={})]},
    "a chain of a number": {"chain": [sig(subtask_type="chain", kwargs={"tasks": 3})]},
    "a group of null": {"chain": [sig(subtask_type="group", kwargs={"tasks": [None]})]},
    "a group of a number": {"chain": [sig(subtask_type="group", kwargs={"tasks": 3})]},
    "a chord without a body": {"chain": [sig(subtask_type="chord", kwargs={"header": [sig()]})]},
    "a chord of numbers": {"chain": [sig(subtask_type="chord", kwargs={"header": 1, "body": 2})]},
    "a body that is a number": {"chord": 7},
    "a body that is text": {"chord": "add"},
    "a body of no task": {"chord": {}},
    "a body behind itself": {"chord": sig(options={"chord": 3, "group_id": "h"})},
    "a wrong chain behind a body": {"chord": sig(options={"chain": 3})},
    "an id that is a list": {"chain": [sig(options={"task_id": ["a"]})]},
    "one id twice": {"chain": [sig(subtask_type="group", kwargs={"tasks": [sig(options={"task_id": "a"})] * 2})]},
    "an eta that is none": {"chain": [sig(options={"eta": "soon"})]},
    "a countdown that is none": {"chain": [sig(options={"countdown": "soon"})]},
    "a link that is a number": {"chain": [sig(options={"link": 3})]},
    "an errback that is text": {"errbacks": ["add"]},
    "stamps that are a number": {"chain": [sig(options={"stamped_headers": 3})]},
    "a reference": {"chain": [sig(task="nbcanvas.continue", kwargs={"plan": "gone", "node": 0, "position": 0})]},
    "a reference without a plan": {"chain": [sig(task="nbcanvas.continue")]},
    "a reference as a body": {"chord": sig(task="nbcanvas.continue", kwargs={"plan": "gone", "node": 0})},
}


@pytest.mark.parametrize("embed", CONTINUATIONS.values(), ids=CONTINUATIONS)
def test_what_follows_and_cannot_be_understood_is_one_clear_error(embed):
    with pytest.raises(InvalidTaskError):
        office().read(letter({"group": "g", "group_index": 0}, [[], {}, {**EMBED, **embed}]))


WRONG = {
    "task": [None, 3, [], {}],
    "id": [None, 3, ["a"], {}],
    "root_id": [3, [], {"a": 1}],
    "parent_id": [3, ["a"]],
    "group": [3, ["g"], {}],
    "group_index": ["first", [0], {}, "1e9"],
    "retries": ["many", [1], {"a": 1}, 1e400],
    "eta": ["soon", [], {}, "2031-13-01"],
    "expires": ["never", ["x"]],
    "timelimit": [3, "ab", [1], ["a", "b"], [1, 2, 3], {"a": 1}],
    "replaced_task_nesting": ["deep", [1], {"a": 1}],
    "stamped_headers": [3],
    "stamps": [3, "ab", [1]],
    "compression": [3, "magic", ["gzip"]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_header_of_another_kind_is_one_clear_error(name, value):
    more = {"stamped_headers": ["a"]} if name == "stamps" else {}
    with pytest.raises(InvalidTaskError):
        office().read(letter({**more, name: value}))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*sig(), *EMBED, "tasks", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*HEADERS, *WRONG, "mine"]), anything), anything)
def test_whatever_headers_and_body_are_the_error_is_the_same(headers, body):
    for given_body in (body, [[], {}, body], [[1], {"a": 2}, {"chain": [body], "chord": body, "callbacks": body}]):
        with contextlib.suppress(InvalidTaskError):
            office().read(letter(headers, given_body))


# -- content -----------------------------------------------------------------------------------------------------------


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_what_is_not_accepted_is_not_decoded():
    raw = pickle.dumps([[Trap()], {}, EMBED])
    for kind in ("application/x-python-serialize", "application/x-yaml", "text/plain", "application/data", "no/thing"):
        with pytest.raises(ContentDisallowed, match="only application/json is accepted"):
            office().read(letter(raw=raw, content_type=kind))
    assert not Trap.sprung
    office(accept=["json", "pickle"]).read(letter(raw=raw, content_type="application/x-python-serialize"))
    assert Trap.sprung


@pytest.mark.parametrize("raw", [b"", b"no pickle", b"\x80\x05.", b"cnowhere\nnothing\n.", pickle.dumps([[], 3, 3])])
def test_a_broken_pickle_is_one_clear_error(raw):
    with pytest.raises(InvalidTaskError):
        office(accept=["pickle"]).read(letter(raw=raw, content_type="application/x-python-serialize"))


def test_a_body_is_no_longer_than_may_be_and_does_not_grow_beyond_that(monkeypatch):
    bomb = zlib.compress(b"[" + b" " * 10_000_000)
    assert len(bomb) < 20_000
    monkeypatch.setattr(post, "INFLATED", 1_000_000)
    with pytest.raises(InvalidTaskError, match="more than 1000000 bytes once it is decompressed"):
        office().read(letter({"compression": "application/x-gzip"}, raw=bomb))
    monkeypatch.setattr(post, "LARGEST", 10)
    with pytest.raises(InvalidTaskError, match="and no more than 10 are read"):
        office().read(letter())


@pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma"])
def test_compressed_bodies(name):
    message = Message(Call("an id", "add", ("a text " * 100,)), (), None, "an id", None, 0.0)
    compressing = office(compression=name)
    sent = compressing.write(message)
    assert len(sent.body) < 300
    args, _ = compressing.read(open_(seal(sent, "tag"))).call.payload.value
    assert args == message.call.payload
    for broken in (b"", b"none", sent.body[:-5], sent.body[5:]):
        with pytest.raises(InvalidTaskError, match="compressed"):
            compressing.read(letter({"compression": sent.headers["compression"]}, raw=broken))


# -- what is not sent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [WIRE, EMBEDDED])
def test_an_argument_that_does_not_travel_is_named(packing):
    call = Call("an id", "add", packing.pack_args((1,), {"odd": {1, 2}}))
    with pytest.raises(NotSerializable, match="add: argument odd: set cannot travel as JSON"):
        office().write(Message(call, (), None, "an id", None, 0.0))


def test_what_nobody_would_read_is_not_sent():
    value = 0
    for _ in range(250):
        value = [value]
    call = Call("an id", "add", WIRE.pack_args((value,), {}))
    with pytest.raises(NotSerializable, match=r"add: .*more than 200 lists and objects"):
        office().write(Message(call, (), None, "an id", None, 0.0))


def test_a_text_that_looks_like_a_gap_for_another_stays_itself():
    links = (Call("a link", "add", ("\0raw\0", 1), options={"shadow": "\0raw\0"}),)
    call = Call("an id", "add", ("\0raw\0",), links=links)
    body = json.loads(office().write(Message(call, (), None, "an id", None, 0.0)).body)
    assert body[0] == ["\0raw\0"]
    assert (body[2]["callbacks"][0]["args"], body[2]["callbacks"][0]["options"]["shadow"]) == (
        ["\0raw\0", 1],
        "\0raw\0",
    )


def test_a_letter_of_another_sender_keeps_what_its_transport_said():
    raw = json.loads(WHOLE)
    raw["properties"] |= {"priority": 3, "delivery_info": {"exchange": "x", "routing_key": "k", "redelivered": True}}
    raw["headers"]["mine"] = {"a": 1}
    found = open_(json.dumps(raw).encode(), "a queue")
    assert (found.queue, found.exchange, found.routing_key, found.priority) == ("a queue", "x", "k", 3)
    assert found.redelivered
    assert office().read(found).call.options == {"headers": {"mine": {"a": 1}}, "priority": 3}
    assert base64.b64decode(json.loads(seal(found, "t"))["body"]) == found.body
