"""Ends that are told in words, and times that are given in words."""

import pytest

from nbcanvas.canvas import Signature, chord
from nbcanvas.errors import InvalidTaskError
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import Failed, Next, advance, freeze, release, start
from nbcanvas.plan.times import due_time, expiry_time
from nbcanvas.protocol.payload import pack_args


class Unspeakable(Exception):
    def __repr__(self):
        raise ValueError

    __str__ = __repr__


def test_a_chord_ends_though_the_error_of_its_header_has_no_text():
    node = freeze(chord([Signature("a")], Signature("b")), seeded_ids(1), pack_args)
    (message,) = start(node, (), None, "root", None, 0.0).send
    failed = Failed(Unspeakable(), "")
    (arrival,) = advance(message, failed, 0.0).arrivals
    assert isinstance(arrival.slot.join.then, Next)
    (skip,) = release(arrival.slot.join, [(arrival.exit, arrival.by)], "root", None, 0.0).skips
    assert skip.call.task == "b"
    assert "Unspeakable(<its text cannot be shown>)" in str(skip.exit.exc)


def test_times():
    assert due_time({"countdown": 2}, 10.0) == due_time({"countdown": 2, "eta": 99}, 10.0) == 12.0
    assert (
        due_time({"eta": "1970-01-01T00:01:00"}, 10.0) == due_time({"eta": "1970-01-01T01:01:00+01:00"}, 10.0) == 60.0
    )
    assert expiry_time({"expires": 2}, 10.0) == 12.0
    assert expiry_time({"expires": "1970-01-01"}, 10.0) == 0.0
    assert due_time({}, 10.0) is expiry_time({}, 10.0) is None
    with pytest.raises(InvalidTaskError, match="countdown='2'"):
        due_time({"countdown": "2"}, 10.0)
