"""Results in Redis: Celery's documents and keys, read and written as Celery does."""

from .keys import Keys
from .store import RedisBackend

__all__ = ["Keys", "RedisBackend"]
