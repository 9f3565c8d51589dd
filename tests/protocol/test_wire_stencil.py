"""Messages that are alike are written with one stencil, and are what they are when each is written alone."""

from __future__ import annotations

import itertools
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcanvas.broker.envelope import seal
from nbcanvas.broker.stencil import Stencil
from nbcanvas.canvas import Signature, chord, group
from nbcanvas.errors import NotSerializable
from nbcanvas.ids import random_source
from nbcanvas.plan import freeze, start
from nbcanvas.protocol.letter import Address
from nbcanvas.protocol.payload import WIRE
from tests.plan.recipes import build, canvases
from tests.protocol.test_wire_meaning import post

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def messages(canvas):
    return start(freeze(canvas, random_source(), WIRE.pack_args), (), None, "a % root", "a \u0000id", 1000.5).send


def check(writer, sent):
    """Compare each message with its sibling's stencil; returns how many were written with one."""
    found = 0
    for common, alike in itertools.groupby(sent, writer.in_common):
        stencil = None
        for message in alike if common is not None else ():
            stencil = stencil or Stencil(writer, message)
            assert stencil.envelope(message, 'a "tag" 100%') == seal(writer.write(message), 'a "tag" 100%')
            found += 1
    return found


@given(
    st.lists(
        st.tuples(st.lists(VALUES, max_size=3), st.dictionaries(st.text(max_size=5), VALUES, max_size=2)), min_size=1
    ),
    st.booleans(),
    st.sampled_from([3, 1]),
)
def test_members_of_a_group_and_of_a_header(arguments, body, levels):
    members = [Signature("add %s", tuple(args), kwargs) for args, kwargs in arguments]
    canvas = chord(members, Signature("tsum", (), {"x%": 1})) if body else group(members)
    sent = messages(canvas)
    assert check(post(reply_to="me", levels=levels), sent) == len(members)


@given(canvases(3))
def test_whatever_starts(recipe):
    check(post(), messages(build(recipe)))


def test_what_has_a_form_of_its_own_has_no_stencil():
    plain = Signature("add", (1,))
    odd = [
        plain.clone().set(countdown=3),
        plain.clone().set(expires=3),
        plain.clone().set(queue="other"),
        plain.clone().on_error(Signature("e")),
    ]
    odd[0].link(Signature("l"))
    assert [post().in_common(message) for message in messages(group(odd))] == [None] * len(odd)
    assert post(compression="zlib").in_common(messages(plain)[0]) is None
    assert post(serializer="pickle").in_common(messages(plain)[0]) is None
    writer = post()
    writer._route = lambda message: Address("celery", defaults={"expires": 5})
    assert writer.in_common(messages(plain)[0]) is None


def test_what_differs_in_more_is_not_alike():
    writer = post()
    one, other = messages(group(Signature("add", (1,)), Signature("mul", (1,))))
    assert writer.in_common(one) != writer.in_common(other)
    first, second = messages(group(Signature("add", (1,)), Signature("add", (2,))))
    assert writer.in_common(first) == writer.in_common(second)
    third = messages(group(Signature("add", (1,)), Signature("add", (2,))))[0]
    assert writer.in_common(first) != writer.in_common(third), "another group"


def test_what_cannot_travel_is_named():
    good, bad = messages(group(Signature("add", (1,)), Signature("add", (date,))))
    with pytest.raises(NotSerializable, match="add: argument 1"):
        Stencil(post(), good).envelope(bad, "tag")


def test_what_is_nested_too_deeply_is_refused_all_the_same():
    deep = 1
    for _ in range(300):
        deep = [deep]
    good, bad = messages(group(Signature("add", (1,)), Signature("add", (deep,))))
    with pytest.raises(NotSerializable, match="nest"):
        Stencil(post(), good).envelope(bad, "tag")
