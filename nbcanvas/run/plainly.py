"""A run as it is kept where others may write: JSON, of which nothing is ever run, imported or unpickled.

The frozen canvas stands there as messages have it, what was heard as recordings have it (docs/recording.md), without
arguments and results: those are in the canvas, and beside it.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from nbcanvas.backend.port import StoredRun
from nbcanvas.errors import CorruptResult, InvalidTaskError
from nbcanvas.events.state import State
from nbcanvas.plan import Call
from nbcanvas.protocol import plans
from nbcanvas.protocol.plain import LEFT_OUT, LIMIT, Malformed

from . import recorded
from .stored import Heard, Planned
from .views import Description, Views

__all__ = ["dump_plan", "dump_state", "load_plan", "load_state", "small"]

#: Bytes of a run that are read, once decompressed.
_LARGEST: Final = 1024 * 1024 * 1024
_NOTHING: Final = Description((), {}, None, None)


def dump_plan(planned: Planned) -> bytes:
    """Return a frozen canvas as bytes.

    Raises
    ------
    NotSerializable
        When one of its arguments has no form in JSON.
    """
    whole = {"plan": plans.dump(planned.root), "parent": planned.parent_id, "canvas": planned.canvas}
    return json.dumps(whole).encode()


def small(plan: bytes) -> bytes:
    """Return what `dump_plan` gave as fewer bytes, of which `load_plan` makes the same."""
    return zlib.compress(plan, 1)


def load_plan(stored: StoredRun) -> Planned:
    """Return the frozen canvas of a stored run.

    Raises
    ------
    CorruptResult
        When it cannot be understood.
    """
    try:
        whole = json.loads(_wide(stored.plan))
        parent = whole["parent"]
        return Planned(plans.load(whole["plan"]), None if parent is None else str(parent), str(whole["canvas"]))
    except (InvalidTaskError, KeyError, TypeError, ValueError, RecursionError, zlib.error) as error:
        raise _corrupt(stored, "plan", error) from error


def _wide(data: bytes) -> bytes:
    return data if data.startswith(b"{") else zlib.decompressobj().decompress(data, _LARGEST)


class _Told:
    """A run as a recording is written of it: without arguments and results."""

    def __init__(self, run: Any, state: State) -> None:
        self._state = state
        self.id, self.name, self.canvas = run.id, run.name, run.canvas
        self.root, self.finished, self.done = run.root, run.finished, run.done

    def snapshot(self) -> State:
        return self._state

    def value_of(self, call: Call) -> Any:
        return LEFT_OUT

    def describe(self, call: Call) -> Description:
        return _NOTHING


def dump_state(run: Views, state: State) -> bytes:
    """Return what is known of a run as bytes."""
    told: Any = _Told(run, state)
    return zlib.compress(recorded.write(told, limit=64 * LIMIT * (len(state.tree.calls) + 16), clocks=True).encode(), 1)


def load_state(stored: StoredRun) -> Heard:
    """Return what was heard of a stored run.

    Raises
    ------
    CorruptResult
        When it cannot be understood.
    """
    if not stored.state:  # it had just begun
        return Heard([], {})
    try:
        text = zlib.decompressobj().decompress(stored.state, _LARGEST)
        return Heard(list(recorded.read(text).state.events()), {})
    except (Malformed, zlib.error, ValueError, RecursionError) as error:
        raise _corrupt(stored, "state", error) from error


def _corrupt(stored: StoredRun, what: str, error: BaseException) -> CorruptResult:
    size = len(stored.plan if what == "plan" else stored.state)
    return CorruptResult(
        f"the {what} of the run {stored.id} cannot be read ({size} bytes; {type(error).__name__}: {error}); "
        f"its results are there all the same: nbcanvas.AsyncResult(task id) reads them"
    )
