"""``-A`` of a fleet's Flower: as a fleet's Celery workers', but it waits longer for a worker's answer than a second."""

from typing import Any

from celery.app.control import Control

from tests.cluster.celery_app import app

__all__ = ["app"]


class Patient(Control):
    """Waits for a worker that is named; its answer ends that."""

    def broadcast(self, *args: Any, timeout: float = 1.0, **options: Any) -> Any:
        """Tell workers something."""
        return super().broadcast(*args, timeout=60.0 if options.get("destination") else timeout, **options)


app.control_cls = Patient
