"""Tasks: functions with a name that can be called elsewhere (Celery's guide, "Tasks")."""

from .defining import from_function, prepare, version_of
from .retries import exponential_backoff
from .task import Task, TaskApp

__all__ = ["Task", "TaskApp", "exponential_backoff", "from_function", "prepare", "version_of"]
