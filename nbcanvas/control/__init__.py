"""Remote control: what can be asked of workers, and what they can be told (Celery's guide, "Workers")."""

from .control import Control
from .inspect import Inspect

__all__ = ["Control", "Inspect"]
