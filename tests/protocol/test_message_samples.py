"""Messages that real Celery put on the wire: what is read from them, written again, is the same message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbcanvas.broker.post import Post
from nbcanvas.errors import InvalidTaskError
from nbcanvas.ids import seeded_ids
from nbcanvas.protocol.letter import Address, Letter

SAMPLES = sorted((Path(__file__).parent / "samples").glob("msg_*.json"))
MESSAGES = [
    pytest.param(message, id=f"{path.stem}-{number}")
    for path in SAMPLES
    for number, message in enumerate(
        message for queue in json.loads(path.read_text())["queues"].values() for message in queue
    )
]


def post(properties=None):
    properties = properties or {}
    address = Address("celery", priority=properties.get("priority", 0))
    return Post(
        origin="gen25694@vm",
        route=lambda message: address,
        reply_to=properties.get("reply_to"),
        new_id=seeded_ids("samples"),
    )


def read(message):
    body = json.dumps(message["body(decoded)"]).encode()
    return post().read(Letter("celery", message["headers"], body, message["properties"]))


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
        if key == "options" and value.get("task") == "celery.group":  # where it stands; its tasks count, not the group
            one = {name: option for name, option in one.items() if name != "group_index"}  # noqa: PLW2901
        inside = hanging or key in {"callbacks", "errbacks", "link", "link_error"}
        found[key] = canonical(one, hanging=inside)
    return found


def proper(headers):
    """Leave out what does not survive reading: whether a list was a tuple, and false was null."""
    return {**headers, "argsrepr": "", "kwargsrepr": "", "ignore_result": bool(headers["ignore_result"])}


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_celery_is_written_as_it_was_read(message):
    properties = message["properties"]
    letter = post(properties).write(read(message))
    assert proper(letter.headers) == proper(message["headers"])
    assert canonical(json.loads(letter.body)) == canonical(message["body(decoded)"])
    added = {"delivery_info", "body_encoding", "delivery_tag", "priority", "expiration"}  # the transport's; of a clock
    assert {k: v for k, v in letter.properties.items() if k not in added} == {
        k: v for k, v in properties.items() if k not in added
    }
    assert letter.priority == properties["priority"]


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({}, [[], {}, {}], "without the header task, and whose body is none of protocol 1"),
        ({"task": "add", "id": 3}, [[], {}, {}], "have to be texts"),
        ({"task": "add", "id": "a"}, [1, 2], "ValueError"),
        ({"task": "add", "id": "a"}, {"args": []}, "ValueError"),
        ({"task": "add", "id": "a"}, ["12", {}, {}], "arguments have to be"),
        ({"task": "add", "id": "a"}, [[], [], {}], "arguments have to be"),
        ({"task": "add", "id": "a"}, [[], {}, {"chain": ["add"]}], "a signature is an object"),
        ({"task": "add", "id": "a"}, [[], {}, {"callbacks": [{"args": []}]}], "a signature is an object with a task"),
        ({"task": "add", "id": "a", "eta": "soon"}, [[], {}, {}], "eta='soon' is no time"),
        ({"task": "add", "id": "a", "retries": "many"}, [[], {}, {}], "ValueError"),
        ({"task": "add", "id": "a", "group": "g"}, [[], {}, {"chord": 7}], "a signature is an object|AttributeError"),
    ],
)
def test_what_cannot_be_understood_is_one_clear_error(headers, body, says):
    with pytest.raises(InvalidTaskError, match=says):
        read({"headers": headers, "body(decoded)": body, "properties": {}})
