"""How many slots a worker needs (Celery's guide, "Autoscaling")."""

from __future__ import annotations

__all__ = ["Autoscaler"]

#: For how many seconds a slot has to be of no use before it is closed.
_KEEP = 30.0


class Autoscaler:
    """Grows with the work at once, shrinks when there has been less of it for a while.

    Parameters
    ----------
    most, least
        How many slots there may be.

    Raises
    ------
    ValueError
        When there is no number between them.
    """

    def __init__(self, most: int, least: int) -> None:
        self.most, self.least = most, least
        self._grown = 0.0
        self.change(most, least)

    def change(self, most: int | None = None, least: int | None = None) -> tuple[int, int]:
        """Change the bounds; returns ``(most, least)``."""
        new_most = self.most if most is None else most
        new_least = self.least if least is None else least
        if new_most < max(new_least, 1):
            msg = f"autoscale: at most {new_most} slots and at least {new_least} cannot be"
            raise ValueError(msg)
        self.most, self.least = new_most, max(new_least, 1)
        return self.most, self.least

    def wanted(self, size: int, running: int, waiting: int, now: float) -> int:
        """Return how many slots there should be, while `running` of `size` are busy and `waiting` jobs are at hand."""
        wanted = min(max(running + waiting, self.least), self.most)
        if wanted >= size:
            self._grown = now
            return max(min(max(wanted, size), self.most), self.least)
        return wanted if now - self._grown > _KEEP else min(size, self.most)
