"""The canvas guide, section "Signatures": every example, on the embedded worker."""

from __future__ import annotations

import json
import time

import pytest

from nbcanvas import signature


def test_signatures_by_name(tasks):
    sig = signature("tasks.add", args=(2, 2), countdown=0.05)
    assert repr(sig) == "tasks.add(2, 2)"
    assert sig.delay().get(timeout=30) == 4


def test_signatures_by_the_tasks_method(tasks):
    sig = tasks.add.signature((2, 2), countdown=0.05)
    assert repr(sig) == "tasks.add(2, 2)"
    assert sig.options == {"countdown": 0.05}
    assert sig.delay().get(timeout=30) == 4


def test_signatures_by_star_arguments(tasks):
    assert repr(tasks.add.s(2, 2)) == "tasks.add(2, 2)"


def test_signatures_with_keyword_arguments(tasks):
    sig = tasks.add.s(2, 2, debug=True)
    assert repr(sig) == "tasks.add(2, 2, debug=True)"
    assert sig.delay().get(timeout=30) == 4


def test_signatures_show_their_fields(tasks):
    s = tasks.add.signature((2, 2), {"debug": True}, countdown=10)
    assert s.args == (2, 2)
    assert s.kwargs == {"debug": True}
    assert s.options == {"countdown": 10}


def test_signatures_called_inline(tasks, app):
    assert tasks.add(2, 2) == 4
    assert tasks.add.s(2, 2)() == 4
    assert app.worker is None  # nothing was sent


def test_signatures_apply_async_as_the_tasks(tasks):
    for result in (
        tasks.add.apply_async((2, 2), {"debug": True}),
        tasks.add.signature((2, 2), {"debug": True}).apply_async(),
        tasks.add.apply_async((2, 2), countdown=0.05),
        tasks.add.signature((2, 2), countdown=0.05).apply_async(),
    ):
        assert result.get(timeout=30) == 4


def test_signatures_countdown_is_waited_for(tasks):
    started = time.monotonic()
    assert tasks.add.apply_async((2, 2), countdown=0.3).get(timeout=30) == 4
    assert time.monotonic() - started >= 0.3


def test_signatures_delay(tasks):
    for result in (
        tasks.add.delay(2, 2, debug=True),
        tasks.add.signature((2, 2), {"debug": True}).delay(),
        tasks.add.delay(2, 2),
        tasks.add.signature((2, 2)).delay(),
    ):
        assert result.get(timeout=30) == 4


def test_signatures_options_before_delay(tasks):
    assert tasks.add.signature((2, 2), countdown=0.05).delay().get(timeout=30) == 4
    assert tasks.add.signature((2, 2)).set(countdown=0.05).delay().get(timeout=30) == 4


def test_signatures_set_after_s(tasks):
    sig = tasks.add.s(2, 2).set(countdown=1)
    assert repr(sig) == "tasks.add(2, 2)"
    assert sig.options["countdown"] == 1


def test_signatures_travel_as_data(tasks):
    assert signature(json.loads(json.dumps(tasks.add.s(2, 2)))).delay().get(timeout=30) == 4


def test_partials_executed_in_a_worker(tasks):
    assert tasks.add.s(2, 2).delay().get(timeout=30) == 4
    assert tasks.add.s(2, 2).apply_async(countdown=0.05).get(timeout=30) == 4


def test_partials_executed_inline(tasks):
    assert tasks.add.s(2, 2)() == 4


def test_partials_arguments_are_put_before(tasks):
    partial = tasks.add.s(2)
    assert partial.delay(4).get(timeout=30) == 6
    assert partial.apply_async((4,)).get(timeout=30) == 6


def test_partials_put_before_means_subtract_30_10(tasks):
    assert tasks.subtract.s(10).delay(30).get(timeout=30) == 20


def test_partials_keyword_arguments_are_merged(tasks):
    @tasks.task
    def show(*args, **kwargs):
        return [list(args), kwargs]

    s = show.s(2, 2, debug=False, more=1)
    assert s.delay(debug=True).get(timeout=30) == [[2, 2], {"debug": True, "more": 1}]
    assert s.apply_async(kwargs={"debug": True}).get(timeout=30) == [[2, 2], {"debug": True, "more": 1}]
    assert s.kwargs == {"debug": False, "more": 1}


def test_partials_options_are_merged(tasks):
    s = tasks.add.signature((2, 2), countdown=600)
    assert s.apply_async(countdown=0.05).get(timeout=30) == 4
    assert s.options == {"countdown": 600}


def test_partials_clone(tasks):
    s = tasks.add.s(2)
    assert repr(s) == "tasks.add(2)"
    derived = s.clone(args=(4,), kwargs={"debug": True})
    assert repr(derived) == "tasks.add(4, 2, debug=True)"
    assert repr(s) == "tasks.add(2)"
    assert derived.delay().get(timeout=30) == 6


def test_immutability_as_an_option(tasks):
    result = tasks.add.apply_async((2, 2), link=tasks.reset_buffers.signature(immutable=True))
    assert result.get(timeout=30) == 4
    assert tasks.wait_for_notes(1) == [("reset",)]


def test_immutability_si(tasks):
    result = tasks.add.apply_async((2, 2), link=tasks.reset_buffers.si())
    assert result.get(timeout=30) == 4
    assert tasks.wait_for_notes(1) == [("reset",)]
    assert result.children[0].get(timeout=30) == "reset"


def test_immutability_takes_options_only(tasks):
    sig = tasks.add.si(2, 2)
    assert sig.delay(100).get(timeout=30) == 4
    assert sig.set(countdown=1).options["countdown"] == 1


def test_immutability_tilde(tasks):
    sig = tasks.add.s(2, 2)
    assert ~sig == sig.apply_async().get(timeout=30) == 4


def test_callbacks_link(tasks):
    tasks.add.apply_async((2, 2), link=tasks.log_result.s()).get(timeout=30)
    assert tasks.wait_for_notes(1) == [("result", 4)]


def test_callbacks_are_not_called_after_a_failure(tasks):
    result = tasks.fail.apply_async(link=tasks.log_result.si(1), link_error=tasks.log_error.s())
    with pytest.raises(ValueError, match="something"):
        result.get(timeout=30)
    assert [note[0] for note in tasks.wait_for_notes(1)] == [result.id]


def test_callbacks_result_comes_first(tasks):
    sig = tasks.subtract.s(10)
    assert sig.delay(4).get(timeout=30) == tasks.subtract.apply_async(args=(4, 10)).get(timeout=30) == -6


def test_callbacks_with_partial_arguments(tasks):
    result = tasks.add.apply_async((2, 2), link=tasks.add.s(8))
    assert result.get(timeout=30) == 4
    assert result.children[0].get(timeout=30) == 12
