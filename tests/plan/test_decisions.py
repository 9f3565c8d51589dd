"""The decision table that `advance` interprets is the one the documentation prints."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from nbcanvas.plan import (
    Call,
    Failed,
    Ignored,
    Message,
    Outcome,
    Rejected,
    Revoked,
    Value,
    advance,
    decision_table,
)
from nbcanvas.plan.engine import DECISIONS

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_documentation_prints_the_table():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    printed = text.partition("<!-- decisions -->")[2].partition("<!-- /decisions -->")[0]
    assert printed.strip() == decision_table()


def test_the_table_knows_every_outcome():
    assert set(DECISIONS) == set(typing.get_args(Outcome))


@pytest.mark.parametrize("outcome", [Value(1), Failed(ValueError()), Revoked(ValueError()), Ignored(), Rejected()])
def test_a_call_with_nothing_around_it_just_ends(outcome):
    transition = advance(Message(Call("id", "task", ()), (), None, "root", None, 0.0), outcome, 0.0)
    assert not any((transition.send, transition.arrivals, transition.skips, transition.errbacks))


def test_a_message_given_back_is_sent_again():
    message = Message(Call("id", "task", ()), (), None, "root", None, 0.0)
    assert list(advance(message, Rejected(requeue=True), 0.0).send) == [message]
