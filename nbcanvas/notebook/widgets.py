"""The widgets: models of the front end's bundles in ``static/``, which `widgets/` builds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anywidget
import ipywidgets
import traitlets

__all__ = ["CancelModel", "LiveWidget"]

log = logging.getLogger("nbcanvas.notebook")
_STATIC: Final = Path(__file__).parent / "static"


class CancelModel(ipywidgets.Widget):  # type: ignore[misc]  # it ships no types
    """The Cancel button's own model: it has a comm for itself, on which the kernel never publishes.

    A kernel sends a click to the (sub)shell that last published on the comm (ipykernel 7.4), so a button that shares
    its comm with the bars would wait for the running cell.

    Parameters
    ----------
    cancel
        Called for a click, in any thread; it must only set things in motion.
    """

    def __init__(self, cancel: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._cancel = cancel
        self.on_msg(self._clicked)
        comm: Any = self.comm
        if hasattr(comm, "_reply_subshell_for"):
            # Opening the comm counts as publishing; undone, clicks go where the front end sends them: to a subshell.
            comm._reply_subshell_for = lambda data, default: default  # noqa: SLF001

    def _clicked(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if isinstance(content, dict) and content.get("do") == "cancel":
            try:
                self._cancel()
            except Exception:  # a callback's error is seen by nobody otherwise
                log.exception("cancelling failed")


class LiveWidget(anywidget.AnyWidget):
    """The bars of a run while it goes on.

    Attributes
    ----------
    snapshot
        All that is shown, complete, as plain data with a growing number ``seq``: whatever was lost on the way, the
        next snapshot has it; a page that is reloaded asks for the model and gets the last one.
    cancel_model
        The model of the Cancel button, as a reference.
    """

    _esm = _STATIC / "live.js"
    _css = _STATIC / "live.css"

    snapshot = traitlets.Dict({}).tag(sync=True)
    cancel_model = traitlets.Unicode("").tag(sync=True)

    def __init__(self, snapshot: Mapping[str, Any], cancel: CancelModel) -> None:
        super().__init__(snapshot=dict(snapshot), cancel_model=f"IPY_MODEL_{cancel.model_id}")
        self._button = cancel

    def view_spec(self) -> dict[str, Any]:
        """Return what ``application/vnd.jupyter.widget-view+json`` holds."""
        spec: dict[str, Any] = self.get_view_spec()
        return spec

    def close(self) -> None:
        """Close this model and the button's."""
        self._button.close()
        super().close()
