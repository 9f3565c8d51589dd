"""The canvas guide, sections "The Primitives", "Map & Starmap" and "Chunks": every example, on the embedded worker."""

from __future__ import annotations

import time

from nbcanvas import chain, chord, group

TENS = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
CHUNKS = [[2 * i for i in range(start, start + 10)] for start in range(0, 100, 10)]


def test_overview_map(tasks):
    @tasks.task
    def double(x):
        return 2 * x

    assert ~double.map([1, 2]) == [double(1), double(2)] == [2, 4]


def test_overview_starmap(tasks):
    assert ~tasks.add.starmap([(2, 2), (4, 4)]) == [tasks.add(2, 2), tasks.add(4, 4)] == [4, 8]


def test_overview_chunks(tasks):
    items = zip(range(1000), range(1000), strict=True)
    result = tasks.add.chunks(items, 10)()
    assert len(result) == 100
    assert [x for part in result.get(timeout=30) for x in part] == [2 * i for i in range(1000)]


def test_simple_chain(tasks):
    add = tasks.add
    assert chain(add.s(2, 2), add.s(4), add.s(8))().get(timeout=30) == 16


def test_simple_chain_by_pipes(tasks):
    add = tasks.add
    assert (add.s(2, 2) | add.s(4) | add.s(8))().get(timeout=30) == 16


def test_immutable_signatures(tasks):
    assert tasks.add.signature((2, 2), immutable=True) == tasks.add.si(2, 2)


def test_immutable_chain_of_independent_tasks(tasks):
    add = tasks.add
    res = (add.si(2, 2) | add.si(4, 4) | add.si(8, 8))()
    assert res.get(timeout=30) == 16
    assert res.parent.get(timeout=30) == 8
    assert res.parent.parent.get(timeout=30) == 4


def test_simple_group(tasks):
    assert group(tasks.add.s(i, i) for i in range(10))().get(timeout=30) == TENS


def test_simple_chord(tasks):
    assert chord((tasks.add.s(i, i) for i in range(10)), tasks.tsum.s())().get(timeout=30) == 90


def test_simple_chord_with_an_immutable_body(tasks):
    @tasks.task
    def import_contact(contact):
        tasks.note("contact", contact)

    @tasks.task
    def notify_complete(import_id):
        tasks.note("complete", import_id)
        return import_id

    contacts, import_id = ["ann", "bob"], 7
    res = chord((import_contact.s(c) for c in contacts), notify_complete.si(import_id)).apply_async()
    assert res.get(timeout=30) == 7
    assert sorted(tasks.noted[:2]) == [("contact", "ann"), ("contact", "bob")]
    assert tasks.noted[2:] == [("complete", 7)]


def test_combining_a_partial_chain(tasks):
    c1 = tasks.add.s(4) | tasks.mul.s(8)
    assert c1(16).get(timeout=30) == 160


def test_combining_chains(tasks):
    add, mul = tasks.add, tasks.mul
    c2 = add.s(4, 16) | mul.s(2) | (add.s(4) | mul.s(8))
    assert c2().get(timeout=30) == 352


def test_combining_a_group_and_a_task_makes_a_chord(tasks):
    c3 = group(tasks.add.s(i, i) for i in range(10)) | tasks.tsum.s()
    assert isinstance(c3, chord)
    assert c3().get(timeout=30) == 90


def test_combining_a_task_and_a_group_forwards_its_value(tasks):
    @tasks.task
    def create_user(username, first, last, email):
        return {"username": username, "name": f"{first} {last}", "email": email}

    @tasks.task
    def import_contacts(user):
        return f"contacts of {user['username']}"

    @tasks.task
    def send_welcome_email(user):
        return f"mail to {user['email']}"

    new_user_workflow = create_user.s() | group(import_contacts.s(), send_welcome_email.s())
    res = new_user_workflow.delay(username="artv", first="Art", last="Vandelay", email="art@vandelay.com")
    assert res.get(timeout=30) == ["contacts of artv", "mail to art@vandelay.com"]


def test_combining_a_task_and_an_immutable_group(tasks):
    add = tasks.add
    res = (add.s(4, 4) | group(add.si(i, i) for i in range(10)))()
    assert res.get(timeout=30) == TENS
    assert res.parent.get(timeout=30) == 8


# -- map & starmap ------------------------------------------------------------------------------------------------


def test_map(tasks):
    sig = tasks.tsum.map([list(range(10)), list(range(100))])
    assert ~sig == [45, 4950]


def test_map_is_one_message_worked_on_in_sequence(tasks, app):
    result = tasks.tsum.map([list(range(10)), list(range(100))]).delay()
    assert result.get(timeout=30) == [45, 4950]
    assert result.children in ([], None)

    @tasks.task
    def temp():
        return [tasks.tsum(range(10)), tasks.tsum(range(100))]

    assert temp.delay().get(timeout=30) == [45, 4950]


def test_starmap(tasks):
    assert ~tasks.add.starmap(zip(range(10), range(10), strict=True)) == TENS

    @tasks.task
    def temp():
        return [tasks.add(i, i) for i in range(10)]

    assert ~temp.s() == TENS


def test_starmap_later(tasks):
    started = time.monotonic()
    result = tasks.add.starmap(zip(range(10), range(10), strict=True)).apply_async(countdown=0.2)
    assert result.get(timeout=30) == TENS
    assert time.monotonic() - started >= 0.2


def test_maps_combine_like_any_signature(tasks):
    pairs = [(1, 1), (2, 2)]
    assert (tasks.add.starmap(pairs) | tasks.tsum.s())().get(timeout=30) == 6
    assert group(tasks.add.starmap(pairs), tasks.tsum.map([[1], [2, 3]]))().get(timeout=30) == [[2, 4], [1, 5]]


# -- chunks -------------------------------------------------------------------------------------------------------


def test_chunks_called(tasks):
    res = tasks.add.chunks(zip(range(100), range(100), strict=True), 10)()
    assert res.get(timeout=30) == CHUNKS


def test_chunks_apply_async(tasks):
    # Celery 5.7 gives a GroupResult here as well; its guide's "dedicated task" is history.
    res = tasks.add.chunks(zip(range(100), range(100), strict=True), 10).apply_async()
    assert res.get(timeout=30) == CHUNKS


def test_chunks_as_a_group(tasks):
    made = tasks.add.chunks(zip(range(100), range(100), strict=True), 10).group()
    assert isinstance(made, group)
    assert len(made.tasks) == 10
    assert made().get(timeout=30) == CHUNKS


def test_chunks_skewed(tasks):
    made = tasks.add.chunks(zip(range(100), range(100), strict=True), 10).group()
    skewed = made.skew(start=1, stop=10)
    assert [sig.options.get("countdown") for sig in skewed.tasks] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    quick = made.skew(start=0.01, stop=0.1, step=0.01)
    assert quick().get(timeout=30) == CHUNKS
