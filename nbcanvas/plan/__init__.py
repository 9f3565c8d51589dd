"""Meaning: what a canvas is once it is frozen, and what a finished task causes.  Pure."""

from .engine import Arrival, Errback, Skip, Transition, advance, decision_table, release, start
from .freezing import freeze
from .graph import Place, calls_of, places
from .model import (
    Call,
    Chain,
    Exit,
    Failed,
    Fan,
    Gathered,
    Ignored,
    Join,
    Message,
    Next,
    Node,
    Outcome,
    Rejected,
    Replaced,
    Retried,
    Revoked,
    Slot,
    Then,
    Value,
)

__all__ = [
    "Arrival", "Call", "Chain", "Errback", "Exit", "Failed", "Fan", "Gathered", "Ignored", "Join", "Message", "Next",
    "Node", "Outcome", "Place", "Rejected", "Replaced", "Retried", "Revoked", "Skip", "Slot", "Then", "Transition",
    "Value", "advance", "calls_of", "decision_table", "freeze", "places", "release", "start",
]
