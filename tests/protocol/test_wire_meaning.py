"""A canvas means the same when every message of it is written to the wire and read back."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from nbcanvas.broker.envelope import open_, seal
from nbcanvas.broker.post import Post
from nbcanvas.plan import Chain, Failed, Fan, Gathered, Join, Next, Revoked, Slot, Spread, Value, release
from nbcanvas.plan.pointing import Pointing
from nbcanvas.protocol.letter import Address
from nbcanvas.protocol.plans import dump, load
from tests.plan.recipes import build, canvases, holds_tasks
from tests.plan.reference import Meaning
from tests.plan.simulate import NOW, Simulation, check

SOME = settings(max_examples=2 * settings().max_examples)
CELERY = Address("celery")


def post(**options):
    return Post(origin="gen1@test", route=lambda message: CELERY, **options)


class OverTheWire(Simulation):
    """A simulation in which nothing but JSON gets from one task to the next."""

    def __init__(self, *args, **partials):
        self.sizes = {}
        self.fans = {}
        self.post = post()
        super().__init__(*args, **partials)

    def travelled(self, message):
        self._remember(message.then)
        read = self.post.read(open_(seal(self.post.write(message), "a tag")))
        assert (read.due, read.expires) == (message.due, message.expires)
        return read

    def _remember(self, then):
        slot = _end(then)
        while slot is not None:
            self.sizes.setdefault(slot.join.id, self.count(slot.join.fan))
            self.fans.setdefault(slot.join.id, slot.join.fan)
            slot = _end(slot.join.then)

    def count(self, fan):
        return len(fan.members)

    def key(self, join):
        self._remember(Slot(join, 0))
        return join.id

    def size(self, join):
        return self.sizes[join.id]


def _end(then):
    return then.rest()[1] if isinstance(then, Next) else then


def compare(simulation, canvas, args, said=lambda what: what):
    check(simulation)
    meaning = Meaning(canvas, args)

    def proper(ends):
        found = Counter()
        for (tag, state, what), count in ends.items():
            if tag != "celery.accumulate":
                found[tag, state, said(what)] += count
        return found

    assert proper(simulation.ends) == proper(meaning.ends)
    assert simulation.runs == meaning.runs
    assert proper(simulation.heard) == proper(meaning.heard)


drawn = given(
    st.one_of(canvases(4), canvases(5), canvases(2)), st.sampled_from([(), ("given",)]), st.integers(0, 2**32)
)


@SOME
@drawn
def test_messages_that_travel_as_json_mean_the_same(recipe, args, order):
    canvas = build(recipe)
    compare(OverTheWire(canvas, args, order), canvas, args)


class Plans:
    """A store of one plan."""

    def __init__(self, pointing):
        self.pointing = pointing

    def find(self, plan_id):
        return self.pointing if plan_id == "the plan" else None


class ByReference(OverTheWire):
    """The same, with what follows named by its place in a plan that was stored."""

    def perform(self, transition):
        if not hasattr(self, "posts"):
            client, worker = Pointing(self.nodes[0]), Pointing(load(dump(self.nodes[0])))
            self.client = post(plans=Plans(client), by_reference=lambda message: "the plan")
            self.post = post(plans=Plans(worker), by_reference=lambda message: "the plan")
            self.posts = [self.client]
        super().perform(transition)
        self.posts = [self.post]  # what is sent from now on, workers send

    def travelled(self, message):
        self._remember(message.then)
        return self.post.read(open_(seal(self.posts[0].write(message), "a tag")))


@drawn
def test_messages_that_refer_to_a_plan_mean_the_same(recipe, args, order):
    canvas = build(recipe)
    compare(ByReference(canvas, args, order), canvas, args)


class LikeCelery(OverTheWire):
    """The same, with groups at the ends of members counted task by task, as Celery's clients do."""

    def travelled(self, message):
        message.then = self.spread(message.then)
        return super().travelled(message)

    def spread(self, then):
        if isinstance(then, Next):
            after = self.spread(then.after)
            if isinstance(after, Slot) and isinstance(then.chain.steps[-1], Fan):
                after = Spread(after.join)
            return Next(then.chain, then.position, after)
        if isinstance(then, Slot):
            return Slot(Join(then.join.fan, self.spread(then.join.then)), then.index)
        return then

    def count(self, fan):
        last = [member.steps[-1] if isinstance(member, Chain) else member for member in fan.members]
        counts = [self.count(one) if isinstance(one, Fan) else 1 for one in last]
        return sum(counts)

    def perform(self, transition):
        super().perform(transition._replace(arrivals=()))
        for arrival in transition.arrivals:
            join = arrival.slot.join
            _, slots = self.slots.setdefault(self.key(join), (join, {}))
            assert (arrival.by, arrival.slot.index) not in slots, "a slot was filled twice"
            slots[arrival.by, arrival.slot.index] = arrival.exit
            if len(slots) == self.size(join):
                ends = {by: exit_ for (by, _), exit_ in slots.items()}
                exits = [nested(member, ends) for member in self.fans[join.id].members]
                self.perform(release(join, exits, "root", None, NOW))


def nested(member, ends):
    """Return how a member ended: of a group, with the list of its values."""
    last = member.steps[-1] if isinstance(member, Chain) else member
    if not isinstance(last, Fan):
        return ends[last.id], last.id
    exits = [nested(one, ends) for one in last.members]
    for kind in (Failed, Revoked):
        for exit_, by in exits:
            if isinstance(exit_, kind):
                return exit_, by
    return Value(Gathered(exit_.payload for exit_, _ in exits)), last.id


#: Chords with a group at the end of a member.
ending = st.builds(
    lambda first, inside, beside, body: ("chord", [("chain", [first, ("group", inside)]), *beside], body),
    canvases(1),
    st.lists(canvases(2), min_size=2, max_size=3),
    st.lists(canvases(1), max_size=2),
    canvases(1),
)
endings = st.one_of(
    ending,
    st.tuples(st.just("chain"), st.tuples(canvases(1), ending).map(list)),
    st.tuples(st.just("chord"), st.tuples(canvases(1), ending).map(list), ending),
).filter(holds_tasks)  # what is empty Celery has no form for


@given(endings, st.sampled_from([(), ("given",)]), st.integers(0, 2**32))
def test_groups_that_count_task_by_task_mean_the_same(recipe, args, order):
    canvas = build(recipe)
    # Where none of a group's tasks ran the first of them is named, not the last.
    compare(
        LikeCelery(canvas, args, order),
        canvas,
        args,
        lambda what: what and re.sub(r"^ChordError.*", "ChordError", what),
    )
