"""Frozen plans that messages refer to: written once, read by whoever goes on with them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

from nbcanvas.errors import InvalidTaskError
from nbcanvas.servers.redis import RedisServer

__all__ = ["Plans"]

#: Plans, and bytes of plans, that are kept here.
_PLANS: Final = 64
_BYTES: Final = 32 * 1024 * 1024


class Plans:
    """Keeps plans beside the results, as long as those are kept.

    Parameters
    ----------
    server
        The server.
    prefix
        What their ids are put behind.
    expires
        Seconds they are kept; 0 is for ever.
    load
        Makes the plan of its bytes.
    """

    def __init__(
        self, server: RedisServer, prefix: str, expires: int, load: Callable[[bytes], Any] = lambda data: data
    ) -> None:
        self._server = server
        self._prefix = prefix
        self._expires = expires
        self.load = load
        self._kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def put(self, plan_id: str, data: bytes, plan: Any = None) -> None:
        """Keep a plan; `plan` is what its bytes make, when that is known."""
        more = ("EX", self._expires) if self._expires else ()
        self._server.call("SET", self._prefix + plan_id, data, *more)
        if plan is not None:
            self._keep(plan_id, plan, len(data))

    def find(self, plan_id: str) -> Any:
        """Return a plan.

        Raises
        ------
        InvalidTaskError
            When it is not kept any more.
        """
        with self._lock:
            kept = self._kept.get(plan_id)
            if kept is not None:
                self._kept.move_to_end(plan_id)
                return kept[0]
        data = self._server.ask("GET", self._prefix + plan_id)
        if data is None:
            msg = (
                f"what follows this task is written down as plan {plan_id}, which is not at {self._server.name} "
                f"(any more): it is kept as long as results are (result_expires)"
            )
            raise InvalidTaskError(msg)
        plan = self.load(data)
        self._keep(plan_id, plan, len(data))
        return plan

    def _keep(self, plan_id: str, plan: Any, size: int) -> None:
        with self._lock:
            old = self._kept.pop(plan_id, (None, 0))[1]
            self._kept[plan_id] = plan, size
            self._size += size - old
            while len(self._kept) > 1 and (len(self._kept) > _PLANS or self._size > _BYTES):
                _, (_, gone) = self._kept.popitem(last=False)
                self._size -= gone
