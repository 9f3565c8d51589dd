"""A canvas as a module of Python that stock Celery runs."""

from .module import is_written, module_source

__all__ = ["is_written", "module_source"]
