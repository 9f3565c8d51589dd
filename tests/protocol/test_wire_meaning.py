"""A canvas means the same when every message of it is written to the wire and read back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nbcanvas.plan.model import Next, Slot
from nbcanvas.protocol.jsonable import dumps, loads
from nbcanvas.protocol.message import decode, encode
from nbcanvas.protocol.payload import pack_args, unpack, unpack_args
from tests.plan.recipes import build, canvases
from tests.plan.reference import Meaning
from tests.plan.simulate import NOW, Simulation, check

SOME = settings(max_examples=4 * settings().max_examples)


class OverTheWire(Simulation):
    """A simulation in which nothing but JSON gets from one task to the next."""

    def __init__(self, *args, **partials):
        self.sizes = {}
        super().__init__(*args, **partials)

    def travelled(self, message):
        self._remember(message.then)
        draft = encode(message, arguments=unpack_args, value_of=unpack, pack=pack_args, origin="gen1@test")
        headers, body, properties = loads(dumps(draft))
        read = decode(headers, body, new_id=self.new_id, pack=pack_args, versions={}, now=NOW, properties=properties)
        assert (read.due, read.expires) == (message.due, message.expires)
        return read

    def _remember(self, then):
        slot = _end(then)
        while slot is not None:
            self.sizes.setdefault(slot.join.id, slot.join.size)
            slot = _end(slot.join.then)

    def key(self, join):
        self._remember(Slot(join, 0))
        return join.id

    def size(self, join):
        return self.sizes[join.id]


def _end(then):
    return then.rest()[1] if isinstance(then, Next) else then


@SOME
@given(st.one_of(canvases(4), canvases(5), canvases(2)), st.sampled_from([(), ("given",)]), st.integers(0, 2**32))
def test_messages_that_travel_as_json_mean_the_same(recipe, args, order):
    canvas = build(recipe)
    simulation = OverTheWire(canvas, args, order)
    check(simulation)
    meaning = Meaning(canvas, args)
    proper = lambda ends: {end: n for end, n in ends.items() if end[0] != "celery.accumulate"}
    assert proper(simulation.ends) == proper(meaning.ends)
    assert simulation.runs == meaning.runs
    assert simulation.heard == meaning.heard
