"""The canvas guide, section "Chains": every example, on the embedded worker."""

from __future__ import annotations

import re
import threading

import pytest

from nbcanvas import AsyncResult, chain, group
from nbcanvas.errors import IncompleteStream


def test_chains_link(tasks):
    res = tasks.add.apply_async((2, 2), link=tasks.mul.s(16))
    assert res.get(timeout=30) == 4


def test_chains_children(tasks):
    res = tasks.add.apply_async((2, 2), link=tasks.mul.s(16))
    res.get(timeout=30)
    assert re.fullmatch(r"\[<AsyncResult: [0-9a-f-]{36}>\]", repr(res.children))
    assert res.children[0].get(timeout=30) == 64


def test_chains_collect(tasks):
    res = tasks.add.apply_async((2, 2), link=tasks.mul.s(16))
    res.get(timeout=30)
    child = res.children[0]
    child.get(timeout=30)
    assert list(res.collect()) == [(res, 4), (child, 64)]
    assert all(isinstance(result, AsyncResult) for result, _ in res.collect())


def test_chains_collect_what_is_incomplete(tasks):
    gate = threading.Event()

    @tasks.task
    def held(x):
        gate.wait(100)
        return x

    res = tasks.add.apply_async((2, 2), link=held.s())
    res.get(timeout=30)
    with pytest.raises(IncompleteStream):
        res.graph  # noqa: B018 - asking raises
    (child,) = res.children
    assert res.build_graph(intermediate=True).items() == {res: [child], child: []}.items()
    # collect itself waits for each value, in Celery's code as here (its guide says that it raises).
    found = res.collect(intermediate=True)
    assert next(found) == (res, 4)
    gate.set()
    assert next(found) == (child, 4)


def test_chains_collect_follows_what_tasks_started(tasks):
    @tasks.task
    def many(how_many):
        return group(one.s(i) for i in range(how_many))()

    @tasks.task
    def one(i):
        return square.delay(i)

    @tasks.task
    def square(i):
        return i**2

    result = many.delay(10)
    assert [value for child, value in result.collect(timeout=60) if not child.children] == [i**2 for i in range(10)]


def test_chains_link_several(tasks):
    s = tasks.add.s(2, 2)
    s.link(tasks.mul.s(4))
    s.link(tasks.log_result.s())
    res = s.delay()
    assert res.get(timeout=30) == 4
    assert tasks.wait_for_notes(1) == [("result", 4)]
    assert res.children[0].get(timeout=30) == 16


def test_chains_on_error(tasks):
    sig = tasks.fail.s().on_error(tasks.log_error.s())
    assert repr(sig) == "tasks.fail()"
    res = sig.delay()
    assert repr(res.get(timeout=30, propagate=False)) == "ValueError('something something')"
    (note,) = tasks.wait_for_notes(1)
    assert note[0] == res.id


def test_chains_on_error_of_a_task_that_succeeds(tasks):
    res = tasks.add.s(2, 2).on_error(tasks.log_error.s()).delay()
    assert res.get(timeout=30) == 4
    res = tasks.add.apply_async((2, 2), link_error=tasks.log_error.s())
    assert res.get(timeout=30) == 4
    assert tasks.noted == []


def test_chains_log_error(tasks, tmp_path):
    @tasks.task
    def log_error(request, exc, traceback):
        with (tmp_path / request.id).open("a") as fh:
            print(f"--\n\n{request.id} {exc} {traceback}", file=fh)
        tasks.note("written")

    res = tasks.fail.apply_async(link_error=log_error.s())
    tasks.wait_for_notes(1)
    text = (tmp_path / res.id).read_text()
    assert text.startswith(f"--\n\n{res.id} something something Traceback (most recent call last):")
    assert 'raise ValueError("something something")' in text
    assert res.traceback in text


def test_chains_chain(tasks):
    sig = chain(tasks.add.s(4, 4), tasks.mul.s(8), tasks.mul.s(10))
    # Celery itself prints a module once; the guide's text shows it each time.
    assert repr(sig) == "tasks.add(4, 4) | mul(8) | mul(10)"


def test_chains_chain_called(tasks):
    res = chain(tasks.add.s(4, 4), tasks.mul.s(8), tasks.mul.s(10))()
    assert isinstance(res, AsyncResult)
    assert res.get(timeout=30) == 640


def test_chains_parents(tasks):
    res = chain(tasks.add.s(4, 4), tasks.mul.s(8), tasks.mul.s(10))()
    assert res.get(timeout=30) == 640
    assert res.parent.get(timeout=30) == 64
    assert res.parent.parent.get(timeout=30) == 8
    assert re.fullmatch(r"<AsyncResult: [0-9a-f-]{36}>", repr(res.parent.parent))
    assert res.parent.parent.parent is None


def test_chains_by_pipes(tasks):
    assert (tasks.add.s(2, 2) | tasks.mul.s(8) | tasks.mul.s(10)).apply_async().get(timeout=30) == 320


def test_chains_task_id_is_that_of_the_last_task(tasks):
    res = (tasks.add.s(2, 2) | tasks.mul.s(8)).apply_async(task_id="the-last")
    assert res.id == "the-last"
    assert res.get(timeout=30) == 32


def test_graphs(tasks):
    res = chain(tasks.add.s(4, 4), tasks.mul.s(8), tasks.mul.s(10))()
    res.get(timeout=30)
    first, second, third = res.parent.parent, res.parent, res
    graph = first.graph
    assert graph.items() == {first: [second], second: [third], third: []}.items()
    assert graph.topsort() == [third, second, first]
    lines = repr(graph).splitlines()
    assert {f"{first.id}(2)", f"{second.id}(1)", f"{third.id}(0)"} <= set(lines)
    assert f"     {second.id}(1)" in lines
    assert f"          {third.id}(0)" in lines


def test_graphs_to_dot(tasks, tmp_path):
    res = chain(tasks.add.s(4, 4), tasks.mul.s(8), tasks.mul.s(10))()
    res.get(timeout=30)
    path = tmp_path / "graph.dot"
    with path.open("w") as fh:
        res.parent.parent.graph.to_dot(fh)
    text = path.read_text()
    assert text.startswith("digraph ")
    arrows = re.findall(r'"([0-9a-f-]{36})" -> "([0-9a-f-]{36})"', text)
    assert arrows == [(res.parent.parent.id, res.parent.id), (res.parent.id, res.id)]
