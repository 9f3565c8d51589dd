"""The App: what ties registry, ports and settings together."""

from .app import App, current_app, current_task, shared_task, task, uuid
from .engine import Engine, Plan, set_engine
from .perform import Performer
from .settings import DEFAULTS, Settings

__all__ = [
    "DEFAULTS",
    "App",
    "Engine",
    "Performer",
    "Plan",
    "Settings",
    "current_app",
    "current_task",
    "set_engine",
    "shared_task",
    "task",
    "uuid",
]
