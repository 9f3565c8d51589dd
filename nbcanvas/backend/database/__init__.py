"""Results in a database (SQLAlchemy), in Celery's own tables; the only door to SQLAlchemy.

``App(backend="db+sqlite:///results.sqlite")`` is all there is to set.
"""

from .store import DatabaseBackend

__all__ = ["DatabaseBackend"]
