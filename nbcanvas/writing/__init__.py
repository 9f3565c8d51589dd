"""A canvas as a module of Python that stock Celery runs."""

from .module import module_source

__all__ = ["module_source"]
