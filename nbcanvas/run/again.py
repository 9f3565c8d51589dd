"""Running again what is missing of a run; what succeeded keeps its value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Final

from nbcanvas import states
from nbcanvas.app import App, Plan
from nbcanvas.errors import NotRegistered, StillRunning
from nbcanvas.events.attempts import NESTING
from nbcanvas.events.event import GRAFTED, REPLACED, Event
from nbcanvas.events.state import State
from nbcanvas.events.tree import CHILD, REPLACEMENT, Graft
from nbcanvas.garbage import collecting_less
from nbcanvas.plan import Call, Transition, calls_of, places
from nbcanvas.plan.model import Payload
from nbcanvas.plan.resume import Added, Have, Renewal, renew, resume

if TYPE_CHECKING:
    from .run import Run

__all__ = ["rerun"]

#: Missing tasks that an error names besides the first.
_NAMED: Final = 5


def rerun(run: Run) -> Run:
    """Start a new run of what failed in a run, or never ran, and of what depends on that.

    Parameters
    ----------
    run
        A run that has ended, or whose kernel is gone; it is not changed.

    Returns
    -------
    Run
        Of the whole canvas: what succeeded before has its id, its value and its times in it.

    Raises
    ------
    StillRunning
        When the run has not ended (a run whose kernel is gone will not).
    NotRegistered
        When a task that has to run is not defined in this kernel, or on no worker of a cluster; nothing was started.
    """
    from .run import Run

    app, state = run.app, run.snapshot()
    lost = run.lost is not None  # what has not ended never will
    if not lost and not run.done:
        raise _still_running(run, state)
    ids = app.new_ids()
    with collecting_less():
        added = [
            Added(graft.owner, graft.attempt >> NESTING, graft.role == REPLACEMENT, graft.node, graft)
            for graft in state.tree.grafts
        ]
        renewal = renew(run.root, _looking(app, state, lost=lost), ids, app.tasks.versions, added)
        new = set(renewal.new.values())
        if not app.remote:  # else it is for the workers to know them, which are asked before anything is sent
            _defined(app, renewal, new)
        root_id = next((call.id for call in calls_of(renewal.root) if call.id in new), None) or ids()

        def payload_of(call: Call) -> Payload:
            record = app.backend.get(call.id)
            return None if record is None else record.payload

        def begin(now: float) -> Transition:
            return resume(renewal, payload_of, root_id, now)

        plan = Plan(renewal.root, root_id, None, begin)
        return Run(app, plan, None, run.canvas, known=list(_kept(state, renewal))).start()


def _defined(app: App, renewal: Renewal, new: Collection[str]) -> None:
    """Raise when a task that has to run is not there: the new run could only fail, with what it has already."""
    needed = (
        call.task
        for node in (renewal.root, *(one.node for one in renewal.added))
        for call in calls_of(node)
        if call.id in new and app.tasks.find(call.task, call.version) is None
    )
    missing = Counter(needed).most_common()
    if not missing:
        return
    (name, count), others = missing[0], [name for name, _ in missing[1:]]
    hint = f"{count} {'call needs' if count == 1 else 'calls need'} it"
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        hint += (
            f", and {', '.join(map(repr, others[:_NAMED]))}{more} {'is' if len(others) == 1 else 'are'} missing, too"
        )
    raise NotRegistered(name, f"{hint}: run its cell, or import its module, then rerun()")


def _still_running(run: Run, state: State) -> StillRunning:
    name, total, handle = run.name or "the run", len(run), run.handle
    left = sum(state.state(state.index_of(call.id)) not in states.READY_STATES for call in calls_of(run.root))
    what = f"{left} of {total} tasks {'has' if left == 1 else 'have'}" if total != 1 else "its task has"
    return StillRunning(
        f"{name} still runs, {what} not ended: {handle}.wait() or {handle}.cancel() first, then {handle}.rerun()"
    )


def _looking(app: App, state: State, *, lost: bool) -> Callable[[Call], Have]:
    """Return what says what is still had of a call."""
    row_of, backend = state.tree.index.get, app.backend

    def have(call: Call) -> Have:
        row = row_of(call.id)
        ended = states.PENDING if row is None else state.state(row)
        if ended != states.SUCCESS:
            return Have.MISSING if lost or ended in states.READY_STATES else Have.UNDER_WAY
        record = backend.get(call.id)
        if record is None or record.state != states.SUCCESS:
            return Have.DONE
        return Have.RECORDED if record.payload is None and app.ignores_result(call) else Have.VALUE

    return have


def _kept(state: State, renewal: Renewal) -> Iterator[Event]:
    """Yield what the new run knows from the beginning: what tasks added, and all that was heard of what is kept."""
    here = {place.call.id for node in (renewal.root, *(one.node for one in renewal.added)) for place in places(node)}
    new = set(renewal.new.values())
    for one in renewal.added:
        graft: Graft = one.mark
        role = REPLACEMENT if one.replaces else CHILD
        yield Event(GRAFTED, one.owner, graft.time, graft.attempt, (one.node, role))
        if one.replaces and one.owner in new:
            yield Event(REPLACED, one.owner, graft.time, graft.attempt)
    rows = [
        row
        for task_id, row in state.tree.index.items()
        if task_id in here and task_id not in new and state.state(row) == states.SUCCESS
    ]
    yield from (event for event in state.events(rows) if event.kind != GRAFTED)
