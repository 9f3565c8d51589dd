"""Runs to draw: plain values, told by events."""

from nbcanvas.events.event import Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan


def call(task_id, task="add", **kwargs):
    return Call(task_id, task, None, **kwargs)


def told(root, *events):
    return State.of(root, 100.0).apply([Event(*event) for event in events])


def chord(n=100, **kwargs):
    return Chain([Fan("g", [call(f"m{i}", **kwargs) for i in range(n)]), call("body", "tsum")])


def ran(task_id, start, end, worker="w/1", attempt=0):
    """A call that was sent at the beginning, and succeeded."""
    return (
        ("sent", task_id, 100.0, attempt),
        ("started", task_id, start, attempt, worker),
        ("succeeded", task_id, end, attempt),
    )


class Loud:
    """Its repr is a text of somebody's choice."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def run_of(text):
    """A run in which everything that can have a text of somebody's choice has this one.

    Returns its canvas, its state, and what `value_of` and `describe` are.
    """
    stamps = {text: text, "experiment": [text, Loud(text)], "s": {text}}
    link, errback = call("link", text), call("errback", text)
    members = [
        Call("a", text, None, stamps=stamps, links=(link,), errbacks=(errback,)),
        Call("b", text, None, stamps=stamps),
        Call("c", text, None, stamps=stamps),
        Call("d", text, None, stamps=stamps),
    ]
    pile = [Call(f"p{i}", text, None, stamps={"experiment": text}) for i in range(30)]
    root = Chain([Fan(text, members), call("m", text), Fan("pile", pile), call("z", "tsum")])
    inner = Chain([call("r", text), Call("m", text, None, nesting=1)])
    state = told(
        root,
        *ran("a", 101.0, 102.0, text),
        *ran("link", 102.0, 102.5, text),
        ("started", "b", 101.0, 0, f"{text}/2"),
        ("failed", "b", 103.0, 0, (ValueError(text), f"Traceback\n  {text}\nValueError: {text}")),
        ("sent", "c", 100.0),
        ("started", "c", 101.0, 0, text),
        ("retried", "c", 102.0, 0, (RuntimeError(text), 102.5)),
        ("started", "c", 103.0, 1, text),
        ("progress", "c", 104.0, 1, (text, {"current": 1, "total": 2, text: text})),
        ("revoked", "d", 104.0, 0, text),
        ("started", "m", 104.0, 0, text),
        ("grafted", "m", 105.0, 0, (inner, "replacement")),
        ("grafted", "m", 105.0, 0, (Fan("h", [call("h1", text), call("h2", text)]), "child")),
        *ran("r", 105.0, 106.0, text),
    )

    def describe(_):
        return (text, Loud(text), [text], {text: text}), {text: text, "x": Loud(text)}, text, text

    return root, state, lambda _: {text: [text, Loud(text)]}, describe
