"""A run as it is kept where others may write: JSON, of which nothing is ever run, imported or unpickled.

The frozen canvas stands there as messages have it, and beside it what was heard of its calls (`run.heard`), without
arguments and results: those are in the canvas, and beside it.
"""

from __future__ import annotations

import json
import zlib
from typing import Final

from nbcanvas.backend.port import StoredRun
from nbcanvas.errors import CorruptResult, InvalidTaskError
from nbcanvas.events.state import State
from nbcanvas.plan import Node
from nbcanvas.protocol import plans
from nbcanvas.protocol.plain import Malformed

from . import heard
from .stored import Heard, Planned

__all__ = ["dump_plan", "dump_state", "load_plan", "load_state"]

#: Bytes of a run that are read, once decompressed.
_LARGEST: Final = 1024 * 1024 * 1024


def dump_plan(planned: Planned) -> bytes:
    """Return a frozen canvas as bytes.

    Raises
    ------
    NotSerializable
        When one of its arguments has no form in JSON.
    """
    parent, canvas = json.dumps(planned.parent_id), json.dumps(planned.canvas)
    text = f'{{"plan":{plans.dump(planned.root)},"parent":{parent},"canvas":{canvas}}}'
    return zlib.compress(text.encode("ascii"), 1)  # before the first message goes: in haste


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
    return zlib.decompressobj().decompress(data, _LARGEST)


def dump_state(run_id: str, state: State) -> bytes:
    """Return what is known of a run as bytes."""
    return zlib.compress(heard.write(run_id, state).encode("utf-8"))


def load_state(stored: StoredRun, root: Node) -> Heard:
    """Return what was heard of a stored run, whose frozen canvas is `root`.

    Raises
    ------
    CorruptResult
        When it cannot be understood.
    """
    if not stored.state:  # it had just begun
        return Heard([], {})
    try:
        return Heard(list(heard.read(_wide(stored.state), root)), {})
    except (Malformed, zlib.error, ValueError, RecursionError) as error:
        raise _corrupt(stored, "state", error) from error


def _corrupt(stored: StoredRun, what: str, error: BaseException) -> CorruptResult:
    size = len(stored.plan if what == "plan" else stored.state)
    return CorruptResult(
        f"the {what} of the run {stored.id} cannot be read ({size} bytes; {type(error).__name__}: {error}); "
        f"its results are there all the same: nbcanvas.AsyncResult(task id) reads them"
    )
