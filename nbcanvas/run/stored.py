"""A run as it is kept beside its results: the frozen canvas once, and from time to time what was heard of it.

Both are pickles, for a run that is attached to can be run again, with its real arguments, whatever they are.  They are
as trusted as the results beside them (see `nbcanvas.backend.database`): who may write there can have code run here.
Arguments, values and exceptions are pickles inside the pickle, opened when somebody asks for them: a class that is not
there spoils one argument, and not the run.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterable, Sequence
from time import time
from typing import Any, Final, NamedTuple

from nbcanvas import states
from nbcanvas.app import App
from nbcanvas.backend.port import StoredRun
from nbcanvas.errors import CorruptResult, NotSerializable, RemoteError
from nbcanvas.events.event import FAILED, GRAFTED, PROGRESS, RETRIED, Event
from nbcanvas.events.state import State
from nbcanvas.plan import Call, Chain, Fan, Node
from nbcanvas.protocol.payload import Packed, pack, unpack
from nbcanvas.worker.execute import portable

__all__ = ["VERSION", "Heard", "Kernel", "Planned", "dump_plan", "dump_state", "lives", "load_plan", "load_state"]

#: Of the form below.
VERSION: Final = 1
#: A kernel that has said nothing for so many seconds is gone.
SILENCE: Final = 30.0
#: Stands behind the name of a kernel whose runs are run by workers elsewhere.
_ELSEWHERE: Final = " (workers)"


class Planned(NamedTuple):
    """What is kept once: the frozen canvas, the id of what started it, and how it reads."""

    root: Node
    parent_id: str | None
    canvas: str


class Heard(NamedTuple):
    """What is kept from time to time: events that tell the State, and which task started which."""

    events: Sequence[Event]
    parents: dict[str, str]


class Kernel(NamedTuple):
    """A process that started runs.

    Attributes
    ----------
    host, pid
        Which.
    elsewhere
        Whether workers elsewhere run them, and go on when it is gone.
    """

    host: str
    pid: int
    elsewhere: bool = False

    @classmethod
    def here(cls, *, elsewhere: bool = False) -> Kernel:
        """Return this one."""
        return cls(socket.gethostname(), os.getpid(), elsewhere)

    @classmethod
    def of(cls, text: str) -> Kernel:
        """Read what `str` wrote."""
        place, mark, _ = text.partition(_ELSEWHERE)
        host, _, pid = place.rpartition(":")
        return cls(host, int(pid) if pid.isdecimal() else 0, bool(mark))

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}{_ELSEWHERE if self.elsewhere else ''}"

    def gone_since(self, seen: float) -> float | None:
        """Return when it last said something if its runs ended with it, else None.

        Parameters
        ----------
        seen
            When it last said something.
        """
        if self.elsewhere:
            return None
        if self.host == socket.gethostname() and not lives(self.pid):
            return seen
        return seen if time() - seen > SILENCE else None


def lives(pid: int) -> bool:
    """Whether there is a process of that id on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


# -- the canvas -------------------------------------------------------------------------------------------------------


def dump_plan(planned: Planned) -> bytes:
    """Return a frozen canvas as bytes; the ids in it can be found in them as they are."""
    return Packed.of((_rows(planned.root), planned.parent_id, planned.canvas)).data


def load_plan(stored: StoredRun) -> Planned:
    """Return the frozen canvas of a stored run.

    Raises
    ------
    CorruptResult
        When it cannot be understood, or is from a newer version.
    """
    rows, parent_id, canvas = _opened(stored, "plan", stored.plan, 3)
    try:
        return Planned(_node(rows), parent_id, str(canvas))
    except Exception as error:
        raise _corrupt(stored, "plan", error) from error


def _rows(root: Node) -> list[tuple[Any, ...]]:
    """Return the nodes of a canvas as a flat list, each behind what it is made of; however deep, without recursion."""
    places: dict[int, int] = {}
    rows: list[tuple[Any, ...]] = []
    todo: list[tuple[Node, bool]] = [(root, False)]
    while todo:
        node, inside_done = todo.pop()
        if id(node) in places:
            continue
        if not inside_done:
            inside = _inside(node)
            if inside:
                todo.append((node, True))
                todo += [(one, False) for one in reversed(inside)]
                continue
        places[id(node)] = len(rows)
        rows.append(_row(node, places))
    return rows


def _inside(node: Node) -> Sequence[Node]:
    if isinstance(node, Call):
        return (*node.links, *node.errbacks)
    return node.steps if isinstance(node, Chain) else node.members


def _row(node: Node, places: dict[int, int]) -> tuple[Any, ...]:
    def at(nodes: Iterable[Node]) -> tuple[int, ...]:
        return tuple(places[id(one)] for one in nodes)

    if isinstance(node, Chain):
        return (at(node.steps),)
    if isinstance(node, Fan):
        return node.id, at(node.members)
    return (
        node.id,
        node.task,
        node.payload,
        node.immutable,
        _packed(dict(node.options)) if node.options else None,
        at(node.links),
        at(node.errbacks),
        _packed(dict(node.stamps)) if node.stamps else None,
        node.group_id,
        node.index,
        node.version,
        node.nesting,
    )


def _node(rows: Sequence[tuple[Any, ...]]) -> Node:
    """Return the canvas that `_rows` made a list of."""
    made: list[Any] = []
    for row in rows:
        if len(row) == 1:
            made.append(Chain([made[at] for at in row[0]]))
        elif len(row) == 2:
            made.append(Fan(row[0], [made[at] for at in row[1]]))
        else:
            task_id, task, payload, immutable, options, links, errbacks, stamps, *rest = row
            made.append(
                Call(
                    task_id,
                    task,
                    payload,
                    immutable,
                    unpack(options) or {},
                    tuple(made[at] for at in links),
                    tuple(made[at] for at in errbacks),
                    unpack(stamps),
                    *rest,
                )
            )
    found: Node = made[-1]
    return found


# -- what was heard ---------------------------------------------------------------------------------------------------


def dump_state(state: State, app: App) -> bytes:
    """Return what is known of a run as bytes."""
    calls, get = state.tree.calls, app.backend.get
    waiting = states.WAITING
    parents = {
        calls[i].id: record.parent_id
        for i in range(len(calls))
        if state.state(i) != waiting and (record := get(calls[i].id)) is not None and record.parent_id is not None
    }
    return pickle.dumps(([_told(event) for event in state.events()], parents), 5)


def load_state(stored: StoredRun) -> Heard:
    """Return what was heard of a stored run.

    Raises
    ------
    CorruptResult
        When it cannot be understood, or is from a newer version.
    """
    events, parents = _opened(stored, "state", stored.state, 2)
    try:
        return Heard([_event(*event) for event in events], dict(parents))
    except Exception as error:
        raise _corrupt(stored, "state", error) from error


def _told(event: Event) -> tuple[Any, ...]:
    kind, task_id, time, attempt, data = event
    if kind in {FAILED, RETRIED} and data is not None:
        exc, more = data
        data = (Packed(pickle.dumps(portable(exc), 5)) if isinstance(exc, BaseException) else exc), more
    elif kind == PROGRESS:
        data = data[0], _packed(data[1])
    elif kind == GRAFTED:
        data = _rows(data[0]), data[1]
    return kind, task_id, time, attempt, data


def _event(kind: str, task_id: str, time: float, attempt: int, data: Any) -> Event:
    if kind in {FAILED, RETRIED} and data is not None:
        data = _exception(data[0]), data[1]
    elif kind == PROGRESS:
        data = data[0], unpack(data[1])
    elif kind == GRAFTED:
        data = _node(data[0]), data[1]
    return Event(kind, task_id, time, attempt, data)


def _exception(packed: Any) -> Any:
    if type(packed) is not Packed:
        return packed
    try:
        return packed.load()
    except Exception as error:  # noqa: BLE001 - its class may be missing here, its constructor raise anything
        return RemoteError("Exception", f"it cannot be rebuilt here ({type(error).__name__}: {error})")


def _packed(value: Any) -> Any:
    try:
        return pack(value)
    except NotSerializable as error:
        return pack(f"<{error}>")


# -- bytes ------------------------------------------------------------------------------------------------------------


def _opened(stored: StoredRun, what: str, data: bytes, size: int) -> tuple[Any, ...]:
    if stored.version > VERSION:
        msg = (
            f"the run {stored.id} was kept by a newer nbcanvas (form {stored.version}, this one reads up to "
            f"{VERSION}): update nbcanvas to attach to it"
        )
        raise CorruptResult(msg)
    try:
        found = pickle.loads(data)  # noqa: S301 - see the top of this module
    except Exception as error:
        raise _corrupt(stored, what, error) from error
    if not isinstance(found, tuple) or len(found) != size:
        raise _corrupt(stored, what, TypeError(f"{type(found).__name__} stands where it belongs"))
    return found


def _corrupt(stored: StoredRun, what: str, error: BaseException) -> CorruptResult:
    size = len(stored.plan if what == "plan" else stored.state) if stored.plan and stored.state else 0
    return CorruptResult(
        f"the {what} of the run {stored.id} cannot be read ({size} bytes; {type(error).__name__}: {error}); "
        f"its results are there all the same: nbcanvas.AsyncResult(task id) reads them"
    )
