"""How much a worker takes at a time: little while tasks are long, some milliseconds' worth while they are short."""

from __future__ import annotations

from time import monotonic, time

from nbcanvas.app import App

from .supply import Portion

__all__ = ["Pace"]

#: How much work is taken at a time, in seconds, when tasks are short; and how many of them at most.
_SPAN = 0.05
_MOST = 500
#: What taking, decoding and writing down one task takes, about.
_OVERHEAD = 6e-5
#: How fast the estimate of a task's duration follows.
_FOLLOW = 0.1
#: After how many seconds of standstill what was taken in excess goes back to its queue.
_STALL = 0.25
#: Seconds for which it is believed whether any task's rate is limited.
_RATES_FOR = 1.0


class Pace:
    """Follows how long tasks take.

    Parameters
    ----------
    app
        Whose tasks and settings they are.
    fair
        Take no more than can start at once.
    """

    def __init__(self, app: App, *, fair: bool) -> None:
        self._app = app
        self._fair = fair
        self._takes = 1.0
        self._began = time()
        self._rates = False, 0.0

    def began(self, now: float) -> None:
        """Hear that a task begins."""
        self._began = now

    def ended(self, runtime: float) -> None:
        """Hear how long one took."""
        self._takes += (runtime + _OVERHEAD - self._takes) * _FOLLOW

    def floor(self, slots: int) -> int:
        """Return how much is held however long tasks take (Celery's prefetch count)."""
        multiplier = int(self._app.conf.worker_prefetch_multiplier)
        return _MOST if multiplier <= 0 else multiplier * max(slots, 1)

    def portion(self, slots: int, idle: int, late: int) -> Portion:
        """Return how much to take.

        Parameters
        ----------
        slots, idle
            How many slots there are, and how many of them have nothing to do.
        late
            How many messages are held by tasks that acknowledge when they have ended.
        """
        if self._fair or self._app.conf.worker_disable_prefetch:
            return Portion(idle, self._begin(idle))
        many = min(int(_SPAN / self._takes), _MOST)
        floor = self.floor(slots)
        if many > floor:
            return Portion(many, self._begin(many))
        limit = max(floor - late, idle)
        return Portion(limit, self._begin(min(idle, limit)))

    def _begin(self, many: int) -> int:
        """Return how many of the messages that are taken begin at once: where rates are limited, nobody knows.

        One that was said to begin, and is held, is said not to after all: it need not be known at once.
        """
        limited, until = self._rates
        if monotonic() >= until:
            app = self._app
            limited = app.defaults.rate_limit is not None or any(one.rate_limit for one in app.tasks.values())
            self._rates = limited, monotonic() + _RATES_FOR
        return 0 if limited else many

    def stalls(self) -> bool:
        """Whether no task has begun for a while; then the tasks to come are expected to take long, too."""
        if time() - self._began < _STALL:
            return False
        self._takes = max(self._takes, _STALL)
        return True
