"""Running again what is missing, until nothing is: against the reference's meaning without failures."""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcanvas.canvas import Signature, chain, chord, chunks, group
from nbcanvas.errors import TaskRevokedError
from nbcanvas.ids import seeded_ids
from nbcanvas.plan import (
    Call,
    Chain,
    Failed,
    Fan,
    Ignored,
    Message,
    Rejected,
    Replaced,
    Retried,
    Revoked,
    calls_of,
    freeze,
)
from nbcanvas.plan.resume import Added, Have, renew, resume
from nbcanvas.protocol.payload import pack_args
from tests.plan.recipes import build, canvases
from tests.plan.reference import Meaning
from tests.plan.simulate import NOW, Boom, Simulation, check, name_of
from tests.plan.test_size import SHAPES, nested, operations, work

MANY = settings(max_examples=8 * settings().max_examples)
SOME = settings(max_examples=3 * settings().max_examples)

#: What tasks do when nothing goes wrong.
GOOD = st.sampled_from([("ok",)] * 5 + [("retry", 1, "ok")])
ORDERS = st.integers(0, 2**32)
CHANCES = st.lists(st.sampled_from([0.02, 0.1, 0.3, 0.7]), min_size=1, max_size=5)


def calm(recipe):
    """Return a recipe without items that fail."""
    if isinstance(recipe, tuple) and recipe and recipe[0] in {"map", "starmap"}:
        return (*recipe[:2], False)
    return type(recipe)(map(calm, recipe)) if isinstance(recipe, list | tuple) else recipe


CANVASES = st.one_of(canvases(5, GOOD), canvases(6, GOOD), canvases(3, GOOD)).map(calm)


def below(node, *, errbacks):
    """Yield every call below a node with its links; with the errbacks' calls, or only those."""
    todo = [(node, False)]
    while todo:
        found, told = todo.pop()
        if isinstance(found, Call):
            if told == errbacks:
                yield found
            todo += [(link, told) for link in found.links] + [(errback, True) for errback in found.errbacks]
        else:
            todo += [(inner, told) for inner in (found.steps if isinstance(found, Chain) else found.members)]


class Rounds(Simulation):
    """A canvas that is run, and run again, in a world where things go wrong.

    Attributes
    ----------
    successes
        (tag, value): how often tasks succeeded, errbacks left out.
    """

    def __init__(self, canvas, args=(), order=0, redeliver=0.0, chance=0.0):
        self.chance = chance
        self.successes = Counter()
        self.added = []
        self.told_of_failures = set()
        self.lost = {}
        self.looked = 0
        super().__init__(canvas, args, order, redeliver)
        self.root = self.nodes[0]

    def perform(self, transition):
        for node in self.nodes[self.looked :]:
            self.told_of_failures.update(call.id for call in below(node, errbacks=True))
        self.looked = len(self.nodes)
        super().perform(transition)

    def outcome(self, message: Message, args, kwargs):
        call = message.call
        if call.task != "heard" and self.random.random() < self.chance:
            wrong = [
                Failed(Boom("by chance")),
                Failed(Boom("by chance")),
                Revoked(TaskRevokedError("by chance")),
                Ignored(),
                Rejected("by chance"),
                Retried(Boom("by chance"), None, None),
            ]
            return self.random.choice(wrong), None
        return super().outcome(message, args, kwargs)

    def settle(self, call, attempt, state, result=None):
        settled = super().settle(call, attempt, state, result)
        if settled and isinstance(result, Replaced):
            self.added.append(Added(call.id, call.nesting, replaces=True, node=result.node))
            if call.id in self.told_of_failures:
                self.told_of_failures.update(inner.id for inner in calls_of(result.node))
        if settled and state == "SUCCESS" and call.id not in self.told_of_failures:
            self.successes[name_of(call), self.text(result)] += 1
        return settled

    def have(self, call):
        record = self.records.get(call.id)
        if record is None or record.state != "SUCCESS":
            return Have.MISSING
        return self.lost.get(call.id, Have.VALUE)

    def payload(self, call):
        assert self.have(call) == Have.VALUE or call.id in self.lost
        return None if call.id in self.lost else self.records[call.id].result.payload

    def again(self, chance=0.0):
        """Run what is missing; returns how many calls that were."""
        self.chance = chance
        renewal = renew(self.root, self.have, self.new_id, {}, self.added)
        self.root, self.added = renewal.root, list(renewal.added)
        self.nodes = [self.root, *(one.node for one in self.added)]
        self.looked = 0
        before = sum(self.executions.values())
        self.perform(resume(renewal, self.payload, "root", NOW))
        self.drain()
        return sum(self.executions.values()) - before

    def drain(self):
        while self.pending:
            self.pending.rotate(self.random.randrange(len(self.pending)))
            message = self.pending.popleft()
            if self.redeliver and self.random.random() < self.redeliver:
                self.pending.append(message)
            self.work(message)

    redeliver = 0.2

    @property
    def last_ends(self):
        """How everything stands in the latest run, errbacks left out."""
        nodes = [self.root, *(one.node for one in self.added)]
        calls = {call.id for node in nodes for call in below(node, errbacks=False)}
        records = [self.records[call_id] for call_id in calls - self.told_of_failures]
        return Counter((name_of(record.call), record.state, self.text(record.result)) for record in records)


def plain(canvas):
    return json.loads(json.dumps(canvas))


def succeeded(meaning):
    return Counter({(tag, value): n for (tag, state, value), n in meaning.ends.items() if state == "SUCCESS"})


@MANY
@given(CANVASES, st.sampled_from([(), ("given",)]), ORDERS, CHANCES)
def test_rerun_until_done_means_what_a_run_without_failures_means(recipe, args, order, chances):
    canvas = build(recipe)
    meaning = Meaning(plain(canvas), args)
    rounds = Rounds(canvas, args, order, 0.2, chances[0])
    check(rounds)
    for chance in (*chances[1:], 0.0):
        rounds.again(chance)
        check(rounds)
    assert rounds.last_ends == meaning.ends
    assert rounds.successes == succeeded(meaning), "a task that succeeded ran twice, or one never ran"
    assert rounds.again() == 0


@SOME
@given(CANVASES, ORDERS, CHANCES, st.sampled_from([0.1, 0.4, 1.0]))
def test_values_that_are_gone_are_made_again_where_they_are_needed(recipe, order, chances, gone):
    canvas = build(recipe)
    meaning = Meaning(plain(canvas))
    rounds = Rounds(canvas, (), order, 0.2, chances[0])
    for chance in (*chances[1:], 0.0):
        for call_id in rounds.records:
            if rounds.random.random() < gone:
                rounds.lost[call_id] = rounds.random.choice([Have.DONE, Have.RECORDED])
        rounds.again(chance)
        check(rounds)
    assert rounds.last_ends == meaning.ends
    assert all(rounds.successes[key] >= n for key, n in succeeded(meaning).items())


# -- one shape at a time -------------------------------------------------------------------------------------------


def task(tag, **more):
    return Signature("work", (), {"tag": tag, "do": ["ok"]}, **more)


def renewed(canvas, missing=(), gone=(), added=(), left=(), unkept=(), versions=None):
    """Freeze a canvas and renew it; tasks are named by their tags."""
    node = canvas if isinstance(canvas, Call | Chain | Fan) else freeze(canvas, seeded_ids("first"), pack_args)

    def have(call):
        tag = name_of(call)
        if tag in left:
            return Have.UNDER_WAY
        if tag in missing:
            return Have.MISSING
        return Have.DONE if tag in gone else Have.RECORDED if tag in unkept else Have.VALUE

    renewal = renew(node, have, seeded_ids("second"), versions or {}, added)
    begun = resume(renewal, lambda call: f"value of {name_of(call)}" if have(call) == Have.VALUE else None, "root", NOW)
    return node, renewal, begun


def sent(transition):
    """What is sent: the tag of each call, with what it is given."""
    return [(name_of(message.call), *map(shown, message.given)) for message in transition.send]


def shown(payload):
    return [shown(one) for one in payload] if isinstance(payload, tuple) else payload


def names(*tags):
    return [task(tag) for tag in tags]


def test_a_chain_begins_behind_the_last_value():
    node, renewal, begun = renewed(chain(*names("a", "b", "c", "d")), missing="cd")
    assert sent(begun) == [("c", "value of b")]
    assert begun.send[0].parent_id == node.steps[1].id
    assert list(renewal.new) == [call.id for call in node.steps[2:]]
    assert renewal.root.steps[:2] == node.steps[:2]
    assert begun.send[0].then.step is renewal.root.steps[3]


def test_nothing_is_missing():
    for canvas in (task("a"), chain(*names("a", "b")), group(names("a", "b")) | task("c"), group([]), group()):
        node, renewal, begun = renewed(canvas)
        assert renewal.root is node and not renewal.begins and not renewal.new
        assert not any(begun)


def test_a_chord_keeps_its_header():
    node, renewal, begun = renewed(chord(names("a", "b"), task("c")), missing="c")
    assert sent(begun) == [("c", ["value of a", "value of b"])]
    assert renewal.root.steps[0] is node.steps[0]


def test_a_header_that_is_not_complete_gets_what_it_has_into_its_slots():
    canvas = chord([task("a"), chain(*names("b", "b2")), task("c")], task("d"))
    node, renewal, begun = renewed(canvas, missing=("b2", "d"))
    assert sent(begun) == [("b2", "value of b")]
    assert [(a.slot.index, a.exit.payload, a.by) for a in begun.arrivals] == [
        (0, "value of a", node.steps[0].members[0].id),
        (2, "value of c", node.steps[0].members[2].id),
    ]
    (waiting,) = {a.slot.join for a in begun.arrivals} | {begun.send[0].then.join}
    fan = renewal.root.steps[0]
    assert waiting.fan is fan and fan.id != node.steps[0].id
    ends = [m.steps[-1] if isinstance(m, Chain) else m for m in fan.members]
    assert [(end.group_id, end.index) for end in ends] == [(fan.id, 0), (fan.id, 1), (fan.id, 2)]
    assert [end.id for end in ends][::2] == [m.id for m in node.steps[0].members[::2]]
    assert node.steps[0].members[0].group_id == node.steps[0].id, "renewing never changes what it reads"


def test_a_header_of_headers():
    inner = chain(group(*names("a", "b")), group(*names("c", "d")), task("e"))
    _, _, begun = renewed(chord([inner, task("f")], task("g")), missing=("d", "e", "g"))
    assert sent(begun) == [("d", ["value of a", "value of b"])]
    assert sorted(a.exit.payload for a in begun.arrivals) == ["value of c", "value of f"]


def test_a_value_that_is_gone_is_made_again_only_when_it_is_needed():
    abc = names("a", "b", "c")
    assert sent(renewed(chain(*abc), missing="c", gone="b")[2]) == [("b", "value of a")]
    assert sent(renewed(chain(*abc), missing="c", gone="a")[2]) == [("c", "value of b")]
    assert sent(renewed(chain(*abc), missing="c", gone="ab")[2]) == [("a",)]
    assert sent(renewed(chain(*abc[:2], task("c", immutable=True)), missing="c", gone="ab")[2]) == [("c", None)]
    assert sent(renewed(chord(abc, task("d")), missing="d", gone="b")[2]) == [("b",)]
    unasking = chord(abc, task("d", immutable=True))
    assert sent(renewed(unasking, missing="d", gone="b")[2]) == [("d", ["value of a", None, "value of c"])]
    assert sent(renewed(chord(abc, task("d")), missing="bd", unkept="a")[2]) == [("a",), ("b",)]
    assert sent(renewed(unasking, missing="bd", unkept="a")[2]) == [("b",)]
    # get() of the whole asks for the records of its end; that nothing was kept in one is as before.
    assert sent(renewed(chain(*abc), gone="c")[2]) == [("c", "value of b")]
    assert sent(renewed(group(abc), gone="c")[2]) == [("c",)]
    assert sent(renewed(group(abc), unkept="c")[2]) == []


def test_links_of_what_is_kept():
    owner, link = task("a"), chain(*names("l1", "l2"))
    owner.link(link)
    canvas = chain(owner, task("b"))
    assert sent(renewed(canvas, missing=("l1", "l2"))[2]) == [("l1", "value of a")]
    assert sent(renewed(canvas, missing=("l2",))[2]) == [("l2", "value of l1")]
    assert sent(renewed(canvas, missing=("l2", "b"))[2]) == [("b", "value of a"), ("l2", "value of l1")]
    # Its value is gone: it has to run again, with all that depends on it.
    _, renewal, begun = renewed(canvas, missing=("l1", "l2"), gone="a")
    assert sent(begun) == [("a",)] and len(renewal.new) == 4
    # One that is still under way belongs to the run that started it.
    node, renewal, begun = renewed(canvas, left=("l2",))
    assert sent(begun) == [] and renewal.root.steps[0].links == () and renewal.root.steps[0].id == node.steps[0].id


def test_errbacks_are_for_the_attempt_that_failed():
    canvas = task("a").on_error(task("e")) | task("b")
    node, renewal, begun = renewed(canvas, missing="ab")
    assert sent(begun) == [("a",)]
    (errback,) = renewal.root.steps[0].errbacks
    assert errback.id != node.steps[0].errbacks[0].id
    node, renewal, begun = renewed(canvas, missing="b")
    assert renewal.root.steps[0] is node.steps[0]


def test_the_newest_code_runs():
    node = freeze(chain(*names("a", "b")), seeded_ids(), pack_args, versions={"work": "old"})
    _, renewal, _ = renewed(node, missing="b", versions={"work": "new"})
    assert [call.version for call in calls_of(renewal.root)] == ["old", "new"]


def test_a_replacement_that_is_partly_done_goes_on_in_the_place_of_its_task():
    ids = seeded_ids("first")
    node = freeze(chain(*names("a", "b", "c")), ids, pack_args)
    b = node.steps[1]
    instead = freeze(chain(*names("r1", "r2")), ids, pack_args, options={"task_id": b.id}, nesting=1)
    added = [Added(b.id, 0, replaces=True, node=instead, mark="m")]
    _, renewal, begun = renewed(node, missing=("b", "r2", "c"), added=added)
    assert sent(begun) == [("r2", "value of r1")]
    (one,) = renewal.added
    assert one.owner == renewal.root.steps[1].id == one.node.steps[-1].id != b.id
    assert one.mark == "m" and begun.send[0].then.step is renewal.root.steps[2]
    # The value of what was before is not needed for that.
    assert sent(renewed(node, missing=("b", "r2", "c"), added=added, gone="a")[2]) == [("r2", "value of r1")]
    # When nothing of it was done, the task chooses anew.
    _, renewal, begun = renewed(node, missing=("b", "r1", "r2", "c"), added=added)
    assert sent(begun) == [("b", "value of a")] and renewal.added == []


def test_what_a_task_started_by_itself_goes_on_when_that_task_does_not_run_again():
    ids = seeded_ids("first")
    node = freeze(chain(*names("a", "b")), ids, pack_args)
    child = freeze(chain(*names("k1", "k2")), ids, pack_args)
    added = [Added(node.steps[0].id, 0, replaces=False, node=child)]
    _, renewal, begun = renewed(node, missing=("k2",), added=added)
    assert sent(begun) == [("k2", "value of k1")]
    assert begun.send[0].then is None and renewal.added[0].owner == node.steps[0].id
    _, renewal, begun = renewed(node, missing=("a", "b", "k2"), added=added)
    assert sent(begun) == [("a",)] and renewal.added == []
    assert renewed(node, missing=("k2",), left=("k2",), added=added)[1].added == []


def test_chunks_and_maps():
    canvas = chunks(Signature("item"), [[n] for n in range(6)], 2) | task("b")
    node = freeze(canvas, seeded_ids("first"), pack_args)
    third = name_of(node.steps[0].members[2])
    _, _, begun = renewed(node, missing=(third, "b"))
    assert sent(begun) == [(third,)] and len(begun.arrivals) == 2


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"errbacks of errbacks"}))
def test_a_nesting_of_500_is_run_until_done(shape):
    canvas = nested(SHAPES[shape])
    rounds = Rounds(canvas, order=5, chance=0.02)
    for chance in (0.2, 0.0):
        rounds.again(chance)
    check(rounds)
    assert {state for _, state, _ in rounds.last_ends} == {"SUCCESS"}
    assert sum(rounds.successes.values()) == sum(Simulation(canvas).runs.values())


def test_a_chain_of_10_000_goes_on_in_its_middle():
    canvas = chain(work(number) for number in range(10_000))
    rounds = Rounds(canvas, order=3, chance=0.0005)
    while rounds.again(0.0005):
        check(rounds)
    assert set(rounds.successes.values()) == {1} and len(rounds.successes) == 10_000


@pytest.mark.parametrize("which", [0, 1, -1])
def test_renewing_is_linear(which):
    shapes = {
        "chain": lambda n: chain(work(number) for number in range(n)),
        "chord": lambda n: group(work(number) for number in range(n)) | work(-1),
        "chords": lambda n: reduce(lambda inner, k: chord([inner, work(k)], work(n + k)), range(n // 3), work(-2)),
    }
    for shape in shapes.values():
        cost = []
        for size in (600, 1200):
            node = freeze(shape(size), seeded_ids(), pack_args)
            calls = list(calls_of(node))
            missing = {call.id for call in calls[calls.index(calls[which]) :]}

            def have(call, missing=missing):
                return Have.MISSING if call.id in missing else Have.VALUE

            def again(node=node, have=have):
                return resume(renew(node, have, seeded_ids()), lambda _: 1, "root", NOW)

            cost.append(operations(again))
        assert cost[1] < 2.3 * cost[0]
