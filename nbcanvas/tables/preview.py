"""What a visitor will stamp, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final, cast

from nbcanvas.app import App
from nbcanvas.canvas import Signature, StampingVisitor
from nbcanvas.plan import places

from .cells import category, objects
from .stamps import stamp_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["preview"]

_COLUMNS: Final = ("path", "name", "role")


def preview(
    sig: Signature, visitor: StampingVisitor | None, append_stamps: bool, headers: Mapping[str, Any]
) -> pd.DataFrame:
    """Return the stamps that each task of a canvas would have: see `Signature.stamp_preview`."""
    import pandas as pd

    stamped = sig.clone()
    stamped.stamp(_copy(visitor), append_stamps, **headers)
    # Arguments play no part, and need not travel.
    found = list(places(cast("App", sig.app).look(stamped, lambda args, kwargs: ())))
    data = {
        "path": objects([place.path for place in found]),
        "name": category([place.call.task for place in found]),
        "role": objects([place.role for place in found]),
    }
    stamps = stamp_columns([place.call for place in found], _COLUMNS)
    return pd.DataFrame({**data, **stamps}, columns=[*_COLUMNS, *stamps])


def _copy(visitor: StampingVisitor | None) -> StampingVisitor | None:
    """Return a visitor that may count without the given one noticing; that one itself when it cannot be copied."""
    try:
        return deepcopy(visitor)
    except Exception:  # noqa: BLE001 - it holds what has no copies: a lock, a connection
        return visitor
