"""What our own keys beside the queues are called, apart from those that only a worker's ledger knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Names"]


class Names(NamedTuple):
    """Keys on the broker's Redis; the prefix keeps apart what shares a server.

    Attributes
    ----------
    prefix
        ``global_keyprefix`` of ``broker_transport_options``.
    """

    prefix: str = ""

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> Names:
        """Return the names that settings mean."""
        return cls(str((conf["broker_transport_options"] or {}).get("global_keyprefix", "")))

    @property
    def workers(self) -> str:
        """Where our workers say that they live."""
        return f"{self.prefix}nbcanvas:workers"

    @property
    def dead(self) -> str:
        """The list of dead letters."""
        return f"{self.prefix}nbcanvas:dead"

    @property
    def revoked(self) -> str:
        """Ids that were revoked."""
        return f"{self.prefix}nbcanvas:revoked"

    @property
    def revoked_stamps(self) -> str:
        """Stamps that were revoked."""
        return f"{self.prefix}nbcanvas:revoked:stamps"

    def sent(self, sender: str) -> str:
        """Return where the server keeps the number of the last batch that a sender sent."""
        return f"{self.prefix}nbcanvas:sent:{sender}"

    def code(self, digest: str) -> str:
        """Return where the code of a shipped task is."""
        return f"{self.prefix}nbcanvas-code-{digest}"

    def seen(self, mac: str) -> str:
        """Return the mark of a signed message that has come."""
        return f"{self.prefix}nbcanvas-shipped-{mac}"
