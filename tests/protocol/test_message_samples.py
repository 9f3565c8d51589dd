"""Messages that real Celery put on the wire: what is read from them, written again, is the same message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbcanvas.errors import InvalidTaskError
from nbcanvas.ids import seeded_ids
from nbcanvas.protocol.message import decode, encode
from nbcanvas.protocol.payload import pack_args, unpack, unpack_args

SAMPLES = sorted((Path(__file__).parent / "samples").glob("msg_*.json"))
MESSAGES = [
    pytest.param(message, id=f"{path.stem}-{number}")
    for path in SAMPLES
    for number, message in enumerate(
        message for queue in json.loads(path.read_text())["queues"].values() for message in queue
    )
]


def read(message):
    return decode(
        message["headers"],
        message["body(decoded)"],
        new_id=seeded_ids("samples"),
        pack=pack_args,
        versions={},
        now=0.0,
        properties=message["properties"],
    )


#: Written differently on purpose: a group at the end of a header's member counts there as one list, not task by task.
OTHERWISE = {"msg_chord_nested_group_result-1"}


def canonical(value, *, hanging=False):
    """Leave out what may differ: options that say nothing, and the ids that we pin in links and errbacks beforehand."""
    if isinstance(value, list):
        return [canonical(one, hanging=hanging) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        if one is None and key in {"root_id", "parent_id"}:
            continue
        if hanging and key in {"task_id", "reply_to"}:
            continue
        inside = hanging or key in {"callbacks", "errbacks", "link", "link_error"}
        found[key] = canonical(one, hanging=inside)
    return found


def proper(headers):
    """Leave out what does not survive reading: whether a list was a tuple, false was null, extra was custom."""
    return {**headers, "argsrepr": "", "kwargsrepr": "", "ignore_result": bool(headers["ignore_result"])}


@pytest.mark.parametrize("message", [message for message in MESSAGES if message.id not in OTHERWISE])
def test_a_message_of_celery_is_written_as_it_was_read(message):
    properties = message["properties"]
    draft = encode(
        read(message),
        arguments=unpack_args,
        value_of=unpack,
        pack=pack_args,
        origin=message["headers"]["origin"],
        reply_to=properties["reply_to"],
        priority=properties["priority"],
    )
    headers, body, written = json.loads(json.dumps(draft))
    assert proper(headers) == proper(message["headers"])
    assert canonical(body) == canonical(message["body(decoded)"])
    added = {"delivery_info", "body_encoding", "delivery_tag", "expiration"}  # the transport's, or of another clock
    assert {k: v for k, v in written.items() if k not in added} == {
        k: v for k, v in properties.items() if k not in added
    }


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({}, [[], {}, {}], "KeyError: 'task'"),
        ({"task": "add", "id": 3}, [[], {}, {}], "have to be texts"),
        ({"task": "add", "id": "a"}, [1, 2], "ValueError"),
        ({"task": "add", "id": "a"}, {"args": []}, "ValueError"),
        ({"task": "add", "id": "a"}, ["12", {}, {}], "arguments have to be"),
        ({"task": "add", "id": "a"}, [[], [], {}], "arguments have to be"),
        ({"task": "add", "id": "a"}, [[], {}, {"chain": ["add"]}], "has no attribute|a signature is an object"),
        ({"task": "add", "id": "a"}, [[], {}, {"callbacks": [{"args": []}]}], "a signature is an object with a task"),
        ({"task": "add", "id": "a", "eta": "soon"}, [[], {}, {}], "eta='soon' is no time"),
        ({"task": "add", "id": "a", "retries": "many"}, [[], {}, {}], "ValueError"),
        ({"task": "add", "id": "a", "group": "g"}, [[], {}, {"chord": 7}], "a signature is an object|AttributeError"),
    ],
)
def test_what_cannot_be_understood_is_one_clear_error(headers, body, says):
    with pytest.raises(InvalidTaskError, match=says):
        read({"headers": headers, "body(decoded)": body, "properties": {}})
