"""What is not a signature is refused where it stands, with what it was and what to do."""

from __future__ import annotations

import pytest

from nbcanvas.canvas import Signature, chain, chord, group, signature
from nbcanvas.errors import CanvasError, NotASignature


def plain(x):
    return x


@pytest.mark.parametrize("constructor", [group, chain, chord])
def test_members(add, constructor):
    for member, words in (
        (add, r"the task tasks.add itself; call .s on it: add.s\(...\)"),
        (plain, r"the function plain; decorate it with @task and write plain.s\(...\)"),
        (lambda: 0, "lambda"),
        (None, "None"),
        (3, "an int: 3"),
        ("tasks.add", r"signature\('tasks.add'\)"),
        ({"args": ()}, 'without the key "task"'),
        ([add.s(1)], "a list; .*group"),
    ):
        with pytest.raises(NotASignature, match=words) as caught:
            constructor([add.s(1), member])
        assert "member 1" in str(caught.value)
    with pytest.raises(NotASignature, match="member 0"):
        constructor(add)
    with pytest.raises(NotASignature, match="member 0"):
        constructor("tasks.add")


def test_or(add):
    for other, words in (
        (add, "call .s on it"),
        (plain, "function plain"),
        (3, "an int"),
        (None, "None"),
        ({}, "dictionary"),
        ("x", "text"),
    ):
        with pytest.raises(NotASignature, match=rf"what follows \|.*{words}"):
            add.s(1) | other
        with pytest.raises(NotASignature, match=rf"what stands before \|.*{words}"):
            other | add.s(1)
    assert issubclass(NotASignature, TypeError)


def test_bodies_and_links(add):
    with pytest.raises(NotASignature, match="the body of a chord"):
        chord([add.s(1)], add)
    with pytest.raises(NotASignature, match="the callback"):
        add.s().link(add)
    with pytest.raises(NotASignature, match="the errback"):
        group(add.s()).link_error(3)
    for wrong in (group(), chord([add.s(1)])):
        with pytest.raises(CanvasError, match="to link to"):
            wrong.link(add.s())
    with pytest.raises(CanvasError, match=r"chord\(header\)\(body\)"):
        chord([add.s(1)]).delay()


def test_chunks(add):
    for n in (0, -1):
        with pytest.raises(ValueError, match="at least one"):
            add.chunks([(1, 2)], n)
    with pytest.raises(TypeError, match="whole number"):
        add.chunks([(1, 2)], 1.5)


def test_from_dict(host):
    with pytest.raises(CanvasError, match=r"unknown subtask_type 'os.system'.*chain, chord"):
        Signature.from_dict({"task": "x", "subtask_type": "os.system"})
    with pytest.raises(NotASignature, match="without the key"):
        signature({"args": ()})
    with pytest.raises(NotASignature, match="member 1 of 'tasks'"):
        Signature.from_dict({"task": "celery.group", "kwargs": {"tasks": [{"task": "a"}, 3]}, "subtask_type": "group"})
    with pytest.raises(NotASignature):
        Signature.from_dict({"task": "celery.group", "kwargs": {"tasks": "ab"}, "subtask_type": "group"})
