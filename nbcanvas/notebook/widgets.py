"""The widgets: models of the front end's bundles in ``static/``, which `widgets/` builds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anywidget
import ipywidgets
import traitlets

__all__ = ["ClusterWidget", "ControlModel", "LiveWidget"]

log = logging.getLogger("nbcanvas.notebook")
_STATIC: Final = Path(__file__).parent / "static"

#: All that a live view shows, as plain data.
Snapshot = Mapping[str, Any]


class ControlModel(ipywidgets.Widget):  # type: ignore[misc]  # it ships no types
    """What a live view says to the kernel: it has a comm for itself, on which the kernel never publishes.

    A kernel sends a click to the (sub)shell that last published on the comm (ipykernel 7.4), so a button that shares
    its comm with the bars would wait for the running cell.

    Parameters
    ----------
    actions
        What to call for ``{"do": name, …}`` with all of it, in any thread; each must only set things in motion.
    """

    def __init__(self, actions: Mapping[str, Callable[[Mapping[str, Any]], None]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._actions = actions
        self.on_msg(self._heard)
        comm: Any = self.comm
        if hasattr(comm, "_reply_subshell_for"):
            # Opening the comm counts as publishing; undone, clicks go where the front end sends them: to a subshell.
            comm._reply_subshell_for = lambda data, default: default  # noqa: SLF001

    def _heard(self, _widget: Any, content: Any, _buffers: Any) -> None:
        asked = content.get("do") if isinstance(content, dict) else None
        action = self._actions.get(asked) if isinstance(asked, str) else None
        if action is None:
            return
        try:
            action(content)
        except Exception:  # a callback's error is seen by nobody otherwise
            log.exception("%s failed", asked)


class SnapshotWidget(anywidget.AnyWidget):
    """A view that is told everything at once, again and again, and speaks through a model of its own.

    Parameters
    ----------
    snapshot
        What to show first.
    control
        What the view speaks through.
    present
        Returns what to show now: a page that comes late (reloaded, reopened) asks for the whole state, and gets this.

    Attributes
    ----------
    snapshot
        All that is shown, complete, as plain data with a growing number ``seq``.
    control
        The model that the view speaks through, as a reference.
    """

    snapshot = traitlets.Dict({}).tag(sync=True)
    control = traitlets.Unicode("").tag(sync=True)

    def __init__(self, snapshot: Snapshot, control: ControlModel, present: Callable[[], Snapshot]) -> None:
        self._present: Callable[[], Snapshot] | None = None
        super().__init__(snapshot=dict(snapshot), control=f"IPY_MODEL_{control.model_id}")
        self._present = present
        self._control = control

    def view_spec(self) -> dict[str, Any]:
        """Return what ``application/vnd.jupyter.widget-view+json`` holds."""
        spec: dict[str, Any] = self.get_view_spec()
        return spec

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the state of these traits; of all of them, for a page that comes late, as it is now."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if key is None and self._present is not None:
            state["snapshot"] = self._present()
        return state

    def end(self, snapshot: Snapshot) -> None:
        """Show this for good."""
        self._present = None
        self.snapshot = dict(snapshot)

    def tell(self) -> None:
        """Say once more what is shown (in any thread)."""
        self.send_state("snapshot")

    def close(self) -> None:
        """Close this model and what it speaks through."""
        self._present = None
        self._control.close()
        super().close()


class LiveWidget(SnapshotWidget):
    """The bars of a run while it goes on."""

    _esm = _STATIC / "live.js"
    _css = _STATIC / "live.css"


class ClusterWidget(SnapshotWidget):
    """A cluster: its workers, its queues and their tasks."""

    _esm = _STATIC / "cluster.js"
    _css = _STATIC / "cluster.css"
