"""What we publish for a canvas is what real Celery publishes for it, header by header and body by body.

Celery's client writes to a real Redis; canvases come from the same JSON, with pinned task ids, stamped before. Names of
groups are told apart by where they appear.

Left out of the comparison, because it means nothing to whoever reads: an id or a ``chain`` that is null or empty, ids
of links and errbacks (Celery gives them when they are sent), ``add_to_parent``, the group of what counts for nobody.

Where we write something else on purpose:

* ``root_id`` of a group's members, where nobody sent them, is the group's: all that a run sends has one root.
* A chord's body that is a chain is its first step with the others in ``options.chain``, always: Celery writes it so in
  a chain, and in full in a chord alone. A chain of one is its step. What follows a chord in such a chain stands behind
  it there; Celery leaves it in that chord's body when its client had it there (``chord(h, a | b)`` is ``chord(h, a)``
  followed by ``b``, by Celery's own ``chord._unroll_body``).
* A chord that waits counts for what is around it in its body only; Celery says so in the chord's options once more.
* A group at the end of a header's member counts as one list, handed on by ``celery.accumulate``; Celery's members count
  one by one, and when the step before fails the chord waits for ever. (Canvases here have none; it is read as Celery
  means it, see tests/protocol/test_wire_meaning.py.)
* Groups in groups are numbered in call order; Celery turns the inner one round. (None here.)
"""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from types import SimpleNamespace

import kombu.pools
import pytest

celery = pytest.importorskip("celery")
redis = pytest.importorskip("redis")

import nbcanvas  # noqa: E402 - after what may skip
from nbcanvas.app.routing import Router  # noqa: E402
from nbcanvas.broker.envelope import seal  # noqa: E402
from nbcanvas.broker.post import Post  # noqa: E402
from nbcanvas.canvas import Signature  # noqa: E402
from nbcanvas.ids import random_source  # noqa: E402
from nbcanvas.plan import freeze, start  # noqa: E402
from nbcanvas.protocol.letter import Letter  # noqa: E402
from nbcanvas.protocol.payload import WIRE  # noqa: E402
from tests.celerys import unshared  # noqa: E402
from tests.cluster.drawn import batch, cook, plain_enough, wired  # noqa: E402
from tests.cluster.worlds import define  # noqa: E402

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def loose(*args, **kwargs):
    """Take anything."""


@pytest.fixture
def wire(redis_url):
    """Both clients: what they publish for a canvas, or a call."""
    kombu.pools.reset()  # they are everybody's, and remember what was declared before this server was emptied
    before = celery.current_app._get_current_object()
    theirs = unshared(celery.Celery("wire", broker=redis_url, backend=redis_url))
    define(theirs)
    theirs.set_current()
    ours = nbcanvas.App("wire", set_as_current=False)
    define(SimpleNamespace(conf=SimpleNamespace(result_backend=redis_url), task=ours.task))
    for app in (theirs, ours):
        app.task(name="loose")(loose)
    store = redis.Redis.from_url(redis_url)
    yield Wire(theirs, ours, store)
    store.close()
    theirs.close()
    before.set_current()


class Wire:
    def __init__(self, theirs, ours, store):
        self.theirs, self.ours, self.store = theirs, ours, store

    def published(self, send):
        """Return the messages that Celery's client sends, by queue."""
        self.store.flushall()
        send()
        lists = [key for key in self.store.scan_iter() if self.store.type(key) == b"list"]
        found = [json.loads(raw) for key in lists for raw in self.store.lrange(key, 0, -1)]
        return [opened(one) for one in found]

    def written(self, canvas, options=None, **conf):
        self.ours.conf.update(conf)
        post = Post(
            origin="gen",
            route=Router(self.ours.conf, self.ours.tasks).of,
            reply_to=self.theirs.thread_oid,
            compression=self.ours.conf.task_compression,
            serializer=self.ours.conf.task_serializer,
        )
        node = freeze(canvas, random_source(), WIRE.pack_args, options=options or {})
        first = node
        while hasattr(first, "steps"):
            first = first.steps[0]
        messages = start(node, (), None, first.id, None, time.time()).send
        return [opened(json.loads(seal(letter, "tag"))) for letter in map(post.write, messages)]

    def read_and_written(self, message):
        """Return what we send on of a message that we got, in the words of the arguments that it came with."""
        headers = message["headers"]
        client = message["properties"]["reply_to"]
        post = Post(origin="gen", route=Router(self.ours.conf, self.ours.tasks).of, reply_to=client)
        came = Letter("celery", headers, json.dumps(message["body"]).encode(), message["properties"])
        sent = opened(json.loads(seal(post.write(post.read(came)), "tag")))
        sent["headers"] |= {name: headers[name] for name in ("argsrepr", "kwargsrepr", "ignore_result")}
        return sent


def opened(envelope):
    body = base64.b64decode(envelope["body"])
    plain = envelope["content-type"] == "application/json" and not envelope["headers"].get("compression")
    return {**envelope, "body": json.loads(body) if plain else body}


# -- random canvases ---------------------------------------------------------------------------------------------------


def comparable(messages, client):
    """Return messages in an order of their own, without what may differ, the names of groups by their first place."""
    names = {client: "client"}

    def named(value):
        if isinstance(value, dict):
            return {key: named(value[key]) for key in sorted(value)}
        if isinstance(value, list):
            return [named(one) for one in value]
        return (
            names.setdefault(value, f"name{len(names)}") if isinstance(value, str) and UUID.fullmatch(value) else value
        )

    ordered = sorted(messages, key=lambda message: message["headers"]["id"])
    return [named(told(message)) for message in ordered]


def told(message):
    headers, properties = {**message["headers"], "origin": ""}, {**message["properties"], "delivery_tag": ""}
    if headers["parent_id"] is None:
        headers["root_id"] = "root"
    if message["body"][2]["chord"] is None:
        headers["group_index"] = None
    # The canvas was JSON before: what Celery left a list is a tuple in ours.
    headers["kwargsrepr"] = headers["kwargsrepr"].replace("'args': ()", "'args': []")
    return {**message, "headers": headers, "properties": properties, "body": tidy(message["body"])}


def tidy(value, *, hanging=False):
    if isinstance(value, list):
        return [tidy(one, hanging=hanging) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        if key == "add_to_parent" or (key in {"root_id", "parent_id", "chord", "chain"} and not one):
            continue
        if hanging and key in {"task_id", "reply_to"}:
            continue
        inside = split(one) if key in {"chord", "body"} and isinstance(one, dict) else one
        inside = tidy(inside, hanging=hanging or key in {"callbacks", "errbacks", "link", "link_error"})
        found[key] = sunk(inside) if key == "chain" else inside
    options = found.get("options")
    if options is not None and (found["subtask_type"] == "chord" or "chord" not in options):
        for key in ("group_id", "group_index", "chord"):
            options.pop(key, None)
    if found.get("task") == "celery.chain" and len(found["kwargs"]["tasks"]) == 1:
        (only,) = found["kwargs"]["tasks"]
        return {**only, "options": {**options, **only["options"]}}
    if found.get("task") == "celery.chain":
        steps = found["kwargs"]["tasks"] = sunk(found["kwargs"]["tasks"][::-1])[::-1]
        if len(steps) == 1:
            return steps[0]
    return found


def sunk(chain):
    """Return steps, the last one first, with all that follows a chord behind the end of its body."""
    for place in reversed(range(len(chain))):
        if chain[place]["subtask_type"] == "chord":
            end = chain[place]["kwargs"]["body"]
            while end["subtask_type"] == "chord":
                end = end["kwargs"]["body"]
            behind = [*chain[:place], *end["options"].get("chain", [])]
            if behind:
                end["options"]["chain"] = sunk(behind)
            return chain[place:]
    return chain


def split(body):
    """Return a body that is a chain as its first step, with what follows in its options."""
    if body["subtask_type"] != "chain" or body["kwargs"]["tasks"][0]["subtask_type"] is not None:
        return body
    first, *rest = copy.deepcopy(body["kwargs"]["tasks"])
    if rest:
        first["options"]["chain"] = rest[::-1]
    return first


def simple(canvas):
    """Say whether both clients give a canvas the same shape: no group in a group, no chain in a chain, none of one."""
    if isinstance(canvas, list):
        return all(map(simple, canvas))
    if not isinstance(canvas, dict):
        return True
    kind, kwargs = canvas.get("subtask_type"), canvas.get("kwargs") or {}
    if kind in {"group", "chord", "chain"}:
        members = kwargs.get("tasks") or kwargs["header"]
        members = members["kwargs"]["tasks"] if isinstance(members, dict) else members
        if len(members) == 1 and kind != "chord":
            return False
        if any(member["subtask_type"] == "group" for member in members) and kind != "chain":
            return False
        if kind == "chain" and any(member["subtask_type"] == "chain" for member in members):
            return False
    return all(map(simple, canvas.values()))


def assert_told_alike(wire, one):
    """Fail unless both clients publish the same for a canvas, and we send on what we read of Celery's."""
    client = wire.theirs.thread_oid
    stamped = Signature.from_dict(one.canvas)
    if one.stamps:
        stamped.stamp(**one.stamps)
    canvas = json.loads(json.dumps(stamped))
    theirs = wire.published(celery.Signature.from_dict(copy.deepcopy(canvas), app=wire.theirs).apply_async)
    ours = wire.written(Signature.from_dict(canvas))
    assert comparable(ours, client) == comparable(theirs, client), f"{one.recipe!r} is told otherwise"
    again = [wire.read_and_written(message) for message in theirs]
    assert comparable(again, client) == comparable(theirs, client), f"{one.recipe!r} is read otherwise"


def test_random_canvases_are_published_as_celery_does(wire):
    drawn = [
        *batch(wired(4), 60, "deep", lambda canvas: plain_enough(canvas) and simple(canvas)),
        *batch(wired(2), 100, "flat", lambda canvas: plain_enough(canvas) and simple(canvas)),
    ]
    for one in drawn:
        assert_told_alike(wire, one)


TASK = ("task", ("ok",), 0, False)
CHORD = ("chord", [TASK], TASK)
#: What has differed once.
CHORDS = {
    "two in a chain that is a body": ("chord", [TASK], ("chain", [CHORD, CHORD, TASK])),
    "one in a body, then another": ("|", [("chord", [TASK], CHORD), CHORD, TASK]),
}


@pytest.mark.parametrize("recipe", CHORDS.values(), ids=CHORDS)
def test_chords_in_bodies_are_published_as_celery_does(wire, recipe):
    assert_told_alike(wire, cook(recipe, "chords"))


# -- options -----------------------------------------------------------------------------------------------------------

ETA = "2031-01-01T00:00:00+00:00"
OPTIONS = {
    "plain": {},
    "priority": {"priority": 7},
    "eta and expires": {"eta": ETA, "expires": "2031-01-02T00:00:00+00:00"},
    "limits": {"time_limit": 30, "soft_time_limit": 20.5},
    "shadow": {"shadow": "näme"},
    "headers": {"headers": {"mine": {"a": [1, None]}, "other": "é"}},
    "queue": {"queue": "another"},
    "routing key": {"routing_key": "by.key"},
    "ignored": {"ignore_result": True},
    "compressed": {"compression": "gzip"},
    "pickled": {"serializer": "pickle"},
    "yaml": {"serializer": "yaml"},
    "reprs": {"argsrepr": "(secret)", "kwargsrepr": "{secret}"},
    "retries": {"retries": 2},
    "transient": {"delivery_mode": 1},
}
ARGUMENTS = {
    "numbers": ((1, 2.5, True, None), {}),
    "texts": (("it's", "\\n\n", 'a "quote"', "snö", "long " * 300), {"x": "y" * 2000}),
    "containers": (([1, [2, [3, [4, [5]]]]], (1,), {"a": {"b": {"c": {"d": 1}}}}), {"z": list(range(500))}),
}


CASES = [(options, "numbers") for options in OPTIONS] + [("plain", "texts"), ("plain", "containers")]


@pytest.mark.parametrize(("name", "what"), CASES)
def test_options_are_written_as_celery_does(wire, name, what):
    options, arguments = OPTIONS[name], ARGUMENTS[what]
    if options.get("serializer") == "yaml":
        pytest.importorskip("yaml")
    args, kwargs = arguments
    if options.get("serializer") in {"yaml", "pickle"}:
        args, kwargs = json.loads(json.dumps([args, kwargs]))  # with tuples, packing for them is another one
        args = tuple(args)
    pinned = {"task_id": "one", **options}
    (theirs,) = wire.published(lambda: wire.theirs.signature("loose", args, kwargs).apply_async(**pinned))
    (ours,) = wire.written(Signature("loose", args, kwargs, dict(pinned)))
    for one in (ours, theirs):
        one["headers"]["origin"] = one["properties"]["delivery_tag"] = ""
        if isinstance(one["body"], bytes):
            one["body"] = decoded(one)
        for twice in ("argsrepr", "kwargsrepr"):  # Celery's are among the properties, too
            one["properties"].pop(twice, None)
        if "expiration" in one["properties"]:  # counted from another moment
            one["properties"]["expiration"] = len(one["properties"]["expiration"])
    assert ours == theirs


def decoded(envelope):
    import kombu.compression
    import kombu.serialization

    body, compression = envelope["body"], envelope["headers"].get("compression")
    body = kombu.compression.decompress(body, compression) if compression else body
    value = kombu.serialization.loads(body, envelope["content-type"], envelope["content-encoding"], force=True)
    return json.loads(json.dumps(value))


# -- routes ------------------------------------------------------------------------------------------------------------


def by_function(name, args, kwargs, options, task=None, **more):
    return {"queue": f"for-{args[0]}"} if args else None


def topics():
    feeds = kombu.Exchange("feeds", "topic")
    return [
        kombu.Queue("celery", kombu.Exchange("celery"), "celery"),
        kombu.Queue("feeds", feeds, "feed.#"),
        kombu.Queue("direct", kombu.Exchange("other", "direct"), "its.key"),
    ]


ROUTES = {
    "none": ({}, {}),
    "default queue": ({"task_default_queue": "mine"}, {}),
    "default exchange": ({"task_default_exchange": "x", "task_default_routing_key": "k"}, {}),
    "name": ({"task_routes": {"loose": "named"}}, {}),
    "glob": ({"task_routes": {"lo*": {"queue": "globbed", "priority": 3}}}, {}),
    "pattern": ({"task_routes": {re.compile("l..se"): {"queue": "matched"}}}, {}),
    "function": ({"task_routes": [by_function]}, {}),
    "the first answer": ({"task_routes": [{"other": "a"}, by_function, {"loose": "b"}]}, {}),
    "said": ({"task_routes": {"loose": "named"}}, {"queue": "said"}),
    "half said": ({"task_routes": {"loose": {"queue": "named", "priority": 5}}}, {"priority": 1}),
    "routing key alone": ({}, {"routing_key": "k"}),
    "routed by key": ({"task_routes": {"loose": {"routing_key": "k"}}}, {}),
    "exchange and key": ({}, {"exchange": "celery", "routing_key": "celery"}),
    "topic": ({"task_queues": topics}, {"queue": "feeds"}),
    "topic and key": ({"task_queues": topics}, {"queue": "feeds", "routing_key": "feed.news"}),
    "routed to a topic": (
        {"task_queues": topics, "task_routes": {"loose": {"queue": "feeds", "routing_key": "feed.x"}}},
        {},
    ),
    "direct exchange": ({"task_queues": topics}, {"queue": "direct"}),
    "declared queues alone": ({"task_queues": topics}, {}),
    "default priority": ({"task_default_priority": 4}, {}),
    "settings": ({"task_default_delivery_mode": 1, "task_compression": "bzip2"}, {}),
}


@pytest.mark.parametrize(("conf", "options"), ROUTES.values(), ids=ROUTES)
def test_messages_go_where_celery_sends_them(wire, conf, options):
    conf = {name: value() if value is topics else value for name, value in conf.items()}
    wire.theirs.conf.update(conf)
    (theirs,) = wire.published(lambda: wire.theirs.signature("loose", (7,)).apply_async(task_id="one", **options))
    (ours,) = wire.written(Signature("loose", (7,), {}, {"task_id": "one", **options}), **conf)
    for one in (ours, theirs):
        one["headers"]["origin"] = one["properties"]["delivery_tag"] = ""
        one["body"] = decoded(one) if isinstance(one["body"], bytes) else one["body"]
    assert ours == theirs


@pytest.mark.parametrize("attributes", [{"queue": "own"}, {"priority": 2, "time_limit": 9}, {"ignore_result": True}])
@pytest.mark.parametrize("options", [{}, {"queue": "said", "ignore_result": False, "priority": 8, "time_limit": 5}])
def test_a_tasks_own_options_stand_between(wire, attributes, options):
    for app, own in ((wire.theirs, {"shared": False}), (wire.ours, {})):
        app.conf.task_routes = {"special": "routed"}
        app.task(name="special", **attributes, **own)(loose)
    (theirs,) = wire.published(lambda: wire.theirs.signature("special").apply_async(task_id="one", **options))
    (ours,) = wire.written(Signature("special", (), {}, {"task_id": "one", **options}))
    for one in (ours, theirs):
        one["headers"]["origin"] = one["properties"]["delivery_tag"] = ""
    assert ours == theirs
